//! Real nginx as a mirror, on loopback or in a network namespace.

use super::process::{Process, path_with_sbin};
use super::{raw, state, wait};
use rustix::process::Signal;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// How it is set up.
#[derive(Clone, Default)]
pub struct Setup {
    /// Index pages as JSON.
    pub json: bool,
    /// `limit_rate`: bytes a second for each connection; 0 is without limit.
    pub bytes_per_second: u64,
    /// Lines for the `server` part of its configuration.
    pub more: String,
}

/// A line of its access log.
#[derive(Clone, Debug)]
pub struct Logged {
    pub method: String,
    pub status: u16,
    pub body_bytes: u64,
    /// The Range header, or `-`.
    pub range: String,
    /// As sent: percent-encoded, with the `/` in front.
    pub target: String,
}

impl Logged {
    /// For an index page?
    pub fn is_index(&self) -> bool {
        self.target.ends_with('/')
    }
}

/// A running nginx of one process; dropping it ends it.
pub struct Nginx {
    process: Option<Process>,
    folder: TempDir,
    address: SocketAddr,
    /// What comes before `nginx` on the command line (`ip netns exec NAME`).
    prefix: Vec<String>,
}

impl Nginx {
    /// Serves `root` on a free port of 127.0.0.1.
    pub fn start(root: &Path, setup: &Setup) -> Nginx {
        // Another process may take the port between our look and nginx's bind: then nginx ends, and we look again.
        let mut nginx = None;
        wait::until("nginx on a free port", || {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            nginx = Nginx::start_at(root, setup, free.expect("loopback has a free port"), Vec::new());
            nginx.is_some()
        });
        nginx.expect("it was waited for")
    }

    /// Serves `root` on `address`, started by `prefix`; nothing where it could not listen.
    pub fn start_at(root: &Path, setup: &Setup, address: SocketAddr, prefix: Vec<String>) -> Option<Nginx> {
        let folder = state::folder();
        std::fs::write(folder.path().join("nginx.conf"), configuration(folder.path(), root, setup, address)).unwrap();
        let mut nginx = Nginx { process: None, folder, address, prefix };
        nginx.launch().then_some(nginx)
    }

    /// Its base URL, ending in `/`.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// SIGSTOP: connections are accepted (by the kernel), nothing is answered.
    pub fn pause(&self) {
        self.running().signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.running().signal(Signal::CONT);
    }

    /// SIGKILL: connections are reset, the port refuses.
    pub fn kill9(&mut self) {
        self.process.as_mut().expect("it is running").kill9();
        self.process = None;
    }

    /// Again on the same port after [`Nginx::kill9`].
    pub fn restart(&mut self) {
        wait::until("nginx on its old port", || self.launch());
    }

    /// Every request that has been answered so far. Not while it is paused or dead.
    pub fn requests(&self) -> Vec<Logged> {
        // One process logs in the order in which answers end: once our own marker is there, all before it are.
        static MARKER: AtomicU64 = AtomicU64::new(0);
        let marker = format!("/marker-{}-{}", std::process::id(), MARKER.fetch_add(1, Ordering::Relaxed));
        raw::get(self.address, &marker, "", "").expect("nginx answers our marker");
        wait::for_some("the marker in the access log", || {
            let all = self.log();
            let at = all.iter().position(|logged| logged.target == marker)?;
            Some(all[..at].iter().filter(|logged| !logged.target.starts_with("/marker-")).cloned().collect())
        })
    }

    /// Body bytes of files sent, index pages left out. Only answers that have ended count.
    pub fn data_bytes(&self) -> u64 {
        let data = |logged: &Logged| matches!(logged.status, 200 | 206) && !logged.is_index();
        self.requests().iter().filter(|logged| data(logged)).map(|logged| logged.body_bytes).sum()
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("it is running")
    }

    fn launch(&mut self) -> bool {
        let folder = self.folder.path();
        let pid_file = folder.join("pid");
        let _ = std::fs::remove_file(&pid_file);
        let mut words = self.prefix.clone();
        words.extend(["nginx", "-p"].map(str::to_owned));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(folder).arg("-c").arg(folder.join("nginx.conf"));
        command.arg("-e").arg(folder.join("error.log")).env("PATH", path_with_sbin());
        let mut process = Process::start(&mut command, &folder.join("output.log"));
        // Its pid file comes after its sockets: someone else's listener on the port is not taken for it.
        wait::until("nginx listens or ends", || process.ended().is_some() || pid_file.exists());
        let lives = process.ended().is_none();
        if !lives {
            let said = std::fs::read_to_string(folder.join("error.log")).unwrap_or_default();
            assert!(said.contains("Address already in use"), "nginx did not start: {said}");
        }
        self.process = lives.then_some(process);
        lives
    }

    fn log(&self) -> Vec<Logged> {
        let text = std::fs::read(self.folder.path().join("access.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(logged).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill9();
        }
    }
}

fn logged(line: &str) -> Logged {
    let words: Vec<&str> = line.splitn(5, ' ').collect();
    let [method, status, body_bytes, range, target] = words[..] else { panic!("an access log line: {line}") };
    Logged {
        method: method.to_owned(),
        status: status.parse().expect("a status"),
        body_bytes: body_bytes.parse().expect("a byte count"),
        range: range.to_owned(),
        target: target.to_owned(),
    }
}

fn configuration(folder: &Path, root: &Path, setup: &Setup, address: SocketAddr) -> String {
    let here = |name: &str| PathBuf::from(folder).join(name).display().to_string();
    let as_root = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let format = if setup.json { "json" } else { "html" };
    let rate = setup.bytes_per_second;
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {};\n", here(&format!("temp-{kind}"))))
        .concat();
    format!(
        "{as_root} daemon off; master_process off; worker_processes 1; pid {pid}; worker_rlimit_nofile 4096;
events {{ worker_connections 2048; }}
http {{
log_format counted '$request_method $status $body_bytes_sent $http_range $request_uri';
access_log {log} counted; log_not_found off;
{temp}sendfile on; default_type application/octet-stream; keepalive_requests 1000000;
server {{ listen {address}; root {root}; autoindex on; autoindex_format {format}; limit_rate {rate};
index no-such-index-file; {more} }}
}}\n",
        pid = here("pid"),
        log = here("access.log"),
        root = root.display(),
        more = setup.more,
    )
}
