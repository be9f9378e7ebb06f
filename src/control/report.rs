//! What the daemon says, as plain data. The names are those of `--json`: they are not changed.
//!
//! Everything has a default, so that a client and a daemon of different versions understand what
//! both know.

use super::experiment::ExperimentStatus;
use super::protocol::PathText;
use super::reading::ReadingReport;
use super::reloaded::ConfigurationReport;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Mirrors of which a line of text tells the share.
const SHARES_SHOWN: usize = 3;

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
    /// `ok`, `none` (nothing is kept on disk), `full` (nothing new fits) or `failing`: what is held is served, nothing new
    /// is kept.
    pub disk_state: String,
    /// Why, in words, where it is `full` or `failing`.
    pub disk_trouble: Option<String>,
    /// Paths that eviction leaves alone.
    pub pins: Vec<PinnedPath>,
    /// Bytes of the files there, when they were pinned.
    pub pinned_bytes: u64,
    /// The configuration file; none where the mount has none.
    pub configuration: Option<ConfigurationReport>,
    /// The experiment that runs; none where none does.
    pub experiment: Option<ExperimentStatus>,
    /// How long the oldest read or lookup that waits has waited, in milliseconds; none where none waits.
    pub oldest_operation_ms: Option<u64>,
    /// From the arrival of a waiting read's last page to its answer; none before the first.
    pub handoff: Option<HandoffReport>,
    /// Every mirror, in the order given.
    pub mirrors: Vec<MirrorReport>,
    /// Prefetch jobs, running ones and the last few that ended.
    pub jobs: Vec<JobReport>,
    /// Open files, the one that was read last first, at most 64.
    pub files: Vec<ReadingReport>,
    /// Every counter and gauge by its name.
    pub counters: BTreeMap<String, u64>,
}

/// How long waiting reads wait for us once their bytes are here.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct HandoffReport {
    /// Reads that waited and were answered.
    pub count: u64,
    /// Half of them took at most so long, in microseconds.
    pub median_us: f64,
    /// 99 of 100 took at most so long.
    pub p99_us: f64,
    /// The longest.
    pub longest_us: f64,
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
    /// Requests on their way.
    pub in_flight_fetches: u64,
    /// How overloaded it is, 0 to 1.
    pub load: f64,
    /// Its live weight, 0.1 to 1; 0 before it is known.
    pub weight: f64,
    /// Failures since the mount.
    pub failures: u64,
    /// The last one, in words.
    pub last_failure: Option<String>,
    /// What it answered that cannot be true, each kind once.
    pub lies: Vec<String>,
}

/// `braidfs mirrors`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct MirrorsReport {
    /// Where it is mounted.
    pub mountpoint: String,
    /// The dataset's name.
    pub name: String,
    /// How mirrors are chosen.
    pub strategy: String,
    /// The ways that there are.
    pub strategies: Vec<String>,
    /// How they were chosen before this command switched it; none where it did not.
    pub strategy_before: Option<String>,
    /// Decisions since the mount.
    pub decisions: u64,
    /// Requests for data since the mount.
    pub requests: u64,
    /// Requests for one byte, to see whether a mirror lives and how far it is.
    pub probes: u64,
    /// Those of them to mirrors that had nothing to do while somebody read.
    pub light_probes: u64,
    /// Late demand fetches that were sent to a second mirror.
    pub hedges_issued: u64,
    /// Those where the second was first.
    pub hedges_won: u64,
    /// Bytes that the losers had brought.
    pub hedges_wasted_bytes: u64,
    /// The P99 of demand misses of late, in milliseconds; none where too few are known.
    pub demand_p99_ms: Option<f64>,
    /// What it should be.
    pub demand_objective_ms: f64,
    /// The part of the windows that readahead and prefetch may use, 0.1 to 1.
    pub background_share: f64,
    /// Every mirror, in the order given.
    pub mirrors: Vec<MirrorDetail>,
    /// Those that were taken out by hand, by URL.
    pub taken_out: Vec<String>,
}

/// One mirror in `mirrors`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct MirrorDetail {
    /// What `status` says of it, under the same names.
    #[serde(flatten)]
    pub status: MirrorReport,
    /// Its part of all body bytes since the mount, 0 to 1; none before the first byte.
    pub bytes_share: Option<f64>,
    /// What it may have in flight for the background, in bytes.
    pub window_bytes: u64,
    /// Background fetches that it may have at a time.
    pub connections: u64,
    /// It serves ranges, as far as is known.
    pub ranges: bool,
    /// How much it is to be used beside the others, by configuration or by hand.
    pub base_weight: f64,
    /// How its weight decays with load: `none`, `mild`, `standard` or `aggressive`.
    pub decay: String,
    /// The part of its fetches that came to nothing of late, 0 to 1.
    pub trouble: f64,
    /// The median of its times to first byte of late, in milliseconds; none before the first.
    pub time_to_first_byte_p50_ms: Option<f64>,
    /// Their P99.
    pub time_to_first_byte_p99_ms: Option<f64>,
    /// How many took less than 1 ms, less than 2, less than 4 and so on up to 16384, and how many longer, since the mount.
    pub time_to_first_byte_counts: Vec<u64>,
    /// Round-trip jitter as in RFC 3550, in milliseconds; none before the second answer.
    pub jitter_ms: Option<f64>,
    /// Jitter is so high that the rate is a moving average.
    pub throughput_averaged: bool,
    /// The part of its rate that it lost from one half of the last 200 ms to the other, 0 to 1.
    pub throughput_decay: f64,
    /// The part of its last 64 answers that were errors, 0 to 1; none before the first.
    pub error_rate: Option<f64>,
    /// Answers that broke off in their body.
    pub resets: u64,
    /// Answers that fell silent.
    pub stalls: u64,
    /// Times that it answered again after one of these.
    pub reconnects: u64,
    /// How long ago its time to first byte was last learned, in seconds; none where it never was.
    pub first_byte_learned_ago_s: Option<f64>,
    /// The same of its rate.
    pub throughput_learned_ago_s: Option<f64>,
    /// The same of its error rate.
    pub errors_learned_ago_s: Option<f64>,
    /// How far its latency is from its own baseline; none until 500 samples of each are known.
    pub stability_index: Option<f64>,
    /// Failures since the mount, by kind.
    pub failures_by_kind: BTreeMap<String, u64>,
    /// What an earlier mount measured and this one has not yet; none once it has.
    pub supposed: Option<SupposedReport>,
}

/// What an earlier mount measured of a mirror.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SupposedReport {
    /// What it delivered then.
    pub throughput_bytes_per_second: Option<f64>,
    /// What its first byte took.
    pub time_to_first_byte_ms: Option<f64>,
    /// Background fetches at a time that filled its link, where others were tried.
    pub connections: Option<u64>,
    /// It had no ranges.
    pub no_ranges: bool,
    /// The age of the youngest of these.
    pub age_s: f64,
    /// How much that counts, 0 to 1: half after a day.
    pub trust: f64,
}

/// `braidfs explain`, after its decisions.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct ExplainReport {
    /// The file or page that it is about; none: all files.
    pub about: Option<AboutReport>,
    /// How many of those that are kept are about it.
    pub decisions_matching: u64,
    /// How many are kept at all.
    pub decisions_kept: u64,
    /// How many there were since the mount.
    pub decisions_made: u64,
    /// How long ago the oldest that is kept was made, in milliseconds.
    pub oldest_ago_ms: Option<f64>,
}

/// What a report of `explain` is about.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct AboutReport {
    /// Relative to the mountpoint.
    pub path: PathText,
    /// In bytes.
    pub size: u64,
    /// The offset that was asked about; none: the whole file.
    pub offset_bytes: Option<u64>,
    /// Bytes of what is asked about: of the page at the offset, or of the file.
    pub asked_bytes: u64,
    /// Bytes of that which are held, in memory or on disk, each counted once.
    pub cached_bytes: u64,
    /// In memory.
    pub in_memory_bytes: u64,
    /// On disk.
    pub on_disk_bytes: u64,
    /// A page that is held: who brought it. None where that is not known: before this mount, or too long ago.
    pub came_from: Option<String>,
    /// How long ago, in milliseconds.
    pub came_ago_ms: Option<f64>,
    /// Mirrors that have the file and are not asked for it, since they do not serve the same, or nobody knows yet.
    pub left_out: Vec<LeftOutReport>,
}

/// A mirror that is not asked for a file.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct LeftOutReport {
    /// Which.
    pub url: String,
    /// `differs`, `being-compared` or `not-compared`.
    pub standing: String,
    /// The same in words.
    pub why: String,
}

/// One decision: which mirror gets these pages.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct DecisionReport {
    /// Its number: from 1 on since the mount, without gaps.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at_unix_ms: i64,
    /// How long ago, in milliseconds.
    pub ago_ms: f64,
    /// Relative to the mountpoint; none where the file is not known any more.
    pub path: Option<PathText>,
    /// Where in it.
    pub offset_bytes: u64,
    /// How much.
    pub bytes: u64,
    /// The same in pages of 4 KiB: the first, and how many.
    pub first_page: u64,
    /// How many.
    pub pages: u64,
    /// `demand`, `readahead` or `prefetch`.
    pub class: String,
    /// How mirrors were chosen then.
    pub strategy: String,
    /// `wanted`, or `hedge`: an earlier fetch for it was late.
    pub cause: String,
    /// The number of the fetch; neighbours may share one.
    pub fetch: u64,
    /// It has not ended yet.
    pub in_flight: bool,
    /// How many mirrors could have been asked.
    pub considered: u64,
    /// What scores and terms are counted in: `ms`, `places` (round-robin) or `lots` (weighted-random).
    pub unit: String,
    /// The best of them, at most 8, the least score first: the first got it.
    pub mirrors: Vec<RatedReport>,
}

/// One mirror in a decision.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct RatedReport {
    /// Which.
    pub url: String,
    /// The sum of its terms: the least wins.
    pub score: f64,
    /// The parts of its score by name.
    pub terms: BTreeMap<String, f64>,
    /// What was taken to be its rate.
    pub throughput_bytes_per_second: f64,
    /// And its time to first byte, in milliseconds.
    pub time_to_first_byte_ms: f64,
    /// Bytes that were in flight on it or meant for it.
    pub load_bytes: u64,
    /// Fetches that were in flight on it.
    pub in_flight_fetches: u64,
    /// Its live weight.
    pub weight: f64,
}

/// One prefetch job in `status`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct JobReport {
    /// Its number.
    pub job: u64,
    /// `running`, `done`, `failed` (some files did), `cancelled`, or `abandoned` (whoever waited for it went away).
    pub state: String,
    /// What was asked for, relative to the mountpoint, the first 20 of it; an empty path: all there is.
    pub paths: Vec<PathText>,
    /// How many paths that are in all.
    pub paths_total: u64,
    /// Ranges of them, where only those are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranges_total: Option<u64>,
    /// It asks for no more than so much in any second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_bytes_per_second: Option<u64>,
    /// Files that it gave up, the first 20 of them.
    pub failures: Vec<FailedFile>,
    /// How far it is.
    pub progress: Progress,
}

/// How far a prefetch is.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Default, PartialEq, Debug)]
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
    /// Files that wait for the hours that a rule gives them.
    pub files_waiting: u64,
    /// When those begin, by the daemon's local time: `01:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<String>,
    /// What mirrors have brought since the job began (or goes on, in a later mount), for whoever; the most first, at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<MirrorShare>,
}

/// What a mirror has brought meanwhile.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct MirrorShare {
    /// Without credentials.
    pub url: String,
    /// Body bytes from it.
    pub bytes_fetched: u64,
}

impl Progress {
    /// `, 3 files wait until 01:00`, where any do.
    pub fn waiting_text(&self) -> String {
        match &self.waits_until {
            Some(time) if self.files_waiting == 1 => format!(", 1 file waits until {time}"),
            Some(time) => format!(", {} files wait until {time}", self.files_waiting),
            None => String::new(),
        }
    }

    /// `a:80 60 %, b:81 40 %`: the shares of the mirrors, the largest few.
    pub fn shares_text(&self) -> String {
        let all: u64 = self.mirrors.iter().map(|share| share.bytes_fetched).sum();
        let text = |share: &MirrorShare| {
            let host = share.url.split_once("://").map_or(share.url.as_str(), |(_, rest)| rest);
            format!("{} {} %", host.trim_end_matches('/'), (share.bytes_fetched * 100 + all / 2) / all.max(1))
        };
        let shown: Vec<String> = self.mirrors.iter().take(SHARES_SHOWN).map(text).collect();
        match self.mirrors.len().saturating_sub(SHARES_SHOWN) {
            0 => shown.join(", "),
            more => format!("{}, {more} more", shown.join(", ")),
        }
    }
}

/// A file that a prefetch gave up.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct FailedFile {
    /// Relative to the mountpoint.
    #[schemars(with = "String")]
    pub path: PathText,
    /// Why, in words.
    pub reason: String,
}

/// How a prefetch ended; or, with `--no-wait`, that it began.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Default, PartialEq, Debug)]
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

/// A line of an access profile: bytes of a file that were read.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct AccessReport {
    /// Relative to the mountpoint.
    pub path: PathText,
    /// Where in it, in bytes.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

/// How a recording ended.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct RecordReport {
    /// Files that were read.
    pub files: u64,
    /// Ranges of them: lines of the profile.
    pub ranges: u64,
    /// Bytes in these.
    pub bytes: u64,
    /// Reads that came faster than they could be written down, and are not in it.
    pub lost_reads: u64,
    /// It has as many ranges as a profile may have, and ended by itself.
    pub full: bool,
}

/// What of some paths is durable on disk (`prefetch --check`).
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct CheckReport {
    /// Files found.
    pub files_total: u64,
    /// Files of which all is durable.
    pub files_complete: u64,
    /// Files of which some is.
    pub files_in_part: u64,
    /// Files of which nothing is.
    pub files_missing: u64,
    /// Bytes of them that are durable.
    pub bytes_durable: u64,
    /// Bytes of them in all.
    pub bytes_total: u64,
    /// Paths that could not be looked at; each was named.
    pub failed: u64,
}

/// A pinned path in `status`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct PinnedPath {
    /// Relative to the mountpoint; empty: all of it.
    pub path: PathText,
    /// What the files there had in bytes when it was pinned.
    pub bytes: u64,
}

/// Cached bytes that did not match their checksums.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct DamagedRange {
    /// Of which file, relative to the mountpoint.
    pub path: PathText,
    /// Where in it.
    pub offset_bytes: u64,
    /// How many.
    pub bytes: u64,
}

/// How `pin` or `unpin` ended.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct PinReport {
    /// Paths that were pinned or unpinned.
    pub paths: u64,
    /// Files there; 0 after `unpin`.
    pub files: u64,
    /// Their bytes, cached or not; 0 after `unpin`.
    pub bytes: u64,
    /// Bytes of all that is pinned now.
    pub pinned_bytes: u64,
    /// What can be pinned in all.
    pub pinnable_bytes: u64,
}

/// How `evict` ended.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct EvictReport {
    /// Files of which something was on disk.
    pub files: u64,
    /// Bytes of them that were on disk.
    pub disk_bytes: u64,
    /// Bytes that were in memory.
    pub memory_bytes: u64,
    /// Paths that were not evicted; each was named.
    pub failed: u64,
}

/// How `verify` ended.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct VerifyReport {
    /// Files of which something is on disk.
    pub files: u64,
    /// Bytes that were read and compared with their checksums.
    pub bytes: u64,
    /// Of those, bytes that did not match; each range was named.
    pub damaged_bytes: u64,
    /// Paths that could not be verified; each was named.
    pub failed: u64,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}
