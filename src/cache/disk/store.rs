//! The tables: files, data files, bitmaps, recency, listings, mirrors, pins, jobs. Everything that belongs together
//! changes in one transaction.

use super::backend::CheckedFile;
use super::layout::Layout;
use super::leaf::{decode_leaf, leaf_sum};
use super::record::{DataRow, FileKey, Record};
use parking_lot::RwLock;
use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};
use roaring::RoaringBitmap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Key of a file version -> [`Record`].
pub(super) const FILES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("files");
/// Data id -> [`DataRow`].
pub(super) const DATA: TableDefinition<u64, &[u8]> = TableDefinition::new("data");
/// Pack and base page -> key of the file there.
pub(super) const MEMBERS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("members");
/// Tick of the last use and data id: ascending, it is the order of eviction.
pub(super) const RECENCY: TableDefinition<(u64, u64), ()> = TableDefinition::new("recency");
/// Data id and leaf -> pages. A packed file's one leaf is found by its base page.
pub(super) const BITMAPS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("bitmaps");
/// Data files that may hold more than their bitmap says, should the power fail now.
pub(super) const TOUCHED: TableDefinition<u64, ()> = TableDefinition::new("touched");
/// Data files that no record names any more and that are still to be deleted.
pub(super) const DOOMED: TableDefinition<u64, ()> = TableDefinition::new("doomed");
/// Folder -> its listing.
pub(super) const LISTINGS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("listings");
/// Label of a mirror -> what was measured of it.
pub(super) const MIRRORS: TableDefinition<u64, &[u8]> = TableDefinition::new("mirrors");
/// Pinned path -> the bytes that it had then.
pub(super) const PINS: TableDefinition<&[u8], u64> = TableDefinition::new("pins");
/// Number of a prefetch job that has not ended -> what it is.
pub(super) const JOBS: TableDefinition<u64, &[u8]> = TableDefinition::new("jobs");
/// Totals and counters, see [`Meta`].
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// redb's own cache defaults to 1 GiB. 8 MiB hold the bitmaps of a terabyte.
const CACHE_BYTES: usize = 8 << 20;

/// Why a table could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// Its bytes are not what was written. Set it aside and start empty.
    #[error("the cache's state is damaged: {0}")]
    Damaged(String),
    /// The disk failed. Try again later, with the file opened anew.
    #[error("the cache's state cannot be reached: {0}")]
    Io(#[from] io::Error),
}

/// The totals, so that opening never walks the cache.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Meta {
    /// Counts uses of files: the clock of recency.
    pub(super) tick: u64,
    /// Ids below it may have been given out.
    pub(super) ids_reserved: u64,
    /// Ids at or above it may have been given out and never committed.
    pub(super) ids_floor: u64,
    /// Bytes that committed data files take, checksums included.
    pub(super) used_bytes: u64,
    /// Bytes of all listings.
    pub(super) listing_bytes: u64,
    /// The highest revision of all records that were deleted: a new one goes on from there.
    pub(super) revisions_gone: u64,
    /// The data file that the scrub looks at next, and the page of it; 0 and 0: its pass is done.
    pub(super) scrub_id: u64,
    pub(super) scrub_page: u64,
    /// When that pass began, in seconds since 1970; 0: there was none.
    pub(super) scrub_began: u64,
    /// 1 while a daemon has it open, so that the next one knows whether it ended cleanly.
    pub(super) open: u64,
}

/// A file as it stood at the last commit.
pub(super) struct Loaded {
    pub(super) record: Record,
    pub(super) bitmap: RoaringBitmap,
}

/// The state file. Opened anew after an I/O error, which redb never forgets.
pub(super) struct Store {
    layout: Layout,
    database: RwLock<Option<Arc<Database>>>,
}

impl Store {
    /// Open it or make it.
    pub(super) fn open(layout: &Layout) -> Result<Store, StoreError> {
        let store = Store { layout: layout.clone(), database: RwLock::new(None) };
        store.reopen()?;
        Ok(store)
    }

    /// Let go of the file and open it again.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        self.shut();
        let database = fenced(|| {
            let file = self.layout.open_state()?;
            let backend = CheckedFile::new(file).map_err(from_io)?;
            let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend);
            let database = database.map_err(from_redb)?;
            // Tables exist from here on, so that readers need not care.
            let transaction = begin(&database)?;
            make_tables(&transaction)?;
            transaction.commit().map_err(from_redb)?;
            Ok(database)
        })?;
        *self.database.write() = Some(Arc::new(database));
        Ok(())
    }

    /// Close the file. Reads and writes fail until [`Store::reopen`].
    pub(super) fn shut(&self) {
        let database = self.database.write().take();
        // redb writes when it is dropped, and what it writes to may be broken.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(database)));
    }

    /// Run one write transaction.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.database()?;
        fenced(|| {
            let transaction = begin(&database)?;
            let result = change(&transaction)?;
            transaction.commit().map_err(from_redb)?;
            Ok(result)
        })
    }

    /// Run one read transaction.
    pub(super) fn read<T>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        use redb::ReadableDatabase;
        let database = self.database()?;
        fenced(|| look(&database.begin_read().map_err(from_redb)?))
    }

    /// A file's record and bitmap, checked against each other.
    pub(super) fn load(&self, key: &[u8]) -> Result<Option<Loaded>, StoreError> {
        self.read(|transaction| {
            let files = transaction.open_table(FILES).map_err(from_redb)?;
            let Some(row) = files.get(key).map_err(from_redb)? else { return Ok(None) };
            let record = Record::decode(row.value()).ok_or_else(|| wrong("a record"))?;
            let bitmaps = transaction.open_table(BITMAPS).map_err(from_redb)?;
            let place = record.place;
            let last = if place.packed { place.base_page } else { u64::MAX };
            let mut bitmap = RoaringBitmap::new();
            let mut sum = 0;
            for row in bitmaps.range((place.data_id, place.base_page)..=(place.data_id, last)).map_err(from_redb)? {
                let (at, leaf) = row.map_err(from_redb)?;
                let number = (at.value().1 - place.base_page) as u32;
                sum ^= leaf_sum(number, leaf.value());
                decode_leaf(leaf.value(), number, &mut bitmap).ok_or_else(|| wrong("a bitmap"))?;
            }
            if sum != record.checksum {
                return Err(wrong("a bitmap that does not belong to its record"));
            }
            let page_count = FileKey::decode(key).ok_or_else(|| wrong("a key"))?.page_count();
            if !record.fits(&bitmap, page_count) {
                return Err(wrong("a bitmap that does not fit its file's state"));
            }
            Ok(Some(Loaded { record, bitmap }))
        })
    }

    fn database(&self) -> Result<Arc<Database>, StoreError> {
        let database = self.database.read().clone();
        database.ok_or_else(|| StoreError::Io(io::Error::other("closed after an error")))
    }
}

/// The totals as of this transaction.
pub(super) fn read_meta(transaction: &WriteTransaction) -> Result<Meta, StoreError> {
    meta_of(&transaction.open_table(META).map_err(from_redb)?)
}

/// The totals, for who changes nothing.
pub(super) fn look_at_meta(transaction: &redb::ReadTransaction) -> Result<Meta, StoreError> {
    meta_of(&transaction.open_table(META).map_err(from_redb)?)
}

fn meta_of(table: &impl ReadableTable<&'static str, u64>) -> Result<Meta, StoreError> {
    let get = |name| Ok::<_, StoreError>(table.get(name).map_err(from_redb)?.map_or(0, |value| value.value()));
    Ok(Meta {
        tick: get("tick")?,
        ids_reserved: get("ids_reserved")?,
        ids_floor: get("ids_floor")?,
        used_bytes: get("used_bytes")?,
        listing_bytes: get("listing_bytes")?,
        revisions_gone: get("revisions_gone")?,
        scrub_id: get("scrub_id")?,
        scrub_page: get("scrub_page")?,
        scrub_began: get("scrub_began")?,
        open: get("open")?,
    })
}

/// Write the totals.
pub(super) fn write_meta(transaction: &WriteTransaction, meta: Meta) -> Result<(), StoreError> {
    let mut table = transaction.open_table(META).map_err(from_redb)?;
    let rows = [
        ("tick", meta.tick),
        ("ids_reserved", meta.ids_reserved),
        ("ids_floor", meta.ids_floor),
        ("used_bytes", meta.used_bytes),
        ("listing_bytes", meta.listing_bytes),
        ("revisions_gone", meta.revisions_gone),
        ("scrub_id", meta.scrub_id),
        ("scrub_page", meta.scrub_page),
        ("scrub_began", meta.scrub_began),
        ("open", meta.open),
    ];
    for (name, value) in rows {
        table.insert(name, value).map_err(from_redb)?;
    }
    Ok(())
}

/// A data file's row.
pub(super) fn data_row(transaction: &WriteTransaction, data_id: u64) -> Result<Option<DataRow>, StoreError> {
    let table = transaction.open_table(DATA).map_err(from_redb)?;
    let row = table.get(data_id).map_err(from_redb)?;
    row.map(|row| DataRow::decode(row.value()).ok_or_else(|| wrong("a data file's row"))).transpose()
}

/// Write a data file's row and its place in the order of eviction; `None` takes both out.
pub(super) fn set_data_row(
    transaction: &WriteTransaction,
    data_id: u64,
    row: Option<DataRow>,
) -> Result<(), StoreError> {
    let before = data_row(transaction, data_id)?;
    let mut recency = transaction.open_table(RECENCY).map_err(from_redb)?;
    if let Some(before) = before {
        recency.remove((before.used_tick, data_id)).map_err(from_redb)?;
    }
    let mut table = transaction.open_table(DATA).map_err(from_redb)?;
    match row {
        Some(row) => {
            recency.insert((row.used_tick, data_id), ()).map_err(from_redb)?;
            table.insert(data_id, row.encode().as_slice()).map_err(from_redb)?;
        }
        None => {
            table.remove(data_id).map_err(from_redb)?;
        }
    }
    Ok(())
}

/// Whatever redb says, in our two kinds.
pub(super) fn from_redb(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) => from_io(error),
        redb::Error::PreviousIo => StoreError::Io(io::Error::other("an earlier error of the disk")),
        other => StoreError::Damaged(other.to_string()),
    }
}

/// What decodes to nothing sensible.
pub(super) fn wrong(what: &str) -> StoreError {
    StoreError::Damaged(format!("{what} makes no sense"))
}

fn from_io(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => StoreError::Damaged(error.to_string()),
        _ => StoreError::Io(error),
    }
}

fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write().map_err(from_redb)?;
    // Without it, opening after a crash walks the whole file.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn make_tables(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(FILES).map_err(from_redb)?;
    transaction.open_table(DATA).map_err(from_redb)?;
    transaction.open_table(MEMBERS).map_err(from_redb)?;
    transaction.open_table(RECENCY).map_err(from_redb)?;
    transaction.open_table(BITMAPS).map_err(from_redb)?;
    transaction.open_table(TOUCHED).map_err(from_redb)?;
    transaction.open_table(DOOMED).map_err(from_redb)?;
    transaction.open_table(LISTINGS).map_err(from_redb)?;
    transaction.open_table(MIRRORS).map_err(from_redb)?;
    transaction.open_table(PINS).map_err(from_redb)?;
    transaction.open_table(JOBS).map_err(from_redb)?;
    transaction.open_table(META).map_err(from_redb)?;
    Ok(())
}

/// The last fence: redb may panic on bytes that pass their checksums and still make no sense.
fn fenced<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StoreError::Damaged("reading it made no sense".to_owned())))
}
