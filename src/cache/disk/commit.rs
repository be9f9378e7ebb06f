//! The committer thread: makes durable what was written, and everything else that changes the tables.
//!
//! In this order: sync the pages, sync their checksums, one transaction with the bits, and only then
//! tell the owners.

use super::content::Content;
use super::fail_point::{FailPoint, reached};
use super::finish::{finish, start_anew, try_again};
use super::record::{Record, all_set, fill, runs};
use super::shared::{Shared, Step};
use super::state::State;
use super::store::StoreError;
use super::transaction::{Batch, Change, Made, apply};
use super::waiting::{Work, Written};
use super::{DiskFile, WriteError, by_hand, evict, vanished};
use crate::chunk::{PAGE_BYTES, Pages};
use crate::clock;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The work of the committer thread.
pub(super) fn run(shared: &Arc<Shared>) {
    if shared.clearing.load(Ordering::Relaxed) {
        finish_clearing(shared);
    }
    while let Some(work) = shared.commits.take() {
        process(shared, work);
    }
    give_up(shared, shared.commits.take_all(), &WriteError::Failing("the cache is closed".to_owned()));
}

/// The work of the thread that notices a disk that does not come back: those who wait are told.
pub(super) fn watch(shared: &Arc<Shared>) {
    while shared.commits.pause() {
        if let super::Health::ReadingThrough { why, .. } = shared.condition.health() {
            shared.queue.drain(&WriteError::Failing(why));
        }
    }
}

fn finish_clearing(shared: &Shared) {
    match shared.layout.clear_damaged_data() {
        Ok(()) => shared.clearing.store(false, Ordering::Relaxed),
        Err(error) => {
            tracing::warn!(%error, "what is left of a damaged cache cannot be deleted; nothing is kept on disk")
        }
    }
}

fn process(shared: &Arc<Shared>, mut work: Work) {
    let era = shared.space.era();
    if std::mem::take(&mut work.state_damaged) {
        start_anew(shared, "altered bytes");
    }
    if !shared.condition.has_failed()
        && let Some(gone) = vanished::look(shared)
    {
        shared.metrics.disk_errors.add(1);
        shared.condition.fail(gone.words(shared));
    }
    if shared.condition.has_failed() {
        match shared.condition.retry_due(clock::now()) {
            true => try_again(shared),
            false => return give_up(shared, work, &WriteError::Failing("it is off after an error".to_owned())),
        }
    }
    if shared.space.era() != era {
        work.discarded.iter_mut().for_each(|gone| gone.charged_bytes = 0);
    }
    let (flush, room_bytes) = (work.flush, work.room_bytes);
    match commit(shared, &mut work) {
        Ok(()) => {
            let damaged = std::mem::take(&mut work.damaged);
            evict::drop_damaged(shared, damaged);
            by_hand::drop_empty(shared, std::mem::take(&mut work.emptied));
            shared.commits.finished(flush);
            work.complete.drain(..).for_each(|(file, verify)| finish(shared, &file, verify));
            make_room(shared, room_bytes);
            shared.space.set_overhead(shared.layout.overhead_bytes());
        }
        Err(error) => {
            shared.metrics.disk_errors.add(1);
            let why = error.to_string();
            match error {
                StoreError::Io(_) => shared.condition.fail(why.clone()),
                StoreError::Damaged(_) => start_anew(shared, &why),
            }
            give_up(shared, work, &WriteError::Failing(why));
        }
    }
}

fn make_room(shared: &Arc<Shared>, wanted_bytes: u64) {
    let _operation = shared.condition.operation();
    let free = shared.layout.free_bytes().unwrap_or(u64::MAX);
    let result = evict::make_room(shared, wanted_bytes, free);
    shared.space.look(free);
    if let Err(error) = result {
        shared.store_failed(&error);
    }
}

/// Sync, commit, tell. On an error nothing of `work` is taken out that is still to be answered for.
fn commit(shared: &Arc<Shared>, work: &mut Work) -> Result<(), StoreError> {
    let _operation = shared.condition.operation();
    sync_data(shared, &work.written)?;
    sync_leavings(shared, work)?;
    fit_listings(shared, work)?;
    let marks = shared.places.marks();
    let mut batch = batch_of(shared, work);
    batch.marks = Some(marks);
    batch.tick = shared.uses.load(Ordering::Relaxed);
    if !batch.is_empty() || work.flush > 0 && !work.deleted.is_empty() {
        let named = batch.changes.iter().map(|change| change.record.place.data_id);
        shared.layout.sync_data_names(named.filter(|&data_id| shared.places.is_new(data_id)))?;
        if !work.written.is_empty() {
            reached(FailPoint::Synced);
        }
        shared.step(Step::Commit)?;
        let made = apply(&shared.store, &batch)?;
        if !work.written.is_empty() {
            reached(FailPoint::Committed);
        }
        shared.places.marked(marks);
        settle(shared, &batch, &made);
        shared.commits.discarded(&work.discarded);
    }
    for discarded in work.discarded.iter().filter(|gone| !gone.place.packed) {
        evict::delete(shared, discarded.place.data_id, discarded.charged_bytes);
    }
    let complete = batch.changes.iter().filter(|change| change.record.state == State::Committing);
    work.complete.extend(complete.map(|change| (change.file.clone(), false)));
    drop(batch);
    for written in std::mem::take(&mut work.written) {
        let content = written.file.content.lock();
        let kept = content.life == written.life && all_set(&content.durable, written.pages);
        drop(content);
        if kept {
            shared.metrics.disk_written_bytes.add(written.pages.count() * PAGE_BYTES);
        }
        // On the disk: others may come by way of the kernel's memory.
        drop(written.owed);
        if let Some(done) = written.done {
            done(if kept { Ok(()) } else { Err(WriteError::Discarded) });
        }
    }
    work.deleted.clear();
    Ok(())
}

/// Listings grow the state file, which counts: they get room first, or are not kept.
fn fit_listings(shared: &Arc<Shared>, work: &mut Work) -> Result<(), StoreError> {
    let bytes: usize = work.listings.iter().map(|(folder, bytes)| folder.len() + bytes.len()).sum();
    if bytes == 0 {
        return Ok(());
    }
    // redb writes a page more than once in a transaction, and doubles what it grows by.
    let bytes = 3 * bytes as u64;
    let free = shared.layout.free_bytes()?;
    evict::make_room(shared, bytes, free)?;
    if shared.space.excess_bytes(bytes, shared.layout.free_bytes()?) > 0 {
        work.listings.clear();
    }
    Ok(())
}

fn sync_data(shared: &Shared, written: &[Written]) -> io::Result<()> {
    let live = written.iter().filter_map(|written| {
        let content = written.file.content.lock();
        content.place.filter(|_| content.life == written.life).map(|place| place.data_id)
    });
    for data_id in live.collect::<BTreeSet<_>>() {
        let data = match shared.descriptors.get(data_id) {
            // Discarded since: its pages are nobody's.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        reached(FailPoint::Written);
        shared.step(Step::SyncPages(data_id))?;
        data.sync_pages()?;
        shared.step(Step::SyncSums(data_id))?;
        data.sync_sums()?;
        shared.descriptors.synced(data_id);
    }
    Ok(())
}

/// What was given back is to be gone for good before the tables forget that it ever was there.
fn sync_leavings(shared: &Shared, work: &Work) -> io::Result<()> {
    for place in work.closed.iter().map(|(place, _)| place).filter(|place| shared.descriptors.is_punched(place.data_id))
    {
        match shared.descriptors.get(place.data_id).and_then(|data| data.sync()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => shared.descriptors.synced(place.data_id),
        }
    }
    shared.layout.sync_data_names(work.deleted.iter().copied())
}

/// A file and its newly written runs, each with the life in which it was written.
type FileRuns = (Arc<DiskFile>, Vec<(Pages, u64)>);

fn batch_of(shared: &Shared, work: &Work) -> Batch {
    let mut files: BTreeMap<u64, FileRuns> = BTreeMap::new();
    for written in &work.written {
        let entry = files.entry(written.file.number).or_insert_with(|| (written.file.clone(), Vec::new()));
        entry.1.push((written.pages, written.life));
    }
    for file in work.announced.iter().chain(&work.noted).chain(&work.finished) {
        files.entry(file.number).or_insert_with(|| (file.clone(), Vec::new()));
    }
    let finished: HashSet<u64> = work.finished.iter().map(|file| file.number).collect();
    let changes = files.into_values().filter_map(|(file, written)| {
        let content = file.content.lock();
        if shared.commits.will_discard(file.encoded()) {
            // Discarded since this work was taken. What it has now comes after that is committed.
            return None;
        }
        let life = content.life;
        let live = written.into_iter().filter(|&(_, written)| written == life);
        // A page that was held already when it came again may have been evicted since.
        let added = live.flat_map(|(pages, _)| runs(&content.written, pages)).collect();
        change_of(shared, &file, &content, added, Vec::new(), finished.contains(&file.number))
    });
    Batch {
        changes: changes.collect(),
        discarded: work.discarded.clone(),
        closed: work.closed.clone(),
        listings: work.listings.iter().map(|(folder, bytes)| (folder.clone(), bytes.clone())).collect(),
        mirrors: work.mirrors.iter().map(|(&label, bytes)| (label, bytes.clone())).collect(),
        deleted: work.deleted.clone(),
        listing_bytes_max: shared.space.limit_bytes() / evict::LISTING_SHARE,
        ..Batch::default()
    }
}

/// The change that adds and removes pages of a file; `None` where it has no place (any more).
pub(super) fn change_of(
    shared: &Shared,
    file: &Arc<DiskFile>,
    content: &Content,
    added: Vec<Pages>,
    removed: Vec<Pages>,
    finished: bool,
) -> Option<Change> {
    let place = content.place?;
    let mut after = content.durable.clone();
    added.iter().for_each(|&pages| fill(&mut after, pages, true));
    removed.iter().for_each(|&pages| fill(&mut after, pages, false));
    let all: Vec<Pages> = added.iter().chain(&removed).copied().collect();
    let changes = content.leaf_changes(&after, &all);
    let was = content.record.as_ref();
    if place.packed && was.is_none() && after.is_empty() {
        // Lost again before its first commit. Its pages of the pack are counted with the pack.
        return None;
    }
    let state = match () {
        () if after.is_empty() && was.is_none_or(|record| record.state == State::Preparing) => State::Preparing,
        () if after.len() < file.key().page_count() => State::Transferring,
        () if added.is_empty() && was.is_some_and(|record| record.state == State::Done) => State::Done,
        // What comes now was not checked with the rest.
        () if !content.may_end() || content.gated && !added.is_empty() => State::Committing,
        // Only the exact length is missing; a packed file has it in its record.
        () if place.packed || (finished && added.is_empty()) => State::Done,
        () => State::Committing,
    };
    let last = file.key().page_count().checked_sub(1).filter(|&last| after.contains(last as u32));
    let record = Record {
        place,
        state,
        revision: 0,
        offset_bytes: after.len() * PAGE_BYTES - last.map_or(0, |last| (last + 1) * PAGE_BYTES - file.key().size_bytes),
        checksum: changes.checksum,
        time_unix_s: clock::unix_seconds(),
        note: content.note.clone(),
    };
    Some(Change {
        file: file.clone(),
        life: content.life,
        record,
        expected: was.map(|record| record.revision),
        leaves: changes.leaves,
        charge_delta: changes.charge_delta,
        added,
        removed,
        pack_pages: shared.places.pack_pages(place.data_id).unwrap_or(0),
        used_tick: content.used_tick,
        touched: place.packed || state != State::Done,
    })
}

/// What was committed is true in memory too.
pub(super) fn settle(shared: &Shared, batch: &Batch, made: &[Made]) {
    for (change, &made) in batch.changes.iter().zip(made) {
        let Made::As(revision) = made else {
            lost(shared, change, made);
            continue;
        };
        let mut content = change.file.content.lock();
        shared.places.committed(change.record.place.data_id);
        if content.life == change.life {
            content.checked &= change.added.is_empty();
            change.added.iter().for_each(|&pages| fill(&mut content.durable, pages, true));
            change.removed.iter().for_each(|&pages| fill(&mut content.durable, pages, false));
            content.durable.optimize();
            content.record = Some(Record { revision, ..change.record.clone() });
            content.touched = change.touched;
        }
    }
}

/// A change that was not made: what is in memory was not the truth. What is in the tables is.
fn lost(shared: &Shared, change: &Change, why: Made) {
    shared.metrics.disk_stale_changes.add(1);
    let path = String::from_utf8_lossy(&change.file.key().path).into_owned();
    tracing::warn!(%path, expected = ?change.expected, ?why, "a stale change of a cached file lost");
    let mut content = change.file.content.lock();
    if content.life != change.life {
        return;
    }
    let charged_bytes = content.charged_bytes;
    content.reset();
    match shared.store.load(change.file.encoded()) {
        Ok(loaded) => content.take_over(loaded),
        Err(error) => shared.store_failed(&error),
    }
    match content.place == Some(change.record.place) {
        // What was written there and never committed still lies there.
        true => content.charged_bytes = content.charged_bytes.max(charged_bytes),
        false => {
            let (key, place) = (change.file.encoded().to_vec(), change.record.place);
            shared.commits.put_discarded(key, place, if place.packed { 0 } else { charged_bytes });
        }
    }
}

/// Nothing of it becomes durable: readers lose the pages, owners are told. What is to be deleted stays so.
fn give_up(shared: &Shared, work: Work, error: &WriteError) {
    for written in work.written {
        let mut content = written.file.content.lock();
        if content.life == written.life {
            let durable = content.durable.clone();
            fill(&mut content.written, written.pages, false);
            fill(&mut content.proven, written.pages, false);
            let kept = runs(&durable, written.pages);
            kept.into_iter().for_each(|pages| fill(&mut content.written, pages, true));
            content.epoch += 1;
        }
        drop(content);
        if let Some(done) = written.done {
            done(Err(error.clone()));
        }
    }
    shared.commits.failed(work.flush, work.discarded, work.deleted);
}
