//! Every errno that a reader can get, chosen in one exhaustive match.

use crate::fetch::Trouble;
use fuser::Errno;

/// The errno of a trouble.
pub fn errno(trouble: Trouble) -> Errno {
    match trouble {
        Trouble::Absent => Errno::ENOENT,
        Trouble::NotAFolder => Errno::ENOTDIR,
        // "No route to host": nobody is there, and nobody was waited for.
        Trouble::Offline => Errno::EHOSTUNREACH,
        Trouble::TimedOut => Errno::ETIMEDOUT,
        Trouble::Stale => Errno::ESTALE,
        Trouble::Refused => Errno::EACCES,
        Trouble::Limit => Errno::EMFILE,
        Trouble::Stalled
        | Trouble::Corrupt
        | Trouble::WrongHash
        | Trouble::Unconfirmed
        | Trouble::NotKept
        | Trouble::DiskFailed
        | Trouble::Ending => Errno::EIO,
    }
}
