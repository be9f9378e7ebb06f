//! A read of held pages takes no lock that who fetches, reserves or evicts can hold.

use super::*;
use std::sync::mpsc;
use std::time::Duration;

/// Far more than a look-up takes: it only bounds a hang.
const HANGS: Duration = Duration::from_secs(20);

/// Holds every lock of the pool while `read` runs on another thread.
fn beside_all_locks(pool: &Pool, read: impl FnOnce(&Pool) + Send + 'static) {
    let held = pool.hold_locks();
    let (done, ended) = mpsc::channel();
    let reader = pool.clone();
    let thread = std::thread::spawn(move || {
        read(&reader);
        done.send(()).unwrap();
    });
    let ended = ended.recv_timeout(HANGS);
    // Let go of first: a reader that hangs shall fail the test, not hang it.
    drop(held);
    thread.join().unwrap();
    ended.expect("a hit waited for a lock");
}

#[test]
fn a_hit_waits_for_nobody_who_holds_a_lock() {
    let pool = pool_of(8);
    hold(&pool, FILE, extent(0), Class::Demand, true);
    hold(&pool, Inode(8), Pages::new(3, 5), Class::Demand, false);
    hold(&pool, Inode(8), Pages::new(5, 9), Class::Demand, false);
    beside_all_locks(&pool, |pool| {
        let pinned = pool.pinned(FILE, Pages::new(7, 20)).unwrap();
        assert_eq!(pinned[..], body(FILE, Pages::new(7, 20), SIZE_BYTES));
        assert!(pool.pinned(FILE, Pages::new(256, 257)).is_none());
        assert!(pool.missing(Inode(8), Pages::new(3, 9)).is_empty());
        let mut into = vec![0; 6 * 4096];
        assert!(pool.copy(Inode(8), Pages::new(3, 9), &mut into));
        assert_eq!(into, body(Inode(8), Pages::new(3, 9), SIZE_BYTES));
        pool.mark_consumed(FILE, extent(0));
    });
    // What was said meanwhile counts.
    pool.reserve(Inode(9), Pages::new(0, 7 * 256), Class::Demand, true).unwrap();
    assert!(!is_held(&pool, FILE, extent(0)) && is_held(&pool, Inode(8), Pages::new(3, 9)));
}

#[test]
fn nor_does_who_lets_go_of_memory_last() {
    let pool = pool_of(4);
    hold(&pool, FILE, extent(0), Class::Demand, true);
    let pinned = pool.pinned(FILE, extent(0)).unwrap();
    pool.forget_file(FILE);
    assert_eq!(pool.used_bytes(), MIB);
    let rung = Arc::new(AtomicUsize::new(0));
    let count = rung.clone();
    pool.on_freed(Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    pool.reserve(FILE, Pages::new(0, 4 * 256), Class::Demand, true).unwrap_err();
    beside_all_locks(&pool, move |pool| {
        drop(pinned);
        assert_eq!(pool.used_bytes(), 0);
    });
    assert_eq!(rung.load(Ordering::SeqCst), 1, "who waits for memory is told, too");
    pool.reserve(FILE, Pages::new(0, 4 * 256), Class::Demand, true).unwrap();
    pool.0.arena.check();
}

#[test]
fn a_hit_goes_on_beside_a_body_that_is_being_written() {
    let pool = pool_of(4);
    let reservation = pool.reserve(FILE, Pages::new(0, 128), Class::Demand, true).unwrap();
    let mut filler = reservation.filler(Pages::new(0, 128), SIZE_BYTES);
    filler.fill(&body(FILE, Pages::new(0, 65), SIZE_BYTES)[..64 * 4096 + 100], |_| {});
    // The filler is in the middle of page 64, in the run that is read.
    filler
        .fill_with(
            Pages::new(65, 66),
            |_, _| {
                beside_all_locks(&pool, |pool| {
                    let pinned = pool.pinned(FILE, Pages::new(0, 64)).unwrap();
                    assert_eq!(pinned[..], body(FILE, Pages::new(0, 64), SIZE_BYTES));
                    assert!(pool.pinned(FILE, Pages::new(0, 65)).is_none());
                });
                Ok(0)
            },
            |_| {},
        )
        .unwrap();
}
