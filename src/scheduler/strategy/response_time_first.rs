//! Response-time-first: the lowest expected time to first byte, with a deadline.

use super::{MirrorStats, Score, Term};

/// A first byte that is expected later than this is too late: such a mirror is asked when no other may be.
pub(super) const DEADLINE_SECONDS: f32 = 1.0;

/// The answer comes after what is in flight has had its share: each fetch on the link counts like one more
/// usual time to first byte, as requests in flight do in Prequal (Wydrowski et al., NSDI 2024).
#[inline(always)]
pub(super) fn score(mirror: &MirrorStats) -> Score {
    let queue = mirror.latency_seconds * mirror.fetches;
    let expected = mirror.latency_seconds + queue + mirror.silence_seconds + mirror.trouble_seconds;
    Score::default()
        .with(Term::Latency, mirror.latency_seconds)
        .with(Term::Queue, queue)
        .with(Term::Silence, mirror.silence_seconds)
        .with(Term::Trouble, mirror.trouble_seconds)
        .with(Term::Turn, if expected > DEADLINE_SECONDS { 1e3 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::super::plain;
    use super::*;

    #[test]
    fn the_soonest_first_byte_wins_whatever_its_bandwidth() {
        let (near, far) = (plain(0, 1e6, 0.01, 0.0), plain(1, 100e6, 0.02, 0.0));
        assert!(score(&near).total() < score(&far).total());
        let busy = MirrorStats { fetches: 2.0, ..near };
        assert!(score(&busy).total() > score(&far).total());
    }

    #[test]
    fn past_the_deadline_only_where_no_other_may_be_asked() {
        let late = |seconds| MirrorStats { silence_seconds: seconds, ..plain(0, 1e6, 0.0, 0.0) };
        assert!(score(&late(1.0)).total() < 10.0);
        assert!(score(&late(1.001)).total() > 100.0);
    }
}
