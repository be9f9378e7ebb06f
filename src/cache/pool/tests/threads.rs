//! Fillers, readers and evictions at once, on the same pages of a pool that is too small for them.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::atomic::AtomicBool;

const FILES: u64 = 2;
const FILE_PAGES: u64 = 2000;
const ROUNDS: usize = 400;

fn some_pages(random: &mut StdRng) -> Pages {
    let count = if random.random_bool(0.5) { random.random_range(1..5) } else { random.random_range(64..400) };
    let start = random.random_range(0..FILE_PAGES - count);
    Pages::new(start, start + count)
}

/// Words of a page, without making the page anew for each look.
fn check(file: Inode, pages: Pages, bytes: &[u8]) {
    for page in pages.iter() {
        let at = ((page - pages.start) * 4096) as usize;
        assert!(bytes[at..at + 4096] == body(file, Pages::new(page, page + 1), SIZE_BYTES), "page {page} is wrong");
    }
}

fn fill_some(pool: &Pool, random: &mut StdRng) {
    let (file, pages) = (Inode(random.random_range(0..FILES)), some_pages(random));
    let class = [Class::Demand, Class::Readahead, Class::Prefetch][random.random_range(0..3)];
    let Ok(reservation) = pool.reserve(file, pages, class, random.random_bool(0.7)) else { return };
    let bytes = body(file, pages, SIZE_BYTES);
    let short = if random.random_bool(0.2) { random.random_range(0..bytes.len()) } else { bytes.len() };
    let mut filler = reservation.filler(pages, SIZE_BYTES);
    for bytes in bytes[..short].chunks(random.random_range(1000..70_000)) {
        filler.fill(bytes, |arrived| {
            for part in arrived.split(256) {
                let mut into = vec![0; part.count() as usize * 4096];
                assert!(reservation.copy(part, &mut into), "what arrived stays while it is reserved");
                check(file, part, &into);
            }
        });
    }
}

fn read_some(pool: &Pool, random: &mut StdRng) {
    let (file, pages) = (Inode(random.random_range(0..FILES)), some_pages(random));
    for part in pages.split(256) {
        if let Some(pinned) = pool.pinned(file, part) {
            check(file, part, &pinned);
        }
    }
    let mut into = vec![0; pages.count() as usize * 4096];
    if pool.copy(file, pages, &mut into) {
        check(file, pages, &into);
    }
    match random.random_range(0..20) {
        0 => pool.evict(file, pages),
        1 => pool.forget_file(file),
        2 => pool.set_external_bytes(random.random_range(0..4) * MIB),
        3 => pool.give_back(Time(random.random_range(0..100) * 1_000_000_000)),
        _ => pool.mark_consumed(file, pages),
    }
}

#[test]
fn no_thread_sees_a_wrong_byte_or_a_broken_bound() {
    let pool = pool_of(8);
    pool.touch_ahead().unwrap();
    let hooked = pool.clone();
    pool.on_freed(Box::new(move || assert!(hooked.used_bytes() <= hooked.limit_bytes())));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let work = |seed: u64, step: fn(&Pool, &mut StdRng)| {
            let pool = pool.clone();
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(seed);
                (0..ROUNDS).for_each(|_| step(&pool, &mut random));
            })
        };
        let workers: Vec<_> =
            (0..3).map(|seed| work(seed, fill_some)).chain((3..6).map(|seed| work(seed, read_some))).collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(pool.used_bytes() <= pool.limit_bytes());
                std::thread::yield_now();
            }
        });
        let failed = workers.into_iter().any(|worker| worker.join().is_err());
        done.store(true, Ordering::Relaxed);
        assert!(!failed);
    });
    pool.0.arena.check();
    (0..FILES).for_each(|file| pool.forget_file(Inode(file)));
    assert_eq!(pool.used_bytes(), 0);
    let arena = &pool.0.arena;
    let counters = [&arena.reserved_bytes, &arena.unread_bytes, &arena.idle_unread_bytes];
    assert!(counters.iter().all(|counter| counter.load(Ordering::SeqCst) == 0));
}
