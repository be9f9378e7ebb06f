//! A dataset that is being read through a mount while something cruel happens, and what its cache folder claims
//! afterwards.

use crate::support::faulty::{Fault, FaultyMirror, Tree, generate};
use crate::support::mounted::Mount;
use crate::support::reading;
use braidfs::cache::disk::{Disk, FileKey, ReadNow, Settings};
use braidfs::chunk::{PAGE_BYTES, Pages};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};

const LARGE: u64 = 4;
const LARGE_BYTES: u64 = 12 << 20;
const SMALL: u64 = 60;
/// The date of every file of a [`Tree`].
const MODIFIED_UNIX_S: i64 = 1_714_979_280;
const READ_BYTES: u64 = 64 << 10;
const BYTES_PER_SECOND: u64 = 12 << 20;

/// A number that the environment may set: how often a proof is run, from which seed.
pub fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A file, generated from its seed.
pub struct Generated {
    pub name: String,
    pub seed: u64,
    pub size_bytes: u64,
}

/// Large files, and small ones that the cache packs together.
pub fn files() -> Vec<Generated> {
    let large = (0..LARGE).map(|at| Generated {
        name: format!("large-{at}.bin"),
        seed: at,
        size_bytes: LARGE_BYTES + at * 1111,
    });
    let small =
        (0..SMALL).map(|at| Generated { name: format!("small-{at}"), seed: 100 + at, size_bytes: 1 + at * 1093 });
    large.chain(small).collect()
}

/// Two mirrors of them, slow enough that something is always under way.
pub fn mirrors() -> Vec<FaultyMirror> {
    mirrors_of(BYTES_PER_SECOND)
}

/// The same at another rate each.
pub fn mirrors_of(bytes_per_second: u64) -> Vec<FaultyMirror> {
    let tree =
        files().into_iter().fold(Tree::new(), |tree, file| tree.with_generated(file.name, file.seed, file.size_bytes));
    let mirrors: Vec<_> = (0..2).map(|_| FaultyMirror::start(tree.clone())).collect();
    mirrors.iter().for_each(|mirror| mirror.always(Fault::Shape { bytes_per_second }));
    mirrors
}

/// Their base URLs.
pub fn urls(mirrors: &[FaultyMirror]) -> Vec<String> {
    mirrors.iter().map(FaultyMirror::url).collect()
}

/// Bytes of files that they have sent.
pub fn sent(mirrors: &[FaultyMirror]) -> u64 {
    mirrors.iter().map(FaultyMirror::data_bytes).sum()
}

/// Readers of the whole dataset: one in order, one at random, one of the small files. Every byte is compared; they
/// end where the mount does.
pub fn readers<'scope>(
    scope: &'scope Scope<'scope, '_>,
    mount: &Mount,
    seed: u64,
) -> Vec<ScopedJoinHandle<'scope, io::Result<()>>> {
    let root = mount.path("");
    let in_order = |root: PathBuf| -> io::Result<()> {
        files().iter().take(LARGE as usize).try_for_each(|file| read(&root, file, 0, file.size_bytes))
    };
    let at_random = move |root: PathBuf| -> io::Result<()> {
        let (mut random, files) = (StdRng::seed_from_u64(seed), files());
        (0..3000).try_for_each(|_| {
            let file = &files[random.random_range(0..LARGE as usize)];
            read(&root, file, random.random_range(0..file.size_bytes), 3 * PAGE_BYTES)
        })
    };
    let small = |root: PathBuf| -> io::Result<()> {
        files().iter().skip(LARGE as usize).try_for_each(|file| read(&root, file, 0, file.size_bytes))
    };
    let (first, second) = (root.clone(), root.clone());
    vec![scope.spawn(move || in_order(first)), scope.spawn(move || at_random(second)), scope.spawn(move || small(root))]
}

fn read(root: &Path, file: &Generated, offset: u64, length: u64) -> io::Result<()> {
    let opened = File::open(root.join(&file.name))?;
    let end = (offset + length).min(file.size_bytes);
    let mut at = offset;
    while at < end {
        let some = READ_BYTES.min(end - at);
        reading::generated_at(&opened, file.seed, at, some as usize)?;
        at += some;
    }
    Ok(())
}

/// Read everything through the mount and compare every byte.
pub fn read_all(mount: &Mount) {
    for file in files() {
        reading::generated(&mount.path(&file.name), file.seed, file.size_bytes);
    }
}

/// What a cache folder claims.
#[derive(Clone, Copy, Default, Debug)]
pub struct Held {
    /// Bytes that it gave, all of them right.
    pub bytes: u64,
    /// Pages that it claimed and did not have.
    pub damaged_pages: u64,
}

impl Held {
    /// Both together.
    pub fn and(self, other: Held) -> Held {
        Held { bytes: self.bytes + other.bytes, damaged_pages: self.damaged_pages + other.damaged_pages }
    }
}

/// The same as [`held`], where there is a cache at all.
pub fn find_held(cache_dir: &Path) -> Option<Held> {
    find_state_folder(cache_dir).map(|_| held(cache_dir))
}

/// Open a cache folder that nobody uses and read back all that it claims of the dataset.
pub fn held(cache_dir: &Path) -> Held {
    let settings = Settings {
        dir: state_folder(cache_dir),
        size_limit_bytes: 1 << 40,
        free_floor_bytes: 0,
        owner: "a test".to_owned(),
        queue_bytes_max: 1 << 20,
        scrub_bytes_per_second: None,
    };
    let metrics = Arc::default();
    let disk = Disk::open(settings, Arc::clone(&metrics)).expect("a folder that nobody uses can be opened");
    let mut held = Held::default();
    for file in files() {
        let key = FileKey {
            path: file.name.clone().into_bytes(),
            size_bytes: file.size_bytes,
            modified_unix_s: Some(MODIFIED_UNIX_S),
            generation: 0,
        };
        let of_it = disk.file(&key);
        for pages in of_it.held_runs().into_iter().flat_map(|run| run.split(64).collect::<Vec<Pages>>()) {
            let length = pages.len_bytes(file.size_bytes);
            let (mut got, mut wanted) = (vec![0; length as usize], vec![0; length as usize]);
            match of_it.read_blocking(pages, &mut got) {
                ReadNow::Done => held.bytes += length,
                ReadNow::Damaged(_) => continue,
                other => panic!("{}: {pages:?} were held, and then {other:?}", file.name),
            }
            generate(file.seed, pages.start * PAGE_BYTES, &mut wanted);
            assert!(got == wanted, "{}: wrong bytes in {pages:?}", file.name);
        }
    }
    held.damaged_pages = metrics.disk_damaged_pages.get();
    disk.close();
    held
}

/// The dataset's own folder in a `--cache-dir`.
pub fn state_folder(cache_dir: &Path) -> PathBuf {
    find_state_folder(cache_dir).unwrap_or_else(|| panic!("no cache in {}", cache_dir.display()))
}

fn find_state_folder(cache_dir: &Path) -> Option<PathBuf> {
    let below = std::fs::read_dir(cache_dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut all = std::iter::once(cache_dir.to_path_buf()).chain(below);
    all.find(|folder| folder.join("state.redb").exists())
}
