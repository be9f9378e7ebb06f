//! Opening: after a clean end nothing is looked at; after a crash only what was being written.

use super::descriptors::Descriptors;
use super::finish::mark_open;
use super::health::Condition;
use super::layout::Layout;
use super::lending::Lending;
use super::lock::Lock;
use super::pins::Pins;
use super::place::Places;
use super::queue::Queue;
use super::record::{DataRow, Place, runs};
use super::scrub::Scrub;
use super::shared::{Shared, Tuning};
use super::space::Space;
use super::state::State;
use super::store::{DOOMED, Meta, Store, StoreError, TOUCHED, data_row, from_redb, read_meta, write_meta};
use super::transaction::{Batch, Discarded, apply};
use super::waiting::Commits;
use super::{OpenError, Settings};
use crate::chunk::Pages;
use crate::metrics::Metrics;
use parking_lot::Mutex;
use redb::ReadableTable;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Open everything but the threads.
pub(super) fn open(settings: Settings, metrics: Arc<Metrics>, tuning: Tuning) -> Result<Arc<Shared>, OpenError> {
    let drive = &tuning.drive;
    Layout::make_folder(drive, &settings.dir)?;
    let lock = Lock::take(drive, &settings.dir, &settings.owner)?;
    let (layout, _) = Layout::open(drive, &settings.dir)?;
    let (store, meta) = match open_store(&layout) {
        Err(StoreError::Damaged(why)) => {
            tracing::warn!(%why, dir = %settings.dir.display(), "the disk cache's state is damaged; starting empty");
            layout.set_aside()?;
            open_store(&layout)
        }
        other => other,
    }
    .map_err(|error| OpenError::of_state(&layout, error))?;
    let limit = settings.size_limit_bytes;
    let pins = Pins::load(&store).map_err(|error| OpenError::of_state(&layout, error))?;
    let space = Space::new(limit, settings.free_floor_bytes, meta.used_bytes, layout.overhead_bytes());
    let shared = Arc::new(Shared {
        condition: Condition::new(tuning.hang_after),
        descriptors: Descriptors::new(&layout),
        lending: Lending::default(),
        queue: Queue::new(settings.queue_bytes_max, tuning.lone_wait, metrics.clone()),
        burst: Default::default(),
        commits: Commits::new(tuning.commit_every),
        readers: Default::default(),
        // Ids that were set aside and not used are lost: there are 2^64 of them.
        places: Places::new(meta.ids_reserved, meta.ids_reserved, limit),
        pins,
        scrub: Scrub::new(settings.scrub_bytes_per_second),
        evicting: Mutex::default(),
        identity: Mutex::default(),
        uses: AtomicU64::new(meta.tick + 1),
        clearing: AtomicBool::new(layout.has_damaged_data()),
        files: Mutex::default(),
        loads: Default::default(),
        file_numbers: AtomicU64::new(1),
        lock: Mutex::new(Some(lock)),
        owner: settings.owner,
        tuning,
        metrics,
        layout,
        store,
        space,
    });
    mark_open(&shared).map_err(|error| OpenError::of_state(&shared.layout, error))?;
    Ok(shared)
}

impl OpenError {
    fn of_state(layout: &Layout, error: StoreError) -> OpenError {
        match error {
            StoreError::Io(error) => OpenError::from_io(&layout.state(), error),
            StoreError::Damaged(why) => OpenError::Damaged { path: layout.state(), why },
        }
    }
}

/// A clean end: the next start need not look for anything.
pub(super) fn close(shared: &Shared) {
    let result = shared.store.write(|transaction| {
        let mut meta = read_meta(transaction)?;
        (meta.open, meta.ids_floor) = (0, meta.ids_reserved);
        transaction.open_table(TOUCHED).map_err(from_redb)?.retain(|_, ()| false).map_err(from_redb)?;
        write_meta(transaction, meta)
    });
    if let Err(error) = result {
        tracing::warn!(%error, "the disk cache could not be closed cleanly; the next start looks after it");
    }
    shared.store.shut();
    shared.descriptors.forget_all();
    *shared.lock.lock() = None;
}

fn open_store(layout: &Layout) -> Result<(Store, Meta), StoreError> {
    let store = Store::open(layout)?;
    let meta = store.write(read_meta)?;
    if meta.open == 1 {
        look_after(layout, &store, meta)?;
    }
    delete_doomed(layout, &store)?;
    let meta = store.write(|transaction| {
        transaction.open_table(TOUCHED).map_err(from_redb)?.retain(|_, ()| false).map_err(from_redb)?;
        read_meta(transaction)
    })?;
    Ok((store, meta))
}

fn delete_doomed(layout: &Layout, store: &Store) -> Result<(), StoreError> {
    store.write(|transaction| {
        let mut table = transaction.open_table(DOOMED).map_err(from_redb)?;
        let mut doomed = Vec::new();
        for row in table.iter().map_err(from_redb)? {
            doomed.push(row.map_err(from_redb)?.0.value());
        }
        doomed.iter().try_for_each(|&data_id| layout.remove(data_id))?;
        layout.sync_data_names(doomed)?;
        table.retain(|_, ()| false).map_err(from_redb)
    })
}

/// After a crash: what was written and never committed is not in the totals, so it must not stay.
fn look_after(layout: &Layout, store: &Store, meta: Meta) -> Result<(), StoreError> {
    let (strangers, touched) = store.write(|transaction| {
        let mut strangers = Vec::new();
        for data_id in meta.ids_floor..meta.ids_reserved {
            if data_row(transaction, data_id)?.is_none() {
                strangers.push(data_id);
            }
        }
        let mut touched = Vec::new();
        for row in transaction.open_table(TOUCHED).map_err(from_redb)?.iter().map_err(from_redb)? {
            let data_id = row.map_err(from_redb)?.0.value();
            touched.push((data_id, data_row(transaction, data_id)?));
        }
        Ok((strangers, touched))
    })?;
    let looked_at: Vec<u64> = strangers.iter().copied().chain(touched.iter().map(|(data_id, _)| *data_id)).collect();
    strangers.iter().try_for_each(|&data_id| layout.remove(data_id))?;
    for (data_id, row) in touched {
        match trim(layout, store, data_id, row) {
            Err(StoreError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(layout.sync_data_names(looked_at)?)
}

fn trim(layout: &Layout, store: &Store, data_id: u64, row: Option<DataRow>) -> Result<(), StoreError> {
    let Some(row) = row else { return Ok(layout.remove(data_id)?) };
    let data = layout.open_data(data_id)?;
    let Some(key) = row.key else { return Ok(data.cut(row.pack_pages).and_then(|()| data.sync())?) };
    let Some(loaded) = store.load(&key)? else { return Ok(layout.remove(data_id)?) };
    if loaded.record.state == State::Preparing {
        // Nothing of it is durable: begin anew.
        let place = Place { data_id, base_page: 0, packed: false };
        let discarded = vec![Discarded { key, place, charged_bytes: 0 }];
        apply(store, &Batch { discarded, listing_bytes_max: u64::MAX, ..Batch::default() })?;
        return Ok(());
    }
    let end = data.end_page()?;
    let mut at = 0;
    for run in runs(&loaded.bitmap, Pages::new(0, end)) {
        data.punch(Pages::new(at, run.start))?;
        at = run.end;
    }
    data.punch(Pages::new(at, end.max(at)))?;
    Ok(data.sync()?)
}
