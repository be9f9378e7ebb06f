//! The cache folder that a plan asks for, opened.

use crate::cache::disk::{self, Disk};
use crate::config::plan::MountPlan;
use crate::metrics::Metrics;
use anyhow::Context;
use std::path::Path;
use std::sync::Arc;

/// Free space that is left to others on the cache's disk: enough for logs and package managers to go on.
pub const FREE_FLOOR_BYTES: u64 = 256 << 20;
/// A cache below this would be all bookkeeping (the least that --cache-size takes, too).
pub const DISK_BYTES_MIN: u64 = 16 << 20;
/// Of the memory, what may wait to be written, in quarters. What waits is pinned until a reader has no memory otherwise; then it is
/// let go, oldest first. Of the usual --memory that is a fifth of a second of a fast link, in which most disks are back from a
/// flush: with half of it a stream of 512 MiB was not wholly kept in 4 of 14 runs, with this in 3 of 43 (measured).
const DISK_QUEUE_QUARTERS: u64 = 3;

/// The disk cache; none where nothing is to be kept, or where there is next to no room.
pub(super) fn open(plan: &MountPlan, mountpoint: &Path, metrics: &Arc<Metrics>) -> anyhow::Result<Option<Disk>> {
    let Some(dir) = plan.cache.path() else { return Ok(None) };
    std::fs::create_dir_all(dir).with_context(|| {
        format!("the cache folder {} cannot be made: give another with --cache-dir, or none", dir.display())
    })?;
    let size_limit_bytes = match plan.cache_size {
        Some(bytes) => bytes,
        None => disk::default_size_limit(dir).with_context(|| format!("cannot look at {}", dir.display()))?,
    };
    if size_limit_bytes < DISK_BYTES_MIN {
        let free = size_limit_bytes >> 10;
        tracing::warn!("nothing is kept on disk: a tenth of what is free in {} is {free} KiB", dir.display());
        return Ok(None);
    }
    let settings = disk::Settings {
        dir: dir.to_owned(),
        size_limit_bytes,
        free_floor_bytes: FREE_FLOOR_BYTES,
        scrub_bytes_per_second: plan.scrub_rate,
        owner: mountpoint.display().to_string(),
        queue_bytes_max: plan.memory / 4 * DISK_QUEUE_QUARTERS,
    };
    Ok(Some(Disk::open(settings, metrics.clone())?))
}
