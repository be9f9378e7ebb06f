//! Adaptive: the mirror on which this range is complete first, given its bandwidth, its latency, and what is
//! already in flight on it.
//!
//! This is earliest completion first with a queue: ECF (Lim et al., CoNEXT 2017) and BLEST (Ferlin et al., IFIP
//! 2016) choose among multipath links alike. A slow link gets a range only when all of it arrives before a
//! faster one would have brought it after what is queued there.

use super::{Ask, MirrorStats, Score, Term};

#[inline(always)]
pub(super) fn score(mirror: &MirrorStats, ask: &Ask) -> Score {
    let transfer = (ask.bytes + mirror.whole * ask.whole_excess_bytes) * mirror.seconds_per_byte;
    // Demand does not queue behind what is in flight but shares the link with it.
    let shared = transfer * mirror.fetches;
    let queue = if ask.demand && shared < mirror.queued_seconds { shared } else { mirror.queued_seconds };
    // But the link has a queue of its own (in a router, in the mirror's sockets), which priorities of ours do not shorten.
    // It is no longer than what we have in flight there.
    let behind = (mirror.latency_seconds + mirror.queued_seconds).min(mirror.busy_latency_seconds);
    let latency = if ask.demand && mirror.fetches > 0.0 { behind } else { mirror.latency_seconds };
    // Of an unknown one the first answer may take a connection more than was seen.
    let unknown_seconds = ask.doubt_seconds + 2.0 * mirror.latency_seconds;
    let doubt = if ask.demand { 0.0 } else { mirror.doubt * unknown_seconds };
    let seconds = latency + queue + transfer + mirror.silence_seconds + mirror.trouble_seconds + doubt;
    Score::default()
        .with(Term::Latency, latency)
        .with(Term::Queue, queue)
        .with(Term::Transfer, transfer)
        .with(Term::Silence, mirror.silence_seconds)
        .with(Term::Trouble, mirror.trouble_seconds)
        .with(Term::Doubt, doubt)
        // The predicted completion counts 1 / weight times (spec 2.5).
        .with(Term::Weight, seconds * mirror.weight_excess)
}

#[cfg(test)]
mod tests {
    use super::super::plain;
    use super::*;

    fn total(mirror: &MirrorStats, bytes: f32, demand: bool) -> f32 {
        score(mirror, &Ask { bytes, whole_excess_bytes: 0.0, demand, doubt_seconds: 0.2 }).total()
    }

    #[test]
    fn the_first_to_finish_wins_not_the_fastest() {
        let idle_slow = plain(1, 10e6, 0.01, 0.0);
        assert!(total(&plain(0, 40e6, 0.01, 8e6), 1e6, false) > total(&idle_slow, 1e6, false));
        assert!(total(&plain(0, 40e6, 0.01, 2e6), 1e6, false) < total(&idle_slow, 1e6, false));
    }

    #[test]
    fn a_page_on_demand_shares_the_link_instead_of_queueing() {
        assert!(total(&plain(0, 40e6, 0.01, 8e6), 4096.0, true) < total(&plain(1, 10e6, 0.05, 0.0), 4096.0, true));
    }

    #[test]
    fn a_page_on_demand_is_not_sent_to_the_end_of_a_links_own_queue() {
        let bloated = MirrorStats { busy_latency_seconds: 0.06, ..plain(0, 40e6, 0.01, 8e6) };
        assert!(total(&bloated, 4096.0, true) > total(&plain(1, 10e6, 0.05, 0.0), 4096.0, true));
        let idle = MirrorStats { fetches: 0.0, queued_seconds: 0.0, ..bloated };
        assert!(total(&idle, 4096.0, true) < total(&plain(1, 10e6, 0.05, 0.0), 4096.0, true));
    }

    #[test]
    fn half_the_weight_counts_like_twice_the_time() {
        let full = plain(0, 10e6, 0.01, 0.0);
        let half = MirrorStats { weight: 0.5, weight_excess: 1.0, ..full };
        assert!((total(&half, 1e6, false) - 2.0 * total(&full, 1e6, false)).abs() < 1e-6);
    }
}
