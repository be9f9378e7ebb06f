//! An exponentially weighted moving average of a rate: bytes over busy time, older ones counting less.
//!
//! Time in which nothing was asked does not count, so a slow reader does not make a slow mirror.

use crate::clock::Time;

/// What is supposed before anything is known counts like so much busy time, so that the burst with which
/// shaped links begin does not pass for their rate.
pub(super) const SUPPOSED_SECONDS: f64 = 0.03;

/// Bytes, and the busy seconds in which they came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Flow {
    pub(super) bytes: f64,
    pub(super) seconds: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Average {
    memory_seconds: f64,
    flow: Flow,
    /// When the last sample was taken.
    pub(super) at: Time,
    busy_since: Option<Time>,
    /// What came since the last sample.
    unsampled_bytes: u64,
    /// All that ever counted.
    pub(super) total_bytes: u64,
}

impl Average {
    /// Nothing measured, `supposed` bytes per second.
    pub(super) fn new(supposed: f64, memory_seconds: f64) -> Average {
        Average {
            memory_seconds,
            flow: Flow { bytes: supposed * SUPPOSED_SECONDS, seconds: SUPPOSED_SECONDS },
            at: Time(0),
            busy_since: None,
            unsampled_bytes: 0,
            total_bytes: 0,
        }
    }

    /// Bytes are about to flow.
    pub(super) fn start(&mut self, now: Time) {
        if self.busy_since.is_none() {
            self.busy_since = Some(now);
            self.at = now;
        }
    }

    /// Nothing flows any more. The last sample is to be taken before.
    pub(super) fn stop(&mut self) {
        self.busy_since = None;
    }

    pub(super) fn busy(&self) -> bool {
        self.busy_since.is_some()
    }

    /// So many bytes came. They count from here on, and as part of the next sample.
    pub(super) fn came(&mut self, now: Time, bytes: u64) {
        // What came with the headers waited in a socket: it took no time that we saw.
        if self.busy_since.is_some_and(|since| since < now) {
            self.unsampled_bytes += bytes;
            self.total_bytes += bytes;
        }
    }

    /// Take a sample: what came since the last one, and in how much time.
    pub(super) fn sample(&mut self, now: Time) -> Option<Flow> {
        if self.busy_since.is_none_or(|since| since == now) {
            return None;
        }
        let bytes = std::mem::take(&mut self.unsampled_bytes) as f64;
        let sample = Flow { bytes, seconds: now.seconds_since(self.at) };
        let keep = (-sample.seconds / self.memory_seconds).exp();
        self.flow = Flow { bytes: self.flow.bytes * keep + bytes, seconds: self.flow.seconds * keep + sample.seconds };
        self.at = self.at.max(now);
        Some(sample)
    }

    /// Bytes per second. Silence while bytes should flow counts.
    pub(super) fn rate(&self, now: Time) -> f64 {
        self.rate_after(self.flow, now)
    }

    /// The same, where `flow` is what the samples up to the last one say.
    pub(super) fn rate_after(&self, flow: Flow, now: Time) -> f64 {
        let since = if self.busy() { now.seconds_since(self.at) } else { 0.0 };
        if since == 0.0 {
            return (flow.bytes / flow.seconds).max(1.0);
        }
        let keep = (-since / self.memory_seconds).exp();
        ((flow.bytes * keep + self.unsampled_bytes as f64) / (flow.seconds * keep + since)).max(1.0)
    }
}
