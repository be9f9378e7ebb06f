//! What `status` shows of the engine: plain numbers and words, read without disturbing it.

use crate::cache::disk::{Health, Pin};
use crate::chunk::{MirrorId, Pages};
use crate::clock::now;
use crate::fetch::engine::{Engine, walk};
use crate::fetch::error::Trouble;
use crate::fetch::handoff::HandoffReport;
use crate::fetch::in_use::InUse;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::Plane;
use crate::scheduler::Live;
use std::sync::Arc;
use std::time::Duration;

/// One mount.
#[derive(Clone, Debug)]
pub struct Report {
    /// No mirror answers.
    pub offline: bool,
    /// Why the disk cache is being read through, where it is.
    pub disk_trouble: Option<String>,
    /// Why nothing new fits into the disk cache, where that is so.
    pub disk_full: Option<String>,
    /// What is pinned, and how many bytes that is.
    pub pins: (Vec<Pin>, u64),
    /// How long it has been mounted.
    pub uptime: Duration,
    /// Bytes that the pool holds, and may hold.
    pub memory_bytes: u64,
    /// The pool's limit.
    pub memory_limit: u64,
    /// Bytes of the disk cache, where there is one.
    pub disk_bytes: u64,
    /// Its limit; 0 where there is none.
    pub disk_limit: u64,
    /// How long the oldest read has waited.
    pub oldest_read: Option<Duration>,
    /// How long answers took from the arrival of their last page; none before the first.
    pub handoff: Option<HandoffReport>,
    /// Each mirror.
    pub mirrors: Vec<MirrorReport>,
    /// Every counter and gauge by name.
    pub counters: Vec<(&'static str, u64)>,
}

/// One mirror.
#[derive(Clone, Debug, Default)]
pub struct MirrorReport {
    /// Its URL, without credentials.
    pub url: String,
    /// In one word: `untried`, `good`, `away`, …
    pub state: String,
    /// Why it is not used, where it is not.
    pub reason: Option<String>,
    /// When it will be tried again.
    pub next_try: Option<Duration>,
    /// Body bytes accepted from it.
    pub fetched_bytes: u64,
    /// What it delivers.
    pub bytes_per_second: f64,
    /// What its first byte takes.
    pub first_byte: Option<Duration>,
    /// Bytes asked of it that have not arrived.
    pub in_flight_bytes: u64,
    /// In how many fetches.
    pub in_flight_fetches: u64,
    /// How overloaded it is, 0 to 1.
    pub load: f64,
    /// Its live weight, 0.1 to 1.
    pub weight: f64,
    /// How often it failed.
    pub failures: u64,
    /// How it failed last.
    pub last_failure: Option<String>,
    /// Answers of it that were not what was asked for.
    pub lies: Vec<String>,
}

/// One file or folder.
#[derive(Clone, Debug, Default)]
pub struct FileReport {
    /// Its size; 0 of a folder.
    pub size_bytes: u64,
    /// It is a folder.
    pub folder: bool,
    /// Bytes of it on disk.
    pub disk_bytes: u64,
    /// Bytes of it in memory.
    pub memory_bytes: u64,
    /// Bytes of it in either, each counted once.
    pub held_bytes: u64,
    /// Eviction leaves it alone.
    pub pinned: bool,
    /// Its date and generation, in words.
    pub version: String,
    /// The mirrors that serve this version.
    pub mirrors: Vec<String>,
    /// Those that do not, and why.
    pub dissenters: Vec<(String, String)>,
}

impl Engine {
    /// The whole mount.
    pub fn report(&self) -> Report {
        let plane = &self.plane;
        let time = now();
        Report {
            offline: plane.is_offline(),
            disk_trouble: plane.disk.as_ref().and_then(|disk| trouble(disk.health())),
            disk_full: plane.disk.as_ref().and_then(|disk| disk.full()),
            pins: plane.disk.as_ref().map(|disk| (disk.pins(), disk.pinned_bytes())).unwrap_or_default(),
            uptime: time.since(self.started),
            memory_bytes: plane.pool.used_bytes(),
            memory_limit: plane.pool.limit_bytes(),
            disk_bytes: plane.disk.as_ref().map_or(0, |disk| disk.used_bytes()),
            disk_limit: plane.disk.as_ref().map_or(0, |disk| disk.limit_bytes()),
            handoff: plane.waiting.handoffs.report(),
            oldest_read: plane.waiting.oldest().map(|since| time.since(since)),
            mirrors: self.mirror_reports(),
            counters: plane.metrics.snapshot(),
        }
    }

    fn mirror_reports(&self) -> Vec<MirrorReport> {
        let mirrors = self.plane.mirrors.in_use().map(|(mirror, _)| mirror);
        mirrors.map(|mirror| self.mirror_report(mirror, self.plane.published.live(mirror))).collect()
    }

    /// One mirror, as `seen` by the scheduler, if it was.
    pub(in crate::fetch) fn mirror_report(&self, mirror: MirrorId, seen: Option<Live>) -> MirrorReport {
        let member = self.plane.mirrors.of(mirror);
        let words = member.words();
        let mut report = MirrorReport {
            url: member.url(),
            state: "untried".into(),
            fetched_bytes: self.plane.published.fetched_bytes(mirror),
            failures: words.failures,
            last_failure: words.last_failure,
            lies: words.lies,
            ..MirrorReport::default()
        };
        if let Some(seen) = seen {
            report.state = seen.state.name().to_owned();
            report.reason = seen.reason.map(|reason| reason.name().to_owned());
            report.next_try = seen.next_try.map(|at| at.since(now()));
            report.bytes_per_second = seen.bytes_per_second.unwrap_or(0.0);
            report.first_byte = seen.time_to_first_byte;
            report.in_flight_bytes = seen.in_flight_bytes;
            report.in_flight_fetches = seen.in_flight_fetches as u64;
            (report.load, report.weight) = (seen.load, seen.weight);
            // Silence is seen by the scheduler alone.
            report.failures += seen.stalled;
        }
        report
    }

    /// Body bytes that mirrors delivered since the mount.
    pub fn fetched_bytes(&self) -> u64 {
        self.plane.metrics.fetched_bytes.get()
    }

    /// One path, relative to the mount.
    pub async fn file_report(self: &Arc<Self>, path: &[u8]) -> Result<FileReport, Trouble> {
        let found = walk(&self.tree, path).await?;
        let version = self.tree.namespace.read().version(found.inode);
        let Some(version) = version else {
            let mirrors = self.plane.mirrors.in_use().map(|(_, member)| member.url()).collect();
            return Ok(FileReport { folder: true, mirrors, ..FileReport::default() });
        };
        let file = InUse::open(&self.plane, &self.tree, found.inode).await?;
        let url = |mirror: MirrorId| self.plane.mirrors.of(mirror).url();
        let held = HeldBytes::of(&self.plane, &file, file.pages());
        Ok(FileReport {
            size_bytes: file.size_bytes,
            folder: false,
            disk_bytes: held.disk_bytes,
            memory_bytes: held.memory_bytes,
            held_bytes: held.either_bytes,
            pinned: self.plane.disk.as_ref().is_some_and(|disk| disk.pin_over(&file.path).is_some()),
            version: named(version.modified_unix_s, version.generation),
            mirrors: version.mirrors.iter().map(url).collect(),
            dissenters: version.dissenters.into_iter().map(|other| (url(other.mirror), other.why)).collect(),
        })
    }
}

/// How much of some pages of a file is held, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBytes {
    /// All of them.
    pub asked_bytes: u64,
    /// In memory.
    pub memory_bytes: u64,
    /// On disk.
    pub disk_bytes: u64,
    /// In either, each counted once.
    pub either_bytes: u64,
}

impl HeldBytes {
    pub(in crate::fetch) fn of(plane: &Plane, file: &OpenFile, pages: Pages) -> HeldBytes {
        let bytes = |runs: &[Pages]| runs.iter().map(|run| run.len_bytes(file.size_bytes)).sum::<u64>();
        let missing = plane.pool.missing(file.inode, pages);
        let nowhere: Vec<_> = missing.iter().flat_map(|&run| off_disk(file, run)).collect();
        let asked_bytes = bytes(&[pages]);
        HeldBytes {
            asked_bytes,
            memory_bytes: asked_bytes - bytes(&missing),
            disk_bytes: asked_bytes - bytes(&off_disk(file, pages)),
            either_bytes: asked_bytes - bytes(&nowhere),
        }
    }
}

fn off_disk(file: &OpenFile, pages: Pages) -> Vec<Pages> {
    file.disk.as_ref().map_or(vec![pages], |disk| disk.missing(pages))
}

fn trouble(health: Health) -> Option<String> {
    match health {
        Health::Ok => None,
        Health::ReadingThrough { why, .. } => Some(why),
    }
}

fn named(modified_unix_s: Option<i64>, generation: u32) -> String {
    let date = modified_unix_s.and_then(|unix_s| jiff::Timestamp::from_second(unix_s).ok());
    let date = date.map_or_else(|| "no date".to_owned(), |date| date.to_string());
    match generation {
        0 => date,
        changes => format!("{date}, changed {changes} times since under the same size and date"),
    }
}
