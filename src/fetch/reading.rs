//! What is being read now: the open files, how much of each was read, is here and is on its way.

use crate::chunk::{FetchId, Pages};
use crate::fetch::engine::Engine;
use crate::fetch::held::Held;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::Plane;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Files that are reported: those read last.
pub const FILES_REPORTED_MAX: usize = 64;

/// How a file is used by those who have it open.
#[derive(Default)]
pub struct Usage {
    read_bytes: AtomicU64,
    /// The number of the mount's read that was the last of this file.
    last_read: AtomicU64,
    in_flight: Mutex<Vec<(FetchId, Pages)>>,
}

impl Usage {
    /// The mount's read `number` took so many bytes of it.
    pub(super) fn was_read(&self, number: u64, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_read.store(number, Ordering::Relaxed);
    }

    /// A fetch of some pages begins.
    pub(super) fn begins(&self, fetch: FetchId, pages: Pages) {
        self.in_flight.lock().push((fetch, pages));
    }

    /// It has ended, however.
    pub(super) fn ended(&self, fetch: FetchId) {
        self.in_flight.lock().retain(|(other, _)| *other != fetch);
    }
}

/// One open file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// Relative to the mount.
    pub path: Vec<u8>,
    /// Its size.
    pub size_bytes: u64,
    /// Handles and jobs that have it open.
    pub users: u64,
    /// Asked for by readers since it was opened; what the kernel reads by itself is not counted.
    pub read_bytes: u64,
    /// Bytes of it that are durable on disk.
    pub disk_bytes: u64,
    /// Fetches of it that are on their way.
    pub in_flight_fetches: u64,
    /// See [`Held::cells_and_coming`].
    pub map: String,
}

impl Engine {
    /// The files that are open, the one that was read last first.
    pub fn reading(&self) -> Vec<Reading> {
        let mut open = self.plane.opened.all();
        open.sort_by_key(|file| Reverse(file.usage.last_read.load(Ordering::Relaxed)));
        open.truncate(FILES_REPORTED_MAX);
        open.iter().map(|file| reading(&self.plane, file)).collect()
    }
}

fn reading(plane: &Plane, file: &Arc<OpenFile>) -> Reading {
    let held = Held::of(plane, Some(file.inode), file.disk.as_deref(), file.pages(), file.size_bytes);
    let in_flight: Vec<Pages> = file.usage.in_flight.lock().iter().map(|(_, pages)| *pages).collect();
    Reading {
        path: file.path.clone(),
        size_bytes: file.size_bytes,
        users: file.user_count() as u64,
        read_bytes: file.usage.read_bytes.load(Ordering::Relaxed),
        disk_bytes: held.bytes().disk_bytes,
        in_flight_fetches: in_flight.len() as u64,
        map: held.cells_and_coming(&in_flight),
    }
}
