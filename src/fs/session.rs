//! A mounted filesystem, from the mount call to the last answer.

use crate::fetch::Engine;
use crate::fs::Settings;
use crate::fs::filesystem::BraidFs;
use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A mount that is being served.
pub struct Mounted {
    session: BackgroundSession,
    mountpoint: PathBuf,
}

/// Mount and serve. It can be used when this returns.
pub fn mount(engine: Arc<Engine>, settings: &Settings, mountpoint: &Path) -> io::Result<Mounted> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::DefaultPermissions,
        MountOption::FSName(settings.fsname.clone()),
        // As root the type would be plain `fuse` otherwise.
        // `Subtype` reaches fusermount3 only; the kernel takes it from root as it stands.
        MountOption::CUSTOM("subtype=braidfs".into()),
    ];
    if settings.noexec {
        config.mount_options.push(MountOption::NoExec);
    }
    config.acl = if settings.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(settings.threads);
    let session = fuser::spawn_mount(BraidFs::new(engine, settings), mountpoint, &config)?;
    raise_read_ahead(mountpoint, settings.read_ahead_kib);
    Ok(Mounted { session, mountpoint: mountpoint.to_owned() })
}

impl Mounted {
    /// Where.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Has the last user gone, and the kernel hung up?
    pub fn is_over(&self) -> bool {
        self.session.guard.is_finished()
    }

    /// After the kernel has hung up.
    pub fn join(self) -> io::Result<()> {
        self.session.join()
    }
}

/// The kernel's cap on readahead is lifted by root only, in a file that belongs to the mount.
fn raise_read_ahead(mountpoint: &Path, kib: u32) {
    let Ok(about) = rustix::fs::stat(mountpoint) else { return };
    let (major, minor) = (rustix::fs::major(about.st_dev), rustix::fs::minor(about.st_dev));
    let file = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&file, kib.to_string()) {
        tracing::debug!(file, %error, "the kernel's readahead stays as it is: only root can raise it");
    }
}
