//! Where redb keeps its bytes: a file with a checksum on each 4 KiB, so that altered bytes come
//! back as an error. redb itself trusts what it reads and may panic on it.
//!
//! The first 4 KiB (redb's header, the only bytes that it overwrites in place) exist twice, each
//! with a number that grows; a write always goes to the copy that is not the last durable one, so
//! a torn write falls back to what was there before. All other cells are written before anything
//! refers to them, so a torn one is never read.

use super::drive::DriveFile;
use parking_lot::Mutex;
use redb::StorageBackend;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one checksum covers: redb's own page.
const CELL_BYTES: usize = 4096;
/// A cell and its checksum, as stored.
const STORED_BYTES: usize = CELL_BYTES + 4;
/// Room of one copy of the header: the cell, its number, its checksum, up to an even 4 KiB.
const HEAD_STRIDE_BYTES: u64 = 8192;
const CELLS_START_BYTES: u64 = 2 * HEAD_STRIDE_BYTES;

/// redb's storage, checked on every read.
#[derive(Debug)]
pub(super) struct CheckedFile {
    file: DriveFile,
    head: Mutex<Head>,
    length_bytes: AtomicU64,
}

#[derive(Debug)]
struct Head {
    bytes: Vec<u8>,
    number: u64,
    /// The copy (0 or 1) that holds the last durable header.
    durable_copy: u64,
    written_since: bool,
}

impl CheckedFile {
    /// Take over `file`. Fails with `InvalidData` where neither copy of the header is whole.
    pub(super) fn new(file: DriveFile) -> io::Result<CheckedFile> {
        let stored = file.length_bytes()?;
        let length = logical_length(stored);
        let empty = Head { bytes: vec![0; CELL_BYTES], number: 0, durable_copy: 1, written_since: false };
        let head = match (read_head(&file, 0), read_head(&file, 1)) {
            (Some(first), Some(second)) if first.number > second.number => first,
            (_, Some(second)) => second,
            (Some(first), None) => first,
            // A file that was made and never synced is as good as empty.
            (None, None) if stored <= CELLS_START_BYTES => empty,
            (None, None) => return Err(damaged("its header")),
        };
        Ok(CheckedFile { file, head: Mutex::new(head), length_bytes: AtomicU64::new(length) })
    }

    fn check_range(&self, offset: u64, length: usize) -> io::Result<()> {
        let end = offset.checked_add(length as u64);
        match end.is_some_and(|end| end <= self.length_bytes.load(Ordering::Acquire)) {
            true => Ok(()),
            false => Err(damaged("a reference beyond its end")),
        }
    }

    /// Fill `cells` with whole cells from cell number `first` on (`first` is at least 1).
    fn read_cells(&self, first: u64, cells: &mut [u8]) -> io::Result<()> {
        let count = cells.len() / CELL_BYTES;
        let mut stored = vec![0; count * STORED_BYTES];
        self.file.read_exact_at(&mut stored, stored_at(first))?;
        for (at, (stored, cell)) in stored.chunks(STORED_BYTES).zip(cells.chunks_mut(CELL_BYTES)).enumerate() {
            let (bytes, sum) = stored.split_at(CELL_BYTES);
            let sum = u32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
            // A cell that was never written reads as zeros, sum included.
            let untouched = sum == 0 && bytes.iter().all(|&byte| byte == 0);
            if !untouched && sum != sum_of(first + at as u64, bytes) {
                return Err(damaged("a checksum that does not match"));
            }
            cell.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn write_cells(&self, first: u64, cells: &[u8]) -> io::Result<()> {
        let mut stored = Vec::with_capacity(cells.len() / CELL_BYTES * STORED_BYTES);
        for (at, cell) in cells.chunks(CELL_BYTES).enumerate() {
            stored.extend_from_slice(cell);
            stored.extend_from_slice(&sum_of(first + at as u64, cell).to_le_bytes());
        }
        self.file.write_all_at(&stored, stored_at(first))
    }

    fn write_head(&self, head: &mut Head) -> io::Result<()> {
        head.number += 1;
        let mut stored = head.bytes.clone();
        stored.extend_from_slice(&head.number.to_le_bytes());
        stored.extend_from_slice(&crc32c::crc32c(&stored).to_le_bytes());
        head.written_since = true;
        self.file.write_all_at(&stored, (1 - head.durable_copy) * HEAD_STRIDE_BYTES)
    }
}

impl StorageBackend for CheckedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.length_bytes.load(Ordering::Acquire))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check_range(offset, out.len())?;
        let mut done = 0;
        while done < out.len() {
            let (cell, within) = split(offset + done as u64);
            let left = &mut out[done..];
            if cell == 0 {
                let length = left.len().min(CELL_BYTES - within);
                left[..length].copy_from_slice(&self.head.lock().bytes[within..within + length]);
                done += length;
            } else if within == 0 && left.len() >= CELL_BYTES {
                let length = left.len() / CELL_BYTES * CELL_BYTES;
                self.read_cells(cell, &mut left[..length])?;
                done += length;
            } else {
                let length = left.len().min(CELL_BYTES - within);
                let mut whole = vec![0; CELL_BYTES];
                self.read_cells(cell, &mut whole)?;
                left[..length].copy_from_slice(&whole[within..within + length]);
                done += length;
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if !length.is_multiple_of(CELL_BYTES as u64) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the state file grows by whole pages"));
        }
        self.file.set_len(stored_at(length / CELL_BYTES as u64))?;
        self.length_bytes.store(length, Ordering::Release);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // Held over the sync, so that no write of the header slips in unnoticed.
        let mut head = self.head.lock();
        self.file.sync()?;
        if std::mem::take(&mut head.written_since) {
            head.durable_copy = 1 - head.durable_copy;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_range(offset, data.len())?;
        let mut done = 0;
        while done < data.len() {
            let (cell, within) = split(offset + done as u64);
            let left = &data[done..];
            let length = left.len().min(CELL_BYTES - within);
            if cell == 0 {
                let mut head = self.head.lock();
                head.bytes[within..within + length].copy_from_slice(&left[..length]);
                self.write_head(&mut head)?;
                done += length;
            } else if within == 0 && left.len() >= CELL_BYTES {
                let length = left.len() / CELL_BYTES * CELL_BYTES;
                self.write_cells(cell, &left[..length])?;
                done += length;
            } else {
                // The lock keeps two writes of parts of one cell from losing one another.
                let _alone = self.head.lock();
                let mut whole = vec![0; CELL_BYTES];
                self.read_cells(cell, &mut whole)?;
                whole[within..within + length].copy_from_slice(&left[..length]);
                self.write_cells(cell, &whole)?;
                done += length;
            }
        }
        Ok(())
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the cache's state file is damaged: {what}"))
}

fn split(offset: u64) -> (u64, usize) {
    (offset / CELL_BYTES as u64, (offset % CELL_BYTES as u64) as usize)
}

/// Where cell `cell` (1 and up) is stored; for 0, the least length of a file with a header.
fn stored_at(cell: u64) -> u64 {
    CELLS_START_BYTES + cell.saturating_sub(1) * STORED_BYTES as u64
}

fn logical_length(stored: u64) -> u64 {
    match stored.checked_sub(CELLS_START_BYTES) {
        None => 0,
        Some(cells) => (1 + cells / STORED_BYTES as u64) * CELL_BYTES as u64,
    }
}

/// Never zero, which means "never written". The cell's number is in it: a misplaced cell shows.
fn sum_of(cell: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(cell as u32, bytes).max(1)
}

fn read_head(file: &DriveFile, copy: u64) -> Option<Head> {
    let mut stored = vec![0; CELL_BYTES + 12];
    file.read_exact_at(&mut stored, copy * HEAD_STRIDE_BYTES).ok()?;
    let (covered, sum) = stored.split_at(CELL_BYTES + 8);
    let number = u64::from_le_bytes(covered[CELL_BYTES..].try_into().ok()?);
    let right = number > 0 && sum == crc32c::crc32c(covered).to_le_bytes();
    let bytes = covered[..CELL_BYTES].to_vec();
    right.then_some(Head { bytes, number, durable_copy: copy, written_since: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend() -> CheckedFile {
        CheckedFile::new(DriveFile::Machine(tempfile::tempfile().unwrap())).unwrap()
    }

    #[test]
    fn what_is_written_in_any_shape_is_read_back() {
        let backend = backend();
        backend.set_len(10 * 4096).unwrap();
        let bytes: Vec<u8> = (0..20_000u32).map(|at| (at * 7) as u8).collect();
        backend.write(3000, &bytes).unwrap();
        let mut read = vec![0; bytes.len()];
        backend.read(3000, &mut read).unwrap();
        assert_eq!(read, bytes);
        backend.read(30_000, &mut read[..1000]).unwrap();
        assert!(read[..1000].iter().all(|&byte| byte == 0));
        assert!(backend.read(40_000, &mut read[..1000]).is_err());
    }

    #[test]
    fn an_altered_byte_is_an_error() {
        let backend = backend();
        backend.set_len(4 * 4096).unwrap();
        backend.write(4096, &[5; 4096]).unwrap();
        backend.file.write_all_at(&[9], stored_at(1) + 77).unwrap();
        assert_eq!(backend.read(4096, &mut [0; 10]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_torn_header_falls_back_to_the_durable_one() {
        let backend = backend();
        backend.set_len(2 * 4096).unwrap();
        backend.write(0, b"first").unwrap();
        backend.sync_data().unwrap();
        backend.write(0, b"other").unwrap();
        let torn = (1 - backend.head.lock().durable_copy) * HEAD_STRIDE_BYTES;
        backend.file.write_all_at(&[0xff; 9], torn + 100).unwrap();
        let again = CheckedFile::new(backend.file).unwrap();
        let mut read = [0; 5];
        again.read(0, &mut read).unwrap();
        assert_eq!(&read, b"first");
    }
}
