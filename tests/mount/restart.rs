//! What is cached survives a restart; only the rest is fetched.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::{Fault, FaultyMirror, Tree};
use crate::support::mounted::Place;
use crate::support::{reading, wait};

const SIZE: u64 = 9_000_001;

fn tree() -> Tree {
    Tree::new().with_generated("big.bin", 1, SIZE).with_generated("other.bin", 2, SIZE).with("small.txt", *b"small")
}

#[test]
fn a_second_mount_fetches_no_data() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("big.bin"), 1, SIZE);
    assert_eq!(std::fs::read(mount.path("small.txt")).unwrap(), b"small");
    mount.umount();
    mirrors.iter().for_each(FaultyMirror::forget);
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("big.bin"), 1, SIZE);
    assert_eq!(std::fs::read(mount.path("small.txt")).unwrap(), b"small");
    assert_eq!(data_bytes(&mirrors), 0, "{:?}", mirrors[0].data_requests());
    // And what was not read yet comes from the mirrors as ever.
    reading::generated(&mount.path("other.bin"), 2, SIZE);
    // A mirror counts what it has sent a moment after the reader may have it.
    wait::until("all of it is sent", || data_bytes(&mirrors) >= SIZE);
    mount.umount();
}

#[test]
fn more_mirrors_in_another_order_keep_the_cache() {
    let (mirrors, place) = (mirrors(3, &tree()), Place::new());
    let urls = faulty_urls(&mirrors);
    let mount = place.mount(&urls[..1], &[]);
    reading::generated(&mount.path("big.bin"), 1, SIZE);
    mount.umount();
    mirrors.iter().for_each(FaultyMirror::forget);
    let mount = place.mount(&[&urls[0], &urls[2], &urls[1]], &[]);
    reading::generated(&mount.path("big.bin"), 1, SIZE);
    assert_eq!(data_bytes(&mirrors), 0);
    mount.umount();
}

#[test]
fn a_file_that_changed_meanwhile_is_fetched_anew() {
    use crate::support::faulty::Content;
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("big.bin"), 1, SIZE);
    mount.umount();
    mirrors[0].put("big.bin", Content::Generated { seed: 3, size_bytes: SIZE + 5 });
    let mount = place.mount(&faulty_urls(&mirrors), &["--entry-lifetime", "1s"]);
    // Cached listings are served at once and revalidated behind the reader's back: the new one shows soon.
    let path = mount.path("big.bin");
    wait::until("the new size", || std::fs::metadata(&path).unwrap().len() == SIZE + 5);
    reading::generated(&path, 3, SIZE + 5);
    mount.umount();
}

#[test]
fn without_a_cache_folder_nothing_is_kept_on_disk() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &["--cache-dir", "none"]);
    reading::generated(&mount.path("big.bin"), 1, SIZE);
    mount.umount();
    assert_eq!(std::fs::read_dir(place.cache()).unwrap().count(), 0);
    assert!(!place.path("home/.cache/braidfs").exists());
}

#[test]
fn what_comes_slowly_is_durable_long_before_its_run_is_full() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    // A run of 1 MiB takes it 20 s, what is read of it 4.
    mirrors[0].always(Fault::Shape { bytes_per_second: 50_000 });
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let path = mount.path("big.bin");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = std::fs::File::open(&path).unwrap();
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut [0; 200_000], 0).unwrap();
        });
        let counted = wait::for_some("some of it is durable", || {
            let counters = mount.status()["counters"].clone();
            counters["disk_written_bytes"].as_u64().filter(|&bytes| bytes > 0).map(|_| counters)
        });
        assert_eq!(counted["fetch_failures"], 0);
        assert!(counted["fetched_bytes"].as_u64() < Some(200_000), "it is still coming: {counted}");
    });
    mount.umount();
}
