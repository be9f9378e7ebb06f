//! How many bytes the cache takes: reserved before they are written, given back after they are gone.

use parking_lot::{Condvar, Mutex};
use std::time::Duration;

/// What a commit may add to the state file before its size is looked at again.
const STATE_GROWTH_BYTES: u64 = 256 << 10;

/// So much free room is room: a long run and its checksums.
const ROOM_BYTES: u64 = 2 << 20;

/// The ledger of the disk. `used <= limit` at every instant, counting what is being evicted.
pub(super) struct Space {
    limit_bytes: u64,
    floor_bytes: u64,
    ledger: Mutex<Ledger>,
    freed: Condvar,
    /// The file system's free bytes when something was refused last, until there is room again.
    refused: Mutex<Option<u64>>,
}

#[derive(Default)]
struct Ledger {
    data_bytes: u64,
    overhead_bytes: u64,
    /// Granted and perhaps not yet allocated by the file system: still to come off its free space.
    granted_bytes: u64,
    /// Raised whenever something was given back, so that a waiter can tell.
    frees: u64,
    /// How often everything was forgotten.
    era: u64,
}

impl Space {
    pub(super) fn new(limit_bytes: u64, floor_bytes: u64, data_bytes: u64, overhead_bytes: u64) -> Space {
        let ledger = Ledger { data_bytes, overhead_bytes, ..Ledger::default() };
        Space { limit_bytes, floor_bytes, ledger: Mutex::new(ledger), freed: Condvar::new(), refused: Mutex::new(None) }
    }

    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let ledger = self.ledger.lock();
        ledger.data_bytes + ledger.overhead_bytes
    }

    #[cfg(test)]
    pub(super) fn data_bytes(&self) -> u64 {
        self.ledger.lock().data_bytes
    }

    /// Take `bytes`; `false` where the limit or the floor forbids it. `free_bytes` is the file system's.
    pub(super) fn reserve(&self, bytes: u64, free_bytes: u64) -> bool {
        let mut ledger = self.ledger.lock();
        let after = ledger.data_bytes + ledger.overhead_bytes + STATE_GROWTH_BYTES + bytes;
        if after > self.limit_bytes || free_bytes < self.floor_bytes + ledger.granted_bytes + bytes {
            return false;
        }
        ledger.data_bytes += bytes;
        ledger.granted_bytes += bytes;
        *self.refused.lock() = None;
        true
    }

    /// Something was given up for want of room.
    pub(super) fn refuse(&self, free_bytes: u64) {
        *self.refused.lock() = Some(free_bytes);
    }

    /// The disk was looked at: is there room again?
    pub(super) fn look(&self, free_bytes: u64) {
        // The ledger's lock comes first: who takes room holds both.
        let is_room = self.excess_bytes(ROOM_BYTES, free_bytes) == 0;
        if is_room {
            *self.refused.lock() = None;
        }
    }

    /// Why something was given up for want of room, unless there is room again.
    pub(super) fn refused(&self) -> Option<String> {
        let free_bytes = (*self.refused.lock())?;
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        Some(match free_bytes < self.floor_bytes + ROOM_BYTES {
            true => format!(
                "the disk has {:.1} MiB free, and {:.0} MiB are left to others",
                mebibytes(free_bytes),
                mebibytes(self.floor_bytes)
            ),
            false => "what is cached cannot be evicted: it is pinned, or being written".to_owned(),
        })
    }

    /// Granted bytes have been written: the file system's free space knows of them now.
    pub(super) fn allocated(&self, bytes: u64) {
        let mut ledger = self.ledger.lock();
        ledger.granted_bytes = ledger.granted_bytes.saturating_sub(bytes);
    }

    /// Bytes that are no longer on disk.
    pub(super) fn give_back(&self, bytes: u64) {
        let mut ledger = self.ledger.lock();
        debug_assert!(ledger.data_bytes >= bytes, "more given back than was taken");
        ledger.data_bytes = ledger.data_bytes.saturating_sub(bytes);
        ledger.frees += 1;
        self.freed.notify_all();
    }

    /// Everything is gone (a damaged cache was set aside).
    pub(super) fn forget(&self) {
        let mut ledger = self.ledger.lock();
        *ledger = Ledger { era: ledger.era + 1, frees: ledger.frees + 1, ..Ledger::default() };
        self.freed.notify_all();
    }

    /// Changes when everything is forgotten: what was taken before is not to be given back.
    pub(super) fn era(&self) -> u64 {
        self.ledger.lock().era
    }

    pub(super) fn set_overhead(&self, bytes: u64) {
        self.ledger.lock().overhead_bytes = bytes;
    }

    /// How much must go so that `wanted_bytes` fit, both under the limit and above the floor.
    pub(super) fn excess_bytes(&self, wanted_bytes: u64, free_bytes: u64) -> u64 {
        let ledger = self.ledger.lock();
        let after = ledger.data_bytes + ledger.overhead_bytes + STATE_GROWTH_BYTES + wanted_bytes;
        let below = (self.floor_bytes + ledger.granted_bytes + wanted_bytes).saturating_sub(free_bytes);
        after.saturating_sub(self.limit_bytes).max(below)
    }

    /// Could `bytes` ever fit, were everything else evicted?
    pub(super) fn could_hold(&self, bytes: u64) -> bool {
        self.ledger.lock().overhead_bytes + STATE_GROWTH_BYTES + bytes <= self.limit_bytes
    }

    pub(super) fn frees(&self) -> u64 {
        self.ledger.lock().frees
    }

    /// Wait until something was given back since `frees`, at most for `patience`.
    pub(super) fn wait_freed(&self, frees: u64, patience: Duration) {
        let mut ledger = self.ledger.lock();
        if ledger.frees == frees {
            self.freed.wait_for(&mut ledger, patience);
        }
    }
}
