//! What is remembered of a file version, and its form on disk.

use super::state::State;
use crate::chunk::{PAGE_BYTES, Pages};
use roaring::RoaringBitmap;

/// A file version: what a record is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// The path in the dataset, as bytes.
    pub path: Vec<u8>,
    /// The exact size in bytes.
    pub size_bytes: u64,
    /// The modification time in seconds since 1970, where one is known.
    pub modified_unix_s: Option<i64>,
    /// Tells versions of equal size and date apart.
    pub generation: u32,
}

/// Bytes that follow the path in an encoded key.
const KEY_TAIL_BYTES: usize = 8 + 1 + 8 + 4;

impl FileKey {
    /// The path first, so that versions of one path are neighbours.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.path.len() + KEY_TAIL_BYTES);
        bytes.extend_from_slice(&self.path);
        bytes.extend_from_slice(&self.size_bytes.to_be_bytes());
        bytes.push(u8::from(self.modified_unix_s.is_some()));
        bytes.extend_from_slice(&self.modified_unix_s.unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<FileKey> {
        let (path, tail) = bytes.split_at_checked(bytes.len().checked_sub(KEY_TAIL_BYTES)?)?;
        let mut tail = Reader(tail);
        let size_bytes = u64::from_be_bytes(tail.take()?);
        let dated = tail.take::<1>()? == [1];
        let modified = i64::from_be_bytes(tail.take()?);
        let generation = u32::from_be_bytes(tail.take()?);
        Some(FileKey { path: path.to_vec(), size_bytes, modified_unix_s: dated.then_some(modified), generation })
    }

    /// How many pages the file has.
    pub(super) fn page_count(&self) -> u64 {
        self.size_bytes.div_ceil(PAGE_BYTES)
    }
}

/// Where a file's pages lie: in a data file of its own, or in a pack shared with other small files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) data_id: u64,
    pub(super) base_page: u64,
    pub(super) packed: bool,
}

/// One row of the table of files. Offset, checksum and time change together with the state.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Record {
    pub(super) place: Place,
    pub(super) state: State,
    /// Grows with every change, and over the file's records that were deleted too; a writer that expects another
    /// one loses.
    pub(super) revision: u64,
    /// Durable bytes.
    pub(super) offset_bytes: u64,
    /// All leaves of the bitmap, see [`leaf_sum`].
    pub(super) checksum: u32,
    pub(super) time_unix_s: i64,
    pub(super) note: Option<Vec<u8>>,
}

impl Record {
    /// Is it what a file of `page_count` pages with this bitmap can have?
    pub(super) fn fits(&self, bitmap: &RoaringBitmap, page_count: u64) -> bool {
        let inside = bitmap.max().is_none_or(|last| u64::from(last) < page_count);
        let whole = bitmap.len() == page_count;
        inside
            && match self.state {
                State::Idle => false,
                State::Preparing => bitmap.is_empty(),
                State::Transferring => !whole,
                State::Committing | State::Done => whole,
            }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.state.code(), u8::from(self.place.packed), u8::from(self.note.is_some())];
        for number in [self.place.data_id, self.place.base_page, self.revision, self.offset_bytes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.time_unix_s.to_le_bytes());
        bytes.extend_from_slice(&self.checksum.to_le_bytes());
        bytes.extend_from_slice(self.note.as_deref().unwrap_or_default());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Record> {
        let mut reader = Reader(bytes);
        let [state, packed, noted] = reader.take()?;
        let data_id = u64::from_le_bytes(reader.take()?);
        let base_page = u64::from_le_bytes(reader.take()?);
        Some(Record {
            place: Place { data_id, base_page, packed: packed == 1 },
            state: State::from_code(state)?,
            revision: u64::from_le_bytes(reader.take()?),
            offset_bytes: u64::from_le_bytes(reader.take()?),
            time_unix_s: i64::from_le_bytes(reader.take()?),
            checksum: u32::from_le_bytes(reader.take()?),
            note: (noted == 1).then(|| reader.0.to_vec()),
        })
    }
}

/// One row of the table of data files.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct DataRow {
    /// When it was last used, counted in uses of the whole cache.
    pub(super) used_tick: u64,
    /// A pack: the pages given out. A file's own: 0, its bitmap says.
    pub(super) pack_pages: u64,
    /// The file whose own it is; `None` for a pack.
    pub(super) key: Option<Vec<u8>>,
}

impl DataRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.key.is_some())];
        bytes.extend_from_slice(&self.used_tick.to_le_bytes());
        bytes.extend_from_slice(&self.pack_pages.to_le_bytes());
        bytes.extend_from_slice(self.key.as_deref().unwrap_or_default());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<DataRow> {
        let mut reader = Reader(bytes);
        let owned = reader.take::<1>()? == [1];
        let used_tick = u64::from_le_bytes(reader.take()?);
        let pack_pages = u64::from_le_bytes(reader.take()?);
        Some(DataRow { used_tick, pack_pages, key: owned.then(|| reader.0.to_vec()) })
    }
}

/// The runs of set pages of a bitmap inside `within`.
pub(super) fn runs(bitmap: &RoaringBitmap, within: Pages) -> Vec<Pages> {
    let mut found = Vec::new();
    if within.is_empty() {
        return found;
    }
    let mut set = bitmap.range(within.start as u32..=(within.end - 1).min(u64::from(u32::MAX)) as u32);
    while let Some(run) = set.next_range() {
        found.push(Pages::new(u64::from(*run.start()), u64::from(*run.end()) + 1));
    }
    found
}

/// The runs of `within` that are not set.
pub(super) fn gaps(bitmap: &RoaringBitmap, within: Pages) -> Vec<Pages> {
    let mut found = Vec::new();
    let mut at = within.start;
    for run in runs(bitmap, within).into_iter().chain([Pages::new(within.end, within.end)]) {
        if run.start > at {
            found.push(Pages::new(at, run.start));
        }
        at = run.end;
    }
    found
}

/// Set or clear a run.
pub(super) fn fill(bitmap: &mut RoaringBitmap, pages: Pages, set: bool) {
    if pages.is_empty() {
        return;
    }
    let range = pages.start as u32..=(pages.end - 1) as u32;
    match set {
        true => bitmap.insert_range(range),
        false => bitmap.remove_range(range),
    };
}

/// Are all of `pages` set?
pub(super) fn all_set(bitmap: &RoaringBitmap, pages: Pages) -> bool {
    pages.is_empty() || bitmap.contains_range(pages.start as u32..=(pages.end - 1) as u32)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_survive_their_encoding_and_short_ones_are_refused() {
        let place = Place { data_id: 9, base_page: 77, packed: true };
        let record = Record {
            place,
            state: State::Committing,
            revision: 3,
            offset_bytes: 9000,
            checksum: 4,
            time_unix_s: -5,
            note: Some(b"etag".to_vec()),
        };
        let bytes = record.encode();
        assert_eq!(Record::decode(&bytes), Some(record));
        assert_eq!(Record::decode(&bytes[..40]), None);
        let key = FileKey { path: b"a/b".to_vec(), size_bytes: 7, modified_unix_s: None, generation: 2 };
        assert_eq!(FileKey::decode(&key.encode()), Some(key));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_something_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(key) = FileKey::decode(&bytes) {
                prop_assert_eq!(FileKey::decode(&key.encode()), Some(key));
            }
            if let Some(record) = Record::decode(&bytes) {
                prop_assert_eq!(Record::decode(&record.encode()), Some(record));
            }
            if let Some(row) = DataRow::decode(&bytes) {
                prop_assert_eq!(DataRow::decode(&row.encode()), Some(row));
            }
        }
    }
}
