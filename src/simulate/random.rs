//! Scenarios that nobody thought of, from a seed, and how strategies do on many of them.

use super::mirror::{Change, Health};
use super::outcome::{Outcome, percentile};
use super::scenario::{MirrorPlan, Order, PlannedChange, ReaderPlan, Scenario};
use super::table::{head, row};
use crate::scheduler::Strategy;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use std::time::Duration;

/// A random scenario brings about so many seconds of what its mirrors have together …
const SECONDS: f64 = 8.0;
/// … but no more bytes than this.
const BYTES_MAX: f64 = 512e6;
/// The bandwidths of random mirrors, in bytes per second; all scales are as probable.
const BANDWIDTH: (f64, f64) = (0.3e6, 100e6);
/// Their times to first byte, in seconds.
const LATENCY: (f64, f64) = (0.001, 0.3);

/// The scenario of this seed. At least one of its mirrors is well all the time.
pub fn scenario(seed: u64) -> Scenario {
    let mut rng = StdRng::seed_from_u64(seed);
    let count = match rng.random_range(0..10) {
        0 => 1,
        1..=6 => rng.random_range(2..6),
        _ => rng.random_range(6..13),
    };
    let mirrors: Vec<MirrorPlan> = (0..count).map(|at| mirror(&mut rng, at == 0)).collect();
    let bandwidth: f64 = mirrors.iter().map(|plan| plan.bandwidth).sum();
    let bytes = (bandwidth * SECONDS).min(BYTES_MAX) as u64;
    Scenario {
        name: format!("random {seed}"),
        readers: readers(&mut rng, bytes),
        mirrors,
        prefetches: Vec::new(),
        memory_bytes: 256 << 20,
        hedging: true,
        until: Duration::from_secs(600),
        seed,
    }
}

/// A value between two, all scales alike.
pub(super) fn scaled(rng: &mut StdRng, (least, most): (f64, f64)) -> f64 {
    (rng.random_range(least.ln()..most.ln())).exp()
}

fn mirror(rng: &mut StdRng, good: bool) -> MirrorPlan {
    let latency = Duration::from_secs_f64(scaled(rng, LATENCY));
    let mut plan = MirrorPlan::new(scaled(rng, BANDWIDTH), latency);
    if rng.random_bool(0.5) {
        plan.jitter = latency.mul_f64(rng.random_range(0.05..0.5));
        plan.wobble = rng.random_range(0.0..0.3);
    }
    if rng.random_bool(0.15) {
        plan.connection_bandwidth = plan.bandwidth / rng.random_range(2.0..6.0);
    }
    if !good && rng.random_bool(0.4) {
        misbehave(rng, &mut plan);
    }
    plan
}

fn misbehave(rng: &mut StdRng, plan: &mut MirrorPlan) {
    let at = Duration::from_millis(rng.random_range(0..6000));
    let after = at + Duration::from_millis(rng.random_range(300..5000));
    let slower = plan.bandwidth * rng.random_range(0.01..0.3);
    let every = Duration::from_millis(rng.random_range(1000..4000));
    let once = |at, change| PlannedChange { at, every: None, change };
    let again = |at, change| PlannedChange { at, every: Some(2 * every), change };
    let comes_back = rng.random_bool(0.6);
    let mut bad = |health| {
        plan.changes.push(once(at, Change::Health(health)));
        if comes_back {
            plan.changes.push(once(after, Change::Health(Health::Up)));
        }
    };
    match rng.random_range(0..10) {
        0 => bad(Health::BlackHole),
        1 => bad(Health::Bodiless),
        2 => bad(Health::Refusing),
        3 => bad(Health::Throttling(2)),
        4 => plan.reset_every = rng.random_range(2..8),
        5 => plan.stall_every = rng.random_range(3..12),
        6 => plan.changes.push(once(at, Change::Rate(slower))),
        7 => {
            plan.changes.push(again(every, Change::Rate(slower)));
            plan.changes.push(again(2 * every, Change::Rate(plan.bandwidth)));
        }
        8 => plan.changes.push(again(every, Change::Hold(Duration::from_millis(rng.random_range(100..900))))),
        _ => plan.changes.push(once(at, Change::Latency(plan.latency * 5))),
    }
}

fn readers(rng: &mut StdRng, bytes: u64) -> Vec<ReaderPlan> {
    let reads = rng.random_range(50..400);
    match rng.random_range(0..20) {
        0..=9 => vec![ReaderPlan::new(Order::Sequential, bytes, 128 << 10)],
        10..=12 => {
            let each = bytes / 4;
            vec![ReaderPlan::new(Order::Sequential, each, 128 << 10); 4]
        }
        13..=14 => vec![ReaderPlan::new(Order::Random(reads), 1 << 30, 4096); 4],
        15..=16 => vec![ReaderPlan::new(Order::Random(reads), 1 << 30, 64 << 10); 8],
        17 => vec![ReaderPlan::new(Order::Strided(8 << 20), 1 << 30, 64 << 10)],
        18 => vec![ReaderPlan::new(Order::Files(reads), 60_000, 128 << 10)],
        _ => vec![
            ReaderPlan::new(Order::Sequential, bytes, 128 << 10),
            ReaderPlan::new(Order::Random(reads), 1 << 30, 4096),
        ],
    }
}

/// How one strategy did on many scenarios.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Which strategy.
    pub strategy: String,
    /// On those where the readers go in order (`streams`), or on all others (`single reads`).
    pub readers: &'static str,
    /// How many scenarios.
    pub scenarios: usize,
    /// Share of the ideal: median, 5th percentile, worst.
    pub share_of_ideal: [f64; 3],
    /// Share of the best mirror alone: median, 5th percentile, worst.
    pub share_of_best_alone: [f64; 3],
    /// Scenarios below 0.98 of the best mirror alone.
    pub below_best_alone: usize,
    /// The longest wait of a scenario in milliseconds: median, 95th percentile, worst.
    pub longest_wait_ms: [f64; 3],
    /// Waste of a scenario: median, 95th percentile, worst.
    pub waste: [f64; 3],
    /// Scenarios that did not end, or in which a read failed.
    pub failed: usize,
    /// The seeds of the five with the least share of the ideal.
    pub worst_seeds: Vec<u64>,
}

/// Does every reader of it go in order?
pub(super) fn streams(scenario: &Scenario) -> bool {
    scenario.readers.iter().all(|plan| plan.order == Order::Sequential)
}

/// What many outcomes of one strategy say together.
pub(super) fn summary(strategy: Strategy, readers: &'static str, outcomes: &[Outcome]) -> Summary {
    let sorted = |figure: fn(&Outcome) -> f64| {
        let mut all: Vec<f64> = outcomes.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let least = |all: Vec<f64>| [percentile(&all, 0.5), percentile(&all, 0.05), percentile(&all, 0.0)];
    let most = |all: Vec<f64>| [percentile(&all, 0.5), percentile(&all, 0.95), percentile(&all, 1.0)];
    let mut worst: Vec<&Outcome> = outcomes.iter().collect();
    worst.sort_by(|one, other| one.share_of_ideal.total_cmp(&other.share_of_ideal));
    Summary {
        strategy: strategy.to_string(),
        readers,
        scenarios: outcomes.len(),
        share_of_ideal: least(sorted(|outcome| outcome.share_of_ideal)),
        share_of_best_alone: least(sorted(|outcome| outcome.share_of_best_alone)),
        below_best_alone: outcomes.iter().filter(|outcome| outcome.share_of_best_alone < 0.98).count(),
        longest_wait_ms: most(sorted(|outcome| outcome.longest_wait_ms)),
        waste: most(sorted(|outcome| outcome.waste)),
        failed: outcomes.iter().filter(|outcome| !outcome.finished || outcome.errors > 0).count(),
        worst_seeds: worst.iter().take(5).map(|outcome| outcome.seed).collect(),
    }
}

/// Summaries as a table.
pub(super) fn table(summaries: &[Summary]) -> String {
    let mut text = head(&[
        "strategy",
        "readers",
        "scenarios",
        "share of the ideal: median / 5 % / worst",
        "of the best alone: median / 5 % / worst",
        "below 0.98 of it",
        "longest wait ms: median / 95 % / worst",
        "waste %: median / 95 % / worst",
        "failed",
        "worst seeds",
    ]);
    let three = |of: [f64; 3]| format!("{:.3} / {:.3} / {:.3}", of[0], of[1], of[2]);
    for summary in summaries {
        let [p50, p95, worst] = summary.longest_wait_ms;
        let waste = summary.waste.map(|part| part * 100.0);
        let seeds: Vec<String> = summary.worst_seeds.iter().map(u64::to_string).collect();
        text += &row(&[
            summary.strategy.clone(),
            summary.readers.to_owned(),
            summary.scenarios.to_string(),
            three(summary.share_of_ideal),
            three(summary.share_of_best_alone),
            summary.below_best_alone.to_string(),
            format!("{p50:.0} / {p95:.0} / {worst:.0}"),
            format!("{:.2} / {:.2} / {:.2}", waste[0], waste[1], waste[2]),
            summary.failed.to_string(),
            seeds.join(" "),
        ]);
    }
    text
}
