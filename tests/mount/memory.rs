//! The memory limit is a bound, however many read at once.

use super::{faulty_urls, mirrors};
use crate::support::faulty::Tree;
use crate::support::mounted::Place;
use crate::support::reading;

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
