//! The experiment of a mount: started, shown and ended by the control command.

use crate::clock::{Time, now};
use crate::control::experiment::{
    AbAsked, AbReport, ArmReport, ComparisonReport, EstimateReport, ExperimentAsked, ExperimentStatus,
};
use crate::control::protocol::{Refusal, RefusalKind};
use crate::fetch::experiment::Seen;
use crate::fetch::{Engine, Trouble};
use crate::scheduler::Strategy;
use crate::scheduler::experiment::{self, Comparison, Estimate, Plan, Shares};
use parking_lot::Mutex;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// See the module.
pub struct Experiments {
    engine: Arc<Engine>,
    /// The one that runs: since when, and how. For `status`, which waits for nobody.
    running: Mutex<Option<(Time, Plan)>>,
    /// Who starts and who ends one come one after the other, or `running` would be what the slower one says.
    turn: tokio::sync::Mutex<()>,
}

impl Experiments {
    /// None runs yet.
    pub fn new(engine: &Arc<Engine>) -> Experiments {
        Experiments { engine: engine.clone(), running: Mutex::new(None), turn: tokio::sync::Mutex::new(()) }
    }

    /// For `status`.
    pub fn status(&self) -> Option<ExperimentStatus> {
        let (since, plan) = (*self.running.lock())?;
        Some(ExperimentStatus {
            elapsed_s: now().seconds_since(since),
            slice_s: plan.slice.as_secs_f64(),
            arms: plan.shares.to_string(),
        })
    }

    /// `ab`.
    ///
    /// # Errors
    /// What is asked for is no experiment, one runs already, or none does.
    pub async fn ab(&self, asked: AbAsked) -> Result<AbReport, Refusal> {
        let _turn = self.turn.lock().await;
        if let Some(asked) = asked.start {
            return self.start(&asked).await;
        }
        let seen = match asked.stop {
            true => self.engine.stop_experiment().await,
            false => self.engine.experiment().await,
        };
        let Some(seen) = seen.map_err(ending)? else {
            let what = "no experiment runs on this mount: `braidfs ab PATH --start` starts one";
            return Err(Refusal::new(RefusalKind::Missing, what));
        };
        if asked.stop {
            *self.running.lock() = None;
            tracing::info!(slices = seen.report.slices, "the experiment was ended: what is configured is in force");
        }
        Ok(report(&seen, !asked.stop))
    }

    async fn start(&self, asked: &ExperimentAsked) -> Result<AbReport, Refusal> {
        let bad = |why: String| Refusal::new(RefusalKind::Request, why);
        let shares: Shares = asked.arms.parse().map_err(|why: experiment::BadShares| bad(why.to_string()))?;
        let plan = Plan::new(Duration::from_millis(asked.slice_ms), shares).map_err(|why| bad(why.to_string()))?;
        let Some(seen) = self.engine.start_experiment(plan).await.map_err(ending)? else {
            let what = "an experiment runs on this mount already: `braidfs ab PATH` shows it, --stop ends it";
            return Err(Refusal::new(RefusalKind::Busy, what));
        };
        *self.running.lock() = Some((seen.report.started, plan));
        tracing::info!(arms = %plan.shares, slice = ?plan.slice, "an experiment was started");
        Ok(report(&seen, true))
    }
}

fn ending(trouble: Trouble) -> Refusal {
    Refusal::new(RefusalKind::Failed, trouble.to_string())
}

fn report(seen: &Seen, running: bool) -> AbReport {
    let shown = &seen.report;
    AbReport {
        running,
        elapsed_s: seen.at.seconds_since(shown.started),
        slice_s: shown.slice.as_secs_f64(),
        block_slices: shown.block_slices as u64,
        slices: shown.slices,
        arm: shown.arm.name().into(),
        reconfigured: shown.renewals,
        reconfigured_ago_s: shown.renewed.map(|at| seen.at.seconds_since(at)),
        live_is_control: seen.live_is_control,
        confidence: 1.0 - experiment::ALPHA,
        arms: shown.arms.iter().map(|one| arm(one, seen.strategy)).collect(),
        comparisons: shown.comparisons.iter().map(comparison).collect(),
        ..AbReport::default()
    }
}

fn arm(seen: &experiment::ArmReport, live: Strategy) -> ArmReport {
    let millis = |estimate: Option<Estimate>| estimate.map(|one| scaled(one, 1e3));
    ArmReport {
        arm: seen.arm.name().into(),
        share: u64::from(seen.share),
        strategy: seen.arm.strategy(live).name().into(),
        slices: seen.slices,
        fetches: seen.fetches,
        reads: seen.reads,
        bytes: seen.bytes,
        busy_s: seen.busy_seconds,
        throughput_bytes_per_second: seen.bytes_per_second.map(|one| scaled(one, 1.0)),
        wait_p50_ms: millis(seen.wait_p50_seconds),
        wait_p99_ms: millis(seen.wait_p99_seconds),
    }
}

fn scaled(estimate: Estimate, by: f64) -> EstimateReport {
    let Estimate { value, interval } = estimate;
    EstimateReport {
        value: value * by,
        low: interval.map(|(low, _)| low * by),
        high: interval.map(|(_, high)| high * by),
    }
}

fn comparison(seen: &Comparison) -> ComparisonReport {
    let verdict = match seen.verdict() {
        Some(Ordering::Greater) => "more",
        Some(Ordering::Less) => "less",
        _ => "none",
    };
    let report = ComparisonReport {
        arm: seen.arm.name().into(),
        metric: seen.metric.name().into(),
        blocks: seen.blocks,
        difference: seen.difference,
        low: seen.interval.map(|(low, _)| low),
        high: seen.interval.map(|(_, high)| high),
        verdict: verdict.into(),
        ..ComparisonReport::default()
    };
    report.worded()
}
