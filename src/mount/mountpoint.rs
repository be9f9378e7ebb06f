//! Is this a place to mount on? Said before anything is started, with the way out.

use crate::control::mountinfo;
use crate::control::unmount::{UnmountError, unmount};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum BadMountpoint {
    /// It is not there.
    #[error("the mountpoint {0} does not exist: make it with `mkdir -p {0}`")]
    Missing(PathBuf),
    /// It is a file.
    #[error("the mountpoint {0} is not a folder: give an empty folder")]
    NotAFolder(PathBuf),
    /// There is something in it.
    #[error("the mountpoint {0} is not empty, and what is in it would be hidden: give an empty folder")]
    NotEmpty(PathBuf),
    /// Something is mounted there.
    #[error("{0} is mounted already ({1}): unmount it with `umount {0}`, or give another folder")]
    Mounted(PathBuf, String),
    /// It cannot be looked at.
    #[error("the mountpoint {0} cannot be used: {1}")]
    Unusable(PathBuf, io::Error),
    /// What a daemon that died left behind cannot be taken away.
    #[error("{0} is left over from a daemon that died, and cannot be unmounted ({1}): try `umount -l {0}` as root")]
    Stale(PathBuf, UnmountError),
    /// There is no FUSE.
    #[error(
        "/dev/fuse cannot be opened ({0}): load it with `modprobe fuse`, give the container `--device /dev/fuse`, or let users open it with `chmod 666 /dev/fuse`"
    )]
    NoFuse(io::Error),
    /// Somebody who is not root, and no helper.
    #[error("fusermount3 is not installed, and only root can mount without it: install the package `fuse3`")]
    NoHelper,
}

/// Make sure that `path` can be mounted on. What a crash left there is taken away. Returns it made absolute.
pub fn prepare(path: &Path) -> Result<PathBuf, BadMountpoint> {
    open_fuse().map_err(BadMountpoint::NoFuse)?;
    if !rustix::process::getuid().is_root() && !is_installed(HELPER) {
        return Err(BadMountpoint::NoHelper);
    }
    let absolute = std::path::absolute(path).map_err(|error| BadMountpoint::Unusable(path.into(), error))?;
    if is_stale(&absolute) {
        unmount(&absolute, true).map_err(|why| BadMountpoint::Stale(absolute.clone(), why))?;
        tracing::warn!(mountpoint = %absolute.display(), "took away what a daemon that died had left");
    }
    usable(path, &absolute)
}

/// Can the device of FUSE be opened?
///
/// # Errors
/// What the system says.
pub fn open_fuse() -> io::Result<()> {
    fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").map(drop)
}

/// Can `path` be mounted on? Changes nothing; what a dead daemon left there counts as mounted.
///
/// # Errors
/// Why not, with the way out.
pub fn check(path: &Path) -> Result<(), BadMountpoint> {
    let absolute = std::path::absolute(path).map_err(|error| BadMountpoint::Unusable(path.into(), error))?;
    usable(path, &absolute).map(drop)
}

/// Is it there, and free? Returns it made absolute. What a crash left there counts as free.
pub fn look(path: &Path) -> Result<PathBuf, BadMountpoint> {
    let absolute = std::path::absolute(path).map_err(|error| BadMountpoint::Unusable(path.into(), error))?;
    if is_stale(&absolute) {
        return Ok(absolute);
    }
    usable(path, &absolute)
}

/// `path` is as it was given, for messages.
fn usable(path: &Path, absolute: &Path) -> Result<PathBuf, BadMountpoint> {
    let canonical = fs::canonicalize(absolute).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BadMountpoint::Missing(path.into()),
        _ => BadMountpoint::Unusable(path.into(), error),
    })?;
    let about = fs::metadata(&canonical).map_err(|error| BadMountpoint::Unusable(path.into(), error))?;
    if !about.is_dir() {
        return Err(BadMountpoint::NotAFolder(path.into()));
    }
    if let Some(of) = mounted(&canonical) {
        return Err(BadMountpoint::Mounted(path.into(), of));
    }
    let mut inside = fs::read_dir(&canonical).map_err(|error| BadMountpoint::Unusable(path.into(), error))?;
    if inside.next().is_some() {
        return Err(BadMountpoint::NotEmpty(path.into()));
    }
    Ok(canonical)
}

/// The helper of those who are not root.
pub const HELPER: &str = "fusermount3";

/// Where the helper is, in the usual folders.
pub fn helper() -> Option<PathBuf> {
    find(HELPER)
}

/// Ours, and its daemon is gone: "Transport endpoint is not connected". Attributes may still be in the
/// kernel's cache, so a folder must be opened to know. A mount of others is not touched: it may hang.
fn is_stale(path: &Path) -> bool {
    let mounts = mountinfo::read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let ours = mountinfo::mount_of(&mounts, path).is_some_and(|mount| mount.mountpoint == path && mount.is_braidfs());
    let gone = |error: io::Error| error.raw_os_error() == Some(rustix::io::Errno::NOTCONN.raw_os_error());
    ours && fs::read_dir(path).err().is_some_and(gone)
}

fn is_installed(program: &str) -> bool {
    find(program).is_some() || std::process::Command::new(program).arg("--version").output().is_ok()
}

fn find(program: &str) -> Option<PathBuf> {
    let folders = std::env::split_paths("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    folders.map(|folder| folder.join(program)).find(|path| path.exists())
}

/// What is mounted exactly there, as `source (type)`.
fn mounted(path: &Path) -> Option<String> {
    let mounts = mountinfo::read(Path::new("/proc/self/mountinfo")).ok()?;
    let there = mountinfo::mount_of(&mounts, path).filter(|mount| mount.mountpoint == path)?;
    Some(format!("{} ({})", there.source.display(), there.fs_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bad_mountpoint_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let say = |path: &Path| prepare(path).unwrap_err().to_string();
        assert!(say(&folder.path().join("no")).contains("mkdir -p"));
        assert!(say(&file).contains("not a folder"));
        assert!(say(folder.path()).contains("not empty"));
        assert!(say(Path::new("/proc")).contains("mounted already"));
    }
}
