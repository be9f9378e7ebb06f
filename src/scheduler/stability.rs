//! How well a mirror's answers come to their end: its error rate, and how stable its connections are (spec 2.2).
//!
//! These are the figures that are shown. What they cost a mirror (a smaller window, a worse score) is `trouble`'s,
//! which learns of the same resets and stalls.

use crate::clock::Time;

/// The error rate is of so many answers: enough for a part in a hundred to show, few enough to be of now. They are the
/// bits of one word.
const OUTCOMES: u32 = u64::BITS;

#[derive(Clone, Debug, Default)]
pub(super) struct Stability {
    /// Answers that broke off after their request was under way.
    pub(super) resets: u64,
    /// Bytes that stopped coming, or never came.
    pub(super) stalls: u64,
    /// Times that it answered anew after one of these, by another connection.
    pub(super) reconnects: u64,
    /// It has been cut off since it last began an answer.
    cut: bool,
    /// The last outcomes, the newest in the lowest bit; 1 is an error.
    outcomes: u64,
    known: u32,
    /// When the last one came.
    pub(super) at: Option<Time>,
}

impl Stability {
    /// An answer ended, or a probe did.
    pub(super) fn ended(&mut self, now: Time, well: bool) {
        self.outcomes = self.outcomes << 1 | u64::from(!well);
        self.known = (self.known + 1).min(OUTCOMES);
        self.at = Some(now);
    }

    /// An answer broke off.
    pub(super) fn reset(&mut self) {
        self.resets += 1;
        self.cut = true;
    }

    /// An answer fell silent and is given up.
    pub(super) fn stalled(&mut self, now: Time) {
        self.stalls += 1;
        self.cut = true;
        self.ended(now, false);
    }

    /// An answer begins.
    pub(super) fn answered(&mut self) {
        self.reconnects += u64::from(std::mem::take(&mut self.cut));
    }

    /// The part of its last 64 answers that were errors, 0 to 1; nothing before the first.
    pub(super) fn error_rate(&self) -> Option<f64> {
        (self.known > 0).then(|| f64::from(self.outcomes.count_ones()) / f64::from(self.known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_rate_is_of_the_last_64() {
        let mut stability = Stability::default();
        assert_eq!(stability.error_rate(), None);
        stability.ended(Time(1), false);
        assert_eq!(stability.error_rate(), Some(1.0));
        (0..3).for_each(|_| stability.ended(Time(2), true));
        assert_eq!(stability.error_rate(), Some(0.25));
        (0..60).for_each(|_| stability.ended(Time(3), true));
        assert_eq!(stability.error_rate(), Some(1.0 / 64.0));
        stability.ended(Time(4), true);
        assert_eq!((stability.error_rate(), stability.at), (Some(0.0), Some(Time(4))));
    }

    #[test]
    fn one_reconnect_follows_however_many_were_cut_off_together() {
        let mut stability = Stability::default();
        stability.answered();
        (0..4).for_each(|_| stability.reset());
        stability.stalled(Time(1));
        (0..4).for_each(|_| stability.answered());
        assert_eq!((stability.resets, stability.stalls, stability.reconnects), (4, 1, 1));
    }
}
