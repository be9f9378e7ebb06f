//! The sliding window of a mirror's progress: what came in its last busy time (spec 2.3).
//!
//! It is fed by the samples of the transfers (`sampling`), which fill slots; the newest slots that make up the
//! window's length are measured, the oldest of them in part.

use super::average::{Flow, SUPPOSED_SECONDS};
use std::time::Duration;

/// Each mirror is looked at so often …
pub(super) const PERIOD: Duration = Duration::from_millis(200);
/// … and its window is as long: a change fills it, and shows whole, before 300 ms are over. Below 100 ms the bursts of
/// a shaped link would show as changes.
const SECONDS: f64 = 0.2;
/// A slot takes samples until it is so long: one of a transfer that is sampled at the highest rate.
const SLOT_SECONDS: f64 = 0.01;
/// A slot that took so long was a silence: most of a repaired packet loss, or of a stall. A window that a silence fills
/// says nothing of the rate, where an average still knows what was before.
const SILENCE_SECONDS: f64 = 0.06;
/// As many as the window can have, and the one that its far end cuts.
const SLOTS: usize = 21;

#[derive(Clone, Debug)]
pub(super) struct Window {
    slots: [Flow; SLOTS],
    newest: usize,
    /// What is inside of the window.
    pub(super) flow: Flow,
    /// Bytes came all the time, without a silence among them.
    pub(super) steady: bool,
}

impl Window {
    /// Nothing measured, `supposed` bytes per second.
    pub(super) fn new(supposed: f64) -> Window {
        let first = Flow { bytes: supposed * SUPPOSED_SECONDS, seconds: SUPPOSED_SECONDS };
        let mut slots = [Flow::default(); SLOTS];
        slots[0] = first;
        Window { slots, newest: 0, flow: first, steady: false }
    }

    /// A sample was taken.
    pub(super) fn add(&mut self, sample: Flow) {
        if self.slots[self.newest].seconds >= SLOT_SECONDS {
            self.newest = (self.newest + 1) % SLOTS;
            self.slots[self.newest] = Flow::default();
        }
        let slot = &mut self.slots[self.newest];
        slot.bytes += sample.bytes;
        slot.seconds += sample.seconds;
        self.flow = self.between(0.0, SECONDS);
        self.steady = self.flow.seconds > 0.99 * SECONDS && self.longest_seconds() < SILENCE_SECONDS;
    }

    /// The longest slot that lies in it.
    fn longest_seconds(&self) -> f64 {
        let (mut longest, mut passed) = (0.0f64, 0.0);
        for back in 0..SLOTS {
            let slot = self.slots[(self.newest + SLOTS - back) % SLOTS];
            if passed >= SECONDS {
                break;
            }
            longest = longest.max(slot.seconds);
            passed += slot.seconds;
        }
        longest
    }

    /// Throughput decay: the part of its rate that was lost from the window's earlier half to the later one, 0 to 1.
    pub(super) fn decay(&self) -> f64 {
        let (later, earlier) = (self.between(0.0, SECONDS / 2.0), self.between(SECONDS / 2.0, SECONDS));
        if earlier.bytes <= 0.0 || later.seconds <= 0.0 || earlier.seconds <= 0.0 {
            return 0.0;
        }
        (1.0 - later.bytes / later.seconds * earlier.seconds / earlier.bytes).clamp(0.0, 1.0)
    }

    /// What came from `near` to `far` busy seconds ago.
    fn between(&self, near: f64, far: f64) -> Flow {
        let (mut flow, mut passed) = (Flow::default(), 0.0);
        for back in 0..SLOTS {
            let slot = self.slots[(self.newest + SLOTS - back) % SLOTS];
            if slot.seconds <= 0.0 || passed >= far {
                break;
            }
            let inside = ((passed + slot.seconds).min(far) - near.max(passed)).max(0.0);
            flow.bytes += slot.bytes * inside / slot.seconds;
            flow.seconds += inside;
            passed += slot.seconds;
        }
        flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(window: &mut Window, ms: u64, step_ms: u64, bytes_per_ms: f64) {
        let seconds = step_ms as f64 / 1e3;
        (0..ms / step_ms).for_each(|_| window.add(Flow { bytes: bytes_per_ms * step_ms as f64, seconds }));
    }

    fn rate(window: &Window) -> f64 {
        window.flow.bytes / window.flow.seconds
    }

    #[test]
    fn it_holds_its_length_of_busy_time_whatever_the_samples() {
        for step_ms in [1, 3, 7, 10, 13, 40, 150, 500] {
            let mut window = Window::new(10e6);
            feed(&mut window, 3000, step_ms, 40e3);
            assert!((rate(&window) / 40e6 - 1.0).abs() < 1e-6, "{step_ms} ms: {}", rate(&window));
            assert!((window.flow.seconds - SECONDS).abs() < 1e-9, "{step_ms} ms: {}", window.flow.seconds);
        }
    }

    #[test]
    fn half_of_the_new_rate_shows_after_half_the_window_and_all_after_it() {
        let mut window = Window::new(10e6);
        feed(&mut window, 1000, 10, 40e3);
        feed(&mut window, 100, 10, 10e3);
        assert!((rate(&window) - 25e6).abs() < 1e5, "{}", rate(&window));
        assert!((window.decay() - 0.75).abs() < 1e-6, "{}", window.decay());
        feed(&mut window, 100, 10, 10e3);
        assert!((rate(&window) - 10e6).abs() < 1e5, "{}", rate(&window));
        assert!(window.decay() < 1e-6, "what lasts is no decay any more");
        feed(&mut window, 100, 10, 40e3);
        assert_eq!(window.decay(), 0.0, "nor is it to grow");
    }

    #[test]
    fn what_was_supposed_leaves_it_too() {
        let mut window = Window::new(100e6);
        feed(&mut window, 100, 10, 1e3);
        assert!(rate(&window) > 10e6);
        feed(&mut window, 120, 10, 1e3);
        assert!((rate(&window) - 1e6).abs() < 1.0);
    }
}
