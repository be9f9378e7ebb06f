//! What the cache folder lies on. Every call that reaches the disk goes through here, so that a test can put a
//! simulated disk under the same code; outside the tests there is only the machine's, and nothing to choose from.

#[cfg(test)]
use super::simulated::{SimulatedDisk, SimulatedFile};
use rustix::fs::{Advice, FallocateFlags, FlockOperation, OFlags, fadvise, fallocate, flock};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
#[cfg(test)]
use std::sync::Arc;

/// Hands a call over to the simulated disk, where there is one.
macro_rules! or_simulated {
    ($drive:ident, $disk:ident => $call:expr) => {
        #[cfg(test)]
        if let Some($disk) = &$drive.simulated {
            return $call;
        }
    };
}

/// Where the folder lies: names and whole files.
#[derive(Clone, Debug, Default)]
pub(super) struct Drive {
    #[cfg(test)]
    simulated: Option<Arc<SimulatedDisk>>,
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opening {
    /// It must be there.
    Existing,
    /// Made where it is missing, left as it is where it is not.
    Made,
    /// Made, or emptied.
    Anew,
    /// It must be there; written past the kernel's memory, from memory and at offsets of whole pages.
    Direct,
}

impl Drive {
    /// A simulated one.
    #[cfg(test)]
    pub(super) fn simulated(disk: &Arc<SimulatedDisk>) -> Drive {
        Drive { simulated: Some(disk.clone()) }
    }

    pub(super) fn open(&self, path: &Path, opening: Opening) -> io::Result<DriveFile> {
        or_simulated!(self, disk => disk.open(path, opening).map(DriveFile::Simulated));
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        match opening {
            Opening::Existing => options.read(true),
            Opening::Made => options.read(true).create(true),
            Opening::Anew => options.read(true).create(true).truncate(true),
            Opening::Direct => options.custom_flags(OFlags::DIRECT.bits() as i32),
        };
        options.open(path).map(DriveFile::Machine)
    }

    /// All of a small file.
    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        or_simulated!(self, disk => disk.read(path));
        fs::read(path)
    }

    /// Make a folder and those above it, where they are missing. What people read is their own business: 0700.
    pub(super) fn make_folders(&self, path: &Path) -> io::Result<()> {
        or_simulated!(self, disk => disk.make_folders(path));
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Wait until the names in a folder are on the disk.
    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        or_simulated!(self, disk => disk.sync_folder(path));
        File::open(path)?.sync_all()
    }

    /// Within one folder.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        or_simulated!(self, disk => disk.rename(from, to));
        fs::rename(from, to)
    }

    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        or_simulated!(self, disk => disk.remove(path));
        fs::remove_file(path)
    }

    /// A folder with all that is in it.
    pub(super) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        or_simulated!(self, disk => disk.remove(path));
        fs::remove_dir_all(path)
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        or_simulated!(self, disk => disk.exists(path));
        path.exists()
    }

    /// The names in a folder, as far as they can be read.
    pub(super) fn names(&self, path: &Path) -> Vec<String> {
        or_simulated!(self, disk => disk.names(path));
        let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// What a file takes on the disk; 0 where it is missing.
    pub(super) fn allocated_bytes(&self, path: &Path) -> u64 {
        or_simulated!(self, disk => disk.allocated_bytes(path));
        fs::metadata(path).map_or(0, |data| data.blocks() * 512)
    }

    /// Bytes that the file system has left for us.
    pub(super) fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        or_simulated!(self, disk => disk.free_bytes());
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// An open file of the folder.
#[derive(Debug)]
pub(super) enum DriveFile {
    /// Of the machine.
    Machine(File),
    #[cfg(test)]
    Simulated(SimulatedFile),
}

impl DriveFile {
    pub(super) fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            DriveFile::Machine(file) => file.read_exact_at(into, offset),
            #[cfg(test)]
            DriveFile::Simulated(file) => match file.read_at(into, offset)? == into.len() {
                true => Ok(()),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            },
        }
    }

    /// How much was read: less than there is room for, or 0 at the end. With `now`, an answer that would have to
    /// wait for the disk is `AGAIN` (or `OPNOTSUPP`, where the file system cannot tell).
    pub(super) fn read_at(&self, into: &mut [u8], offset: u64, now: bool) -> Result<usize, Errno> {
        match self {
            DriveFile::Machine(file) => {
                let flags = if now { ReadWriteFlags::NOWAIT } else { ReadWriteFlags::empty() };
                preadv2(file, &mut [IoSliceMut::new(into)], offset, flags)
            }
            #[cfg(test)]
            DriveFile::Simulated(file) => file.read_at(into, offset),
        }
    }

    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self {
            DriveFile::Machine(file) => file.write_all_at(bytes, offset),
            #[cfg(test)]
            DriveFile::Simulated(file) => Ok(file.write_all_at(bytes, offset)?),
        }
    }

    /// How much was written.
    pub(super) fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> Result<usize, Errno> {
        match self {
            DriveFile::Machine(file) => pwritev(file, slices, offset),
            #[cfg(test)]
            DriveFile::Simulated(file) => file.write_vectored_at(slices, offset),
        }
    }

    /// These bytes will be read soon. Advice only: without it a read is slower, not wrong.
    pub(super) fn will_need(&self, offset: u64, length: u64) {
        match self {
            DriveFile::Machine(file) => _ = fadvise(file, offset, NonZeroU64::new(length), Advice::WillNeed),
            #[cfg(test)]
            DriveFile::Simulated(_) => {}
        }
    }

    /// The kernel is not to keep these bytes in memory, where the disk has them. Advice only: without it a read proves
    /// less.
    pub(super) fn forget_cached(&self, offset: u64, length: u64) {
        match self {
            DriveFile::Machine(file) => _ = fadvise(file, offset, NonZeroU64::new(length), Advice::DontNeed),
            #[cfg(test)]
            DriveFile::Simulated(_) => {}
        }
    }

    /// Give the room of these bytes back to the file system; they read as zeros from then on.
    pub(super) fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        match self {
            DriveFile::Machine(file) => {
                let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                Ok(fallocate(file, mode, offset, length)?)
            }
            #[cfg(test)]
            DriveFile::Simulated(file) => Ok(file.punch(offset, length)?),
        }
    }

    pub(super) fn set_len(&self, length: u64) -> io::Result<()> {
        match self {
            DriveFile::Machine(file) => file.set_len(length),
            #[cfg(test)]
            DriveFile::Simulated(file) => Ok(file.set_len(length)?),
        }
    }

    pub(super) fn length_bytes(&self) -> io::Result<u64> {
        match self {
            DriveFile::Machine(file) => Ok(file.metadata()?.len()),
            #[cfg(test)]
            DriveFile::Simulated(file) => Ok(file.length_bytes()?),
        }
    }

    /// Wait until the bytes are on the disk, and the length with them.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            DriveFile::Machine(file) => file.sync_data(),
            #[cfg(test)]
            DriveFile::Simulated(file) => Ok(file.sync()?),
        }
    }

    /// Its descriptor; a simulated file has none.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            DriveFile::Machine(file) => Some(file.as_fd()),
            #[cfg(test)]
            DriveFile::Simulated(_) => None,
        }
    }

    /// Keep others away from it as long as it is open. `WOULDBLOCK`: somebody else has it.
    pub(super) fn lock(&self) -> Result<(), Errno> {
        match self {
            DriveFile::Machine(file) => flock(file, FlockOperation::NonBlockingLockExclusive),
            // Who loses power has no second daemon beside it.
            #[cfg(test)]
            DriveFile::Simulated(_) => Ok(()),
        }
    }
}
