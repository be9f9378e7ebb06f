//! The strategies: which mirror gets a range, as pure functions over the same statistics.
//!
//! Each gives every mirror that may be asked a [`Score`] of named terms, in seconds or in turns; the least
//! wins. So a decision is a value: what decided it is the terms in which winner and loser differ.

mod adaptive;
mod predicted;
mod response_time_first;
mod round_robin;
mod weighted_random;

use crate::chunk::MirrorId;
use std::str::FromStr;

/// How mirrors are chosen (spec 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// One after the other, whatever they are.
    RoundRobin,
    /// By lot, each with its live weight.
    WeightedRandom,
    /// The one whose first byte is expected soonest.
    ResponseTimeFirst,
    /// The one on which this range is complete soonest.
    #[default]
    Adaptive,
    /// The same, corrected by how long its fetches took.
    Predicted,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Strategy; 5] = [
        Strategy::RoundRobin,
        Strategy::WeightedRandom,
        Strategy::ResponseTimeFirst,
        Strategy::Adaptive,
        Strategy::Predicted,
    ];

    /// Its name in options, files and `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::RoundRobin => "round-robin",
            Strategy::WeightedRandom => "weighted-random",
            Strategy::ResponseTimeFirst => "response-time-first",
            Strategy::Adaptive => "adaptive",
            Strategy::Predicted => "predicted",
        }
    }

    /// It goes by when a range would be complete. A range may then be meant for a mirror that is full, and one that was late
    /// is known to it.
    pub(super) fn foretells_completion(self) -> bool {
        matches!(self, Strategy::Adaptive | Strategy::Predicted)
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a strategy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a strategy: give round-robin, weighted-random, response-time-first, adaptive or predicted")]
pub struct UnknownStrategy(String);

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Strategy, UnknownStrategy> {
        let named = Strategy::ALL.into_iter().find(|strategy| strategy.name() == text);
        named.ok_or_else(|| UnknownStrategy(text.to_owned()))
    }
}

/// What is known of one mirror at the moment of a choice: all that a strategy may look at.
///
/// In single precision, as scores are, and prepared so that a choice multiplies and adds: every mirror is scored for
/// every range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MirrorStats {
    /// Which.
    pub id: MirrorId,
    /// One over its rate while it was busy, supposed where nothing was measured.
    pub seconds_per_byte: f32,
    /// Its usual time to first byte, in seconds.
    pub latency_seconds: f32,
    /// The same while it has something of ours in flight: behind what waits in the queues of its link.
    pub busy_latency_seconds: f32,
    /// How much of the rate is a guess: 0 where it is measured, 1 where nothing is known of it.
    pub doubt: f32,
    /// 1 where it has no ranges and sends the whole file, else 0.
    pub whole: f32,
    /// What the bytes in flight on it or meant for it take, in seconds.
    pub queued_seconds: f32,
    /// Live fetches.
    pub fetches: f32,
    /// What its silence just now counts, in seconds.
    pub silence_seconds: f32,
    /// What its failures of late are expected to cost a fetch, in seconds.
    pub trouble_seconds: f32,
    /// Its live weight after decay under load, 0.1 to 1 (spec 2.5).
    pub weight: f32,
    /// What that adds to its time, in parts of it: `1 / weight - 1`.
    pub weight_excess: f32,
    /// The weights of those before it that may be asked, where lots are drawn.
    pub weight_before: f32,
    /// What completions have shown is to be added to the time in which a range should be complete, in seconds: a constant,
    /// and for each second of transfer, second of queue and fetch in flight.
    pub learned: [f32; 4],
}

/// What is to be fetched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ask {
    /// How much, in bytes.
    pub bytes: f32,
    /// How much more that is where the whole file has to be sent.
    pub whole_excess_bytes: f32,
    /// A reader waits: it shares the link with what is in flight, and does not queue behind it.
    pub demand: bool,
    /// What being unknown counts, in seconds.
    pub doubt_seconds: f32,
}

/// The parts of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Its usual time to first byte.
    Latency,
    /// What is before the range on its link, or shares the link with it.
    Queue,
    /// The range's own bytes at its rate.
    Transfer,
    /// Its silence just now.
    Silence,
    /// Its failures of late.
    Trouble,
    /// That little is known of it.
    Doubt,
    /// What its weight under load adds.
    Weight,
    /// Its place in the row or the lot, or that it is past the deadline.
    Turn,
    /// Its tier is higher than that of one who may be asked.
    Tier,
    /// By what its completions were off of late.
    Learned,
}

/// How many terms there are.
pub const TERMS: usize = 10;

impl Term {
    /// All, in the order of [`Score::terms`].
    pub const ALL: [Term; TERMS] = [
        Term::Latency,
        Term::Queue,
        Term::Transfer,
        Term::Silence,
        Term::Trouble,
        Term::Doubt,
        Term::Weight,
        Term::Turn,
        Term::Tier,
        Term::Learned,
    ];

    /// Its name in tables and in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Term::Latency => "latency",
            Term::Queue => "queue",
            Term::Transfer => "transfer",
            Term::Silence => "silence",
            Term::Trouble => "trouble",
            Term::Doubt => "doubt",
            Term::Weight => "weight",
            Term::Turn => "turn",
            Term::Tier => "tier",
            Term::Learned => "learned",
        }
    }
}

/// A mirror's score for one range: the least wins. The total is the sum of its terms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// In the order of [`Term::ALL`].
    pub terms: [f32; TERMS],
}

impl Score {
    /// The sum of its terms.
    #[inline(always)]
    pub fn total(&self) -> f32 {
        self.terms.iter().sum()
    }

    #[inline(always)]
    pub(super) fn with(mut self, term: Term, value: f32) -> Score {
        self.terms[term as usize] = value;
        self
    }
}

/// What a choice needs beside the statistics: where the row stands, and the lot that was drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Draw {
    /// How many choices were made before.
    pub(super) counter: u64,
    /// Whose turn that makes it.
    pub(super) turn: u64,
    /// From 0 to 1.
    pub(super) lot: f64,
    /// How many mirrors there are, those that may not be asked too.
    pub(super) mirrors: usize,
    /// Where the lot fell among the weights of those that may be asked, and one over their sum.
    pub(super) drawn: f32,
    pub(super) per_sum: f32,
}

impl Draw {
    /// The lot falls among weights of this sum.
    pub(super) fn draw_among(&mut self, weight_sum: f64) {
        (self.drawn, self.per_sum) = ((self.lot * weight_sum) as f32, 1.0 / (weight_sum as f32).max(f32::MIN_POSITIVE));
    }
}

/// The score of one mirror.
#[inline(always)]
pub(super) fn score(strategy: Strategy, mirror: &MirrorStats, ask: &Ask, draw: &Draw) -> Score {
    match strategy {
        Strategy::RoundRobin => round_robin::score(mirror, draw),
        Strategy::WeightedRandom => weighted_random::score(mirror, draw),
        Strategy::ResponseTimeFirst => response_time_first::score(mirror),
        Strategy::Adaptive => adaptive::score(mirror, ask),
        Strategy::Predicted => predicted::score(mirror, ask),
    }
}

/// A mirror with nothing remarkable, for tests of the strategies.
#[cfg(test)]
pub(super) fn plain(id: u16, rate: f32, latency_seconds: f32, load_bytes: f32) -> MirrorStats {
    MirrorStats {
        id: MirrorId(id),
        seconds_per_byte: 1.0 / rate,
        latency_seconds,
        busy_latency_seconds: latency_seconds,
        doubt: 0.0,
        whole: 0.0,
        queued_seconds: load_bytes / rate,
        fetches: f32::from(u8::from(load_bytes > 0.0)),
        silence_seconds: 0.0,
        trouble_seconds: 0.0,
        weight: 1.0,
        weight_excess: 0.0,
        weight_before: 0.0,
        learned: [0.0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_refused_with_the_names() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.name().parse(), Ok(strategy));
        }
        let error = "fastest".parse::<Strategy>().unwrap_err().to_string();
        assert!(error.contains("\"fastest\"") && error.contains("weighted-random"), "{error}");
    }

    #[test]
    fn the_terms_add_up_to_the_difference() {
        let (a, b) = (plain(0, 40e6, 0.01, 2e6), plain(1, 10e6, 0.05, 0.0));
        let ask = Ask { bytes: 1e6, whole_excess_bytes: 0.0, demand: false, doubt_seconds: 0.0 };
        let [a, b] = [a, b].map(|mirror| adaptive::score(&mirror, &ask));
        let difference: f32 = a.terms.iter().zip(b.terms).map(|(a, b)| a - b).sum();
        assert!((difference - (a.total() - b.total())).abs() < 1e-6);
    }
}
