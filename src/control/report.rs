//! What the daemon says, as plain data. The names are those of `--json`: they are not changed.
//!
//! Everything has a default, so that a client and a daemon of different versions understand what
//! both know.

use super::protocol::PathText;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `braidfs status`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct StatusReport {
    /// Where it is mounted.
    pub mountpoint: String,
    /// The dataset's name.
    pub name: String,
    /// The daemon's process.
    pub pid: u32,
    /// Since the mount, in seconds.
    pub uptime_s: f64,
    /// `online`, `offline` (no mirror answers, what is cached is served) or `reading-through` (the disk
    /// cache is out of use).
    pub state: String,
    /// The cache folder; none where nothing is kept on disk.
    pub cache_dir: Option<String>,
    /// Bytes handed to readers.
    pub bytes_read: u64,
    /// Body bytes that mirrors delivered, wasted ones too.
    pub bytes_fetched: u64,
    /// `bytes_fetched` over `bytes_read`; none before the first read.
    pub read_amplification: Option<f64>,
    /// Reads answered.
    pub reads: u64,
    /// Of those, by an error.
    pub read_errors: u64,
    /// Part of the reads that did not wait for a mirror, 0 to 1; none before the first read.
    pub hit_ratio: Option<f64>,
    /// Bytes that the pool holds.
    pub memory_bytes: u64,
    /// And may hold at most.
    pub memory_limit: u64,
    /// Bytes that the cache takes on disk.
    pub disk_bytes: u64,
    /// And may take at most; 0 where nothing is kept on disk.
    pub disk_limit: u64,
    /// `ok`, `none` (nothing is kept on disk) or `failing` (what is held is served, nothing new is kept).
    pub disk_state: String,
    /// How long the oldest read or lookup that waits has waited, in milliseconds; none where none waits.
    pub oldest_operation_ms: Option<u64>,
    /// Every mirror, in the order given.
    pub mirrors: Vec<MirrorReport>,
    /// Prefetch jobs, running ones and the last few that ended.
    pub jobs: Vec<JobReport>,
    /// Every counter and gauge by its name.
    pub counters: BTreeMap<String, u64>,
}

/// One mirror in `status`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct MirrorReport {
    /// Its base URL, without credentials.
    pub url: String,
    /// `closed` (in use), `open` (left alone until `next_try_s`), `half-open` (being tried), or a word
    /// of the same kind.
    pub state: String,
    /// Why it is in that state, where it is not in use.
    pub reason: Option<String>,
    /// When it is tried next, in seconds from now.
    pub next_try_s: Option<f64>,
    /// Body bytes that it delivered.
    pub bytes_fetched: u64,
    /// As measured; 0 before the first measurement.
    pub throughput_bytes_per_second: f64,
    /// As measured, in milliseconds; none before the first measurement.
    pub time_to_first_byte_ms: Option<f64>,
    /// Bytes asked of it that have not come yet.
    pub in_flight_bytes: u64,
    /// Failures since the mount.
    pub failures: u64,
    /// The last one, in words.
    pub last_failure: Option<String>,
    /// What it answered that cannot be true, each kind once.
    pub lies: Vec<String>,
}

/// One prefetch job in `status`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct JobReport {
    /// Its number.
    pub job: u64,
    /// `running`, `done` or `failed`.
    pub state: String,
    /// How far it is.
    pub progress: Progress,
}

/// `braidfs status FILE`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct FileReport {
    /// Relative to the mountpoint.
    pub path: PathText,
    /// In bytes.
    pub size: u64,
    /// Bytes of it that are held, in memory or on disk, each counted once.
    pub cached_bytes: u64,
    /// In memory.
    pub in_memory_bytes: u64,
    /// Durable on disk.
    pub on_disk_bytes: u64,
    /// What tells this version from others: date and validators, in words.
    pub version: String,
    /// The mirrors that have this version.
    pub mirrors: Vec<String>,
    /// The mirrors that have the file otherwise, and are not used for it.
    pub dissenters: Vec<Dissenter>,
}

/// A mirror that does not agree on a file.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct Dissenter {
    /// Which.
    pub url: String,
    /// How it has the file.
    pub why: String,
}

/// How far a prefetch is.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct Progress {
    /// Bytes durable on disk, those that were there before too.
    pub bytes_done: u64,
    /// Bytes of all files found so far.
    pub bytes_total: u64,
    /// Files durable on disk.
    pub files_done: u64,
    /// Files found so far.
    pub files_total: u64,
    /// Files given up.
    pub files_failed: u64,
    /// Folders are still being listed: the totals grow.
    pub listing: bool,
    /// Since the job began, in milliseconds.
    pub elapsed_ms: u64,
}

/// A file that a prefetch gave up.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct FailedFile {
    /// Relative to the mountpoint.
    pub path: PathText,
    /// Why, in words.
    pub reason: String,
}

/// How a prefetch ended; or, with `--no-wait`, that it began.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct PrefetchReport {
    /// The number of the job.
    pub job: u64,
    /// All of it was tried. `false`: it goes on by itself.
    pub finished: bool,
    /// Where it stands.
    pub progress: Progress,
    /// Bytes that had to be fetched for it.
    pub bytes_fetched: u64,
}
