//! The protocol of pins and evictions, in every order that two or three threads can take and with
//! every value that the memory model lets them see. It is the pool's own code, with loom's atomics.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
}

#[path = "../tied.rs"]
#[allow(dead_code, reason = "reservations are made under a lock: there is nothing to walk through")]
#[allow(clippy::duplicate_mod, reason = "once with the machine's atomics, once with loom's: that is the point")]
mod tied;

use tied::Tied;

/// A run, the list that it is in, and a byte of its memory.
#[derive(Default)]
struct Held {
    tied: Tied,
    unlisted: AtomicBool,
    byte: UnsafeCell<u8>,
}

impl Held {
    /// As `Index::pin_prefix` and the drop of what it gives: true where it was a hit.
    fn read(&self) -> bool {
        if !self.tied.pin() {
            return false;
        }
        // Nothing needs to be read: loom fails the test where a writer is at it, or was and we don't know it.
        self.byte.with(|_| ());
        assert!(!self.unlisted.load(Ordering::Relaxed), "what is pinned stays");
        self.tied.unpin();
        true
    }

    /// As `Evictor::evict`, and the memory handed out anew: true where it could go.
    fn evict(&self) -> bool {
        let retired = self.tied.retire();
        if retired {
            self.unlisted.store(true, Ordering::Relaxed);
            self.byte.with_mut(|_| ());
        }
        retired
    }
}

#[test]
fn what_is_pinned_is_not_evicted_and_what_is_evicted_not_read() {
    loom::model(|| {
        let held = Arc::new(Held::default());
        let readers = [0, 1].map(|_| {
            let held = held.clone();
            thread::spawn(move || held.read())
        });
        let evicted = held.evict();
        let hits = readers.map(|reader| reader.join().unwrap());
        assert!(evicted || hits.contains(&true), "somebody was in the way");
        // Everybody has counted himself out again, also who came too late.
        assert!(held.tied.get().is_idle() != evicted);
        assert_eq!(held.evict(), !evicted);
        assert!(!held.read());
    });
}

#[test]
fn one_of_two_evictions_gets_it() {
    loom::model(|| {
        let held = Arc::new(Held::default());
        let other = held.clone();
        let other = thread::spawn(move || other.evict());
        assert!(held.evict() != other.join().unwrap());
    });
}

#[test]
fn a_mark_that_goes_meanwhile_keeps_nobody_from_evicting() {
    loom::model(|| {
        let held = Arc::new(Held::default());
        held.tied.set_unread(true);
        let other = held.clone();
        let cleared = thread::spawn(move || other.tied.set_unread(false));
        assert!(held.evict());
        let (before, after) = cleared.join().unwrap();
        assert!(before.is_unread() && !after.is_unread() && !held.tied.get().is_unread());
    });
}
