//! A cache folder that is removed or replaced under the running daemon: noticed within a second, since what is written
//! into deleted files is lost, and made again where its disk is still there.

use super::OpenError;
use super::finish::begin_empty;
use super::layout::Layout;
use super::lock::Lock;
use super::shared::Shared;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Which file it is, whatever its path leads to by now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Identity> {
        let found = fs::metadata(path)?;
        Ok(Identity { device: found.dev(), inode: found.ino() })
    }
}

/// How the state file is not there any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gone {
    /// Removed. The folder, or at least the one that it lies in, is still on the same disk.
    Removed,
    /// Its disk was taken away, or another one is mounted over it.
    OtherDisk,
    /// Another state file lies there.
    Replaced,
}

impl Gone {
    pub(super) fn words(self, shared: &Shared) -> String {
        let dir = shared.layout.dir().display();
        match self {
            Gone::Removed => format!("the cache folder {dir} was removed; it is made again"),
            Gone::OtherDisk => format!("the disk of the cache folder {dir} is gone, or another is mounted over it"),
            Gone::Replaced => format!("the cache folder {dir} was replaced by another; mount again to use that"),
        }
    }
}

/// The state file was opened or made: this is the one.
pub(super) fn remember(shared: &Shared) {
    *shared.identity.lock() = Identity::of(&shared.layout.state()).ok();
}

/// Does its path still lead to the state file that is open? Whatever else the system says is for those who use it.
pub(super) fn look(shared: &Shared) -> Option<Gone> {
    let known = (*shared.identity.lock())?;
    let _operation = shared.condition.operation();
    match Identity::of(&shared.layout.state()) {
        Ok(found) if found == known => None,
        Ok(found) if found.device != known.device => Some(Gone::OtherDisk),
        Ok(_) => Some(Gone::Replaced),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            let dir = shared.layout.dir();
            let there = Identity::of(dir).or_else(|_| Identity::of(dir.parent().unwrap_or(dir)));
            match there.is_ok_and(|there| there.device == known.device) {
                true => Some(Gone::Removed),
                false => Some(Gone::OtherDisk),
            }
        }
        Err(_) => None,
    }
}

/// Make the removed folder again and begin with nothing. What is open is read on from the mirrors.
pub(super) fn make_again(shared: &Shared) -> Result<(), OpenError> {
    let dir = shared.layout.dir();
    tracing::warn!(dir = %dir.display(), "the cache folder was removed; it is made again, empty");
    let drive = shared.layout.drive();
    Layout::make_folder(drive, dir)?;
    let mut lock = shared.lock.lock();
    // Or we would wait for ourselves, where the lock's file is still there.
    *lock = None;
    *lock = Some(Lock::take(drive, dir, &shared.owner)?);
    drop(lock);
    Layout::open(drive, dir)?;
    begin_empty(shared);
    Ok(())
}
