//! Ends: of a file that is complete, of a state file that is damaged, of a spell of failure.

use super::drive::Opening;
use super::fail_point::{FailPoint, reached};
use super::record::Place;
use super::shared::Shared;
use super::store::{StoreError, read_meta, write_meta};
use super::vanished::{self, Gone};
use super::{DiskFile, ReadNow, evict};
use crate::chunk::Pages;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Pages that are verified in one read.
const VERIFIED_PAGES: u64 = 256;
/// Written to see whether a disk works again: enough that a full one shows.
const PROBE_BYTES: usize = 64 << 10;

/// Give a complete file its exact length (direct writes pad the last page), so that it is done. After
/// a crash in the middle of this, with `verify`: every page is checked first.
pub(super) fn finish(shared: &Shared, file: &Arc<DiskFile>, verify: bool) {
    let Some(place) = complete_place(file) else { return };
    if verify && !verified(file) {
        return;
    }
    let _operation = shared.condition.operation();
    let cut = shared.descriptors.get(place.data_id).and_then(|data| data.truncate(file.key().size_bytes));
    reached(FailPoint::Finishing);
    match cut {
        Ok(()) => shared.commits.put_finished(file.clone()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            shared.metrics.disk_errors.add(1);
            shared.condition.fail(format!("completing a cached file failed: {error}"));
        }
    }
}

/// The state is damaged: set it aside and go on with nothing. No reader notices but by slower reads.
pub(super) fn start_anew(shared: &Shared, why: &str) {
    tracing::warn!(%why, "the disk cache's state is damaged; it is set aside and the cache starts empty");
    begin_empty(shared);
}

/// Forget all that is kept, whether it still lies there or not, and begin with an empty folder.
pub(super) fn begin_empty(shared: &Shared) {
    shared.clearing.store(true, Ordering::Relaxed);
    shared.store.shut();
    // The ledger first: what is taken of it from now on is lost with the files at most, and never given back twice.
    shared.space.forget();
    shared.lending.forgive();
    for file in shared.open_files() {
        file.content.lock().reset();
    }
    shared.commits.charge_nothing();
    shared.descriptors.forget_all();
    shared.places.forget();
    if let Err(error) = shared.layout.set_aside() {
        shared.condition.fail(error.to_string());
        return;
    }
    let fresh = shared.store.reopen().and_then(|()| mark_open(shared));
    let fresh = fresh.and_then(|()| shared.pins.write_again(&shared.store));
    if let Err(error) = fresh {
        shared.condition.fail(error.to_string());
    }
    match shared.layout.clear_damaged_data() {
        Ok(()) => {
            shared.space.set_overhead(shared.layout.overhead_bytes());
            shared.clearing.store(false, Ordering::Relaxed);
        }
        Err(error) => {
            tracing::warn!(%error, "what is left of a damaged cache cannot be deleted; nothing is kept on disk");
        }
    }
}

/// See whether a disk that failed works again.
pub(super) fn try_again(shared: &Arc<Shared>) {
    let _operation = shared.condition.operation();
    match vanished::look(shared) {
        None => {}
        Some(Gone::Removed) => {
            return match vanished::make_again(shared) {
                Ok(()) => shared.condition.recover(),
                Err(error) => shared.condition.fail(error.to_string()),
            };
        }
        Some(gone) => return shared.condition.fail(gone.words(shared)),
    }
    let reopened = shared.store.reopen().and_then(|()| mark_open(shared));
    match reopened {
        Err(StoreError::Damaged(why)) => return start_anew(shared, &why),
        Err(StoreError::Io(error)) => return shared.condition.fail(format!("the cache's state: {error}")),
        Ok(()) => {}
    }
    let tried = probe(shared).or_else(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            // Somebody else has filled the disk: what we evict is ours to use again.
            evict::make_room(shared, shared.space.limit_bytes().min(1 << 20), 0).map_err(io::Error::other)?;
            probe(shared)
        }
        _ => Err(error),
    });
    match tried {
        Ok(()) => shared.condition.recover(),
        Err(error) => shared.condition.fail(format!("the cache's disk: {error}")),
    }
}

/// From now on a crash leaves something to look after; ids go on where they were.
pub(super) fn mark_open(shared: &Shared) -> Result<(), StoreError> {
    // The folder's own names may be as new as the state.
    shared.layout.sync_names()?;
    let marks = shared.places.marks();
    shared.store.write(|transaction| {
        let mut meta = read_meta(transaction)?;
        meta.open = 1;
        meta.ids_reserved = meta.ids_reserved.max(marks.reserved);
        meta.ids_floor = marks.floor;
        write_meta(transaction, meta)
    })?;
    shared.places.marked(marks);
    vanished::remember(shared);
    Ok(())
}

fn complete_place(file: &DiskFile) -> Option<Place> {
    let content = file.content.lock();
    let whole = content.durable.len() == file.key().page_count() && content.writing.is_none();
    content.place.filter(|place| whole && !place.packed && content.may_end())
}

fn verified(file: &DiskFile) -> bool {
    let mut room = vec![0; (VERIFIED_PAGES * crate::chunk::PAGE_BYTES) as usize];
    let mut runs = Pages::of_file(file.key().size_bytes).split(VERIFIED_PAGES);
    runs.all(|pages| {
        let length = pages.len_bytes(file.key().size_bytes) as usize;
        file.read_blocking(pages, &mut room[..length]) == ReadNow::Done
    })
}

fn probe(shared: &Shared) -> io::Result<()> {
    let (drive, path) = (shared.layout.drive(), shared.layout.probe());
    let file = drive.open(&path, Opening::Anew)?;
    let written = file.write_all_at(&[0; PROBE_BYTES], 0).and_then(|()| file.sync());
    drive.remove_file(&path)?;
    written
}
