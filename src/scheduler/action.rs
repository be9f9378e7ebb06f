//! What the scheduler wants done.

use crate::chunk::{Class, FetchId, Inode, MirrorId, Pages, ReaderId};

/// One comparison of a mirror's page with the one that is held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ComparisonId(pub u64);

/// Everything that the scheduler wants leaves as one of these.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask `mirror` for `pages`. Answered by `Connected`, `FirstByte`, `Progress`, `Arrived`, and
    /// then exactly one of `Finished` and `Failed`.
    Start {
        /// The new fetch. Ids only grow.
        fetch: FetchId,
        /// Whom to ask.
        mirror: MirrorId,
        /// For which file.
        file: Inode,
        /// For which pages.
        pages: Pages,
        /// For what.
        class: Class,
        /// Ask without a range: the mirror serves whole files only; `pages` is what is of use.
        whole: bool,
    },
    /// Its pages belong to nobody or to another fetch now. Answered by `Failed { Cancelled }`, or
    /// by `Finished` where it ended first.
    Cancel {
        /// Which.
        fetch: FetchId,
        /// Less than a round trip's worth is left: read it out and keep the connection.
        drain: bool,
    },
    /// Ask for one byte, to see whether it lives. Answered by `ProbeDone`.
    Probe {
        /// Whom.
        mirror: MirrorId,
    },
    /// Ask `mirror` for this page, and compare it with the one that is held, or as soon as that is held. Answered by
    /// `Compared`.
    Compare {
        /// The new comparison.
        comparison: ComparisonId,
        /// Whom to ask.
        mirror: MirrorId,
        /// Of which file.
        file: Inode,
        /// Which page.
        page: u64,
        /// Ask without a range.
        whole: bool,
    },
    /// Nobody needs to know any more. Not answered.
    EndComparison {
        /// Which.
        comparison: ComparisonId,
    },
    /// The bytes of this mirror may be in the file: to be remembered with what is held of it.
    Believe {
        /// Which file.
        file: Inode,
        /// Whose.
        mirror: MirrorId,
    },
    /// Nothing of this file is given to readers, though it is held, or is again.
    Seal {
        /// Which file.
        file: Inode,
        /// Nothing is.
        sealed: bool,
    },
    /// What is held of this file is wrong, or nobody's: let go of all of it, in memory and on disk, and of whose bytes
    /// may be in it. Its fetches were told to end before.
    Discard {
        /// Which file.
        file: Inode,
    },
    /// This mirror serves other bytes than others under the same name, size and date: for people.
    Differ {
        /// Which file.
        file: Inode,
        /// Who.
        mirror: MirrorId,
        /// On which page.
        page: u64,
    },
    /// Whoever had this version is gone, and this one has another.
    Renew {
        /// Which file.
        file: Inode,
        /// Who has another.
        mirror: MirrorId,
    },
    /// No mirror can bring these pages: whoever waits for them is told so.
    Fail {
        /// Of which file.
        file: Inode,
        /// Which.
        pages: Pages,
        /// Why.
        why: Hopeless,
    },
    /// Tell the scheduler by `Streak` when this reader has passed this page.
    Mark {
        /// Who.
        reader: ReaderId,
        /// Of which file.
        file: Inode,
        /// Where.
        page: u64,
    },
    /// Something that a person should know.
    Alert {
        /// About whom.
        mirror: Option<MirrorId>,
        /// About which file.
        file: Option<Inode>,
        /// What, in words.
        what: String,
    },
}

/// Why nobody can bring a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hopeless {
    /// No mirror answers, and that has been known for a while.
    Offline,
    /// Every mirror that had it says that it has it no more.
    Missing,
    /// Every mirror that answers has another version.
    Changed,
    /// Every mirror that answers refuses.
    Refused,
    /// Every mirror that answers serves something else than what was asked for.
    Corrupt,
    /// No second mirror confirms what the first serves, and that is asked for.
    Unconfirmed,
}
