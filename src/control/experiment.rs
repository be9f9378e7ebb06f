//! What the daemon is asked about experiments, and what it says of one. The names are those of `--json`: they are not
//! changed.

use super::protocol::Refusal;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Shows the experiment that runs, after starting or before ending it where that is asked for.
pub type AbDoor = Arc<dyn Fn(AbAsked) -> BoxFuture<'static, Result<AbReport, Refusal>> + Send + Sync>;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AbAsked {
    /// Start one first.
    pub start: Option<ExperimentAsked>,
    /// End it after this.
    pub stop: bool,
}

/// An experiment that is to be started.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ExperimentAsked {
    /// How long a slice is, in milliseconds.
    pub slice_ms: u64,
    /// How slices are shared out: `control=50,live=30,predictor=20`.
    pub arms: String,
}

/// That an experiment runs, in `status`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct ExperimentStatus {
    /// For how long it has run, in seconds.
    pub elapsed_s: f64,
    /// How long a slice is, in seconds.
    pub slice_s: f64,
    /// How slices are shared out.
    pub arms: String,
}

/// `braidfs ab`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct AbReport {
    /// Where it is mounted.
    pub mountpoint: String,
    /// The dataset's name.
    pub name: String,
    /// `false` where this command has ended it.
    pub running: bool,
    /// For how long it has run, in seconds.
    pub elapsed_s: f64,
    /// How long a slice is, in seconds.
    pub slice_s: f64,
    /// In so many slices each arm has its share: a block.
    pub block_slices: u64,
    /// Slices that are over and counted.
    pub slices: u64,
    /// Whose slice it is.
    pub arm: String,
    /// How often something else was configured since it was started. The live arm begins anew each time.
    pub reconfigured: u64,
    /// When that was last, in seconds from now.
    pub reconfigured_ago_s: Option<f64>,
    /// What is configured is what is built in: live and control are the same.
    pub live_is_control: bool,
    /// How sure intervals and verdicts are.
    pub confidence: f64,
    /// Those that have a share.
    pub arms: Vec<ArmReport>,
    /// Each of the others with control.
    pub comparisons: Vec<ComparisonReport>,
}

/// One arm.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct ArmReport {
    /// `control`, `live` or `predictor`.
    pub arm: String,
    /// Of a hundred slices.
    pub share: u64,
    /// How mirrors are chosen in its slices.
    pub strategy: String,
    /// Its slices that are over.
    pub slices: u64,
    /// Fetches that began in the part of them that counts.
    pub fetches: u64,
    /// Reads that began to wait there.
    pub reads: u64,
    /// Bytes that came there.
    pub bytes: u64,
    /// For how long anything was in flight there, in seconds.
    pub busy_s: f64,
    /// Bytes per second in which anything was in flight.
    pub throughput_bytes_per_second: Option<EstimateReport>,
    /// The median wait of its reads, in milliseconds.
    pub wait_p50_ms: Option<EstimateReport>,
    /// Their P99.
    pub wait_p99_ms: Option<EstimateReport>,
}

/// A figure: the median over slices.
#[derive(Serialize, Deserialize, Clone, Copy, Default, PartialEq, Debug)]
#[serde(default)]
pub struct EstimateReport {
    /// The median.
    pub value: f64,
    /// Where it is in truth, at the least; none with fewer than 8 slices.
    pub low: Option<f64>,
    /// And at the most.
    pub high: Option<f64>,
}

/// An arm beside control.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct ComparisonReport {
    /// Which.
    pub arm: String,
    /// `throughput`, or `latency`: how long reads waited that waited.
    pub metric: String,
    /// Blocks of slices in which both were seen.
    pub blocks: u64,
    /// By what part it is more than control's: 0.2 is a fifth more, or longer.
    pub difference: Option<f64>,
    /// Where that is in truth, whenever one looks, at the least; none while it may be anything.
    pub low: Option<f64>,
    /// And at the most.
    pub high: Option<f64>,
    /// `more`, `less`, or `none`: a difference is not shown.
    pub verdict: String,
    /// The same as a sentence.
    pub words: String,
}

impl ComparisonReport {
    /// Put it into words.
    pub fn worded(mut self) -> ComparisonReport {
        let (arm, blocks) = (&self.arm, self.blocks);
        let throughput = self.metric == "throughput";
        let of = if throughput { "throughput" } else { "waits" };
        self.words = match (self.difference, self.low.zip(self.high), self.verdict.as_str()) {
            (Some(difference), Some((low, high)), "more") => {
                let [by, low, high] = [difference, low, high].map(percent);
                match throughput {
                    true => format!("{arm} delivers {by} more than control (99 %: {low} to {high})"),
                    false => format!("reads wait {by} longer with {arm} than with control (99 %: {low} to {high})"),
                }
            }
            (Some(difference), Some((low, high)), "less") => {
                let [by, least, most] = [difference, high, low].map(|part| percent(-part));
                match throughput {
                    true => format!("{arm} delivers {by} less than control (99 %: {least} to {most})"),
                    false => format!("reads wait {by} shorter with {arm} than with control (99 %: {least} to {most})"),
                }
            }
            (_, Some((low, high)), _) => format!(
                "{of}: no difference of {arm} from control shown yet, after {blocks} blocks (99 %: {} to {})",
                signed(low),
                signed(high)
            ),
            (_, None, _) => format!("{of}: nothing to be said of {arm} yet, after {blocks} blocks"),
        };
        self
    }
}

fn percent(part: f64) -> String {
    match part.abs() < 0.1 {
        true => format!("{:.1} %", part * 100.0),
        false => format!("{:.0} %", part * 100.0),
    }
}

fn signed(part: f64) -> String {
    let sign = if part > 0.0 { "+" } else { "" };
    format!("{sign}{}", percent(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_sentences() {
        let words = |metric: &str, verdict: &str, difference, low, high| {
            let (arm, metric, verdict) = ("predictor".into(), metric.into(), verdict.into());
            let (difference, blocks) = (Some(difference), 40);
            ComparisonReport { arm, metric, blocks, difference, low, high, verdict, ..ComparisonReport::default() }
                .worded()
                .words
        };
        for (said, wanted) in [
            (
                words("throughput", "more", 0.18, Some(0.11), Some(0.25)),
                "predictor delivers 18 % more than control (99 %: 11 % to 25 %)",
            ),
            (
                words("throughput", "less", -0.18, Some(-0.25), Some(-0.011)),
                "predictor delivers 18 % less than control (99 %: 1.1 % to 25 %)",
            ),
            (
                words("latency", "less", -0.18, Some(-0.25), Some(-0.11)),
                "reads wait 18 % shorter with predictor than with control (99 %: 11 % to 25 %)",
            ),
            (
                words("latency", "more", 1.5, Some(1.0), Some(2.0)),
                "reads wait 150 % longer with predictor than with control (99 %: 100 % to 200 %)",
            ),
            (
                words("throughput", "none", 0.01, Some(-0.04), Some(0.06)),
                "throughput: no difference of predictor from control shown yet, after 40 blocks (99 %: -4.0 % to +6.0 %)",
            ),
            (words("latency", "none", 0.01, None, None), "waits: nothing to be said of predictor yet, after 40 blocks"),
        ] {
            assert_eq!(said, wanted);
        }
    }
}
