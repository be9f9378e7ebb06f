//! An experiment: time is cut into slices, each is one arm's, and what the arms bring is compared (spec 8.5).
//!
//! Slices and not fetches are shared out: fetches of two arms at the same time would share links and get in each other's
//! way. A read, a fetch and a byte count for the slice in which they began (bytes: in which they came), but for those of its
//! beginning, while what the slice before asked for is still in flight.
//!
//! Fetches of one slice are alike, so the unit of the comparison is larger: for each block of slices the mean of the
//! logarithms of an arm's slices, less that of control's. See [`blocks`] for why these are 0 in the mean where the
//! arms are alike, and [`sequence`] for the test, which may be looked at as often as one likes.

mod blocks;
mod report;
mod sequence;
mod shares;
mod slice;
mod tally;

pub use report::{ArmReport, Comparison, METRICS, Metric, Report};
pub use shares::{ARMS, Arm, BadShares, Shares};
pub use tally::Estimate;

use crate::clock::Time;
use blocks::Blocks;
use sequence::Sequence;
use slice::{Figures, Slice};
use std::time::Duration;
use tally::Tally;

/// How seldom any comparison of an experiment is wrong.
pub const ALPHA: f64 = 0.01;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How long a slice is.
    pub slice: Duration,
    /// How they are shared out.
    pub shares: Shares,
}

impl Plan {
    /// Less, and most of it would be waiting for what is in flight of the slice before.
    pub const SLICE_MIN: Duration = Duration::from_secs(1);
    /// More, and an hour has too few to show anything.
    pub const SLICE_MAX: Duration = Duration::from_secs(600);
    /// What is usual.
    pub const SLICE: Duration = Duration::from_secs(10);

    /// Of slices of this length.
    ///
    /// # Errors
    /// It is out of bounds.
    pub fn new(slice: Duration, shares: Shares) -> Result<Plan, BadSlice> {
        match slice {
            short if short < Plan::SLICE_MIN => Err(BadSlice::Short(slice)),
            long if long > Plan::SLICE_MAX => Err(BadSlice::Long(slice)),
            _ => Ok(Plan { slice, shares }),
        }
    }
}

/// A slice of a length that shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSlice {
    /// Too short.
    #[error("a slice of {0:?} is over before what the slice before asked for has come: give 1s or more")]
    Short(Duration),
    /// Too long.
    #[error("with slices of {0:?} it takes days to show anything: give 10min or less")]
    Long(Duration),
}

/// An experiment that runs.
#[derive(Debug)]
pub struct Experiment {
    plan: Plan,
    started: Time,
    blocks: Blocks,
    now: Slice,
    /// The slice before: reads that began in it may still wait.
    before: Option<Slice>,
    tallies: [Tally; ARMS],
    /// Of the block that is being counted: its number, and of each arm and metric the sum and how many slices that is.
    block: u64,
    sums: [[(f64, u32); METRICS]; ARMS],
    /// Differences from control, by arm.
    differences: [[Sequence; METRICS]; ARMS],
    renewals: u64,
    renewed: Option<Time>,
}

impl Experiment {
    /// From now on, with `live` fetches in flight. The same seed gives the same slices.
    pub fn new(plan: Plan, seed: u64, now: Time, live: usize) -> Experiment {
        let mut blocks = Blocks::new(&plan.shares, seed);
        let (arm, block) = blocks.next();
        Experiment {
            plan,
            started: now,
            blocks,
            now: Slice::new(arm, block, 0, now, plan.slice, live),
            before: None,
            tallies: Default::default(),
            block,
            sums: Default::default(),
            differences: Default::default(),
            renewals: 0,
            renewed: None,
        }
    }

    /// Whose slice it is.
    pub fn arm(&self) -> Arm {
        self.now.arm
    }

    /// When the next one begins.
    pub fn due(&self) -> Time {
        self.now.ends()
    }

    /// Begin the next slice where it is time, with `live` fetches in flight. Returns whether it was.
    pub fn turn(&mut self, now: Time, live: usize) -> bool {
        let due = self.due();
        if now < due {
            return false;
        }
        self.now.pass(now, live);
        let (arm, block) = self.blocks.next();
        // Where nothing happened for long, no slices passed either.
        let begins = if now < due + self.plan.slice { due } else { now };
        let next = Slice::new(arm, block, self.renewals, begins, self.plan.slice, live);
        if let Some(over) = self.before.replace(std::mem::replace(&mut self.now, next)) {
            self.count(&over);
        }
        true
    }

    /// A fetch begins; `live` are in flight with it.
    pub fn began(&mut self, now: Time, live: usize) {
        self.now.began(now, live);
    }

    /// A fetch that began at `began` is in flight no more; `live` are left.
    pub fn ended(&mut self, now: Time, began: Time, live: usize) {
        self.now.ended(now, began, live);
    }

    /// Bytes came that were not held; `live` fetches are in flight.
    pub fn came(&mut self, now: Time, bytes: u64, live: usize) {
        self.now.pass(now, live);
        self.now.came(now, bytes);
    }

    /// A read is answered that waited so long.
    pub fn waited(&mut self, now: Time, waited: Duration) {
        let began = Time(now.0.saturating_sub(waited.as_nanos() as u64));
        if !self.now.waited(began, waited)
            && let Some(before) = &mut self.before
        {
            before.waited(began, waited);
        }
    }

    /// Something else is configured: what is known of the live arm is of another one.
    pub fn renew(&mut self, now: Time) {
        self.renewals += 1;
        self.renewed = Some(now);
        let live = Arm::Live as usize;
        self.tallies[live] = Tally::default();
        self.sums[live] = Default::default();
        self.differences[live] = Default::default();
    }

    /// A slice is over, and its reads are answered.
    fn count(&mut self, slice: &Slice) {
        if slice.block != self.block {
            self.compare();
            self.block = slice.block;
        }
        // It began with something else in force than what the arm is now.
        if slice.arm == Arm::Live && slice.version != self.renewals {
            return;
        }
        let figures = slice.figures();
        self.tallies[slice.arm as usize].add(slice, figures);
        for metric in Metric::ALL {
            if let Some(log) = log_of(metric, &figures) {
                let (sum, count) = &mut self.sums[slice.arm as usize][metric as usize];
                (*sum, *count) = (*sum + log, *count + 1);
            }
        }
    }

    /// A block is over.
    fn compare(&mut self) {
        let sums = std::mem::take(&mut self.sums);
        for metric in Metric::ALL {
            let mean = |arm: Arm| {
                let (sum, count) = sums[arm as usize][metric as usize];
                (count > 0).then(|| sum / f64::from(count))
            };
            for arm in Arm::COMPARED {
                if let (Some(arms), Some(controls)) = (mean(arm), mean(Arm::Control)) {
                    self.differences[arm as usize][metric as usize].add(arms - controls);
                }
            }
        }
    }

    /// What it has shown so far.
    pub fn report(&self) -> Report {
        let shares = self.plan.shares;
        Report {
            started: self.started,
            slice: self.plan.slice,
            shares,
            block_slices: self.blocks.slices(),
            slices: self.tallies.iter().map(|tally| tally.slices).sum(),
            arm: self.now.arm,
            renewals: self.renewals,
            renewed: self.renewed,
            arms: Arm::ALL.into_iter().filter(|&arm| shares.of(arm) > 0).map(|arm| self.arm_report(arm)).collect(),
            comparisons: self.comparisons(),
        }
    }

    /// Each of the other arms with control, by each metric.
    pub fn comparisons(&self) -> Vec<Comparison> {
        let compared = Arm::COMPARED.into_iter().filter(|&arm| self.plan.shares.of(arm) > 0);
        let pairs: Vec<_> = compared.flat_map(|arm| Metric::ALL.map(|metric| (arm, metric))).collect();
        // Bonferroni: each may be wrong so seldom that all together are as sure as is said.
        let alpha = ALPHA / pairs.len() as f64;
        pairs.into_iter().map(|(arm, metric)| self.comparison(arm, metric, alpha)).collect()
    }

    fn arm_report(&self, arm: Arm) -> ArmReport {
        let tally = &self.tallies[arm as usize];
        ArmReport {
            arm,
            share: self.plan.shares.of(arm),
            slices: tally.slices,
            fetches: tally.fetches,
            reads: tally.reads,
            bytes: tally.bytes,
            busy_seconds: tally.busy_seconds,
            bytes_per_second: tally.estimate(|figures| figures.bytes_per_second),
            wait_p50_seconds: tally.estimate(|figures| figures.wait_p50),
            wait_p99_seconds: tally.estimate(|figures| figures.wait_p99),
        }
    }

    fn comparison(&self, arm: Arm, metric: Metric, alpha: f64) -> Comparison {
        let sequence = &self.differences[arm as usize][metric as usize];
        Comparison {
            arm,
            metric,
            blocks: sequence.count(),
            difference: sequence.mean().map(f64::exp_m1),
            interval: sequence.interval(alpha).map(|(low, high)| (low.exp_m1(), high.exp_m1())),
        }
    }
}

/// What a slice adds to its arm's side of a comparison: logarithms, so that differences are parts.
fn log_of(metric: Metric, figures: &Figures) -> Option<f64> {
    match metric {
        Metric::Throughput => figures.bytes_per_second.map(f64::ln),
        Metric::Latency => figures.wait_log,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn plan(shares: &str) -> Plan {
        Plan::new(Duration::from_secs(1), shares.parse().unwrap()).unwrap()
    }

    /// One slice in which each read waits `wait_ms` and so many bytes come in a second.
    fn go(experiment: &mut Experiment, now: &mut Time, wait_ms: u64, bytes: u64) {
        experiment.began(*now, 1);
        for _ in 0..10 {
            *now = Time(now.0 + 100 * MS);
            experiment.came(*now, bytes / 10, 1);
            experiment.waited(*now, Duration::from_millis(wait_ms));
        }
        experiment.ended(*now, Time(now.0 - 1000 * MS), 0);
        experiment.turn(*now, 0);
    }

    #[test]
    fn what_happens_in_a_slice_is_its_arms() {
        let (mut now, mut experiment) = (Time(0), Experiment::new(plan("control=50,predictor=50"), 1, Time(0), 0));
        for _ in 0..42 {
            let slow = experiment.arm() == Arm::Predictor;
            go(&mut experiment, &mut now, if slow { 20 } else { 10 }, if slow { 1_000_000 } else { 2_000_000 });
        }
        let report = experiment.report();
        let [control, predictor] = report.arms[..] else { panic!("{report:?}") };
        // The last one is open.
        assert_eq!(report.slices, 41);
        assert!(control.slices + predictor.slices == 41 && control.fetches == control.slices);
        let rate = predictor.bytes_per_second.unwrap();
        assert!((rate.value - 1e6).abs() < 1e5 && rate.interval.is_some(), "{rate:?}");
        assert!((control.wait_p50_seconds.unwrap().value - 0.01).abs() < 1e-9);
        assert!((predictor.wait_p99_seconds.unwrap().value - 0.02).abs() < 1e-9);
        assert!(report.comparisons.iter().all(|one| one.arm == Arm::Predictor && one.blocks == 20));
    }

    #[test]
    fn another_configuration_begins_the_live_arm_anew() {
        let (mut now, mut experiment) = (Time(0), Experiment::new(plan("control=50,live=50"), 1, Time(0), 0));
        for _ in 0..20 {
            go(&mut experiment, &mut now, 10, 1_000_000);
        }
        experiment.renew(now);
        let report = experiment.report();
        assert_eq!((report.renewals, report.renewed), (1, Some(now)));
        let [control, live] = report.arms[..] else { panic!("{report:?}") };
        assert!(control.slices >= 9 && live.slices == 0 && live.bytes_per_second.is_none());
        assert!(report.comparisons.iter().all(|one| one.blocks == 0));
        for _ in 0..10 {
            go(&mut experiment, &mut now, 10, 1_000_000);
        }
        let report = experiment.report();
        assert!(report.arms[1].slices > 0 && report.comparisons[0].blocks > 0, "{report:?}");
    }

    #[test]
    fn no_slice_passes_while_nothing_happens() {
        let mut experiment = Experiment::new(plan("control=50,live=50"), 1, Time(0), 0);
        assert!(experiment.turn(Time(3_600_000 * MS), 0));
        assert!(!experiment.turn(Time(3_600_500 * MS), 0));
        assert_eq!(experiment.due(), Time(3_601_000 * MS));
    }

    #[test]
    fn slices_that_show_nothing_are_refused() {
        let of = |ms| Plan::new(Duration::from_millis(ms), Shares::default());
        assert!(of(1000).is_ok() && of(600_000).is_ok());
        assert!(of(999).unwrap_err().to_string().contains("a slice of 999ms is over before"));
        assert!(of(600_001).unwrap_err().to_string().contains("give 10min or less"));
    }
}
