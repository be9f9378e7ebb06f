//! Inode numbers that are the same after a restart, and what the kernel still remembers of them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::claim::{Body, Kind};
use crate::chunk::Inode;

/// The root of the mount, as FUSE has it.
pub const ROOT: Inode = Inode(1);

/// Inode numbers are hashes already.
#[derive(Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

pub(super) type ByInode<T> = HashMap<Inode, T, BuildHasherDefault<Identity>>;

/// Where an inode that a name leads to stands in the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub folder: Inode,
    pub slot: u32,
}

struct Node {
    place: Place,
    /// Lookups that the kernel has not forgotten. At its end it stays there: an inode that was looked up
    /// four billion times is kept rather than forgotten too early.
    lookups: u32,
}

/// A version or a folder that no name leads to any more and that the kernel still knows.
#[derive(Debug)]
pub(super) struct Old {
    pub folder: Inode,
    /// Relative to the mount; the name is its end.
    pub path: Box<[u8]>,
    pub name_bytes: u8,
    pub body: Body,
    pub shown_unix_s: i64,
    lookups: u32,
}

impl Old {
    pub fn name(&self) -> &[u8] {
        &self.path[self.path.len() - self.name_bytes as usize..]
    }
}

/// Every inode: those that names lead to, and the old ones that the kernel remembers.
pub(super) struct Inodes {
    current: ByInode<Node>,
    old: ByInode<Box<Old>>,
    old_path_bytes: usize,
    /// All bits; tests take most away to see collisions.
    pub mask: u64,
}

impl Inodes {
    pub fn new() -> Inodes {
        Inodes { current: ByInode::default(), old: ByInode::default(), old_path_bytes: 0, mask: u64::MAX }
    }

    pub fn reserve(&mut self, more: usize) {
        self.current.reserve(more);
    }

    pub fn place(&self, inode: Inode) -> Option<Place> {
        self.current.get(&inode).map(|node| node.place)
    }

    pub fn old(&self, inode: Inode) -> Option<&Old> {
        self.old.get(&inode).map(|old| &**old)
    }

    /// The kernel was told of `inode` `count` times more.
    pub fn remember(&mut self, inode: Inode, count: u64) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if let Some(node) = self.current.get_mut(&inode) {
            node.lookups = node.lookups.saturating_add(count);
        } else if let Some(old) = self.old.get_mut(&inode) {
            old.lookups = old.lookups.saturating_add(count);
        }
    }

    /// The kernel forgot it `count` times.
    pub fn forget(&mut self, inode: Inode, count: u64) {
        let less = |lookups: u32| match lookups {
            u32::MAX => u32::MAX,
            lookups => u32::try_from(u64::from(lookups).saturating_sub(count)).unwrap_or(0),
        };
        if let Some(node) = self.current.get_mut(&inode) {
            node.lookups = less(node.lookups);
        } else if let Some(old) = self.old.get_mut(&inode) {
            old.lookups = less(old.lookups);
            if old.lookups == 0
                && let Some(old) = self.old.remove(&inode)
            {
                self.old_path_bytes -= old.path.len();
            }
        }
    }

    /// Does the kernel know it?
    pub fn is_remembered(&self, inode: Inode) -> bool {
        self.current.get(&inode).is_some_and(|node| node.lookups > 0) || self.old.contains_key(&inode)
    }

    /// The number of the version `body` of `name`, from now on at `place`. If the kernel still knows
    /// that very version, it is that inode again, with the date that was shown of it.
    pub fn assign(&mut self, place: Place, name: &[u8], body: Body) -> (Inode, Option<i64>) {
        for probe in 0u32.. {
            let inode = Inode(number(place.folder, name, body, probe) & self.mask);
            // 0 is no inode to the kernel, 1 is the root.
            if inode.0 <= ROOT.0 || self.current.contains_key(&inode) {
                continue;
            }
            let mut lookups = 0;
            let mut shown_unix_s = None;
            if let Some(old) = self.old.get(&inode) {
                if old.folder != place.folder || old.name() != name || !old.body.same_version(body) {
                    continue;
                }
                (lookups, shown_unix_s) = (old.lookups, Some(old.shown_unix_s));
                self.old_path_bytes -= old.path.len();
                self.old.remove(&inode);
            }
            self.current.insert(inode, Node { place, lookups });
            return (inode, shown_unix_s);
        }
        unreachable!("4 billion probes collide only if every inode number is taken")
    }

    /// No name leads to `inode` any more. It lives on while the kernel knows it.
    pub fn retire(&mut self, inode: Inode, name: &[u8], body: Body, shown_unix_s: i64, folder_path: &[u8]) {
        let Some(node) = self.current.remove(&inode) else { return };
        if node.lookups > 0 {
            let path = join(folder_path, name).into_boxed_slice();
            self.old_path_bytes += path.len();
            let (folder, lookups) = (node.place.folder, node.lookups);
            // Names are at most 255 bytes: `merge` refuses longer ones.
            let name_bytes = name.len() as u8;
            self.old.insert(inode, Box::new(Old { folder, path, name_bytes, body, shown_unix_s, lookups }));
        }
    }

    /// Inodes that names lead to, and old ones.
    pub fn counts(&self) -> (usize, usize) {
        (self.current.len(), self.old.len())
    }

    pub fn shrink(&mut self) {
        // Growing again costs a rehash: only after a real fall.
        if self.current.capacity() > 1024 && self.current.len() < self.current.capacity() / 4 {
            self.current.shrink_to(self.current.len() * 2);
        }
    }

    pub fn memory_bytes(&self) -> usize {
        let current = self.current.capacity() * (size_of::<(Inode, Node)>() + 1);
        let old = self.old.capacity() * (size_of::<(Inode, Box<Old>)>() + 1);
        // 32: what an allocator adds to the two allocations of each old inode.
        current + old + self.old.len() * (size_of::<Old>() + 32) + self.old_path_bytes
    }
}

/// `folder/name`, or `name` in the root.
pub(super) fn join(folder_path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder_path.len() + 1 + name.len());
    path.extend_from_slice(folder_path);
    if !folder_path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The folder's inode stands for its path: one hash block for most names, however deep.
fn number(folder: Inode, name: &[u8], body: Body, probe: u32) -> u64 {
    let mut key = Vec::with_capacity(38 + name.len());
    key.extend_from_slice(&folder.0.to_le_bytes());
    key.extend_from_slice(&probe.to_le_bytes());
    match body.kind() {
        Kind::Folder => key.push(1),
        Kind::File => match (body.size_bytes(), body.minute()) {
            // Without a size there is no version: this number only tells names apart in readdir.
            (None, _) => key.push(2),
            (Some(size), minute) => {
                key.push(if minute.is_some() { 3 } else { 4 });
                key.extend_from_slice(&size.to_le_bytes());
                key.extend_from_slice(&minute.unwrap_or(0).to_le_bytes());
                key.extend_from_slice(&body.generation.to_le_bytes());
            }
        },
    }
    key.extend_from_slice(name);
    let hash = blake3::hash(&key);
    let mut low = [0; 8];
    low.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(low)
}

#[cfg(test)]
mod tests {
    use super::super::Claim;
    use super::*;

    fn file(size_bytes: u64) -> Body {
        Body::listed(&Claim { name: vec![], kind: Kind::File, size_bytes: Some(size_bytes), modified: None })
    }

    #[test]
    fn numbers_are_the_same_in_every_run() {
        let all = [
            number(ROOT, b"a.bin", file(5), 0),
            number(ROOT, b"a.bin", file(6), 0),
            number(ROOT, b"b.bin", file(5), 0),
            number(Inode(2), b"a.bin", file(5), 0),
            number(ROOT, b"a.bin", file(5), 1),
        ];
        assert!(all.iter().enumerate().all(|(at, one)| !all[..at].contains(one)));
        // Written down once: cached bytes are found by it after an upgrade.
        assert_eq!(all[0], WRITTEN_DOWN);
    }

    const WRITTEN_DOWN: u64 = 13_125_430_429_657_287_302;

    #[test]
    fn a_number_that_is_taken_is_probed_past() {
        let mut inodes = Inodes::new();
        inodes.mask = 7;
        let place = |slot| Place { folder: ROOT, slot };
        let mut seen: Vec<_> = (0..6u8).map(|at| inodes.assign(place(at.into()), &[b'a' + at], file(5)).0.0).collect();
        seen.sort_unstable();
        assert_eq!(seen, [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn an_old_version_that_comes_back_is_the_same_inode_with_its_date() {
        let mut inodes = Inodes::new();
        let place = Place { folder: ROOT, slot: 0 };
        let (inode, _) = inodes.assign(place, b"a", file(5));
        inodes.remember(inode, 2);
        inodes.retire(inode, b"a", file(5), 77, b"");
        assert_eq!(inodes.counts(), (0, 1));
        assert_eq!(inodes.assign(place, b"a", file(5)), (inode, Some(77)));
        inodes.forget(inode, 2);
        inodes.retire(inode, b"a", file(5), 77, b"");
        assert_eq!((inodes.counts(), inodes.old_path_bytes), ((0, 0), 0));
    }

    #[test]
    fn a_full_count_is_never_forgotten() {
        let mut inodes = Inodes::new();
        let (inode, _) = inodes.assign(Place { folder: ROOT, slot: 0 }, b"a", file(5));
        inodes.remember(inode, u64::MAX);
        inodes.forget(inode, u64::MAX);
        assert!(inodes.is_remembered(inode));
    }
}
