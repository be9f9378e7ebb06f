//! Memory that is touched before it is needed.

use super::*;
use crate::clock;
use std::time::Duration;

fn touching(limit_mib: u64) -> Pool {
    let pool = pool_of(limit_mib);
    pool.touch_ahead().unwrap();
    pool
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let until = clock::now() + Duration::from_secs(20);
    while !holds() {
        assert!(clock::now() < until, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// The thread has come to its end: what is resident is what it shall be, and nothing is being touched.
fn settles_at(pool: &Pool, bytes: u64) {
    let settled = || pool.resident_bytes() == bytes && !pool.0.arena.is_touching();
    wait_until(&format!("{bytes} bytes are resident"), settled);
    pool.0.arena.check();
}

#[test]
fn the_next_huge_page_is_there_before_it_is_needed() {
    let pool = touching(16);
    assert_eq!(pool.resident_bytes(), 0, "who reads nothing needs nothing");
    hold(&pool, FILE, Pages::new(0, 1), Class::Demand, false);
    settles_at(&pool, 4 * MIB);
    // A second extent is taken, and one is still to be had without another unit.
    hold(&pool, Inode(8), extent(0), Class::Demand, true);
    settles_at(&pool, 4 * MIB);
    hold(&pool, Inode(8), extent(1), Class::Demand, true);
    settles_at(&pool, 6 * MIB);
    assert!(is_held(&pool, FILE, Pages::new(0, 1)) && is_held(&pool, Inode(8), Pages::new(0, 512)));
}

#[test]
fn no_more_is_touched_than_may_be_in_use() {
    let pool = pool_of(8);
    pool.set_external_bytes(2 * MIB);
    (0..5).for_each(|at| hold(&pool, FILE, extent(at), Class::Demand, true));
    pool.0.arena.touch_ahead();
    assert_eq!(pool.resident_bytes(), 6 * MIB);
    pool.set_external_bytes(0);
    pool.0.arena.touch_ahead();
    assert_eq!(pool.resident_bytes(), 8 * MIB);
    pool.0.arena.check();
}

/// A stream whose memory is used again wakes nobody.
#[test]
fn the_thread_is_told_only_when_there_is_something_to_touch() {
    let pool = pool_of(16);
    let (toucher, told) = std::sync::mpsc::sync_channel(1);
    pool.0.arena.set_toucher(toucher);
    hold(&pool, FILE, extent(0), Class::Readahead, true);
    assert!(told.try_recv().is_ok());
    pool.0.arena.touch_ahead();
    for at in 1..64 {
        pool.mark_consumed(FILE, extent(at - 1));
        hold(&pool, FILE, extent(at), Class::Readahead, true);
        assert!(told.try_recv().is_err(), "told at {at}");
    }
}

#[test]
fn what_was_touched_ahead_is_given_back_like_any_other() {
    let pool = touching(16);
    hold(&pool, FILE, Pages::new(0, 1), Class::Demand, false);
    settles_at(&pool, 4 * MIB);
    pool.give_back(Time(1_000_000_000));
    pool.give_back(Time(6_000_000_000));
    settles_at(&pool, 2 * MIB);
}

#[test]
fn what_readers_are_past_still_goes_before_what_was_touched_ahead() {
    let pool = touching(16);
    for at in 0..16 {
        hold(&pool, FILE, extent(at), Class::Readahead, true);
        pool.mark_consumed(FILE, extent(at));
    }
    settles_at(&pool, 4 * MIB);
}

#[test]
fn the_thread_ends_with_its_pool() {
    let pool = touching(16);
    let arena = Arc::downgrade(&pool.0.arena);
    hold(&pool, FILE, Pages::new(0, 1), Class::Demand, false);
    drop(pool);
    wait_until("nobody keeps the memory", || arena.strong_count() == 0);
}
