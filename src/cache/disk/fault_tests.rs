//! Disks that fail, hang, fill up or alter bytes, folders that are in use or not ours.

use super::shared::{Seam, Step, Tuning};
use super::tests::{MIB, bytes_of, check, job, key, open, put, quick, settings};
use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);

/// A seam that fails the steps that `fails` picks while `on`.
fn failing(on: &Arc<AtomicBool>, fails: fn(Step) -> bool) -> Tuning {
    let on = on.clone();
    let seam: Seam = Arc::new(move |step| match on.load(Ordering::SeqCst) && fails(step) {
        true => Err(io::Error::from_raw_os_error(5)),
        false => Ok(()),
    });
    Tuning { seam: Some(seam), ..quick() }
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !condition() {
        assert!(clock::now() < deadline, "it never came true");
        std::thread::yield_now();
    }
}

#[test]
fn a_second_daemon_is_refused_and_told_who_is_first() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 64 * MIB);
    let Err(error) = Disk::open(settings(dir.path(), 64 * MIB), Arc::default()) else { panic!("opened twice") };
    let OpenError::InUse { pid, owner, .. } = &error else { panic!("{error}") };
    assert_eq!((*pid, owner.as_str()), (std::process::id(), "/mnt/here"));
    let file = disk.file(&key("a", 10));
    disk.close();
    // A file that somebody still has does not keep the folder locked.
    open(dir.path(), 64 * MIB);
    drop(file);
}

#[test]
fn a_newer_format_is_refused_and_a_damaged_one_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 64 * MIB);
    put(&disk, &disk.file(&key("a", MIB)), Pages::new(0, 9)).unwrap();
    drop(disk);
    let newer = format!("braidfs cache 2\n{:08x}\n", crc32c::crc32c(b"braidfs cache 2"));
    std::fs::write(dir.path().join("format"), newer).unwrap();
    let Err(error) = Disk::open(settings(dir.path(), 64 * MIB), Arc::default()) else { panic!("opened") };
    assert!(matches!(error, OpenError::NewerFormat { found: 2, known: 1, .. }), "{error}");
    std::fs::write(dir.path().join("format"), [0xff, 0xfe]).unwrap();
    std::fs::write(dir.path().join("mine.txt"), "keep").unwrap();
    let disk = open(dir.path(), 64 * MIB);
    assert!(disk.file(&key("a", MIB)).held_runs().is_empty());
    assert!(dir.path().join("state.redb.damaged-1").exists() && dir.path().join("mine.txt").exists());
    wait_until(|| disk.health() == Health::Ok && !dir.path().join("data.damaged-1").exists());
    let file = disk.file(&key("a", MIB));
    put(&disk, &file, Pages::new(0, 9)).unwrap();
    assert_eq!(check(&file), 9);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let Err(error) = Disk::open(settings(&file.join("cache"), MIB), Arc::default()) else { panic!("opened") };
    assert!(matches!(error, OpenError::NotWritable { .. }));
    assert!(error.to_string().contains("file/cache") && error.to_string().contains("--cache-dir"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"in the way");
}

#[test]
fn a_disk_that_fails_is_read_through_and_used_again_when_it_works() {
    let fails: [fn(Step) -> bool; 3] = [
        |step| matches!(step, Step::Write(_)),
        |step| matches!(step, Step::SyncPages(_)),
        |step| matches!(step, Step::Commit),
    ];
    for fails in fails {
        let dir = tempfile::tempdir().unwrap();
        let on = Arc::new(AtomicBool::new(false));
        let disk = Disk::open_with(settings(dir.path(), 64 * MIB), Arc::default(), failing(&on, fails)).unwrap();
        let file = disk.file(&key("a", 4 * MIB));
        put(&disk, &file, Pages::new(0, 100)).unwrap();
        on.store(true, Ordering::SeqCst);
        assert!(matches!(put(&disk, &file, Pages::new(100, 200)), Err(WriteError::Failing(_))));
        assert!(matches!(disk.health(), Health::ReadingThrough { .. }));
        assert!(disk.write(job(&file, Pages::new(200, 300))).is_err());
        assert_eq!(file.held_runs(), [Pages::new(0, 100)], "what is not durable is withdrawn");
        assert_eq!(check(&file), 100);
        on.store(false, Ordering::SeqCst);
        wait_until(|| disk.health() == Health::Ok);
        put(&disk, &file, Pages::new(100, 200)).unwrap();
        assert_eq!(check(&file), 200);
        drop((file, disk));
        let disk = open(dir.path(), 64 * MIB);
        assert_eq!(check(&disk.file(&key("a", 4 * MIB))), 200);
    }
}

#[test]
fn a_disk_that_hangs_is_noticed_and_closing_does_not_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let seam: Seam = Arc::new(move |step| {
        if matches!(step, Step::SyncPages(_)) {
            let _ = held.lock().recv();
        }
        Ok(())
    });
    let tuning = Tuning { seam: Some(seam), hang_after: Duration::from_millis(50), ..quick() };
    let disk = Disk::open_with(settings(dir.path(), 64 * MIB), Arc::default(), tuning).unwrap();
    let file = disk.file(&key("a", MIB));
    disk.write(job(&file, Pages::new(0, 9))).ok().unwrap();
    wait_until(|| matches!(disk.health(), Health::ReadingThrough { .. }));
    assert!(disk.write(job(&file, Pages::new(10, 19))).is_err());
    assert!(!disk.sync(clock::now()));
    drop(release);
    wait_until(|| disk.health() == Health::Ok);
    assert!(disk.sync(clock::now() + PATIENCE));
    assert_eq!(check(&file), 9);
}

#[test]
fn a_full_disk_is_read_through_and_used_again_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let size = "size=16m";
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", size, "none"]).arg(dir.path()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: mounting a small tmpfs takes root");
        return;
    }
    struct Unmount<'a>(&'a Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("-l").arg(self.0).status();
        }
    }
    let _unmount = Unmount(dir.path());
    let cache = dir.path().join("cache");
    // The limit is more than there is: the disk is full before.
    let disk = open(&cache, 64 * MIB);
    let keys: Vec<_> = (0..12).map(|at| key(&format!("f{at}"), 2 * MIB)).collect();
    for key in &keys {
        let file = disk.file(key);
        let _ = put(&disk, &file, Pages::of_file(2 * MIB));
        check(&file);
    }
    assert!(keys.iter().map(|key| check(&disk.file(key))).sum::<u64>() > 512, "something is kept");
    // Somebody else takes all the rest, and then gives it back.
    let other = dir.path().join("other");
    let _ = std::fs::write(&other, vec![1; 16 << 20]);
    let file = disk.file(&key("late", 2 * MIB));
    let _ = put(&disk, &file, Pages::of_file(2 * MIB));
    keys.iter().for_each(|key| {
        check(&disk.file(key));
    });
    std::fs::remove_file(other).unwrap();
    wait_until(|| disk.health() == Health::Ok);
    put(&disk, &file, Pages::of_file(2 * MIB)).unwrap();
    assert_eq!(check(&file), 512);
}

#[test]
fn the_floor_of_free_space_is_kept_and_given_back_for() {
    let dir = tempfile::tempdir().unwrap();
    let free = Drive::default().free_bytes(dir.path()).unwrap();
    let disk = open(dir.path(), 64 * MIB);
    let file = disk.file(&key("a", MIB));
    put(&disk, &file, Pages::of_file(MIB)).unwrap();
    drop((file, disk));
    // More than the disk will ever have: nothing may stay, and nothing may be written.
    let settings = Settings { free_floor_bytes: 2 * free, ..settings(dir.path(), 64 * MIB) };
    let disk = Disk::open_with(settings, Arc::default(), quick()).unwrap();
    wait_until(|| disk.file(&key("a", MIB)).held_runs().is_empty());
    let file = disk.file(&key("b", MIB));
    let job = WriteJob { may_let_go: true, ..job(&file, Pages::new(0, 9)) };
    disk.write(job).ok().unwrap();
    assert!(disk.sync(clock::now() + PATIENCE));
    assert!(file.held_runs().is_empty());
    assert_eq!(bytes_of(file.key(), Pages::new(0, 1)).len(), 4096);
}

#[test]
fn a_folder_that_is_removed_is_noticed_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let disk = open(&cache, 64 * MIB);
    disk.pin(&[Pin { path: b"a".to_vec(), bytes: 5 }]).unwrap();
    let file = disk.file(&key("a", 4 * MIB));
    put(&disk, &file, Pages::new(0, 300)).unwrap();
    std::fs::remove_dir_all(&cache).unwrap();
    // Made again by itself: with nothing of what was there, locked, and with room for all.
    wait_until(|| cache.join("state.redb").exists() && disk.health() == Health::Ok);
    assert!(file.held_runs().is_empty());
    put(&disk, &file, Pages::new(0, 300)).unwrap();
    assert_eq!((check(&file), disk.pins().len()), (300, 1));
    assert!(disk.used_bytes() < 8 * MIB, "what was removed is not counted");
    let Err(error) = Disk::open(settings(&cache, 64 * MIB), Arc::default()) else { panic!("opened twice") };
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    drop((file, disk));
    let disk = open(&cache, 64 * MIB);
    assert_eq!(check(&disk.file(&key("a", 4 * MIB))), 300);
}

#[test]
fn another_folder_in_its_place_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, other, aside) = (dir.path().join("cache"), dir.path().join("other"), dir.path().join("aside"));
    open(&other, 64 * MIB).close();
    let disk = open(&cache, 64 * MIB);
    let file = disk.file(&key("a", 4 * MIB));
    put(&disk, &file, Pages::new(0, 300)).unwrap();
    std::fs::rename(&cache, &aside).unwrap();
    std::fs::rename(&other, &cache).unwrap();
    let before = std::fs::read(cache.join("state.redb")).unwrap();
    wait_until(
        || matches!(disk.health(), Health::ReadingThrough { why, .. } if why.contains("was replaced by another")),
    );
    assert!(disk.write(job(&file, Pages::new(300, 400))).is_err());
    assert!(std::fs::read(cache.join("state.redb")).unwrap() == before);
    // Put back, it is used again.
    std::fs::rename(&cache, &other).unwrap();
    std::fs::rename(&aside, &cache).unwrap();
    wait_until(|| disk.health() == Health::Ok);
    put(&disk, &file, Pages::new(300, 400)).unwrap();
    assert_eq!(check(&file), 400);
}

#[test]
fn what_finds_no_room_says_why_until_there_is_some() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 24 * MIB);
    let kept = key("keep", 17 * MIB);
    let (size, pin) = (5 * MIB + 700_000, |path: &str, bytes| Pin { path: path.as_bytes().to_vec(), bytes });
    disk.pin(&[pin("keep", 17 * MIB), pin("a", size)]).unwrap();
    put(&disk, &disk.file(&kept), Pages::of_file(17 * MIB)).unwrap();
    assert_eq!(disk.full(), None);
    // By what mirrors list it fits; by what the tables take beside it, it does not. Pinned too, it cannot go round in itself.
    let file = disk.file(&key("a", size));
    for pages in Pages::of_file(size).split(256) {
        disk.write(WriteJob { may_let_go: true, ..job(&file, pages) }).ok().unwrap();
        assert!(disk.sync(clock::now() + PATIENCE));
    }
    assert!(disk.full().is_some_and(|why| why.contains("cannot be evicted")));
    assert_eq!((disk.health(), check(&disk.file(&kept))), (Health::Ok, 17 * 256));
    disk.unpin(vec![b"keep".to_vec()]).unwrap();
    disk.evict(&[kept]);
    wait_until(|| disk.full().is_none());
    put(&disk, &file, Pages::of_file(size)).unwrap();
}

#[test]
fn what_waits_to_be_deleted_is_not_given_back_once_everything_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let tuning = Tuning { commit_every: PATIENCE, ..quick() };
    let disk = Disk::open_with(settings(&cache, 64 * MIB), Arc::default(), tuning).unwrap();
    let [first, second] = ["a", "b"].map(|name| disk.file(&key(name, 4 * MIB)));
    for file in [&first, &second] {
        put(&disk, file, Pages::new(0, 300)).unwrap();
    }
    // One waits when the folder is gone, one is in the very work that finds out.
    first.discard();
    std::fs::remove_dir_all(&cache).unwrap();
    disk.shared().commits.put_state_damaged();
    second.discard();
    assert!(disk.sync(clock::now() + PATIENCE));
    wait_until(|| cache.join("state.redb").exists() && disk.health() == Health::Ok);
    put(&disk, &first, Pages::new(0, 300)).unwrap();
    assert_eq!(disk.shared().space.data_bytes(), 300 * PAGE_BYTES + 4096);
    first.discard();
    assert!(disk.sync(clock::now() + PATIENCE));
    assert_eq!(disk.shared().space.data_bytes(), 0);
}

#[test]
fn what_was_discarded_just_before_everything_is_forgotten_is_not_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let tuning = Tuning { commit_every: PATIENCE, ..quick() };
    let disk = Disk::open_with(settings(dir.path(), 64 * MIB), Arc::default(), tuning).unwrap();
    let file = disk.file(&key("a", 4 * MIB));
    put(&disk, &file, Pages::new(0, 300)).unwrap();
    file.discard();
    super::finish::begin_empty(disk.shared());
    assert!(disk.sync(clock::now() + PATIENCE));
    assert_eq!(disk.shared().space.data_bytes(), 0);
    put(&disk, &file, Pages::new(0, 300)).unwrap();
    assert_eq!(disk.shared().space.data_bytes(), 300 * PAGE_BYTES + 4096);
}
