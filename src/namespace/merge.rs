//! What the mirrors say goes in here: listings, direct answers, changes.

use std::cmp::Ordering;

use super::claim::{Body, Claim, Found, Kind};
use super::folder::Folder;
use super::inode::Place;
use super::tree::Namespace;
use super::{NAME_BYTES_MAX, PATH_BYTES_MAX};
use crate::chunk::{FILE_BYTES_MAX, Inode, MirrorId};
use crate::clock::Time;

/// What an answer changed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Changes {
    /// Names that are new.
    pub added: usize,
    /// Names that are gone, in folders below too.
    pub removed: usize,
    /// Names that a mirror claims otherwise than before, the new ones included: who serves them may differ.
    pub claimed: usize,
    /// File versions that no name leads to any more. Handles of them go on with the mirrors that
    /// [`Namespace::version`] gives.
    pub gone: Vec<Inode>,
    /// Claims that were refused: impossible names or sizes, a name twice, over a limit.
    pub refused: usize,
}

impl Changes {
    /// Nothing that would have to be saved.
    pub fn is_empty(&self) -> bool {
        self.added + self.removed + self.claimed + self.gone.len() == 0
    }

    pub(super) fn join(&mut self, other: Changes) {
        self.added += other.added;
        self.removed += other.removed;
        self.claimed += other.claimed;
        self.gone.extend(other.gone);
        self.refused += other.refused;
    }
}

/// Why a mirror gave no listing of a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotListed {
    /// It has no such folder (404, 410): what it claimed in it is gone.
    Missing,
    /// It could not be reached, or answered nonsense: what it claimed stays.
    Unreachable,
    /// It is there and lists no such folder (401, 403, no index page): what it claimed stays.
    Refused,
}

/// What a direct answer led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Learned {
    /// What the name leads to now.
    pub inode: Inode,
    /// What it led to before, if that was another version.
    pub replaced: Option<Inode>,
    /// The mirror that answered serves the version that the name leads to.
    pub agrees: bool,
}

/// Where claims come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// A listing of this run.
    Listing,
    /// The last run.
    Restored,
    /// Nowhere: the mirror has nothing here.
    Nothing,
}

impl Namespace {
    /// `mirror` listed the whole of `folder`. Ignored where the folder or the mirror is gone.
    pub fn listed(&mut self, folder: Inode, mirror: MirrorId, claims: Vec<Claim>, now: Time) -> Changes {
        let mut bodies: Vec<(Vec<u8>, Body)> = Vec::with_capacity(claims.len());
        let mut refused = 0;
        for claim in claims {
            let body = Body::listed(&claim);
            match name_is_possible(&claim.name) && body.size_bytes().is_none_or(|size| size <= FILE_BYTES_MAX) {
                true => bodies.push((claim.name, body)),
                false => refused += 1,
            }
        }
        bodies.sort_by(|(a, _), (b, _)| a.cmp(b));
        let possible = bodies.len();
        bodies.dedup_by(|later, first| later.0 == first.0);
        refused += possible - bodies.len();
        let lifetime = self.settings.entry_lifetime;
        let mut changes = self.apply(folder, mirror, bodies, From::Listing, |folder| {
            folder.heard_from(mirror, now, lifetime);
            folder.missing.remove(mirror);
            folder.listed.insert(mirror);
        });
        changes.refused += refused;
        self.refused += refused as u64;
        changes
    }

    /// `mirror` gave no listing of `folder`. Only [`NotListed::Missing`] takes anything away.
    pub fn not_listed(&mut self, folder: Inode, mirror: MirrorId, why: NotListed, now: Time) -> Changes {
        if why == NotListed::Missing {
            let lifetime = self.settings.entry_lifetime;
            return self.apply(folder, mirror, Vec::new(), From::Nothing, |folder| {
                folder.heard_from(mirror, now, lifetime);
                folder.listed.remove(mirror);
                folder.missing.insert(mirror);
            });
        }
        if self.mirrors.contains(mirror)
            && let Some(mut state) = self.take_or_make(folder)
        {
            let (set, other) = match why {
                NotListed::Refused => (&mut state.refused, &mut state.failed),
                _ => (&mut state.failed, &mut state.refused),
            };
            set.insert(mirror);
            other.remove(mirror);
            self.put_back(folder, state);
        }
        Changes::default()
    }

    /// A direct answer of `mirror` said what `name` in `folder` is: the size that a listing rounds, a
    /// name that no listing shows, or bytes other than listed. `None` where the folder or the mirror is gone, or
    /// the name is impossible or over a limit.
    pub fn learned(
        &mut self,
        folder: Inode,
        name: &[u8],
        mirror: MirrorId,
        found: Found,
        now: Time,
    ) -> Option<Learned> {
        let too_large = matches!(found, Found::File { size_bytes, .. } if size_bytes > FILE_BYTES_MAX);
        if !name_is_possible(name) || too_large {
            self.refused += 1;
            return None;
        }
        if !self.mirrors.contains(mirror) {
            return None;
        }
        self.found(folder, name);
        let mut state = self.take_or_make(folder)?;
        let learned = self.learn(folder, &mut state, name, mirror, found, now);
        self.put_back(folder, state);
        learned
    }

    fn learn(
        &mut self,
        at: Inode,
        folder: &mut Folder,
        name: &[u8],
        mirror: MirrorId,
        found: Found,
        now: Time,
    ) -> Option<Learned> {
        let mut changes = Changes::default();
        let slot = match folder.find(name) {
            Err(place) => {
                let slot = self.introduce(at, folder, name, Body::found(found).as_hidden(), mirror, &mut changes)?;
                folder.order.insert(place, slot);
                folder.touched();
                slot
            }
            Ok(slot) => slot,
        };
        let before = folder.entry(slot).inode;
        let leading = folder.entry(slot).leading.body;
        let claim = folder.entry(slot).claim_of(mirror);
        let body = match claim.map(|claim| (claim, claim.after(found))) {
            None => Body::answered(found, leading).as_hidden(),
            Some((_, (completed, false))) => completed,
            Some((claim, _)) if claim.is_hidden() => Body::answered(found, leading).as_hidden(),
            Some((claim, _)) => {
                folder.overruled.entry((slot, mirror)).or_insert(claim.without_learned());
                Body::answered(found, leading)
            }
        };
        self.claim(at, folder, slot, mirror, Some(body), &mut changes);
        // Whole seconds are enough for a lifetime; 0 means never.
        let now_s = u32::try_from(now.0 / 1_000_000_000).unwrap_or(u32::MAX).max(1);
        folder.change(slot, |entry| entry.learned_s = now_s);
        let entry = folder.entry(slot);
        let agrees = entry.supporters().contains(mirror);
        Some(Learned { inode: entry.inode, replaced: (before != entry.inode).then_some(before), agrees })
    }

    /// `mirror` said to a direct question that it does not have `name` in `folder`.
    pub fn absent(&mut self, folder: Inode, name: &[u8], mirror: MirrorId) -> Changes {
        let mut changes = Changes::default();
        let Some(mut state) = self.take(folder) else { return changes };
        if let Ok(place) = state.order.binary_search_by(|&slot| state.name(slot).cmp(name)) {
            let slot = state.order.remove(place);
            if self.claim(folder, &mut state, slot, mirror, None, &mut changes) {
                state.order.insert(place, slot);
            } else {
                state.touched();
            }
        }
        self.put_back(folder, state);
        changes
    }

    /// A mirror's validator says that it has other bytes of `file` now, under the same size and date
    /// (`None`: all that agreed do). If that outvotes those who still have the old ones, the name gets a new version: its inode is
    /// returned. Else the mirror is just not used for this version any more. The folder's listing is expired.
    pub fn changed(&mut self, file: Inode, mirror: Option<MirrorId>, now: Time) -> Option<Inode> {
        let place = self.inodes.place(file)?;
        let mut folder = self.take(place.folder)?;
        let version = folder.entry(place.slot).leading.body;
        if version.kind() == Kind::File {
            let generation = version.generation.saturating_add(1);
            let mut changes = Changes::default();
            match mirror {
                Some(mirror) => {
                    let claim = folder.entry(place.slot).claim_of(mirror).filter(|claim| claim.agrees(version));
                    if let Some(claim) = claim {
                        let body = Some(claim.of_generation(generation));
                        self.claim(place.folder, &mut folder, place.slot, mirror, body, &mut changes);
                    }
                }
                None => {
                    folder.change(place.slot, |entry| {
                        let agreeing = entry.groups_mut().filter(|group| group.body.agrees(version));
                        agreeing.for_each(|group| group.body.generation = generation);
                        entry.revote();
                    });
                    self.settle(place.folder, &mut folder, place.slot, Some(version), &mut changes);
                }
            }
        }
        let inode = folder.entry(place.slot).inode;
        self.put_back(place.folder, folder);
        self.expire(place.folder, now);
        (inode != file).then_some(inode)
    }

    /// `mirror` has nothing in `folder`.
    pub(super) fn withdraw_all(&mut self, folder: Inode, mirror: MirrorId) -> Changes {
        self.apply(folder, mirror, Vec::new(), From::Nothing, |_| {})
    }

    /// Replaces all that `mirror` claims in a folder by `claims`, sorted by name and each name once.
    pub(super) fn apply(
        &mut self,
        at: Inode,
        mirror: MirrorId,
        claims: Vec<(Vec<u8>, Body)>,
        from: From,
        then: impl FnOnce(&mut Folder),
    ) -> Changes {
        let mut changes = Changes::default();
        // A late answer of a mirror that a reload took away is no claim.
        let known = self.mirrors.contains(mirror) || from == From::Nothing;
        let Some(mut folder) = known.then(|| self.take_or_make(at)).flatten() else { return changes };
        let order = std::mem::take(&mut folder.order);
        let more = claims.len().saturating_sub(order.len());
        if order.is_empty() {
            folder.reserve(more, claims.iter().map(|(name, _)| name.len()).sum());
        }
        self.inodes.reserve(more.min(self.settings.max_names.saturating_sub(self.names)));
        let mut merged = Vec::with_capacity(order.len().max(claims.len()));
        let mut old = order.into_iter().peekable();
        let mut new = claims.into_iter().peekable();
        loop {
            let step = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(&slot), Some((name, _))) => folder.name(slot).cmp(name),
            };
            let slot = if step == Ordering::Greater { None } else { old.next() };
            let claim = if step == Ordering::Less { None } else { new.next() };
            let kept = match (slot, claim) {
                (Some(slot), None) => self.unlisted(at, &mut folder, slot, mirror, from, &mut changes).then_some(slot),
                (Some(slot), Some((_, body))) => {
                    self.relisted(at, &mut folder, slot, mirror, body, from, &mut changes);
                    Some(slot)
                }
                (None, Some((name, body))) => self.introduce(at, &mut folder, &name, body, mirror, &mut changes),
                (None, None) => break,
            };
            merged.extend(kept);
        }
        folder.order = merged;
        if changes.added + changes.removed + changes.claimed > 0 {
            folder.touched();
        }
        then(&mut folder);
        self.put_back(at, folder);
        self.inodes.shrink();
        changes
    }

    /// The mirror's listing does not show a name. Returns whether it is still there.
    fn unlisted(
        &mut self,
        at: Inode,
        folder: &mut Folder,
        slot: u32,
        mirror: MirrorId,
        from: From,
        changes: &mut Changes,
    ) -> bool {
        match folder.entry(slot).claim_of(mirror) {
            None => true,
            // No listing ever showed it: that this one does not either says nothing.
            Some(claim) if claim.is_hidden() && from != From::Nothing => true,
            Some(_) => self.claim(at, folder, slot, mirror, None, changes),
        }
    }

    /// The mirror's listing shows a name that is known.
    #[expect(clippy::too_many_arguments, reason = "one step of `apply`, with all that it works on")]
    fn relisted(
        &mut self,
        at: Inode,
        folder: &mut Folder,
        slot: u32,
        mirror: MirrorId,
        mut body: Body,
        from: From,
        changes: &mut Changes,
    ) {
        if from == From::Listing {
            if let Some(overruled) = folder.overruled.get(&(slot, mirror)) {
                if overruled.same_listing(body) {
                    return;
                }
                folder.overruled.remove(&(slot, mirror));
            }
            let entry = folder.entry(slot);
            body.generation = entry.leading.body.generation;
            if let Some(before) = entry.claim_of(mirror) {
                body = body.keeping_learned(before);
                let unchanged = body.of_generation(before.generation);
                if unchanged.same_version(before) {
                    body = unchanged;
                }
            }
        }
        self.claim(at, folder, slot, mirror, Some(body), changes);
    }

    /// A name that is new. `None` where a limit refuses it.
    fn introduce(
        &mut self,
        at: Inode,
        folder: &mut Folder,
        name: &[u8],
        body: Body,
        mirror: MirrorId,
        changes: &mut Changes,
    ) -> Option<u32> {
        let fits = self.names < self.settings.max_names && folder.path.len() + 1 + name.len() <= PATH_BYTES_MAX;
        let Some(slot) = fits.then(|| folder.add(name, body, mirror)).flatten() else {
            changes.refused += 1;
            self.refused += 1;
            return None;
        };
        self.names += 1;
        changes.added += 1;
        changes.claimed += 1;
        self.settle(at, folder, slot, None, changes);
        Some(slot)
    }

    /// From now on `mirror` claims `body` of a name, or nothing. Returns whether the name is still there; if
    /// not, its slot is free and must leave the order.
    fn claim(
        &mut self,
        at: Inode,
        folder: &mut Folder,
        slot: u32,
        mirror: MirrorId,
        body: Option<Body>,
        changes: &mut Changes,
    ) -> bool {
        let before = folder.entry(slot).leading.body;
        if !folder.change(slot, |entry| entry.put(mirror, body)) {
            return true;
        }
        changes.claimed += 1;
        self.settle(at, folder, slot, Some(before), changes)
    }

    /// Makes the name lead to the version that won, where that is not `before`. Returns whether
    /// the name is still there.
    fn settle(
        &mut self,
        at: Inode,
        folder: &mut Folder,
        slot: u32,
        before: Option<Body>,
        changes: &mut Changes,
    ) -> bool {
        let entry = folder.entry(slot);
        let (old, after, there) = (entry.inode, entry.leading.body, !entry.is_unclaimed());
        if there && before.is_some_and(|before| before.same_version(after)) {
            return true;
        }
        let name = folder.name(slot);
        if let Some(before) = before {
            self.inodes.retire(old, name, before, entry.shown_unix_s, &folder.path);
            if before.size_bytes().is_some() {
                changes.gone.push(old);
            }
            if before.kind() == Kind::Folder {
                self.drop_subtree(old, changes);
            }
        }
        if !there {
            self.names -= 1;
            changes.removed += 1;
            folder.free(slot);
            return false;
        }
        let (inode, shown_unix_s) = self.inodes.assign(Place { folder: at, slot }, name, after);
        folder.change(slot, |entry| {
            entry.inode = inode;
            entry.shown_unix_s = shown_unix_s.or(after.modified_unix_s()).unwrap_or(0);
        });
        true
    }
}

/// A name that a folder can have. Listings are read by parsers that refuse the rest; what reaches the kernel is checked here.
pub(super) fn name_is_possible(name: &[u8]) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}
