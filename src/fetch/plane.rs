//! What the tasks of the data plane share.

use crate::cache::disk::Disk;
use crate::cache::pool::Pool;
use crate::chunk::{Inode, MIRRORS_MAX, MirrorId};
use crate::clock::{Time, now};
use crate::fetch::handle::Readers;
use crate::fetch::hashes::Checks;
use crate::fetch::history::Histories;
use crate::fetch::inbox::Inbox;
use crate::fetch::opened::{OpenFile, Opened};
use crate::fetch::published::Published;
use crate::fetch::recorder::Recorder;
use crate::fetch::roster::Roster;
use crate::fetch::rules::Rules;
use crate::fetch::settings::Settings;
use crate::fetch::slow::SlowReads;
use crate::fetch::waiting::Waiting;
use crate::metrics::Metrics;
use crate::scheduler;
use crate::sources::{Failure, FailureKind, Source};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Notify, mpsc};

/// Everything that reads, fetches and the driver have in common.
pub struct Plane {
    settings: ArcSwap<Settings>,
    rules: ArcSwap<Rules>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The bounded memory.
    pub pool: Pool,
    /// The disk cache, where there is one.
    pub disk: Option<Disk>,
    /// Who the mirrors are.
    pub mirrors: Roster,
    /// Who wants to know what is read.
    pub recorder: Recorder,
    /// Who wants to know of slow reads, where somebody does.
    pub slow_reads: OnceLock<Arc<SlowReads>>,
    /// To the driver.
    pub inbox: Arc<Inbox>,
    /// Reads that wait.
    pub waiting: Waiting,
    /// Open versions.
    pub opened: Opened,
    /// Names for streaks.
    pub readers: Readers,
    /// What the scheduler knows of each mirror, and what each brought: for everybody to read.
    pub published: Published,
    /// What earlier mounts measured of the mirrors, and what the next one is told.
    pub histories: Histories,
    /// Of files whose hash is known.
    pub checks: Checks,
    /// No mirror answers, and that is known.
    pub offline: AtomicBool,
    /// A write of the disk cache ended: there is room in its queue.
    pub disk_room: Notify,
    /// The pool has memory again.
    pub memory_freed: Notify,
    /// Files of which the kernel may have bytes that are not believed any more.
    pub tainted: Mutex<HashSet<Inode>>,
    /// Doubts about what exists, to whoever keeps the tree.
    pub doubts: mpsc::UnboundedSender<Doubt>,
    /// What the tree's names take of memory, in bytes. Kept by the tree after each listing.
    pub names_bytes: AtomicU64,
    last_answer: AtomicU64,
}

/// Something that the data plane saw and that the tree does not know.
pub enum Doubt {
    /// A mirror has another version of an open file.
    Changed {
        /// Which version.
        file: Inode,
        /// Who.
        mirror: MirrorId,
    },
    /// A mirror has it of this date, whatever its index says.
    Redated {
        /// Which version.
        file: Inode,
        /// Who.
        mirror: MirrorId,
        /// The date, in seconds since 1970.
        unix_s: i64,
    },
    /// A mirror has no such file any more.
    Missing {
        /// Which version.
        file: Inode,
        /// Who.
        mirror: MirrorId,
    },
    /// All of its bytes are here and its hash is known: do they match?
    Complete {
        /// Which version.
        file: Inode,
    },
    /// A read of it waits: mirrors that were not there when its folder was listed may help now.
    Waiting {
        /// Which version.
        file: Inode,
    },
}

/// The parts that a plane is made of.
pub struct Parts {
    /// Limits of waiting.
    pub settings: Settings,
    /// What parts of the tree are given in configuration.
    pub rules: Rules,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The bounded memory.
    pub pool: Pool,
    /// The disk cache, where there is one.
    pub disk: Option<Disk>,
    /// Our client for each mirror, for file data.
    pub sources: Vec<Arc<Source>>,
    /// The same once more for listings, in the same order.
    pub index_sources: Vec<Arc<Source>>,
}

impl Plane {
    /// Put together; nothing runs yet.
    pub fn new(parts: Parts, doubts: mpsc::UnboundedSender<Doubt>) -> Plane {
        Plane {
            settings: ArcSwap::from_pointee(parts.settings),
            rules: ArcSwap::from_pointee(parts.rules),
            metrics: parts.metrics,
            pool: parts.pool,
            disk: parts.disk,
            mirrors: Roster::new(parts.sources, parts.index_sources),
            recorder: Recorder::default(),
            slow_reads: OnceLock::new(),
            inbox: Arc::default(),
            waiting: Waiting::default(),
            opened: Opened::default(),
            readers: Readers::default(),
            // For as many as there may ever be: 64 KiB.
            published: Published::new(MIRRORS_MAX),
            histories: Histories::default(),
            checks: Checks::default(),
            offline: AtomicBool::new(false),
            disk_room: Notify::new(),
            memory_freed: Notify::new(),
            tainted: Mutex::default(),
            doubts,
            names_bytes: AtomicU64::new(0),
            last_answer: AtomicU64::new(0),
        }
    }

    /// Limits of waiting, as they are now.
    pub fn settings(&self) -> Settings {
        **self.settings.load()
    }

    /// Others from here on, which are valid. What waits already is held to them too.
    pub fn set_settings(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// What parts of the tree are given in configuration, as it is now.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Others from here on, for the files that are opened after this.
    pub fn set_rules(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// A mirror has just answered something.
    pub fn answered(&self) {
        self.last_answer.store(now().0, Ordering::Relaxed);
    }

    /// When any mirror answered last.
    pub fn last_answer(&self) -> Time {
        Time(self.last_answer.load(Ordering::Relaxed))
    }

    /// `mirror` failed: keep the words for `status`, and say what the scheduler must know.
    pub fn failed(&self, mirror: MirrorId, failure: &Failure) -> scheduler::Failure {
        // A mirror without ranges is not at fault, and a version that moved on is news, not a failure.
        if !matches!(failure.kind, FailureKind::NoRanges) {
            self.mirrors.of(mirror).failed(&failure.why);
        }
        if matches!(failure.kind, FailureKind::Corrupt) {
            self.lied(mirror, &failure.why);
        }
        if !matches!(failure.kind, FailureKind::Unreachable) {
            self.answered();
        }
        kind_for_scheduler(failure.kind)
    }

    /// `mirror` said something that cannot be true.
    pub fn lied(&self, mirror: MirrorId, why: &str) {
        self.mirrors.of(mirror).lied(why);
    }

    /// `mirror` brought body bytes.
    pub fn brought(&self, mirror: MirrorId, bytes: u64) {
        self.metrics.fetched_bytes.add(bytes);
        self.published.brought(mirror, bytes);
    }

    /// `mirror` served a range of `file` to its end.
    pub fn served(&self, mirror: MirrorId, file: &Arc<OpenFile>) {
        self.mirrors.of(mirror).served(file);
    }

    /// Is it known that no mirror answers?
    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Relaxed)
    }
}

/// The scheduler's word for a source's failure.
pub fn kind_for_scheduler(kind: FailureKind) -> scheduler::Failure {
    match kind {
        FailureKind::Unreachable => scheduler::Failure::Unreachable,
        FailureKind::Throttled { retry_after } => scheduler::Failure::Throttled { retry_after },
        FailureKind::Missing => scheduler::Failure::Missing,
        FailureKind::Changed | FailureKind::Redated { .. } => scheduler::Failure::Changed,
        FailureKind::Corrupt => scheduler::Failure::Corrupt,
        FailureKind::Refused => scheduler::Failure::Refused,
        FailureKind::NoRanges => scheduler::Failure::NoRanges,
    }
}
