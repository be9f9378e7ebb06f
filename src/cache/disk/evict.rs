//! Giving room back: bits first, committed, then the bytes. What leaves counts as used until it is gone.

use super::DiskFile;
use super::commit::{change_of, settle};
use super::content::{Content, pack_charge};
use super::fail_point::{FailPoint, reached};
use super::record::{DataRow, FileKey, Place, runs};
use super::shared::{Shared, Step};
use super::store::{DATA, RECENCY, StoreError, from_redb, wrong};
use super::transaction::{Batch, Discarded, Made, apply, members};
use super::waiting::Damaged;
use crate::chunk::Pages;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Listings take at most this part of the limit.
pub(super) const LISTING_SHARE: u64 = 8;
/// Evicted beyond what is asked for, as a part of the limit, so that not every write has to wait...
const SLACK_SHARE: u64 = 128;
/// ...but not more than this.
const SLACK_BYTES_MAX: u64 = 64 << 20;
/// Data files looked at in one round, the least recently used first.
const CANDIDATES_MAX: usize = 1024;
/// What a pack costs to fetch again, where a large file of its size costs 1: a request for each of its files, up to some
/// hundreds, rather than a few. Not in proportion to that, or packs would fill the cache.
const PACK_COST: u64 = 4;
/// Rounds in one go; the committer has other work too.
const ROUNDS_MAX: usize = 16;

/// Evict until `wanted_bytes` fit under the limit and above the floor, as far as that can be done.
pub(super) fn make_room(shared: &Arc<Shared>, wanted_bytes: u64, mut free: u64) -> Result<(), StoreError> {
    let slack = (shared.space.limit_bytes() / SLACK_SHARE).min(SLACK_BYTES_MAX);
    for _ in 0..ROUNDS_MAX {
        let excess = shared.space.excess_bytes(wanted_bytes, free);
        if excess == 0 || !round(shared, excess + slack)? {
            return Ok(());
        }
        free = shared.layout.free_bytes()?;
    }
    Ok(())
}

/// Pages that did not match their checksums: their bits go, and then their bytes.
pub(super) fn drop_damaged(shared: &Arc<Shared>, damaged: Vec<Damaged>) {
    let mut plan = Plan::default();
    // One change for each file, or the second would find the first one's revision and lose.
    let mut by_file: BTreeMap<(u64, u64), Damaged> = BTreeMap::new();
    for (file, place, pages) in damaged {
        by_file.entry((file.number, place.data_id)).or_insert((file, place, Vec::new())).2.extend(pages);
    }
    for (file, place, pages) in by_file.into_values() {
        let mut content = file.content.lock();
        if content.place != Some(place) || content.writing.is_some() {
            continue;
        }
        let bad = &content.durable - &content.written;
        // What was fetched again since is right again.
        let mut pages: Vec<_> = pages.iter().flat_map(|&pages| runs(&bad, pages)).collect();
        // Several readers may have found the same.
        pages.sort_unstable_by_key(|pages| (pages.start, pages.end));
        pages.dedup();
        if !pages.is_empty() {
            let leaving = Leaving::begin(&file, &mut content, place, pages);
            drop(content);
            plan.leaving.push(leaving);
        }
    }
    if let Err(error) = leave(shared, plan) {
        shared.store_failed(&error);
    }
}

/// Delete a data file that no record names, and give its bytes back to the ledger.
pub(super) fn delete(shared: &Shared, data_id: u64, charged_bytes: u64) {
    shared.descriptors.forget(data_id);
    let deleted = shared.step(Step::Delete(data_id)).and_then(|()| shared.layout.remove(data_id));
    shared.places.gone(data_id);
    match deleted {
        Ok(()) => {
            shared.commits.put_deleted(data_id);
            if !shared.lending.owe(data_id, charged_bytes) {
                shared.space.give_back(charged_bytes);
            }
        }
        // It counts until the next start, which deletes what is doomed.
        Err(error) => failed(shared, "deleting", &error),
    }
}

/// What eviction has learned of pinned data files, so that it need not look at them again: they stay where they are, at
/// the old end of the order.
#[derive(Default)]
pub(super) struct Evicting {
    /// Of the pins when this was learned.
    changes: u64,
    /// Everything before it is pinned.
    from: (u64, u64),
    /// Packs with a pinned file.
    packs: HashSet<u64>,
}

/// What leaves in one transaction.
#[derive(Default)]
struct Plan {
    leaving: Vec<Leaving>,
    whole: Vec<Discarded>,
    /// Packs and what they give back.
    packs: Vec<(u64, u64)>,
    /// Kept until the commit: who opens one of them meanwhile must not load what is about to go.
    files: Vec<Arc<DiskFile>>,
    bytes: u64,
    /// A pack was found to be pinned: there may be others behind it.
    learned: bool,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.leaving.is_empty() && self.whole.is_empty() && self.packs.is_empty()
    }
}

/// Runs of pages that leave a file which stays.
struct Leaving {
    file: Arc<DiskFile>,
    place: Place,
    pages: Vec<Pages>,
    /// Groups of which nothing is left.
    emptied: Vec<Pages>,
    refund: u64,
}

impl Leaving {
    /// Taken from readers and closed to the writer in the same breath in which they were chosen.
    fn begin(file: &Arc<DiskFile>, content: &mut Content, place: Place, pages: Vec<Pages>) -> Leaving {
        pages.iter().for_each(|&pages| content.clear(pages));
        content.punching.extend_from_slice(&pages);
        let (refund, emptied) = if place.packed { (0, Vec::new()) } else { content.refund_of_all(&pages) };
        Leaving { file: file.clone(), place, pages, emptied, refund }
    }
}

/// One batch with its own commit. `false` where nothing could go.
fn round(shared: &Arc<Shared>, target_bytes: u64) -> Result<bool, StoreError> {
    let candidates = candidates(shared)?;
    let mut plan = Plan::default();
    // Files that somebody has open only where the others are not enough.
    for open_too in [false, true] {
        for (data_id, row) in &candidates {
            if plan.bytes >= target_bytes {
                break;
            }
            match &row.key {
                Some(key) => plan_file(shared, &mut plan, key, target_bytes, open_too)?,
                None => plan_pack(shared, &mut plan, *data_id, row.pack_pages, open_too)?,
            }
        }
    }
    if plan.is_empty() {
        return Ok(plan.learned);
    }
    let bytes = plan.bytes;
    leave(shared, plan)?;
    shared.metrics.disk_evicted_bytes.add(bytes);
    Ok(true)
}

/// The least recently used data files that are not pinned, as far as that is known.
fn candidates(shared: &Shared) -> Result<Vec<(u64, DataRow)>, StoreError> {
    let mut known = shared.evicting.lock();
    let changes = shared.pins.changes();
    if known.changes != changes {
        *known = Evicting { changes, ..Evicting::default() };
    }
    let is_pinned = |data_id: u64, row: &DataRow| match &row.key {
        Some(key) => FileKey::decode(key).is_some_and(|key| shared.pins.cover(&key.path)),
        None => known.packs.contains(&data_id),
    };
    let (mut found, first) = shared.store.read(|transaction| {
        let recency = transaction.open_table(RECENCY).map_err(from_redb)?;
        let data = transaction.open_table(DATA).map_err(from_redb)?;
        let (mut found, mut first) = (Vec::new(), None);
        for row in recency.range(known.from..).map_err(from_redb)? {
            let at = row.map_err(from_redb)?.0.value();
            let row = data.get(at.1).map_err(from_redb)?.ok_or_else(|| wrong("the order of eviction"))?;
            let row = DataRow::decode(row.value()).ok_or_else(|| wrong("a data file's row"))?;
            if !is_pinned(at.1, &row) {
                first.get_or_insert(at);
                found.push((at.1, row));
            }
            if found.len() == CANDIDATES_MAX {
                break;
            }
        }
        Ok((found, first))
    })?;
    // Uses only grow: what is put before it is pinned, or was written down late. Once nothing is left, all are looked at again.
    known.from = first.unwrap_or_default();
    drop(known);
    let uses = shared.uses.load(Ordering::Relaxed);
    found.sort_by_key(|(_, row)| Reverse(worth_evicting(row, uses)));
    Ok(found)
}

/// How long ago it was used, in uses of the cache, over what it costs to fetch again.
fn worth_evicting(row: &DataRow, uses: u64) -> u64 {
    uses.saturating_sub(row.used_tick) / if row.key.is_some() { 1 } else { PACK_COST }
}

fn plan_file(
    shared: &Arc<Shared>,
    plan: &mut Plan,
    key: &[u8],
    target_bytes: u64,
    open_too: bool,
) -> Result<(), StoreError> {
    let file = shared.file(&FileKey::decode(key).ok_or_else(|| wrong("a key"))?, false);
    let open = Arc::strong_count(&file) > 1;
    if open != open_too {
        return Ok(());
    }
    if shared.pins.cover(&file.key().path) {
        return Ok(());
    }
    let mut content = file.content.lock();
    let Some(place) = content.place.filter(|place| !place.packed) else { return Ok(()) };
    if shared.lending.is_lent(place.data_id) {
        return Ok(());
    }
    let missing_bytes = target_bytes - plan.bytes;
    if content.is_settled()
        && (content.charged_bytes <= missing_bytes || (!open && content.charged_bytes < 2 * missing_bytes))
    {
        let charged_bytes = content.charged_bytes;
        content.reset();
        plan.bytes += charged_bytes;
        plan.whole.push(Discarded { key: key.to_vec(), place, charged_bytes });
        drop(content);
        plan.files.push(file);
        return Ok(());
    }
    let mut pages = Vec::new();
    let mut bytes = 0;
    for group in content.evictable_groups() {
        if bytes >= missing_bytes {
            break;
        }
        for run in runs(&content.durable, group) {
            bytes += run.count() * crate::chunk::PAGE_BYTES;
            pages.push(run);
        }
    }
    if !pages.is_empty() {
        plan.bytes += bytes;
        plan.leaving.push(Leaving::begin(&file, &mut content, place, pages));
    }
    Ok(())
}

/// A pack goes with all of its files or not at all.
fn plan_pack(
    shared: &Arc<Shared>,
    plan: &mut Plan,
    pack: u64,
    pack_pages: u64,
    open_too: bool,
) -> Result<(), StoreError> {
    // From here on no file is added to it, so all that are being written show among the open ones.
    shared.places.seal(pack);
    let in_pack = |file: &DiskFile| file.content.lock().place.is_some_and(|place| place.data_id == pack);
    let mut files: BTreeMap<u64, Arc<DiskFile>> =
        shared.open_files().into_iter().filter(|file| in_pack(file)).map(|file| (file.number, file)).collect();
    let open = !files.is_empty();
    if open != open_too {
        return Ok(());
    }
    let keys = members(&shared.store, pack)?.iter().map(|key| FileKey::decode(key)).collect::<Option<Vec<_>>>();
    let keys = keys.ok_or_else(|| wrong("a key"))?;
    let pinned = |path: &[u8]| shared.pins.cover(path);
    if keys.iter().any(|key| pinned(&key.path)) || files.values().any(|file| pinned(&file.key().path)) {
        shared.evicting.lock().packs.insert(pack);
        plan.learned = true;
        return Ok(());
    }
    for key in keys {
        let file = shared.file(&key, false);
        files.insert(file.number, file);
    }
    files.retain(|_, file| in_pack(file));
    // All locks at once, or a write could begin in one while the next is looked at. Nobody else
    // holds two.
    let mut contents: Vec<_> = files.values().map(|file| file.content.lock()).collect();
    if contents.iter().any(|content| !content.is_settled()) {
        return Ok(());
    }
    contents.iter_mut().for_each(|content| content.reset());
    drop(contents);
    plan.files.extend(files.into_values());
    let bytes = pack_charge(pack_pages.max(shared.places.pack_pages(pack).unwrap_or(0)));
    plan.bytes += bytes;
    plan.packs.push((pack, bytes));
    Ok(())
}

/// Give back those of these packs that have no file any more, neither in the tables nor on its way there.
pub(super) fn drop_empty(shared: &Arc<Shared>, packs: &[u64]) -> Result<(), StoreError> {
    let mut plan = Plan::default();
    for &pack in packs {
        let row = shared.store.read(|transaction| {
            let data = transaction.open_table(DATA).map_err(from_redb)?;
            Ok(data.get(pack).map_err(from_redb)?.and_then(|row| DataRow::decode(row.value())))
        })?;
        if let Some(row) = row
            && members(&shared.store, pack)?.is_empty()
        {
            plan_pack(shared, &mut plan, pack, row.pack_pages, false)?;
        }
    }
    leave(shared, plan)
}

/// Commit the plan, then give the bytes back.
fn leave(shared: &Arc<Shared>, plan: Plan) -> Result<(), StoreError> {
    if plan.is_empty() {
        return Ok(());
    }
    let mut batch = Batch {
        discarded: plan.whole.clone(),
        dropped_packs: plan.packs.iter().map(|&(pack, _)| pack).collect(),
        listing_bytes_max: u64::MAX,
        ..Batch::default()
    };
    for Leaving { file, place, pages, .. } in &plan.leaving {
        let content = file.content.lock();
        if content.place != Some(*place) {
            // Discarded meanwhile.
            continue;
        }
        batch.changes.extend(change_of(shared, file, &content, Vec::new(), pages.clone(), false));
    }
    let result = shared.step(Step::Commit).map_err(StoreError::from).and_then(|()| apply(&shared.store, &batch));
    if let Ok(made) = &result {
        reached(FailPoint::Evicting);
        settle(shared, &batch, made);
        let stale = |leaving: &&Leaving| {
            let mut changes = batch.changes.iter().zip(made);
            !changes.any(|(change, made)| matches!(made, Made::As(_)) && change.file.number == leaving.file.number)
        };
        // Whose bits are still set keeps its bytes.
        plan.leaving.iter().filter(|leaving| !stale(leaving)).for_each(|leaving| give_pages_back(shared, leaving));
        for gone in plan.whole {
            delete(shared, gone.place.data_id, gone.charged_bytes);
        }
        for (pack, bytes) in plan.packs {
            delete(shared, pack, bytes);
        }
    }
    for Leaving { file, pages, .. } in &plan.leaving {
        file.content.lock().punching.retain(|leaving| !pages.contains(leaving));
        file.punched.notify_all();
    }
    result.map(|_| ())
}

fn give_pages_back(shared: &Shared, leaving: &Leaving) {
    let Leaving { file, place, pages, emptied, refund } = leaving;
    if place.packed {
        return;
    }
    let punched = shared.step(Step::Punch(place.data_id)).and_then(|()| {
        let data = shared.descriptors.get(place.data_id)?;
        shared.descriptors.punched(place.data_id);
        pages.iter().try_for_each(|&pages| data.punch(pages))?;
        emptied.iter().try_for_each(|&group| data.punch_sums(group))
    });
    match punched {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            // It stays charged to the file, until the file goes as a whole.
            failed(shared, "giving back room", &error);
        }
        _ => {
            let mut content = file.content.lock();
            // Discarded meanwhile: then its whole charge is given back with it.
            if content.place == Some(*place) {
                content.charged_bytes = content.charged_bytes.saturating_sub(*refund);
                drop(content);
                shared.space.give_back(*refund);
            }
        }
    }
}

fn failed(shared: &Shared, what: &str, error: &io::Error) {
    shared.metrics.disk_errors.add(1);
    shared.condition.fail(format!("{what} in the cache failed: {error}"));
}
