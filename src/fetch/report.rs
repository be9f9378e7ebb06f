//! What `status` shows of the engine: plain numbers and words, read without disturbing it.

use crate::cache::disk::{Health, Pin};
use crate::chunk::MirrorId;
use crate::clock::now;
use crate::fetch::engine::Engine;
use crate::fetch::handoff::HandoffReport;
use crate::scheduler::Live;
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

    /// Body bytes of each mirror in use since the mount, by its URL.
    pub fn fetched_by_mirror(&self) -> Vec<(String, u64)> {
        let in_use = self.plane.mirrors.in_use();
        in_use.map(|(mirror, member)| (member.url(), self.plane.published.fetched_bytes(mirror))).collect()
    }

    /// Body bytes that mirrors delivered since the mount.
    pub fn fetched_bytes(&self) -> u64 {
        self.plane.metrics.fetched_bytes.get()
    }
}

fn trouble(health: Health) -> Option<String> {
    match health {
        Health::Ok => None,
        Health::ReadingThrough { why, .. } => Some(why),
    }
}
