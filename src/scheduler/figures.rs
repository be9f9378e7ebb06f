//! What strategies see of the mirrors, column by column: a choice goes over them all, and this way over little memory
//! and several at a time.

use super::strategy::MirrorStats;
use crate::chunk::MirrorId;

/// Mirrors beside each other: as many as two vector registers hold.
pub(super) const BESIDE: usize = 8;

/// The figures of some mirrors, each figure of all of them together.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    seconds_per_byte: [f32; BESIDE],
    latency_seconds: [f32; BESIDE],
    busy_latency_seconds: [f32; BESIDE],
    doubt: [f32; BESIDE],
    whole: [f32; BESIDE],
    pub(super) queued_seconds: [f32; BESIDE],
    pub(super) fetches: [f32; BESIDE],
    silence_seconds: [f32; BESIDE],
    trouble_seconds: [f32; BESIDE],
    pub(super) weight: [f32; BESIDE],
    weight_excess: [f32; BESIDE],
    pub(super) weight_before: [f32; BESIDE],
    learned: [[f32; BESIDE]; 4],
}

impl Figures {
    #[inline(always)]
    pub(super) fn of(&self, id: MirrorId) -> MirrorStats {
        let at = usize::from(id.0) % BESIDE;
        MirrorStats {
            id,
            seconds_per_byte: self.seconds_per_byte[at],
            latency_seconds: self.latency_seconds[at],
            busy_latency_seconds: self.busy_latency_seconds[at],
            doubt: self.doubt[at],
            whole: self.whole[at],
            queued_seconds: self.queued_seconds[at],
            fetches: self.fetches[at],
            silence_seconds: self.silence_seconds[at],
            trouble_seconds: self.trouble_seconds[at],
            weight: self.weight[at],
            weight_excess: self.weight_excess[at],
            weight_before: self.weight_before[at],
            learned: std::array::from_fn(|of| self.learned[of][at]),
        }
    }

    pub(super) fn put(&mut self, stats: &MirrorStats) {
        let at = usize::from(stats.id.0) % BESIDE;
        self.seconds_per_byte[at] = stats.seconds_per_byte;
        self.latency_seconds[at] = stats.latency_seconds;
        self.busy_latency_seconds[at] = stats.busy_latency_seconds;
        self.doubt[at] = stats.doubt;
        self.whole[at] = stats.whole;
        self.queued_seconds[at] = stats.queued_seconds;
        self.fetches[at] = stats.fetches;
        self.silence_seconds[at] = stats.silence_seconds;
        self.trouble_seconds[at] = stats.trouble_seconds;
        self.weight[at] = stats.weight;
        self.weight_excess[at] = stats.weight_excess;
        (0..4).for_each(|of| self.learned[of][at] = stats.learned[of]);
    }
}
