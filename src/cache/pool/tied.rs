//! What ties a run to its place: pins, reservations and two marks, in one word, so that nobody sees
//! one without the others.
//!
//! The protocol of a pin against an eviction. A reader takes no lock: it counts itself in, and what it
//! gets back says whether the run had been retired before. An eviction retires a run by one exchange,
//! which fails while anybody is counted in. All of these are changes of one word, and a word's changes
//! have one order: either the pin comes first, and the eviction fails, or the pin comes second, sees
//! that, and counts itself out again. `tests/modelled.rs` walks through every such order.
//!
//! Orderings: a pin is given up with Release and a run retired with Acquire, so what comes after the
//! retiring (another file's bytes) comes after the last look of every reader. Giving up is
//! sequentially consistent besides, for `Arena::starve`: either a reservation that fails sees the pin
//! gone, or whoever gave it up sees that somebody waits. To count oneself in needs no more than the
//! word's own order: what a reader reads was published to it by the index and by the *held* bits.

// Not from `std` at once: the model puts loom's in the place of these.
use super::atomic::{AtomicU64, Ordering};

/// One reply, write or look that must find the bytes where they are. Below the reservations.
const PIN: u64 = 1;
/// One reservation or filler.
const RESERVED: u64 = 1 << 32;
/// The count of reservations.
const RESERVATIONS: u64 = (1 << 62) - RESERVED;
/// Evicted: whoever finds the run in an index that was read before that has come too late.
const RETIRED: u64 = 1 << 62;
/// Reserved for readahead or prefetch, and no reader has come for it yet.
const UNREAD: u64 = 1 << 63;

/// What the word says.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Word(u64);

impl Word {
    /// Nobody has it pinned or reserved, and it was not retired.
    pub(super) fn is_idle(self) -> bool {
        self.0 & !UNREAD == 0
    }

    /// How many reservations and fillers there are for it.
    pub(super) fn reservations(self) -> u64 {
        (self.0 & RESERVATIONS) / RESERVED
    }

    /// No reader has come for it yet.
    pub(super) fn is_unread(self) -> bool {
        self.0 & UNREAD != 0
    }
}

/// A change: what was before and what is now.
pub(super) type Change = (Word, Word);

/// The word.
#[derive(Default)]
pub(super) struct Tied(AtomicU64);

impl Tied {
    /// What it says now.
    pub(super) fn get(&self) -> Word {
        Word(self.0.load(Ordering::SeqCst))
    }

    /// Counts a reader in; false where the run was retired: then nothing changed.
    pub(super) fn pin(&self) -> bool {
        let before = self.0.fetch_add(PIN, Ordering::Relaxed);
        if before & RETIRED != 0 {
            self.unpin();
        }
        before & RETIRED == 0
    }

    /// Counts it out.
    pub(super) fn unpin(&self) {
        self.0.fetch_sub(PIN, Ordering::SeqCst);
    }

    /// For good, where nobody has it pinned or reserved; false where somebody has, or it is already.
    pub(super) fn retire(&self) -> bool {
        let mut ties = self.0.load(Ordering::SeqCst);
        // Another turn only where the mark of being unread went meanwhile, or somebody came and left.
        while Word(ties).is_idle() {
            match self.0.compare_exchange(ties, ties | RETIRED, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => ties = now,
            }
        }
        false
    }

    /// One more reservation. Only under the lock that a run is retired under, or by who has one.
    pub(super) fn reserve(&self) -> Change {
        let before = self.0.fetch_add(RESERVED, Ordering::SeqCst);
        (Word(before), Word(before + RESERVED))
    }

    /// One reservation less.
    pub(super) fn unreserve(&self) -> Change {
        let before = self.0.fetch_sub(RESERVED, Ordering::SeqCst);
        (Word(before), Word(before - RESERVED))
    }

    /// Is it unread from now on?
    pub(super) fn set_unread(&self, unread: bool) -> Change {
        match unread {
            true => {
                let before = self.0.fetch_or(UNREAD, Ordering::SeqCst);
                (Word(before), Word(before | UNREAD))
            }
            false => {
                let before = self.0.fetch_and(!UNREAD, Ordering::SeqCst);
                (Word(before), Word(before & !UNREAD))
            }
        }
    }
}
