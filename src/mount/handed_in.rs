//! A mount that somebody else has made, and will unmount: we only serve its descriptor.

use crate::control::mountinfo::{self, Device, Mount};
use crate::fs::descriptor::{BadDescriptor, take};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The descriptor, and what is known of the mount.
#[derive(Debug)]
pub struct HandedIn {
    /// Of `/dev/fuse`.
    pub descriptor: OwnedFd,
    /// Where it is mounted, where that can be seen from here; else as told.
    pub mountpoint: PathBuf,
    /// The number of the mount's device; none where it cannot be seen from here, and the kernel does not say.
    pub device: Option<Device>,
}

/// Why it cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BadHandover {
    /// It is no such descriptor.
    #[error(transparent)]
    Descriptor(#[from] BadDescriptor),
    /// The place is another mount's.
    #[error("descriptor {number} is not what is mounted at {}: give its own mountpoint, or /dev/fd/{number}", place.display())]
    Elsewhere {
        /// Which.
        number: u32,
        /// As told.
        place: PathBuf,
    },
}

impl HandedIn {
    /// Take over descriptor `number`, mounted at `told`, which may be `/dev/fd/N`: then it is looked up.
    ///
    /// # Errors
    /// It is none of FUSE, or mounted elsewhere.
    pub fn take(number: u32, told: &Path) -> Result<HandedIn, BadHandover> {
        let descriptor = take(number)?;
        let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let mounts = mountinfo::read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
        let (mountpoint, device) = place(number, told, connection(&about), &mounts)?;
        Ok(HandedIn { descriptor, mountpoint, device })
    }
}

/// The kernel's number of the connection, which is the minor number of the mount's device. Linux says it since 6.18.
fn connection(fdinfo: &str) -> Option<Device> {
    let line = fdinfo.lines().find_map(|line| line.strip_prefix("fuse_connection:"))?;
    line.trim().parse().ok().map(|minor| Device { major: 0, minor })
}

fn place(
    number: u32,
    told: &Path,
    connection: Option<Device>,
    mounts: &[Mount],
) -> Result<(PathBuf, Option<Device>), BadHandover> {
    let is_number = told.starts_with("/dev/fd");
    let told = if is_number { told.to_owned() } else { mountinfo::normal(told) };
    // Of several mounts at one place the last is what is seen there.
    let there = mounts.iter().rfind(|mount| mount.mountpoint == told && mount.fs_type.starts_with("fuse"));
    match (connection, there) {
        (Some(device), Some(there)) if there.device != device => Err(BadHandover::Elsewhere { number, place: told }),
        (Some(device), None) if is_number => {
            let own = mounts.iter().find(|mount| mount.device == device && mount.root == Path::new("/"));
            Ok((own.map_or(told, |mount| mount.mountpoint.clone()), Some(device)))
        }
        (device, there) => Ok((told, device.or(there.map(|mount| mount.device)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_what_the_kernel_says_of_the_descriptor() {
        let mounts = mountinfo::parse(
            b"42 27 0:39 / /mnt/a rw - fuse.braidfs braidfs rw,user_id=0\n43 27 0:40 / /mnt/b rw - fuse.other x rw\n",
        );
        let known = connection("pos:\t0\nflags:\t02100002\nfuse_connection:\t39\n");
        assert_eq!(known, Some(Device { major: 0, minor: 39 }));
        assert_eq!(connection("pos:\t0\n"), None);
        let place = |told: &str, known| place(5, Path::new(told), known, &mounts);
        let at = |path: &str, device| (PathBuf::from(path), device);
        assert_eq!(place("/dev/fd/5", known).unwrap(), at("/mnt/a", known));
        assert_eq!(place("/mnt/../mnt/a", known).unwrap(), at("/mnt/a", known));
        assert_eq!(place("/mnt/a", None).unwrap(), at("/mnt/a", known), "an older kernel");
        assert_eq!(place("/dev/fd/5", None).unwrap(), at("/dev/fd/5", None));
        assert_eq!(place("/in/another/namespace", known).unwrap(), at("/in/another/namespace", known));
        let error = place("/mnt/b", known).unwrap_err().to_string();
        assert!(error.contains("descriptor 5 is not what is mounted at /mnt/b"), "{error}");
    }
}
