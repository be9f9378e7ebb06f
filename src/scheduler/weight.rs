//! The live weight of a mirror: what it is given in configuration, less where it is overloaded (spec 2.5).
//!
//! `weight = max(0.1, base * (1 - alpha * load))`. The load is what is queued on a mirror beyond what it needs to
//! stream at full speed, over its window: a mirror that merely streams is not overloaded.

use crate::clock::Time;
use std::time::Duration;

/// The least that is left of a weight: it keeps a mirror in play, so that it is noticed when it does better.
pub(super) const WEIGHT_MIN: f64 = 0.1;
/// Up to this load a weight is what it is.
const LOAD_STANDARD: f64 = 0.85;
/// More than this for [`HOLD`] is no peak any more.
const LOAD_AGGRESSIVE: f64 = 0.9;
/// How long a load must last to change how hard weights decay, up or down.
const HOLD: Duration = Duration::from_secs(3);

/// How hard a weight decays with load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Not at all.
    None,
    /// For everyday variation, on the way back.
    Mild,
    /// For peaks.
    Standard,
    /// For bursts that last, and for a mirror that is being isolated.
    Aggressive,
}

impl Decay {
    /// What a full load takes of the weight.
    pub fn alpha(self) -> f64 {
        match self {
            Decay::None => 0.0,
            Decay::Mild => 0.7,
            Decay::Standard => 0.8,
            Decay::Aggressive => 0.95,
        }
    }

    /// Its name in tables and in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Decay::None => "none",
            Decay::Mild => "mild",
            Decay::Standard => "standard",
            Decay::Aggressive => "aggressive",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Weight {
    pub(super) decay: Decay,
    /// Over [`LOAD_AGGRESSIVE`] since then.
    over_since: Option<Time>,
    /// At or under [`LOAD_STANDARD`] since then, in this mode.
    under_since: Option<Time>,
}

impl Weight {
    pub(super) fn new() -> Weight {
        Weight { decay: Decay::None, over_since: None, under_since: None }
    }

    /// The load just now, 0 to 1.
    pub(super) fn look(&mut self, now: Time, load: f64) {
        match load > LOAD_AGGRESSIVE {
            true => _ = self.over_since.get_or_insert(now),
            false => self.over_since = None,
        }
        if load > LOAD_STANDARD {
            self.under_since = None;
            let lasted = self.over_since.is_some_and(|since| now.since(since) >= HOLD);
            self.decay = match self.decay {
                Decay::Aggressive => Decay::Aggressive,
                _ if lasted => Decay::Aggressive,
                _ => Decay::Standard,
            };
            return;
        }
        let since = *self.under_since.get_or_insert(now);
        if now.since(since) >= HOLD {
            self.decay = match self.decay {
                Decay::Standard | Decay::Aggressive => Decay::Mild,
                Decay::Mild | Decay::None => Decay::None,
            };
            self.under_since = Some(now);
        }
    }

    /// The live weight. `base`: scaled so that the largest of all mirrors is 1.
    pub(super) fn live(&self, base: f64, load: f64) -> f64 {
        (base * (1.0 - self.decay.alpha() * load)).max(WEIGHT_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Time {
        Time(0) + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn base_up_to_085_standard_above() {
        let mut weight = Weight::new();
        weight.look(at(0.0), 0.85);
        assert_eq!((weight.decay, weight.live(1.0, 0.85)), (Decay::None, 1.0));
        weight.look(at(0.1), 0.851);
        assert_eq!(weight.decay, Decay::Standard);
        assert!((weight.live(1.0, 0.851) - (1.0 - 0.8 * 0.851)).abs() < 1e-9);
    }

    #[test]
    fn aggressive_once_more_than_09_has_lasted_3_s() {
        for (load, lasted, mode) in
            [(0.91, 3.0, Decay::Aggressive), (0.91, 2.99, Decay::Standard), (0.9, 5.0, Decay::Standard)]
        {
            let mut weight = Weight::new();
            weight.look(at(1.0), load);
            weight.look(at(1.0 + lasted), load);
            assert_eq!(weight.decay, mode, "{load} for {lasted} s");
        }
        let mut broken = Weight::new();
        for (seconds, load) in [(0.0, 0.95), (2.0, 0.9), (2.1, 0.95), (4.0, 0.95)] {
            broken.look(at(seconds), load);
        }
        assert_eq!(broken.decay, Decay::Standard, "the 3 s are counted anew");
    }

    #[test]
    fn back_through_mild_to_base_3_s_each() {
        let mut weight = Weight { decay: Decay::Aggressive, ..Weight::new() };
        weight.look(at(10.0), 0.85);
        weight.look(at(12.99), 0.5);
        assert_eq!(weight.decay, Decay::Aggressive);
        weight.look(at(13.0), 0.5);
        assert_eq!(weight.decay, Decay::Mild);
        weight.look(at(15.99), 0.5);
        assert_eq!(weight.decay, Decay::Mild);
        weight.look(at(16.0), 0.5);
        assert_eq!(weight.decay, Decay::None);
    }

    #[test]
    fn configured_weights_are_scaled_so_that_the_largest_is_1() {
        use crate::chunk::MirrorId;
        use crate::scheduler::{Scheduler, Settings};
        let mut scheduler = Scheduler::new(Settings::default(), 3, 1, at(0.0));
        let weights = |scheduler: &Scheduler| -> Vec<f64> {
            scheduler.snapshot(at(0.0)).mirrors.iter().map(|mirror| mirror.weight).collect()
        };
        assert_eq!(weights(&scheduler), [1.0; 3]);
        for (mirror, weight) in [(0, 4.0), (1, 2.0), (2, 0.1), (2, f64::NAN), (9, 100.0)] {
            scheduler.set_base_weight(MirrorId(mirror), weight);
        }
        assert_eq!(weights(&scheduler), [1.0, 0.5, 0.1]);
        scheduler.set_base_weight(MirrorId(0), 1.0);
        assert_eq!(weights(&scheduler), [0.5, 1.0, 0.1]);
    }

    #[test]
    fn a_tenth_is_always_left() {
        let weight = Weight { decay: Decay::Aggressive, ..Weight::new() };
        assert_eq!(weight.live(1.0, 1.0), 0.1);
        assert_eq!(weight.live(0.01, 0.0), 0.1);
    }
}
