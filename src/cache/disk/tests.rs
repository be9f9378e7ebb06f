//! The disk cache as its users see it, on real files and a real redb.

use super::shared::{Step, Tuning};
use super::*;
use crate::chunk::CHUNK_PAGES;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc;

pub(super) const MIB: u64 = 1 << 20;
/// No machine is slower than this; only a test that fails waits for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a proof is run: more than in the ordinary tests where somebody asks for it.
pub(super) fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

pub(super) fn settings(dir: &Path, limit: u64) -> Settings {
    Settings {
        dir: dir.to_path_buf(),
        size_limit_bytes: limit,
        free_floor_bytes: 0,
        scrub_bytes_per_second: None,
        owner: "/mnt/here".to_owned(),
        queue_bytes_max: 64 * MIB,
    }
}

pub(super) fn quick() -> Tuning {
    Tuning { commit_every: Duration::from_millis(1), lone_wait: Duration::from_millis(1), ..Tuning::default() }
}

pub(super) fn open(dir: &Path, limit: u64) -> Disk {
    Disk::open_with(settings(dir, limit), Arc::default(), quick()).unwrap()
}

pub(super) fn key(name: &str, size_bytes: u64) -> FileKey {
    FileKey { path: name.as_bytes().to_vec(), size_bytes, modified_unix_s: Some(7), generation: 0 }
}

/// The right bytes of `pages`: whole pages, the file's last one filled up with zeros.
pub(super) fn bytes_of(key: &FileKey, pages: Pages) -> Vec<u8> {
    let seed = u64::from(crc32c::crc32c(&key.encode()));
    let mut bytes = Vec::with_capacity((pages.count() * PAGE_BYTES) as usize);
    for word in pages.start * PAGE_BYTES / 8..pages.end * PAGE_BYTES / 8 {
        bytes.extend_from_slice(&(word + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    let end = key.size_bytes.saturating_sub(pages.start * PAGE_BYTES).min(bytes.len() as u64);
    bytes[end as usize..].fill(0);
    bytes
}

pub(super) fn job(file: &Arc<DiskFile>, pages: Pages) -> WriteJob {
    let bytes = Box::new(bytes_of(file.key(), pages));
    let discards = file.discards();
    WriteJob { file: file.clone(), pages, bytes, discards, may_let_go: false, done: None, written: None }
}

pub(super) fn put(disk: &Disk, file: &Arc<DiskFile>, pages: Pages) -> Result<(), WriteError> {
    let (sender, receiver) = mpsc::channel();
    let done: Done = Box::new(move |result| sender.send(result).unwrap());
    let job = WriteJob { done: Some(done), ..job(file, pages) };
    if disk.write(job).is_err() {
        return Err(WriteError::LetGo);
    }
    assert!(disk.sync(clock::now() + PATIENCE));
    receiver.recv_timeout(PATIENCE).expect("every job is answered")
}

/// Every held page has its right bytes; says how many there are.
pub(super) fn check(file: &DiskFile) -> u64 {
    let mut right = 0;
    for run in file.held_runs().into_iter().flat_map(|run| run.split(64).collect::<Vec<_>>()) {
        let mut read = vec![1; (run.count() * PAGE_BYTES) as usize];
        match file.read_blocking(run, &mut read) {
            ReadNow::Done => assert!(read == bytes_of(file.key(), run), "wrong bytes in {run:?}"),
            ReadNow::Damaged(_) | ReadNow::NotHeld => continue,
            other => panic!("{other:?}"),
        }
        right += run.count();
    }
    right
}

fn allocated_bytes(dir: &Path) -> u64 {
    // Names may vanish while this walks.
    let Ok(data) = std::fs::symlink_metadata(dir) else { return 0 };
    let below = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| allocated_bytes(&entry.path()));
    data.blocks() * 512 + if data.is_dir() { below.sum() } else { 0 }
}

#[test]
fn what_was_written_is_read_now_later_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let key = key("a/b", 3 * MIB + 100);
    let all = Pages::of_file(key.size_bytes);
    {
        let disk = open(dir.path(), 64 * MIB);
        let file = disk.file(&key);
        assert_eq!(file.missing(all), [all]);
        put(&disk, &file, Pages::new(5, 700)).unwrap();
        assert!(file.durable(Pages::new(5, 700)) && !file.held(Pages::new(4, 6)));
        assert_eq!(file.missing(all), [Pages::new(0, 5), Pages::new(700, 769)]);
        let runs = vec![Pages::new(5, 700)];
        assert_eq!(file.held_and_durable_runs(all), (runs.clone(), runs));
        file.set_note(b"etag".to_vec());
        assert_eq!(check(&file), 695);
        disk.close();
    }
    let disk = open(dir.path(), 64 * MIB);
    let file = disk.file(&key);
    assert_eq!(file.note().as_deref(), Some(&b"etag"[..]));
    assert_eq!(file.held_runs(), [Pages::new(5, 700)]);
    put(&disk, &file, Pages::new(0, 5)).unwrap();
    put(&disk, &file, Pages::new(700, 769)).unwrap();
    assert_eq!((check(&file), file.held_bytes()), (769, key.size_bytes));
    // The exact end of the file, without waiting: it is in the kernel's memory by now.
    let mut tail = vec![0; 4196];
    assert_eq!(file.read_now(Pages::new(767, 769), &mut tail), ReadNow::Done);
    assert!(tail == bytes_of(&key, Pages::new(767, 769))[..4196]);
    assert_eq!(file.read_now(Pages::new(0, 0), &mut []), ReadNow::Done);
}

#[test]
fn a_complete_file_is_done_and_has_its_exact_length() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 64 * MIB);
    let file = disk.file(&key("a", MIB + 1));
    put(&disk, &file, Pages::of_file(MIB + 1)).unwrap();
    // The first sync commits the bits, the second the state.
    assert!(disk.sync(clock::now() + PATIENCE) && disk.sync(clock::now() + PATIENCE));
    let record = file.content.lock().record.clone().unwrap();
    assert_eq!((record.state, record.offset_bytes), (State::Done, MIB + 1));
    assert_eq!(file.state(), (State::Done, record.revision));
    assert!(record.revision >= 2, "committing, then done");
    let path = disk.shared().layout.pages(record.place.data_id);
    assert_eq!(std::fs::metadata(path).unwrap().len(), MIB + 1);
    assert_eq!(check(&file), 257);
}

#[test]
fn small_files_lie_together_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let keys: Vec<_> = (0..300).map(|at| key(&format!("f{at}"), 1 + at * 211)).collect();
    {
        let disk = open(dir.path(), 256 * MIB);
        for key in &keys {
            disk.write(job(&disk.file(key), Pages::of_file(key.size_bytes))).ok().unwrap();
        }
    }
    let disk = open(dir.path(), 256 * MIB);
    let mut packs = std::collections::BTreeSet::new();
    for key in &keys {
        let file = disk.file(key);
        assert_eq!(check(&file), key.page_count());
        let place = file.content.lock().place.unwrap();
        assert!(place.packed);
        packs.insert(place.data_id);
    }
    assert_eq!(packs.len(), 2, "2,400 pages in packs of 2,048");
    assert!(keys.iter().all(|key| key.page_count() <= CHUNK_PAGES));
}

#[test]
fn bits_follow_synced_pages_and_synced_checksums() {
    let dir = tempfile::tempdir().unwrap();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = steps.clone();
    let seam: super::shared::Seam = Arc::new(move |step| {
        seen.lock().push(step);
        Ok(())
    });
    let tuning = Tuning { seam: Some(seam), commit_every: PATIENCE, ..quick() };
    let disk = Disk::open_with(settings(dir.path(), 64 * MIB), Arc::default(), tuning).unwrap();
    let file = disk.file(&key("a", MIB));
    let (sender, receiver) = mpsc::channel();
    let written = Box::new(move || sender.send(()).unwrap());
    disk.write(WriteJob { written: Some(written), ..job(&file, Pages::new(0, 9)) }).ok().unwrap();
    receiver.recv_timeout(PATIENCE).unwrap();
    let id = file.content.lock().place.unwrap().data_id;
    assert!(file.held(Pages::new(0, 9)) && !file.durable(Pages::new(0, 9)));
    assert!(disk.sync(clock::now() + PATIENCE));
    assert!(file.durable(Pages::new(0, 9)));
    let steps = steps.lock().clone();
    assert_eq!(steps[..4], [Step::Write(id), Step::SyncPages(id), Step::SyncSums(id), Step::Commit]);
}

#[test]
fn the_limit_holds_at_every_instant() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 12 * MIB;
    let disk = open(dir.path(), limit);
    let keys: Vec<_> = (0..40).map(|at| key(&format!("f{at}"), if at % 3 == 0 { 30_000 } else { 2 * MIB })).collect();
    let held_open = disk.file(&keys[1]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                most = most.max(allocated_bytes(dir.path())).max(disk.used_bytes());
            }
            most
        });
        for round in 0..120u64 {
            let key = &keys[(round * 7 % 40) as usize];
            let file = disk.file(key);
            let count = key.page_count();
            let start = round * 37 % count;
            let pages = Pages::new(start, (start + 300).min(count));
            if disk.write(job(&file, pages)).is_err() {
                assert!(disk.sync(clock::now() + PATIENCE));
            }
            check(&held_open);
        }
        assert!(disk.sync(clock::now() + PATIENCE));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert!(most <= limit, "{most} bytes on disk, {limit} allowed");
    assert!(disk.shared().metrics.disk_evicted_bytes.get() > 0, "the test must fill the cache");
    let held: u64 = keys.iter().map(|key| check(&disk.file(key))).sum();
    assert_eq!(disk.shared().metrics.disk_damaged_pages.get(), 0);
    assert!(held * PAGE_BYTES > limit / 3, "only {held} pages are held");
    assert_eq!(disk.health(), Health::Ok);
}

#[test]
fn the_least_recently_used_goes_first_and_open_files_last() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 12 * MIB);
    let keys: Vec<_> = (0..6).map(|at| key(&format!("f{at}"), 2 * MIB)).collect();
    let opened = disk.file(&keys[0]);
    for key in &keys[..4] {
        put(&disk, &disk.file(key), Pages::of_file(2 * MIB)).unwrap();
    }
    drop(disk.file(&keys[1]));
    for key in &keys[4..] {
        put(&disk, &disk.file(key), Pages::of_file(2 * MIB)).unwrap();
    }
    let held: Vec<_> = keys.iter().map(|key| check(&disk.file(key))).collect();
    assert_eq!((held[0], held[1]), (512, 512), "{held:?}");
    assert!(held[2] < 512, "{held:?}");
    // A file larger than the cache is all that is left to evict: it goes round in itself.
    let large = key("large", 30 * MIB);
    let file = disk.file(&large);
    drop(opened);
    for pages in Pages::of_file(large.size_bytes).split(256) {
        put(&disk, &file, pages).unwrap();
    }
    assert!(file.held(Pages::new(7424, 7680)) && !file.held(Pages::new(0, 256)));
    assert!(check(&file) > 1024);
}

#[test]
fn a_damaged_page_is_missing_and_can_be_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 64 * MIB);
    for key in [key("large", 4 * MIB), key("small", 40_000)] {
        let file = disk.file(&key);
        put(&disk, &file, Pages::of_file(key.size_bytes)).unwrap();
        let place = file.content.lock().place.unwrap();
        let data = std::fs::OpenOptions::new().write(true).open(disk.shared().layout.pages(place.data_id)).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&data, &[0xaa; 7], (place.base_page + 3) * PAGE_BYTES + 5).unwrap();
        let mut read = vec![0; 5 * 4096];
        assert_eq!(file.read_blocking(Pages::new(0, 5), &mut read), ReadNow::Damaged(vec![Pages::new(3, 4)]));
        assert_eq!(file.missing(Pages::new(0, 5)), [Pages::new(3, 4)]);
        assert!(disk.sync(clock::now() + PATIENCE));
        put(&disk, &file, Pages::new(3, 4)).unwrap();
        assert_eq!(check(&file), key.page_count());
    }
    assert_eq!(disk.shared().metrics.disk_damaged_pages.get(), 2);
    let used = disk.shared().space.data_bytes();
    drop(disk);
    let disk = open(dir.path(), 64 * MIB);
    assert_eq!(disk.shared().space.data_bytes(), used, "nothing leaks from the ledger");
}

#[test]
fn bytes_that_were_taken_before_a_discard_are_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 64 * MIB);
    for key in [key("large", 4 * MIB), key("small", 40_000)] {
        let file = disk.file(&key);
        let (sender, receiver) = mpsc::channel();
        let done: Done = Box::new(move |result| sender.send(result).unwrap());
        let before = WriteJob { done: Some(done), ..job(&file, Pages::new(0, 2)) };
        file.discard();
        assert!(disk.write(before).is_ok() && disk.sync(clock::now() + PATIENCE));
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Err(WriteError::Discarded));
        assert!(file.held_runs().is_empty());
        put(&disk, &file, Pages::new(0, 2)).unwrap();
        assert_eq!(check(&file), 2, "what comes after is kept");
    }
}

#[test]
fn a_discarded_file_is_gone_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 64 * MIB);
    let keys = [key("large", 4 * MIB), key("small", 40_000)];
    let empty = disk.used_bytes();
    for key in &keys {
        let file = disk.file(key);
        put(&disk, &file, Pages::of_file(key.size_bytes)).unwrap();
        file.discard();
        assert!(file.held_runs().is_empty());
        drop(file);
        assert!(disk.file(key).held_runs().is_empty());
        let file = disk.file(key);
        put(&disk, &file, Pages::new(2, 4)).unwrap();
        assert_eq!(check(&file), 2);
        file.discard();
    }
    assert!(disk.sync(clock::now() + PATIENCE));
    assert!(disk.used_bytes() < empty + MIB, "only the pack is left");
    drop(disk);
    let disk = open(dir.path(), 64 * MIB);
    assert!(keys.iter().all(|key| disk.file(key).held_runs().is_empty()));
}

#[test]
fn listings_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 64 * MIB);
    disk.put_listing(b"a", vec![1; 100]);
    disk.put_listing(b"b", vec![2; 100]);
    disk.put_listing(b"a", vec![3; 50]);
    assert_eq!(disk.listing(b"a"), Some(vec![3; 50]));
    drop(disk);
    let disk = open(dir.path(), 64 * MIB);
    assert_eq!((disk.listing(b"a"), disk.listing(b"c")), (Some(vec![3; 50]), None));
    let mut all = BTreeMap::new();
    disk.listings(|folder, bytes| assert!(all.insert(folder.to_vec(), bytes.len()).is_none()));
    assert_eq!(all, BTreeMap::from([(b"a".to_vec(), 50), (b"b".to_vec(), 100)]));
}

#[test]
fn what_was_measured_of_mirrors_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path(), 64 * MIB);
    assert_eq!(disk.mirrors(), []);
    disk.put_mirror(u64::MAX, Some(vec![1; 10]));
    disk.put_mirror(7, Some(vec![2; 10]));
    disk.put_mirror(8, Some(vec![3; 10]));
    assert!(disk.sync(clock::now() + PATIENCE));
    disk.put_mirror(7, Some(vec![4; 20]));
    disk.put_mirror(8, None);
    drop(disk);
    let disk = open(dir.path(), 64 * MIB);
    assert_eq!(disk.mirrors(), [(7, vec![4; 20]), (u64::MAX, vec![1; 10])]);
}

#[test]
fn queued_writes_can_be_let_go_and_the_queue_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let tuning = Tuning { lone_wait: PATIENCE, ..quick() };
    let queue_bytes_max = 16 * PAGE_BYTES;
    let metrics: Arc<Metrics> = Arc::default();
    let settings = Settings { queue_bytes_max, ..settings(dir.path(), 64 * MIB) };
    let disk = Disk::open_with(settings, metrics.clone(), tuning).unwrap();
    let file = disk.file(&key("a", MIB));
    let (sender, receiver) = mpsc::channel();
    for at in 0..4 {
        let sender = sender.clone();
        let done: Done = Box::new(move |result| sender.send((at, result)).unwrap());
        let may_let_go = at != 1;
        let job = WriteJob { may_let_go, done: Some(done), ..job(&file, Pages::new(at * 10, at * 10 + 2)) };
        disk.write(job).ok().unwrap();
    }
    assert_eq!(disk.write(job(&file, Pages::new(50, 59))).err().unwrap().pages, Pages::new(50, 59));
    assert_eq!(disk.let_go(3 * PAGE_BYTES), 4 * PAGE_BYTES);
    let mut gone: Vec<_> = receiver.try_iter().collect();
    gone.sort_by_key(|(at, _)| *at);
    assert_eq!(gone, [(0, Err(WriteError::LetGo)), (2, Err(WriteError::LetGo))]);
    assert!(disk.sync(clock::now() + PATIENCE));
    assert_eq!(file.held_runs(), [Pages::new(10, 12), Pages::new(30, 32)]);
    assert_eq!((metrics.disk_queue_bytes.get(), metrics.disk_let_go_bytes.get()), (0, 4 * PAGE_BYTES));
}

#[test]
fn a_whole_file_waits_for_no_neighbours_and_a_part_does() {
    let dir = tempfile::tempdir().unwrap();
    let tuning = Tuning { lone_wait: 60 * PATIENCE, ..quick() };
    let disk = Disk::open_with(settings(dir.path(), 64 * MIB), Arc::default(), tuning).unwrap();
    let (sender, receiver) = mpsc::channel();
    for (name, size_bytes, pages) in [("part", 4 * PAGE_BYTES, Pages::new(0, 3)), ("whole", 5000, Pages::new(0, 2))] {
        let (sender, file) = (sender.clone(), disk.file(&key(name, size_bytes)));
        let written: Box<dyn FnOnce() + Send> = Box::new(move || sender.send(name).unwrap());
        disk.write(WriteJob { written: Some(written), ..job(&file, pages) }).ok().unwrap();
    }
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok("whole"));
    assert!(disk.sync(clock::now() + PATIENCE));
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["part"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    /// Random writes, discards and restarts against a set of pages; the limit is never reached here.
    #[test]
    fn the_cache_holds_what_the_model_holds(steps in proptest::collection::vec((0u8..12, 0usize..5, 0u64..600, 1u64..80), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = open(dir.path(), 256 * MIB);
        let keys = [5000, 60_000, 65_537, 2 * MIB, 2 * MIB + 5].map(|size| key(&format!("f{size}"), size));
        let mut model: BTreeMap<usize, std::collections::BTreeSet<u64>> = BTreeMap::new();
        for (what, at, start, count) in steps {
            let file = disk.file(&keys[at]);
            let held = model.entry(at).or_default();
            match what {
                0 => { file.discard(); held.clear(); }
                1 => { drop(file); drop(disk); disk = open(dir.path(), 256 * MIB); }
                _ => {
                    let start = start % keys[at].page_count();
                    let pages = Pages::new(start, (start + count).min(keys[at].page_count()));
                    disk.write(job(&file, pages)).ok().unwrap();
                    if what < 5 {
                        prop_assert!(disk.sync(clock::now() + PATIENCE));
                        prop_assert!(file.durable(pages));
                    } else {
                        prop_assert!(disk.shared().queue.flush(clock::now() + PATIENCE));
                    }
                    held.extend(pages.iter());
                }
            }
            let file = disk.file(&keys[at]);
            let found: Vec<u64> = file.held_runs().into_iter().flat_map(Pages::iter).collect();
            prop_assert_eq!(found, model[&at].iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(check(&file), model[&at].len() as u64);
        }
    }
}
