//! Round-robin: one after the other, by a counter.

use super::{Draw, MirrorStats, Score, Term};

/// How many places it is from the one whose turn it is.
#[inline(always)]
pub(super) fn score(mirror: &MirrorStats, draw: &Draw) -> Score {
    let (id, turn) = (u64::from(mirror.id.0), draw.turn);
    let places = if id >= turn { id - turn } else { id + draw.mirrors as u64 - turn };
    Score::default().with(Term::Turn, places as f32)
}

#[cfg(test)]
mod tests {
    use super::super::plain;
    use super::*;

    #[test]
    fn each_has_its_turn_and_the_next_stands_in_for_one_that_may_not_be_asked() {
        let first = |counter: u64, ids: &[u16]| {
            let draw = Draw { turn: counter % 3, mirrors: 3, ..Draw::default() };
            let score = |id: &u16| score(&plain(*id, 1.0, 1.0, 0.0), &draw).total();
            ids.iter().copied().min_by(|a, b| score(a).total_cmp(&score(b))).unwrap()
        };
        assert_eq!([0, 1, 2, 3, 4].map(|counter| first(counter, &[0, 1, 2])), [0, 1, 2, 0, 1]);
        assert_eq!([0, 1, 2, 3].map(|counter| first(counter, &[0, 2])), [0, 2, 2, 0]);
    }
}
