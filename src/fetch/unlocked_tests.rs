//! A read that hits memory is answered while the driver stands still and everything that it, a fetch or
//! somebody who writes to the pool may hold is held.

use crate::cache::pool::Pool;
use crate::chunk::{Class, Inode, Pages};
use crate::clock::now;
use crate::fetch::engine::{Engine, Parts};
use crate::fetch::handle::Handle;
use crate::fetch::inbox::Command;
use crate::fetch::opened::Opening;
use crate::fetch::settings::Settings;
use crate::metrics::Metrics;
use crate::namespace::{self, Namespace};
use crate::scheduler::{self, Scheduler};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Far more than any of it takes: it only bounds a hang.
const HANGS: Duration = Duration::from_secs(20);
const SIZE_BYTES: u64 = 2 << 20;

fn engine() -> Arc<Engine> {
    let metrics = Arc::new(Metrics::default());
    let pool = Pool::new(8 << 20, metrics.clone()).unwrap();
    let (sources, index_sources) = Default::default();
    let parts = Parts {
        settings: Settings::default(),
        metrics,
        pool,
        disk: None,
        sources,
        index_sources,
        rules: Default::default(),
    };
    let namespace = Namespace::new(namespace::Settings::default(), Vec::new());
    let scheduler = Scheduler::new(scheduler::Settings::default(), 0, 1, now());
    Engine::start(parts, namespace, scheduler).unwrap()
}

/// An open file, all of it in memory: its page `n` is full of `n`.
fn held(engine: &Engine, inode: Inode) -> Arc<Handle> {
    let opening = Opening {
        inode,
        path: vec![b'a'; inode.0 as usize],
        size_bytes: SIZE_BYTES,
        disk: None,
        rule: Default::default(),
    };
    let pages = Pages::of_file(SIZE_BYTES);
    let memory = engine.plane.pool.reserve(inode, pages, Class::Demand, true).unwrap();
    let body: Vec<u8> = pages.iter().flat_map(|page| [page as u8; 4096]).collect();
    memory.filler(pages, SIZE_BYTES).fill(&body, |_| {});
    Arc::new(Handle::new(engine.plane.opened.open(opening, |_| {})))
}

/// Reads in order, at random, and across two extents: every way through a handle.
fn read_all(engine: &Engine, handle: &Handle) {
    let in_order = (0..16).map(|at| (at << 17, 1 << 17));
    let others = [(5 << 12, 4096), (400 << 12, 4096), ((1 << 20) - 4096, 8192), (77, 100)];
    for (offset, length) in in_order.chain(others) {
        let (answer, answered) = mpsc::channel();
        engine.read(handle, offset, length, move |bytes| answer.send(bytes.map(<[u8]>::to_vec)).unwrap());
        // A hit is answered before the call returns.
        let bytes = answered.try_recv().expect("a hit waited for somebody").unwrap();
        assert_eq!(bytes.len() as u64, length);
        assert!(bytes.iter().zip(offset..).all(|(&byte, at)| byte == (at >> 12) as u8));
    }
}

#[test]
fn a_hit_waits_neither_for_the_driver_nor_for_a_lock_of_a_fetch() {
    let engine = engine();
    let handles = [held(&engine, Inode(7)), held(&engine, Inode(8))];
    let (resume, resumed) = mpsc::channel::<()>();
    let (stopped, stands) = mpsc::channel();
    engine.plane.inbox.push(Command::Ask(Box::new(move |_, _| {
        stopped.send(()).unwrap();
        let _ = resumed.recv();
    })));
    stands.recv_timeout(HANGS).expect("the driver stands still");

    let plane = &engine.plane;
    let locks = (plane.pool.hold_locks(), plane.waiting.hold_lock(), plane.inbox.hold_lock(), plane.opened.hold_lock());
    let (done, ended) = mpsc::channel();
    let reads = engine.clone();
    let thread = std::thread::spawn(move || {
        handles.iter().for_each(|handle| read_all(&reads, handle));
        done.send(()).unwrap();
    });
    let ended = ended.recv_timeout(HANGS);
    // Let go of first: what hangs shall fail the test, not hang it.
    drop(locks);
    drop(resume);
    thread.join().unwrap();
    ended.expect("a hit waited for a lock");
    assert_eq!(plane.metrics.read_memory_hits.get(), plane.metrics.reads.get());
    engine.end();
}
