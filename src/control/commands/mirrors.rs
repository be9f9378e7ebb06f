//! `braidfs mirrors [PATH] [--strategy NAME] [--weight URL=WEIGHT | --out URL | --back URL] [--json]`.

use super::{Screen, mirrors_of, remarks_text};
use crate::control::client::{ClientError, Desk, Target};
use crate::control::human::{bytes, length, plain, rate, table};
use crate::control::protocol::{Command, MirrorChange};
use crate::control::report::{MirrorDetail, MirrorsReport};
use std::path::Path;

/// Show each mirror of the mount of `path` (no path: the one that the working folder is on, else the only one
/// there is) and how they are chosen; with `strategy`, after switching to it. Returns the exit code.
pub fn mirrors(
    desk: &Desk,
    path: Option<&Path>,
    strategy: Option<&str>,
    change: Option<MirrorChange>,
    screen: &mut Screen<'_>,
) -> u8 {
    let target = desk.find_or_here(path);
    match target.and_then(|target| show(desk, &target, strategy, change, screen)) {
        Ok(()) => 0,
        Err(error) => screen.fail(&error),
    }
}

fn show(
    desk: &Desk,
    target: &Target,
    strategy: Option<&str>,
    change: Option<MirrorChange>,
    screen: &mut Screen<'_>,
) -> Result<(), ClientError> {
    let command = Command::Mirrors { strategy: strategy.map(str::to_owned), change };
    let report = mirrors_of(desk.connect(&target.mount)?.run(&command, |_| {})?)?;
    match screen.json {
        true => screen.say_json(&report),
        false => screen.say(&text(&report)),
    }
    Ok(())
}

fn text(report: &MirrorsReport) -> String {
    let statuses = report.mirrors.iter().map(|mirror| &mirror.status);
    format!(
        "{}{}{}\n{}\n{}{}\n{}",
        switched_text(report),
        traffic_text(&report.mirrors),
        brackets_text(&report.mirrors),
        measures_text(&report.mirrors),
        judgement_text(&report.mirrors),
        remarks_text(statuses),
        choice_text(report)
    )
}

fn switched_text(report: &MirrorsReport) -> String {
    match report.strategy_before.as_deref() {
        None => String::new(),
        Some(before) if before == report.strategy => {
            format!("the strategy stays {}: it was so before\n\n", plain(before))
        }
        Some(before) => format!("the strategy is {} now, and was {}\n\n", plain(&report.strategy), plain(before)),
    }
}

/// What each brings.
fn traffic_text(mirrors: &[MirrorDetail]) -> String {
    let rows: Vec<[String; 9]> = mirrors
        .iter()
        .map(|mirror| {
            let status = &mirror.status;
            [
                plain(&status.url),
                plain(&status.state),
                rate_text(mirror),
                first_byte_text(mirror),
                mirror.bytes_share.map_or("-".to_owned(), percent),
                bytes(status.in_flight_bytes),
                bytes(mirror.window_bytes),
                status.in_flight_fetches.to_string(),
                mirror.connections.to_string(),
            ]
        })
        .collect();
    let head = ["MIRROR", "STATE", "RATE", "FIRST BYTE", "SHARE", "IN FLIGHT", "WINDOW", "FETCHES", "CONNECTIONS"];
    table(head, [false, false, true, true, true, true, true, true, true], &rows)
}

/// Measured, or in brackets what an earlier mount measured.
fn rate_text(mirror: &MirrorDetail) -> String {
    let before = mirror.supposed.as_ref().and_then(|supposed| supposed.throughput_bytes_per_second);
    match before {
        Some(before) => format!("({})", rate(before)),
        None => rate(mirror.status.throughput_bytes_per_second),
    }
}

fn first_byte_text(mirror: &MirrorDetail) -> String {
    let before = mirror.supposed.as_ref().and_then(|supposed| supposed.time_to_first_byte_ms);
    match (mirror.status.time_to_first_byte_ms, before) {
        (Some(millis), _) => format!("{millis:.1} ms"),
        (None, Some(millis)) => format!("({millis:.1} ms)"),
        (None, None) => "-".to_owned(),
    }
}

/// What the brackets mean, where there are any.
fn brackets_text(mirrors: &[MirrorDetail]) -> String {
    let supposed = mirrors.iter().filter_map(|mirror| mirror.supposed.as_ref());
    match supposed.map(|supposed| supposed.age_s).reduce(f64::min) {
        Some(age_s) => {
            let age = length((age_s * 1e3) as u64);
            format!("(in brackets: measured by an earlier mount, {age} ago, and supposed until this one measures)\n")
        }
        None => String::new(),
    }
}

/// What is measured of each, and how long ago.
fn measures_text(mirrors: &[MirrorDetail]) -> String {
    let millis = |value: Option<f64>| value.map_or("-".to_owned(), |millis| format!("{millis:.1} ms"));
    let rows: Vec<[String; 10]> = mirrors
        .iter()
        .map(|mirror| {
            let learned = [mirror.first_byte_learned_ago_s, mirror.throughput_learned_ago_s];
            let learned = learned.map(|ago| ago.map_or("-".to_owned(), |seconds| format!("{seconds:.1} s")));
            let jitter = millis(mirror.jitter_ms);
            [
                plain(&mirror.status.url),
                millis(mirror.time_to_first_byte_p50_ms),
                millis(mirror.time_to_first_byte_p99_ms),
                if mirror.throughput_averaged && jitter != "-" { format!("{jitter} (high)") } else { jitter },
                percent(mirror.throughput_decay),
                mirror.error_rate.map_or("-".to_owned(), percent),
                mirror.resets.to_string(),
                mirror.stalls.to_string(),
                mirror.reconnects.to_string(),
                learned.join(" / "),
            ]
        })
        .collect();
    let head =
        ["MIRROR", "P50", "P99", "JITTER", "LOSS OF RATE", "ERRORS", "RESETS", "STALLS", "RECONNECTS", "LEARNED"];
    table(head, [false, true, true, true, true, true, true, true, true, false], &rows)
}

/// What is thought of each.
fn judgement_text(mirrors: &[MirrorDetail]) -> String {
    let rows: Vec<[String; 7]> = mirrors
        .iter()
        .map(|mirror| {
            let kinds = mirror.failures_by_kind.iter().filter(|(_, count)| **count > 0);
            let kinds: Vec<String> = kinds.map(|(kind, count)| format!("{count} {}", plain(kind))).collect();
            [
                plain(&mirror.status.url),
                format!("{:.2}", mirror.status.weight),
                plain(&mirror.decay),
                percent(mirror.status.load),
                percent(mirror.trouble),
                mirror.stability_index.map_or("-".to_owned(), |index| format!("{index:.3}")),
                if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") },
            ]
        })
        .collect();
    let head = ["MIRROR", "WEIGHT", "DECAY", "OVERLOAD", "TROUBLE", "DRIFT", "FAILURES"];
    table(head, [false, true, false, true, true, true, false], &rows)
}

/// How they are chosen, and what keeps the tail short.
fn choice_text(report: &MirrorsReport) -> String {
    let p99 = report.demand_p99_ms.map_or("not known yet".to_owned(), |millis| format!("{millis:.0} ms"));
    format!(
        "strategy    {}, {} decisions\n\
         probes      {}, {} of them of idle mirrors, beside {} requests\n\
         hedges      {} issued, {} won, {} wasted\n\
         demand P99  {p99}; it should be {:.0} ms or less\n\
         background  may use {} of the windows\n",
        plain(&report.strategy),
        report.decisions,
        report.probes,
        report.light_probes,
        report.requests,
        report.hedges_issued,
        report.hedges_won,
        bytes(report.hedges_wasted_bytes),
        report.demand_objective_ms,
        percent(report.background_share)
    )
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::{MirrorReport, SupposedReport};

    fn report() -> MirrorsReport {
        let good = MirrorDetail {
            status: MirrorReport {
                url: "https://a/".into(),
                state: "closed".into(),
                throughput_bytes_per_second: 1_048_576.0,
                time_to_first_byte_ms: Some(2.44),
                in_flight_bytes: 1 << 20,
                in_flight_fetches: 3,
                load: 0.9,
                weight: 0.5,
                ..MirrorReport::default()
            },
            bytes_share: Some(0.75),
            window_bytes: 2 << 20,
            connections: 2,
            decay: "standard".into(),
            stability_index: Some(0.1234),
            time_to_first_byte_p50_ms: Some(2.25),
            time_to_first_byte_p99_ms: Some(31.5),
            jitter_ms: Some(21.0),
            throughput_averaged: true,
            throughput_decay: 0.5,
            error_rate: Some(0.125),
            resets: 3,
            stalls: 2,
            reconnects: 4,
            first_byte_learned_ago_s: Some(0.25),
            throughput_learned_ago_s: Some(12.0),
            ..MirrorDetail::default()
        };
        let bad = MirrorDetail {
            status: MirrorReport {
                url: "https://b\x1b[2J/".into(),
                state: "open".into(),
                reason: Some("stalled".into()),
                next_try_s: Some(2.0),
                lies: vec!["answered 200 to a range".into()],
                ..MirrorReport::default()
            },
            trouble: 0.25,
            failures_by_kind: [("corrupt", 0), ("stalled", 2), ("throttled", 1)]
                .map(|(kind, n)| (kind.into(), n))
                .into(),
            ..MirrorDetail::default()
        };
        MirrorsReport {
            strategy: "adaptive".into(),
            decisions: 17,
            requests: 400,
            probes: 4,
            light_probes: 3,
            hedges_issued: 3,
            hedges_won: 2,
            hedges_wasted_bytes: 1 << 16,
            demand_objective_ms: 200.0,
            background_share: 0.5,
            mirrors: vec![good, bad],
            ..MirrorsReport::default()
        }
    }

    #[test]
    fn mirrors_are_shown_whole() {
        let text = text(&report());
        for said in [
            "MIRROR          STATE         RATE  FIRST BYTE  SHARE  IN FLIGHT    WINDOW  FETCHES  CONNECTIONS\n",
            "https://a/      closed  1.00 MiB/s      2.4 ms   75 %   1.00 MiB  2.00 MiB        3            2\n",
            "https://b\u{fffd}[2J/  open         0 B/s           -      -        0 B       0 B        0            0\n",
            "https://a/        0.50  standard      90 %      0 %  0.123  none\n",
            "https://b\u{fffd}[2J/    0.00                 0 %     25 %      -  2 stalled, 1 throttled\n",
            "https://b\u{fffd}[2J/: open: stalled; next try in 2.0 s\n",
            "lied: answered 200 to a range\n",
            "strategy    adaptive, 17 decisions\n",
            "probes      4, 3 of them of idle mirrors, beside 400 requests\n",
            "https://a/      2.2 ms  31.5 ms  21.0 ms (high)          50 %    12 %       3       2           4  0.2 s / 12.0 s\n",
            "https://b\u{fffd}[2J/       -        -               -           0 %       -       0       0           0  - / -\n",
            "hedges      3 issued, 2 won, 64.00 KiB wasted\n",
            "demand P99  not known yet; it should be 200 ms or less\n",
            "background  may use 50 % of the windows\n",
        ] {
            assert!(text.contains(said), "{said:?} is not in:\n{text}");
        }
        assert!(text.starts_with("MIRROR"), "nothing was switched:\n{text}");
    }

    #[test]
    fn what_an_earlier_mount_measured_is_in_brackets() {
        let mut report = report();
        report.mirrors[1].supposed = Some(SupposedReport {
            throughput_bytes_per_second: Some(2_097_152.0),
            time_to_first_byte_ms: Some(12.34),
            age_s: 5.5,
            ..SupposedReport::default()
        });
        let text = text(&report);
        for said in [
            "https://a/      closed    1.00 MiB/s      2.4 ms",
            "https://b\u{fffd}[2J/  open    (2.00 MiB/s)   (12.3 ms)",
            "(in brackets: measured by an earlier mount, 5.5 s ago, and supposed until this one measures)\n",
        ] {
            assert!(text.contains(said), "{said:?} is not in:\n{text}");
        }
    }

    #[test]
    fn a_switch_says_old_and_new() {
        let mut report = report();
        report.strategy_before = Some("round-robin".into());
        assert!(text(&report).starts_with("the strategy is adaptive now, and was round-robin\n\n"));
        report.strategy_before = Some("adaptive".into());
        assert!(text(&report).starts_with("the strategy stays adaptive: it was so before\n\n"));
    }

    #[test]
    fn the_names_of_the_json_stay() {
        let value = serde_json::to_value(report()).unwrap();
        for name in [
            "mountpoint",
            "name",
            "strategy",
            "strategy_before",
            "decisions",
            "requests",
            "probes",
            "light_probes",
            "hedges_issued",
            "hedges_won",
            "hedges_wasted_bytes",
            "demand_p99_ms",
            "demand_objective_ms",
            "background_share",
        ] {
            assert!(value.get(name).is_some(), "{name}");
        }
        let mirror = &value["mirrors"][0];
        for name in [
            "url",
            "state",
            "throughput_bytes_per_second",
            "bytes_share",
            "in_flight_fetches",
            "window_bytes",
            "connections",
            "ranges",
            "weight",
            "decay",
            "load",
            "trouble",
            "time_to_first_byte_p50_ms",
            "time_to_first_byte_p99_ms",
            "time_to_first_byte_counts",
            "jitter_ms",
            "throughput_averaged",
            "throughput_decay",
            "error_rate",
            "resets",
            "stalls",
            "reconnects",
            "first_byte_learned_ago_s",
            "throughput_learned_ago_s",
            "errors_learned_ago_s",
            "stability_index",
            "failures_by_kind",
            "supposed",
        ] {
            assert!(mirror.get(name).is_some(), "{name}");
        }
        let again: MirrorsReport = serde_json::from_value(value).unwrap();
        assert_eq!(again, report());
    }
}
