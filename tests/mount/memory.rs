//! The memory limit is a bound, however many read at once.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{Fault, Tree};
use crate::support::mounted::Place;
use crate::support::reading;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MEBIBYTE: u64 = 1 << 20;
const READERS: u64 = 64;
/// Per file: together eight times the limit, and short enough for an unoptimised build.
const SIZE: u64 = 8 * MEBIBYTE;

#[test]
fn sixty_four_readers_stay_under_the_limit() {
    let mut tree = Tree::new();
    for reader in 0..READERS {
        tree = tree.with_generated(format!("file-{reader}"), reader, SIZE);
    }
    let (mirrors, place) = (mirrors(2, &tree), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &["--memory", "64MiB"]);
    std::thread::scope(|scope| {
        for reader in 0..READERS {
            let path = mount.path(format!("file-{reader}"));
            scope.spawn(move || reading::generated(&path, reader, SIZE));
        }
    });
    let peak = mount.peak_resident_bytes();
    assert!(peak < 128 * MEBIBYTE, "{} MiB resident at the peak", peak / MEBIBYTE);
    assert_eq!(mount.number("memory_limit"), 64 * MEBIBYTE);
    assert!(mount.number("memory_bytes") <= 64 * MEBIBYTE);
    mount.umount();
}

/// Each connection has its buffers beside the pool: a small memory carries few of them, however far away the mirror is.
#[test]
fn a_walk_over_a_long_path_in_a_small_memory_makes_few_connections() {
    const FILES: u64 = 400;
    let name = |at: u64| format!("walked/{at:03}");
    let tree = (0..FILES).fold(Tree::new(), |tree, at| tree.with_generated(name(at), at, 20_000));
    let (mirrors, place) = (mirrors(1, &tree), Place::new());
    mirrors[0].always(Fault::Delay(Duration::from_millis(20)));
    let mount = place.mount(&faulty_urls(&mirrors), &["--memory", "16MiB"]);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&at| at < FILES) {
                    reading::generated(&mount.path(name(at)), at, 20_000);
                }
            });
        }
    });
    assert_eq!(mirrors[0].data_requests().len() as u64, FILES, "each once");
    // Four each for reads and for what is ahead of them, one for listings, and one that is not yet closed.
    let made = mirrors[0].connections_made();
    assert!(made <= 10, "{made} connections");
    mount.umount();
}
