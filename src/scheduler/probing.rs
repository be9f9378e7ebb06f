//! Light probes: a mirror that has nothing to do while somebody reads is asked for one byte, so that its latency and
//! that it lives are not old news when it is wanted (spec 2.3). They say nothing of its bandwidth.
//!
//! The probes that breakers and drift ask for are never held up, but count: light ones get what those leave.

use super::Scheduler;
use super::action::Action;
use super::breaker::BreakerState;
use super::mirror::Mirror;
use super::window;
use crate::chunk::MirrorId;
use crate::clock::Time;
use std::time::Duration;

/// One probe for so many requests: at most 1 % of them.
const REQUESTS_PER_PROBE: u32 = 100;
/// So many a second in all …
const PER_SECOND: usize = 5;
const SECOND: Duration = Duration::from_secs(1);
/// … and so many are saved up, so that a day of reading does not pay for a storm.
const SAVED_MAX: u32 = PER_SECOND as u32 * REQUESTS_PER_PROBE;

/// What probes may cost, and how many there were.
#[derive(Clone, Debug)]
pub(super) struct Probing {
    /// Requests that no probe was sent for yet.
    saved_requests: u32,
    /// When the last probes were sent, the oldest at `next`.
    sent_at: [Option<Time>; PER_SECOND],
    next: usize,
    /// All that were sent, and the light ones among them.
    pub(super) sent: u64,
    pub(super) light: u64,
    /// When the mirrors are looked at next.
    pub(super) next_look: Time,
    /// The same where no fetch is in flight, as long as somebody reads and a probe could be sent.
    pub(super) due: Option<Time>,
}

impl Probing {
    pub(super) fn new(now: Time) -> Probing {
        Probing {
            saved_requests: 0,
            sent_at: [None; PER_SECOND],
            next: 0,
            sent: 0,
            light: 0,
            next_look: now,
            due: None,
        }
    }

    /// A request for data was sent.
    pub(super) fn requested(&mut self) {
        self.saved_requests = (self.saved_requests + 1).min(SAVED_MAX);
    }

    /// Do the requests pay for a light probe?
    fn paid(&self) -> bool {
        self.saved_requests >= REQUESTS_PER_PROBE
    }

    /// May a light probe be sent now?
    fn may(&self, now: Time) -> bool {
        self.paid() && self.sent_at[self.next].is_none_or(|oldest| now.since(oldest) >= SECOND)
    }

    /// A probe was sent, whatever for.
    pub(super) fn sent(&mut self, now: Time) {
        self.saved_requests = self.saved_requests.saturating_sub(REQUESTS_PER_PROBE);
        self.sent_at[self.next] = Some(now);
        self.next = (self.next + 1) % PER_SECOND;
        self.sent += 1;
    }
}

impl Scheduler {
    /// The look that each mirror gets every 200 ms: what its transfers say, and where it had none, a probe.
    pub(super) fn look_at_mirrors(&mut self, now: Time) {
        if now < self.probing.next_look {
            return;
        }
        self.probing.next_look = now + window::PERIOD;
        for mirror in self.mirrors.iter_mut().filter(|mirror| mirror.bodies > 0) {
            mirror.meter.look(mirror.latency.jitter_seconds());
        }
        let reading = self.somebody_reads(now);
        if reading && self.probing.may(now) {
            self.probe_stalest(now);
        }
        self.probing.due = (reading && self.probing.paid()).then_some(self.probing.next_look);
    }

    /// Somebody waits for something, or goes through a file and has not stopped.
    fn somebody_reads(&self, now: Time) -> bool {
        !self.wants.is_empty() || self.streams.values().any(|stream| stream.is_read(now))
    }

    /// The mirror of which nothing was heard for the longest, and for longer than the window.
    fn probe_stalest(&mut self, now: Time) {
        let idle = self.mirrors.iter().enumerate().filter(|(_, mirror)| may_be_probed(mirror, now));
        let Some((at, _)) = idle.min_by_key(|(_, mirror)| heard_at(mirror)) else { return };
        self.probing.light += 1;
        self.send_probe(now, MirrorId(at as u16));
    }

    /// Ask a mirror for one byte.
    pub(super) fn send_probe(&mut self, now: Time, id: MirrorId) {
        let Some(mirror) = self.mirror_mut(id) else { return };
        mirror.breaker.probe_at = Some(now);
        mirror.probed_at = Some(now);
        self.probing.sent(now);
        self.out.push_back(Action::Probe { mirror: id });
    }
}

/// It is in use, and had nothing to do for longer than the window. Where there are no ranges, a byte would be a file.
fn may_be_probed(mirror: &Mirror, now: Time) -> bool {
    let breaker = &mirror.breaker;
    let in_use = breaker.state == BreakerState::Closed && breaker.usable(now) && breaker.probe_at.is_none();
    in_use && mirror.ranges && mirror.fetches == 0 && now.since(heard_at(mirror)) > window::PERIOD
}

/// When it last gave a byte or an answer, or was asked for one by a probe.
fn heard_at(mirror: &Mirror) -> Time {
    [Some(mirror.sign_at), mirror.latency.at, mirror.probed_at].into_iter().flatten().max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn requested(requests: u32) -> Probing {
        let mut probing = Probing::new(Time(0));
        (0..requests).for_each(|_| probing.requested());
        probing
    }

    #[test]
    fn a_hundred_requests_pay_for_one() {
        for (requests, may) in [(0, false), (99, false), (100, true), (101, true)] {
            assert_eq!(requested(requests).may(Time(0)), may, "{requests}");
        }
        let mut probing = requested(199);
        probing.sent(Time(0));
        assert!(!probing.may(Time(0)), "the hundredth after it is missing");
        probing.requested();
        assert!(probing.may(Time(0)));
        let mut probing = requested(100_000);
        (0..PER_SECOND as u64).for_each(|at| probing.sent(Time(at * 1000 * MS)));
        assert!(!probing.may(Time(10_000 * MS)), "no more than a second's are saved up");
    }

    #[test]
    fn five_a_second_in_all() {
        let mut probing = requested(500);
        for at in 0..5 {
            assert!(probing.may(Time(at * MS)), "the {at}th");
            probing.sent(Time(at * MS));
            (0..100).for_each(|_| probing.requested());
        }
        assert!(!probing.may(Time(999 * MS)), "the first of them was less than a second ago");
        assert!(probing.may(Time(1000 * MS)));
        probing.sent(Time(1000 * MS));
        (0..100).for_each(|_| probing.requested());
        assert!(!probing.may(Time(1000 * MS)) && probing.may(Time(1001 * MS)));
    }
}
