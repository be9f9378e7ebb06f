//! The tree as a whole: its folders, its bounds, what the kernel remembers, what was asked for in vain.

use std::collections::HashMap;

use super::Settings;
use super::claim::Kind;
use super::folder::Folder;
use super::inode::{ByInode, Inodes, ROOT, join};
use super::merge::Changes;
use crate::chunk::{Inode, MirrorId, MirrorSet};
use crate::clock::Time;
use std::time::Duration;

/// What exists, as far as the mirrors have told. See the module's doc for the rules.
pub struct Namespace {
    pub(super) settings: Settings,
    /// What a mirror is called in saved listings, by its id.
    pub(super) labels: Vec<u64>,
    pub(super) mirrors: MirrorSet,
    pub(super) folders: ByInode<Box<Folder>>,
    pub(super) inodes: Inodes,
    pub(super) names: usize,
    pub(super) refused: u64,
    asked: Asked,
    folders_bytes: usize,
}

/// How much is known.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Names in all folders.
    pub names: usize,
    /// Folders that were asked for.
    pub folders: usize,
    /// Inodes that no name leads to any more and that the kernel still knows.
    pub old_inodes: usize,
    /// Names that were refused since the start: impossible, twice in one listing, or over a limit.
    pub refused: u64,
}

impl Namespace {
    /// An empty tree over the mirrors with these labels: `labels[id]` is what [`MirrorId`]`(id)` is called in saved
    /// listings, the same in every run (a hash of its URL).
    pub fn new(settings: Settings, labels: Vec<u64>) -> Namespace {
        let mirrors = MirrorSet::first(labels.len());
        let asked = Asked { half: settings.max_absent.div_ceil(2), ..Asked::default() };
        let mut tree = Namespace {
            settings,
            labels,
            mirrors,
            folders: ByInode::default(),
            inodes: Inodes::new(),
            names: 0,
            refused: 0,
            asked,
            folders_bytes: 0,
        };
        tree.put_back(ROOT, Box::new(Folder::new(Vec::new())));
        tree
    }

    /// The mount has other mirrors now: those of `labels` that are `in_use`. One whose label is not what it was, or that is
    /// in use no more, loses all its claims (a name that only it had is gone); every listing is expired, so that the new
    /// ones are heard.
    pub fn mirrors_changed(&mut self, labels: Vec<u64>, in_use: MirrorSet, now: Time) -> Changes {
        let strangers: Vec<MirrorId> = (0..self.labels.len())
            .map(|at| (MirrorId(at as u16), self.labels[at]))
            .filter(|&(mirror, label)| labels.get(usize::from(mirror.0)) != Some(&label) || !in_use.contains(mirror))
            .map(|(mirror, _)| mirror)
            .collect();
        self.mirrors = in_use;
        self.labels = labels;
        let mut changes = Changes::default();
        let all: Vec<Inode> = self.folders.keys().copied().collect();
        for at in all {
            for &mirror in &strangers {
                changes.join(self.withdraw_all(at, mirror));
                if let Some(folder) = self.folders.get_mut(&at) {
                    folder.forget_mirror(mirror);
                }
            }
            self.expire(at, now);
        }
        changes
    }

    /// How long names and attributes are believed from here on, those that are there and those that are not.
    pub fn set_lifetime(&mut self, lifetime: Duration) {
        self.settings.entry_lifetime = lifetime;
        self.settings.negative_lifetime = lifetime;
    }

    /// The next question about `folder` says that its listing has expired.
    pub fn expire(&mut self, folder: Inode, now: Time) {
        if let Some(folder) = self.folders.get_mut(&folder) {
            folder.fresh_until = folder.fresh_until.map(|until| until.min(now));
        }
    }

    /// The kernel was told of `inode` `count` times (one for each entry of a lookup or readdirplus answer).
    /// In the same breath as the question that gave it, or it may be gone in between.
    pub fn remember(&mut self, inode: Inode, count: u64) {
        self.inodes.remember(inode, count);
    }

    /// The kernel forgot `inode` `count` times. An old version goes with its last.
    pub fn forget(&mut self, inode: Inode, count: u64) {
        self.inodes.forget(inode, count);
    }

    /// A direct question for `name` in `folder` ended and no mirror that answered has it: it is not worth
    /// asking again for the negative lifetime.
    pub fn asked(&mut self, folder: Inode, name: &[u8], now: Time) {
        self.asked.insert(folder, name, now);
    }

    /// When a direct question for it ended in vain, if it was within the negative lifetime.
    pub(super) fn asked_at(&self, folder: Inode, name: &[u8], now: Time) -> Option<Time> {
        self.asked.get(folder, name).filter(|at| now.since(*at) < self.settings.negative_lifetime)
    }

    /// Bytes in the files that are known so far. Takes time in proportion to the names.
    pub fn known_bytes(&self) -> u64 {
        let entries = self.folders.values().flat_map(|folder| folder.slots().map(|slot| folder.entry(slot)));
        entries.filter_map(|entry| entry.leading.body.size_bytes()).fold(0, u64::saturating_add)
    }

    pub(super) fn found(&mut self, folder: Inode, name: &[u8]) {
        self.asked.remove(folder, name);
    }

    /// Lets go of the listing that was heard longest ago and that nobody needs: no inode in it is known to the
    /// kernel and no folder in it was asked for. Returns the folder, which can be restored from its
    /// saved form; `None` where every listing is needed. Takes time in proportion to what is held.
    pub fn shed(&mut self) -> Option<Inode> {
        let unneeded = |folder: &Folder| {
            !folder.order.is_empty()
                && folder.slots().all(|slot| {
                    let inode = folder.entry(slot).inode;
                    !self.inodes.is_remembered(inode) && !self.folders.contains_key(&inode)
                })
        };
        let candidates = self.folders.iter().filter(|(at, folder)| **at != ROOT && unneeded(folder));
        let (_, at) = candidates.map(|(at, folder)| (folder.heard_at, *at)).min()?;
        let folder = self.take(at)?;
        self.drop_entries(&folder, &mut Changes::default());
        Some(at)
    }

    /// An honest estimate of the memory that all this takes, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let table = self.folders.capacity() * (size_of::<(Inode, Box<Folder>)>() + 1);
        (size_of::<Namespace>() + table + self.folders_bytes + self.inodes.memory_bytes() + self.asked.bytes()) as u64
    }

    /// How much is known.
    pub fn counts(&self) -> Counts {
        let (_, old_inodes) = self.inodes.counts();
        Counts { names: self.names, folders: self.folders.len(), old_inodes, refused: self.refused }
    }

    /// Takes a folder out to change it; [`Namespace::put_back`] must follow.
    pub(super) fn take(&mut self, at: Inode) -> Option<Box<Folder>> {
        let folder = self.folders.remove(&at)?;
        self.folders_bytes -= folder.counted_bytes;
        Some(folder)
    }

    /// The same; a folder that was not asked for before is made. `None` where `at` is no folder.
    pub(super) fn take_or_make(&mut self, at: Inode) -> Option<Box<Folder>> {
        if let Some(folder) = self.take(at) {
            return Some(folder);
        }
        let place = self.inodes.place(at)?;
        let parent = self.folders.get(&place.folder)?;
        if parent.entry(place.slot).leading.body.kind() != Kind::Folder {
            return None;
        }
        Some(Box::new(Folder::new(join(&parent.path, parent.name(place.slot)))))
    }

    pub(super) fn put_back(&mut self, at: Inode, mut folder: Box<Folder>) {
        folder.counted_bytes = folder.memory_bytes();
        self.folders_bytes += folder.counted_bytes;
        self.folders.insert(at, folder);
    }

    /// A folder's name is gone, or leads to a file now: all below it goes.
    pub(super) fn drop_subtree(&mut self, top: Inode, changes: &mut Changes) {
        let mut stack = vec![top];
        while let Some(at) = stack.pop() {
            let Some(folder) = self.take(at) else { continue };
            stack.extend(folder.slots().map(|slot| folder.entry(slot).inode));
            self.drop_entries(&folder, changes);
        }
    }

    fn drop_entries(&mut self, folder: &Folder, changes: &mut Changes) {
        for slot in folder.slots() {
            let entry = folder.entry(slot);
            let body = entry.leading.body;
            self.inodes.retire(entry.inode, folder.name(slot), body, entry.shown_unix_s, &folder.path);
            if body.size_bytes().is_some() {
                changes.gone.push(entry.inode);
            }
        }
        changes.removed += folder.order.len();
        self.names -= folder.order.len();
        self.inodes.shrink();
    }
}

/// Names that were asked for in vain. Two halves: when the young one is full it becomes the old one, so that the
/// bound holds without a list of who was last.
#[derive(Default)]
struct Asked {
    half: usize,
    young: HashMap<(Inode, Box<[u8]>), Time>,
    old: HashMap<(Inode, Box<[u8]>), Time>,
    name_bytes: [usize; 2],
}

impl Asked {
    fn insert(&mut self, folder: Inode, name: &[u8], now: Time) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
            self.name_bytes = [0, self.name_bytes[0]];
        }
        if self.young.insert((folder, name.into()), now).is_none() {
            self.name_bytes[0] += name.len();
        }
    }

    fn get(&self, folder: Inode, name: &[u8]) -> Option<Time> {
        let key = (folder, name.into());
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn remove(&mut self, folder: Inode, name: &[u8]) {
        let key = (folder, name.into());
        for (at, half) in [&mut self.young, &mut self.old].into_iter().enumerate() {
            if half.remove(&key).is_some() {
                self.name_bytes[at] -= name.len();
            }
        }
    }

    fn bytes(&self) -> usize {
        let rows = self.young.capacity() + self.old.capacity();
        // 16: what an allocator adds to each name.
        let names = self.name_bytes[0] + self.name_bytes[1] + 16 * (self.young.len() + self.old.len());
        rows * (size_of::<((Inode, Box<[u8]>), Time)>() + 1) + names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_asked_in_vain_are_bounded() {
        let mut asked = Asked { half: 100, ..Asked::default() };
        for at in 0..10_000u32 {
            asked.insert(ROOT, &at.to_le_bytes(), Time(at.into()));
            assert!(asked.young.len() + asked.old.len() <= 200);
            assert_eq!(asked.get(ROOT, &at.to_le_bytes()), Some(Time(at.into())));
        }
        assert_eq!(asked.name_bytes[0] + asked.name_bytes[1], 4 * (asked.young.len() + asked.old.len()));
        asked.remove(ROOT, &9_999u32.to_le_bytes());
        assert_eq!(asked.get(ROOT, &9_999u32.to_le_bytes()), None);
    }
}
