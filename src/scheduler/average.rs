//! An exponentially weighted moving average of a rate: bytes over busy time, older ones counting less.
//!
//! Time in which nothing was asked does not count, so a slow reader does not make a slow mirror.

use crate::clock::Time;

/// What is supposed before anything is known counts like so much busy time, so that the burst with which
/// shaped links begin does not pass for their rate.
pub(super) const SUPPOSED_SECONDS: f64 = 0.03;

/// A rate is known after so many bytes: one first fetch.
pub(super) const KNOWN_BYTES: u64 = 128 << 10;
/// Small bodies that were here so soon after their headers had waited in a socket or came in the burst with which a shaped
/// link begins; what is left of them to time is how soon we looked.
pub(super) const SHORT_SECONDS: f64 = 0.005;
/// And so are those of which most was here at once, unless the rest took so long that it must be the link.
const FLOW_SECONDS: f64 = 0.05;
/// No more than so many supposed bytes count, or a mirror that was fast once and is slow now would be believed for long.
const SUPPOSED_BYTES: f64 = 200e3;

/// Bytes, and the busy seconds in which they came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Flow {
    pub(super) bytes: f64,
    pub(super) seconds: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Average {
    memory_seconds: f64,
    pub(super) flow: Flow,
    /// When the last sample was taken.
    pub(super) at: Time,
    busy_since: Option<Time>,
    /// What came since the last sample.
    unsampled_bytes: u64,
    /// What was here at once when it began to flow, what came after that, and when the last of it did.
    burst_bytes: u64,
    flowed_bytes: u64,
    pub(super) came_at: Time,
    /// All that ever counted.
    pub(super) total_bytes: u64,
}

impl Average {
    /// Nothing measured, `supposed` bytes per second.
    pub(super) fn new(supposed: f64, memory_seconds: f64) -> Average {
        let seconds = SUPPOSED_SECONDS.min(SUPPOSED_BYTES / supposed);
        Average {
            memory_seconds,
            flow: Flow { bytes: supposed * seconds, seconds },
            at: Time(0),
            busy_since: None,
            unsampled_bytes: 0,
            burst_bytes: 0,
            flowed_bytes: 0,
            came_at: Time(0),
            total_bytes: 0,
        }
    }

    /// Bytes are about to flow.
    pub(super) fn start(&mut self, now: Time) {
        if self.busy_since.is_none() {
            self.busy_since = Some(now);
            (self.burst_bytes, self.flowed_bytes) = (0, 0);
            (self.at, self.came_at) = (now, now);
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
        match self.busy_since {
            Some(since) if since < now => {
                self.flowed_bytes += bytes;
                self.came_at = now;
                self.unsampled_bytes += bytes;
                self.total_bytes += bytes;
            }
            Some(_) => self.burst_bytes += bytes,
            None => {}
        }
    }

    /// Does what has come since it began to flow say something of the link?
    pub(super) fn tells(&self) -> bool {
        let Some(since) = self.busy_since else { return false };
        let seconds = self.came_at.seconds_since(since);
        self.burst_bytes + self.flowed_bytes >= KNOWN_BYTES
            || seconds >= FLOW_SECONDS
            || seconds >= SHORT_SECONDS && self.flowed_bytes >= self.burst_bytes
    }

    /// What has come since the last sample does not count.
    pub(super) fn discard(&mut self) {
        self.total_bytes -= std::mem::take(&mut self.unsampled_bytes);
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
