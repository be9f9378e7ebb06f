//! Paths that eviction leaves alone: files, and folders with all that is or comes below them.

use super::shared::Shared;
use super::store::{PINS, Store, StoreError, from_redb};
use parking_lot::{Mutex, RwLock};
use redb::ReadableTable;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pins at most: they are in memory, and one answer of `status` lists them all.
const PINS_MAX: usize = 1024;
/// Of the cache's limit, what pages can have: the rest is checksums, bitmaps and what waits to be evicted.
const USABLE_PERCENT: u64 = 95;

/// A pinned path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Of a file or folder in the dataset, as bytes; empty: all of it.
    pub path: Vec<u8>,
    /// What the files there had in bytes when it was pinned.
    pub bytes: u64,
}

/// Why paths were not pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There would be no room for anything else.
    #[error("{asked_bytes} bytes do not fit beside the {pinned_bytes} bytes that are pinned: {usable_bytes} can be")]
    NoRoom {
        /// Of what was to be pinned.
        asked_bytes: u64,
        /// Of what is pinned.
        pinned_bytes: u64,
        /// What can be pinned in all.
        usable_bytes: u64,
    },
    /// Too many.
    #[error("there are {PINS_MAX} pins already: pin a folder instead of what is in it")]
    TooMany,
    /// The disk fails.
    #[error("it could not be written down: {0}")]
    Failed(String),
}

/// The pins of one cache.
#[derive(Default)]
pub(super) struct Pins {
    /// As in the table. Never held while the disk is waited for.
    known: RwLock<BTreeMap<Vec<u8>, u64>>,
    /// One change at a time.
    changing: Mutex<()>,
    /// Raised with every change, so that eviction forgets what it has learned of them.
    changes: AtomicU64,
}

impl Pins {
    /// Those that are written down.
    pub(super) fn load(store: &Store) -> Result<Pins, StoreError> {
        let known = store.read(|transaction| {
            let table = transaction.open_table(PINS).map_err(from_redb)?;
            let rows = table.iter().map_err(from_redb)?;
            rows.map(|row| row.map(|(path, bytes)| (path.value().to_vec(), bytes.value())).map_err(from_redb)).collect()
        })?;
        Ok(Pins { known: RwLock::new(known), ..Pins::default() })
    }

    /// The pin that covers `path`, where one does.
    pub(super) fn over(&self, path: &[u8]) -> Option<Vec<u8>> {
        let known = self.known.read();
        if known.is_empty() {
            return None;
        }
        let ends = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
        let above = [0].into_iter().chain(ends).chain([path.len()]).map(|end| &path[..end]);
        let mut above = above.filter(|above| known.contains_key(*above));
        above.next().map(<[u8]>::to_vec)
    }

    pub(super) fn cover(&self, path: &[u8]) -> bool {
        self.over(path).is_some()
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(super) fn all(&self) -> Vec<Pin> {
        self.known.read().iter().map(|(path, &bytes)| Pin { path: path.clone(), bytes }).collect()
    }

    /// Write down that these are pinned (`true`) or are not any more; then it is so.
    pub(super) fn change(&self, store: &Store, pins: &[Pin], pinned: bool) -> Result<(), StoreError> {
        let _alone = self.changing.lock();
        store.write(|transaction| {
            let mut table = transaction.open_table(PINS).map_err(from_redb)?;
            for Pin { path, bytes } in pins {
                match pinned {
                    true => table.insert(path.as_slice(), bytes).map_err(from_redb)?,
                    false => table.remove(path.as_slice()).map_err(from_redb)?,
                };
            }
            Ok(())
        })?;
        let mut known = self.known.write();
        for Pin { path, bytes } in pins {
            match pinned {
                true => known.insert(path.clone(), *bytes),
                false => known.remove(path),
            };
        }
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The tables were begun anew: the pins hold.
    pub(super) fn write_again(&self, store: &Store) -> Result<(), StoreError> {
        self.change(store, &self.all(), true)
    }
}

/// Is `path` below `folder`, or the same?
pub(super) fn is_below(path: &[u8], folder: &[u8]) -> bool {
    match path.strip_prefix(folder) {
        Some(rest) => folder.is_empty() || rest.is_empty() || rest[0] == b'/',
        None => false,
    }
}

/// Bytes of these pins, what lies in another's folder counted once.
fn sum(pins: &[Pin]) -> u64 {
    let is_top = |pin: &&Pin| !pins.iter().any(|other| other.path != pin.path && is_below(&pin.path, &other.path));
    pins.iter().filter(is_top).map(|pin| pin.bytes).sum()
}

/// Bytes of all that is pinned.
pub(super) fn pinned_bytes(shared: &Shared) -> u64 {
    sum(&shared.pins.all())
}

/// The most that can be pinned or prefetched.
pub(super) fn usable_bytes(shared: &Shared) -> u64 {
    shared.space.limit_bytes() / 100 * USABLE_PERCENT
}

/// Pin all of these, or none.
pub(super) fn pin(shared: &Shared, pins: &[Pin]) -> Result<(), PinError> {
    let before = shared.pins.all();
    let mut after: BTreeMap<Vec<u8>, u64> = before.iter().map(|pin| (pin.path.clone(), pin.bytes)).collect();
    after.extend(pins.iter().map(|pin| (pin.path.clone(), pin.bytes)));
    if after.len() > PINS_MAX {
        return Err(PinError::TooMany);
    }
    let after: Vec<Pin> = after.into_iter().map(|(path, bytes)| Pin { path, bytes }).collect();
    let (pinned_bytes, usable_bytes) = (sum(&before), usable_bytes(shared));
    let asked_bytes = sum(&after).saturating_sub(pinned_bytes);
    // What adds nothing is no reason to refuse, even where the limit was made smaller since.
    if asked_bytes > 0 && pinned_bytes + asked_bytes > usable_bytes {
        return Err(PinError::NoRoom { asked_bytes, pinned_bytes, usable_bytes });
    }
    change(shared, pins, true)
}

/// Unpin these; those that are not pinned do not matter.
pub(super) fn unpin(shared: &Shared, paths: Vec<Vec<u8>>) -> Result<(), PinError> {
    let pins: Vec<_> = paths.into_iter().map(|path| Pin { path, bytes: 0 }).collect();
    change(shared, &pins, false)
}

fn change(shared: &Shared, pins: &[Pin], pinned: bool) -> Result<(), PinError> {
    let _operation = shared.condition.operation();
    shared.pins.change(&shared.store, pins, pinned).map_err(|error| {
        shared.store_failed(&error);
        PinError::Failed(error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(path: &str, bytes: u64) -> Pin {
        Pin { path: path.as_bytes().to_vec(), bytes }
    }

    #[test]
    fn a_pin_covers_its_path_and_all_below_it_and_nothing_else() {
        let known = ["a", "b/c"].map(|path| (path.as_bytes().to_vec(), 0)).into_iter().collect();
        let pins = Pins { known: RwLock::new(known), ..Pins::default() };
        for (path, by) in [("a", "a"), ("a/x", "a"), ("a/x/y", "a"), ("b/c", "b/c"), ("b/c/d", "b/c")] {
            assert_eq!(pins.over(path.as_bytes()).as_deref(), Some(by.as_bytes()), "{path}");
        }
        for path in ["", "b", "ab", "a.b", "b/cd", "b/d", "c/a"] {
            assert_eq!(pins.over(path.as_bytes()), None, "{path}");
        }
        pins.known.write().insert(Vec::new(), 0);
        assert!(pins.cover(b"c/a") && pins.cover(b""), "the mountpoint is above everything");
    }

    #[test]
    fn what_lies_in_a_pinned_folder_counts_once() {
        assert_eq!(sum(&[pin("a", 10), pin("a/b", 4), pin("ab", 5), pin("c/d", 1)]), 16);
        assert_eq!(sum(&[pin("", 30), pin("a", 10)]), 30);
    }
}
