//! Altered bytes anywhere in the cache folder: what is read from it is right or not held, and nothing panics.
//!
//! `BRAIDFS_FLIPS` sets how many, `BRAIDFS_SEED` the first seed. A folder in memory (TMPDIR) makes it quick.

use super::tests::{MIB, check, from_environment, job, key, open, quick, settings};
use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

const FLIPS: u64 = 200;
const LIMIT: u64 = 64 * MIB;
const PATIENCE: Duration = Duration::from_secs(60);
const FOLDERS: u8 = 20;
const MIRRORS: u64 = 10;

fn keys() -> Vec<FileKey> {
    let small = (0..8u64).map(|at| key(&format!("small{at}"), 1 + at * 8_900));
    small.chain([key("whole", 400_001), key("part", MIB), key("scattered", 4 * MIB)]).collect()
}

fn listing(folder: u8) -> Vec<u8> {
    vec![folder; 100 + 150 * usize::from(folder)]
}

fn mirror(label: u64) -> Vec<u8> {
    vec![label as u8; 70]
}

/// A cache with files of every kind: packed, complete, begun, full of holes.
fn fill(dir: &Path) {
    let disk = open(dir, LIMIT);
    for key in keys() {
        let file = disk.file(&key);
        file.set_note(vec![5; 40]);
        let pages = match key.path.as_slice() {
            b"part" => vec![Pages::new(20, 90), Pages::new(100, 101)],
            b"scattered" => (0..40).map(|at| Pages::new(at * 25, at * 25 + 1)).collect(),
            _ => vec![Pages::of_file(key.size_bytes)],
        };
        pages.into_iter().for_each(|pages| disk.write(job(&file, pages)).ok().unwrap());
    }
    (0..FOLDERS).for_each(|folder| disk.put_listing(&[folder], listing(folder)));
    (0..MIRRORS).for_each(|label| disk.put_mirror(label, Some(mirror(label))));
    assert!(disk.sync(clock::now() + PATIENCE) && disk.sync(clock::now() + PATIENCE));
    disk.close();
}

/// Every file below a folder, by its path in it.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in files_below(from) {
        let copy = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(&path, copy).unwrap();
    }
}

/// Alter one file of the folder; says how, for the message.
fn alter(dir: &Path, random: &mut StdRng) -> String {
    let files: Vec<_> = files_below(dir).into_iter().filter(|path| fs::metadata(path).unwrap().len() > 0).collect();
    // The state has most of what can go wrong, and each data file as much as any other.
    let at = random.random_range(0..files.len() + files.len() / 2);
    let path = files.get(at).cloned().unwrap_or_else(|| dir.join("state.redb"));
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    let offset = random.random_range(0..length);
    let how = match random.random_range(0..10) {
        0 => {
            file.set_len(offset).unwrap();
            format!("cut off at {offset}")
        }
        1 => {
            let bytes: Vec<u8> = (0..random.random_range(1..64)).map(|_| random.random()).collect();
            file.write_all_at(&bytes, offset).unwrap();
            format!("{} bytes overwritten at {offset}", bytes.len())
        }
        _ => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            let bit = random.random_range(0..8);
            file.write_all_at(&[byte[0] ^ 1 << bit], offset).unwrap();
            format!("bit {bit} of byte {offset} flipped")
        }
    };
    format!("{} of {length} bytes, {how}", path.strip_prefix(dir).unwrap().display())
}

/// What an altered folder still gives, all of it right: pages, listings and records.
fn held(disk: &Disk) -> (u64, usize, usize) {
    let pages = keys().iter().map(|key| check(&disk.file(key))).sum();
    for key in keys() {
        let note = disk.file(&key).note();
        assert!(note.is_none_or(|note| note == vec![5; 40]), "a wrong note");
    }
    let mut listings = BTreeMap::new();
    disk.listings(|folder, bytes| assert!(listings.insert(folder.to_vec(), bytes.to_vec()).is_none()));
    assert!(listings.iter().all(|(folder, bytes)| *bytes == listing(folder[0])), "a wrong listing");
    for folder in 0..FOLDERS {
        assert!(disk.listing(&[folder]).is_none_or(|bytes| bytes == listing(folder)), "a wrong listing");
    }
    let mirrors = disk.mirrors();
    assert!(mirrors.iter().all(|(label, bytes)| *bytes == mirror(*label)), "a wrong record of a mirror");
    (pages, listings.len(), mirrors.len())
}

/// A disk that failed may leave threads behind when it is closed, which hold its lock until they notice.
fn open_again(dir: &Path) -> Disk {
    let deadline = clock::now() + PATIENCE;
    loop {
        match Disk::open_with(settings(dir, LIMIT), Arc::default(), quick()) {
            Err(OpenError::InUse { .. }) if clock::now() < deadline => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// What was lost is fetched, and the cache is whole again.
fn heal(disk: &Disk) {
    let deadline = clock::now() + PATIENCE;
    while disk.health() != Health::Ok {
        assert!(clock::now() < deadline, "it never works again: {:?}", disk.health());
        std::thread::yield_now();
    }
    // What was found damaged is dropped by a commit.
    assert!(disk.sync(deadline));
    for key in keys().iter().filter(|key| key.size_bytes <= MIB) {
        let file = disk.file(key);
        for pages in file.missing(Pages::of_file(key.size_bytes)) {
            disk.write(job(&file, pages)).ok().unwrap();
        }
        assert!(disk.sync(deadline));
        assert_eq!(check(&file), key.page_count());
    }
}

/// Says which one failed.
struct Saying(u64, String);

impl Drop for Saying {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: {}", self.0, self.1);
        }
    }
}

#[test]
fn altered_bytes_anywhere_are_never_taken_for_right_ones() {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    let before = std::panic::take_hook();
    let us = std::thread::current().id();
    std::panic::set_hook(Box::new(move |what| {
        // Other tests may run, and fail, beside this one.
        let thread = std::thread::current();
        if thread.id() == us || thread.name().is_some_and(|name| name.starts_with("disk-")) {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
        before(what);
    }));
    let (flips, first) = (from_environment("BRAIDFS_FLIPS", FLIPS), from_environment("BRAIDFS_SEED", 1));
    let dir = tempfile::tempdir().unwrap();
    let (whole, altered) = (dir.path().join("whole"), dir.path().join("altered"));
    fill(&whole);
    let disk = open(&whole, LIMIT);
    let all = held(&disk);
    assert_eq!((all.1, all.2), (usize::from(FOLDERS), MIRRORS as usize));
    disk.close();
    let (mut noticed, mut emptied) = (0, 0);
    for seed in first..first + flips {
        let mut random = StdRng::seed_from_u64(seed);
        let _ = fs::remove_dir_all(&altered);
        copy(&whole, &altered);
        let _saying = Saying(seed, alter(&altered, &mut random));
        let disk = open(&altered, LIMIT);
        let left = held(&disk);
        // What was found while reading is dropped; the rest is there the next time too.
        if seed.is_multiple_of(2) {
            disk.close();
            held(&open_again(&altered));
        } else {
            heal(&disk);
        }
        noticed += u64::from(left != all);
        emptied += u64::from(left.0 == 0);
        assert_eq!(PANICS.load(Ordering::Relaxed), 0, "a panic");
    }
    println!("{flips} alterations: {noticed} cost something, {emptied} of them everything; 0 wrong, 0 panics");
    assert!(noticed >= flips / 4, "too few have hit anything");
}
