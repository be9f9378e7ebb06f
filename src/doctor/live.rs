//! A live mount: whether its daemon answers, what state it is in, and what troubles it.

use super::finding::{About, Finding};
use crate::clock::now;
use crate::control::client::{ClientError, Desk};
use crate::control::human::{bytes, length};
use crate::control::mountinfo::Mount;
use crate::control::protocol::{Answer, Command};
use crate::control::report::{MirrorReport, StatusReport};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// A folder that takes longer to be listed hangs.
const LIST_MAX: Duration = Duration::from_secs(10);
/// A read or lookup that has waited for so long is in trouble; its own deadline comes later.
const WAITING_MAX_MS: u64 = 5_000;
/// Names of the root that are counted.
const ENTRIES_MAX: usize = 100_000;

/// What the daemon of a mount says; `touched`: its root is listed too, which may hang.
pub fn check(desk: &Desk, mount: &Mount, touched: bool) -> Vec<Finding> {
    let about = About::Mount(mount.mountpoint.display().to_string());
    let start = now();
    let answer = desk.connect(mount).and_then(|connection| connection.run(&Command::Status { path: None }, |_| {}));
    let took_ms = now().since(start).as_millis() as u64;
    match answer {
        Ok(Answer::Status(status)) => {
            let seen = format!(
                "process {} answers in {}, {} is mounted for {}",
                status.pid,
                length(took_ms),
                status.name,
                length((status.uptime_s * 1e3) as u64)
            );
            let answers = Finding::ok(&about, "daemon", seen).figure("pid", status.pid).figure("took_ms", took_ms);
            let mut findings = vec![answers];
            findings.extend(touched.then(|| root(&about, &mount.mountpoint)));
            findings.extend(of_status(&about, &status));
            findings
        }
        Ok(_) => vec![Finding::problem(
            &about,
            "daemon",
            "it gave the answer to another command",
            "use the braidfs that it was mounted with",
        )],
        Err(error) => vec![silent(&about, &mount.mountpoint, &error)],
    }
}

fn silent(about: &About, mountpoint: &Path, error: &ClientError) -> Finding {
    let mountpoint = mountpoint.display();
    match error {
        ClientError::Gone { .. } => Finding::problem(
            about,
            "daemon",
            "it is gone, and left its mount behind",
            format!("`braidfs umount {mountpoint}`, then mount again: what was durable is not fetched again"),
        ),
        ClientError::Unreachable { error, .. } if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Finding::note(about, "daemon", format!("not asked: {error}"))
        }
        ClientError::Silent { .. } => Finding::problem(
            about,
            "daemon",
            "it says nothing: it is stuck",
            format!("`braidfs umount --lazy {mountpoint}` detaches the mount"),
        ),
        error => Finding::problem(about, "daemon", error.to_string(), "mount it again with this braidfs"),
    }
}

fn of_status(about: &About, status: &StatusReport) -> Vec<Finding> {
    let mut findings = vec![state(about, status), disk(about, status), reads(about, status)];
    if let Some(oldest_ms) = status.oldest_operation_ms.filter(|oldest_ms| *oldest_ms > WAITING_MAX_MS) {
        let seen = format!("the oldest read or lookup has waited for {}", length(oldest_ms));
        findings.push(Finding::warning(about, "waiting", seen, "look at the mirrors below, and at the daemon's log"));
    }
    if let Some(damaged) = status.counters.get("disk_damaged_pages").filter(|damaged| **damaged > 0) {
        let seen = format!("{damaged} cached pages did not match their checksums, and were dropped");
        let to_do = "look for the disk's errors with `dmesg`; `braidfs verify` reads all of it back";
        findings.push(Finding::warning(about, "damage", seen, to_do));
    }
    let failed = status.jobs.iter().filter(|job| job.state == "failed").count();
    if failed > 0 {
        let seen = format!("{failed} of the last prefetch jobs failed");
        findings.push(Finding::warning(about, "jobs", seen, "`braidfs jobs` names its files and why"));
    }
    findings.extend(status.mirrors.iter().flat_map(mirror));
    findings
}

fn state(about: &About, status: &StatusReport) -> Finding {
    let in_use = status.mirrors.iter().filter(|mirror| mirror.state == "closed").count();
    let seen = format!("{}, {in_use} of {} mirrors in use", status.state, status.mirrors.len());
    match status.state.as_str() {
        "online" => Finding::ok(about, "state", seen),
        "offline" => Finding::problem(
            about,
            "state",
            format!("{seen}: what is cached is served, other reads fail"),
            "is this machine's network up? It goes on by itself once a mirror answers",
        ),
        _ => Finding::warning(about, "state", seen, "see what is said of the disk below"),
    }
}

fn disk(about: &About, status: &StatusReport) -> Finding {
    let trouble = status.disk_trouble.as_ref().map_or(String::new(), |why| format!(": {why}"));
    let seen =
        format!("{}{trouble}, {} of {} taken", status.disk_state, bytes(status.disk_bytes), bytes(status.disk_limit));
    match status.disk_state.as_str() {
        "none" => Finding::note(about, "disk", "nothing is kept on disk"),
        "full" => {
            Finding::warning(about, "disk", seen, "free some space, unpin something, or give more by --cache-size")
        }
        "failing" => Finding::problem(
            about,
            "disk",
            format!("{seen}; what is held is served, nothing new is kept"),
            "look for its errors with `dmesg`, or mount with another --cache-dir",
        ),
        _ => Finding::ok(about, "disk", seen),
    }
}

fn reads(about: &About, status: &StatusReport) -> Finding {
    let hits = status.hit_ratio.map_or(String::new(), |ratio| format!(", {:.0} % without waiting", ratio * 100.0));
    let seen = format!("{} in {} reads{hits}", bytes(status.bytes_read), status.reads);
    let found = match status.read_errors {
        0 => Finding::ok(about, "reads", seen),
        errors => Finding::warning(
            about,
            "reads",
            format!("{seen}, {errors} failed"),
            "the daemon's log names the files and the reasons",
        ),
    };
    found.figure("reads", status.reads).figure("read_errors", status.read_errors)
}

fn mirror(mirror: &MirrorReport) -> Vec<Finding> {
    let about = About::Mirror(mirror.url.clone());
    let last = mirror.last_failure.as_ref().map_or(String::new(), |last| format!("; the last failure: {last}"));
    let found = match mirror.state.as_str() {
        "closed" if mirror.failures == 0 => Finding::ok(&about, "state", "in use, no failures"),
        "closed" => Finding::note(&about, "state", format!("in use, {} failures{last}", mirror.failures)),
        state => {
            let why = mirror.reason.clone().unwrap_or_else(|| "it failed".into());
            let seen = format!("{state}: {why}{last}");
            Finding::warning(
                &about,
                "state",
                seen,
                format!("it is tried again by itself; `braidfs doctor {}` looks closer", mirror.url),
            )
        }
    };
    let found = found.figure("failures", mirror.failures).figure("bytes_fetched", mirror.bytes_fetched);
    let lies = mirror.lies.iter().map(|lie| {
        let to_do = "what it sent was not used, or is being replaced: tell who runs it, or leave it out";
        Finding::problem(&about, "lie", lie.clone(), to_do)
    });
    std::iter::once(found).chain(lies).collect()
}

/// As a program would list it: on a thread of its own, since that may hang.
fn root(about: &About, mountpoint: &Path) -> Finding {
    let (sender, answer) = mpsc::channel();
    let path = mountpoint.to_owned();
    let start = now();
    std::thread::spawn(move || {
        let listed = std::fs::read_dir(path).map(|entries| entries.take(ENTRIES_MAX).count());
        let _ = sender.send(listed);
    });
    match answer.recv_timeout(LIST_MAX) {
        Ok(Ok(count)) => {
            let took = now().since(start).as_secs_f64() * 1e3;
            Finding::ok(about, "root folder", format!("{count} names in {took:.1} ms")).figure("names", count)
        }
        Ok(Err(error)) => Finding::problem(
            about,
            "root folder",
            format!("it cannot be listed: {error}"),
            "look at the mirrors below, and at the daemon's log",
        ),
        Err(_) => Finding::problem(
            about,
            "root folder",
            format!("it is not listed within {} s", LIST_MAX.as_secs()),
            "`braidfs umount --lazy` detaches the mount",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::JobReport;
    use crate::doctor::finding::Level;

    fn about() -> About {
        About::Mount("/mnt".into())
    }

    fn healthy() -> StatusReport {
        let mirror = MirrorReport { url: "http://a/".into(), state: "closed".into(), ..MirrorReport::default() };
        StatusReport {
            state: "online".into(),
            disk_state: "ok".into(),
            mirrors: vec![mirror],
            ..StatusReport::default()
        }
    }

    fn worst(status: &StatusReport) -> Level {
        of_status(&about(), status).into_iter().map(|found| found.level).max().unwrap()
    }

    #[test]
    fn each_trouble_of_a_mount_is_found() {
        assert_eq!(worst(&healthy()), Level::Ok);
        let offline = StatusReport { state: "offline".into(), ..healthy() };
        assert_eq!(worst(&offline), Level::Problem);
        assert_eq!(worst(&StatusReport { state: "reading-through".into(), ..healthy() }), Level::Warning);
        assert_eq!(worst(&StatusReport { disk_state: "full".into(), ..healthy() }), Level::Warning);
        assert_eq!(worst(&StatusReport { disk_state: "failing".into(), ..healthy() }), Level::Problem);
        assert_eq!(worst(&StatusReport { read_errors: 1, ..healthy() }), Level::Warning);
        assert_eq!(worst(&StatusReport { oldest_operation_ms: Some(9_000), ..healthy() }), Level::Warning);
        let damaged = [("disk_damaged_pages".to_owned(), 2)].into();
        assert_eq!(worst(&StatusReport { counters: damaged, ..healthy() }), Level::Warning);
        let job = JobReport { job: 3, state: "failed".into(), ..JobReport::default() };
        assert_eq!(worst(&StatusReport { jobs: vec![job], ..healthy() }), Level::Warning);
        let mut status = healthy();
        status.mirrors[0].state = "open".into();
        assert_eq!(worst(&status), Level::Warning);
        status.mirrors[0].lies = vec!["answered 200 to a range".into()];
        assert_eq!(worst(&status), Level::Problem);
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_a_problem() {
        let gone = ClientError::Gone { mountpoint: "/mnt".into() };
        let found = silent(&about(), Path::new("/mnt"), &gone);
        assert_eq!(found.level, Level::Problem);
        assert!(found.to_do.unwrap().contains("`braidfs umount /mnt`"));
        let stuck = silent(&about(), Path::new("/mnt"), &ClientError::Silent { mountpoint: "/mnt".into() });
        assert!(stuck.level == Level::Problem && stuck.to_do.unwrap().contains("--lazy"));
        let error = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert_eq!(
            silent(&about(), Path::new("/mnt"), &ClientError::Unreachable { mountpoint: "/mnt".into(), error }).level,
            Level::Note
        );
    }
}
