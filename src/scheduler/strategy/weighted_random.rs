//! Weighted-random: by lot over the cumulative live weights.

use super::{Draw, MirrorStats, Score, Term};

/// 0 for the one whose stretch of the cumulative weights the lot fell into; for the others how far the lot
/// is from theirs, in parts of the sum.
pub(super) fn score(mirror: &MirrorStats, draw: &Draw) -> Score {
    let at = draw.lot * draw.weight_sum;
    let (start, end) = (draw.weight_before, draw.weight_before + mirror.weight);
    let away = if at < start { start - at } else { (at - end).max(0.0) };
    // The end of a stretch belongs to the next one, so that no lot falls between two.
    let away = if at >= end { away.max(f64::from(f32::MIN_POSITIVE)) } else { away };
    Score::default().with(Term::Turn, away / draw.weight_sum.max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::super::plain;
    use super::*;

    #[test]
    fn each_is_drawn_as_often_as_its_weight_says() {
        let weights = [1.0, 0.5, 0.1];
        let mut drawn = [0; 3];
        for lot in 0..1600 {
            let lot = f64::from(lot) / 1600.0;
            let mut before = 0.0;
            let scores = [0, 1, 2].map(|at| {
                let mirror = MirrorStats { weight: weights[at], ..plain(at as u16, 1.0, 1.0, 0.0) };
                let draw = Draw { lot, weight_sum: 1.6, weight_before: before, ..Draw::default() };
                before += weights[at];
                score(&mirror, &draw).total()
            });
            let winner = (0..3).min_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
            drawn[winner] += 1;
        }
        assert!((999..=1001).contains(&drawn[0]) && (499..=501).contains(&drawn[1]), "{drawn:?}");
    }
}
