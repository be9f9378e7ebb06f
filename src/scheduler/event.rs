//! What the scheduler is told.

use super::action::ComparisonId;
use super::configured::Configured;
use super::experiment::Plan;
use super::rule::FileRule;
use super::settings::Settings;
use crate::chunk::{Class, FetchId, Inode, MirrorId, MirrorSet, Pages, ReaderId};
use crate::clock::Time;
use std::time::Duration;

/// Everything that the scheduler knows arrives as one of these, with the time.
///
/// Pages are always of one file version. `Opened` comes before any other event that names a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A file is about to be read or prefetched. `held` only matters where it is not open already.
    Opened {
        /// Which.
        file: Inode,
        /// Its size.
        size_bytes: u64,
        /// Who serves this version.
        mirrors: MirrorSet,
        /// Pages that need no fetch: in memory or on disk.
        held: Vec<Pages>,
        /// What its path is given in configuration.
        rule: FileRule,
    },
    /// Whose bytes may be in what is held of it, because an earlier mount compared them. Comes after `Opened`.
    Agreed {
        /// Which file.
        file: Inode,
        /// Who, of those that there are now.
        mirrors: MirrorSet,
        /// They were two or more, whether they are there now or not.
        confirmed: bool,
    },
    /// The answer to [`crate::scheduler::Action::Compare`].
    Compared {
        /// Which.
        comparison: ComparisonId,
        /// What it showed; [`Failure::Cancelled`]: the page that was held is gone.
        result: Result<Verdict, Failure>,
    },
    /// Who serves a file is known anew: a listing has come. Says nothing of what is held, so it opens nothing; where it
    /// overtakes `Opened`, that knows it too.
    Served {
        /// Which file.
        file: Inode,
        /// Who serves this version.
        mirrors: MirrorSet,
        /// More may yet be heard of: its folder is being listed.
        awaited: bool,
    },
    /// Nobody has it open and nobody waits for it: the table may forget it. Its fetches go on.
    Forgotten {
        /// Which.
        file: Inode,
    },
    /// Somebody wants pages that were not held when they looked.
    Wanted {
        /// Of which file.
        file: Inode,
        /// Which.
        pages: Pages,
        /// How urgently; demand counts for less where the file's rule says so.
        class: Class,
        /// Who reads, for [`Event::Closed`]; prefetch jobs have an id too.
        reader: ReaderId,
        /// When the wait ends in an error.
        deadline: Time,
    },
    /// A reader goes through a file in order. Sent when it passes the mark that it was given by
    /// the last [`crate::scheduler::Action::Mark`], or on the first reads of a streak.
    Streak {
        /// Who.
        reader: ReaderId,
        /// Which file.
        file: Inode,
        /// The page that it will want next.
        position: u64,
        /// How many pages it has read in order so far. Less than 1 page past its first read: no streak.
        length_pages: u64,
    },
    /// A reader is gone, or has jumped elsewhere: what was queued for it alone is not wanted any more.
    Closed {
        /// Who.
        reader: ReaderId,
    },
    /// The request of a fetch is on its way over a connection (new or kept).
    Connected {
        /// Which.
        fetch: FetchId,
    },
    /// The status and headers of its answer were accepted.
    FirstByte {
        /// Which.
        fetch: FetchId,
    },
    /// So many body bytes have arrived for it in all. Sent where they complete no page, or more came than `Arrived`
    /// says: that counts as progress too.
    Progress {
        /// Which.
        fetch: FetchId,
        /// Body bytes since its start.
        total_bytes: u64,
    },
    /// These pages are held now.
    Arrived {
        /// By which fetch.
        fetch: FetchId,
        /// Which.
        pages: Pages,
    },
    /// Its body has ended as it should, and every page of it was reported by `Arrived` or let go.
    Finished {
        /// Which.
        fetch: FetchId,
    },
    /// It ended before its time. What arrived before was reported by `Arrived`.
    Failed {
        /// Which.
        fetch: FetchId,
        /// Why.
        failure: Failure,
    },
    /// These pages are held nowhere any more (evicted from memory and not on disk).
    Dropped {
        /// Of which file.
        file: Inode,
        /// Which.
        pages: Pages,
    },
    /// The answer to [`crate::scheduler::Action::Probe`].
    ProbeDone {
        /// Of which mirror.
        mirror: MirrorId,
        /// The time to its first byte, or why there was none.
        result: Result<Duration, Failure>,
    },
    /// What a listing or another request outside the data plane showed of a mirror's health.
    MirrorSeen {
        /// Which mirror.
        mirror: MirrorId,
        /// The time to its first byte, or why there was none.
        result: Result<Duration, Failure>,
    },
    /// Bytes of this file that a mirror brought before turned out to be wrong.
    Blamed {
        /// Which mirror.
        mirror: MirrorId,
        /// Of which file.
        file: Inode,
    },
    /// Every mirror was asked for something at once, outside the data plane, and none answers.
    NobodyAnswers,
    /// So much memory is free, or can be freed at once, for what nobody waits for yet.
    BudgetChanged {
        /// Bytes.
        background_bytes: u64,
    },
    /// Other settings from here on. They are valid.
    SettingsChanged {
        /// All of them.
        settings: Box<Settings>,
    },
    /// Configuration gives these mirrors from here on, by id: as many as there were, or more.
    MirrorsChanged {
        /// What it says of each.
        mirrors: Vec<Configured>,
    },
    /// Slices of time are shared out to arms from here on. One that runs ends.
    ExperimentStarted {
        /// How.
        plan: Plan,
    },
    /// What is configured is in force from here on, all the time.
    ExperimentStopped,
    /// The time that `poll_timeout` named has come.
    Tick,
}

/// What a comparison showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The page is the one that is held.
    Same,
    /// It is not.
    Other {
        /// A hash of it: two mirrors whose pages have the same serve the same.
        digest: u64,
    },
}

/// Why a fetch or a probe failed, as far as decisions differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection, reset, timeout, name not found, 5xx.
    Unreachable,
    /// 429 or 503 with a time to stay away (Retry-After), or none given.
    Throttled {
        /// How long to stay away, where the mirror said so.
        retry_after: Option<Duration>,
    },
    /// 404 or 410: this mirror has no such file.
    Missing,
    /// This mirror has another version of the file.
    Changed,
    /// It answered with something that is not the range asked for.
    Corrupt,
    /// 401, 403, or a redirect that policy forbids.
    Refused,
    /// It serves whole files only. Not a fault.
    NoRanges,
    /// It serves other bytes than others under the same name, size and date.
    Unlike,
    /// We cancelled it, or had no memory for it. Not the mirror's fault.
    Cancelled,
}
