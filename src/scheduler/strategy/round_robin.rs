//! Round-robin: one after the other, by a counter.

use super::{Draw, MirrorStats, Score, Term};

/// How many places it is from the one whose turn it is.
pub(super) fn score(mirror: &MirrorStats, draw: &Draw) -> Score {
    let mirrors = draw.mirrors.max(1) as u64;
    let turn = draw.counter % mirrors;
    let places = (u64::from(mirror.id.0) + mirrors - turn) % mirrors;
    Score::default().with(Term::Turn, places as f64)
}

#[cfg(test)]
mod tests {
    use super::super::plain;
    use super::*;

    #[test]
    fn each_has_its_turn_and_the_next_stands_in_for_one_that_may_not_be_asked() {
        let first = |counter, ids: &[u16]| {
            let draw = Draw { counter, mirrors: 3, ..Draw::default() };
            let score = |id: &u16| score(&plain(*id, 1.0, 1.0, 0.0), &draw).total();
            ids.iter().copied().min_by(|a, b| score(a).total_cmp(&score(b))).unwrap()
        };
        assert_eq!([0, 1, 2, 3, 4].map(|counter| first(counter, &[0, 1, 2])), [0, 1, 2, 0, 1]);
        assert_eq!([0, 1, 2, 3].map(|counter| first(counter, &[0, 2])), [0, 2, 2, 0]);
    }
}
