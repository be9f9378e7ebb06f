//! Open file versions: what a handle is pinned to.

use crate::cache::disk::DiskFile;
use crate::chunk::{Inode, MirrorId, MirrorSet, Pages};
use crate::fetch::compare::Watched;
use crate::fetch::error::Trouble;
use crate::fetch::hashes::Hashes;
use crate::fetch::reading::Usage;
use crate::fetch::slow::Waits;
use crate::fetch::validators::Validators;
use crate::namespace::{Version, same_in_some_zone};
use crate::scheduler::FileRule;
use crate::sources::{Digest, Validator};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// One file version that somebody has open or prefetches.
pub struct OpenFile {
    /// Which.
    pub inode: Inode,
    /// Its path below the base of each mirror, raw bytes.
    pub path: Vec<u8>,
    /// Its size.
    pub size_bytes: u64,
    /// What its path is given in configuration.
    pub rule: FileRule,
    /// Its place in the disk cache, where there is one.
    pub disk: Option<Arc<DiskFile>>,
    /// Rings when pages of it became durable, or hopeless.
    pub changed: Notify,
    /// What it hashes to, as far as that is known.
    pub hashes: Hashes,
    /// Pages that are wanted to compare mirrors with.
    pub watched: Watched,
    /// Who reads how much of it.
    pub usage: Usage,
    /// What brings its pages, for who looks into slow reads.
    pub waits: Waits,
    /// Nothing of it is given to readers for now.
    sealed: AtomicBool,
    validators: Mutex<Validators>,
    /// The date of this version, and the mirrors that gave it.
    dated: Mutex<(Option<i64>, MirrorSet)>,
    hopeless: Mutex<Vec<(Pages, Trouble)>>,
    users: AtomicUsize,
    jobs: AtomicUsize,
    /// The scheduler was told that it is open.
    told: OnceLock<()>,
}

impl OpenFile {
    /// Does a prefetch job wait until pages of it are durable?
    pub fn wanted_durable(&self) -> bool {
        self.jobs.load(Ordering::Relaxed) > 0
    }

    /// A prefetch job begins (`true`) or ends (`false`) to wait for it.
    pub fn job(&self, begins: bool) {
        match begins {
            true => self.jobs.fetch_add(1, Ordering::Relaxed),
            false => self.jobs.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Handles, jobs and checks that have it open.
    pub fn user_count(&self) -> usize {
        self.users.load(Ordering::Relaxed)
    }

    /// Every page of it.
    pub fn pages(&self) -> Pages {
        Pages::of_file(self.size_bytes)
    }

    /// Can `pages` be read from disk?
    pub fn on_disk(&self, pages: Pages) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.held(pages))
    }

    /// What `mirror`, known by `label`, said of this version when it was last asked.
    pub fn validator(&self, label: u64) -> Option<Validator> {
        self.validators.lock().get(label).cloned()
    }

    /// `mirror` serves this version under `validator`. Kept on disk with the version.
    pub fn confirmed(&self, label: u64, validator: Validator) {
        self.note(|validators| {
            let is_news = validators.get(label) != Some(&validator);
            if is_news {
                validators.set(label, validator);
            }
            is_news
        });
    }

    /// Is nothing of it given to readers, though it may be held?
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Give nothing of it to readers from now on, or all again.
    pub fn seal(&self, sealed: bool) {
        self.sealed.store(sealed, Ordering::Release);
    }

    /// May bytes of the mirror known by `label` be in it? Where nobody's are, this one's are the first.
    pub fn admits(&self, label: u64) -> bool {
        self.note(|validators| validators.believed().is_empty() && validators.believe(label));
        self.validators.lock().believed().contains(&label)
    }

    /// The mirror known by `label` serves the same bytes as those that are held. Kept on disk with the version.
    pub fn believe(&self, label: u64) {
        self.note(|validators| validators.believe(label));
    }

    /// Those whose bytes may be in it.
    pub fn believed(&self) -> Vec<u64> {
        self.validators.lock().believed().to_vec()
    }

    /// What is held of it is not to be trusted, or is nobody's: nothing of it is on disk any more.
    pub fn disbelieve(&self) {
        self.note(|validators| {
            validators.disbelieve();
            if let Some(disk) = &self.disk {
                disk.discard();
            }
            true
        });
    }

    /// Change what is kept on disk with the version, where `change` says that it is one.
    pub(super) fn note(&self, change: impl FnOnce(&mut Validators) -> bool) -> bool {
        let mut validators = self.validators.lock();
        let changed = change(&mut validators);
        if let Some(disk) = self.disk.as_ref().filter(|_| changed) {
            disk.set_note(validators.encode());
        }
        changed
    }

    /// The hashes of the whole file that came with answers, and by whose.
    pub fn hashes_said(&self) -> Vec<(u64, Digest)> {
        self.validators.lock().said.clone()
    }

    /// What its bytes on disk hashed to when it was done last.
    pub fn verified(&self) -> Option<Digest> {
        self.validators.lock().verified.clone()
    }

    /// Which mirrors have it, as far as is known by now. One that had it stays dated: what it is still being asked for may
    /// be answered with what it has now.
    pub fn served_as(&self, version: &Version) {
        let mut dated = self.dated.lock();
        dated.0 = version.modified_unix_s;
        version.dated.iter().for_each(|mirror| dated.1.insert(mirror));
    }

    /// `mirror` has never served this version, and answers with `validator`: is that of another date than its own index
    /// gave? It may have been replaced since by a file of the same size. What another host answered, whom the mirror
    /// redirected us to, has dates of its own.
    pub fn is_otherwise_dated(&self, mirror: MirrorId, validator: &Validator) -> bool {
        let dated = self.dated.lock();
        let (Some(listed), Some(exact)) = (dated.0, validator.last_modified) else { return false };
        validator.host.is_none() && dated.1.contains(mirror) && !same_in_some_zone(listed, exact)
    }

    /// Nobody can bring `pages`. For prefetch jobs, which ask for it by [`OpenFile::take_hopeless`].
    pub fn give_up(&self, pages: Pages, why: Trouble) {
        let mut hopeless = self.hopeless.lock();
        // Jobs read only that something failed and why: a bound, not a history.
        if hopeless.len() < 64 {
            hopeless.push((pages, why));
        }
        drop(hopeless);
        self.changed.notify_waiters();
    }

    /// Why some of `pages` could not be brought since the last call.
    pub fn take_hopeless(&self, pages: Pages) -> Option<Trouble> {
        let mut hopeless = self.hopeless.lock();
        let at = hopeless.iter().position(|(failed, _)| !failed.intersect(pages).is_empty())?;
        Some(hopeless.swap_remove(at).1)
    }
}

/// Every open file version.
#[derive(Default)]
pub struct Opened {
    files: Mutex<HashMap<Inode, Arc<OpenFile>>>,
}

/// What is needed to open a version for the first time.
pub struct Opening {
    /// Which.
    pub inode: Inode,
    /// Its path.
    pub path: Vec<u8>,
    /// Its size.
    pub size_bytes: u64,
    /// What its path is given in configuration.
    pub rule: FileRule,
    /// Its place on disk.
    pub disk: Option<Arc<DiskFile>>,
}

impl Opened {
    /// One that is open already, used once more. None too where its opener has not told of it yet.
    pub fn reuse(&self, inode: Inode) -> Option<Arc<OpenFile>> {
        let files = self.files.lock();
        let file = files.get(&inode).filter(|file| file.told.get().is_some())?;
        file.users.fetch_add(1, Ordering::Relaxed);
        Some(file.clone())
    }

    /// Open it, or reuse what somebody else opened meanwhile. `tell` is called where it is new; everyone who opens it
    /// waits until that has returned, so that what they say of the file comes after it.
    pub fn open(&self, opening: Opening, tell: impl FnOnce(&OpenFile)) -> Arc<OpenFile> {
        let file = self.used(opening);
        file.told.get_or_init(|| tell(&file));
        file
    }

    fn used(&self, opening: Opening) -> Arc<OpenFile> {
        let mut files = self.files.lock();
        if let Some(file) = files.get(&opening.inode) {
            file.users.fetch_add(1, Ordering::Relaxed);
            return file.clone();
        }
        let note = opening.disk.as_ref().and_then(|disk| disk.note());
        let file = Arc::new(OpenFile {
            inode: opening.inode,
            path: opening.path,
            size_bytes: opening.size_bytes,
            rule: opening.rule,
            disk: opening.disk,
            changed: Notify::new(),
            hashes: Hashes::default(),
            watched: Watched::default(),
            usage: Usage::default(),
            waits: Waits::default(),
            sealed: AtomicBool::new(false),
            // A note that cannot be read costs a validator, which the next answer brings again.
            validators: Mutex::new(note.map(|note| Validators::decode(&note)).unwrap_or_default()),
            dated: Mutex::default(),
            hopeless: Mutex::default(),
            users: AtomicUsize::new(1),
            jobs: AtomicUsize::new(0),
            told: OnceLock::new(),
        });
        files.insert(opening.inode, file.clone());
        file
    }

    /// One user less. Where it was the last, the version is closed now, and `tell` is called before anybody can open it
    /// again.
    pub fn close(&self, file: &Arc<OpenFile>, tell: impl FnOnce()) {
        let mut files = self.files.lock();
        if file.users.fetch_sub(1, Ordering::Relaxed) == 1 {
            files.remove(&file.inode);
            tell();
        }
    }

    /// One that is open, without using it.
    pub fn get(&self, inode: Inode) -> Option<Arc<OpenFile>> {
        self.files.lock().get(&inode).cloned()
    }

    /// What the driver may hold, held. For tests of those who need nothing of it.
    #[cfg(test)]
    pub fn hold_lock(&self) -> impl Sized {
        self.files.lock()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<OpenFile>> {
        self.files.lock().values().cloned().collect()
    }
}

/// A mirror's name for validators that outlive a mount: its place in the list may change, its URL does not.
pub fn label(url: &str) -> u64 {
    u64::from_le_bytes(blake3::hash(url.as_bytes()).as_bytes()[..8].try_into().expect("eight of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening() -> Opening {
        Opening { inode: Inode(7), path: b"a".to_vec(), size_bytes: 1, rule: FileRule::default(), disk: None }
    }

    #[test]
    fn who_opens_what_is_being_opened_waits_until_it_was_told() {
        let (opened, told) = (Opened::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let tell = |_: &OpenFile| {
                assert!(opened.reuse(Inode(7)).is_none(), "used before it was told");
                scope.spawn(|| {
                    opened.open(opening(), |_| panic!("told twice"));
                    assert_eq!(told.load(Ordering::SeqCst), 1);
                });
                // The other one has it by now, if it waits.
                while opened.get(Inode(7)).is_some_and(|file| file.users.load(Ordering::SeqCst) < 2) {
                    std::thread::yield_now();
                }
                told.fetch_add(1, Ordering::SeqCst);
            };
            opened.open(opening(), tell);
        });
        assert!(opened.reuse(Inode(7)).is_some());
    }

    #[test]
    fn an_answer_of_another_date_than_its_mirror_listed_is_of_another_version() {
        const LISTED: i64 = 1_709_294_400;
        let file = Opened::default().open(opening(), |_| {});
        let answer = |date: i64| Validator { last_modified: Some(date), ..Validator::default() };
        let mut version = Version {
            path: b"a".to_vec(),
            size_bytes: 1,
            modified_unix_s: Some(LISTED),
            generation: 0,
            mirrors: MirrorSet::first(2),
            dated: [MirrorId(0)].into_iter().collect(),
            silent: MirrorSet::new(),
            dissenters: Vec::new(),
        };
        assert!(!file.is_otherwise_dated(MirrorId(0), &answer(LISTED + 61)), "nothing is known of its date");
        file.served_as(&version);
        assert!(file.is_otherwise_dated(MirrorId(0), &answer(LISTED + 61)));
        assert!(!file.is_otherwise_dated(MirrorId(0), &answer(LISTED + 7200)), "its index may be in another zone");
        assert!(!file.is_otherwise_dated(MirrorId(0), &Validator::default()));
        assert!(!file.is_otherwise_dated(MirrorId(1), &answer(LISTED + 61)), "it lists no date");
        let elsewhere = Validator { host: Some("cdn".to_owned()), ..answer(LISTED + 61) };
        assert!(!file.is_otherwise_dated(MirrorId(0), &elsewhere));
        version.dated = MirrorSet::new();
        file.served_as(&version);
        assert!(file.is_otherwise_dated(MirrorId(0), &answer(LISTED + 61)), "it may still be asked for it");
    }

    #[test]
    fn nobody_opens_it_again_before_its_closing_was_told() {
        let opened = Opened::default();
        let file = opened.open(opening(), |_| {});
        let again = opened.reuse(Inode(7)).expect("it is open");
        opened.close(&again, || panic!("it is used still"));
        let mut told = false;
        opened.close(&file, || told = opened.files.is_locked());
        assert!(told && opened.get(Inode(7)).is_none());
    }
}
