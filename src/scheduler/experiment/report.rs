//! What an experiment has shown so far: plain data.

use super::shares::{Arm, Shares};
use super::tally::Estimate;
use crate::clock::Time;
use std::time::Duration;

/// What arms are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Bytes per second in which anything was in flight.
    Throughput,
    /// How long reads waited that had to wait for a mirror.
    Latency,
}

/// How many there are.
pub const METRICS: usize = 2;

impl Metric {
    /// All of them.
    pub const ALL: [Metric; METRICS] = [Metric::Throughput, Metric::Latency];

    /// Its name in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Throughput => "throughput",
            Metric::Latency => "latency",
        }
    }
}

/// An experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// When it was started.
    pub started: Time,
    /// How long a slice is.
    pub slice: Duration,
    /// How the slices are shared out.
    pub shares: Shares,
    /// How many slices a block has.
    pub block_slices: usize,
    /// Slices that are over and counted.
    pub slices: u64,
    /// Whose slice it is.
    pub arm: Arm,
    /// How often what is configured has changed since it was started, and when last: the live arm began anew then.
    pub renewals: u64,
    /// When that was last.
    pub renewed: Option<Time>,
    /// Those that have a share.
    pub arms: Vec<ArmReport>,
    /// Each of the others with control, by each metric.
    pub comparisons: Vec<Comparison>,
}

/// One arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArmReport {
    /// Which.
    pub arm: Arm,
    /// Of a hundred slices.
    pub share: u32,
    /// Its slices that are over.
    pub slices: u64,
    /// Fetches that began in the part of them that counts.
    pub fetches: u64,
    /// Reads that began to wait there.
    pub reads: u64,
    /// Bytes that came there.
    pub bytes: u64,
    /// For how long anything was in flight there, in seconds.
    pub busy_seconds: f64,
    /// Bytes per second in which anything was in flight.
    pub bytes_per_second: Option<Estimate>,
    /// The median wait of a slice, in seconds.
    pub wait_p50_seconds: Option<Estimate>,
    /// The P99.
    pub wait_p99_seconds: Option<Estimate>,
}

/// One arm and control.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Which.
    pub arm: Arm,
    /// By what.
    pub metric: Metric,
    /// Blocks in which both were seen.
    pub blocks: u64,
    /// By what part it is more than control: 0.2 is a fifth more, of latency a fifth longer.
    pub difference: Option<f64>,
    /// Where that is, whenever it is looked at, with 99 % for all comparisons of the experiment together.
    pub interval: Option<(f64, f64)>,
}

impl Comparison {
    /// More or less than control; nothing where that is not shown.
    pub fn verdict(&self) -> Option<std::cmp::Ordering> {
        match self.interval? {
            (low, _) if low > 0.0 => Some(std::cmp::Ordering::Greater),
            (_, high) if high < 0.0 => Some(std::cmp::Ordering::Less),
            _ => None,
        }
    }
}
