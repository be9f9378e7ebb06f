//! What configuration and listings say of the mirrors, and settings that change while it runs.

use super::Scheduler;
use super::settings::Settings;
use crate::chunk::MirrorId;
use crate::clock::Time;

impl Scheduler {
    /// Does this mirror serve ranges, as far as we know?
    pub fn has_ranges(&self, mirror: MirrorId) -> bool {
        self.mirrors.get(usize::from(mirror.0)).is_some_and(|mirror| mirror.ranges)
    }

    /// What a listing showed: whether it serves ranges.
    pub fn set_ranges(&mut self, mirror: MirrorId, ranges: bool) {
        if let Some(mirror) = self.mirrors.get_mut(usize::from(mirror.0)) {
            mirror.ranges = ranges;
            self.dirty = true;
        }
    }

    /// What configuration gives a mirror beside the others. Only what is above 0 counts.
    pub fn set_base_weight(&mut self, mirror: MirrorId, weight: f64) {
        if let Some(mirror) = self.mirrors.get_mut(usize::from(mirror.0))
            && weight.is_finite()
            && weight > 0.0
        {
            mirror.base_weight = weight;
            self.base_weight_max = self.mirrors.iter().map(|mirror| mirror.base_weight).fold(0.0, f64::max);
            self.dirty = true;
        }
    }

    pub(super) fn on_settings(&mut self, now: Time, settings: Settings) {
        self.bucket.set(now, settings.rate_limit.map(|limit| limit as f64));
        self.tail.set(settings.tail);
        self.settings = settings;
        self.mirrors.mark_all();
        self.dirty = true;
    }
}
