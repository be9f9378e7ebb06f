//! What came of a scenario, in figures.

use super::ideal;
use super::reader::PAUSE;
use super::scenario::Scenario;
use super::world::World;
use crate::scheduler::Strategy;
use serde::Serialize;
use std::time::Duration;

/// So many mirrors are run alone: the fluid model's best may be one that resets every second answer.
const ALONE_MAX: usize = 3;
/// A mirror alone is run for so many times what all together took.
const ALONE_TIMES_MAX: f64 = 4.0;

/// The figures of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What was run.
    pub scenario: String,
    /// By which strategy.
    pub strategy: String,
    /// From which seed.
    pub seed: u64,
    /// Everybody got everything before the end.
    pub finished: bool,
    /// Until the last one was through.
    pub seconds: f64,
    /// The fluid model's seconds.
    pub ideal_seconds: f64,
    /// Its seconds over ours.
    pub share_of_ideal: f64,
    /// The mirror that would be the best alone.
    pub best_mirror: usize,
    /// The fluid seconds of that mirror alone, over ours; where it was run, what the best of the few best
    /// took alone, simulated, over ours.
    pub share_of_best_alone: f64,
    /// What that took.
    pub best_alone_seconds: f64,
    /// Reads, and those of them that had to wait.
    pub reads: u64,
    /// Reads that had to wait.
    pub waits: usize,
    /// The median of those waits, in milliseconds.
    pub wait_p50_ms: f64,
    /// Their 99th percentile.
    pub wait_p99_ms: f64,
    /// The longest.
    pub longest_wait_ms: f64,
    /// Waits above 300 ms.
    pub pauses: usize,
    /// Bytes that were received and thrown away, over bytes wanted.
    pub waste: f64,
    /// Distinct bytes that somebody asked for.
    pub wanted_bytes: u64,
    /// Body bytes that came.
    pub wire_bytes: u64,
    /// Range requests.
    pub requests: u64,
    /// Requests for one byte.
    pub probes: u64,
    /// Reads that failed, and those that nobody answered in time.
    pub errors: usize,
    /// Things that a person was told.
    pub alerts: usize,
    /// Bytes of each mirror, by second.
    pub bytes_by_second: Vec<Vec<f64>>,
    /// A hash over every action and its time.
    pub trace: String,
}

impl Outcome {
    /// Run `scenario` once.
    pub fn of(scenario: &Scenario, strategy: Strategy, seed: u64) -> Outcome {
        let mut world = scenario.world(strategy, seed);
        world.run(scenario.until.as_millis() as u64);
        Outcome::read(scenario, strategy, seed, &world)
    }

    /// The same, and beside it those mirrors alone that the fluid model finds the best. What takes four times
    /// as long alone is not run to its end.
    pub fn beside_alone(scenario: &Scenario, strategy: Strategy, seed: u64) -> Outcome {
        let mut outcome = Outcome::of(scenario, strategy, seed);
        let (links, demands) = (scenario.links(), scenario.demands());
        let mut fluid: Vec<(usize, f64)> = (0..links.len())
            .map(|at| (at, ideal::seconds(&links[at..=at], &demands)))
            .filter(|(_, seconds)| seconds.is_finite())
            .collect();
        fluid.sort_by(|one, other| one.1.total_cmp(&other.1));
        let until = Duration::from_secs_f64(outcome.seconds * ALONE_TIMES_MAX).min(scenario.until);
        let run = |at: usize| Outcome::of(&Scenario { until, ..scenario.alone(at) }, strategy, seed).seconds;
        let alone = fluid.iter().take(ALONE_MAX).map(|&(at, _)| (at, run(at)));
        if let Some((at, seconds)) = alone.min_by(|one, other| one.1.total_cmp(&other.1)) {
            outcome.best_mirror = at;
            outcome.best_alone_seconds = seconds;
            outcome.share_of_best_alone = seconds / outcome.seconds.max(1e-9);
        }
        outcome
    }

    fn read(scenario: &Scenario, strategy: Strategy, seed: u64, world: &World) -> Outcome {
        let (links, demands) = (scenario.links(), scenario.demands());
        let seconds = world.now.0 as f64 / 1e9;
        let ideal_seconds = ideal::seconds(&links, &demands);
        let (best_mirror, best_seconds) = ideal::best_alone(&links, &demands).unwrap_or((0, f64::INFINITY));
        let mut waits: Vec<Duration> = world.readers.iter().flat_map(|reader| reader.waits.clone()).collect();
        waits.sort_unstable();
        let ms = |wait: Duration| wait.as_secs_f64() * 1e3;
        let wire_bytes = world.wire_bytes();
        let wanted_bytes = world.wanted_bytes;
        let failed: usize = world.readers.iter().map(|reader| reader.errors.len() + reader.timed_out as usize).sum();
        Outcome {
            scenario: scenario.name.clone(),
            strategy: strategy.to_string(),
            seed,
            finished: world.now < crate::clock::Time(0) + scenario.until,
            seconds,
            ideal_seconds,
            share_of_ideal: ideal_seconds.min(seconds * 1e3) / seconds.max(1e-9),
            best_mirror,
            share_of_best_alone: best_seconds.min(seconds * 1e3) / seconds.max(1e-9),
            best_alone_seconds: best_seconds,
            reads: world.readers.iter().map(|reader| reader.reads).sum(),
            waits: waits.len(),
            wait_p50_ms: ms(percentile(&waits, 0.5)),
            wait_p99_ms: ms(percentile(&waits, 0.99)),
            longest_wait_ms: ms(waits.last().copied().unwrap_or_default()),
            pauses: waits.iter().filter(|&&wait| wait > PAUSE).count(),
            waste: (wire_bytes - wanted_bytes as f64).max(0.0) / (wanted_bytes as f64).max(1.0),
            wanted_bytes,
            wire_bytes: wire_bytes.round() as u64,
            requests: world.mirrors.iter().map(|mirror| mirror.requests).sum(),
            probes: world.mirrors.iter().map(|mirror| mirror.probes).sum(),
            errors: failed,
            alerts: world.alerts.len(),
            bytes_by_second: world.mirrors.iter().map(|mirror| mirror.wire_by_second.clone()).collect(),
            trace: format!("{:016x}", world.trace),
        }
    }
}

/// The value below which this part of `sorted` lies.
pub(super) fn percentile<T: Copy + Default>(sorted: &[T], part: f64) -> T {
    let at = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::scenario::{MirrorPlan, Order, ReaderPlan};

    #[test]
    fn percentiles_are_values_of_the_list() {
        assert_eq!(percentile(&[1, 2, 3, 4], 0.5), 2);
        assert_eq!(percentile(&[1, 2, 3, 4], 0.99), 4);
        assert_eq!(percentile::<u64>(&[], 0.5), 0);
    }

    #[test]
    fn nobody_beats_the_ideal_and_nothing_is_lost() {
        let scenario = Scenario {
            name: "two".into(),
            mirrors: [10e6, 20e6].map(|rate| MirrorPlan::new(rate, Duration::from_millis(10))).to_vec(),
            readers: vec![ReaderPlan::new(Order::Sequential, (32 << 20) + 5, 128 << 10)],
            prefetches: Vec::new(),
            memory_bytes: 256 << 20,
            hedging: true,
            until: Duration::from_secs(60),
            seed: 1,
        };
        let outcome = Outcome::of(&scenario, Strategy::Adaptive, 1);
        assert!(outcome.finished && outcome.errors == 0, "{outcome:?}");
        assert!((0.8..=1.0).contains(&outcome.share_of_ideal), "{outcome:?}");
        assert_eq!((outcome.wanted_bytes, outcome.best_mirror), ((32 << 20) + 5, 1));
        assert!(outcome.waste < 0.05 && outcome.wire_bytes >= outcome.wanted_bytes, "{outcome:?}");
        assert_eq!(outcome.trace, Outcome::of(&scenario, Strategy::Adaptive, 1).trace);
    }
}
