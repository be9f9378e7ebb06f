//! A mounted filesystem, from the mount call to the last answer.

use crate::fetch::Engine;
use crate::fs::Settings;
use crate::fs::filesystem::BraidFs;
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A mount that is being served.
pub struct Mounted {
    session: BackgroundSession,
    mountpoint: PathBuf,
}

/// Mount and serve. It can be used when this returns.
pub fn mount(engine: Arc<Engine>, settings: &Settings, mountpoint: &Path) -> io::Result<Mounted> {
    let mut config = config(settings);
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
    let session = fuser::spawn_mount(BraidFs::new(engine, settings), mountpoint, &config)?;
    if let Ok(about) = rustix::fs::stat(mountpoint) {
        raise_read_ahead(rustix::fs::major(about.st_dev), rustix::fs::minor(about.st_dev), settings.read_ahead_kib);
    }
    Ok(Mounted { session, mountpoint: mountpoint.to_owned() })
}

/// Serve what somebody else has mounted: `descriptor` is its `/dev/fuse`, `device` its number where that is known. Who
/// may come in, and how it is mounted, was decided there. It can be used when this returns.
pub fn serve(
    engine: Arc<Engine>,
    settings: &Settings,
    descriptor: OwnedFd,
    mountpoint: &Path,
    device: Option<(u32, u32)>,
) -> io::Result<Mounted> {
    // Whom the kernel lets in, by the options of the mount, is let in.
    let session = Session::from_fd(BraidFs::new(engine, settings), descriptor, SessionACL::All, config(settings))?;
    let session = session.spawn()?;
    if let Some((major, minor)) = device {
        raise_read_ahead(major, minor, settings.read_ahead_kib);
    }
    Ok(Mounted { session, mountpoint: mountpoint.to_owned() })
}

fn config(settings: &Settings) -> Config {
    let mut config = Config::default();
    config.n_threads = Some(settings.threads);
    config
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
fn raise_read_ahead(major: u32, minor: u32, kib: u32) {
    let file = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&file, kib.to_string()) {
        tracing::debug!(file, %error, "the kernel's readahead stays as it is: only root can raise it");
    }
}
