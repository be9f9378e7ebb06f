//! One folder: its names in one buffer, their claims, and who has answered for it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::claim::{Body, Group, Kind};
use super::vote;
use crate::chunk::{Inode, MirrorId, MirrorSet};
use crate::clock::Time;

/// A folder's names as one reader of it sees them: sorted by their bytes, unchanged while others merge.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    names: Vec<u8>,
    rows: Vec<Row>,
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    inode: Inode,
    name_end: u32,
    kind: Kind,
    sized: bool,
}

/// One name of a [`Snapshot`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The name's bytes.
    pub name: &'a [u8],
    /// What the name led to; where `sized` is false, only a number for readdir (no inode that could be looked up).
    pub inode: Inode,
    /// A folder or a file.
    pub kind: Kind,
    /// The exact size is known (always for a folder): its attributes may be given to the kernel.
    pub sized: bool,
}

impl Snapshot {
    /// How many names.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// No name at all.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The name at place `at`, which is a stable offset for readdir.
    pub fn get(&self, at: usize) -> Option<Entry<'_>> {
        let row = self.rows.get(at)?;
        let start = if at == 0 { 0 } else { self.rows[at - 1].name_end as usize };
        let name = &self.names[start..row.name_end as usize];
        Some(Entry { name, inode: row.inode, kind: row.kind, sized: row.sized })
    }

    /// All names in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

/// One name and all that mirrors claim of it. The winning group stands in `leading`.
pub(super) struct Listed {
    pub inode: Inode,
    /// The date shown of this version, first learned and kept.
    pub shown_unix_s: i64,
    name_at: u32,
    name_bytes: u8,
    /// When a direct answer was last heard, in seconds of [`Time`]; 0: not in this run.
    pub learned_s: u32,
    pub leading: Group,
    /// Boxed, since nearly all names have none.
    others: Option<Box<Others>>,
}

struct Others {
    groups: Box<[Group]>,
}

impl Listed {
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        std::iter::once(&self.leading).chain(self.others.iter().flat_map(|others| others.groups.iter()))
    }

    pub fn groups_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        std::iter::once(&mut self.leading).chain(self.others.iter_mut().flat_map(|others| others.groups.iter_mut()))
    }

    /// What `mirror` claims.
    pub fn claim_of(&self, mirror: MirrorId) -> Option<Body> {
        self.groups().find(|group| group.mirrors.contains(mirror)).map(|group| group.body)
    }

    /// The mirrors whose claims agree with the version that the name leads to.
    pub fn supporters(&self) -> MirrorSet {
        match self.others {
            None => self.leading.mirrors.clone(),
            Some(_) => vote::supporters(self.leading.body, self.groups()),
        }
    }

    /// Every mirror that claims the name.
    pub fn claimants(&self) -> MirrorSet {
        self.groups().flat_map(|group| group.mirrors.iter()).collect()
    }

    /// Nobody claims it.
    pub fn is_unclaimed(&self) -> bool {
        self.leading.mirrors.is_empty()
    }

    /// From now on `mirror` claims `body`, or nothing. Returns whether anything is different.
    pub fn put(&mut self, mirror: MirrorId, body: Option<Body>) -> bool {
        if let (None, Some(body)) = (&self.others, body) {
            let same = self.leading.body.same(body);
            if same && self.leading.mirrors.contains(mirror) {
                return false;
            }
            if same || self.is_unclaimed() {
                self.leading.body = if same { self.leading.body } else { body };
                self.leading.mirrors.insert(mirror);
                return true;
            }
        }
        let before = self.claim_of(mirror);
        match (before, body) {
            (None, None) => return false,
            (Some(before), Some(body)) if before.same(body) => return false,
            _ => {}
        }
        let mut groups = self.take_groups();
        groups.iter_mut().for_each(|group| group.mirrors.remove(mirror));
        if let Some(body) = body {
            match groups.iter_mut().find(|group| group.body.same(body)) {
                Some(group) => group.mirrors.insert(mirror),
                None => groups.push(Group { body, mirrors: [mirror].into_iter().collect() }),
            }
        }
        self.set_groups(groups);
        true
    }

    /// Change groups as a whole: equal ones are joined, empty ones dropped, and the vote taken again.
    pub fn revote(&mut self) {
        let mut joined: Vec<Group> = Vec::new();
        for group in self.take_groups() {
            match joined.iter_mut().find(|other| other.body.same(group.body)) {
                Some(other) => group.mirrors.iter().for_each(|mirror| other.mirrors.insert(mirror)),
                None => joined.push(group),
            }
        }
        self.set_groups(joined);
    }

    fn take_groups(&mut self) -> Vec<Group> {
        let mut groups = self.others.take().map(|others| others.groups.into_vec()).unwrap_or_default();
        let leading = Group { body: self.leading.body, mirrors: std::mem::take(&mut self.leading.mirrors) };
        groups.insert(0, leading);
        groups
    }

    fn set_groups(&mut self, mut groups: Vec<Group>) {
        groups.retain(|group| !group.mirrors.is_empty());
        vote::elect(&mut groups);
        let mut groups = groups.into_iter();
        if let Some(leading) = groups.next() {
            self.leading = leading;
        }
        let rest: Box<[Group]> = groups.collect();
        self.others = (!rest.is_empty()).then(|| Box::new(Others { groups: rest }));
    }

    fn memory_bytes(&self) -> usize {
        // 32: what an allocator adds to the two allocations.
        self.others.as_ref().map_or(0, |others| size_of::<Others>() + 32 + others.groups.len() * size_of::<Group>())
    }
}

/// A folder that was asked for.
pub(super) struct Folder {
    /// Relative to the mount.
    pub path: Box<[u8]>,
    names: Vec<u8>,
    unused_name_bytes: usize,
    entries: Vec<Listed>,
    free: Vec<u32>,
    /// Slots in the order of their names.
    pub order: Vec<u32>,
    /// Mirrors that listed it in this run; their claims are as of then.
    pub listed: MirrorSet,
    /// Mirrors whose claims are those of the last run.
    pub restored: MirrorSet,
    /// Mirrors that said that they do not have it.
    pub missing: MirrorSet,
    /// Mirrors that could not be reached when last asked; they may be in `listed` or `restored` too.
    pub failed: MirrorSet,
    /// Mirrors that would not list it when last asked; they may be in `listed` or `restored` too.
    pub refused: MirrorSet,
    /// Mirrors that answered since it was last expired.
    pub heard: MirrorSet,
    /// Until when what was heard is believed; `None` where nothing was heard in this run.
    pub fresh_until: Option<Time>,
    /// When it was last heard of, for shedding.
    pub heard_at: Time,
    /// Listings that a direct answer of the same mirror contradicted: an index page that stays behind
    /// the files must not bring the contradicted claim back each time that it is read.
    pub overruled: HashMap<(u32, MirrorId), Body>,
    snapshot: Weak<Snapshot>,
    groups_bytes: usize,
    /// What the tree has counted for it.
    pub counted_bytes: usize,
}

impl Folder {
    pub fn new(path: Vec<u8>) -> Folder {
        Folder {
            path: path.into_boxed_slice(),
            names: Vec::new(),
            unused_name_bytes: 0,
            entries: Vec::new(),
            free: Vec::new(),
            order: Vec::new(),
            listed: MirrorSet::new(),
            restored: MirrorSet::new(),
            missing: MirrorSet::new(),
            failed: MirrorSet::new(),
            refused: MirrorSet::new(),
            heard: MirrorSet::new(),
            fresh_until: None,
            heard_at: Time(0),
            overruled: HashMap::new(),
            snapshot: Weak::new(),
            groups_bytes: 0,
            counted_bytes: 0,
        }
    }

    pub fn name(&self, slot: u32) -> &[u8] {
        let entry = &self.entries[slot as usize];
        &self.names[entry.name_at as usize..][..entry.name_bytes as usize]
    }

    pub fn entry(&self, slot: u32) -> &Listed {
        &self.entries[slot as usize]
    }

    /// Change one entry's claims.
    pub fn change<T>(&mut self, slot: u32, change: impl FnOnce(&mut Listed) -> T) -> T {
        let entry = &mut self.entries[slot as usize];
        let before = entry.memory_bytes();
        let result = change(entry);
        self.groups_bytes = self.groups_bytes + entry.memory_bytes() - before;
        result
    }

    /// Where `name` stands in the order: its slot, or the place to insert it at.
    pub fn find(&self, name: &[u8]) -> Result<u32, usize> {
        self.place(name).map(|at| self.order[at])
    }

    /// A new entry, not yet in the order and without an inode. `None` where 4 GiB of names are held.
    pub fn add(&mut self, name: &[u8], body: Body, mirror: MirrorId) -> Option<u32> {
        self.compact();
        let name_at = u32::try_from(self.names.len()).ok()?;
        u32::try_from(self.names.len() + name.len()).ok()?;
        self.names.extend_from_slice(name);
        let entry = Listed {
            inode: Inode(0),
            shown_unix_s: 0,
            name_at,
            name_bytes: name.len() as u8,
            learned_s: 0,
            leading: Group { body, mirrors: [mirror].into_iter().collect() },
            others: None,
        };
        if let Some(slot) = self.free.pop() {
            self.entries[slot as usize] = entry;
            return Some(slot);
        }
        self.entries.push(entry);
        Some((self.entries.len() - 1) as u32)
    }

    /// Give a slot back. It must be out of the order already.
    pub fn free(&mut self, slot: u32) {
        self.change(slot, |entry| {
            entry.leading.mirrors = MirrorSet::new();
            entry.others = None;
            entry.inode = Inode(0);
        });
        if !self.overruled.is_empty() {
            self.overruled.retain(|(of, _), _| *of != slot);
        }
        self.unused_name_bytes += self.entries[slot as usize].name_bytes as usize;
        self.entries[slot as usize].name_bytes = 0;
        self.free.push(slot);
    }

    /// Names of freed slots go when they are more than what is used.
    fn compact(&mut self) {
        if self.unused_name_bytes < 4096 || self.unused_name_bytes * 2 < self.names.len() {
            return;
        }
        let mut names = Vec::with_capacity(self.names.len() - self.unused_name_bytes);
        for entry in &mut self.entries {
            let name = &self.names[entry.name_at as usize..][..entry.name_bytes as usize];
            entry.name_at = names.len() as u32;
            names.extend_from_slice(name);
        }
        self.names = names;
        self.unused_name_bytes = 0;
    }

    pub fn reserve(&mut self, names: usize, name_bytes: usize) {
        self.entries.reserve_exact(names.saturating_sub(self.free.len()));
        self.names.reserve_exact(name_bytes);
    }

    /// The slots in use, in the order of their names.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.order.iter().copied()
    }

    /// The place of a name in that order, or the one to insert it at.
    pub fn place(&self, name: &[u8]) -> Result<usize, usize> {
        self.order.binary_search_by(|&slot| self.name(slot).cmp(name))
    }

    /// How many names there are.
    pub fn places(&self) -> usize {
        self.order.len()
    }

    /// What has the name at a place.
    pub fn at(&self, place: usize) -> Option<&Listed> {
        self.order.get(place).map(|&slot| self.entry(slot))
    }

    /// What an open handle of the folder reads; shared while anyone holds it.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        if let Some(snapshot) = self.snapshot.upgrade() {
            return snapshot;
        }
        let mut snapshot =
            Snapshot { names: Vec::with_capacity(self.names.len()), rows: Vec::with_capacity(self.order.len()) };
        for &slot in &self.order {
            let entry = self.entry(slot);
            let (kind, inode) = (entry.leading.body.kind(), entry.inode);
            snapshot.names.extend_from_slice(self.name(slot));
            let sized = kind == Kind::Folder || entry.leading.body.size_bytes().is_some();
            // The buffer is within u32: `add` refuses more.
            snapshot.rows.push(Row { inode, name_end: snapshot.names.len() as u32, kind, sized });
        }
        let snapshot = Arc::new(snapshot);
        self.snapshot = Arc::downgrade(&snapshot);
        snapshot
    }

    /// The next handle sees what is new.
    pub fn touched(&mut self) {
        self.snapshot = Weak::new();
    }

    /// `mirror` answered. What is heard within one lifetime belongs together: a slow mirror's answer does not
    /// make the quick ones' older answers younger, only a second answer of the same mirror begins anew.
    pub fn heard_from(&mut self, mirror: MirrorId, now: Time, lifetime: Duration) {
        let fresh = self.fresh_until.is_some_and(|until| now < until);
        if !fresh || self.heard.contains(mirror) {
            self.heard = MirrorSet::new();
            self.fresh_until = Some(now + lifetime);
        }
        self.heard.insert(mirror);
        self.failed.remove(mirror);
        self.refused.remove(mirror);
        self.restored.remove(mirror);
        self.heard_at = now;
    }

    /// Forget how `mirror` answered.
    pub fn forget_mirror(&mut self, mirror: MirrorId) {
        let sets = [&mut self.listed, &mut self.restored, &mut self.missing, &mut self.failed, &mut self.refused];
        sets.into_iter().for_each(|set| set.remove(mirror));
        self.heard.remove(mirror);
    }

    /// An estimate of all that it holds, the newest snapshot included while a handle has it.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Folder>()
            + self.path.len()
            + self.names.capacity()
            + self.entries.capacity() * size_of::<Listed>()
            + (self.free.capacity() + self.order.capacity()) * size_of::<u32>()
            + self.overruled.capacity() * (size_of::<((u32, MirrorId), Body)>() + 1)
            + self.groups_bytes
            + self.snapshot.upgrade().map_or(0, |shot| shot.names.len() + shot.rows.len() * size_of::<Row>())
            // An allocator's rounding of five buffers and the box.
            + 96
    }
}

#[cfg(test)]
mod tests {
    use super::super::Claim;
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Listed>() <= 80, "{}", size_of::<Listed>());
    }

    #[test]
    fn names_of_freed_slots_are_given_back() {
        let body = Body::listed(&Claim { name: vec![], kind: Kind::File, size_bytes: Some(1), modified: None });
        let mut folder = Folder::new(Vec::new());
        let keep = folder.add(b"keep", body, MirrorId(0)).unwrap();
        for round in 0..10_000 {
            let name = format!("name {round}");
            let slot = folder.add(name.as_bytes(), body, MirrorId(0)).unwrap();
            assert_eq!(folder.name(slot), name.as_bytes());
            folder.free(slot);
        }
        assert_eq!(folder.name(keep), b"keep");
        assert!(folder.memory_bytes() < 64 * 1024, "{}", folder.memory_bytes());
    }
}
