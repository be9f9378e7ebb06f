//! One commit as a value, and its application to the tables: all of it or nothing.

use super::DiskFile;
use super::content::{own_charge, pack_charge};
use super::leaf::decode_leaf;
use super::place::IdMarks;
use super::record::{DataRow, Place, Record};
use super::state::State;
use super::store::{
    BITMAPS, DOOMED, FILES, LISTINGS, MEMBERS, MIRRORS, Meta, Store, StoreError, TOUCHED, data_row, from_redb,
    read_meta, set_data_row, write_meta, wrong,
};
use crate::chunk::Pages;
use redb::{ReadableTable, WriteTransaction};
use roaring::RoaringBitmap;
use std::sync::Arc;

/// A changed file.
pub(super) struct Change {
    pub(super) file: Arc<DiskFile>,
    /// What it was computed from: the change is lost where the file has another life by now.
    pub(super) life: u64,
    /// Its revision is given when it is applied.
    pub(super) record: Record,
    /// The revision that the table must have; `None`: no record.
    pub(super) expected: Option<u64>,
    pub(super) leaves: Vec<(u64, Vec<u8>)>,
    pub(super) charge_delta: i64,
    pub(super) added: Vec<Pages>,
    pub(super) removed: Vec<Pages>,
    /// For a packed file: the pages given out of its pack.
    pub(super) pack_pages: u64,
    pub(super) used_tick: u64,
    pub(super) touched: bool,
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Made {
    /// It was made, and this is the file's revision now.
    As(u64),
    /// Another writer was before it: the file's revision (`None`: no record) is not the one that it was computed from.
    Stale(Option<u64>),
    /// No file may go from the first of these states to the second: a fault of ours, and nothing was written.
    Illegal(State, State),
}

/// A file that goes.
#[derive(Clone, Debug)]
pub(super) struct Discarded {
    pub(super) key: Vec<u8>,
    pub(super) place: Place,
    /// Bytes for the ledger once its own data file is deleted.
    pub(super) charged_bytes: u64,
}

/// Everything that one transaction does.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Change>,
    pub(super) discarded: Vec<Discarded>,
    /// Packs that go with all of their files.
    pub(super) dropped_packs: Vec<u64>,
    /// Data files that nobody has open any more, and when they were last used (0: not).
    pub(super) closed: Vec<(Place, u64)>,
    pub(super) listings: Vec<(Vec<u8>, Vec<u8>)>,
    /// By the labels of mirrors; nothing: forgotten.
    pub(super) mirrors: Vec<(u64, Option<Vec<u8>>)>,
    /// Data files that were deleted since the last commit.
    pub(super) deleted: Vec<u64>,
    pub(super) marks: Option<IdMarks>,
    /// The clock of uses.
    pub(super) tick: u64,
    /// The listings may take this much.
    pub(super) listing_bytes_max: u64,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.discarded.is_empty()
            && self.dropped_packs.is_empty()
            && self.closed.is_empty()
            && self.listings.is_empty()
            && self.mirrors.is_empty()
    }
}

/// Apply it. Says for each change what became of it.
pub(super) fn apply(store: &Store, batch: &Batch) -> Result<Vec<Made>, StoreError> {
    store.write(|transaction| {
        let mut meta = read_meta(transaction)?;
        meta.tick = meta.tick.max(batch.tick);
        for discarded in &batch.discarded {
            discard(transaction, &mut meta, discarded)?;
        }
        for &pack in &batch.dropped_packs {
            drop_pack(transaction, &mut meta, pack)?;
        }
        for &(place, used_tick) in &batch.closed {
            close(transaction, place, used_tick)?;
        }
        let mut made = Vec::with_capacity(batch.changes.len());
        for change in &batch.changes {
            made.push(apply_change(transaction, &mut meta, change)?);
        }
        put_listings(transaction, &mut meta, batch)?;
        put_mirrors(transaction, &batch.mirrors)?;
        let mut doomed = transaction.open_table(DOOMED).map_err(from_redb)?;
        for &data_id in &batch.deleted {
            doomed.remove(data_id).map_err(from_redb)?;
        }
        drop(doomed);
        if let Some(marks) = batch.marks {
            meta.ids_reserved = meta.ids_reserved.max(marks.reserved);
            meta.ids_floor = marks.floor;
        }
        write_meta(transaction, meta)?;
        Ok(made)
    })
}

/// The keys of the files in a pack.
pub(super) fn members(store: &Store, pack: u64) -> Result<Vec<Vec<u8>>, StoreError> {
    store.read(|transaction| {
        let table = transaction.open_table(MEMBERS).map_err(from_redb)?;
        let rows = table.range((pack, 0)..=(pack, u64::MAX)).map_err(from_redb)?;
        rows.map(|row| Ok(row.map_err(from_redb)?.1.value().to_vec())).collect()
    })
}

fn apply_change(transaction: &WriteTransaction, meta: &mut Meta, change: &Change) -> Result<Made, StoreError> {
    let key = change.file.encoded();
    let place = change.record.place;
    let mut files = transaction.open_table(FILES).map_err(from_redb)?;
    let found = files.get(key).map_err(from_redb)?.map(|row| Record::decode(row.value()));
    let found = found.map(|record| record.ok_or_else(|| wrong("a record"))).transpose()?;
    let (state, revision) = found.map_or((State::Idle, None), |record| (record.state, Some(record.revision)));
    if revision != change.expected {
        return Ok(Made::Stale(revision));
    }
    if !state.may_become(change.record.state, place.packed) {
        return Ok(Made::Illegal(state, change.record.state));
    }
    // Not from 1 again after a record was deleted: what was computed from that one would pass for the newest.
    let revision = revision.unwrap_or(meta.revisions_gone) + 1;
    files.insert(key, Record { revision, ..change.record.clone() }.encode().as_slice()).map_err(from_redb)?;
    drop(files);
    let mut bitmaps = transaction.open_table(BITMAPS).map_err(from_redb)?;
    for (leaf, bytes) in &change.leaves {
        let at = (place.data_id, place.base_page + leaf);
        match bytes.is_empty() {
            true => bitmaps.remove(at).map_err(from_redb)?,
            false => bitmaps.insert(at, bytes.as_slice()).map_err(from_redb)?,
        };
    }
    drop(bitmaps);
    let before = data_row(transaction, place.data_id)?;
    let used_tick = before.as_ref().map_or(0, |row| row.used_tick).max(change.used_tick);
    let mut row = DataRow { used_tick, pack_pages: 0, key: None };
    if place.packed {
        let mut table = transaction.open_table(MEMBERS).map_err(from_redb)?;
        table.insert((place.data_id, place.base_page), key).map_err(from_redb)?;
        let pages = before.as_ref().map_or(0, |row| row.pack_pages);
        row.pack_pages = pages.max(change.pack_pages);
        add(meta, (pack_charge(row.pack_pages) - pack_charge(pages)) as i64);
    } else {
        row.key = Some(key.to_vec());
        add(meta, change.charge_delta);
    }
    set_data_row(transaction, place.data_id, Some(row))?;
    let mut touched = transaction.open_table(TOUCHED).map_err(from_redb)?;
    match change.touched {
        true => touched.insert(place.data_id, ()).map_err(from_redb)?,
        false => touched.remove(place.data_id).map_err(from_redb)?,
    };
    Ok(Made::As(revision))
}

fn discard(transaction: &WriteTransaction, meta: &mut Meta, gone: &Discarded) -> Result<(), StoreError> {
    let place = gone.place;
    let mut files = transaction.open_table(FILES).map_err(from_redb)?;
    let record = files.get(gone.key.as_slice()).map_err(from_redb)?.and_then(|row| Record::decode(row.value()));
    let named = record.filter(|record| record.place == place);
    if named.is_some() {
        files.remove(gone.key.as_slice()).map_err(from_redb)?;
    }
    drop(files);
    if let Some(record) = named {
        meta.revisions_gone = meta.revisions_gone.max(record.revision);
        let bitmap = take_bitmap(transaction, place)?;
        if !place.packed {
            add(meta, -(own_charge(&bitmap) as i64));
        }
    }
    if place.packed {
        let mut table = transaction.open_table(MEMBERS).map_err(from_redb)?;
        let at = (place.data_id, place.base_page);
        let ours = table.get(at).map_err(from_redb)?.is_some_and(|key| key.value() == gone.key);
        if ours {
            table.remove(at).map_err(from_redb)?;
        }
        return Ok(());
    }
    delete_data(transaction, place.data_id)
}

fn drop_pack(transaction: &WriteTransaction, meta: &mut Meta, pack: u64) -> Result<(), StoreError> {
    let mut table = transaction.open_table(MEMBERS).map_err(from_redb)?;
    let mut files = transaction.open_table(FILES).map_err(from_redb)?;
    let mut members = Vec::new();
    for row in table.range((pack, 0)..=(pack, u64::MAX)).map_err(from_redb)? {
        let (at, key) = row.map_err(from_redb)?;
        members.push((at.value(), key.value().to_vec()));
    }
    for (at, key) in &members {
        table.remove(*at).map_err(from_redb)?;
        let record = files.remove(key.as_slice()).map_err(from_redb)?.and_then(|row| Record::decode(row.value()));
        meta.revisions_gone = meta.revisions_gone.max(record.map_or(0, |record| record.revision));
    }
    drop((table, files));
    for ((_, base_page), _) in members {
        take_bitmap(transaction, Place { data_id: pack, base_page, packed: true })?;
    }
    let pages = data_row(transaction, pack)?.map_or(0, |row| row.pack_pages);
    add(meta, -(pack_charge(pages) as i64));
    delete_data(transaction, pack)
}

fn delete_data(transaction: &WriteTransaction, data_id: u64) -> Result<(), StoreError> {
    set_data_row(transaction, data_id, None)?;
    transaction.open_table(TOUCHED).map_err(from_redb)?.remove(data_id).map_err(from_redb)?;
    transaction.open_table(DOOMED).map_err(from_redb)?.insert(data_id, ()).map_err(from_redb)?;
    Ok(())
}

fn take_bitmap(transaction: &WriteTransaction, place: Place) -> Result<RoaringBitmap, StoreError> {
    let mut table = transaction.open_table(BITMAPS).map_err(from_redb)?;
    let last = if place.packed { place.base_page } else { u64::MAX };
    let mut bitmap = RoaringBitmap::new();
    let mut leaves = Vec::new();
    for row in table.range((place.data_id, place.base_page)..=(place.data_id, last)).map_err(from_redb)? {
        let (at, bytes) = row.map_err(from_redb)?;
        let leaf = (at.value().1 - place.base_page) as u32;
        decode_leaf(bytes.value(), leaf, &mut bitmap).ok_or_else(|| wrong("a bitmap"))?;
        leaves.push(at.value());
    }
    for at in leaves {
        table.remove(at).map_err(from_redb)?;
    }
    Ok(bitmap)
}

fn close(transaction: &WriteTransaction, place: Place, used_tick: u64) -> Result<(), StoreError> {
    if !place.packed {
        let mut touched = transaction.open_table(TOUCHED).map_err(from_redb)?;
        touched.remove(place.data_id).map_err(from_redb)?;
    }
    match data_row(transaction, place.data_id)? {
        Some(row) if used_tick > row.used_tick => {
            set_data_row(transaction, place.data_id, Some(DataRow { used_tick, ..row }))
        }
        _ => Ok(()),
    }
}

fn put_listings(transaction: &WriteTransaction, meta: &mut Meta, batch: &Batch) -> Result<(), StoreError> {
    let mut table = transaction.open_table(LISTINGS).map_err(from_redb)?;
    let size = |folder: &[u8], bytes: &[u8]| (folder.len() + bytes.len()) as u64;
    for (folder, bytes) in &batch.listings {
        let before = table.insert(folder.as_slice(), bytes.as_slice()).map_err(from_redb)?;
        let before = before.map_or(0, |before| size(folder, before.value()));
        meta.listing_bytes = (meta.listing_bytes + size(folder, bytes)).saturating_sub(before);
    }
    // Any of the others may go: a listing costs one request to get again.
    while meta.listing_bytes > batch.listing_bytes_max {
        let fresh = |folder: &[u8]| batch.listings.iter().any(|(kept, _)| kept == folder);
        let mut victim = None;
        for row in table.iter().map_err(from_redb)? {
            let (folder, bytes) = row.map_err(from_redb)?;
            if !fresh(folder.value()) {
                victim = Some((folder.value().to_vec(), size(folder.value(), bytes.value())));
                break;
            }
        }
        let Some((folder, bytes)) = victim else { break };
        table.remove(folder.as_slice()).map_err(from_redb)?;
        meta.listing_bytes = meta.listing_bytes.saturating_sub(bytes);
    }
    Ok(())
}

fn put_mirrors(transaction: &WriteTransaction, mirrors: &[(u64, Option<Vec<u8>>)]) -> Result<(), StoreError> {
    let mut table = transaction.open_table(MIRRORS).map_err(from_redb)?;
    for (label, bytes) in mirrors {
        match bytes {
            Some(bytes) => table.insert(label, bytes.as_slice()).map_err(from_redb)?,
            None => table.remove(label).map_err(from_redb)?,
        };
    }
    Ok(())
}

fn add(meta: &mut Meta, delta: i64) {
    meta.used_bytes = meta.used_bytes.saturating_add_signed(delta);
}
