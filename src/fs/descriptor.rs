//! A descriptor of `/dev/fuse` that whoever started this process has opened, mounted and handed down.
//!
//! The one place besides the pool's memory with unsafe code: what is a number on the command line can become a
//! descriptor in no other way. (`pidfd_getfd` on ourselves could, and is what containers forbid.)

#![allow(unsafe_code)]

use rustix::fs::{FileType, fstat, major, minor};
use rustix::io::{FdFlags, fcntl_setfd};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The device number of `/dev/fuse`, the same on every Linux.
const FUSE_DEVICE: (u32, u32) = (10, 229);

/// Why it is none that can be served.
#[derive(Debug, thiserror::Error)]
pub enum BadDescriptor {
    /// Nothing is open under this number.
    #[error(
        "descriptor {0} is not open: whoever starts braidfs has to open /dev/fuse, and to hand it down without close-on-exec ({1})"
    )]
    NotOpen(u32, io::Error),
    /// Something else is.
    #[error("descriptor {0} is not /dev/fuse: open that, mount it, and hand its number down")]
    NotFuse(u32),
    /// One process serves one.
    #[error("descriptor {0} was taken already")]
    Taken(u32),
}

/// Take over the descriptor `number`. From here on it is not handed to programs that are started from here.
///
/// # Errors
/// It is none, or not of FUSE.
pub fn take(number: u32) -> Result<OwnedFd, BadDescriptor> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let about = rustix::fs::stat(format!("/proc/self/fd/{number}"));
    let about = about.map_err(|error| BadDescriptor::NotOpen(number, error.into()))?;
    let is_fuse = FileType::from_raw_mode(about.st_mode) == FileType::CharacterDevice
        && (major(about.st_rdev), minor(about.st_rdev)) == FUSE_DEVICE;
    let raw = i32::try_from(number).ok().filter(|_| is_fuse).ok_or(BadDescriptor::NotFuse(number))?;
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(BadDescriptor::Taken(number));
    }
    // SAFETY: it is open, as was just seen, and nobody else in this process owns it: nothing here keeps /dev/fuse open
    // before there is a session, which comes after this, and it is done once in a process.
    let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
    let is_open = fstat(&descriptor).and_then(|_| fcntl_setfd(&descriptor, FdFlags::CLOEXEC));
    is_open.map_err(|error| BadDescriptor::NotOpen(number, error.into()))?;
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn what_is_not_a_mounted_fuse_is_refused_by_its_number() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let number = file.as_raw_fd() as u32;
        assert!(take(number).unwrap_err().to_string().contains(&format!("descriptor {number} is not /dev/fuse")));
        assert!(take(1_000_000).unwrap_err().to_string().contains("descriptor 1000000 is not open"));
        assert!(file.metadata().is_ok(), "it is still ours");
    }
}
