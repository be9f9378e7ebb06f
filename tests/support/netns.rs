//! Mirrors behind links of their own: nginx in a network namespace, shaped by a token bucket.
//!
//! Needs root and a kernel that lets it; [`or_skip`] says so where not.

use super::nginx::{Nginx, Setup};
use super::process::{output_of, path_with_sbin, run, which};
use super::state::{self, Registered};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Can network namespaces and shaped links be made here? If not, the skip is noted.
pub fn or_skip(test: &str) -> bool {
    let name = format!("bf{}probe", std::process::id());
    let _registered = Registered::namespace(&name);
    let attempt = || -> Result<(), String> {
        try_ip(&["netns", "add", &name])?;
        let shape = ["tbf", "rate", "8mbit", "burst", "256kb", "latency", "50ms"];
        try_ip(&[&["netns", "exec", &name, "tc", "qdisc", "add", "dev", "lo", "root"], &shape[..]].concat())
    };
    let outcome = attempt();
    let _ = try_ip(&["netns", "del", &name]);
    if let Err(why) = &outcome {
        state::skip(test, &format!("no network namespaces here: {}", why.trim()));
    }
    outcome.is_ok()
}

/// nginx behind a link of its own; dropping it takes everything down again.
pub struct ShapedMirror {
    // Declared in the order in which they must go: first the process, then its namespace.
    nginx: Option<Nginx>,
    link: Link,
}

struct Link {
    namespace: String,
    inside: String,
    host: Ipv4Addr,
    _registered: Registered,
}

impl ShapedMirror {
    /// Serves `root` at `bytes_per_second` of link rate (payload is at most 0.967 of it).
    pub fn start(root: &Path, bytes_per_second: u64) -> ShapedMirror {
        let (link, address) = Link::up();
        let prefix = ["ip", "netns", "exec", &link.namespace].map(str::to_owned).to_vec();
        let nginx = Nginx::start_at(root, &Setup::default(), SocketAddr::new(address.into(), 80), prefix);
        let mirror = ShapedMirror { nginx, link };
        mirror.shape(bytes_per_second);
        mirror
    }

    /// Its base URL, ending in `/`.
    pub fn url(&self) -> String {
        self.nginx.as_ref().expect("it runs until it is dropped").url()
    }

    /// Another rate from now on.
    pub fn shape(&self, bytes_per_second: u64) {
        let rate = format!("{}bit", bytes_per_second * 8);
        let link = &self.link;
        let shape = ["tc", "qdisc", "replace", "dev", &link.inside, "root", "tbf", "rate", &rate];
        link.inside(&[&shape[..], &["burst", "256kb", "latency", "50ms"]].concat());
    }

    /// What it sends vanishes: no reset, no refusal, no link down.
    pub fn black_hole(&self) {
        self.link.inside(&["ip", "route", "add", "blackhole", &format!("{}/32", self.link.host)]);
    }

    /// End of the black hole.
    pub fn reachable_again(&self) {
        self.link.inside(&["ip", "route", "del", "blackhole", &format!("{}/32", self.link.host)]);
    }

    /// Bytes that went over its link to us, headers of every layer included.
    pub fn wire_bytes(&self) -> u64 {
        let path = format!("/sys/class/net/{}/statistics/tx_bytes", self.link.inside);
        let said = self.link.inside(&["cat", &path]);
        said.trim().parse().expect("a byte counter")
    }
}

impl Drop for ShapedMirror {
    fn drop(&mut self) {
        self.nginx = None;
    }
}

impl Link {
    /// A namespace with one address, joined to ours by a pair of interfaces.
    fn up() -> (Link, Ipv4Addr) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (namespace, outside, inside) =
            (format!("bf{pid}n{number}"), format!("bf{pid}o{number}"), format!("bf{pid}i{number}"));
        let (host, address) = free_subnet(pid.wrapping_mul(8).wrapping_add(number));
        let link = Link { _registered: Registered::namespace(&namespace), namespace, inside, host };
        let name = &link.namespace;
        ip(&["netns", "add", name]);
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", &link.inside, "netns", name]);
        ip(&["addr", "add", &format!("{host}/30"), "dev", &outside]);
        ip(&["link", "set", &outside, "up"]);
        link.inside(&["ip", "addr", "add", &format!("{address}/30"), "dev", &link.inside]);
        link.inside(&["ip", "link", "set", &link.inside, "up"]);
        link.inside(&["ip", "link", "set", "lo", "up"]);
        (link, address)
    }

    fn inside(&self, words: &[&str]) -> String {
        ip(&[&["netns", "exec", &self.namespace], words].concat())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The pair of interfaces goes with the namespace that holds one end of it.
        let _ = try_ip(&["netns", "del", &self.namespace]);
    }
}

/// Two addresses of a /30 in 10.77.0.0/16 that this machine does not use, searched from `seed` on.
fn free_subnet(seed: u32) -> (Ipv4Addr, Ipv4Addr) {
    const SUBNETS: u32 = 1 << 14;
    let base = u32::from(Ipv4Addr::new(10, 77, 0, 0));
    let subnet = (0..SUBNETS)
        .map(|step| base + (seed.wrapping_add(step) % SUBNETS) * 4)
        .find(|&subnet| ip(&["-o", "addr", "show", "to", &format!("{}/30", Ipv4Addr::from(subnet))]).trim().is_empty());
    let subnet = subnet.expect("one of 16,384 subnets is free");
    (Ipv4Addr::from(subnet + 1), Ipv4Addr::from(subnet + 2))
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(words).env("PATH", path_with_sbin());
    command
}

fn ip(words: &[&str]) -> String {
    String::from_utf8_lossy(&output_of(&mut command(words))).into_owned()
}

fn try_ip(words: &[&str]) -> Result<(), String> {
    if !which("ip") {
        return Err("the command `ip` is not installed".to_owned());
    }
    let output = run(&mut command(words));
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
