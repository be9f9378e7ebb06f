//! What the scheduler wants done.

use crate::chunk::{Class, FetchId, Inode, MirrorId, Pages, ReaderId};

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
}
