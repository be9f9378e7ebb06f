//! Why a reader does not get what it asked for. `fs` turns each into an errno, in one place.

use crate::namespace::NoFolder;
use crate::scheduler::Hopeless;

/// What a read, a lookup or a listing ends with when it does not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No mirror has it.
    #[error("no mirror has it")]
    Absent,
    /// The name leads to a file where a folder was asked for.
    #[error("it is not a folder")]
    NotAFolder,
    /// No mirror answers, and that is known.
    #[error("no mirror answers")]
    Offline,
    /// No mirror answered before the deadline.
    #[error("no mirror answered before the deadline")]
    TimedOut,
    /// Mirrors answered, but these bytes did not come before the deadline.
    #[error("the bytes did not arrive before the deadline")]
    Stalled,
    /// No mirror has this version of the file any more.
    #[error("no mirror has this version of the file any more")]
    Stale,
    /// Every mirror that answers refuses.
    #[error("every mirror that answers refuses")]
    Refused,
    /// Every mirror that answers serves something else than what was asked for.
    #[error("every mirror that answers serves something else")]
    Corrupt,
    /// The hash of the file is known, and no mirror's bytes match it.
    #[error(
        "its bytes do not match the hash that the mirrors give for it (SHA256SUMS, Repr-Digest), whoever sends them"
    )]
    WrongHash,
    /// No second mirror confirms what the first serves.
    #[error("no second mirror confirms its bytes, as --verify quorum asks for (`braidfs mirrors` shows who differs)")]
    Unconfirmed,
    /// The disk cache cannot keep what prefetch brought.
    #[error("the disk cache cannot keep it (is --cache-size too small, or the disk full?)")]
    NotKept,
    /// The disk cache does not say what it has.
    #[error("the disk cache cannot be read (`braidfs status` says why)")]
    DiskFailed,
    /// A bound of this mount is reached (open files, names).
    #[error("a limit of this mount is reached")]
    Limit,
    /// The mount is ending.
    #[error("the mount is ending")]
    Ending,
}

impl From<Hopeless> for Trouble {
    fn from(why: Hopeless) -> Trouble {
        match why {
            Hopeless::Offline => Trouble::Offline,
            // The file was there when it was opened: another version, or none, is there now.
            Hopeless::Missing | Hopeless::Changed => Trouble::Stale,
            Hopeless::Refused => Trouble::Refused,
            Hopeless::Corrupt => Trouble::Corrupt,
            Hopeless::Unconfirmed => Trouble::Unconfirmed,
        }
    }
}

impl From<NoFolder> for Trouble {
    fn from(why: NoFolder) -> Trouble {
        match why {
            NoFolder::NotAFolder(_) => Trouble::NotAFolder,
            NoFolder::Gone(_) => Trouble::Stale,
        }
    }
}
