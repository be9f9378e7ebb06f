//! One daemon per cache folder.

use super::OpenError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Held as long as the cache is open; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Take the lock of the folder `dir` and write down who has it.
    pub(super) fn take(dir: &Path, owner: &str) -> Result<Lock, OpenError> {
        let path = dir.join("lock");
        let failed = |error| OpenError::from_io(&path, error);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(in_use(dir, &mut file)),
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        // A full disk must not keep anybody from reading what is cached: the text is only for the message.
        if let Err(error) = write!(file, "{}\n{owner}\n", std::process::id()) {
            tracing::warn!(%error, path = %path.display(), "could not write down who uses the cache");
        }
        Ok(Lock { _file: file })
    }
}

fn in_use(dir: &Path, file: &mut File) -> OpenError {
    let mut bytes = Vec::new();
    // What cannot be read is shown as unknown.
    let _ = file.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let pid = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    OpenError::InUse { dir: dir.to_path_buf(), pid, owner: lines.next().unwrap_or("?").to_owned() }
}
