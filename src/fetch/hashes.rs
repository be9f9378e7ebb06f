//! What is known of the hash of one file version, who said it, and what is waited for before it can be checked.
//!
//! Hashes come with answers (kept in the note of the version, [`super::validators`]) and from sums files in the folder
//! ([`super::sums`]). Mirrors that differ about one are not believed, none of them.

use crate::chunk::{Inode, Pages};
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::{Doubt, Plane};
use crate::fetch::sums::SumsKnown;
use crate::sources::Digest;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;

/// Without a disk cache only files up to this size are checked as a whole: they are in memory at once.
pub const MEMORY_BYTES_MAX: u64 = 1 << 20;
/// A file is hashed and compared so many pages at a time: 1 MiB.
pub const STEP_PAGES: u64 = 256;
/// Files hashed at a time: two cores' worth.
const CHECKS_AT_ONCE: usize = 2;
/// Condemned versions that are remembered. Forgetting one costs another check of it.
const CONDEMNED_MAX: usize = 4096;

/// Of one open version.
#[derive(Default)]
pub struct Hashes {
    state: Mutex<State>,
    /// A hash is known or looked for: what completes the file is to be looked at.
    watched: AtomicBool,
    /// No mirror's bytes match the hash.
    condemned: AtomicBool,
}

#[derive(Default)]
struct State {
    /// From sums files, as all mirrors that have one say it, and their labels.
    listed: Option<(Digest, Vec<u64>)>,
    /// A sums file is being asked for.
    looking: bool,
    differ_told: bool,
}

/// How far the check of a version is.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// No hash is known: nothing is to be checked.
    Unknown,
    /// It may yet be known.
    Looking,
    /// It is known, and the bytes are not known to match it.
    Unchecked(Digest),
    /// They match.
    Verified,
    /// No mirror's bytes match.
    Condemned,
}

/// What the checks of a mount share.
pub struct Checks {
    /// What sums files say.
    pub sums: SumsKnown,
    /// Who may hash now.
    pub turns: Semaphore,
    running: Mutex<HashSet<Inode>>,
    condemned: Mutex<HashMap<Inode, Digest>>,
    undecided: Mutex<HashMap<Inode, u32>>,
}

impl Default for Checks {
    fn default() -> Checks {
        let (running, condemned, undecided) = Default::default();
        Checks { sums: SumsKnown::default(), turns: Semaphore::new(CHECKS_AT_ONCE), running, condemned, undecided }
    }
}

impl Checks {
    /// A check of it is under way or queued.
    pub fn is_running(&self, file: Inode) -> bool {
        self.running.lock().contains(&file)
    }

    /// The check that [`consider`] asked for has ended.
    pub fn ended(&self, file: Inode) {
        self.running.lock().remove(&file);
    }

    /// Nobody can bring bytes of this version that hash to `wanted`.
    pub fn condemn(&self, file: &OpenFile, wanted: Digest) {
        insert_bounded(&mut self.condemned.lock(), file.inode, wanted);
        file.hashes.condemned.store(true, Ordering::Relaxed);
    }

    /// Mirrors could not be asked whether theirs match. How often that was so.
    pub fn count_undecided(&self, file: Inode) -> u32 {
        let mut undecided = self.undecided.lock();
        let count = undecided.get(&file).map_or(1, |count| count + 1);
        insert_bounded(&mut undecided, file, count);
        count
    }
}

fn insert_bounded<T>(map: &mut HashMap<Inode, T>, file: Inode, value: T) {
    if map.len() >= CONDEMNED_MAX {
        map.clear();
    }
    map.insert(file, value);
}

/// Where a version is complete and its hash is known and not yet checked, have that done.
pub fn consider(plane: &Plane, file: &OpenFile) {
    if !file.hashes.watched.load(Ordering::Relaxed) || !is_complete(plane, file) {
        return;
    }
    let unchecked = matches!(file.standing(), Standing::Unchecked(_));
    if unchecked && plane.checks.running.lock().insert(file.inode) {
        // The receiver lives as long as the mount; at its end nobody needs to know.
        let _ = plane.doubts.send(Doubt::Complete { file: file.inode });
    }
}

/// Is every byte of it here, to be hashed?
pub fn is_complete(plane: &Plane, file: &OpenFile) -> bool {
    match &file.disk {
        Some(disk) => disk.durable(file.pages()),
        None => file.size_bytes <= MEMORY_BYTES_MAX && plane.pool.missing(file.inode, file.pages()).is_empty(),
    }
}

impl OpenFile {
    /// Do no mirror's bytes match its hash?
    pub fn is_condemned(&self) -> bool {
        self.hashes.condemned.load(Ordering::Relaxed)
    }

    /// Opened for the first time: what is known from before, and whether a sums file is being asked for.
    pub fn hashes_begin(&self, checks: &Checks, looking: bool) {
        let condemned = checks.condemned.lock().contains_key(&self.inode);
        self.hashes.condemned.store(condemned, Ordering::Relaxed);
        self.hashes.state.lock().looking = looking;
        self.watch();
    }

    /// The mirror with this label says what the whole file hashes to.
    pub fn hash_said(&self, label: u64, whole: &[Digest]) {
        if !whole.is_empty() && self.note(|note| note.say(label, whole)) {
            self.watch();
        }
    }

    /// The search for a sums file has ended: what those say that agree, and their labels. Condemned for another hash
    /// than the one of now, it gets another chance.
    pub fn hash_looked_up(&self, checks: &Checks, listed: Option<(Digest, Vec<u64>)>) {
        let mut state = self.hashes.state.lock();
        (state.looking, state.listed) = (false, listed);
        drop(state);
        let wanted = self.wanted();
        let mut condemned = checks.condemned.lock();
        if condemned.get(&self.inode).is_some_and(|before| Some(before) != wanted.as_ref()) {
            condemned.remove(&self.inode);
            self.hashes.condemned.store(false, Ordering::Relaxed);
        }
        drop(condemned);
        self.watch();
    }

    /// Pages came to disk: what was checked before is not the file of now.
    pub fn hash_voided(&self) {
        self.note(|note| note.verified.take().is_some());
    }

    /// All its bytes, as the disk held them since `epoch`, hash to `digest`. False where they are not all held since.
    pub fn hash_verified(&self, digest: &Digest, epoch: u64) -> bool {
        self.note(|note| note.verified.replace(digest.clone()).as_ref() != Some(digest));
        self.disk.as_ref().is_some_and(|disk| disk.checked(epoch))
    }

    /// How far its check is.
    pub fn standing(&self) -> Standing {
        if self.hashes.state.lock().looking {
            return Standing::Looking;
        }
        if self.is_condemned() {
            return Standing::Condemned;
        }
        let Some(wanted) = self.wanted().filter(|_| self.size_bytes > 0) else { return Standing::Unknown };
        let is_checked = self.disk.as_ref().is_some_and(|disk| disk.is_checked());
        match is_checked && self.verified().as_ref() == Some(&wanted) {
            true => Standing::Verified,
            false => Standing::Unchecked(wanted),
        }
    }

    /// What its bytes must hash to, where that is known and nobody says otherwise.
    pub fn wanted(&self) -> Option<Digest> {
        let mut state = self.hashes.state.lock();
        let mut said = self.hashes_said();
        if let Some((digest, labels)) = &state.listed {
            said.extend(labels.iter().map(|label| (*label, digest.clone())));
        }
        // The best algorithm first.
        said.sort_by(|one, other| one.1.cmp(&other.1));
        let (_, best) = said.first()?;
        let differs = said.iter().find(|(_, digest)| digest.algorithm() == best.algorithm() && digest != best);
        if let Some((_, other)) = differs {
            if !std::mem::replace(&mut state.differ_told, true) {
                let path = String::from_utf8_lossy(&self.path);
                tracing::warn!(%path, one = %best, %other, "mirrors differ about the hash of a file: neither is believed");
            }
            return None;
        }
        Some(best.clone())
    }

    /// Who says so.
    pub fn said_by(&self, digest: &Digest) -> Vec<u64> {
        let listed = self.hashes.state.lock().listed.clone().filter(|(listed, _)| listed == digest);
        let said = self.hashes_said().into_iter().filter(|(_, said)| said == digest).map(|(label, _)| label);
        let mut labels: Vec<u64> = said.chain(listed.into_iter().flat_map(|(_, labels)| labels)).collect();
        labels.sort_unstable();
        labels.dedup();
        labels
    }

    /// With a hash to be checked, or looked for, it is not done before that.
    fn watch(&self) {
        let looking = self.hashes.state.lock().looking;
        let watched = self.size_bytes > 0 && (looking || self.wanted().is_some());
        self.hashes.watched.store(watched, Ordering::Relaxed);
        if let Some(disk) = &self.disk {
            disk.gate(watched);
        }
    }
}

/// The runs of a file that are hashed and compared at a time.
pub fn steps(file: &OpenFile) -> impl Iterator<Item = Pages> + use<> {
    file.pages().split(STEP_PAGES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::opened::{Opened, Opening};
    use crate::scheduler::FileRule;
    use crate::sources::Algorithm::{Md5, Sha256};
    use std::sync::Arc;

    fn file() -> Arc<OpenFile> {
        let (path, rule) = (b"a".to_vec(), FileRule::default());
        Opened::default().open(Opening { inode: Inode(7), path, size_bytes: 9, rule, disk: None }, |_| {})
    }

    fn hash(text: &[u8]) -> Digest {
        Digest::of(Sha256, text)
    }

    #[test]
    fn a_hash_is_believed_while_nobody_says_otherwise() {
        let (file, checks) = (file(), Checks::default());
        assert_eq!((file.wanted(), file.standing()), (None, Standing::Unknown));
        file.hash_said(1, &[Digest::of(Md5, b"x")]);
        assert_eq!(file.wanted(), Some(Digest::of(Md5, b"x")));
        file.hash_said(2, &[hash(b"x")]);
        assert_eq!((file.wanted(), file.said_by(&hash(b"x"))), (Some(hash(b"x")), vec![2]), "the better one");
        file.hash_looked_up(&checks, Some((hash(b"x"), vec![2, 3])));
        assert_eq!((file.standing(), file.said_by(&hash(b"x"))), (Standing::Unchecked(hash(b"x")), vec![2, 3]));
        file.hash_said(1, &[hash(b"y")]);
        assert_eq!((file.wanted(), file.standing()), (None, Standing::Unknown), "two that differ");
        file.hash_said(1, &[hash(b"x")]);
        assert_eq!(file.wanted(), Some(hash(b"x")), "it has thought better of it");
    }

    #[test]
    fn what_is_condemned_stays_so_until_its_hash_is_another() {
        let (first, checks) = (file(), Checks::default());
        first.hashes_begin(&checks, true);
        assert_eq!(first.standing(), Standing::Looking);
        first.hash_looked_up(&checks, Some((hash(b"x"), vec![1])));
        checks.condemn(&first, hash(b"x"));
        assert_eq!((first.is_condemned(), first.standing()), (true, Standing::Condemned));
        for (listed, condemned) in [(hash(b"x"), true), (hash(b"y"), false), (hash(b"x"), false)] {
            let again = file();
            again.hashes_begin(&checks, true);
            again.hash_looked_up(&checks, Some((listed.clone(), vec![1])));
            assert_eq!(again.is_condemned(), condemned, "{listed}");
        }
        assert_eq!((checks.count_undecided(Inode(1)), checks.count_undecided(Inode(1))), (1, 2));
    }
}
