//! What an experiment says: a verdict where the arms differ in truth, and none where they are alike.

use braidfs::chunk::Inode;
use braidfs::clock::Time;
use braidfs::scheduler::experiment::{Arm, Comparison, Experiment, Metric, Plan};
use braidfs::scheduler::{Event, Settings, Strategy};
use braidfs::simulate::mirror::SimMirror;
use braidfs::simulate::reader::SimReader;
use braidfs::simulate::world::World;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::cmp::Ordering;
use std::time::Duration;

const SEEDS: u64 = 200;
/// 2 %.
const WRONG_MAX: usize = 4;
/// Two hours of slices of 10 s.
const SLICES: usize = 720;

fn plan(shares: &str, slice: Duration) -> Plan {
    Plan::new(slice, shares.parse().unwrap()).unwrap()
}

fn of(comparisons: &[Comparison], arm: Arm, metric: Metric) -> Comparison {
    *comparisons.iter().find(|one| (one.arm, one.metric) == (arm, metric)).unwrap()
}

fn gauss(rng: &mut StdRng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

/// What the load does to a mount: from slice to slice it is mostly what it was, over an hour it swings, and now and then
/// all is three times slower for some slices.
struct Load {
    rng: StdRng,
    drift: f64,
    crowded_slices: u32,
}

impl Load {
    fn new(seed: u64) -> Load {
        Load { rng: StdRng::seed_from_u64(seed), drift: 0.0, crowded_slices: 0 }
    }

    /// By what everything takes longer in the next slice, as a logarithm.
    fn next(&mut self, slice: usize) -> f64 {
        // Of a deviation of 0.3: half of what it was a minute ago.
        self.drift = 0.9 * self.drift + 0.13 * gauss(&mut self.rng);
        if self.rng.random_bool(0.01) {
            self.crowded_slices = self.rng.random_range(1..12);
        }
        let crowded = if self.crowded_slices > 0 { 3f64.ln() } else { 0.0 };
        self.crowded_slices = self.crowded_slices.saturating_sub(1);
        self.drift + crowded + 0.3 * (slice as f64 / 360.0 * std::f64::consts::TAU).sin()
    }
}

/// The predictor's slices bring `factor` times the bytes, and its reads wait so much shorter. Returns what is said after
/// each block.
fn run(seed: u64, factor: f64) -> Vec<Vec<Comparison>> {
    let mut experiment = Experiment::new(plan("control=50,live=30,predictor=20", Plan::SLICE), seed, Time(0), 0);
    let (mut load, mut now, mut said) = (Load::new(seed + 1000), Time(0), Vec::new());
    for slice in 0..SLICES {
        let better = if experiment.arm() == Arm::Predictor { factor } else { 1.0 };
        let slower = load.next(slice).exp() / better;
        experiment.began(now, 1);
        for _ in 0..10 {
            now = now + Duration::from_secs(1);
            // The reads of one slice are alike, and more so than their number would say.
            let wait = 0.02 * slower * (0.3 * gauss(&mut load.rng)).exp();
            experiment.came(now, (1e7 / slower) as u64, 1);
            experiment.waited(now, Duration::from_secs_f64(wait.min(0.9)));
        }
        experiment.turn(now, 1);
        if slice % 10 == 9 {
            said.push(experiment.comparisons());
        }
    }
    said
}

#[test]
fn arms_that_are_alike_get_no_verdict_however_often_one_looks() {
    let is_wrong = |said: &Vec<Comparison>| said.iter().any(|one| one.verdict().is_some());
    let wrong = (0..SEEDS).filter(|&seed| run(seed, 1.0).iter().any(is_wrong)).count();
    println!("alike: {wrong} of {SEEDS} seeds had a verdict at one of {} looks", SLICES / 10);
    assert!(wrong <= WRONG_MAX, "{wrong} of {SEEDS}");
}

#[test]
fn an_arm_that_is_a_fifth_better_gets_its_verdict_and_the_other_none() {
    let (mut missed, mut wrong, mut blocks) = (0, 0, Vec::new());
    for seed in 0..SEEDS {
        let said = run(seed, 1.2);
        let shown = |said: &Vec<Comparison>| {
            let verdict = |metric| of(said, Arm::Predictor, metric).verdict();
            verdict(Metric::Throughput) == Some(Ordering::Greater) && verdict(Metric::Latency) == Some(Ordering::Less)
        };
        match said.iter().position(shown) {
            Some(at) => blocks.push(at + 1),
            None => missed += 1,
        }
        let is_wrong = |said: &Vec<Comparison>| {
            let live = Metric::ALL.map(|metric| of(said, Arm::Live, metric).verdict());
            let [more, less] = Metric::ALL.map(|metric| of(said, Arm::Predictor, metric).verdict());
            live != [None; 2] || more == Some(Ordering::Less) || less == Some(Ordering::Greater)
        };
        wrong += usize::from(said.iter().any(is_wrong));
    }
    blocks.sort_unstable();
    let median = blocks.get(blocks.len() / 2).copied().unwrap_or_default();
    let last = blocks.last().copied().unwrap_or_default();
    println!(
        "a fifth: {missed} of {SEEDS} missed, {wrong} wrong; shown after {median} blocks in the median, {last} at most"
    );
    assert!(missed <= WRONG_MAX && wrong <= WRONG_MAX, "{missed} missed, {wrong} wrong");
}

/// The true scheduler: readers here and there on mirrors of 40 and 8 MB/s, configured to use `strategy`.
fn simulated(strategy: Strategy, seed: u64, shares: &str, seconds: u64) -> World {
    const SIZE: u64 = 1 << 32;
    let mirrors = vec![SimMirror::new(40e6, 10), SimMirror::new(8e6, 40)];
    let mut world = World::with(Settings { strategy, ..Settings::default() }, mirrors, seed);
    world.listed();
    world.drop_read = true;
    let file: Inode = world.open(1, SIZE);
    world.readers.extend((1..=4).map(|id| SimReader::random(id + 10 * seed, file, SIZE, 1 << 20).reading(16)));
    let plan = plan(shares, Duration::from_secs(1));
    world.scheduler.handle(world.now, Event::ExperimentStarted { plan });
    world.run_until(seconds * 1000);
    world
}

#[test]
fn the_true_scheduler_is_split_and_a_bad_configuration_is_found() {
    for seed in 1..=2 {
        let world = simulated(Strategy::RoundRobin, seed, "control=50,live=50", 30);
        let report = world.scheduler.experiment().unwrap();
        let latency = of(&report.comparisons, Arm::Live, Metric::Latency);
        assert_eq!(latency.verdict(), Some(Ordering::Greater), "{latency:?}");
        assert_eq!(
            of(&report.comparisons, Arm::Live, Metric::Throughput).verdict(),
            Some(Ordering::Less),
            "{report:?}"
        );
        let [control, live] = report.arms[..] else { panic!("{report:?}") };
        assert!(control.fetches > 1000 && live.fetches > 500, "{control:?} {live:?}");
        // The scheduler goes by round-robin in the slices of the live arm and in no others.
        let of_live = world.scheduler.decisions().filter(|one| one.strategy == Strategy::RoundRobin).count();
        assert!(of_live > 500 && world.scheduler.decisions().any(|one| one.strategy == Strategy::Adaptive));
    }
}

#[test]
fn the_true_scheduler_with_the_defaults_configured_gets_no_verdict() {
    for seed in 1..=2 {
        let report = simulated(Strategy::Adaptive, seed, "control=50,live=50", 30).scheduler.experiment().unwrap();
        assert!(report.comparisons.iter().all(|one| one.verdict().is_none() && one.blocks > 10), "{report:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_slices_and_what_was_given_is_in_force_after_it() {
    let run = || simulated(Strategy::RoundRobin, 5, "control=50,live=25,predictor=25", 12);
    let (mut one, other) = (run(), run());
    assert_eq!((one.trace, one.scheduler.experiment()), (other.trace, other.scheduler.experiment()));
    let report = one.scheduler.experiment().unwrap();
    assert!(report.arms.len() == 3 && report.arms.iter().all(|arm| arm.fetches > 0), "{report:?}");
    one.scheduler.handle(one.now, Event::ExperimentStopped);
    let made = one.scheduler.decisions_made();
    one.run_until(14_000);
    let since = (one.scheduler.decisions_made() - made) as usize;
    let kept = one.scheduler.decisions().count();
    let after = one.scheduler.decisions().skip(kept.saturating_sub(since));
    assert!(since > 100 && after.into_iter().all(|one| one.strategy == Strategy::RoundRobin));
}
