//! Named counters and gauges of one mount, and their snapshot.
//!
//! One `Metrics` is made per mount and handed down; nothing here is global, so two mounts in one
//! process (tests do that) never mix. A name's unit is its last word.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Add `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// What it stands at.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down and is zero at rest.
#[derive(Default, Debug)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Up by `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Down by `amount`. More than it stands at is a bug of the caller; it stops at zero.
    pub fn sub(&self, amount: u64) {
        let result = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| Some(at.saturating_sub(amount)));
        debug_assert!(result.is_ok_and(|before| before >= amount), "a gauge went below zero");
    }

    /// What it stands at.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    (counters { $($(#[doc = $cdoc:literal])+ $counter:ident,)+ } gauges { $($(#[doc = $gdoc:literal])+ $gauge:ident,)+ }) => {
        /// Every counter and gauge of a mount.
        #[derive(Default, Debug)]
        pub struct Metrics {
            $($(#[doc = $cdoc])+ pub $counter: Counter,)+
            $($(#[doc = $gdoc])+ pub $gauge: Gauge,)+
        }

        impl Metrics {
            /// Every name with its value, in the order of declaration.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($counter), self.$counter.get()),)+ $((stringify!($gauge), self.$gauge.get()),)+]
            }

            /// Every counter with what it counts.
            pub fn counters() -> &'static [(&'static str, &'static str)] {
                &[$((stringify!($counter), concat!($($cdoc),+)),)+]
            }

            /// Every gauge with what it shows.
            pub fn gauges() -> &'static [(&'static str, &'static str)] {
                &[$((stringify!($gauge), concat!($($gdoc),+)),)+]
            }
        }
    };
}

metrics! {
    counters {
        /// Bytes handed to readers.
        read_bytes,
        /// Reads answered, with data or with an error.
        reads,
        /// Reads answered from memory at once.
        read_memory_hits,
        /// Reads answered from the disk cache without the network.
        read_disk_hits,
        /// Reads that waited for a mirror.
        read_misses,
        /// Reads answered with an error.
        read_errors,
        /// Reads that took longer than `--otlp-slow`, where spans are exported.
        slow_reads,
        /// Of those, the ones that no spans were exported of: too many at once, or the receiver did not take them.
        slow_reads_dropped,
        /// Spans that the receiver took.
        exported_spans,
        /// Exports of spans that failed.
        export_failures,
        /// Reads copied once into scratch because their pages were not neighbours in memory.
        read_copies,
        /// Body bytes of file data accepted from mirrors.
        fetched_bytes,
        /// Bytes that mirrors were asked for to compare them with what is held; not among those fetched.
        compared_bytes,
        /// Body bytes that arrived and were thrown away (late, or already held).
        wasted_bytes,
        /// Fetches started.
        fetches,
        /// Fetches that failed.
        fetch_failures,
        /// Fetches whose unfinished pages were given to another mirror.
        redispatches,
        /// Alerts raised: something that a person should know, said in the log.
        alerts,
        /// Index pages read.
        listings,
        /// Index pages that could not be read.
        listing_failures,
        /// Names in index pages that were refused.
        refused_names,
        /// Bytes written to the disk cache and durable.
        disk_written_bytes,
        /// Bytes read from the disk cache.
        disk_read_bytes,
        /// Bytes whose write to the disk cache was let go because the disk was slower than the network.
        disk_let_go_bytes,
        /// Bytes written to the disk cache by way of the kernel's memory, because readers were faster than the disk for a while.
        disk_burst_bytes,
        /// Errors of the disk cache.
        disk_errors,
        /// Pages whose checksum did not match when read back.
        disk_damaged_pages,
        /// Bytes that the scrub, or `braidfs verify`, has read from the disk cache and compared with their checksums.
        disk_verified_bytes,
        /// Changes of cached files that lost against a newer one.
        disk_stale_changes,
        /// Opens of files whose reads the kernel answers from the cache's disk by itself.
        passthrough_opens,
        /// Whole files whose bytes match the hash that is known for them.
        hashes_right,
        /// Whole files whose bytes do not.
        hashes_wrong,
        /// Bytes evicted from memory.
        memory_evicted_bytes,
        /// Bytes evicted from disk.
        disk_evicted_bytes,
    }
    gauges {
        /// Reads that wait now.
        waiting_reads,
        /// Fetches in flight now.
        fetches_in_flight,
        /// Bytes on their way to the disk cache now.
        disk_queue_bytes,
        /// Handles open now.
        open_handles,
        /// Uses of files now: by handles, jobs, checks and what is brought ahead.
        open_files,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_named_once_and_explained() {
        let metrics = Metrics::default();
        metrics.read_bytes.add(7);
        let snapshot = metrics.snapshot();
        assert!(snapshot.contains(&("read_bytes", 7)));
        let names: std::collections::BTreeSet<_> = snapshot.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), snapshot.len());
        let explained = Metrics::counters().iter().chain(Metrics::gauges());
        assert!(explained.clone().all(|(name, help)| names.contains(name) && !help.is_empty()));
        assert_eq!(explained.count(), names.len());
    }
}
