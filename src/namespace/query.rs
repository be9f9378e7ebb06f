//! What the tree answers, at once and from what is known.

use std::sync::Arc;
use std::time::Duration;

use super::claim::{Body, Kind};
use super::folder::{Folder, Listed, Snapshot};
use super::inode::{Place, ROOT, join};
use super::tree::Namespace;
use crate::chunk::{Inode, MirrorId, MirrorSet};
use crate::clock::Time;

/// What `stat` shows of an inode, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// The inode.
    pub inode: Inode,
    /// A folder or a file.
    pub kind: Kind,
    /// The exact size; 0 for a folder.
    pub size_bytes: u64,
    /// Seconds since 1970, as first learned of this version; 0 where no mirror gives a date.
    pub modified_unix_s: i64,
    /// What is left of the lifetime, for the kernel.
    pub lifetime: Duration,
}

/// How far an answer can be believed. All of them are served; the last three are to be asked about behind the reader's back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// Heard from a mirror within the entry lifetime.
    Fresh,
    /// Heard in this run, longer ago: the folder is to be listed again.
    Expired,
    /// From the last run and not yet seen on a mirror in this one: the folder is to be listed.
    Restored,
    /// Learned from a direct answer longer ago than the entry lifetime, and no listing can confirm it: the
    /// file is to be asked for again, and the answer given to [`Namespace::learned`] or [`Namespace::absent`].
    AskAgain,
}

/// What a name leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// It is there.
    Known {
        /// Its inode and what to show of it.
        attributes: Attributes,
        /// How far that can be believed.
        freshness: Freshness,
    },
    /// No mirror that answered has it.
    Absent {
        /// How long the kernel may believe that; 0 unless every mirror was heard and a direct question was in vain.
        lifetime: Duration,
        /// How far the folder's listing can be believed.
        freshness: Freshness,
        /// No direct question for it ended within the negative lifetime: the mirrors may be asked once
        /// ([`Namespace::learned`], [`Namespace::absent`], and [`Namespace::asked`] at the end).
        ask: bool,
        /// Mirrors whose listing of this folder has not come yet.
        unheard: MirrorSet,
    },
    /// No mirror has listed the folder yet.
    NeedsListing,
    /// It is there, but no mirror's listing gives the exact size: one of `mirrors` is to be asked, and the
    /// answer given to [`Namespace::learned`].
    NeedsSize {
        /// A number for readdir, not an inode to give to the kernel.
        inode: Inode,
        /// Those that claim the version that won.
        mirrors: MirrorSet,
    },
}

/// The folder that was asked about is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoFolder {
    /// It is a file.
    #[error("inode {} is a file, not a folder", .0.0)]
    NotAFolder(Inode),
    /// No name leads to it any more.
    #[error("inode {} is gone: look its name up again", .0.0)]
    Gone(Inode),
}

/// The names in a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entries {
    /// As one open handle of the folder should see them until it is closed.
    Known {
        /// The names, sorted.
        entries: Arc<Snapshot>,
        /// How far they can be believed.
        freshness: Freshness,
        /// Mirrors whose listing has not come yet.
        unheard: MirrorSet,
    },
    /// No mirror has listed the folder yet.
    NeedsListing,
}

/// Where following a path ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// The path is empty.
    Root,
    /// At its last name, or at the first name before it that needs something or is absent.
    At {
        /// The folder of that name.
        folder: Inode,
        /// That name.
        name: Vec<u8>,
        /// What is known of it.
        lookup: Lookup,
        /// The path below it that was not followed; empty at the last name.
        rest: Vec<u8>,
    },
    /// The path goes on below a file, or its folder is gone.
    No(NoFolder),
}

/// A file version and who has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Relative to the mount, `/` between names.
    pub path: Vec<u8>,
    /// The exact size.
    pub size_bytes: u64,
    /// The date as it is shown; `None` where no mirror gives one. Index pages give it to the minute and
    /// in a zone of their own: show it, compare it with nothing.
    pub modified_unix_s: Option<i64>,
    /// How often the bytes changed under this size and date.
    pub generation: u32,
    /// The mirrors that have it. Empty: none has it any more, what is not cached is stale.
    pub mirrors: MirrorSet,
    /// Those of them that gave a date themselves: an answer of theirs with another one is of another version.
    pub dated: MirrorSet,
    /// Mirrors that have said neither that they have the file nor that they don't.
    pub silent: MirrorSet,
    /// Mirrors that have something else under this name.
    pub dissenters: Vec<Dissenter>,
}

/// A mirror that has something else under a name, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dissenter {
    /// The mirror.
    pub mirror: MirrorId,
    /// For people: `has 0 bytes instead of 1048576`.
    pub why: String,
}

impl Namespace {
    /// What `name` in `folder` leads to.
    pub fn lookup(&self, folder: Inode, name: &[u8], now: Time) -> Result<Lookup, NoFolder> {
        self.check_folder(folder)?;
        let Some(state) = self.folders.get(&folder) else { return Ok(Lookup::NeedsListing) };
        let Ok(slot) = state.find(name) else {
            return Ok(self.not_there(folder, state, name, now));
        };
        let entry = state.entry(slot);
        let body = entry.leading.body;
        if body.kind() == Kind::File && body.size_bytes().is_none() {
            return Ok(Lookup::NeedsSize { inode: entry.inode, mirrors: entry.supporters() });
        }
        let (attributes, freshness) = self.attributes_of(state, entry, now);
        Ok(Lookup::Known { attributes, freshness })
    }

    fn not_there(&self, at: Inode, folder: &Folder, name: &[u8], now: Time) -> Lookup {
        let unheard = self.unheard(at);
        // All were asked and some of them are there and list nothing: names can only be asked for one by one.
        let unlistable = unheard.is_empty() && !folder.refused.is_empty();
        if !self.is_listed(folder) && !unlistable {
            return Lookup::NeedsListing;
        }
        let asked = self.asked_at(at, name, now);
        let listing_left = folder.fresh_until.map_or(Duration::ZERO, |until| until.since(now));
        let lifetime = match asked {
            Some(asked) if unheard.is_empty() => {
                let left = (asked + self.settings.negative_lifetime).since(now);
                if unlistable && !self.is_listed(folder) { left } else { left.min(listing_left) }
            }
            _ => Duration::ZERO,
        };
        Lookup::Absent { lifetime, freshness: freshness(folder, now), ask: asked.is_none(), unheard }
    }

    /// What to show of `inode`; `None` where it is unknown, or a file whose size is not known yet.
    pub fn attributes(&self, inode: Inode, now: Time) -> Option<(Attributes, Freshness)> {
        if inode == ROOT {
            let lifetime = self.settings.entry_lifetime;
            let root = Attributes { inode, kind: Kind::Folder, size_bytes: 0, modified_unix_s: 0, lifetime };
            return Some((root, Freshness::Fresh));
        }
        if let Some(old) = self.inodes.old(inode) {
            // A version never changes, so its attributes don't either; its name leads elsewhere already.
            let lifetime = self.settings.entry_lifetime;
            let size_bytes = known_size(old.body)?;
            let (kind, modified_unix_s) = (old.body.kind(), old.shown_unix_s);
            return Some((Attributes { inode, kind, size_bytes, modified_unix_s, lifetime }, Freshness::Fresh));
        }
        let (folder, entry) = self.entry(self.inodes.place(inode)?)?;
        known_size(entry.leading.body)?;
        Some(self.attributes_of(folder, entry, now))
    }

    fn attributes_of(&self, folder: &Folder, entry: &Listed, now: Time) -> (Attributes, Freshness) {
        let body = entry.leading.body;
        let (freshness, lifetime) = self.freshness_of(folder, entry, now);
        let attributes = Attributes {
            inode: entry.inode,
            kind: body.kind(),
            size_bytes: body.size_bytes().unwrap_or(0),
            modified_unix_s: entry.shown_unix_s,
            lifetime,
        };
        (attributes, freshness)
    }

    fn freshness_of(&self, folder: &Folder, entry: &Listed, now: Time) -> (Freshness, Duration) {
        let body = entry.leading.body;
        let listing_left = folder.fresh_until.map_or(Duration::ZERO, |until| until.since(now));
        let learned_left = match entry.learned_s {
            0 => Duration::ZERO,
            at => (Time(u64::from(at) * 1_000_000_000) + self.settings.entry_lifetime).since(now),
        };
        let of_listing = if entry.learned_s == 0 && !entry.groups().any(|group| meets(&group.mirrors, &folder.listed)) {
            Freshness::Restored
        } else {
            freshness(folder, now)
        };
        let by_asking = if learned_left.is_zero() { Freshness::AskAgain } else { Freshness::Fresh };
        let (freshness, left) = match (body.is_hidden(), body.needs_asking()) {
            (true, _) => (by_asking, learned_left),
            (false, true) if of_listing == Freshness::Fresh => (by_asking, learned_left.min(listing_left)),
            _ => (of_listing, listing_left),
        };
        (freshness, if freshness == Freshness::Fresh { left } else { Duration::ZERO })
    }

    /// The names in `folder`, for a handle that is being opened.
    pub fn entries(&mut self, folder: Inode, now: Time) -> Result<Entries, NoFolder> {
        self.check_folder(folder)?;
        if !self.folders.get(&folder).is_some_and(|state| self.is_listed(state)) {
            return Ok(Entries::NeedsListing);
        }
        let unheard = self.unheard(folder);
        let state = self.folders.get_mut(&folder).expect("it was found above");
        Ok(Entries::Known { entries: state.snapshot(), freshness: freshness(state, now), unheard })
    }

    /// Mirrors that have not said yet what `folder` holds, nor failed to.
    pub fn unheard(&self, folder: Inode) -> MirrorSet {
        let Some(state) = self.folders.get(&folder) else { return self.mirrors.clone() };
        let answered = [&state.listed, &state.missing, &state.failed, &state.refused];
        self.mirrors.iter().filter(|mirror| !answered.iter().any(|set| set.contains(*mirror))).collect()
    }

    /// The path of an inode, relative to the mount, `/` between names; empty for the root. An old
    /// inode has the path that it had.
    pub fn path(&self, inode: Inode) -> Option<Vec<u8>> {
        if inode == ROOT {
            return Some(Vec::new());
        }
        if let Some(old) = self.inodes.old(inode) {
            return Some(old.path.to_vec());
        }
        let place = self.inodes.place(inode)?;
        let folder = self.folders.get(&place.folder)?;
        Some(join(&folder.path, folder.name(place.slot)))
    }

    /// The folder and the name of an inode (also of an old one); `None` for the root and for unknown ones.
    pub fn name(&self, inode: Inode) -> Option<(Inode, Vec<u8>)> {
        if let Some(old) = self.inodes.old(inode) {
            return Some((old.folder, old.name().to_vec()));
        }
        let place = self.inodes.place(inode)?;
        Some((place.folder, self.folders.get(&place.folder)?.name(place.slot).to_vec()))
    }

    /// Where an inode stands among the names of its folder: the folder, and the place in their order. No snapshot is made.
    pub fn place(&self, inode: Inode) -> Option<(Inode, usize)> {
        let (folder, name) = self.name(inode)?;
        Some((folder, self.folders.get(&folder)?.place(&name).ok()?))
    }

    /// What has the name at a place of a folder, with its size where that is a file's and known; `None` after the last name.
    pub fn at_place(&self, folder: Inode, place: usize) -> Option<(Inode, Kind, Option<u64>)> {
        let entry = self.folders.get(&folder)?.at(place)?;
        Some((entry.inode, entry.leading.body.kind(), entry.leading.body.size_bytes()))
    }

    /// How many names a folder has, as far as it is known.
    pub fn places(&self, folder: Inode) -> usize {
        self.folders.get(&folder).map_or(0, |folder| folder.places())
    }

    /// Follows a path, relative to the mount, as far as is known. Empty names and `.` are passed over.
    pub fn resolve(&self, path: &[u8], now: Time) -> Resolved {
        let mut at = ROOT;
        let mut names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).peekable();
        while let Some(name) = names.next() {
            let lookup = match self.lookup(at, name, now) {
                Ok(lookup) => lookup,
                Err(none) => return Resolved::No(none),
            };
            match &lookup {
                Lookup::Known { attributes, .. } if names.peek().is_some() => at = attributes.inode,
                _ => {
                    let rest = names.collect::<Vec<_>>().join(&b'/');
                    return Resolved::At { folder: at, name: name.to_vec(), lookup, rest };
                }
            }
        }
        Resolved::Root
    }

    /// The version that a file's inode is, and who has it. `None` for folders, unknown inodes, and files whose
    /// size is not known yet.
    pub fn version(&self, file: Inode) -> Option<Version> {
        let path = self.path(file)?;
        let (folder, name) = self.name(file)?;
        let (body, shown_unix_s) = match self.inodes.old(file) {
            Some(old) => (old.body, old.shown_unix_s),
            None => {
                let (_, entry) = self.entry(self.inodes.place(file)?)?;
                (entry.leading.body, entry.shown_unix_s)
            }
        };
        let size_bytes = body.size_bytes()?;
        let state = self.folders.get(&folder);
        let entry = state.and_then(|state| state.find(&name).ok().map(|slot| state.entry(slot)));
        let claims = entry.into_iter().flat_map(|entry| entry.groups());
        let (mut mirrors, mut dated, mut dissenters) = (MirrorSet::new(), MirrorSet::new(), Vec::new());
        for group in claims {
            if group.body.agrees(body) {
                group.mirrors.iter().for_each(|mirror| mirrors.insert(mirror));
                let says_when = group.body.minute().is_some();
                group.mirrors.iter().filter(|_| says_when).for_each(|mirror| dated.insert(mirror));
            } else {
                let why = difference(group.body, body);
                dissenters.extend(group.mirrors.iter().map(|mirror| Dissenter { mirror, why: why.clone() }));
            }
        }
        dissenters.sort_by_key(|dissenter| dissenter.mirror);
        let spoke = entry.map(Listed::claimants).unwrap_or_default();
        let answered = |mirror: MirrorId| {
            state.is_some_and(|state| state.listed.contains(mirror) || state.missing.contains(mirror))
        };
        let silent = self.mirrors.iter().filter(|mirror| !spoke.contains(*mirror) && !answered(*mirror)).collect();
        let modified_unix_s = body.modified_unix_s().map(|_| shown_unix_s);
        let generation = body.generation;
        Some(Version { path, size_bytes, modified_unix_s, generation, mirrors, dated, silent, dissenters })
    }

    fn entry(&self, place: Place) -> Option<(&Folder, &Listed)> {
        let folder = self.folders.get(&place.folder)?;
        Some((folder, folder.entry(place.slot)))
    }

    fn check_folder(&self, folder: Inode) -> Result<(), NoFolder> {
        if folder == ROOT {
            return Ok(());
        }
        let current =
            self.inodes.place(folder).and_then(|place| self.entry(place)).map(|(_, entry)| entry.leading.body);
        match (current, self.inodes.old(folder)) {
            (Some(body), _) if body.kind() == Kind::Folder => Ok(()),
            (Some(_), _) => Err(NoFolder::NotAFolder(folder)),
            (None, Some(old)) if old.body.kind() == Kind::File => Err(NoFolder::NotAFolder(folder)),
            (None, _) => Err(NoFolder::Gone(folder)),
        }
    }

    /// Some mirror's listing is in, of this run or the last; or every mirror says that there is no such folder,
    /// which is then empty. One that says so while others are silent proves nothing.
    fn is_listed(&self, folder: &Folder) -> bool {
        !folder.listed.is_empty()
            || !folder.restored.is_empty()
            || self.mirrors.iter().all(|mirror| folder.missing.contains(mirror))
    }
}

fn freshness(folder: &Folder, now: Time) -> Freshness {
    match folder.fresh_until {
        None => Freshness::Restored,
        Some(until) if now < until => Freshness::Fresh,
        Some(_) => Freshness::Expired,
    }
}

fn meets(some: &MirrorSet, others: &MirrorSet) -> bool {
    some.iter().any(|mirror| others.contains(mirror))
}

fn known_size(body: Body) -> Option<u64> {
    if body.kind() == Kind::Folder { Some(0) } else { body.size_bytes() }
}

/// What a dissenter has, beside what is shown.
fn difference(has: Body, shown: Body) -> String {
    match (has.kind(), has.size_bytes(), shown.size_bytes()) {
        (Kind::Folder, ..) => "has a folder of this name".to_owned(),
        (_, Some(has), Some(shown)) if has != shown => format!("has {has} bytes instead of {shown}"),
        _ => match (has.minute(), shown.minute()) {
            (Some(has), Some(shown)) if has > shown => format!("its date is {} min later", has - shown),
            (Some(has), Some(shown)) if has < shown => format!("its date is {} min earlier", shown - has),
            _ => "has other bytes of the same size and date".to_owned(),
        },
    }
}
