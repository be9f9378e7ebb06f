//! The figures as a person pastes them into a bug report, and as programs read them. No credentials are in them.

use super::Measured;
use super::passes::Pass;
use crate::control::human::{bytes, length, plain, rate, table};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// For people.
pub fn text(measured: &Measured) -> String {
    let (status, mirrors) = (&measured.daemon.status, &measured.mirrors);
    let mut lines = vec![
        format!("braidfs {}, Linux {}, {} cores", env!("CARGO_PKG_VERSION"), kernel(), cores()),
        format!(
            "mount    {}: {}, {}, {}, process {}, mounted for {}",
            plain(&status.mountpoint),
            plain(&status.name),
            plain(&status.state),
            plain(&mirrors.strategy),
            status.pid,
            length((status.uptime_s * 1e3) as u64)
        ),
        format!("options  {}", plain(&options(measured.target.mount.id))),
        format!("memory   {} of {}", bytes(status.memory_bytes), bytes(status.memory_limit)),
        format!(
            "disk     {} of {} ({})",
            bytes(status.disk_bytes),
            bytes(status.disk_limit),
            plain(&status.disk_state)
        ),
    ];
    if let Some((path, held)) = &measured.file {
        let path = plain(&String::from_utf8_lossy(path));
        lines.push(match held {
            Some(file) => format!(
                "file     {path}: {}, of which {} were cached before ({} in memory, {} on disk)",
                bytes(file.size),
                bytes(file.cached_bytes),
                bytes(file.in_memory_bytes),
                bytes(file.on_disk_bytes)
            ),
            None => format!("file     {path}: what was cached of it before is not known"),
        });
    }
    let mut text = lines.join("\n") + "\n";
    if !measured.passes.is_empty() {
        text.push_str(&format!("\n{}", passes_text(&measured.passes)));
    }
    text.push_str(&format!("\n{}", mirrors_text(measured)));
    for remark in remarks(measured) {
        text.push_str(&format!("\n{}", plain(&remark)));
    }
    text.push_str(&format!("\n{} in all\n", length(measured.elapsed.as_millis() as u64)));
    text
}

fn passes_text(passes: &[Pass]) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let rows: Vec<[String; 9]> = passes
        .iter()
        .map(|pass| {
            let reads = !pass.lengths.is_empty();
            [
                pass.name.to_owned(),
                if reads { bytes(pass.bytes) } else { format!("{} names", pass.count) },
                if reads { rate(per_second(pass)) } else { format!("{:.3} ms", millis(pass.took)) },
                or_dash(quantile(pass, 0.5).map(|median| format!("{:.3} ms", millis(median)))),
                or_dash(quantile(pass, 0.99).map(|p99| format!("{:.3} ms", millis(p99)))),
                or_dash(kernel_bytes(pass).filter(|_| reads).map(bytes)),
                or_dash(pass.change.map(|change| bytes(change.fetched_bytes))),
                or_dash(hit_ratio(pass).map(|ratio| format!("{:.0} %", ratio * 100.0))),
                or_dash(pass.change.and_then(|change| change.cpu_s).map(|cpu_s| format!("{cpu_s:.2} s"))),
            ]
        })
        .collect();
    let head =
        ["READS", "READ", "RATE", "MEDIAN", "P99", "BY THE KERNEL", "FETCHED", "WITHOUT WAITING", "DAEMON'S CPU"];
    table(head, [false, true, true, true, true, true, true, true, true], &rows)
}

fn mirrors_text(measured: &Measured) -> String {
    let rows: Vec<[String; 6]> = measured
        .mirrors
        .mirrors
        .iter()
        .map(|mirror| {
            let mirror = &mirror.status;
            [
                plain(&mirror.url),
                plain(&mirror.state),
                rate(mirror.throughput_bytes_per_second),
                mirror.time_to_first_byte_ms.map_or("-".to_owned(), |millis| format!("{millis:.1} ms")),
                bytes(mirror.bytes_fetched),
                mirror.failures.to_string(),
            ]
        })
        .collect();
    let head = ["MIRROR BEFORE THAT", "STATE", "RATE", "FIRST BYTE", "FETCHED", "FAILURES"];
    table(head, [false, false, true, true, true, true], &rows)
}

/// What must be known to read the figures right.
fn remarks(measured: &Measured) -> Vec<String> {
    let mut remarks = Vec::new();
    let changes = || measured.passes.iter().filter_map(|pass| Some((pass, pass.change?)));
    if changes().any(|(_, change)| change.passthrough_opens > 0) {
        remarks.push("the file was complete in the cache, and the kernel read it past the daemon (passthrough)".into());
    }
    // The kernel reads ahead of a stream, so only what is far more than that is somebody else's.
    let others =
        |(pass, change): (&Pass, super::daemon::Change)| change.read_bytes > pass.bytes + (pass.bytes >> 1) + (4 << 20);
    if changes().any(others) {
        remarks.push("others read from this mount meanwhile: their bytes are in FETCHED and DAEMON'S CPU too".into());
    }
    if measured.passes.iter().any(|pass| pass.change.is_none()) {
        remarks.push("the daemon did not answer beside the reads: its figures are missing".into());
    }
    remarks.extend(measured.trouble.iter().map(|trouble| format!("ended early: {trouble}")));
    remarks
}

/// For programs: one object. The names are not changed.
pub fn json(measured: &Measured) -> String {
    let (status, mirrors) = (&measured.daemon.status, &measured.mirrors);
    let file = measured.file.as_ref().map(|(path, held)| {
        json!({
            "path": String::from_utf8_lossy(path),
            "size": held.as_ref().map(|file| file.size),
            "cached_bytes_before": held.as_ref().map(|file| file.cached_bytes),
        })
    });
    let object = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": kernel(),
        "cores": cores(),
        "mountpoint": status.mountpoint,
        "name": status.name,
        "pid": status.pid,
        "state": status.state,
        "strategy": mirrors.strategy,
        "uptime_s": status.uptime_s,
        "mount_options": options(measured.target.mount.id),
        "memory_bytes": status.memory_bytes,
        "memory_limit": status.memory_limit,
        "disk_bytes": status.disk_bytes,
        "disk_limit": status.disk_limit,
        "disk_state": status.disk_state,
        "file": file,
        "passes": measured.passes.iter().map(pass_json).collect::<Vec<_>>(),
        "mirrors": mirrors.mirrors,
        "remarks": remarks(measured),
        "trouble": measured.trouble,
        "elapsed_ms": measured.elapsed.as_millis() as u64,
    });
    format!("{object}\n")
}

fn pass_json(pass: &Pass) -> Value {
    let change = pass.change.unwrap_or_default();
    let known = pass.change.is_some();
    let if_known = |value: Value| if known { value } else { Value::Null };
    json!({
        "name": pass.name,
        "count": pass.count,
        "bytes": pass.bytes,
        "seconds": pass.took.as_secs_f64(),
        "bytes_per_second": (!pass.lengths.is_empty()).then(|| per_second(pass)),
        "median_ms": quantile(pass, 0.5).map(millis),
        "p99_ms": quantile(pass, 0.99).map(millis),
        "kernel_bytes": kernel_bytes(pass),
        "daemon_read_bytes": if_known(change.read_bytes.into()),
        "fetched_bytes": if_known(change.fetched_bytes.into()),
        "read_amplification": if_known(json!((pass.bytes > 0).then(|| change.fetched_bytes as f64 / pass.bytes as f64))),
        "hit_ratio": hit_ratio(pass),
        "passthrough_opens": if_known(change.passthrough_opens.into()),
        "daemon_cpu_s": change.cpu_s,
    })
}

fn per_second(pass: &Pass) -> f64 {
    pass.bytes as f64 / pass.lengths.iter().sum::<Duration>().as_secs_f64().max(1e-9)
}

/// Of the reads of a pass; `None` where there was none.
fn quantile(pass: &Pass, part: f64) -> Option<Duration> {
    let last = pass.lengths.len().checked_sub(1)?;
    pass.lengths.get((last as f64 * part).ceil() as usize).copied()
}

/// What was read and the daemon did not hand out: the kernel had it.
fn kernel_bytes(pass: &Pass) -> Option<u64> {
    Some(pass.bytes.saturating_sub(pass.change?.read_bytes))
}

/// Of the reads that came to the daemon, those that waited for no mirror.
fn hit_ratio(pass: &Pass) -> Option<f64> {
    let change = pass.change.filter(|change| change.reads > 0)?;
    Some(change.hits as f64 / change.reads as f64)
}

fn millis(length: Duration) -> f64 {
    (length.as_secs_f64() * 1e6).round() / 1e3
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// Type and options of the mount, as the kernel shows them.
fn options(id: u64) -> String {
    let mounts = std::fs::read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    options_of(&String::from_utf8_lossy(&mounts), id)
}

fn options_of(mounts: &str, id: u64) -> String {
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(id.to_string().as_str()));
    let Some((own, shared)) = line.and_then(|line| line.split_once(" - ")) else { return "not known".into() };
    let own = own.split(' ').nth(5).unwrap_or_default();
    let shared: Vec<&str> = shared.split(' ').collect();
    format!("{} {own}; {}", shared.first().unwrap_or(&""), shared.get(2).unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::super::daemon::Change;
    use super::*;

    fn pass(lengths: &[u64], change: Option<Change>) -> Pass {
        let lengths: Vec<Duration> = lengths.iter().map(|millis| Duration::from_millis(*millis)).collect();
        let took = lengths.iter().sum();
        Pass { name: "in order", count: lengths.len() as u64, bytes: 1 << 20, lengths, took, change }
    }

    #[test]
    fn figures_are_those_of_the_reads() {
        let change = Change { read_bytes: 1 << 19, fetched_bytes: 1 << 18, reads: 4, hits: 3, ..Change::default() };
        let seen = pass(&[1, 2, 3, 94], Some(change));
        assert_eq!(
            (quantile(&seen, 0.5), quantile(&seen, 0.99)),
            (Some(Duration::from_millis(3)), Some(Duration::from_millis(94)))
        );
        assert_eq!((kernel_bytes(&seen), hit_ratio(&seen)), (Some(1 << 19), Some(0.75)));
        assert_eq!(per_second(&seen) as u64, 10 << 20);
        let json = pass_json(&seen);
        assert_eq!((json["read_amplification"].as_f64(), json["fetched_bytes"].as_u64()), (Some(0.25), Some(1 << 18)));
        let unknown = pass(&[], None);
        assert_eq!((quantile(&unknown, 0.5), kernel_bytes(&unknown), hit_ratio(&unknown)), (None, None, None));
        assert!(pass_json(&unknown)["fetched_bytes"].is_null());
        let text = passes_text(&[seen, unknown]);
        assert!(
            text.contains(
                "in order  1.00 MiB  10.00 MiB/s  3.000 ms  94.000 ms     512.00 KiB  256.00 KiB             75 %"
            ),
            "{text}"
        );
    }

    #[test]
    fn options_come_from_the_mount_with_that_number() {
        let mounts = "4 1 0:5 / /x rw,relatime - ext4 /dev/x rw\n40 4 0:50 / /mnt/a ro,nosuid shared:7 - fuse.braidfs b ro,user_id=0\n";
        assert_eq!(options_of(mounts, 40), "fuse.braidfs ro,nosuid; ro,user_id=0");
        assert_eq!(options_of(mounts, 41), "not known");
    }
}
