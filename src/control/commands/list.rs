//! `braidfs list [--json]`.

use super::{Screen, status_of};
use crate::control::client::{ClientError, Desk};
use crate::control::human::{bytes, length, plain, table};
use crate::control::mountinfo::{Device, Mount};
use crate::control::protocol::Command;
use crate::control::report::StatusReport;
use serde::Serialize;
use std::collections::BTreeSet;

/// One mount. The names are those of `--json`: they are not changed.
#[derive(Serialize, Debug)]
struct Listed {
    mountpoint: String,
    /// As in `status`; `gone` where the daemon has died, `unknown` where it does not answer, or is another user's.
    state: String,
    /// Why it is not known.
    trouble: Option<String>,
    owner_uid: Option<u32>,
    name: Option<String>,
    pid: Option<u32>,
    uptime_s: Option<f64>,
    bytes_read: Option<u64>,
    bytes_fetched: Option<u64>,
    mirrors: Option<usize>,
    mirrors_in_use: Option<usize>,
}

/// Show every braidfs mount of this machine, those of others by name only. Returns the exit code.
pub fn list(desk: &Desk, screen: &mut Screen<'_>) -> u8 {
    let mounts = match desk.mounts() {
        Ok(mounts) => mounts,
        Err(error) => return screen.fail(&error),
    };
    let mut known: BTreeSet<Device> = BTreeSet::new();
    // A bind mount of one is no other.
    let ours = mounts.iter().filter(|mount| mount.is_braidfs() && known.insert(mount.device));
    let listed: Vec<Listed> = ours.map(|mount| look_at(desk, mount)).collect();
    match screen.json {
        true => screen.say_json(&serde_json::json!({ "mounts": listed })),
        false if listed.is_empty() => screen.say("no braidfs mounts: `braidfs mount` makes one\n"),
        false => screen.say(&text(&listed)),
    }
    0
}

fn look_at(desk: &Desk, mount: &Mount) -> Listed {
    let asked = desk.connect(mount).and_then(|connection| connection.run(&Command::Status { path: None }, |_| {}));
    match asked.and_then(status_of) {
        Ok(report) => answering(mount, &report),
        Err(error) => silent(mount, &error),
    }
}

fn answering(mount: &Mount, report: &StatusReport) -> Listed {
    Listed {
        state: report.state.clone(),
        trouble: None,
        name: Some(report.name.clone()),
        pid: Some(report.pid),
        uptime_s: Some(report.uptime_s),
        bytes_read: Some(report.bytes_read),
        bytes_fetched: Some(report.bytes_fetched),
        mirrors: Some(report.mirrors.len()),
        mirrors_in_use: Some(report.mirrors.iter().filter(|mirror| mirror.state == "closed").count()),
        ..nothing(mount)
    }
}

fn silent(mount: &Mount, error: &ClientError) -> Listed {
    let state = if matches!(error, ClientError::Gone { .. }) { "gone" } else { "unknown" };
    Listed { state: state.into(), trouble: Some(error.to_string()), ..nothing(mount) }
}

fn nothing(mount: &Mount) -> Listed {
    Listed {
        mountpoint: mount.mountpoint.display().to_string(),
        state: String::new(),
        trouble: None,
        owner_uid: mount.owner_uid,
        name: None,
        pid: None,
        uptime_s: None,
        bytes_read: None,
        bytes_fetched: None,
        mirrors: None,
        mirrors_in_use: None,
    }
}

fn text(listed: &[Listed]) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let rows: Vec<[String; 7]> = listed
        .iter()
        .map(|mount| {
            let mirrors = mount.mirrors.zip(mount.mirrors_in_use);
            [
                plain(&mount.mountpoint),
                or_dash(mount.name.as_deref().map(plain)),
                plain(&mount.state),
                or_dash(mount.pid.map(|pid| pid.to_string())),
                or_dash(mount.uptime_s.map(|seconds| length((seconds * 1e3) as u64))),
                or_dash(mirrors.map(|(all, in_use)| format!("{in_use} of {all}"))),
                or_dash(mount.bytes_read.map(bytes)),
            ]
        })
        .collect();
    let head = ["MOUNTPOINT", "NAME", "STATE", "PROCESS", "MOUNTED FOR", "MIRRORS IN USE", "READ"];
    let table = table(head, [false, false, false, true, true, true, true], &rows);
    let troubles = listed.iter().filter_map(|mount| mount.trouble.as_deref());
    let remarks: String = troubles.map(|trouble| format!("{}\n", plain(trouble))).collect();
    if remarks.is_empty() { table } else { format!("{table}\n{remarks}") }
}
