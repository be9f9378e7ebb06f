//! One daemon per cache folder.

use super::OpenError;
use super::drive::{Drive, DriveFile, Opening};
use std::path::Path;

/// Held as long as the cache is open; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: DriveFile,
}

impl Lock {
    /// Take the lock of the folder `dir` and write down who has it.
    pub(super) fn take(drive: &Drive, dir: &Path, owner: &str) -> Result<Lock, OpenError> {
        let path = dir.join("lock");
        let failed = |error| OpenError::from_io(&path, error);
        let file = drive.open(&path, Opening::Made).map_err(failed)?;
        match file.lock() {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(in_use(drive, dir)),
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).map_err(failed)?;
        // A full disk must not keep anybody from reading what is cached: the text is only for the message.
        let text = format!("{}\n{owner}\n", std::process::id());
        if let Err(error) = file.write_all_at(text.as_bytes(), 0) {
            tracing::warn!(%error, path = %path.display(), "could not write down who uses the cache");
        }
        Ok(Lock { _file: file })
    }
}

/// Who has the cache folder `dir`, as process and mountpoint; `None` where nobody has. Changes nothing.
///
/// # Errors
/// The lock cannot be read. A folder without one is nobody's.
pub fn user_of(dir: &Path) -> std::io::Result<Option<(u32, String)>> {
    let drive = Drive::default();
    let path = dir.join("lock");
    if !drive.exists(&path) {
        return Ok(None);
    }
    // Taken for as long as it takes to let go of it: who has it has it for as long as a mount lasts.
    match drive.open(&path, Opening::Existing)?.lock() {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => match in_use(&drive, dir) {
            OpenError::InUse { pid, owner, .. } => Ok(Some((pid, owner))),
            _ => Ok(Some((0, "?".to_owned()))),
        },
        Err(error) => Err(error.into()),
    }
}

fn in_use(drive: &Drive, dir: &Path) -> OpenError {
    // What cannot be read is shown as unknown.
    let bytes = drive.read(&dir.join("lock")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let pid = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    OpenError::InUse { dir: dir.to_path_buf(), pid, owner: lines.next().unwrap_or("?").to_owned() }
}
