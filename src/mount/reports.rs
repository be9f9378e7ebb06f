//! What the engine reports, in the words of `--json`.

use crate::chunk::{Class, MirrorId, PAGE_BYTES};
use crate::clock::{self, Time};
use crate::control::file_report::{Dissenter, FileReport, MapRun, PathKind, Place};
use crate::control::protocol::PathText;
use crate::control::reading::ReadingReport;
use crate::control::report::{AboutReport, DecisionReport, ExplainReport, LeftOutReport};
use crate::control::report::{
    HandoffReport, MirrorDetail, MirrorReport, MirrorsReport, PinnedPath, RatedReport, StatusReport, SupposedReport,
};
use crate::fetch::asking::{About, Explained, Explanation, Mirrors};
use crate::fetch::{self, held, report, stat};
use crate::scheduler::explain::{Cause, Rated};
use crate::scheduler::strategy::Term;
use crate::scheduler::{ConnectionStability, Failures, MirrorSnapshot, Standing, Strategy, Supposition};
use std::collections::BTreeMap;
use std::time::Duration;

/// `status`.
pub fn status(seen: report::Report) -> StatusReport {
    let count = |name: &str| seen.counters.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value);
    let (reads, bytes_read, bytes_fetched) = (count("reads"), count("read_bytes"), count("fetched_bytes"));
    let (disk_state, disk_trouble) = match (seen.disk_trouble, seen.disk_full, seen.disk_limit) {
        (_, _, 0) => ("none", None),
        (Some(why), _, _) => ("failing", Some(why)),
        (None, Some(why), _) => ("full", Some(why)),
        (None, None, _) => ("ok", None),
    };
    let state = match (&disk_trouble, seen.offline) {
        (_, true) => "offline",
        (Some(_), false) => "reading-through",
        (None, false) => "online",
    };
    let (pins, pinned_bytes) = seen.pins;
    StatusReport {
        pid: std::process::id(),
        uptime_s: seen.uptime.as_secs_f64(),
        state: state.into(),
        bytes_read,
        bytes_fetched,
        read_amplification: (bytes_read > 0).then(|| bytes_fetched as f64 / bytes_read as f64),
        reads,
        read_errors: count("read_errors"),
        hit_ratio: (reads > 0).then(|| 1.0 - count("read_misses") as f64 / reads as f64),
        memory_bytes: seen.memory_bytes,
        memory_limit: seen.memory_limit,
        disk_bytes: seen.disk_bytes,
        disk_limit: seen.disk_limit,
        disk_state: disk_state.into(),
        disk_trouble,
        pins: pins.into_iter().map(|pin| PinnedPath { path: PathText(pin.path), bytes: pin.bytes }).collect(),
        pinned_bytes,
        oldest_operation_ms: seen.oldest_read.map(|age| age.as_millis() as u64),
        handoff: seen.handoff.map(handoff),
        mirrors: seen.mirrors.into_iter().map(mirror).collect(),
        counters: seen.counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        ..StatusReport::default()
    }
}

fn handoff(seen: fetch::handoff::HandoffReport) -> HandoffReport {
    let micros = |length: Duration| length.as_secs_f64() * 1e6;
    HandoffReport {
        count: seen.count,
        median_us: micros(seen.median),
        p99_us: micros(seen.p99),
        longest_us: micros(seen.longest),
    }
}

/// An open file of it.
pub fn reading(seen: fetch::reading::Reading) -> ReadingReport {
    ReadingReport {
        path: PathText(seen.path),
        size: seen.size_bytes,
        users: seen.users,
        bytes_read: seen.read_bytes,
        on_disk_bytes: seen.disk_bytes,
        in_flight_fetches: seen.in_flight_fetches,
        map: seen.map,
    }
}

/// One mirror of it.
fn mirror(seen: report::MirrorReport) -> MirrorReport {
    MirrorReport {
        url: seen.url,
        state: seen.state,
        reason: seen.reason,
        next_try_s: seen.next_try.map(|length| length.as_secs_f64()),
        bytes_fetched: seen.fetched_bytes,
        throughput_bytes_per_second: seen.bytes_per_second,
        time_to_first_byte_ms: seen.first_byte.map(|length| length.as_secs_f64() * 1e3),
        in_flight_bytes: seen.in_flight_bytes,
        in_flight_fetches: seen.in_flight_fetches,
        load: seen.load,
        weight: seen.weight,
        failures: seen.failures,
        last_failure: seen.last_failure,
        lies: seen.lies,
    }
}

/// `stat` and `status FILE`.
pub fn file(path: &[u8], seen: stat::FileReport) -> FileReport {
    FileReport {
        path: PathText(path.to_vec()),
        kind: if seen.folder { PathKind::Folder } else { PathKind::File },
        size: seen.size_bytes,
        modified_unix_s: seen.modified_unix_s,
        cached_bytes: seen.held.either_bytes,
        in_memory_bytes: seen.held.memory_bytes,
        on_disk_bytes: seen.held.disk_bytes,
        cached_files: seen.files,
        complete: seen.complete,
        pinned: seen.pinned,
        version: seen.version,
        mirrors: seen.mirrors,
        dissenters: seen.dissenters.into_iter().map(|(url, why)| Dissenter { url, why }).collect(),
        cells: seen.cells,
        map: seen.map.runs.iter().map(map_run).collect(),
        map_merged: seen.map.merged,
    }
}

fn map_run(run: &held::MapRun) -> MapRun {
    let place = match (run.memory, run.disk) {
        (true, true) => Place::Both,
        (false, true) => Place::Disk,
        (true, false) | (false, false) => Place::Memory,
    };
    MapRun { offset_bytes: run.offset_bytes, bytes: run.bytes, cached_bytes: run.held_bytes, place }
}

/// `mirrors`.
pub fn mirrors(seen: Mirrors) -> MirrorsReport {
    let Mirrors { mirrors, scheduler, strategy_before } = seen;
    let at = clock::now();
    let sum_bytes: u64 = mirrors.iter().map(|(report, _)| report.fetched_bytes).sum();
    MirrorsReport {
        strategy: scheduler.strategy.name().into(),
        strategies: Strategy::ALL.map(|strategy| strategy.name().to_owned()).to_vec(),
        strategy_before: strategy_before.map(|strategy| strategy.name().into()),
        decisions: scheduler.decisions,
        requests: scheduler.requests,
        probes: scheduler.probes,
        light_probes: scheduler.light_probes,
        hedges_issued: scheduler.hedges.issued,
        hedges_won: scheduler.hedges.won,
        hedges_wasted_bytes: scheduler.hedges.wasted_bytes,
        demand_p99_ms: scheduler.demand_p99.map(millis),
        demand_objective_ms: millis(scheduler.demand_objective),
        background_share: scheduler.background_share,
        mirrors: mirrors.into_iter().map(|(report, seen)| detail(report, &seen, sum_bytes, at)).collect(),
        ..MirrorsReport::default()
    }
}

fn detail(report: report::MirrorReport, seen: &MirrorSnapshot, sum_bytes: u64, at: Time) -> MirrorDetail {
    let ago_s = |learned: Option<Time>| learned.map(|learned| at.seconds_since(learned));
    let ConnectionStability { resets, stalls, reconnects } = seen.connection_stability;
    MirrorDetail {
        bytes_share: (sum_bytes > 0).then(|| report.fetched_bytes as f64 / sum_bytes as f64),
        base_weight: seen.base_weight,
        window_bytes: seen.window_bytes,
        connections: seen.connections as u64,
        ranges: seen.ranges,
        decay: seen.decay.name().into(),
        trouble: seen.trouble,
        time_to_first_byte_p50_ms: seen.first_byte_quantiles.map(|(p50, _)| millis(p50)),
        time_to_first_byte_p99_ms: seen.first_byte_quantiles.map(|(_, p99)| millis(p99)),
        time_to_first_byte_counts: seen.first_byte_counts.to_vec(),
        jitter_ms: seen.jitter.map(millis),
        throughput_averaged: seen.rate_is_filtered,
        throughput_decay: seen.throughput_decay,
        error_rate: seen.error_rate,
        resets,
        stalls,
        reconnects,
        first_byte_learned_ago_s: ago_s(seen.learned.first_byte),
        throughput_learned_ago_s: ago_s(seen.learned.throughput),
        errors_learned_ago_s: ago_s(seen.learned.outcome),
        stability_index: seen.stability_index,
        failures_by_kind: by_kind(&seen.failures),
        supposed: seen.supposed.as_ref().map(supposed),
        status: mirror(report),
    }
}

fn supposed(seen: &Supposition) -> SupposedReport {
    SupposedReport {
        throughput_bytes_per_second: seen.bytes_per_second,
        time_to_first_byte_ms: seen.first_byte.map(millis),
        connections: seen.connections.map(|number| number as u64),
        no_ranges: seen.no_ranges,
        age_s: seen.age.as_secs_f64(),
        trust: seen.trust,
    }
}

fn by_kind(failures: &Failures) -> BTreeMap<String, u64> {
    let Failures { unreachable, throttled, missing, changed, corrupt, refused, stalled } = *failures;
    let named = [
        ("unreachable", unreachable),
        ("throttled", throttled),
        ("missing", missing),
        ("changed", changed),
        ("corrupt", corrupt),
        ("refused", refused),
        ("stalled", stalled),
    ];
    named.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect()
}

/// `explain`: its decisions, each made when its turn comes, and what comes after them.
pub fn explanation(seen: Explanation) -> (impl Iterator<Item = DecisionReport> + Send, ExplainReport) {
    let Explanation { about, decisions, matching, kept, made, oldest, at, urls } = seen;
    let report = ExplainReport {
        about: about.map(|it| about_report(it, at, &urls)),
        decisions_matching: matching as u64,
        decisions_kept: kept as u64,
        decisions_made: made,
        oldest_ago_ms: oldest.map(|oldest| millis(at.since(oldest))),
    };
    let at_unix_ms = clock::unix_millis();
    (decisions.into_iter().map(move |it| decision(it, at, at_unix_ms, &urls)), report)
}

fn about_report(about: About, at: Time, urls: &[String]) -> AboutReport {
    let origin = about.origin.as_ref();
    let begun = about.standings.iter().any(|(_, standing)| *standing == Standing::Agrees);
    let standings = about.standings.iter().filter(|_| begun);
    AboutReport {
        left_out: standings.filter_map(|&(mirror, standing)| left_out(url(mirror, urls), standing)).collect(),
        path: PathText(about.path),
        size: about.size_bytes,
        offset_bytes: about.offset_bytes,
        asked_bytes: about.held.asked_bytes,
        cached_bytes: about.held.either_bytes,
        in_memory_bytes: about.held.memory_bytes,
        on_disk_bytes: about.held.disk_bytes,
        came_from: origin.map(|origin| url(origin.mirror, urls)),
        came_ago_ms: origin.map(|origin| millis(at.since(origin.at))),
    }
}

/// Why a mirror is not asked for a file of which others brought bytes.
fn left_out(url: String, standing: Standing) -> Option<LeftOutReport> {
    let (standing, why) = match standing {
        Standing::Agrees => return None,
        Standing::Compared => ("being-compared", "is being compared with what is held of it just now".to_owned()),
        Standing::Unknown => ("not-compared", "was not compared with what is held of it yet".to_owned()),
        Standing::Differs { page } => ("differs", format!("serves other bytes than others, as seen on page {page}")),
    };
    Some(LeftOutReport { url, standing: standing.into(), why })
}

fn decision(seen: Explained, at: Time, at_unix_ms: i64, urls: &[String]) -> DecisionReport {
    let Explained { number, decided, in_flight, path, bytes } = seen;
    let ago_ms = millis(at.since(decided.at));
    let unit = unit(decided.strategy);
    DecisionReport {
        number,
        at_unix_ms: at_unix_ms - ago_ms as i64,
        ago_ms,
        path: path.map(PathText),
        offset_bytes: decided.pages.start * PAGE_BYTES,
        bytes,
        first_page: decided.pages.start,
        pages: decided.pages.count(),
        class: class(decided.class).into(),
        strategy: decided.strategy.name().into(),
        cause: cause(decided.cause).into(),
        fetch: decided.fetch.0,
        in_flight,
        considered: u64::from(decided.considered),
        unit: unit.name.into(),
        mirrors: decided.best.iter().flatten().map(|it| rated(it, &unit, urls)).collect(),
    }
}

fn rated(seen: &Rated, unit: &Unit, urls: &[String]) -> RatedReport {
    let terms = Term::ALL.into_iter().zip(seen.score.terms);
    let terms: BTreeMap<String, f64> =
        terms.map(|(term, value)| (term.name().to_owned(), f64::from(value) * unit.factor)).collect();
    RatedReport {
        url: url(seen.mirror, urls),
        // Not the scheduler's own sum in f32: here the terms are to add up to the last digit.
        score: terms.values().sum(),
        terms,
        throughput_bytes_per_second: f64::from(seen.bytes_per_second),
        time_to_first_byte_ms: f64::from(seen.latency_seconds) * 1e3,
        load_bytes: seen.load_bytes,
        in_flight_fetches: u64::from(seen.fetches),
        weight: f64::from(seen.weight),
    }
}

/// What a strategy counts in.
struct Unit {
    name: &'static str,
    factor: f64,
}

fn unit(strategy: Strategy) -> Unit {
    match strategy {
        Strategy::RoundRobin => Unit { name: "places", factor: 1.0 },
        Strategy::WeightedRandom => Unit { name: "lots", factor: 1.0 },
        Strategy::ResponseTimeFirst | Strategy::Adaptive | Strategy::Predicted => Unit { name: "ms", factor: 1e3 },
    }
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Demand => "demand",
        Class::Readahead => "readahead",
        Class::Prefetch => "prefetch",
    }
}

fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Wanted => "wanted",
        Cause::Hedge => "hedge",
    }
}

fn url(mirror: MirrorId, urls: &[String]) -> String {
    urls.get(usize::from(mirror.0)).cloned().unwrap_or_default()
}

fn millis(length: Duration) -> f64 {
    length.as_secs_f64() * 1e3
}
