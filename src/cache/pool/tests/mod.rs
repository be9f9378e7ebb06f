//! The pool's rules, one test each; fillers; a model; threads at once; what takes no lock; every order of pins and evictions.

mod ahead;
mod filler;
mod model;
mod modelled;
mod threads;
mod unlocked;

use super::*;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;

const MIB: u64 = 1 << 20;
const FILE: Inode = Inode(7);
/// Larger than any file here.
const SIZE_BYTES: u64 = 1 << 40;

pub(super) fn pool_of(limit_mib: u64) -> Pool {
    Pool::new(limit_mib * MIB, Arc::new(Metrics::default())).unwrap()
}

/// What a page of a file contains: some place of a table of noise that depends on the page, and
/// first of all its name.
pub(super) fn body(file: Inode, pages: Pages, size_bytes: u64) -> Vec<u8> {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    let mix = |at: u64| at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let noise = NOISE.get_or_init(|| (0..8192).map(|at| mix(at * at + 1) as u8).collect());
    let mut bytes = Vec::with_capacity(pages.count() as usize * 4096);
    for page in pages.iter() {
        let from = mix(page ^ file.0 << 32) as usize % 4096;
        bytes.extend_from_slice(&(page ^ file.0 << 32).to_le_bytes());
        bytes.extend_from_slice(&noise[from..from + 4088]);
    }
    bytes.truncate(pages.len_bytes(size_bytes) as usize);
    bytes
}

pub(super) fn fill(reservation: &Reservation, pages: Pages) -> Vec<Pages> {
    let mut arrived = Vec::new();
    let bytes = body(reservation.file(), pages, SIZE_BYTES);
    reservation.filler(pages, SIZE_BYTES).fill(&bytes, |pages| arrived.push(pages));
    arrived
}

/// Reserves, fills and lets go.
fn hold(pool: &Pool, file: Inode, pages: Pages, class: Class, stream: bool) {
    let reservation = pool.reserve(file, pages, class, stream).unwrap();
    fill(&reservation, pages);
}

fn is_held(pool: &Pool, file: Inode, pages: Pages) -> bool {
    let (missing, held) = (pool.missing(file, pages), pool.held(file, pages));
    let mut both: Vec<Pages> = missing.iter().chain(&held).copied().collect();
    both.sort_unstable();
    assert!(both.windows(2).all(|pair| pair[0].end == pair[1].start), "{missing:?} {held:?}");
    assert_eq!(both.iter().map(|run| run.count()).sum::<u64>(), pages.count(), "{missing:?} {held:?}");
    missing.is_empty()
}

fn extent(at: u64) -> Pages {
    Pages::new(at * 256, (at + 1) * 256)
}

#[test]
fn a_small_file_is_one_stretch_and_costs_its_pages() {
    let pool = pool_of(4);
    for file in 0..50 {
        hold(&pool, Inode(file), Pages::new(0, 10), Class::Demand, false);
    }
    assert!((0..50).all(|file| pool.pinned(Inode(file), Pages::new(0, 10)).is_some()));
    assert_eq!(pool.used_bytes(), 50 * 10 * 4096);
    pool.0.arena.check();
}

#[test]
fn a_stream_gets_whole_extents_where_it_wants_much_of_them() {
    let pool = pool_of(8);
    let pages = Pages::new(256 - 10, 1024);
    let reservation = pool.reserve(FILE, pages, Class::Demand, true).unwrap();
    assert_eq!(pool.used_bytes(), 3 * MIB + 10 * 4096);
    assert_eq!(fill(&reservation, pages), [pages]);
    assert!(pool.pinned(FILE, extent(1)).is_some());
    // A read across runs is copied.
    let across = Pages::new(250, 300);
    assert!(pool.pinned(FILE, across).is_none());
    let mut into = vec![0; 50 * 4096];
    assert!(pool.copy(FILE, across, &mut into) && into == body(FILE, across, SIZE_BYTES));
    into.fill(0);
    assert!(reservation.copy(across, &mut into) && into == body(FILE, across, SIZE_BYTES));
}

#[test]
fn slots_of_a_group_move_into_its_extent_with_their_bytes() {
    let pool = pool_of(4);
    hold(&pool, FILE, Pages::new(5, 6), Class::Demand, false);
    hold(&pool, FILE, Pages::new(100, 110), Class::Demand, false);
    let pinned = pool.pinned(FILE, Pages::new(5, 6)).unwrap();
    let reservation = pool.reserve(FILE, extent(0), Class::Demand, true).unwrap();
    let missing = pool.missing(FILE, extent(0));
    assert_eq!(missing, [Pages::new(0, 5), Pages::new(6, 100), Pages::new(110, 256)]);
    assert_eq!(fill(&reservation, extent(0)), missing);
    assert_eq!(pool.pinned(FILE, extent(0)).unwrap()[..], body(FILE, extent(0), SIZE_BYTES));
    assert_eq!(pool.used_bytes(), MIB + 4096, "the pinned page has its old memory until it is let go of");
    drop(pinned);
    assert_eq!(pool.used_bytes(), MIB);
    // While somebody waits for slots of a group, they stay.
    let waits = pool.reserve(FILE, Pages::new(256, 257), Class::Demand, false).unwrap();
    let reservation = pool.reserve(FILE, extent(1), Class::Demand, true).unwrap();
    assert_eq!(pool.used_bytes(), 2 * MIB);
    assert_eq!(fill(&reservation, extent(1)), [extent(1)]);
    assert!(waits.bytes_if_held(Pages::new(256, 257)).is_some());
}

#[test]
fn a_reservation_is_whole_or_nothing() {
    let pool = pool_of(4);
    let full = pool.reserve(FILE, Pages::new(0, 1025), Class::Demand, true).unwrap_err();
    assert_eq!(full, PoolFull { wanted_bytes: 1025 * 4096, available_bytes: 4 * MIB });
    assert_eq!(pool.used_bytes(), 0);
    let first = pool.reserve(FILE, Pages::new(0, 600), Class::Demand, true).unwrap();
    let used = pool.used_bytes();
    assert!(pool.reserve(Inode(8), Pages::new(0, 600), Class::Demand, true).is_err());
    assert_eq!(pool.used_bytes(), used);
    // What is reserved by another is shared, so it needs no memory.
    let second = pool.reserve(FILE, Pages::new(0, 600), Class::Demand, true).unwrap();
    assert_eq!(pool.used_bytes(), used);
    drop(first);
    assert_eq!(pool.used_bytes(), used);
    fill(&second, Pages::new(0, 1));
    drop(second);
    assert_eq!(pool.used_bytes(), MIB, "only the run with a held page stays");
    pool.forget_file(FILE);
    assert_eq!(pool.used_bytes(), 0);
    pool.0.arena.check();
}

#[test]
fn what_is_pinned_or_reserved_stays() {
    let pool = pool_of(4);
    hold(&pool, FILE, extent(0), Class::Demand, true);
    hold(&pool, Inode(8), extent(0), Class::Demand, true);
    let pinned = pool.pinned(FILE, Pages::new(3, 5)).unwrap();
    let reserved = pool.reserve(Inode(8), Pages::new(0, 1), Class::Demand, false).unwrap();
    pool.evict(FILE, extent(0));
    pool.evict(Inode(8), extent(0));
    assert!(is_held(&pool, FILE, extent(0)) && is_held(&pool, Inode(8), extent(0)));
    assert!(pool.reserve(Inode(9), Pages::new(0, 1024), Class::Demand, true).is_err());
    drop(pool.reserve(Inode(9), Pages::new(0, 512), Class::Demand, true).unwrap());
    assert!(is_held(&pool, FILE, extent(0)) && is_held(&pool, Inode(8), extent(0)));
    pool.forget_file(FILE);
    assert!(pool.pinned(FILE, Pages::new(3, 5)).is_none());
    assert_eq!(pool.used_bytes(), 2 * MIB);
    drop(pool.reserve(Inode(9), Pages::new(0, 512), Class::Demand, true).unwrap());
    assert_eq!(pinned[..], body(FILE, Pages::new(3, 5), SIZE_BYTES));
    drop(reserved);
    drop(pool);
    assert_eq!(pinned[..], body(FILE, Pages::new(3, 5), SIZE_BYTES), "even longer than the pool");
}

#[test]
fn consumed_goes_first_and_then_the_least_recently_looked_at() {
    let pool = pool_of(4);
    (0..4).for_each(|at| hold(&pool, FILE, extent(at), Class::Demand, true));
    pool.mark_consumed(FILE, extent(2));
    pool.mark_consumed(FILE, Pages::new(0, 255));
    hold(&pool, Inode(8), extent(0), Class::Demand, true);
    assert_eq!(pool.missing(FILE, Pages::new(0, 1024)), [extent(2)], "extent 0 is not consumed to its end");
    drop(pool.pinned(FILE, extent(0)));
    hold(&pool, Inode(8), extent(1), Class::Demand, true);
    assert_eq!(pool.missing(FILE, Pages::new(0, 1024)), [Pages::new(256, 768)]);
    let mut dropped = Vec::new();
    pool.take_dropped(&mut dropped);
    assert_eq!(dropped, [(FILE, extent(2)), (FILE, extent(1))]);
    dropped.clear();
    pool.take_dropped(&mut dropped);
    assert!(dropped.is_empty());
    assert_eq!(pool.0.metrics.memory_evicted_bytes.get(), 2 * MIB);
}

#[test]
fn what_readers_are_past_is_used_again_before_more_memory_is_touched() {
    let pool = pool_of(16);
    for at in 0..16 {
        hold(&pool, FILE, extent(at), Class::Readahead, true);
        pool.mark_consumed(FILE, extent(at));
    }
    assert_eq!(pool.resident_bytes(), 2 * MIB);
    // What a reader has not come to yet stays, and memory grows for it.
    let mut mine = Vec::new();
    for at in 20..28 {
        mine.push(extent(at));
        hold(&pool, FILE, extent(at), Class::Readahead, true);
    }
    assert!(mine.iter().all(|&pages| is_held(&pool, FILE, pages)));
}

#[test]
fn background_work_leaves_unread_pages_and_a_share_alone_and_demand_does_not() {
    let pool = pool_of(8);
    assert_eq!(pool.available_bytes(Class::Readahead), 6 * MIB);
    (0..6).for_each(|at| hold(&pool, FILE, extent(at), Class::Readahead, true));
    assert_eq!((pool.available_bytes(Class::Prefetch), pool.available_bytes(Class::Demand)), (0, 8 * MIB));
    assert!(pool.reserve(FILE, extent(6), Class::Prefetch, true).is_err());
    assert!(is_held(&pool, FILE, Pages::new(0, 6 * 256)));
    // A reader comes for some: that much may be read ahead in their place, once memory is short.
    drop(pool.pinned(FILE, Pages::new(0, 1)));
    assert_eq!(pool.available_bytes(Class::Readahead), MIB);
    hold(&pool, FILE, extent(6), Class::Readahead, true);
    hold(&pool, Inode(8), extent(0), Class::Demand, true);
    assert!(pool.reserve(FILE, extent(7), Class::Readahead, true).is_err());
    // Demand takes unread pages where it must.
    let all = pool.reserve(Inode(9), Pages::new(0, 2048), Class::Demand, true).unwrap();
    assert_eq!(pool.missing(FILE, Pages::new(0, 2048)), [Pages::new(0, 2048)]);
    assert_eq!(pool.available_bytes(Class::Demand), 0);
    drop(all);
    let arena = &pool.0.arena;
    let counters = [&arena.reserved_bytes, &arena.unread_bytes, &arena.idle_unread_bytes];
    assert!(counters.iter().all(|counter| counter.load(Ordering::SeqCst) == 0));
}

#[test]
fn background_work_takes_what_was_read_but_not_just_now() {
    let pool = pool_of(16);
    (0..16).for_each(|at| hold(&pool, FILE, extent(at), Class::Demand, true));
    (1..16).for_each(|at| drop(pool.pinned(FILE, extent(at))));
    assert!(pool.reserve(Inode(8), Pages::new(0, 512), Class::Readahead, true).is_err());
    assert!(is_held(&pool, FILE, Pages::new(256, 16 * 256)), "all but the first were read just now");
    assert_eq!(pool.available_bytes(Class::Readahead), MIB, "and so it is not promised again at once");
    let now = Time(1_000_000_000);
    pool.give_back(now);
    pool.give_back(now + std::time::Duration::from_secs(3));
    assert_eq!(pool.available_bytes(Class::Readahead), 12 * MIB);
    hold(&pool, Inode(8), Pages::new(0, 12 * 256), Class::Readahead, true);
    assert!(pool.reserve(Inode(9), extent(0), Class::Readahead, true).is_err());
    // Unread, and nobody came for a long time: worth no more than the next readahead.
    pool.give_back(now + std::time::Duration::from_secs(60));
    hold(&pool, Inode(9), Pages::new(0, 12 * 256), Class::Readahead, true);
}

#[test]
fn a_stream_gets_extents_out_of_a_pool_full_of_lone_pages() {
    let pool = pool_of(4);
    (0..1024).for_each(|at| hold(&pool, FILE, Pages::new(at * 300, at * 300 + 1), Class::Demand, false));
    assert_eq!(pool.used_bytes(), 4 * MIB);
    let pinned = pool.pinned(FILE, Pages::new(0, 1)).unwrap();
    // The second extent is the warmest, the first cannot be emptied.
    drop(pool.pinned(FILE, Pages::new(300 * 300, 300 * 300 + 1)));
    hold(&pool, Inode(8), extent(0), Class::Demand, true);
    assert!(pool.pinned(Inode(8), extent(0)).is_some());
    assert!(is_held(&pool, FILE, pinned.pages()) && pool.used_bytes() == 4 * MIB);
    let mut dropped = Vec::new();
    pool.take_dropped(&mut dropped);
    assert_eq!(dropped.len(), 256, "one extent, and no page of another");
    // And lone pages get slots out of a pool full of extents.
    pool.forget_file(FILE);
    hold(&pool, Inode(8), Pages::new(256, 768), Class::Demand, true);
    hold(&pool, Inode(9), Pages::new(5, 6), Class::Demand, false);
    assert_eq!(pool.pinned(Inode(9), Pages::new(5, 6)).unwrap()[..], body(Inode(9), Pages::new(5, 6), SIZE_BYTES));
    pool.0.arena.check();
}

#[test]
fn where_no_neighbours_are_free_several_gaps_do() {
    let pool = pool_of(4);
    (0..1024).for_each(|at| hold(&pool, FILE, Pages::new(at * 300, at * 300 + 1), Class::Demand, false));
    // Every second page stays.
    let pins: Vec<_> = (0..512).map(|at| pool.pinned(FILE, Pages::new(at * 600, at * 600 + 1)).unwrap()).collect();
    let pages = Pages::new(0, 200);
    hold(&pool, Inode(8), pages, Class::Demand, true);
    let mut into = vec![0; 200 * 4096];
    assert!(pool.copy(Inode(8), pages, &mut into) && into == body(Inode(8), pages, SIZE_BYTES));
    assert!(pool.reserve(Inode(9), Pages::new(0, 513), Class::Demand, false).is_err());
    for pinned in pins {
        assert_eq!(pinned[..], body(FILE, pinned.pages(), SIZE_BYTES));
    }
    pool.0.arena.check();
}

#[test]
fn who_failed_is_told_when_something_is_freed_and_may_reserve_from_the_hook() {
    let pool = pool_of(4);
    let calls = Arc::new(AtomicUsize::new(0));
    let (hook_pool, hook_calls) = (pool.clone(), calls.clone());
    let hook = move || {
        hook_calls.fetch_add(1, Ordering::SeqCst);
        let _ = hook_pool.reserve(Inode(9), Pages::new(0, 1), Class::Demand, false);
    };
    assert!(pool.on_freed(Box::new(hook)));
    assert!(!pool.on_freed(Box::new(|| {})));
    let calls = || calls.load(Ordering::SeqCst);
    hold(&pool, FILE, Pages::new(0, 1024), Class::Demand, true);
    drop(pool.pinned(FILE, extent(0)));
    assert_eq!(calls(), 0, "nobody waits");

    let pin = pool.pinned(FILE, extent(0)).unwrap();
    assert!(pool.reserve(Inode(8), Pages::new(0, 1024), Class::Demand, true).is_err());
    let before = calls();
    drop(pin);
    assert_eq!(calls(), before + 1);
    let reservation = pool.reserve(Inode(8), Pages::new(0, 1024), Class::Demand, true).unwrap();
    let before = calls();
    assert!(pool.reserve(FILE, Pages::new(0, 1), Class::Demand, false).is_err());
    assert_eq!(calls(), before, "a failure frees nothing");
    drop(reservation);
    assert_eq!(calls(), before + 1);
}

#[test]
fn bytes_used_elsewhere_come_off_the_limit() {
    let pool = pool_of(16);
    hold(&pool, FILE, Pages::new(0, 16 * 256), Class::Demand, true);
    assert_eq!(pool.resident_bytes(), 16 * MIB);
    let pin = pool.pinned(FILE, extent(0)).unwrap();
    pool.set_external_bytes(6 * MIB - 1);
    assert!(pool.used_bytes() <= 10 * MIB && pool.resident_bytes() <= 10 * MIB, "{pool:?}");
    assert_eq!(pool.available_bytes(Class::Demand), 10 * MIB);
    assert!(pool.reserve(Inode(8), Pages::new(0, 10 * 256), Class::Demand, true).is_err(), "one is pinned");
    drop(pin);
    drop(pool.reserve(Inode(8), Pages::new(0, 10 * 256), Class::Demand, true).unwrap());
    pool.set_external_bytes(1 << 40);
    drop(pool.reserve(Inode(8), Pages::new(0, 4 * 256), Class::Demand, true).unwrap());
    pool.set_external_bytes(0);
    drop(pool.reserve(Inode(8), Pages::new(0, 16 * 256), Class::Demand, true).unwrap());
}

#[test]
fn idle_memory_is_given_back_after_some_seconds() {
    let pool = pool_of(8);
    let at = |seconds: u64| Time(seconds * 1_000_000_000);
    hold(&pool, FILE, Pages::new(0, 4 * 256), Class::Demand, true);
    pool.evict(FILE, Pages::new(256, 1024));
    pool.give_back(at(1));
    pool.give_back(at(5));
    assert_eq!(pool.resident_bytes(), 4 * MIB);
    pool.give_back(at(6));
    assert_eq!((pool.resident_bytes(), pool.used_bytes()), (2 * MIB, MIB), "the unit with a held page stays");
    assert_eq!(pool.pinned(FILE, extent(0)).unwrap()[..], body(FILE, extent(0), SIZE_BYTES));
    hold(&pool, FILE, Pages::new(0, 4 * 256), Class::Demand, true);
    assert!(is_held(&pool, FILE, Pages::new(0, 1024)) && pool.resident_bytes() == 4 * MIB);
}

#[test]
fn a_limit_that_is_too_small_is_refused_by_name() {
    let error = Pool::new(MIB, Arc::default()).unwrap_err();
    assert!(error.to_string().contains("1048576") && error.to_string().contains("4194304"), "{error}");
    assert_eq!(Pool::new(5 * MIB - 1, Arc::default()).unwrap().limit_bytes(), 4 * MIB);
}

#[test]
fn what_is_held_is_told_in_order_with_neighbours_joined() {
    let pool = pool_of(8);
    for (start, end) in [(255, 257), (600, 601), (3, 9), (257, 258)] {
        hold(&pool, FILE, Pages::new(start, end), Class::Demand, false);
    }
    hold(&pool, Inode(8), extent(0), Class::Demand, true);
    let all = Pages::of_file(1 << 60);
    assert_eq!(pool.held(FILE, all), [Pages::new(3, 9), Pages::new(255, 258), Pages::new(600, 601)]);
    assert_eq!(pool.held(FILE, Pages::new(5, 256)), [Pages::new(5, 9), Pages::new(255, 256)]);
    assert!(pool.held(FILE, Pages::new(9, 255)).is_empty() && pool.held(Inode(9), all).is_empty());
}
