//! A mirror's name, its addresses, TCP and TLS.

use super::budget::Budget;
use super::{Looked, millis};
use crate::clock::now;
use crate::doctor::finding::Finding;
use crate::sources::{Handshake, HandshakeError};
use futures_util::future::join_all;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

const RESOLVE_MAX: Duration = Duration::from_secs(5);
const CONNECT_MAX: Duration = Duration::from_secs(4);
const TLS_MAX: Duration = Duration::from_secs(4);
/// Of a name with more addresses the first ones are tried.
const ADDRESSES_MAX: usize = 8;

/// Is there anybody? With a finding for each step, up to the one that fails.
pub async fn check(mirror: &mut Looked, budget: &Budget) -> bool {
    if let Some(proxy) = mirror.source.proxy() {
        // What the proxy does is seen by what it answers.
        let seen = format!("through the proxy {proxy}");
        mirror.findings.push(Finding::note(&mirror.about, "connection", seen));
        return true;
    }
    let Some(addresses) = resolve(mirror, budget).await else { return false };
    let Some(address) = connect(mirror, &addresses, budget).await else { return false };
    let (host, _) = mirror.source.place();
    if mirror.source.url().scheme() == "https" {
        return shake_hands(mirror, address, budget).await;
    }
    if !address.ip().is_loopback() {
        let seen = format!("none: whoever is on the way to {host} can read and change what comes");
        mirror.findings.push(Finding::note(&mirror.about, "tls", seen).way_out("write https:// where it has that too"));
    }
    true
}

async fn resolve(mirror: &mut Looked, budget: &Budget) -> Option<Vec<SocketAddr>> {
    let (host, port) = mirror.source.place();
    let start = now();
    let found = budget.within(RESOLVE_MAX, tokio::net::lookup_host((host.as_str(), port))).await;
    let took = now().since(start);
    let not_found = |why: String| {
        let to_do = "is the name right, and does this machine's name server (/etc/resolv.conf) answer?";
        Finding::problem(&mirror.about, "name", format!("{host}: {why}"), to_do)
    };
    let (found, addresses) = match found {
        Some(Ok(found)) => {
            let mut addresses: Vec<SocketAddr> = found.collect();
            addresses.dedup();
            match addresses.is_empty() {
                true => (not_found("it has no address".into()), None),
                false => (resolved(mirror, &host, &addresses, took), Some(addresses)),
            }
        }
        Some(Err(error)) => (not_found(error.to_string()), None),
        None => (not_found(format!("no answer within {} s", took.as_secs_f64().round())), None),
    };
    mirror.findings.push(found);
    addresses
}

fn resolved(mirror: &Looked, host: &str, addresses: &[SocketAddr], took: Duration) -> Finding {
    let new = addresses.iter().filter(|address| address.is_ipv6()).count();
    let old = addresses.len() - new;
    let seen = match host.parse::<std::net::IpAddr>() {
        Ok(_) => format!("{host} is an address"),
        Err(_) => format!("{host}: {old} by IPv4, {new} by IPv6, found in {:.1} ms", millis(took)),
    };
    Finding::ok(&mirror.about, "name", seen).figure("ipv4", old).figure("ipv6", new).figure("took_ms", millis(took))
}

/// Gives the first address that takes a connection, in the order of the system.
async fn connect(mirror: &mut Looked, addresses: &[SocketAddr], budget: &Budget) -> Option<SocketAddr> {
    let tried = &addresses[..addresses.len().min(ADDRESSES_MAX)];
    let outcomes = join_all(tried.iter().map(|address| knock(*address, budget))).await;
    let dead: Vec<String> = tried
        .iter()
        .zip(&outcomes)
        .filter_map(|(address, outcome)| Some(format!("{}: {}", address.ip(), outcome.as_ref().err()?)))
        .collect();
    let first = tried.iter().zip(&outcomes).find_map(|(address, outcome)| Some((*address, *outcome.as_ref().ok()?)));
    let port = tried[0].port();
    let found = match (&first, dead.is_empty()) {
        (None, _) => Finding::problem(
            &mirror.about,
            "connection",
            format!("port {port}: {}", dead.join(", ")),
            "is it up, is the port right, and does a firewall let this machine out?",
        ),
        (Some((_, took)), true) => {
            Finding::ok(&mirror.about, "connection", format!("port {port} answers in {:.1} ms", millis(*took)))
        }
        (Some((_, took)), false) => Finding::warning(
            &mirror.about,
            "connection",
            format!("port {port} answers in {:.1} ms, and not at {}", millis(*took), dead.join(", ")),
            "new connections wait for such an address first: tell who runs it, or repair this machine's IPv6",
        ),
    };
    let took = first.as_ref().map(|(_, took)| millis(*took));
    mirror.findings.push(found.figure("took_ms", took).figure("dead_addresses", dead.len()));
    first.map(|(address, _)| address)
}

async fn knock(address: SocketAddr, budget: &Budget) -> Result<Duration, String> {
    let start = now();
    match budget.within(CONNECT_MAX, TcpStream::connect(address)).await {
        Some(Ok(_)) => Ok(now().since(start)),
        Some(Err(error)) => Err(error.to_string()),
        None => Err(format!("no answer within {:.0} s", now().since(start).as_secs_f64())),
    }
}

async fn shake_hands(mirror: &mut Looked, address: SocketAddr, budget: &Budget) -> bool {
    let (source, patience) = (mirror.source.clone(), budget.left(TLS_MAX).max(Duration::from_millis(100)));
    let shaking = tokio::task::spawn_blocking(move || source.handshake(address, patience));
    let done = budget.within(TLS_MAX + TLS_MAX / 2, shaking).await;
    let silent = || HandshakeError::Other("it fell silent".into());
    let done = done.and_then(Result::ok).unwrap_or_else(|| Err(silent()));
    let is_done = done.is_ok();
    let found = match done {
        Ok(Handshake { version, protocol, took }) => {
            let protocol = protocol.map_or(String::new(), |protocol| format!(", {protocol}"));
            let seen = format!("{version}{protocol}, its certificate is believed, in {:.1} ms", millis(took));
            Finding::ok(&mirror.about, "tls", seen).figure("version", version).figure("took_ms", millis(took))
        }
        Err(HandshakeError::Certificate(why)) => Finding::problem(
            &mirror.about,
            "tls",
            format!("its certificate is not believed: {why}"),
            "is this machine's clock right? Install ca-certificates, or name the authority: ca-file in its [[mirror]] table",
        ),
        Err(HandshakeError::Other(why)) => Finding::problem(
            &mirror.about,
            "tls",
            format!("no TLS connection: {why}"),
            "does it speak https at this port? braidfs needs TLS 1.2 or 1.3",
        ),
    };
    mirror.findings.push(found);
    is_done
}
