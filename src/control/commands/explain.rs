//! `braidfs explain [PATH[:OFFSET]] [--last N] [--json]`.

use super::why::{millis, why};
use super::{Screen, explain_of};
use crate::control::client::{ClientError, Desk, Target};
use crate::control::human::{bytes, length, lines, plain, rate};
use crate::control::protocol::{Command, PathText, Reply};
use crate::control::report::{AboutReport, DecisionReport, ExplainReport, RatedReport};
use serde_json::json;
use std::path::Path;

/// The order in which terms are shown; others come after them.
const TERMS: [&str; 9] = ["latency", "queue", "transfer", "silence", "trouble", "doubt", "weight", "turn", "tier"];

/// Show why mirrors were chosen: for the file, or the page of it, that `path` names (`FILE` or `FILE:OFFSET`), or
/// for all files of the mount that it is (no path: the one that the working folder is on, else the only one
/// there is). Returns the exit code.
pub fn explain(desk: &Desk, path: Option<&Path>, last: Option<u64>, screen: &mut Screen<'_>) -> u8 {
    let target = desk.find_or_here(path);
    match target.and_then(|target| show(desk, target, last, screen)) {
        Ok(()) => 0,
        Err(error) => screen.fail(&error),
    }
}

fn show(desk: &Desk, target: Target, last: Option<u64>, screen: &mut Screen<'_>) -> Result<(), ClientError> {
    let connection = desk.connect(&target.mount)?;
    let target = (!target.relative.is_empty()).then_some(PathText(target.relative));
    let mut decisions = Vec::new();
    let answer = connection.run(&Command::Explain { target, last }, |reply| match reply {
        Reply::Decision(decision) if screen.json => screen.say_json(&json!({ "decision": decision })),
        Reply::Decision(decision) => decisions.push(*decision),
        _ => {}
    });
    let report = explain_of(answer?)?;
    match screen.json {
        true => screen.say_json(&json!({ "result": report })),
        false => screen.say(&text(&report, &decisions)),
    }
    Ok(())
}

fn text(report: &ExplainReport, decisions: &[DecisionReport]) -> String {
    let mut parts: Vec<String> = report.about.iter().map(about_text).collect();
    if report.decisions_matching == 0 {
        parts.push(nothing_text(report));
    }
    parts.extend(decisions.iter().map(decision_text));
    let left = report.decisions_matching.saturating_sub(decisions.len() as u64);
    if left > 0 {
        let all = report.decisions_matching;
        let about = if report.about.is_some() { " about it" } else { "" };
        parts.push(format!("{left} older decisions{about} are kept: --last {all} shows all\n"));
    }
    parts.join("\n")
}

/// What is asked about, and where its bytes are.
fn about_text(about: &AboutReport) -> String {
    let path = plain(&String::from_utf8_lossy(&about.path.0));
    let what = match about.offset_bytes {
        Some(offset) => format!("{path}, the page at byte {offset}"),
        None => format!("{path}, {}", bytes(about.size)),
    };
    let held = match (about.offset_bytes, about.in_memory_bytes > 0, about.on_disk_bytes > 0) {
        (None, ..) => format!("{} here", bytes(about.cached_bytes)),
        (Some(_), true, true) => "in memory and on disk".to_owned(),
        (Some(_), true, false) => "in memory".to_owned(),
        (Some(_), false, true) => "on disk".to_owned(),
        (Some(_), false, false) => "not here".to_owned(),
    };
    let from = about.came_from.as_ref().map_or(String::new(), |url| {
        let ago = about.came_ago_ms.map_or(String::new(), |millis| format!(" {} ago", length(millis as u64)));
        format!("; it came from {}{ago}", plain(url))
    });
    let left_out = about.left_out.iter().map(|out| format!("  not {}: {}\n", plain(&out.url), plain(&out.why)));
    format!("{what}: {held}{from}\n{}", left_out.collect::<String>())
}

/// Why there is nothing to show.
fn nothing_text(report: &ExplainReport) -> String {
    if report.decisions_made == 0 {
        return "no decision yet: nothing was fetched since the mount\n".to_owned();
    }
    let is_cached = report.about.as_ref().is_some_and(|about| about.cached_bytes >= about.asked_bytes);
    let since = match (is_cached, forgotten(report)) {
        (true, None) => "it is cached, and was fetched before this mount".to_owned(),
        (true, Some(back)) => format!("it is cached, and was fetched before this mount, or {back}"),
        (false, None) => "nothing was fetched of it since the mount".to_owned(),
        (false, Some(back)) => format!("nothing was fetched of it since the mount, or {back}"),
    };
    format!("no decision is kept about it: {since}\n")
}

/// How far back it is known, where there were more decisions than are kept.
fn forgotten(report: &ExplainReport) -> Option<String> {
    let oldest_ms = report.oldest_ago_ms.filter(|_| report.decisions_made > report.decisions_kept)?;
    let kept = report.decisions_kept;
    Some(format!("longer ago than the last {kept} decisions, which go back {}", length(oldest_ms as u64)))
}

fn decision_text(decision: &DecisionReport) -> String {
    let path = decision
        .path
        .as_ref()
        .map_or("(a version that is forgotten)".to_owned(), |path| plain(&String::from_utf8_lossy(&path.0)));
    let cause = match decision.cause.as_str() {
        "hedge" => "a hedge, since an earlier fetch for it was late",
        _ => "wanted",
    };
    let way = if decision.in_flight { ", on its way" } else { "" };
    let shown = decision.mirrors.len() as u64;
    let others = match decision.considered {
        0 | 1 => "no other mirror could be asked".to_owned(),
        considered if considered > shown => format!("the best {shown} of {considered} mirrors that could be asked"),
        considered => format!("{considered} mirrors could be asked"),
    };
    let last_page = decision.first_page + decision.pages.saturating_sub(1);
    format!(
        "{} ago: {} at byte {} of {path} (pages {} to {last_page}), {}, {cause}, by {}{way}; {others}:\n{}{}",
        length(decision.ago_ms as u64),
        bytes(decision.bytes),
        decision.offset_bytes,
        decision.first_page,
        plain(&decision.class),
        plain(&decision.strategy),
        table_text(decision),
        losers_text(decision)
    )
}

/// Each mirror with its numbers and the terms that are not 0 for all.
fn table_text(decision: &DecisionReport) -> String {
    let rated = &decision.mirrors;
    let of = |rated: &RatedReport, term: &str| rated.terms.get(term).copied().unwrap_or(0.0);
    let others = rated.iter().flat_map(|rated| rated.terms.keys()).map(String::as_str);
    let mut terms: Vec<&str> = TERMS.to_vec();
    for other in others {
        if !terms.contains(&other) {
            terms.push(other);
        }
    }
    terms.retain(|term| rated.iter().any(|rated| of(rated, term) != 0.0));
    let heads: Vec<String> = terms.iter().map(|term| format!("+{}", plain(term).to_uppercase())).collect();
    let mut head = vec!["MIRROR", "RATE", "FIRST BYTE", "IN FLIGHT", "FETCHES", "WEIGHT"];
    head.extend(heads.iter().map(String::as_str));
    let score = format!("=SCORE ({})", plain(&decision.unit));
    head.extend([score.as_str(), "RESULT"]);
    let mut right = vec![true; head.len()];
    (right[0], right[head.len() - 1]) = (false, false);
    let best = rated.first().map_or(0.0, |winner| winner.score);
    let rows = rated.iter().enumerate().map(|(at, rated)| {
        let mut row = vec![
            plain(&rated.url),
            rate(rated.throughput_bytes_per_second),
            millis(rated.time_to_first_byte_ms),
            bytes(rated.load_bytes),
            rated.in_flight_fetches.to_string(),
            format!("{:.2}", rated.weight),
        ];
        row.extend(terms.iter().map(|term| number(of(rated, term), &decision.unit)));
        row.push(number(rated.score, &decision.unit));
        row.push(match at {
            0 => "won".to_owned(),
            _ => format!("+{}", number(rated.score - best, &decision.unit)),
        });
        row
    });
    lines(&head, &right, &rows.collect::<Vec<_>>())
}

fn number(value: f64, unit: &str) -> String {
    match unit {
        "places" => format!("{value:.0}"),
        "lots" => format!("{value:.3}"),
        _ => format!("{value:.1}"),
    }
}

fn losers_text(decision: &DecisionReport) -> String {
    let Some((winner, losers)) = decision.mirrors.split_first() else { return String::new() };
    let line = |loser: &RatedReport| format!("  not {}: {}\n", plain(&loser.url), why(winner, loser, &decision.unit));
    losers.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::LeftOutReport;

    fn rated(url: &str, terms: &[(&str, f64)]) -> RatedReport {
        RatedReport {
            url: url.into(),
            score: terms.iter().map(|(_, by)| by).sum(),
            terms: terms.iter().map(|(name, by)| ((*name).to_owned(), *by)).collect(),
            throughput_bytes_per_second: 10.0 * 1_048_576.0,
            time_to_first_byte_ms: 2.44,
            load_bytes: 1 << 20,
            in_flight_fetches: 1,
            weight: 1.0,
        }
    }

    fn decision() -> DecisionReport {
        DecisionReport {
            ago_ms: 1500.0,
            path: Some(PathText(b"a\x1b.bin".to_vec())),
            offset_bytes: 8192,
            bytes: 5000,
            first_page: 2,
            pages: 2,
            class: "readahead".into(),
            strategy: "adaptive".into(),
            cause: "wanted".into(),
            considered: 2,
            unit: "ms".into(),
            mirrors: vec![
                rated("http://b/", &[("latency", 2.4), ("queue", 100.0), ("doubt", 0.0)]),
                rated("http://a/", &[("latency", 7.4), ("queue", 120.0), ("doubt", 0.0)]),
            ],
            ..DecisionReport::default()
        }
    }

    fn has(text: &str, said: &[&str]) {
        for said in said {
            assert!(text.contains(said), "{said:?} is not in:\n{text}");
        }
    }

    #[test]
    fn a_decision_shows_the_numbers_and_the_words() {
        let text = decision_text(&decision());
        has(
            &text,
            &[
                "1.5 s ago: 4.88 KiB at byte 8192 of a\u{fffd}.bin (pages 2 to 3), readahead, wanted, by adaptive; 2 mirrors could be asked:\n",
                "MIRROR            RATE  FIRST BYTE  IN FLIGHT  FETCHES  WEIGHT  +LATENCY  +QUEUE  =SCORE (ms)  RESULT\n",
                "http://b/  10.00 MiB/s      2.4 ms   1.00 MiB        1    1.00       2.4   100.0        102.4  won\n",
                "http://a/  10.00 MiB/s      2.4 ms   1.00 MiB        1    1.00       7.4   120.0        127.4  +25.0\n",
                "  not http://a/: 20.0 ms more queue, 5.0 ms more latency: 25.0 ms later\n",
            ],
        );
        assert!(!text.contains("DOUBT"), "0 for all:\n{text}");
        let mut hedge = DecisionReport { cause: "hedge".into(), in_flight: true, considered: 12, ..decision() };
        has(&decision_text(&hedge), &["a hedge, since", "on its way; the best 2 of 12 mirrors that could be asked:"]);
        (hedge.considered, hedge.path) = (1, None);
        hedge.mirrors.truncate(1);
        has(&decision_text(&hedge), &["of (a version that is forgotten)", "no other mirror could be asked:"]);
        hedge.mirrors.clear();
        has(&decision_text(&hedge), &["=SCORE"]);
    }

    #[test]
    fn terms_of_later_versions_are_shown_too() {
        let mut decision = decision();
        decision.mirrors[0].terms.insert("moon".into(), 3.0);
        has(&decision_text(&decision), &["+QUEUE  +MOON  =SCORE"]);
    }

    fn about(offset_bytes: Option<u64>, cached_bytes: u64) -> Option<AboutReport> {
        let path = PathText(b"a.bin".to_vec());
        let (size, asked_bytes, on_disk_bytes) = (8192, if offset_bytes.is_some() { 4096 } else { 8192 }, cached_bytes);
        Some(AboutReport {
            path,
            size,
            offset_bytes,
            asked_bytes,
            cached_bytes,
            on_disk_bytes,
            ..AboutReport::default()
        })
    }

    #[test]
    fn who_is_not_asked_for_the_file_is_said() {
        let mut about = about(None, 0).unwrap();
        let why = "serves other bytes on page 7".to_owned();
        about.left_out = vec![LeftOutReport { url: "http://b/".into(), standing: "differs".into(), why }];
        assert!(about_text(&about).ends_with("here\n  not http://b/: serves other bytes on page 7\n"));
    }

    #[test]
    fn a_page_says_where_it_is_and_where_it_came_from() {
        let mut about = about(Some(4096), 4096).unwrap();
        assert_eq!(about_text(&about), "a.bin, the page at byte 4096: on disk\n");
        about.came_from = Some("http://a/".into());
        about.came_ago_ms = Some(1500.0);
        about.in_memory_bytes = 4096;
        assert_eq!(
            about_text(&about),
            "a.bin, the page at byte 4096: in memory and on disk; it came from http://a/ 1.5 s ago\n"
        );
        about.on_disk_bytes = 0;
        has(&about_text(&about), &["4096: in memory; it came"]);
        (about.cached_bytes, about.in_memory_bytes, about.came_from) = (0, 0, None);
        assert_eq!(about_text(&about), "a.bin, the page at byte 4096: not here\n");
    }

    #[test]
    fn nothing_kept_says_why() {
        let mut report = ExplainReport {
            about: about(Some(0), 4096),
            decisions_made: 10,
            decisions_kept: 10,
            ..ExplainReport::default()
        };
        let no = |report: &ExplainReport, said: &str| has(&text(report, &[]), &[said]);
        no(&report, "no decision is kept about it: it is cached, and was fetched before this mount\n");
        report.about = about(None, 0);
        no(&report, "a.bin, 8.00 KiB: 0 B here\n");
        no(&report, "kept about it: nothing was fetched of it since the mount\n");
        (report.decisions_made, report.oldest_ago_ms) = (5000, Some(90_000.0));
        no(&report, "since the mount, or longer ago than the last 10 decisions, which go back 2 minutes\n");
        let fresh = ExplainReport::default();
        assert_eq!(text(&fresh, &[]), "no decision yet: nothing was fetched since the mount\n");
    }

    #[test]
    fn what_is_left_out_is_said() {
        let mut report = ExplainReport { decisions_matching: 3, ..ExplainReport::default() };
        let of_all = text(&report, &[decision()]);
        assert!(of_all.ends_with("\n2 older decisions are kept: --last 3 shows all\n"), "{of_all}");
        report.about = about(None, 0);
        has(&text(&report, &[decision()]), &["\n2 older decisions about it are kept: --last 3 shows all\n"]);
    }

    #[test]
    fn the_names_of_the_json_stay() {
        let names = |value: &serde_json::Value, names: &[&str]| {
            names.iter().for_each(|name| assert!(value.get(name).is_some(), "{name}"));
        };
        let report = ExplainReport { about: about(Some(0), 0), ..ExplainReport::default() };
        let value = serde_json::to_value(&report).unwrap();
        names(&value, &["about", "decisions_matching", "decisions_kept", "decisions_made", "oldest_ago_ms"]);
        names(&value["about"], &["path", "size", "offset_bytes", "asked_bytes", "cached_bytes"]);
        names(&value["about"], &["in_memory_bytes", "on_disk_bytes", "came_from", "came_ago_ms", "left_out"]);
        assert_eq!(serde_json::from_value::<ExplainReport>(value).unwrap(), report);
        let value = serde_json::to_value(decision()).unwrap();
        names(&value, &["number", "at_unix_ms", "ago_ms", "path", "offset_bytes", "bytes", "first_page", "pages"]);
        names(&value, &["class", "strategy", "cause", "fetch", "in_flight", "considered", "unit"]);
        names(&value["mirrors"][0], &["url", "score", "terms", "throughput_bytes_per_second"]);
        names(&value["mirrors"][0], &["time_to_first_byte_ms", "load_bytes", "in_flight_fetches", "weight"]);
        assert_eq!(serde_json::from_value::<DecisionReport>(value).unwrap(), decision());
    }
}
