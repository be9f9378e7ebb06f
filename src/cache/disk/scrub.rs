//! The scrub: reads what is kept once a week, slowly, while the disk has nothing else to do, so that what has rotted
//! is dropped before anybody needs it.
//!
//! It goes through the data files in the order of their ids, round and round, so the next one is always the one that it
//! has not read for the longest. How far it is is written down now and then: a start costs it nothing. Between two
//! passes its thread sleeps.

use super::record::FileKey;
use super::shared::Shared;
use super::store::{DATA, Meta, StoreError, from_redb, read_meta, write_meta, wrong};
use super::transaction::members;
use super::{DiskFile, ReadNow, record::DataRow};
use crate::chunk::{PAGE_BYTES, Pages};
use crate::clock::{self, Time};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Pages in one read: 1 MiB.
const PIECE_PAGES: u64 = 256;
/// How often it writes down how far it is: each time costs the disk a few syncs.
const MARK_EVERY: Duration = Duration::from_secs(60);
/// The longest sleep: the wall clock may be set, and the first file may come, without a word to us.
const SLEEP_MAX: Duration = Duration::from_secs(60 * 60);

/// Whether, how fast, and until when.
pub(super) struct Scrub {
    bytes_per_second: Option<u64>,
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Scrub {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Scrub {
        Scrub { bytes_per_second, stopped: Mutex::new(false), changed: Condvar::new() }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.bytes_per_second.is_some()
    }

    pub(super) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }

    /// `false`: it has ended.
    fn sleep(&self, length: Duration) -> bool {
        let until = clock::now() + length;
        let mut stopped = self.stopped.lock();
        while !*stopped && clock::now() < until {
            self.changed.wait_for(&mut stopped, until.since(clock::now()));
        }
        !*stopped
    }
}

/// Where a pass is.
#[derive(Clone, Copy, Default)]
struct Mark {
    data_id: u64,
    page: u64,
    began_unix_s: u64,
}

/// Why a pass does not go on.
enum Broken {
    /// The cache is being closed.
    Ended,
    /// The disk does not give what is in the tables.
    Failed,
}

impl From<StoreError> for Broken {
    fn from(_: StoreError) -> Broken {
        // Whoever needs the tables says so and repairs them.
        Broken::Failed
    }
}

/// The work of the scrub's thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut sleep = shared.tuning.scrub_quiet;
    while shared.scrub.sleep(sleep) {
        sleep = match next_pass(shared) {
            Ok(Ok(mark)) => match Pass::new(shared, mark).go() {
                Ok(()) => continue,
                Err(Broken::Ended) => return,
                Err(Broken::Failed) => SLEEP_MAX,
            },
            Ok(Err(wait)) => wait.min(SLEEP_MAX),
            Err(_) => SLEEP_MAX,
        };
    }
}

/// Where to go on, or how long there is nothing to do.
fn next_pass(shared: &Shared) -> Result<Result<Mark, Duration>, StoreError> {
    let meta = shared.store.read(super::store::look_at_meta)?;
    let mark = Mark { data_id: meta.scrub_id, page: meta.scrub_page, began_unix_s: meta.scrub_began };
    if (mark.data_id, mark.page) != (0, 0) {
        return Ok(Ok(mark));
    }
    let now_unix_s = clock::unix_seconds().max(1) as u64;
    let since = Duration::from_secs(now_unix_s.saturating_sub(mark.began_unix_s));
    // A date in the future is of a clock that was wrong.
    let waits = mark.began_unix_s > 0 && mark.began_unix_s <= now_unix_s && since < shared.tuning.scrub_every;
    if waits {
        return Ok(Err(shared.tuning.scrub_every - since));
    }
    match next_row(shared, 0)? {
        Some(_) => Ok(Ok(Mark { began_unix_s: now_unix_s, ..Mark::default() })),
        None => Ok(Err(SLEEP_MAX)),
    }
}

/// The first data file from `data_id` on.
fn next_row(shared: &Shared, data_id: u64) -> Result<Option<(u64, DataRow)>, StoreError> {
    let _operation = shared.condition.operation();
    shared.store.read(|transaction| {
        let table = transaction.open_table(DATA).map_err(from_redb)?;
        let Some(row) = table.range(data_id..).map_err(from_redb)?.next() else { return Ok(None) };
        let (data_id, row) = row.map_err(from_redb)?;
        Ok(Some((data_id.value(), DataRow::decode(row.value()).ok_or_else(|| wrong("a data file's row"))?)))
    })
}

/// Is the disk in order and without other work, and was it since the cache had been used so often?
pub(super) fn may_go_on(shared: &Shared, uses: u64) -> bool {
    shared.uses.load(Ordering::Relaxed) == uses && !shared.condition.is_busy() && shared.is_writable()
}

/// Has it nothing to do now?
#[cfg(test)]
pub(super) fn is_resting(shared: &Shared) -> bool {
    matches!(next_pass(shared), Ok(Err(_)))
}

/// Once through all data files, from a mark on.
struct Pass<'a> {
    shared: &'a Arc<Shared>,
    mark: Mark,
    marked: Time,
    room: Vec<u8>,
    /// Pages that did not match.
    damaged: u64,
}

impl Pass<'_> {
    fn new(shared: &Arc<Shared>, mark: Mark) -> Pass<'_> {
        let room = vec![0; (PIECE_PAGES * PAGE_BYTES) as usize];
        Pass { shared, mark, marked: clock::now(), room, damaged: 0 }
    }

    fn go(mut self) -> Result<(), Broken> {
        while let Some((data_id, row)) = next_row(self.shared, self.mark.data_id)? {
            if data_id != self.mark.data_id {
                (self.mark.data_id, self.mark.page) = (data_id, 0);
            }
            match row.key {
                Some(key) => self.file(&key, true)?,
                None => {
                    for key in members(&self.shared.store, data_id)? {
                        self.file(&key, false)?;
                    }
                }
            }
            (self.mark.data_id, self.mark.page) = (data_id + 1, 0);
        }
        (self.mark.data_id, self.mark.page) = (0, 0);
        if self.damaged > 0 {
            tracing::warn!(pages = self.damaged, "the scrub found damaged pages in the cache and dropped them");
        }
        self.write_mark()
    }

    /// Every page that is held of one file; of one with a data file of its own from the mark on.
    fn file(&mut self, key: &[u8], own: bool) -> Result<(), Broken> {
        let file = self.shared.file(&FileKey::decode(key).ok_or(Broken::Failed)?, false);
        let from = if own { self.mark.page } else { 0 };
        for run in file.held_runs() {
            let run = Pages::new(run.start.max(from).min(run.end), run.end);
            for pages in run.split(PIECE_PAGES) {
                self.wait_for_turn(pages.count() * PAGE_BYTES)?;
                self.piece(&file, pages);
                if own {
                    self.mark.page = pages.end;
                }
                if clock::now().since(self.marked) >= MARK_EVERY {
                    self.write_mark()?;
                }
            }
        }
        Ok(())
    }

    fn piece(&mut self, file: &DiskFile, pages: Pages) {
        let bytes = pages.len_bytes(file.key().size_bytes);
        // What was evicted meanwhile is nobody's; where the disk fails, `wait_for_turn` waits for it.
        if let ReadNow::Damaged(runs) = file.verify(pages, &mut self.room[..bytes as usize]) {
            self.damaged += runs.iter().map(|run| run.count()).sum::<u64>();
        }
    }

    /// As long as the rate wants, and then until nobody else has used the disk for a while.
    fn wait_for_turn(&self, bytes: u64) -> Result<(), Broken> {
        let shared = self.shared;
        let rate = shared.scrub.bytes_per_second.unwrap_or(u64::MAX).max(1);
        let mut wait = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let mut uses = shared.uses.load(Ordering::Relaxed);
        loop {
            if !shared.scrub.sleep(wait) {
                return Err(Broken::Ended);
            }
            if may_go_on(shared, uses) {
                return Ok(());
            }
            (uses, wait) = (shared.uses.load(Ordering::Relaxed), shared.tuning.scrub_quiet);
        }
    }

    fn write_mark(&mut self) -> Result<(), Broken> {
        let Mark { data_id, page, began_unix_s } = self.mark;
        self.marked = clock::now();
        let _operation = self.shared.condition.operation();
        Ok(self.shared.store.write(|transaction| {
            let meta = read_meta(transaction)?;
            let scrub = Meta { scrub_id: data_id, scrub_page: page, scrub_began: began_unix_s, ..meta };
            write_meta(transaction, scrub)
        })?)
    }
}
