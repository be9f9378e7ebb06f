//! The daemon is killed in the middle of a read.

use crate::support::faulty::{Fault, FaultyMirror, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::{reading, wait};
use std::fs::File;
use std::io;

const SIZE: u64 = 32 << 20;
const SEED: u64 = 9;
const BYTES_PER_SECOND: u64 = 4 << 20;

fn mirrors() -> Vec<FaultyMirror> {
    let tree = Tree::new().with_generated("data.bin", SEED, SIZE);
    let mirrors: Vec<_> = (0..2).map(|_| FaultyMirror::start(tree.clone())).collect();
    mirrors.iter().for_each(|mirror| mirror.always(Fault::Shape { bytes_per_second: BYTES_PER_SECOND }));
    mirrors
}

fn urls(mirrors: &[FaultyMirror]) -> Vec<String> {
    mirrors.iter().map(FaultyMirror::url).collect()
}

fn sent(mirrors: &[FaultyMirror]) -> u64 {
    mirrors.iter().map(FaultyMirror::data_bytes).sum()
}

/// Kill the daemon while somebody reads, once the mirrors have sent so much and so much is durable. Returns
/// how much was durable just before.
fn kill_at(mount: Mount, mirrors: &[FaultyMirror], sent_bytes: u64, durable_bytes: u64) -> u64 {
    let path = mount.path("data.bin");
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || -> io::Result<()> {
            let file = File::open(path)?;
            (0..SIZE / 4096).try_for_each(|page| reading::generated_at(&file, SEED, page * 4096, 4096))
        });
        wait::until("the mirrors have sent so much", || sent(mirrors) >= sent_bytes || reader.is_finished());
        let durable = wait::for_some("so much is durable", || {
            let durable = mount.status()["counters"]["disk_written_bytes"].as_u64().expect("a counter");
            (durable >= durable_bytes).then_some(durable)
        });
        mount.kill9();
        assert!(reader.join().unwrap().is_err(), "the reader was to be cut off");
        durable
    })
}

#[test]
fn the_rest_is_fetched_and_the_bytes_are_right() {
    let (mirrors, place) = (mirrors(), Place::new());
    let durable = kill_at(place.mount(&urls(&mirrors), &[]), &mirrors, SIZE / 4, SIZE / 8);
    // Without hedging, which fetches a little twice on purpose where an answer is late.
    let mount = place.mount(&urls(&mirrors), &["--hedging=false"]);
    reading::generated(&mount.path("data.bin"), SEED, SIZE);
    // What was durable is not fetched again. (That it is durable within a second is a figure of the bench.)
    let counters = &mount.status()["counters"];
    let fetched = counters["fetched_bytes"].as_u64().expect("a counter");
    assert!(fetched <= SIZE - durable, "{fetched} bytes fetched of {SIZE}, and {durable} were durable: {counters}");
    mount.umount();
}

#[test]
fn again_and_again() {
    let (mirrors, place) = (mirrors(), Place::new());
    for kill in 1..=4 {
        kill_at(place.mount(&urls(&mirrors), &[]), &mirrors, kill * (4 << 20), 0);
    }
    let mount = place.mount(&urls(&mirrors), &[]);
    reading::generated(&mount.path("data.bin"), SEED, SIZE);
    mount.umount();
}
