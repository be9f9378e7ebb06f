//! `braidfs ab [PATH] [--start [--slice DURATION] [--arms ARM=PERCENT,...] | --stop] [--json]`.

use super::{Screen, unexpected};
use crate::control::client::{ClientError, Desk};
use crate::control::experiment::{AbAsked, AbReport, ArmReport, EstimateReport};
use crate::control::human::{bytes, length, lines, plain, rate};
use crate::control::protocol::{Answer, Command};
use std::path::Path;

/// Show the experiment of the mount of `path`, after starting or before ending it where that is asked for. Returns the
/// exit code.
pub fn ab(desk: &Desk, path: Option<&Path>, asked: &AbAsked, screen: &mut Screen<'_>) -> u8 {
    match ask(desk, path, asked) {
        Ok(report) => {
            match screen.json {
                true => screen.say_json(&report),
                false if asked.start.is_some() => screen.say(&started_text(&report)),
                false => screen.say(&text(&report)),
            }
            0
        }
        Err(error) => screen.fail(&error),
    }
}

fn ask(desk: &Desk, path: Option<&Path>, asked: &AbAsked) -> Result<AbReport, ClientError> {
    let target = desk.find_or_here(path)?;
    let command = Command::Ab { start: asked.start.clone(), stop: asked.stop };
    match desk.connect(&target.mount)?.run(&command, |_| {})? {
        Answer::Ab(report) => Ok(*report),
        _ => Err(unexpected()),
    }
}

fn started_text(report: &AbReport) -> String {
    let shares = report.arms.iter().map(|arm| format!("{} {} % of the time ({})", arm.arm, arm.share, arm.strategy));
    format!(
        "an experiment has begun, in slices of {}: {}\n{}`braidfs ab {}` shows what comes of it, --stop ends it\n",
        length((report.slice_s * 1e3) as u64),
        plain(&shares.collect::<Vec<_>>().join(", ")),
        alike_text(report),
        plain(&report.mountpoint)
    )
}

fn alike_text(report: &AbReport) -> &'static str {
    let has_live = report.arms.iter().any(|arm| arm.arm == "live");
    match report.live_is_control && has_live {
        true => "live is configured as control is built in: the two should not differ\n",
        false => "",
    }
}

fn text(report: &AbReport) -> String {
    let state = if report.running { "runs" } else { "is ended" };
    let mut text = format!(
        "{}: {}, an experiment {state}, for {} so far, in slices of {}, {} to a block\n",
        plain(&report.mountpoint),
        plain(&report.name),
        length((report.elapsed_s * 1e3) as u64),
        length((report.slice_s * 1e3) as u64),
        report.block_slices
    );
    if let Some(ago_s) = report.reconfigured_ago_s {
        let ago = length((ago_s * 1e3) as u64);
        text.push_str(&format!("something else was configured {ago} ago: the live arm began anew then\n"));
    }
    text.push_str(alike_text(report));
    text.push_str(&format!("\n{}\n", arms_text(&report.arms)));
    report.comparisons.iter().for_each(|one| text.push_str(&format!("{}\n", plain(&one.words))));
    text
}

/// The arms side by side: each is a column.
fn arms_text(arms: &[ArmReport]) -> String {
    let row = |name: &str, cell: &dyn Fn(&ArmReport) -> String| -> Vec<String> {
        std::iter::once(name.to_owned()).chain(arms.iter().map(cell)).collect()
    };
    let millis = |value: f64| format!("{value:.1} ms");
    let rows = [
        row("share", &|arm| format!("{} %", arm.share)),
        row("strategy", &|arm| plain(&arm.strategy)),
        row("slices", &|arm| arm.slices.to_string()),
        row("fetches", &|arm| arm.fetches.to_string()),
        row("reads that waited", &|arm| arm.reads.to_string()),
        row("bytes", &|arm| bytes(arm.bytes)),
        row("throughput", &|arm| estimate(arm.throughput_bytes_per_second, rate)),
        row("  99 % of it", &|arm| interval(arm.throughput_bytes_per_second, rate)),
        row("wait, median", &|arm| estimate(arm.wait_p50_ms, millis)),
        row("  99 % of it", &|arm| interval(arm.wait_p50_ms, millis)),
        row("wait, P99", &|arm| estimate(arm.wait_p99_ms, millis)),
        row("  99 % of it", &|arm| interval(arm.wait_p99_ms, millis)),
    ];
    let names: Vec<String> = arms.iter().map(|arm| plain(&arm.arm).to_uppercase()).collect();
    let head: Vec<&str> = std::iter::once("").chain(names.iter().map(String::as_str)).collect();
    let right: Vec<bool> = (0..head.len()).map(|at| at > 0).collect();
    lines(&head, &right, &rows)
}

fn estimate(seen: Option<EstimateReport>, show: impl Fn(f64) -> String) -> String {
    seen.map_or("-".to_owned(), |seen| show(seen.value))
}

fn interval(seen: Option<EstimateReport>, show: impl Fn(f64) -> String) -> String {
    match seen.and_then(|seen| seen.low.zip(seen.high)) {
        Some((low, high)) => format!("{} to {}", show(low), show(high)),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::experiment::ComparisonReport;

    fn report() -> AbReport {
        let arm = |name: &str, share| ArmReport {
            arm: name.into(),
            share,
            strategy: "adaptive".into(),
            slices: 12,
            fetches: 100,
            reads: 70,
            bytes: 1 << 30,
            throughput_bytes_per_second: Some(EstimateReport {
                value: 20_971_520.0,
                low: Some(10_485_760.0),
                high: Some(31_457_280.0),
            }),
            wait_p50_ms: Some(EstimateReport { value: 12.5, low: None, high: None }),
            ..ArmReport::default()
        };
        let words = "live delivers 18 % more than control\x1b (99 %: 11 % to 25 %)".into();
        let comparison = ComparisonReport { words, ..ComparisonReport::default() };
        AbReport {
            mountpoint: "/mnt/data".into(),
            name: "data".into(),
            running: true,
            elapsed_s: 12.5,
            slice_s: 10.0,
            block_slices: 2,
            live_is_control: true,
            arms: vec![arm("control", 50), arm("live", 50)],
            comparisons: vec![comparison],
            ..AbReport::default()
        }
    }

    #[test]
    fn the_arms_stand_side_by_side() {
        let mut report = report();
        let said = text(&report);
        for wanted in [
            "/mnt/data: data, an experiment runs, for 12.5 s so far, in slices of 10.0 s, 2 to a block\n",
            "live is configured as control is built in: the two should not differ\n",
            "                                      CONTROL                        LIVE\n",
            "fetches                                   100                         100\n",
            "throughput                        20.00 MiB/s                 20.00 MiB/s\n",
            "  99 % of it       10.00 MiB/s to 30.00 MiB/s  10.00 MiB/s to 30.00 MiB/s\n",
            "wait, median                          12.5 ms                     12.5 ms\n",
            "\nlive delivers 18 % more than control\u{fffd} (99 %: 11 % to 25 %)\n",
        ] {
            assert!(said.contains(wanted), "{wanted:?} is not in:\n{said}");
        }
        (report.running, report.reconfigured_ago_s, report.live_is_control) = (false, Some(3.0), false);
        let said = text(&report);
        assert!(
            said.contains("an experiment is ended") && said.contains("configured 3.0 s ago: the live arm"),
            "{said}"
        );
        assert!(!said.contains("should not differ"), "{said}");
    }

    #[test]
    fn what_has_begun_is_said_with_how_to_go_on() {
        let said = started_text(&report());
        let wanted = "an experiment has begun, in slices of 10.0 s: control 50 % of the time (adaptive), live 50 %";
        assert!(said.starts_with(wanted) && said.contains("`braidfs ab /mnt/data` shows"), "{said}");
    }

    #[test]
    fn the_names_of_the_json_stay() {
        let value = serde_json::to_value(report()).unwrap();
        for name in
            ["mountpoint", "running", "elapsed_s", "slice_s", "block_slices", "slices", "arm", "live_is_control"]
        {
            assert!(value.get(name).is_some(), "{name}");
        }
        for name in ["arm", "share", "strategy", "fetches", "reads", "throughput_bytes_per_second", "wait_p99_ms"] {
            assert!(value["arms"][0].get(name).is_some(), "{name}");
        }
        for name in ["arm", "metric", "blocks", "difference", "low", "high", "verdict", "words"] {
            assert!(value["comparisons"][0].get(name).is_some(), "{name}");
        }
    }
}
