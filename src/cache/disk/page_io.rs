//! One data file and the checksums beside it: pages at `page * 4096`, their checksums at `page * 4`.

use super::drive::{Drive, DriveFile, Opening};
use crate::chunk::{PAGE_BYTES, Pages};
use rustix::io::Errno;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

const PAGE: usize = PAGE_BYTES as usize;
/// Below it a buffered write costs less than the round trip to the disk that a direct one is.
const DIRECT_BYTES_MIN: usize = 128 << 10;
/// A read this long is one of a stream...
const STREAM_BYTES_MIN: usize = 128 << 10;
/// ...and the disk is told of this much more: its own readahead is 128 KiB on most systems, which
/// keeps a fast disk waiting between reads.
const AHEAD_BYTES: usize = 2 << 20;
/// Buffers in one call: the kernel's `UIO_MAXIOV`.
const BUFFERS_MAX: usize = 1024;
/// Pages whose checksums are looked at in one go; they fit on the stack of a FUSE thread.
const CHECKED_PAGES: usize = 256;
/// Pages whose checksums share one 4 KiB of the file of checksums: what is evicted in one go.
pub(super) const GROUP_PAGES: u64 = PAGE_BYTES / 4;
/// Bytes that the checksums of one group take.
pub(super) const GROUP_SUM_BYTES: u64 = PAGE_BYTES;

/// The open descriptors of one data file.
pub(super) struct DataFile {
    pages: DriveFile,
    sums: DriveFile,
    /// Opened at the first write that can use it; `None` where the file system refuses.
    direct: OnceLock<Option<DriveFile>>,
    direct_refused: AtomicBool,
    drive: Drive,
    path: std::path::PathBuf,
}

/// Where the bytes of a write go first. They are durable only after a sync either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// To the disk, past the kernel's memory, where they are many and the file system lets them.
    Disk,
    /// To the kernel's memory.
    Memory,
}

/// What became of a read.
#[derive(Debug, PartialEq)]
pub(super) enum Checked {
    /// All bytes are right.
    Right,
    /// These pages of the data file do not match their checksums.
    Damaged(Vec<Pages>),
}

impl DataFile {
    /// Open an existing data file.
    pub(super) fn open(drive: &Drive, pages: &Path, sums: &Path) -> io::Result<DataFile> {
        DataFile::with(drive, Opening::Existing, pages, sums)
    }

    /// Make a new one, empty whatever was there.
    pub(super) fn create(drive: &Drive, pages: &Path, sums: &Path) -> io::Result<DataFile> {
        let make = || DataFile::with(drive, Opening::Anew, pages, sums);
        make().or_else(|error| match (error.kind(), pages.parent()) {
            (io::ErrorKind::NotFound, Some(folder)) => {
                drive.make_folders(folder)?;
                make()
            }
            _ => Err(error),
        })
    }

    fn with(drive: &Drive, opening: Opening, pages: &Path, sums: &Path) -> io::Result<DataFile> {
        Ok(DataFile {
            pages: drive.open(pages, opening)?,
            sums: drive.open(sums, opening)?,
            direct: OnceLock::new(),
            direct_refused: AtomicBool::new(false),
            drive: drive.clone(),
            path: pages.to_path_buf(),
        })
    }

    /// Write neighbouring whole pages from page `start` on, and their checksums. Of the pages nothing from `end_bytes` on,
    /// which is the exact length of a file whose readers would see more.
    pub(super) fn write(&self, start: u64, buffers: &[&[u8]], end_bytes: Option<u64>, way: Way) -> io::Result<()> {
        let length: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let kept = end_bytes.map_or(length, |end| length.min(end.saturating_sub(start * PAGE_BYTES) as usize));
        let (whole, all);
        let (direct, buffered) = if kept == length {
            (buffers, buffers)
        } else {
            (whole, all) = (first(buffers, kept / PAGE * PAGE), first(buffers, kept));
            (&whole[..], &all[..])
        };
        let written =
            if way == Way::Disk && length >= DIRECT_BYTES_MIN { self.write_direct(start, direct)? } else { 0 };
        self.write_buffered(start * PAGE_BYTES, buffered, written)?;
        let mut sums = Vec::with_capacity(length / PAGE * 4);
        for page in buffers.iter().flat_map(|buffer| buffer.chunks(PAGE)) {
            sums.extend_from_slice(&crc32c::crc32c(page).to_le_bytes());
        }
        self.sums.write_all_at(&sums, start * 4)
    }

    /// Of its pages; none of a simulated disk.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pages.descriptor()
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Let the kernel forget what it has of `pages` in memory, where the disk has it: the next read asks the disk.
    pub(super) fn forget_cached(&self, pages: Pages) {
        for (file, bytes) in [(&self.pages, PAGE_BYTES), (&self.sums, 4)] {
            file.forget_cached(pages.start * bytes, pages.count() * bytes);
        }
    }

    /// How much of it was written past the page cache; the rest is for the buffered way.
    fn write_direct(&self, start: u64, buffers: &[&[u8]]) -> io::Result<usize> {
        let Some(file) = self.direct() else { return Ok(0) };
        let aligned = buffers.iter().all(|buffer| (buffer.as_ptr() as usize).is_multiple_of(PAGE));
        let bounce;
        let copied;
        let buffers = if aligned {
            buffers
        } else {
            bounce = Bounce::of(buffers);
            copied = [bounce.bytes()];
            &copied
        };
        let mut done = 0;
        for some in buffers.chunks(BUFFERS_MAX) {
            let length: usize = some.iter().map(|buffer| buffer.len()).sum();
            let slices: Vec<_> = some.iter().map(|buffer| IoSlice::new(buffer)).collect();
            match file.write_vectored_at(&slices, start * PAGE_BYTES + done as u64) {
                Ok(written) if written == length => done += length,
                // Part of it; whole pages of that count, the others are written again.
                Ok(written) => return Ok(done + written / PAGE * PAGE),
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                    self.direct_refused.store(true, Ordering::Relaxed);
                    return Ok(done);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn write_buffered(&self, offset: u64, buffers: &[&[u8]], skipped: usize) -> io::Result<()> {
        let mut at = 0;
        for buffer in buffers {
            let from = skipped.saturating_sub(at).min(buffer.len());
            self.pages.write_all_at(&buffer[from..], offset + (at + from) as u64)?;
            at += buffer.len();
        }
        Ok(())
    }

    fn direct(&self) -> Option<&DriveFile> {
        if self.direct_refused.load(Ordering::Relaxed) {
            return None;
        }
        self.direct.get_or_init(|| self.drive.open(&self.path, Opening::Direct).ok()).as_ref()
    }

    /// Read from page `start` on and check: `into` holds whole pages but for the file's last one, of
    /// which it has as many bytes as the file (the rest is zeros on disk). With `now`, an answer that
    /// would have to wait for the disk is `WouldBlock`.
    pub(super) fn read(&self, start: u64, into: &mut [u8], now: bool) -> io::Result<Checked> {
        let mut damaged: Vec<Pages> = Vec::new();
        let mut page = start;
        if !now && into.len() >= STREAM_BYTES_MIN {
            self.pages.will_need(start * PAGE_BYTES, (into.len() + AHEAD_BYTES) as u64);
        }
        for bytes in into.chunks_mut(CHECKED_PAGES * PAGE) {
            let mut room = [0; CHECKED_PAGES * 4];
            let sums = &mut room[..bytes.len().div_ceil(PAGE) * 4];
            read_at(&self.sums, page * 4, sums, now)?;
            read_at(&self.pages, page * PAGE_BYTES, bytes, now)?;
            for (bytes, sum) in bytes.chunks(PAGE).zip(sums.chunks(4)) {
                if sum != sum_of(bytes).to_le_bytes() {
                    match damaged.last_mut() {
                        Some(last) if last.end == page => last.end += 1,
                        _ => damaged.push(Pages::new(page, page + 1)),
                    }
                }
                page += 1;
            }
        }
        Ok(if damaged.is_empty() { Checked::Right } else { Checked::Damaged(damaged) })
    }

    /// Wait until the pages are on the disk.
    pub(super) fn sync_pages(&self) -> io::Result<()> {
        self.pages.sync()
    }

    /// Wait until the checksums are on the disk.
    pub(super) fn sync_sums(&self) -> io::Result<()> {
        self.sums.sync()
    }

    /// Wait until all of it is on the disk, holes too.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.sync_pages()?;
        self.sync_sums()
    }

    /// Give the room of `pages` back to the file system. That of their checksums goes where a group's go together.
    pub(super) fn punch(&self, pages: Pages) -> io::Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        self.pages.punch(pages.start * PAGE_BYTES, pages.count() * PAGE_BYTES)?;
        self.sums.punch(pages.start * 4, pages.count() * 4)
    }

    /// Give back the room of the checksums of a group of which no page is left.
    pub(super) fn punch_sums(&self, group: Pages) -> io::Result<()> {
        self.sums.punch(group.start * 4, group.count() * 4)
    }

    /// Cut to the exact size, and wait until it is so on the disk.
    pub(super) fn truncate(&self, size_bytes: u64) -> io::Result<()> {
        if self.pages.length_bytes()? == size_bytes {
            return Ok(());
        }
        self.pages.set_len(size_bytes)?;
        self.pages.sync()
    }

    /// No page at or after this one has any bytes, nor a checksum: the start of a group.
    pub(super) fn end_page(&self) -> io::Result<u64> {
        let pages = self.pages.length_bytes()?.div_ceil(PAGE_BYTES);
        let sums = self.sums.length_bytes()?.div_ceil(4);
        Ok(pages.max(sums).next_multiple_of(GROUP_PAGES))
    }

    /// Cut off everything from page `end` on, checksums too.
    pub(super) fn cut(&self, end: u64) -> io::Result<()> {
        self.pages.set_len(end * PAGE_BYTES)?;
        self.sums.set_len(end * 4)
    }
}

/// The first bytes of these buffers.
fn first<'a>(buffers: &[&'a [u8]], mut length: usize) -> Vec<&'a [u8]> {
    let some = buffers.iter().map(|buffer| {
        let (first, _) = buffer.split_at(buffer.len().min(length));
        length -= first.len();
        first
    });
    some.filter(|buffer| !buffer.is_empty()).collect()
}

/// The checksum of a page of which only the first bytes are given, the rest being zeros.
fn sum_of(bytes: &[u8]) -> u32 {
    const ZEROS: [u8; PAGE] = [0; PAGE];
    crc32c::crc32c_append(crc32c::crc32c(bytes), &ZEROS[bytes.len()..])
}

/// Fill `into`; what lies beyond the end of the file is zeros.
fn read_at(file: &DriveFile, offset: u64, into: &mut [u8], now: bool) -> io::Result<()> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], offset + done as u64, now) {
            Ok(0) => {
                into[done..].fill(0);
                break;
            }
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::OPNOTSUPP) if now => return Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Memory at a page's boundary, for bytes that are not.
struct Bounce {
    memory: Vec<u8>,
    from: usize,
}

impl Bounce {
    fn of(buffers: &[&[u8]]) -> Bounce {
        let length: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let mut memory = vec![0; length + PAGE];
        let from = memory.as_ptr().align_offset(PAGE);
        let mut at = from;
        for buffer in buffers {
            memory[at..at + buffer.len()].copy_from_slice(buffer);
            at += buffer.len();
        }
        memory.truncate(at);
        Bounce { memory, from }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.from..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_file(dir: &Path) -> DataFile {
        DataFile::create(&Drive::default(), &dir.join("x/1.pages"), &dir.join("x/1.sums")).unwrap()
    }

    #[test]
    fn long_short_aligned_and_odd_memory_all_come_back() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let file = data_file(dir.path());
        let bytes: Vec<u8> = (0..100 * PAGE).map(|at| (at / 3) as u8).collect();
        let odd = &bytes[1..1 + 90 * PAGE];
        file.write(5, &[&odd[..50 * PAGE], &odd[50 * PAGE..]], None, Way::Disk).unwrap();
        let bounce = Bounce::of(&[&bytes]);
        file.write(200, &[bounce.bytes()], None, Way::Disk).unwrap();
        file.write(2, &[&bytes[..PAGE]], None, Way::Disk).unwrap();
        file.sync_pages().unwrap();
        let mut read = vec![0; 90 * PAGE];
        assert_eq!(file.read(5, &mut read, false).unwrap(), Checked::Right);
        assert!(read == odd);
        let mut read = vec![0; 100 * PAGE];
        assert_eq!(file.read(200, &mut read, false).unwrap(), Checked::Right);
        assert!(read == bytes);
    }

    #[test]
    fn only_what_goes_that_way_is_in_the_kernels_memory() {
        // Not where temporary files are: those may lie in memory anyway.
        let dir = tempfile::tempdir_in(".").unwrap();
        let bytes: Vec<u8> = (0..64 * PAGE).map(|at| (at / 5) as u8).collect();
        for way in [Way::Disk, Way::Memory] {
            let file = data_file(dir.path());
            file.write(0, &[&bytes], None, way).unwrap();
            let mut read = vec![0; 64 * PAGE];
            let now = file.read(0, &mut read, true);
            // A disk may be so fast that what is read ahead for one who does not wait is here before he looks: so a read
            // alone cannot tell what was written past the kernel's memory.
            let past = file.direct.get().is_some_and(Option::is_some) && !file.direct_refused.load(Ordering::Relaxed);
            assert_eq!(past, way == Way::Disk);
            match now {
                Ok(checked) => assert_eq!(checked, Checked::Right),
                Err(error) => assert_eq!((error.kind(), way), (io::ErrorKind::WouldBlock, Way::Disk)),
            }
            assert_eq!(file.read(0, &mut read, false).unwrap(), Checked::Right);
            assert!(read == bytes);
        }
    }

    #[test]
    fn altered_bytes_and_holes_never_pass() {
        let dir = tempfile::tempdir().unwrap();
        let file = data_file(dir.path());
        file.write(0, &[&vec![7; 3 * PAGE]], None, Way::Disk).unwrap();
        file.pages.write_all_at(&[8], PAGE as u64 + 9).unwrap();
        let mut read = vec![0; 4 * PAGE];
        let damaged = file.read(0, &mut read, false).unwrap();
        assert_eq!(damaged, Checked::Damaged(vec![Pages::new(1, 2), Pages::new(3, 4)]));
    }

    #[test]
    fn a_short_last_page_is_checked_with_its_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let file = data_file(dir.path());
        let mut page = vec![3; PAGE];
        page[100..].fill(0);
        file.write(0, &[&page], None, Way::Disk).unwrap();
        file.truncate(100).unwrap();
        let mut read = vec![0; 100];
        assert_eq!(file.read(0, &mut read, false).unwrap(), Checked::Right);
        assert_eq!(read, page[..100]);
    }

    #[test]
    fn nothing_is_written_beyond_the_end_that_is_given() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let file = data_file(dir.path());
        let mut bytes = vec![9; 40 * PAGE];
        bytes[39 * PAGE + 100..].fill(0);
        let end = 39 * PAGE + 100;
        file.write(0, &[&bytes[..20 * PAGE], &bytes[20 * PAGE..]], Some(end as u64), Way::Disk).unwrap();
        assert_eq!(file.pages.length_bytes().unwrap(), end as u64);
        assert!(!file.direct_refused.load(Ordering::Relaxed), "whole pages still go past the page cache");
        file.write(39, &[&bytes[39 * PAGE..]], Some(end as u64), Way::Disk).unwrap();
        let mut read = vec![0; end];
        assert_eq!(file.read(0, &mut read, false).unwrap(), Checked::Right);
        assert!(file.pages.length_bytes().unwrap() == end as u64 && read == bytes[..end]);
    }
}
