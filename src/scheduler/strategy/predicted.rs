//! Predicted: the mirror on which this range is complete first, by adaptive's reckoning and by what completions have
//! shown that to be off (see [`crate::scheduler`]'s predictor). Of a mirror that has brought little yet it is adaptive.

use super::{Ask, MirrorStats, Score, Term, adaptive};

/// What was learned may make a time so much shorter, as a part of it …
const LESS_MAX: f32 = 0.75;
/// … or longer, in times of it: the rest of the score (silence, trouble, load) must be able to speak against it, and a
/// range must cost more behind a longer queue, or all of a pass would be meant for one mirror.
const MORE_MAX: f32 = 3.0;

#[inline(always)]
pub(super) fn score(mirror: &MirrorStats, ask: &Ask) -> Score {
    let score = adaptive::score(mirror, ask);
    let [latency, queue, transfer] =
        [Term::Latency, Term::Queue, Term::Transfer].map(|term| score.terms[term as usize]);
    let seconds = latency + queue + transfer;
    let [constant, of_transfer, of_queue, of_fetch] = mirror.learned;
    let learned = constant + of_transfer * transfer + of_queue * queue + of_fetch * mirror.fetches;
    let learned = learned.max(-LESS_MAX * seconds).min(MORE_MAX * seconds);
    let weight = score.terms[Term::Weight as usize] + learned * mirror.weight_excess;
    score.with(Term::Learned, learned).with(Term::Weight, weight)
}

#[cfg(test)]
mod tests {
    use super::super::plain;
    use super::*;

    const ASK: Ask = Ask { bytes: 1e6, whole_excess_bytes: 0.0, demand: false, doubt_seconds: 0.2 };

    #[test]
    fn it_is_adaptive_where_nothing_was_learned_and_may_choose_another_where_something_was() {
        let (fast, slow) = (plain(0, 40e6, 0.01, 2e6), plain(1, 20e6, 0.03, 1e6));
        for mirror in [fast, slow] {
            assert_eq!(score(&mirror, &ASK), adaptive::score(&mirror, &ASK));
        }
        assert!(score(&fast, &ASK).total() < score(&slow, &ASK).total());
        // Each byte takes the fast one three times as long as its rate says.
        let worse = MirrorStats { learned: [0.0, 2.0, 2.0, 0.0], ..fast };
        assert!(score(&worse, &ASK).total() > score(&slow, &ASK).total());
    }

    #[test]
    fn what_was_learned_has_bounds_and_the_longer_queue_costs_more() {
        let seconds = 1e6 / 40e6 + 0.01;
        let of = |learned| score(&MirrorStats { learned, ..plain(0, 40e6, 0.01, 0.0) }, &ASK).total();
        assert!((of([-1e3, 0.0, 0.0, 0.0]) - 0.25 * seconds).abs() < 1e-6);
        assert!((of([1e3, 0.0, 0.0, 0.0]) - 4.0 * seconds).abs() < 1e-6);
        let learned = [0.0, 0.0, -5.0, -5.0];
        let behind = |bytes| score(&MirrorStats { learned, ..plain(0, 40e6, 0.01, bytes) }, &ASK).total();
        assert!(behind(8e6) > behind(4e6) && behind(4e6) > behind(1e6));
    }

    #[test]
    fn its_weight_counts_for_what_was_learned_too() {
        let learned = [0.01, 0.0, 0.0, 0.0];
        let full = MirrorStats { learned, ..plain(0, 10e6, 0.01, 0.0) };
        let half = MirrorStats { weight: 0.5, weight_excess: 1.0, ..full };
        assert!((score(&half, &ASK).total() - 2.0 * score(&full, &ASK).total()).abs() < 1e-6);
    }
}
