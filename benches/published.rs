//! What it costs to read what the driver publishes, to hit the pool, and to hand a page to who waits for
//! it; the first two beside the same under a mutex. `cargo bench --bench published`.
//!
//! Criterion gives the mean of a single reader. The table after it is of one and two readers beside a
//! writer, by median and P99 of batches of [`BATCH`] reads: one read is shorter than reading the clock.
//! Where the threads are more than the cores, P99 of a mutex is the time that its holder is off its core.

use braidfs::cache::pool::Pool;
use braidfs::chunk::{Class, Inode, MirrorId, PAGE_BYTES, Pages, ReaderId};
use braidfs::clock::now;
use braidfs::fetch::handle::Place;
use braidfs::fetch::opened::{OpenFile, Opened, Opening};
use braidfs::fetch::published::Published;
use braidfs::fetch::waiting::{Waiter, Waiting};
use braidfs::metrics::Metrics;
use braidfs::scheduler::{BreakerState, Live};
use criterion::Criterion;
use parking_lot::Mutex;
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// As many as a decision looks at.
const MIRRORS: u16 = 4;
/// Reads that are timed together.
const BATCH: u64 = 16;
/// Batches of one row: the P99 stands on 200 of them.
const BATCHES: usize = 20_000;
/// Hand-offs: the P99 stands on 30 of them.
const HANDOFFS: usize = 3000;
/// A driver that is busy drains so often: a body part of 64 KiB each at 3 GB/s.
const DRAIN_PERIOD: Duration = Duration::from_micros(20);
/// The pool of the hits.
const POOL_BYTES: u64 = 32 << 20;

const READ: Inode = Inode(1);
const WRITTEN: Inode = Inode(2);

fn live(turn: u64) -> Live {
    Live {
        state: BreakerState::Closed,
        reason: None,
        next_try: None,
        in_flight_bytes: turn << 16,
        in_flight_fetches: turn as usize & 7,
        load: (turn & 15) as f64 / 16.0,
        weight: 1.0 - (turn & 15) as f64 / 16.0,
        bytes_per_second: Some(1e8 + turn as f64),
        time_to_first_byte: Some(Duration::from_micros(2400)),
        stalled: 0,
    }
}

/// Calls `write` once a [`DRAIN_PERIOD`] while `read` runs.
fn beside<R>(write: impl Fn(u64) + Sync, read: impl FnOnce() -> R) -> R {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0.. {
                write(turn);
                let next = now() + DRAIN_PERIOD;
                while now() < next {
                    spin_loop();
                }
                if done.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let result = read();
        done.store(true, Ordering::Relaxed);
        result
    })
}

/// Nanoseconds of one `read`, by batches, of so many threads at once, sorted.
fn timed(threads: usize, read: &(impl Fn() + Sync)) -> Vec<f64> {
    let one = || {
        let batch = |_| {
            let from = now();
            (0..BATCH).for_each(|_| read());
            now().since(from).as_nanos() as f64 / BATCH as f64
        };
        (0..BATCHES).map(batch).collect::<Vec<f64>>()
    };
    let mut all: Vec<f64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a reader does not fail")).collect()
    });
    all.sort_by(f64::total_cmp);
    all
}

fn row(what: &str, sorted: &[f64]) {
    let at = |part: f64| sorted[(sorted.len() as f64 * part) as usize];
    println!("{what:<52} {:>10.0} {:>10.0}", at(0.5), at(0.99));
}

fn file(inode: Inode) -> Arc<OpenFile> {
    let opening = Opening { inode, path: b"a".to_vec(), size_bytes: POOL_BYTES, disk: None, rule: Default::default() };
    Opened::default().open(opening, |_| {})
}

fn hold(pool: &Pool, file: Inode, pages: Pages) {
    let memory = pool.reserve(file, pages, Class::Demand, true).expect("the pool has room");
    let body = vec![7; (pages.count() * PAGE_BYTES) as usize];
    memory.filler(pages, POOL_BYTES).fill(&body, |_| {});
}

/// What a fetch does to the pool, and the file's last state goes.
fn fetch_once(pool: &Pool, turn: u64) {
    let pages = Pages::new(turn % 8 * 16, turn % 8 * 16 + 16);
    hold(pool, WRITTEN, pages);
    pool.forget_file(WRITTEN);
}

fn state_rows() {
    let published = Published::new(usize::from(MIRRORS));
    let write = |turn| (0..MIRRORS).for_each(|at| published.publish(MirrorId(at), &live(turn)));
    let read = || {
        for at in 0..MIRRORS {
            black_box(published.live(MirrorId(at)));
        }
    };
    let locked = Mutex::new([live(0); MIRRORS as usize]);
    let write_locked = |turn| *locked.lock() = [live(turn); MIRRORS as usize];
    let read_locked = || {
        for at in 0..usize::from(MIRRORS) {
            black_box(locked.lock()[at]);
        }
    };
    for threads in [1, 2] {
        row(&format!("state of 4 mirrors, atomics, {threads} readers"), &beside(write, || timed(threads, &read)));
        let sorted = beside(write_locked, || timed(threads, &read_locked));
        row(&format!("state of 4 mirrors, mutex, {threads} readers"), &sorted);
    }
}

fn pool_rows() {
    let pool = Pool::new(POOL_BYTES, Arc::new(Metrics::default())).expect("memory can be mapped");
    hold(&pool, READ, Pages::new(0, 256));
    let read = || drop(black_box(pool.pinned(READ, Pages::new(32, 64)).expect("it is held")));
    let lock = Mutex::new(());
    let read_locked = || {
        let _held = lock.lock();
        read();
    };
    let write_locked = |turn| {
        let _held = lock.lock();
        fetch_once(&pool, turn);
    };
    for threads in [1, 2] {
        let sorted = beside(|turn| fetch_once(&pool, turn), || timed(threads, &read));
        row(&format!("hit in the pool, no lock, {threads} readers"), &sorted);
        let sorted = beside(write_locked, || timed(threads, &read_locked));
        row(&format!("hit in the pool, one mutex, {threads} readers"), &sorted);
    }
}

/// A page arrives for a read that waits: to its answer, and until its thread runs again.
fn handoff_rows() {
    let metrics = Arc::new(Metrics::default());
    let pool = Pool::new(POOL_BYTES, metrics.clone()).expect("memory can be mapped");
    let (file, waiting) = (file(READ), Waiting::default());
    let mut woken = Vec::with_capacity(HANDOFFS);
    let awake_at = Arc::new(AtomicU64::new(0));
    for at in 0..HANDOFFS as u64 {
        let page = at % 4096;
        let pages = Pages::new(page, page + 1);
        let memory = pool.reserve(READ, pages, Class::Demand, false).expect("the pool has room");
        awake_at.store(0, Ordering::Relaxed);
        let answered = Arc::new(AtomicBool::new(false));
        let (flag, awake) = (answered.clone(), awake_at.clone());
        let reader = thread::spawn(move || {
            while !flag.load(Ordering::Acquire) {
                thread::park();
            }
            awake.store(now().0, Ordering::Release);
        });
        let sleeper = reader.thread().clone();
        let answer = move |bytes: Result<&[u8], _>| {
            assert!(bytes.is_ok());
            answered.store(true, Ordering::Release);
            sleeper.unpark();
        };
        let place = Place { reader: ReaderId(0), in_order: false };
        let waiter = Waiter::new(file.clone(), pages, pages.bytes(POOL_BYTES), place, None, Box::new(answer));
        waiting.add(waiter, &metrics);
        // Long enough for the reader to be asleep.
        let asleep = now() + Duration::from_micros(300);
        while now() < asleep {
            spin_loop();
        }
        memory.filler(pages, POOL_BYTES).fill(&[7; PAGE_BYTES as usize], |_| {});
        let from = now();
        waiting.published(READ, pages, page, &pool, &metrics);
        reader.join().expect("it only waits");
        woken.push(awake_at.load(Ordering::Acquire).saturating_sub(from.0) as f64);
        drop(memory);
        pool.evict(READ, pages);
    }
    woken.sort_by(f64::total_cmp);
    row("hand-off: a page published to the reader awake", &woken);
    let report = waiting.handoffs.report().expect("reads were answered");
    let nanos = |length: Duration| length.as_nanos();
    println!("{:<52} {:>10} {:>10}", "  of it, to the answer", nanos(report.median), nanos(report.p99));
}

fn means(criterion: &mut Criterion) {
    let published = Published::new(1);
    published.publish(MirrorId(0), &live(3));
    criterion.bench_function("one mirror's state, atomics", |bencher| bencher.iter(|| published.live(MirrorId(0))));
    let locked = Mutex::new(live(3));
    criterion.bench_function("one mirror's state, mutex", |bencher| bencher.iter(|| *locked.lock()));
    let pool = Pool::new(POOL_BYTES, Arc::new(Metrics::default())).expect("memory can be mapped");
    hold(&pool, READ, Pages::new(0, 256));
    criterion.bench_function("hit in the pool", |bencher| {
        bencher.iter(|| pool.pinned(READ, Pages::new(32, 64)).is_some());
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    means(&mut criterion);
    criterion.final_summary();
    // As a test (`cargo test --benches`) it only has to run.
    if std::env::args().any(|argument| argument == "--bench") {
        println!("\n{:<52} {:>10} {:>10}", "beside a writer at a driver's speed", "median ns", "P99 ns");
        state_rows();
        pool_rows();
        handoff_rows();
    }
}
