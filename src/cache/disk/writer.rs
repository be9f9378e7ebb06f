//! The writer thread: puts runs of pages into their data files, within the ledger.

use super::burst::Owed;
use super::page_io::Way;
use super::place::{GivenPlace, Places};
use super::queue::Run;
use super::record::fill;
use super::shared::{Shared, Step};
use super::waiting::Written;
use super::{DiskFile, WriteError, vanished};
use crate::chunk::Pages;
use crate::clock::{self, Time};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a write that may be let go waits for eviction: longer, and memory fills behind it.
const ROOM_PATIENCE: Duration = Duration::from_secs(2);
/// How long one that promises durability waits.
const ROOM_PATIENCE_DURABLE: Duration = Duration::from_secs(30);
/// How often a waiting write asks again, for room that somebody else makes on the disk.
const ROOM_ASK: Duration = Duration::from_millis(200);

/// The work of the writer thread.
pub(super) fn run(shared: &Arc<Shared>) {
    while let Some(run) = shared.queue.next() {
        keep(shared, run);
    }
}

/// Write a run and hand it to the committer, or tell its owners why not.
fn keep(shared: &Shared, run: Run) {
    let Some((_, first)) = run.jobs.first() else { return };
    let file = first.file.clone();
    let pages = run.pages();
    let result = write(shared, &file, &run, pages);
    if let Err(error) = &result {
        tracing::debug!(%error, ?pages, path = %String::from_utf8_lossy(&file.key().path), "not kept on disk");
    }
    let bytes = run.bytes();
    let numbers: Vec<_> = run.jobs.iter().map(|&(number, _)| number).collect();
    for (_, job) in run.jobs {
        let super::WriteJob { file, pages, bytes, done, written, .. } = job;
        drop(bytes);
        match &result {
            Ok(Kept { life, owed }) => {
                if let Some(written) = written {
                    written();
                }
                shared.commits.put_written(Written { file, pages, life: *life, done, owed: owed.clone() });
            }
            Err(error) => {
                if let Some(done) = done {
                    done(Err(error.clone()));
                }
            }
        }
    }
    // After the hand-over: who waits for the queue to be empty finds the rest with the committer.
    shared.queue.finished(numbers.into_iter(), bytes);
}

struct Kept {
    /// The life of the file in which the pages were written.
    life: u64,
    owed: Option<Arc<Owed>>,
}

fn write(shared: &Shared, file: &Arc<DiskFile>, run: &Run, pages: Pages) -> Result<Kept, WriteError> {
    if !shared.is_writable() {
        return Err(WriteError::Failing("it is off after an error".to_owned()));
    }
    let deadline = clock::now()
        + match run.jobs.iter().all(|(_, job)| job.may_let_go) {
            true => ROOM_PATIENCE,
            false => ROOM_PATIENCE_DURABLE,
        };
    announce(shared, file)?;
    let begun = loop {
        match begin(shared, file, run, pages, deadline)? {
            Begun::Held(life) => return Ok(Kept { life, owed: None }),
            Begun::At(begun) => break begun,
            Begun::Again => {}
        }
    };
    let result = put(shared, file, run, pages, &begun);
    shared.space.allocated(begun.need);
    let mut content = file.content.lock();
    content.writing = None;
    let lost = content.life != begun.life;
    let place = begun.given.place;
    if lost && begun.given.fresh && !place.packed {
        // The data file may have been made after it was deleted. Nothing of it is charged any more.
        shared.commits.put_discarded(file.encoded().to_vec(), place, 0);
    }
    if result.is_ok() && !lost {
        fill(&mut content.written, pages, true);
        fill(&mut content.proven, pages, true);
        let tick = shared.uses.fetch_add(1, Ordering::Relaxed);
        content.used(pages, tick);
    }
    drop(content);
    if result.is_ok() && begun.given.fresh && !begun.given.place.packed && !lost {
        shared.commits.put_announced(file.clone());
    }
    match result {
        Ok(_) if lost => Err(WriteError::Discarded),
        Ok(owed) => Ok(Kept { life: begun.life, owed }),
        Err(error) => {
            if begun.given.fresh && !lost {
                take_back(shared, file, &begun);
            }
            shared.metrics.disk_errors.add(1);
            let why = format!("writing the cache failed: {error}");
            shared.condition.fail(why.clone());
            Err(WriteError::Failing(why))
        }
    }
}

/// A place whose data file could not be made is no place.
fn take_back(shared: &Shared, file: &DiskFile, begun: &Placed) {
    let place = begun.given.place;
    shared.places.seal(place.data_id);
    let mut content = file.content.lock();
    content.place = None;
    let charged = std::mem::take(&mut content.charged_bytes);
    drop(content);
    shared.commits.put_discarded(file.encoded().to_vec(), place, if place.packed { begun.need } else { charged });
}

/// A file that was there before this session is put down as touched before its data file grows, so
/// that a crash leaves nothing uncounted.
fn announce(shared: &Shared, file: &Arc<DiskFile>) -> Result<(), WriteError> {
    let content = file.content.lock();
    let packed = content.place.is_some_and(|place| place.packed);
    if content.record.is_none() || content.touched || packed {
        return Ok(());
    }
    drop(content);
    shared.commits.put_announced(file.clone());
    match shared.commits.flush(clock::now() + ROOM_PATIENCE_DURABLE) {
        true => Ok(()),
        false => Err(WriteError::Failing("it takes too long to commit".to_owned())),
    }
}

enum Begun {
    Held(u64),
    At(Placed),
    Again,
}

struct Placed {
    life: u64,
    given: GivenPlace,
    /// Bytes reserved for it.
    need: u64,
}

/// Reserve room and a place. The file's `writing` is set when this returns [`Begun::At`], else not.
fn begin(shared: &Shared, file: &DiskFile, run: &Run, pages: Pages, deadline: Time) -> Result<Begun, WriteError> {
    let page_count = file.key().page_count();
    let mut content = file.content.lock();
    if run.jobs.iter().any(|(_, job)| job.discards != content.discards) {
        return Err(WriteError::Discarded);
    }
    while content.is_punching(pages) {
        if file.punched.wait_for(&mut content, deadline.since(clock::now())).timed_out() {
            return Err(WriteError::NoSpace);
        }
    }
    if content.holds(pages) {
        return Ok(Begun::Held(content.life));
    }
    content.writing = Some(pages);
    let (life, had_place) = (content.life, content.place);
    let need = match (had_place, Places::is_packed(page_count)) {
        (Some(_), true) => 0,
        (None, true) => shared.places.pack_need(page_count),
        (_, false) => content.own_need(pages),
    };
    drop(content);
    let era = shared.space.era();
    if let Err(error) = reserve(shared, need, deadline) {
        file.content.lock().writing = None;
        return Err(error);
    }
    let mut content = file.content.lock();
    let given = match content.place {
        _ if content.life != life || shared.space.era() != era => None,
        Some(place) => Some(GivenPlace { place, fresh: false }),
        None => shared.places.give(page_count),
    };
    let Some(given) = given else {
        // Discarded meanwhile, or out of ids until the next commit.
        content.writing = None;
        let ids_ran_out = content.life == life;
        drop(content);
        shared.space.allocated(need);
        if shared.space.era() == era {
            shared.space.give_back(need);
        }
        let in_time = clock::now() < deadline && (!ids_ran_out || shared.commits.flush(deadline));
        return if in_time { Ok(Begun::Again) } else { Err(WriteError::NoSpace) };
    };
    content.place = Some(given.place);
    if !given.place.packed {
        content.charged_bytes += need;
    }
    Ok(Begun::At(Placed { life, given, need }))
}

/// Take `need` from the ledger, waiting for eviction where there is no room.
fn reserve(shared: &Shared, need: u64, deadline: Time) -> Result<(), WriteError> {
    if need == 0 {
        return Ok(());
    }
    loop {
        let frees = shared.space.frees();
        let free = {
            let _operation = shared.condition.operation();
            shared.layout.free_bytes().map_err(|error| WriteError::Failing(error.to_string()))?
        };
        if shared.space.reserve(need, free) {
            return Ok(());
        }
        let left = deadline.since(clock::now());
        if left.is_zero() || !shared.space.could_hold(need) || !shared.is_writable() {
            shared.space.refuse(free);
            return Err(WriteError::NoSpace);
        }
        shared.commits.want_room(need);
        shared.space.wait_freed(frees, left.min(ROOM_ASK));
    }
}

fn put(shared: &Shared, file: &DiskFile, run: &Run, pages: Pages, begun: &Placed) -> io::Result<Option<Arc<Owed>>> {
    let _operation = shared.condition.operation();
    let GivenPlace { place, fresh } = begun.given;
    shared.step(Step::Write(place.data_id))?;
    // Making a file makes its folder, which is not ours to make where the cache was.
    if fresh && let Some(gone) = vanished::look(shared) {
        return Err(io::Error::other(gone.words(shared)));
    }
    let data = match fresh {
        true => shared.descriptors.create(place.data_id)?,
        false => shared.descriptors.get(place.data_id)?,
    };
    let buffers: Vec<&[u8]> = run.jobs.iter().map(|(_, job)| (*job.bytes).as_ref()).collect();
    // Its readers would see the zeros that fill its last page up.
    let end_bytes = shared.lending.is_lent(place.data_id).then_some(file.key().size_bytes);
    let (bytes, at) = (run.bytes(), clock::now());
    // Who promised durability waits for the disk instead: that costs less, and no reader waits for it.
    let behind = shared.queue.is_behind() && run.jobs.iter().all(|(_, job)| job.may_let_go);
    let owed = if behind { shared.burst.take(bytes) } else { None };
    let way = if owed.is_some() { Way::Memory } else { Way::Disk };
    data.write(place.base_page + pages.start, &buffers, end_bytes, way)?;
    match way {
        Way::Memory => shared.metrics.disk_burst_bytes.add(bytes),
        Way::Disk => shared.burst.measured(bytes, clock::now().since(at)),
    }
    Ok(owed.map(Arc::new))
}
