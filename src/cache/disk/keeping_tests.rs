//! What people and the scrub do to what is kept: pins, eviction by hand, verification.

use super::shared::Tuning;
use super::tests::{MIB, bytes_of, check, key, open, put, quick, settings};
use super::*;
use std::os::unix::fs::FileExt;

const PATIENCE: Duration = Duration::from_secs(60);

fn pin(path: &str, bytes: u64) -> Pin {
    Pin { path: path.as_bytes().to_vec(), bytes }
}

fn fill(disk: &Disk, key: &FileKey) {
    put(disk, &disk.file(key), Pages::of_file(key.size_bytes)).unwrap();
}

fn held_pages(disk: &Disk, key: &FileKey) -> u64 {
    disk.seen(key).held_runs().iter().map(|run| run.count()).sum()
}

fn sync(disk: &Disk) {
    assert!(disk.sync(clock::now() + PATIENCE));
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !condition() {
        assert!(clock::now() < deadline, "it never came true: {what}");
        std::thread::yield_now();
    }
}

/// Turn over some bytes of a page on the disk.
fn rot(disk: &Disk, key: &FileKey, page: u64) {
    let place = disk.seen(key).content.lock().place.unwrap();
    let data = std::fs::OpenOptions::new().write(true).open(disk.shared().layout.pages(place.data_id)).unwrap();
    data.write_all_at(&[0xaa; 7], (place.base_page + page) * PAGE_BYTES + 5).unwrap();
    data.sync_all().unwrap();
}

#[test]
fn what_is_pinned_stays_while_everything_else_goes_round_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 24 * MIB;
    let disk = open(dir.path(), limit);
    let large = key("keep/large", 4 * MIB);
    let small = key("keep/small", 30_000);
    disk.pin(&[pin("keep", 4 * MIB + 30_000)]).unwrap();
    // Pinned before they came. They are the least recently used ones from then on.
    fill(&disk, &large);
    fill(&disk, &small);
    let go_round = |disk: &Disk, round: u64| {
        for at in 0..20 {
            fill(disk, &key(&format!("{round} go/{at}"), 3 * MIB));
            fill(disk, &key(&format!("{round} go/small {at}"), 60_000));
        }
        assert!(disk.shared().metrics.disk_evicted_bytes.get() > limit, "the test must fill the cache");
        for key in [&large, &small] {
            assert_eq!(held_pages(disk, key), key.page_count());
            assert_eq!(check(&disk.seen(key)), key.page_count());
        }
        assert!(disk.used_bytes() <= limit);
    };
    go_round(&disk, 0);
    drop(disk);
    let disk = open(dir.path(), limit);
    assert_eq!(disk.pins(), [pin("keep", 4 * MIB + 30_000)]);
    assert_eq!(disk.pin_over(b"keep/large").as_deref(), Some(&b"keep"[..]));
    go_round(&disk, 1);
    // Unpinned, it is the first to go.
    disk.unpin(vec![b"keep".to_vec()]).unwrap();
    for at in 0..10 {
        fill(&disk, &key(&format!("more {at}"), 3 * MIB));
    }
    assert_eq!((held_pages(&disk, &large), disk.pins()), (0, vec![]));
    drop(disk);
    assert_eq!(open(dir.path(), limit).pins(), []);
}

#[test]
fn more_pinned_files_than_eviction_looks_at_in_a_round_do_not_keep_it_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 40 * MIB);
    let (page, rest) = (100_000, key("go", 20 * MIB));
    // Each has a data file of its own and two pages of it: more of them than candidates.
    disk.pin(&[pin("keep", 12 * MIB)]).unwrap();
    let kept: Vec<_> = (0..1100).map(|at| key(&format!("keep/{at}"), page)).collect();
    for key in &kept {
        let file = disk.file(key);
        let job = WriteJob { may_let_go: false, ..super::tests::job(&file, Pages::new(0, 2)) };
        disk.write(job).ok().unwrap();
    }
    sync(&disk);
    fill(&disk, &rest);
    fill(&disk, &key("new", 15 * MIB));
    assert!(kept.iter().all(|key| held_pages(&disk, key) == 2));
    assert!(held_pages(&disk, &rest) < rest.page_count());
    assert_eq!(disk.health(), Health::Ok);
}

#[test]
fn small_files_stay_longer_than_large_ones_of_the_same_age_but_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 24 * MIB);
    let small: Vec<_> = (0..10).map(|at| key(&format!("small {at}"), 60_000)).collect();
    small.iter().for_each(|key| fill(&disk, key));
    let large: Vec<_> = (0..60).map(|at| key(&format!("large {at}"), 3 * MIB)).collect();
    large[..9].iter().for_each(|key| fill(&disk, key));
    assert!(held_pages(&disk, &large[0]) < 768, "a large file that came after them has gone");
    assert!(small.iter().all(|key| held_pages(&disk, key) == 15));
    large[9..].iter().for_each(|key| fill(&disk, key));
    assert!(small.iter().all(|key| held_pages(&disk, key) == 0), "nobody has used them for long");
}

#[test]
fn more_than_the_limit_cannot_be_pinned_and_too_many_pins_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 20 * MIB);
    disk.pin(&[pin("a", 10 * MIB)]).unwrap();
    let Err(error) = disk.pin(&[pin("b", 4 * MIB), pin("c", 6 * MIB)]) else { panic!("pinned") };
    let usable_bytes = 20 * MIB / 100 * 95;
    assert!(
        matches!(error, PinError::NoRoom { asked_bytes, pinned_bytes, usable_bytes: most }
            if (asked_bytes, pinned_bytes, most) == (10 * MIB, 10 * MIB, usable_bytes)),
        "{error}"
    );
    assert_eq!(disk.pins(), [pin("a", 10 * MIB)], "all or nothing");
    // What lies in what is pinned adds nothing.
    disk.pin(&[pin("a/x", 10 * MIB), pin("b", 8 * MIB)]).unwrap();
    assert_eq!(disk.pinned_bytes(), 18 * MIB);
    let many: Vec<_> = (0..5000).map(|at| pin(&format!("a/{at}"), 0)).collect();
    assert!(matches!(disk.pin(&many), Err(PinError::TooMany)));
    assert_eq!(disk.pins().len(), 3);
}

#[test]
fn pins_outlive_a_damaged_state() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 64 * MIB);
    disk.pin(&[pin("a", 5)]).unwrap();
    disk.shared().commits.put_state_damaged();
    sync(&disk);
    wait_until("the damaged data is cleared away", || disk.health() == Health::Ok);
    drop(disk);
    assert_eq!(open(dir.path(), 64 * MIB).pins(), [pin("a", 5)]);
}

#[test]
fn what_is_kept_below_a_path_is_found_in_order_and_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 64 * MIB);
    let names = ["a", "a b", "a/x", "a/y/z", "a0", "ab", "b"];
    names.iter().for_each(|name| fill(&disk, &key(name, 5000)));
    let newer = FileKey { generation: 1, ..key("a/x", 5000) };
    fill(&disk, &newer);
    for (path, wanted) in [
        ("", vec!["a", "a b", "a/x", "a/x", "a/y/z", "a0", "ab", "b"]),
        ("a", vec!["a", "a/x", "a/x", "a/y/z"]),
        ("a/x", vec!["a/x", "a/x"]),
        ("a/y", vec!["a/y/z"]),
        ("c", vec![]),
    ] {
        for max in [1, 2, 3, 100] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let some = disk.kept(path.as_bytes(), after.as_ref(), max).unwrap();
                assert!(some.len() <= max);
                let Some(last) = some.last() else { break };
                after = Some(last.clone());
                found.extend(some.into_iter().map(|key| String::from_utf8(key.path).unwrap()));
            }
            found.sort();
            assert_eq!(found, wanted, "{path} by {max}");
        }
    }
}

#[test]
fn what_is_evicted_by_hand_is_gone_and_its_room_is_back_while_readers_read_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 64 * MIB);
    let empty = disk.used_bytes();
    let keys: Vec<_> = (0..20).map(|at| key(&format!("d/{at}"), if at % 2 == 0 { 40_000 } else { 2 * MIB })).collect();
    keys.iter().for_each(|key| fill(&disk, key));
    let (opened, other) = (disk.file(&keys[1]), key("other", 2 * MIB));
    fill(&disk, &other);
    opened.set_note(b"etag".to_vec());
    let kept = disk.kept(b"d", None, 100).unwrap();
    assert_eq!(kept.len(), 20);
    let bytes: u64 = keys.iter().map(|key| key.size_bytes).sum();
    assert_eq!(disk.evict(&kept), bytes);
    assert!(opened.held_runs().is_empty() && opened.note().is_some());
    sync(&disk);
    assert!(disk.kept(b"d", None, 100).unwrap().is_empty());
    assert!(disk.used_bytes() < empty + 3 * MIB, "{} bytes are still used", disk.used_bytes());
    assert_eq!(check(&disk.seen(&other)), 512);
    // Who has it open fetches it again, and it is kept again.
    put(&disk, &opened, Pages::of_file(2 * MIB)).unwrap();
    assert_eq!(check(&opened), 512);
    drop((opened, disk));
    let disk = open(dir.path(), 64 * MIB);
    assert_eq!((held_pages(&disk, &keys[1]), disk.file(&keys[1]).note()), (512, Some(b"etag".to_vec())));
    assert!(keys.iter().filter(|key| **key != keys[1]).all(|key| held_pages(&disk, key) == 0));
}

#[test]
fn a_pack_goes_with_its_last_file() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 64 * MIB);
    let keys: Vec<_> = (0..4).map(|at| key(&format!("{at}"), 40_000)).collect();
    keys.iter().for_each(|key| fill(&disk, key));
    let pack = disk.seen(&keys[0]).content.lock().place.unwrap().data_id;
    let path = disk.shared().layout.pages(pack);
    disk.evict(&keys[..3]);
    sync(&disk);
    assert!(path.exists() && check(&disk.seen(&keys[3])) == 10);
    let before = disk.used_bytes();
    disk.evict(&keys[3..]);
    sync(&disk);
    assert!(!path.exists() && disk.used_bytes() < before);
    fill(&disk, &keys[0]);
    assert_eq!(check(&disk.seen(&keys[0])), 10);
}

#[test]
fn verification_asks_the_disk_drops_what_is_wrong_and_counts_as_no_use() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 64 * MIB);
    for key in [key("large", 2 * MIB + 9), key("small", 40_000)] {
        fill(&disk, &key);
        let file = disk.seen(&key);
        rot(&disk, &key, 3);
        let uses = disk.shared().uses.load(std::sync::atomic::Ordering::Relaxed);
        let mut room = vec![0; 8 * PAGE_BYTES as usize];
        assert_eq!(file.verify(Pages::new(0, 8), &mut room), ReadNow::Damaged(vec![Pages::new(3, 4)]));
        assert_eq!(file.verify(Pages::new(4, 8), &mut room[..4 * PAGE_BYTES as usize]), ReadNow::Done);
        assert_eq!(disk.shared().uses.load(std::sync::atomic::Ordering::Relaxed), uses);
        assert_eq!(room[..4096], bytes_of(&key, Pages::new(4, 5)));
        sync(&disk);
        assert_eq!(file.missing(Pages::of_file(key.size_bytes)), [Pages::new(3, 4)]);
        put(&disk, &file, Pages::new(3, 4)).unwrap();
        assert_eq!(check(&file), key.page_count());
    }
}

#[test]
fn a_page_that_rotted_while_nobody_looked_is_found_when_it_is_first_read_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let keys = [key("large", 2 * MIB), key("small", 40_000)];
    let disk = open(dir.path(), 64 * MIB);
    keys.iter().for_each(|key| fill(&disk, key));
    keys.iter().for_each(|key| rot(&disk, key, 3));
    drop(disk);
    let disk = open(dir.path(), 64 * MIB);
    for key in &keys {
        let file = disk.file(key);
        let mut room = vec![0; 8 * PAGE_BYTES as usize];
        assert!(file.held(Pages::new(0, 8)), "nothing was looked at when it was opened");
        assert_eq!(file.read_blocking(Pages::new(0, 8), &mut room), ReadNow::Damaged(vec![Pages::new(3, 4)]));
        assert_eq!(file.read_blocking(Pages::new(0, 8), &mut room), ReadNow::NotHeld);
    }
}

fn scrubbing(dir: &Path, every: Duration) -> Disk {
    let tuning = Tuning { scrub_every: every, scrub_quiet: Duration::from_millis(1), ..quick() };
    let settings = Settings { scrub_bytes_per_second: Some(1 << 40), ..settings(dir, 64 * MIB) };
    Disk::open_with(settings, Arc::default(), tuning).unwrap()
}

#[test]
fn the_scrub_finds_what_rotted_once_and_then_rests_also_after_a_restart() {
    const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    let dir = tempfile::tempdir().unwrap();
    let keys = [key("large", 3 * MIB + 5), key("small", 40_000), key("other", 2 * MIB)];
    let disk = open(dir.path(), 64 * MIB);
    keys.iter().for_each(|key| fill(&disk, key));
    rot(&disk, &keys[0], 700);
    rot(&disk, &keys[1], 9);
    drop(disk);
    let all: u64 = keys.iter().map(|key| key.size_bytes).sum();
    let disk = scrubbing(dir.path(), WEEK);
    let metrics = &disk.shared().metrics;
    wait_until("the scrub has seen everything", || metrics.disk_verified_bytes.get() >= all);
    let meta = || disk.shared().store.read(super::store::look_at_meta).unwrap();
    wait_until("the pass is written down as done", || meta().scrub_began > 0 && meta().scrub_id == 0);
    assert_eq!((metrics.disk_damaged_pages.get(), metrics.disk_verified_bytes.get()), (2, all));
    sync(&disk);
    assert_eq!(disk.seen(&keys[0]).missing(Pages::of_file(keys[0].size_bytes)), [Pages::new(700, 701)]);
    assert_eq!((held_pages(&disk, &keys[1]), held_pages(&disk, &keys[2])), (9, 512));
    drop(disk);
    // The next one knows that it is not due. One that is due begins by itself.
    let disk = scrubbing(dir.path(), WEEK);
    assert!(super::scrub::is_resting(disk.shared()));
    drop(disk);
    let disk = scrubbing(dir.path(), Duration::ZERO);
    wait_until("the scrub begins again", || disk.shared().metrics.disk_verified_bytes.get() >= all - 2 * PAGE_BYTES);
    assert_eq!(disk.shared().metrics.disk_damaged_pages.get(), 0);
}

#[test]
fn the_scrub_goes_on_where_it_was_and_waits_for_readers() {
    let dir = tempfile::tempdir().unwrap();
    let keys = [key("first", 2 * MIB), key("second", 2 * MIB)];
    let disk = open(dir.path(), 64 * MIB);
    keys.iter().for_each(|key| fill(&disk, key));
    // As a scrub leaves it that was ended in the middle of the second file.
    let second = disk.seen(&keys[1]).content.lock().place.unwrap().data_id;
    disk.shared()
        .store
        .write(|transaction| {
            let meta = super::store::read_meta(transaction)?;
            let scrub = super::store::Meta { scrub_id: second, scrub_page: 300, scrub_began: 77, ..meta };
            super::store::write_meta(transaction, scrub)
        })
        .unwrap();
    drop(disk);
    let disk = scrubbing(dir.path(), Duration::from_secs(1 << 40));
    // Busy: as if a reader waited for the disk.
    let reading = disk.shared().condition.operation();
    let metrics = &disk.shared().metrics;
    assert!(!super::scrub::may_go_on(disk.shared(), disk.shared().uses.load(std::sync::atomic::Ordering::Relaxed)));
    drop(reading);
    wait_until("the rest is verified", || metrics.disk_verified_bytes.get() >= 212 * PAGE_BYTES);
    let meta = || disk.shared().store.read(super::store::look_at_meta).unwrap();
    wait_until("the pass is done", || meta().scrub_id == 0 && meta().scrub_page == 0);
    assert_eq!((metrics.disk_verified_bytes.get(), meta().scrub_began), (212 * PAGE_BYTES, 77));
}
