//! Experiments, as the driver's scheduler runs them.

use crate::clock::Time;
use crate::fetch::engine::Engine;
use crate::fetch::error::Trouble;
use crate::scheduler::experiment::{Plan, Report};
use crate::scheduler::{Event, Scheduler, Strategy};

/// An experiment, seen at a moment.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: Time,
    /// What it has shown.
    pub report: Report,
    /// How mirrors are chosen in the slices of the live arm.
    pub strategy: Strategy,
    /// The live arm goes by the same as control.
    pub live_is_control: bool,
}

impl Engine {
    /// Start one. Nothing where one runs already: that goes on.
    pub async fn start_experiment(&self, plan: Plan) -> Result<Option<Seen>, Trouble> {
        self.ask(move |time, scheduler| {
            if scheduler.experiment().is_some() {
                return None;
            }
            scheduler.handle(time, Event::ExperimentStarted { plan });
            look(time, scheduler)
        })
        .await
    }

    /// What the one that runs has shown, if one runs.
    pub async fn experiment(&self) -> Result<Option<Seen>, Trouble> {
        self.ask(look).await
    }

    /// End the one that runs. Returns what it has shown, if one ran.
    pub async fn stop_experiment(&self) -> Result<Option<Seen>, Trouble> {
        self.ask(|time, scheduler| {
            let seen = look(time, scheduler);
            scheduler.handle(time, Event::ExperimentStopped);
            seen
        })
        .await
    }
}

fn look(time: Time, scheduler: &mut Scheduler) -> Option<Seen> {
    // Where nothing happened of late, a slice may be over and not counted yet.
    scheduler.handle(time, Event::Tick);
    let report = scheduler.experiment()?;
    let (strategy, live_is_control) = (scheduler.settings().strategy, scheduler.live_is_control());
    Some(Seen { at: time, report, strategy, live_is_control })
}
