//! How many bytes the mirrors send for a byte that a program asked for. Counted, not timed.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::Place;
use crate::support::{reading, wait};
use std::fs::File;
use std::path::Path;

const PAGE: u64 = 4096;
const READS: u64 = 300;
/// Large enough that random reads seldom meet.
const SIZE: u64 = 1 << 30;

/// Page numbers that look like chance (multiplied by a prime far from any stride).
fn offsets() -> impl Iterator<Item = u64> {
    (1..=READS).map(|number| number.wrapping_mul(2_654_435_761) % (SIZE / PAGE) * PAGE)
}

#[test]
fn random_pages_cost_little_more_than_themselves() {
    let mirrors = mirrors(2, &Tree::new().with_generated("data.bin", 5, SIZE));
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let path = mount.path("data.bin");
    let file = File::open(&path).unwrap();
    for offset in offsets() {
        reading::generated_at(&file, 5, offset, PAGE as usize).unwrap();
    }
    let (sent, wanted) = (data_bytes(&mirrors), READS * PAGE);
    assert!(sent * 10 <= wanted * 15, "{sent} bytes sent for {wanted} asked for");
    // And they are kept: a second pass over the same places is (nearly) free.
    mirrors.iter().for_each(FaultyMirror::forget);
    reading::forget_kernel_pages(&path);
    for offset in offsets() {
        reading::generated_at(&file, 5, offset, PAGE as usize).unwrap();
    }
    let again = data_bytes(&mirrors);
    assert!(again * 50 <= wanted, "{again} bytes sent again for {wanted} asked for");
    drop(file);
    mount.umount();
}

/// The bytes that `count` mirrors send of a file while `read` reads it through a new mount. Where the machine is so busy
/// that fetches are moved from one mirror to the other, what was on its way comes twice, and nothing is learned: once more.
fn sent_for(count: usize, size: u64, read: impl Fn(&Path)) -> u64 {
    wait::for_some("a mount in which no fetch is moved", || {
        let mirrors = mirrors(count, &Tree::new().with_generated("data.bin", 6, size));
        let place = Place::new();
        let mount = place.mount(&faulty_urls(&mirrors), &[]);
        read(&mount.path("data.bin"));
        let moved = mount.status()["counters"]["redispatches"].as_u64().expect("a counter");
        let sent = data_bytes(&mirrors);
        mount.umount();
        (moved == 0).then_some(sent)
    })
}

#[test]
fn a_file_read_in_order_is_sent_once() {
    let size = 24 << 20;
    let sent = sent_for(3, size, |path| reading::generated(path, 6, size));
    assert!(sent * 100 <= size * 106, "{sent} bytes sent for {size}");
}

#[test]
fn many_readers_of_one_file_fetch_it_once() {
    let size = 6 << 20;
    let sent = sent_for(2, size, |path| {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| reading::generated(path, 6, size));
            }
        });
    });
    assert!(sent * 100 <= size * 106, "{sent} bytes sent for {size}");
}
