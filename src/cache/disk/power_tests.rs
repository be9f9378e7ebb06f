//! Power cuts of a simulated disk in the middle of random work: after each, what was reported durable is there,
//! nothing is held that was not written, every byte is right and the ledger is true.
//!
//! `BRAIDFS_CUTS` sets how many, `BRAIDFS_SEED` the seed of the first.

use super::simulated::{Lie, Lost, SimulatedDisk};
use super::tests::{MIB, check, from_environment, job, key, quick, settings};
use super::*;
use crate::chunk::CHUNK_PAGES;
use drive::Drive;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

const CUTS: u64 = 100;
const DIR: &str = "/home/user/cache";
const PATIENCE: Duration = Duration::from_secs(60);
/// One folder goes through so many cuts.
const CUTS_IN_A_ROW: u64 = 8;
/// Everything fits.
const WIDE: u64 = 64 * MIB;
/// Two of the large files do.
const NARROW: u64 = 7 * MIB;
const FOLDERS: u64 = 3;

fn keys() -> Vec<FileKey> {
    let small = (0..10u64).map(|at| key(&format!("small{at}"), 1 + at * 6_500));
    let large = (0..6u64).map(|at| key(&format!("large{at}"), 200_000 + at * 600_000));
    small.chain(large).collect()
}

/// What is known of a file: which pages were ever given to be kept, and which were reported durable.
#[derive(Default)]
struct Model {
    /// Raised with each discard.
    life: u64,
    given: BTreeSet<u64>,
    reported: BTreeSet<u64>,
}

/// What is known of a small value: it is the durable one, or one of those put since.
#[derive(Default)]
struct Value {
    durable: Option<Vec<u8>>,
    since: Vec<Option<Vec<u8>>>,
}

impl Value {
    fn last_is_durable(&mut self) {
        if let Some(last) = std::mem::take(&mut self.since).pop() {
            self.durable = last;
        }
    }

    fn found(&mut self, found: Option<Vec<u8>>, narrow: bool) {
        let known = self.durable == found || self.since.contains(&found);
        assert!(known || narrow && found.is_none(), "{found:?} instead of {:?} or {:?}", self.durable, self.since);
        self.since.clear();
        self.durable = found;
    }
}

/// One cache folder through its power cuts.
struct Life {
    random: StdRng,
    limit: u64,
    keys: Vec<FileKey>,
    models: Arc<Mutex<Vec<Model>>>,
    listings: BTreeMap<Vec<u8>, Value>,
    mirrors: BTreeMap<u64, Value>,
    /// What the memory of the program that lost its power held to be durable.
    claimed: Vec<(usize, Vec<Pages>)>,
    pages_verified: u64,
    /// The cache has been opened whole.
    had_any: bool,
}

impl Life {
    fn of_seed(seed: u64) -> Life {
        let keys = keys();
        let models = keys.iter().map(|_| Model::default()).collect();
        Life {
            random: StdRng::seed_from_u64(seed),
            limit: if seed.is_multiple_of(2) { WIDE } else { NARROW },
            keys,
            models: Arc::new(Mutex::new(models)),
            listings: BTreeMap::new(),
            mirrors: BTreeMap::new(),
            claimed: Vec::new(),
            pages_verified: 0,
            had_any: false,
        }
    }

    fn open(&self, simulated: &Arc<SimulatedDisk>) -> Result<Disk, OpenError> {
        let tuning = Tuning { drive: Drive::simulated(simulated), ..quick() };
        let disk = Disk::open_with(settings(Path::new(DIR), self.limit), Arc::default(), tuning)?;
        // While what a state without a durable byte left is being cleared away, nothing that is put is kept.
        let deadline = clock::now() + PATIENCE;
        while disk.shared().clearing.load(Ordering::Relaxed) && !simulated.is_dead() {
            assert!(clock::now() < deadline, "it is not cleared away");
            std::thread::yield_now();
        }
        Ok(disk)
    }

    /// Work until the power is gone, at the latest at the end of it.
    fn work(&mut self, simulated: &Arc<SimulatedDisk>, mut disk: Disk) {
        let mut handles: Vec<Option<Arc<DiskFile>>> = vec![None; self.keys.len()];
        for _ in 0..self.random.random_range(3..60) {
            if simulated.is_dead() {
                break;
            }
            let at = self.random.random_range(0..self.keys.len());
            let file = handles[at].clone().unwrap_or_else(|| disk.file(&self.keys[at]));
            match self.random.random_range(0..24) {
                0..=10 => self.write(&disk, at, &file, false),
                11..=13 => self.write(&disk, at, &file, true),
                14 => {
                    file.discard();
                    let model = &mut self.models.lock()[at];
                    (model.life, model.reported) = (model.life + 1, BTreeSet::new());
                }
                15 => self.put_value(&disk),
                16 => file.set_note(vec![7; self.random.random_range(1..200)]),
                17 | 18 => self.sync(simulated, &disk),
                19 | 20 => assert!(disk.shared().queue.flush(clock::now() + PATIENCE)),
                21 => handles[at] = None,
                22 => handles[at] = Some(file),
                _ => {
                    drop(file);
                    handles.fill(None);
                    disk.close();
                    match self.open(simulated) {
                        Ok(opened) => disk = opened,
                        Err(error) => {
                            assert!(simulated.is_dead(), "{error}");
                            return;
                        }
                    }
                }
            }
        }
        if self.random.random_bool(0.3) {
            self.sync(simulated, &disk);
        }
        simulated.cut_now();
        end(&disk);
        let open = handles.iter().enumerate().filter_map(|(at, file)| Some((at, file.as_ref()?)));
        self.claimed = open.map(|(at, file)| (at, durable_runs(file))).collect();
    }

    fn write(&mut self, disk: &Disk, at: usize, file: &Arc<DiskFile>, whole: bool) {
        let count = self.keys[at].page_count();
        let start = if whole || count <= CHUNK_PAGES { 0 } else { self.random.random_range(0..count) };
        let length = if whole { count } else { self.random.random_range(1..200) };
        for pages in Pages::new(start, (start + length).min(count)).split(256) {
            let models = self.models.clone();
            let mut known = models.lock();
            known[at].given.extend(pages.iter());
            let life = known[at].life;
            drop(known);
            let done: Done = Box::new(move |result| {
                let model = &mut models.lock()[at];
                if result.is_ok() && model.life == life {
                    model.reported.extend(pages.iter());
                }
            });
            let _ = disk.write(WriteJob { done: Some(done), ..job(file, pages) });
        }
    }

    fn put_value(&mut self, disk: &Disk) {
        let bytes = vec![self.random.random(); self.random.random_range(1..9000)];
        let number = self.random.random_range(0..FOLDERS);
        if self.random.random_bool(0.5) {
            let folder = format!("folder{number}").into_bytes();
            disk.put_listing(&folder, bytes.clone());
            self.listings.entry(folder).or_default().since.push(Some(bytes));
        } else {
            let bytes = self.random.random_bool(0.8).then_some(bytes);
            disk.put_mirror(number, bytes.clone());
            self.mirrors.entry(number).or_default().since.push(bytes);
        }
    }

    fn sync(&mut self, simulated: &SimulatedDisk, disk: &Disk) {
        assert!(disk.sync(clock::now() + PATIENCE));
        if !simulated.is_dead() && self.limit == WIDE {
            assert_eq!(disk.health(), Health::Ok);
            self.listings.values_mut().chain(self.mirrors.values_mut()).for_each(Value::last_is_durable);
        }
    }

    /// The power is back.
    fn verify(&mut self, simulated: &SimulatedDisk, disk: &Disk) {
        let narrow = self.limit == NARROW;
        if narrow {
            // What was reported may have been evicted since; what was still claimed at the end may not.
            self.models.lock().iter_mut().for_each(|model| model.reported.clear());
        }
        for (at, pages) in std::mem::take(&mut self.claimed) {
            self.models.lock()[at].reported.extend(pages.into_iter().flat_map(Pages::iter));
        }
        for (at, key) in self.keys.iter().enumerate() {
            let file = disk.file(key);
            let held: BTreeSet<u64> = file.held_runs().into_iter().flat_map(Pages::iter).collect();
            assert_eq!(check(&file), held.len() as u64, "{at}: a set bit lacks its bytes");
            let model = &mut self.models.lock()[at];
            assert!(held.is_subset(&model.given), "{at}: pages are held that were never written");
            let lost: Vec<_> = model.reported.difference(&held).collect();
            assert!(lost.is_empty(), "{at}: {lost:?} were durable and are not there");
            self.pages_verified += held.len() as u64;
            // From now on the cut is history: what is there is durable, nothing else is known of.
            (model.given, model.reported) = (held.clone(), held);
        }
        for (folder, value) in &mut self.listings {
            value.found(disk.listing(folder), narrow);
        }
        let found: BTreeMap<_, _> = disk.mirrors().into_iter().collect();
        for (label, value) in &mut self.mirrors {
            value.found(found.get(label).cloned(), false);
        }
        // In this order: what is deleted meanwhile is taken first and counted no more after that.
        let counted = disk.shared().space.data_bytes();
        let taken = simulated.allocated_below(&Path::new(DIR).join("data"));
        let found = || data_files(disk, simulated);
        assert!(taken <= counted, "{taken} bytes of data on disk, {counted} counted:\n{}", found());
        // A state file that never had a durable byte cannot be told from a damaged one.
        let set_aside = simulated.exists(&Path::new(DIR).join("state.redb.damaged-1"));
        assert!(!set_aside || !self.had_any, "the state was taken for damaged");
        assert!(set_aside || disk.health() == Health::Ok);
        self.had_any |= !set_aside;
    }
}

/// Each data file: what it takes, and what the tables say of it.
fn data_files(disk: &Disk, simulated: &SimulatedDisk) -> String {
    let shared = disk.shared();
    let mut lines = String::new();
    for id in 0..shared.places.marks().reserved {
        let paths = [shared.layout.pages(id), shared.layout.sums(id)];
        let [pages, sums] = paths.map(|path| simulated.allocated_bytes(&path));
        let row = shared.store.write(|transaction| store::data_row(transaction, id)).expect("the tables can be read");
        if pages + sums > 0 || row.is_some() {
            lines += &format!("{id}: {pages} and {sums}, {row:?}");
            if let Some(key) = row.and_then(|row| row.key).as_deref().and_then(FileKey::decode) {
                let file = disk.file(&key);
                let content = file.content.lock();
                let charged = content::own_charge(&content.durable);
                lines += &format!(", {:?}, {charged} and {}", content.record, content.charged_bytes);
            }
            lines += "\n";
        }
    }
    lines
}

/// What the memory of a program holds to be durable and readable.
fn durable_runs(file: &DiskFile) -> Vec<Pages> {
    let content = file.content.lock();
    record::runs(&(&content.written & &content.durable), Pages::new(0, file.key().page_count()))
}

/// Let the threads of a disk without power run out, so that nobody changes what it held.
fn end(disk: &Disk) {
    let shared = disk.shared();
    let mut threads = std::mem::take(&mut *disk.handle.threads.lock()).into_iter();
    shared.queue.stop();
    threads.next().map(JoinHandle::join).expect("the writer").expect("it does not panic");
    shared.commits.stop();
    shared.readers.stop();
    threads.for_each(|thread| thread.join().expect("no thread of the disk panics"));
}

/// Says which cut failed.
struct Saying(u64, u64);

impl Drop for Saying {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the {}th cut of the folder of seed {}", self.0, self.1);
        }
    }
}

/// Cut the power of one folder again and again; says what each cut found.
fn cut_in_a_row(seed: u64, cuts: u64, lie: Option<Lie>) -> (Vec<Lost>, u64) {
    let mut life = Life::of_seed(seed);
    let mut simulated = SimulatedDisk::new();
    lie.into_iter().for_each(|lie| simulated.lie(lie));
    let mut lost = Vec::new();
    while (lost.len() as u64) < cuts {
        let _saying = Saying(lost.len() as u64, seed);
        // Now and then while opening, which is when the last cut is being cleared up.
        let soon = life.random.random_bool(0.2);
        if soon {
            simulated.cut_after(life.random.random_range(1..40));
        }
        match life.open(&simulated) {
            Ok(disk) if simulated.is_dead() => end(&disk),
            Ok(disk) => {
                if !soon {
                    life.verify(&simulated, &disk);
                    simulated.cut_after(life.random.random_range(1..500));
                }
                life.work(&simulated, disk);
            }
            Err(error) => assert!(simulated.is_dead(), "{error}"),
        }
        let (after, cost) = simulated.after_the_cut(life.random.random());
        lost.push(cost);
        simulated = after;
    }
    let disk = life.open(&simulated).unwrap();
    life.verify(&simulated, &disk);
    (lost, life.pages_verified)
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_durable() {
    let (cuts, first) = (from_environment("BRAIDFS_CUTS", CUTS), from_environment("BRAIDFS_SEED", 1));
    let (mut lost, mut verified) = (Vec::new(), 0);
    for seed in first.. {
        let (some, pages) = cut_in_a_row(seed, CUTS_IN_A_ROW.min(cuts - lost.len() as u64), None);
        lost.extend(some);
        verified += pages;
        if lost.len() as u64 == cuts {
            break;
        }
    }
    let count = |at_risk: fn(&Lost) -> bool| lost.iter().filter(|lost| at_risk(lost)).count() as u64;
    let unsynced = count(|lost| lost.unsynced_bytes > 0);
    let (bytes, torn) = (count(|lost| lost.lost_bytes > 0), count(|lost| lost.torn_writes > 0));
    let names = count(|lost| lost.names_undone > 0);
    println!(
        "{cuts} cuts: {unsynced} found unsynced bytes, {bytes} lost some, {torn} tore writes, {names} undid names; \
         {verified} pages verified"
    );
    assert!(bytes >= cuts / 4 && torn >= cuts / 10 && names >= cuts / 50, "too little was at risk");
    assert!(verified >= 50 * cuts, "too little was held");
}

#[test]
fn a_sync_that_does_nothing_is_noticed() {
    for lie in [Lie::Files(".pages"), Lie::Files(".sums"), Lie::Files("state.redb"), Lie::Folders] {
        let failed = |seed| std::panic::catch_unwind(|| cut_in_a_row(seed, CUTS_IN_A_ROW, Some(lie))).is_err();
        assert!((1..40).any(failed), "{lie:?} made no difference");
    }
}
