//! How fast a folder's disk writes, syncs and reads, by a nameless file that is gone when this ends, however it ends.

use crate::clock::{Time, now};
use rustix::fs::{Advice, FallocateFlags, Mode, OFlags, fadvise, fallocate, open};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// Written at most.
const BYTES_MAX: u64 = 64 << 20;
/// Of the space above the floor that is left to others, a part: whoever needs it meanwhile finds most of it.
const ROOM_SHARE: u64 = 4;
/// Written at a time, as the cache does.
const STEP_BYTES: usize = 1 << 20;
/// Writing ends after so long, and reading too: a slow disk has shown that it is slow.
const PASS_MAX: Duration = Duration::from_secs(3);
/// Pages written and synced one by one.
const PAGE_SYNCS: usize = 7;
const PAGE_BYTES: usize = 4096;

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Written and read back.
    pub bytes: u64,
    /// As fast.
    pub write_bytes_per_second: f64,
    /// What its sync took.
    pub sync: Duration,
    /// The median of writing a page and syncing it.
    pub page_sync: Duration,
    /// From the disk, as far as the kernel lets go of it.
    pub read_bytes_per_second: f64,
    /// What was read is what was written.
    pub same: bool,
    /// It takes writes past the kernel's memory.
    pub direct: Result<(), String>,
    /// What was never written takes no space.
    pub sparse: bool,
    /// A hole can be made later.
    pub punch: Result<(), String>,
}

/// Why nothing was.
#[derive(Debug)]
pub enum Unmeasured {
    /// No file can be made there.
    NoFile(io::Error),
    /// It would take the space of others.
    NoRoom,
    /// The disk failed on the way.
    Failed(io::Error),
}

/// Measure the disk of `folder`, of which at most a part of `room_bytes` is taken for that.
///
/// # Errors
/// No file can be made there, there is no room, or the disk fails.
pub fn measure(folder: &Path, room_bytes: u64) -> Result<Measured, Unmeasured> {
    let file = nameless(folder).map_err(Unmeasured::NoFile)?;
    let bytes = (room_bytes / ROOM_SHARE).min(BYTES_MAX) / STEP_BYTES as u64 * STEP_BYTES as u64;
    if bytes == 0 {
        return Err(Unmeasured::NoRoom);
    }
    measure_with(&file, bytes).map_err(Unmeasured::Failed)
}

fn measure_with(file: &File, bytes_max: u64) -> io::Result<Measured> {
    let pattern = Aligned::new();
    let direct = direct(file);
    let is_direct = direct.as_ref().is_ok_and(|file| file.write_all_at(pattern.step(0), 0).is_ok());
    let writer = direct.as_ref().ok().filter(|_| is_direct).unwrap_or(file);
    let start = now();
    let mut bytes = 0;
    while bytes < bytes_max && now().since(start) < PASS_MAX {
        writer.write_all_at(pattern.step(bytes), bytes)?;
        bytes += STEP_BYTES as u64;
    }
    let (writing, syncing) = (seconds(start), now());
    file.sync_data()?;
    let sync = now().since(syncing);
    let _ = fadvise(file, 0, None, Advice::DontNeed);
    let (reading, mut at, mut same) = (now(), 0, true);
    let mut read = vec![0; STEP_BYTES];
    while at < bytes && now().since(reading) < PASS_MAX {
        file.read_exact_at(&mut read, at)?;
        same &= read == pattern.step(at);
        at += STEP_BYTES as u64;
    }
    let read_bytes_per_second = at as f64 / seconds(reading);
    Ok(Measured {
        bytes,
        write_bytes_per_second: bytes as f64 / writing,
        sync,
        page_sync: page_sync(file, pattern.step(0))?,
        read_bytes_per_second,
        same,
        direct: match (is_direct, direct) {
            (true, _) => Ok(()),
            (false, Err(error)) => Err(error.to_string()),
            (false, Ok(_)) => Err("refused when written".into()),
        },
        sparse: is_sparse(file, bytes)?,
        punch: punch(file).map_err(|error| error.to_string()),
    })
}

/// A file in the folder that has no name, or has none any more.
fn nameless(folder: &Path) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    match open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(file) => Ok(file.into()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
            let path = folder.join(format!(".braidfs-doctor-{}", std::process::id()));
            let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
        Err(error) => Err(error.into()),
    }
}

/// The same file, written past the kernel's memory.
fn direct(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).write(true).custom_flags(OFlags::DIRECT.bits() as i32).open(path)
}

fn page_sync(file: &File, bytes: &[u8]) -> io::Result<Duration> {
    let mut lengths = Vec::new();
    for at in 0..PAGE_SYNCS {
        let start = now();
        file.write_all_at(&bytes[..PAGE_BYTES], (at * PAGE_BYTES) as u64)?;
        file.sync_data()?;
        lengths.push(now().since(start));
    }
    lengths.sort();
    Ok(lengths[PAGE_SYNCS / 2])
}

/// Does a longer file take more space?
fn is_sparse(file: &File, bytes: u64) -> io::Result<bool> {
    let before = file.metadata()?.blocks();
    file.set_len(bytes + BYTES_MAX)?;
    Ok(file.metadata()?.blocks() * 512 < before * 512 + BYTES_MAX / 2)
}

fn punch(file: &File) -> io::Result<()> {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, mode, 0, STEP_BYTES as u64)?)
}

fn seconds(start: Time) -> f64 {
    now().seconds_since(start).max(1e-6)
}

/// Bytes that no compression makes less of, at a page's boundary as direct writes need it.
struct Aligned {
    bytes: Vec<u8>,
    at: usize,
}

impl Aligned {
    /// So many different steps there are.
    const STEPS: usize = 2;

    fn new() -> Aligned {
        let mut bytes = vec![0; STEP_BYTES * Aligned::STEPS + PAGE_BYTES];
        let at = bytes.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        blake3::Hasher::new().finalize_xof().fill(&mut bytes[at..at + STEP_BYTES * Aligned::STEPS]);
        Aligned { bytes, at }
    }

    /// The bytes of the step at `offset`.
    fn step(&self, offset: u64) -> &[u8] {
        let which = (offset / STEP_BYTES as u64) as usize % Aligned::STEPS;
        let from = self.at + which * STEP_BYTES;
        &self.bytes[from..from + STEP_BYTES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_measures_within_the_room_and_leaves_nothing() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let measured = measure(folder.path(), 16 << 20).unwrap();
        assert_eq!(measured.bytes, 4 << 20);
        assert!(measured.same && measured.sparse, "{measured:?}");
        assert!(measured.write_bytes_per_second > 0.0 && measured.read_bytes_per_second > 0.0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(matches!(measure(folder.path(), 1 << 20), Err(Unmeasured::NoRoom)));
        assert!(matches!(measure(Path::new("/proc"), 1 << 30), Err(Unmeasured::NoFile(_))));
    }
}
