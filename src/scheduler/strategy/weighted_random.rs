//! Weighted-random: by lot over the cumulative live weights.

use super::{Draw, MirrorStats, Score, Term};

/// 0 for the one whose stretch of the cumulative weights the lot fell into; for the others how far the lot
/// is from theirs, in parts of the sum.
#[inline(always)]
pub(super) fn score(mirror: &MirrorStats, draw: &Draw) -> Score {
    let (at, start) = (draw.drawn, mirror.weight_before);
    let end = start + mirror.weight;
    let away = if at < start { start - at } else { 0.0 };
    // The end of a stretch belongs to the next one, so that no lot falls between two.
    let past = if at - end > f32::MIN_POSITIVE { at - end } else { f32::MIN_POSITIVE };
    let away = if at >= end { past } else { away };
    Score::default().with(Term::Turn, away * draw.per_sum)
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
                let mirror =
                    MirrorStats { weight: weights[at], weight_before: before, ..plain(at as u16, 1.0, 1.0, 0.0) };
                let mut draw = Draw { lot, ..Draw::default() };
                draw.draw_among(1.6);
                before += weights[at];
                score(&mirror, &draw).total()
            });
            let winner = (0..3).min_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
            drawn[winner] += 1;
        }
        assert!((999..=1001).contains(&drawn[0]) && (499..=501).contains(&drawn[1]), "{drawn:?}");
    }
}
