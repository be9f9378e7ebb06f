//! Which settings are in force: what was given, or while an experiment runs those of the arm whose slice it is.

use super::Scheduler;
use super::experiment::{Arm, Experiment, Plan, Report};
use super::settings::Settings;
use crate::clock::Time;
use rand::RngExt;

impl Scheduler {
    /// What the experiment that runs has shown so far.
    pub fn experiment(&self) -> Option<Report> {
        self.experiment.as_ref().map(|experiment| experiment.report())
    }

    /// What is configured is what is built in, so that control and the live arm are the same.
    pub fn live_is_control(&self) -> bool {
        let mut weights =
            self.mirrors.iter().filter(|mirror| !mirror.breaker.is_removed()).map(|mirror| mirror.base_weight);
        let first = weights.next();
        of_arm(&self.given, Arm::Control) == self.given && weights.all(|weight| Some(weight) == first)
    }

    pub(super) fn on_experiment_started(&mut self, now: Time, plan: Plan) {
        let seed = self.rng.random();
        self.experiment = Some(Box::new(Experiment::new(plan, seed, now, self.fetches.live)));
        self.take_up();
    }

    pub(super) fn on_experiment_stopped(&mut self, now: Time) {
        self.turn_slice(now);
        self.experiment = None;
        self.take_up();
    }

    /// Where a slice is over, what the next one's arm goes by is in force.
    #[inline]
    pub(super) fn turn_slice(&mut self, now: Time) {
        if let Some(experiment) = &mut self.experiment
            && experiment.due() <= now
        {
            let before = experiment.arm();
            experiment.turn(now, self.fetches.live);
            if experiment.arm() != before {
                self.take_up();
            }
        }
    }

    /// Something else is configured than when the live arm was last looked at.
    pub(super) fn renew_live_arm(&mut self, now: Time) {
        if let Some(experiment) = &mut self.experiment {
            experiment.renew(now);
        }
    }

    /// Go by what is to be in force now.
    pub(super) fn take_up(&mut self) {
        let arm = self.experiment.as_ref().map_or(Arm::Live, |experiment| experiment.arm());
        self.settings = of_arm(&self.given, arm);
        self.even_weights = arm != Arm::Live;
        self.mirrors.mark_all();
        self.dirty = true;
    }
}

/// Control and predictor have what is built in where a configuration has a choice of how to fetch. What a mount has
/// promised is the same for all: how bytes are believed, rate caps, memory.
fn of_arm(given: &Settings, arm: Arm) -> Settings {
    let hedging = if arm == Arm::Live { given.hedging } else { Settings::default().hedging };
    Settings { strategy: arm.strategy(given.strategy), hedging, ..given.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::{Configured, Event};
    use super::*;
    use crate::scheduler::Strategy;
    use crate::scheduler::experiment::Shares;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn start(scheduler: &mut Scheduler) {
        let plan = Plan::new(Duration::from_secs(1), Shares::default()).unwrap();
        scheduler.handle(Time(0), Event::ExperimentStarted { plan });
    }

    #[test]
    fn each_arm_has_its_settings_and_what_was_given_comes_back() {
        let given = Settings {
            strategy: Strategy::RoundRobin,
            hedging: false,
            rate_limit: Some(1 << 30),
            ..Settings::default()
        };
        let mut scheduler = Scheduler::new(given.clone(), 2, 1, Time(0));
        start(&mut scheduler);
        let mut seen = BTreeSet::new();
        for second in 0..20 {
            scheduler.handle(Time(second * 1_000_000_000), Event::Tick);
            let arm = scheduler.experiment().unwrap().arm;
            let now = &scheduler.settings;
            let wanted = match arm {
                Arm::Control => (Strategy::Adaptive, true, true),
                Arm::Live => (Strategy::RoundRobin, false, false),
                Arm::Predictor => (Strategy::Predicted, true, true),
            };
            assert_eq!((now.strategy, now.hedging, scheduler.even_weights), wanted);
            assert_eq!((now.rate_limit, scheduler.settings()), (given.rate_limit, &given));
            seen.insert(arm);
        }
        assert_eq!(seen.len(), 3);
        scheduler.handle(Time(20_000_000_000), Event::ExperimentStopped);
        assert_eq!((scheduler.experiment(), &scheduler.settings, scheduler.even_weights), (None, &given, false));
    }

    #[test]
    fn what_is_configured_anew_is_the_live_arms_from_then_on() {
        let mut scheduler = Scheduler::new(Settings::default(), 2, 1, Time(0));
        start(&mut scheduler);
        let same = Box::new(scheduler.settings().clone());
        scheduler.handle(Time(1), Event::SettingsChanged { settings: same });
        assert_eq!((scheduler.experiment().unwrap().renewals, scheduler.live_is_control()), (0, true));
        let settings = Box::new(Settings { hedging: false, ..Settings::default() });
        scheduler.handle(Time(2), Event::SettingsChanged { settings });
        assert_eq!(scheduler.experiment().unwrap().renewals, 1);
        let of = |weight| Configured { in_use: true, weight, tier: 0, rate_limit: None };
        scheduler.handle(Time(3), Event::MirrorsChanged { mirrors: vec![of(1.0), of(1.0)] });
        assert_eq!(scheduler.experiment().unwrap().renewals, 1);
        scheduler.handle(Time(4), Event::MirrorsChanged { mirrors: vec![of(1.0), of(2.0)] });
        let report = scheduler.experiment().unwrap();
        assert_eq!((report.renewals, report.renewed), (2, Some(Time(4))));
        assert!(!scheduler.live_is_control());
        scheduler.handle(Time(5), Event::SettingsChanged { settings: Box::default() });
        assert!(!scheduler.live_is_control(), "their weights differ");
        scheduler.handle(Time(6), Event::MirrorsChanged { mirrors: vec![of(2.0), of(2.0)] });
        assert!(scheduler.live_is_control());
    }
}
