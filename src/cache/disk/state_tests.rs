//! Every transition of every state, on the real store; and the ones that a file's life takes it through.

use super::commit::change_of;
use super::shared::Tuning;
use super::tests::{MIB, check, job, key, open, put, quick, settings};
use super::transaction::{Batch, Made, apply};
use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A cache whose commits come only when they are asked for.
fn patient(dir: &Path) -> Disk {
    let tuning = Tuning { commit_every: PATIENCE, ..quick() };
    Disk::open_with(settings(dir, 64 * MIB), Arc::default(), tuning).unwrap()
}

fn sync(disk: &Disk) {
    assert!(disk.sync(clock::now() + PATIENCE));
}

/// The states from nothing to `to`, by the fewest transitions.
fn way(to: State, packed: bool) -> Option<Vec<State>> {
    let mut ways = vec![vec![State::Idle]];
    for at in 0.. {
        let way = ways.get(at)?.clone();
        let from = *way.last()?;
        if from == to {
            return Some(way);
        }
        for next in State::ALL.into_iter().filter(|&next| from.may_become(next, packed)) {
            if !ways.iter().any(|way| way.last() == Some(&next)) {
                ways.push(way.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}

/// A file with a place and no page, and the change that puts its record into `state`.
struct Subject {
    disk: Disk,
    file: Arc<DiskFile>,
}

impl Subject {
    fn new(disk: &Disk, name: &str, packed: bool) -> Subject {
        let file = disk.file(&key(name, if packed { 20_000 } else { 2 * MIB }));
        let given = disk.shared().places.give(file.key().page_count());
        file.content.lock().place = Some(given.expect("ids enough").place);
        Subject { disk: disk.clone(), file }
    }

    fn attempt(&self, next: State, expected: Option<u64>) -> Made {
        let shared = self.disk.shared();
        if next == State::Idle {
            let place = self.file.content.lock().place.unwrap();
            let gone = super::transaction::Discarded { key: self.file.encoded().to_vec(), place, charged_bytes: 0 };
            apply(&shared.store, &Batch { discarded: vec![gone], listing_bytes_max: u64::MAX, ..Batch::default() })
                .unwrap();
            return Made::As(0);
        }
        let mut content = self.file.content.lock();
        content.record.get_or_insert_with(|| record(&self.file));
        let mut change = change_of(shared, &self.file, &content, Vec::new(), Vec::new(), false).unwrap();
        change.record.place = content.place.unwrap();
        (change.record.state, change.expected) = (next, expected);
        content.record = None;
        let batch = Batch { changes: vec![change], listing_bytes_max: u64::MAX, ..Batch::default() };
        apply(&shared.store, &batch).unwrap()[0]
    }

    /// What the table says now.
    fn stored(&self) -> (State, Option<u64>) {
        let found = self.disk.shared().store.read(|transaction| {
            let table = transaction.open_table(super::store::FILES).map_err(super::store::from_redb)?;
            let row = table.get(self.file.encoded()).map_err(super::store::from_redb)?;
            Ok(row.and_then(|row| super::record::Record::decode(row.value())))
        });
        found.unwrap().map_or((State::Idle, None), |record| (record.state, Some(record.revision)))
    }
}

fn record(file: &DiskFile) -> super::record::Record {
    let place = super::record::Place { data_id: 0, base_page: 0, packed: false };
    let path = file.key().path.clone();
    let (state, checksum, time_unix_s) = (State::Transferring, 0, 0);
    super::record::Record { place, state, revision: 0, offset_bytes: 0, checksum, time_unix_s, note: Some(path) }
}

#[test]
fn the_store_makes_every_transition_of_the_table_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let disk = patient(dir.path());
    let mut tried = 0;
    for packed in [false, true] {
        for (from, to) in State::ALL.into_iter().flat_map(|from| State::ALL.map(|to| (from, to))) {
            let Some(way) = way(from, packed) else { continue };
            if (from, to) == (State::Idle, State::Idle) {
                continue;
            }
            let subject = Subject::new(&disk, &format!("{packed} {from:?} {to:?}"), packed);
            let mut last = 0;
            for &state in &way[1..] {
                let Made::As(revision) = subject.attempt(state, subject.stored().1) else { panic!("{way:?}") };
                assert!(revision > last, "it only grows");
                last = revision;
            }
            let before = subject.stored();
            assert_eq!(before.0, from);
            let made = subject.attempt(to, before.1);
            tried += 1;
            match from.may_become(to, packed) {
                true => assert!(matches!(made, Made::As(_)) && subject.stored().0 == to, "{from:?} {to:?} {made:?}"),
                false => assert_eq!((made, subject.stored()), (Made::Illegal(from, to), before)),
            }
        }
    }
    // IDLE to IDLE is none; what lies in a pack is never PREPARING.
    assert_eq!(tried, 24 + 19);
}

#[test]
fn a_stale_writer_loses_in_every_state_also_where_a_record_was_deleted_between() {
    let dir = tempfile::tempdir().unwrap();
    let disk = patient(dir.path());
    for to in [State::Preparing, State::Transferring, State::Committing, State::Done] {
        let subject = Subject::new(&disk, &format!("{to:?}"), false);
        for &state in &way(to, false).unwrap()[1..] {
            assert!(matches!(subject.attempt(state, subject.stored().1), Made::As(_)));
        }
        let before = subject.stored();
        for stale in [None, before.1.map(|revision| revision - 1), before.1.map(|revision| revision + 1)] {
            assert_eq!(subject.attempt(to, stale), Made::Stale(before.1));
            assert_eq!(subject.stored(), before, "nothing was written");
        }
        // Deleted and made again: whoever knew the record before it is stale still.
        subject.attempt(State::Idle, before.1);
        assert_eq!(subject.stored(), (State::Idle, None));
        let Made::As(again) = subject.attempt(State::Transferring, None) else { panic!() };
        assert!(Some(again) > before.1, "{again} after {before:?}");
        assert_eq!(subject.attempt(State::Transferring, before.1), Made::Stale(Some(again)));
    }
}

#[test]
fn a_stale_file_in_memory_is_told_and_takes_over_what_the_table_says() {
    let dir = tempfile::tempdir().unwrap();
    let disk = patient(dir.path());
    let file = disk.file(&key("a", 2 * MIB));
    put(&disk, &file, Pages::new(0, 100)).unwrap();
    // Somebody else has changed the record behind its back.
    let change = {
        let content = file.content.lock();
        change_of(disk.shared(), &file, &content, Vec::new(), Vec::new(), false).unwrap()
    };
    apply(&disk.shared().store, &Batch { changes: vec![change], listing_bytes_max: u64::MAX, ..Batch::default() })
        .unwrap();
    let revision = file.state().1;
    assert_eq!(put(&disk, &file, Pages::new(100, 200)), Err(WriteError::Discarded));
    assert_eq!(disk.shared().metrics.disk_stale_changes.get(), 1);
    assert_eq!((file.state(), file.held_runs()), ((State::Transferring, revision + 1), vec![Pages::new(0, 100)]));
    put(&disk, &file, Pages::new(100, 200)).unwrap();
    assert!(check(&file) == 200 && file.state().1 > revision + 1);
    assert_eq!(disk.shared().metrics.disk_stale_changes.get(), 1);
}

#[test]
fn a_life_of_a_file_takes_the_drawn_way_and_its_revision_grows() {
    let dir = tempfile::tempdir().unwrap();
    let disk = patient(dir.path());
    let file = disk.file(&key("a", 2 * MIB));
    let all = Pages::of_file(2 * MIB);
    let mut last = file.state();
    assert_eq!(last, (State::Idle, 0));
    let mut became = |state: State| {
        let now = file.state();
        assert!(now.0 == state && now.1 > last.1, "{now:?} after {last:?}, not {state:?}");
        last = now;
    };
    // A place, and nothing in it yet.
    file.content.lock().place = Some(disk.shared().places.give(512).unwrap().place);
    let place = file.content.lock().place.unwrap();
    disk.shared().descriptors.create(place.data_id).unwrap();
    disk.shared().commits.put_announced(file.clone());
    sync(&disk);
    became(State::Preparing);
    put(&disk, &file, Pages::new(0, 100)).unwrap();
    became(State::Transferring);
    put(&disk, &file, Pages::new(100, 512)).unwrap();
    became(State::Committing);
    sync(&disk);
    became(State::Done);
    // A damaged page: found by a read, its bit cleared, then fetched again.
    let path = disk.shared().layout.pages(place.data_id);
    let data = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&data, &[0xaa; 9], 7 * PAGE_BYTES).unwrap();
    assert_eq!(check(&file), 512 - 64, "the run with the damage is not right");
    sync(&disk);
    became(State::Transferring);
    put(&disk, &file, Pages::new(7, 8)).unwrap();
    became(State::Committing);
    sync(&disk);
    became(State::Done);
    file.discard();
    sync(&disk);
    assert_eq!(file.state(), (State::Idle, 0));
    put(&disk, &file, all).unwrap();
    became(State::Committing);
    sync(&disk);
    became(State::Done);
    assert_eq!(check(&file), 512);
}

#[test]
fn what_was_committing_at_a_crash_is_verified_whole_and_then_done_or_carried_on() {
    for damaged in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let key = key("a", 2 * MIB + 5);
        let all = Pages::of_file(2 * MIB + 5);
        let disk = patient(dir.path());
        let file = disk.file(&key);
        put(&disk, &file, all).unwrap();
        assert_eq!(file.state().0, State::Committing);
        let path = disk.shared().layout.pages(file.content.lock().place.unwrap().data_id);
        // As a crash leaves it: nothing more is written, and the folder is another daemon's next.
        let crashed = tempfile::tempdir().unwrap();
        copy(dir.path(), crashed.path());
        let path = crashed.path().join(path.strip_prefix(dir.path()).unwrap());
        if damaged {
            let data = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&data, &[0xaa; 9], 300 * PAGE_BYTES).unwrap();
        }
        let disk = open(crashed.path(), 64 * MIB);
        let file = disk.file(&key);
        assert_eq!(file.state().0, State::Committing);
        sync(&disk);
        sync(&disk);
        sync(&disk);
        match damaged {
            false => assert_eq!((file.state().0, check(&file)), (State::Done, 513)),
            true => {
                assert_eq!((file.state().0, file.missing(all)), (State::Transferring, vec![Pages::new(300, 301)]));
                put(&disk, &file, Pages::new(300, 301)).unwrap();
                sync(&disk);
                assert_eq!((file.state().0, check(&file)), (State::Done, 513));
            }
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * MIB + 5);
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => {
                std::fs::create_dir(&to).unwrap();
                copy(&entry.path(), &to);
            }
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn small_files_in_a_pack_are_done_at_once_and_carry_on_after_damage() {
    let dir = tempfile::tempdir().unwrap();
    let disk = patient(dir.path());
    let file = disk.file(&key("small", 40_000));
    put(&disk, &file, Pages::new(0, 4)).unwrap();
    assert_eq!(file.state().0, State::Transferring);
    put(&disk, &file, Pages::new(4, 10)).unwrap();
    assert_eq!(file.state().0, State::Done);
    let whole = disk.file(&key("whole", 40_000));
    disk.write(job(&whole, Pages::new(0, 10))).ok().unwrap();
    sync(&disk);
    assert_eq!(whole.state().0, State::Done);
    let place = whole.content.lock().place.unwrap();
    let data = std::fs::OpenOptions::new().write(true).open(disk.shared().layout.pages(place.data_id)).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&data, &[0xaa; 9], (place.base_page + 3) * PAGE_BYTES).unwrap();
    assert_eq!(check(&whole), 0);
    sync(&disk);
    assert_eq!(whole.state().0, State::Transferring);
    assert_eq!(disk.shared().metrics.disk_stale_changes.get(), 0);
}
