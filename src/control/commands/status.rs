//! `braidfs status [PATH] [--json]`.

use super::stat::known_text;
use super::{Screen, file_of, remarks_text, status_of};
use crate::control::client::{ClientError, Desk, Target};
use crate::control::human::{bytes, length, plain, rate, table};
use crate::control::protocol::{Command, PathText};
use crate::control::report::{MirrorReport, StatusReport};
use std::path::Path;

/// Show what the mount of `path` does (no path: the one that the working folder is on, else
/// the only one there is), or what is known of a file
/// in it. Returns the exit code.
pub fn status(desk: &Desk, path: Option<&Path>, screen: &mut Screen<'_>) -> u8 {
    let target = desk.find_or_here(path);
    match target.and_then(|target| show(desk, target, screen)) {
        Ok(()) => 0,
        Err(error) => screen.fail(&error),
    }
}

fn show(desk: &Desk, target: Target, screen: &mut Screen<'_>) -> Result<(), ClientError> {
    let connection = desk.connect(&target.mount)?;
    if target.relative.is_empty() {
        let report = status_of(connection.run(&Command::Status { path: None }, |_| {})?)?;
        match screen.json {
            true => screen.say_json(&report),
            false => screen.say(&mount_text(&report)),
        }
    } else {
        let path = Some(PathText(target.relative));
        let report = file_of(connection.run(&Command::Status { path }, |_| {})?)?;
        match screen.json {
            true => screen.say_json(&report),
            false => screen.say(&known_text(&report)),
        }
    }
    Ok(())
}

fn mount_text(report: &StatusReport) -> String {
    let mut lines = vec![format!(
        "{}: {}, {}, process {}, mounted for {}",
        plain(&report.mountpoint),
        plain(&report.name),
        plain(&report.state),
        report.pid,
        length((report.uptime_s * 1e3) as u64)
    )];
    let amplification =
        report.read_amplification.map_or(String::new(), |factor| format!(", {factor:.2} per byte read"));
    let hits = report.hit_ratio.map_or(String::new(), |ratio| format!(", {:.0} % without waiting", ratio * 100.0));
    let errors = if report.read_errors > 0 { format!(", {} failed", report.read_errors) } else { String::new() };
    lines.push(format!("read     {} in {} reads{hits}{errors}", bytes(report.bytes_read), report.reads));
    lines.push(format!("fetched  {}{amplification}", bytes(report.bytes_fetched)));
    lines.push(format!("memory   {} of {}", bytes(report.memory_bytes), bytes(report.memory_limit)));
    lines.push(match &report.cache_dir {
        Some(folder) => format!(
            "disk     {} of {} in {} ({})",
            bytes(report.disk_bytes),
            bytes(report.disk_limit),
            plain(folder),
            plain(
                &report
                    .disk_trouble
                    .as_ref()
                    .map_or_else(|| report.disk_state.clone(), |why| format!("{}: {why}", report.disk_state))
            )
        ),
        None => "disk     nothing is kept on disk".to_owned(),
    });
    if !report.pins.is_empty() {
        lines.push(format!("pinned   {} in {} paths", bytes(report.pinned_bytes), report.pins.len()));
    }
    if let Some(damaged) = report.counters.get("disk_damaged_pages").filter(|damaged| **damaged > 0) {
        lines.push(format!("damaged  {damaged} cached pages did not match their checksums, and were dropped"));
    }
    if let Some(experiment) = &report.experiment {
        let (arms, so_far) = (plain(&experiment.arms), length((experiment.elapsed_s * 1e3) as u64));
        lines.push(format!("experiment  {arms}, for {so_far} so far: `braidfs ab` shows it"));
    }
    if let Some(oldest_ms) = report.oldest_operation_ms {
        lines.push(format!("waiting  the oldest read or lookup since {}", length(oldest_ms)));
    }
    if let Some(handoff) = &report.handoff {
        lines.push(format!(
            "handoff  {:.0} µs at the median, {:.0} µs at P99, from the last page to the answer of {} reads",
            handoff.median_us, handoff.p99_us, handoff.count
        ));
    }
    for job in &report.jobs {
        let progress = &job.progress;
        lines.push(format!(
            "job {}    {}: {} of {} files, {} of {}, {} failed{}",
            job.job,
            plain(&job.state),
            progress.files_done,
            progress.files_total,
            bytes(progress.bytes_done),
            bytes(progress.bytes_total),
            progress.files_failed,
            plain(&progress.waiting_text())
        ));
    }
    format!("{}\n\n{}{}", lines.join("\n"), mirrors_text(&report.mirrors), remarks_text(report.mirrors.iter()))
}

fn mirrors_text(mirrors: &[MirrorReport]) -> String {
    let rows: Vec<[String; 7]> = mirrors
        .iter()
        .map(|mirror| {
            [
                plain(&mirror.url),
                plain(&mirror.state),
                rate(mirror.throughput_bytes_per_second),
                mirror.time_to_first_byte_ms.map_or("-".to_owned(), |millis| format!("{millis:.1} ms")),
                bytes(mirror.in_flight_bytes),
                bytes(mirror.bytes_fetched),
                mirror.failures.to_string(),
            ]
        })
        .collect();
    let head = ["MIRROR", "STATE", "RATE", "FIRST BYTE", "IN FLIGHT", "FETCHED", "FAILURES"];
    table(head, [false, false, true, true, true, true, true], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::experiment::ExperimentStatus;
    use crate::control::report::{HandoffReport, PinnedPath};

    #[test]
    fn a_mount_is_shown_whole() {
        let report = StatusReport {
            mountpoint: "/mnt/data".into(),
            name: "data".into(),
            pid: 7,
            uptime_s: 12.5,
            state: "online".into(),
            cache_dir: Some("/c".into()),
            bytes_read: 1 << 30,
            bytes_fetched: 1 << 29,
            read_amplification: Some(0.5),
            reads: 10,
            hit_ratio: Some(0.25),
            disk_state: "full".into(),
            disk_trouble: Some("the disk has 5.0 MiB free".into()),
            pins: vec![PinnedPath { path: PathText(b"a".to_vec()), bytes: 3 << 20 }],
            pinned_bytes: 3 << 20,
            counters: [("disk_damaged_pages".to_owned(), 2)].into(),
            handoff: Some(HandoffReport { count: 7, median_us: 11.6, p99_us: 96.0, longest_us: 97.0 }),
            oldest_operation_ms: Some(1500),
            experiment: Some(ExperimentStatus { elapsed_s: 20.0, slice_s: 10.0, arms: "control=50,live=50".into() }),
            mirrors: vec![MirrorReport {
                url: "https://a/".into(),
                state: "open".into(),
                reason: Some("5 failures in 10 s".into()),
                next_try_s: Some(2.0),
                lies: vec!["answered 200 to a range\x1b[2J".into()],
                ..MirrorReport::default()
            }],
            ..StatusReport::default()
        };
        let text = mount_text(&report);
        for said in [
            "/mnt/data: data, online, process 7, mounted for 12.5 s\n",
            "read     1.00 GiB in 10 reads, 25 % without waiting\n",
            "fetched  512.00 MiB, 0.50 per byte read\n",
            "in /c (full: the disk has 5.0 MiB free)\n",
            "pinned   3.00 MiB in 1 paths\n",
            "damaged  2 cached pages did not match their checksums, and were dropped\n",
            "handoff  12 µs at the median, 96 µs at P99, from the last page to the answer of 7 reads\n",
            "experiment  control=50,live=50, for 20.0 s so far: `braidfs ab` shows it\n",
            "waiting  the oldest read or lookup since 1.5 s\n",
            "MIRROR      STATE   RATE  FIRST BYTE  IN FLIGHT  FETCHED  FAILURES\n",
            "https://a/  open   0 B/s           -        0 B      0 B         0\n",
            "https://a/: open: 5 failures in 10 s; next try in 2.0 s\n",
            "https://a/: lied: answered 200 to a range\u{fffd}[2J\n",
        ] {
            assert!(text.contains(said), "{said:?} is not in:\n{text}");
        }
    }

    #[test]
    fn the_names_of_the_json_stay() {
        let value =
            serde_json::to_value(StatusReport { mirrors: vec![MirrorReport::default()], ..StatusReport::default() })
                .unwrap();
        for name in
            ["mountpoint", "bytes_read", "bytes_fetched", "memory_bytes", "memory_limit", "disk_bytes", "disk_limit"]
        {
            assert!(value.get(name).is_some(), "{name}");
        }
        let mirror = &value["mirrors"][0];
        for name in [
            "url",
            "state",
            "bytes_fetched",
            "throughput_bytes_per_second",
            "time_to_first_byte_ms",
            "in_flight_bytes",
            "in_flight_fetches",
            "load",
            "weight",
            "failures",
        ] {
            assert!(mirror.get(name).is_some(), "{name}");
        }
        let older: StatusReport = serde_json::from_str("{\"mountpoint\":\"/x\",\"moon\":1}").unwrap();
        assert_eq!(older.mountpoint, "/x");
    }
}
