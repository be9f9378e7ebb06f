//! The record of one fetch: which pages it owns, what came, and when it last gave a sign of life.

use super::predictor::Asked;
use super::sampling::Progress;
use crate::chunk::{Class, FetchId, Inode, MirrorId, Pages};
use crate::clock::Time;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// What a fetch owns: one run as a rule, two where a middle came from elsewhere.
pub(super) type Runs = SmallVec<[Pages; 2]>;

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Started; no connection yet.
    Connecting,
    /// The request is under way since then.
    Asked(Time),
    /// Bytes are coming.
    Body,
    /// All bytes are here. Its pages may still wait for the disk, which is not the mirror's silence.
    Ended,
}

#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) mirror: MirrorId,
    pub(super) file: Inode,
    /// What was asked for.
    pub(super) pages: Pages,
    /// The pages that are in flight by this fetch and no other. Sorted.
    pub(super) owned: Runs,
    pub(super) class: Class,
    pub(super) whole: bool,
    pub(super) phase: Phase,
    /// What it will bring in all, what came, and what of it was reported as pages, in bytes.
    pub(super) length_bytes: u64,
    pub(super) total_bytes: u64,
    pub(super) arrived_bytes: u64,
    /// Its own rate, which beside others is a share of the mirror's.
    pub(super) progress: Progress,
    pub(super) started_at: Time,
    pub(super) sign_at: Time,
    /// A reader waits for some of it.
    pub(super) waited: bool,
    /// Other bytes of ours were on the link when it asked.
    pub(super) queued: bool,
    /// What was on its mirror's link before it, in bytes.
    pub(super) queued_bytes: u64,
    /// What was foretold of it.
    pub(super) asked: Asked,
    /// It only tries whether one more connection is of use.
    pub(super) extra: bool,
    /// For the background, and of a chunk or less.
    pub(super) small: bool,
    /// It was late and was hedged, or could not be.
    pub(super) hedged: bool,
    /// It is the second one for its pages, and owns none of them.
    pub(super) is_hedge: bool,
    /// The other one for its pages.
    pub(super) twin: Option<FetchId>,
    /// What it brought is held no more, and what it brings is not used.
    pub(super) void: bool,
    /// Told to end: it owns nothing and counts nowhere; only its last event is awaited.
    pub(super) cancelled: bool,
}

impl Fetch {
    pub(super) fn remaining_bytes(&self) -> u64 {
        self.length_bytes.saturating_sub(self.total_bytes)
    }

    /// These pages are not its own any more. Returns those that were.
    pub(super) fn disown(&mut self, pages: Pages) -> Runs {
        let (mut kept, mut gone) = (Runs::new(), Runs::new());
        for &run in &self.owned {
            let common = run.intersect(pages);
            if common.is_empty() {
                kept.push(run);
                continue;
            }
            gone.push(common);
            let around = [Pages::new(run.start, common.start), Pages::new(common.end, run.end)];
            kept.extend(around.into_iter().filter(|part| !part.is_empty()));
        }
        self.owned = kept;
        gone
    }

    pub(super) fn owns_any(&self, pages: Pages) -> bool {
        self.owned.iter().any(|run| !run.intersect(pages).is_empty())
    }
}

/// All fetches whose last event has not come.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    pub(super) all: Records,
    /// Those that are not cancelled.
    pub(super) live: usize,
    next: u64,
}

impl Fetches {
    /// Ids only grow.
    pub(super) fn next_id(&mut self) -> FetchId {
        self.next += 1;
        FetchId(self.next)
    }

    /// The last one that was given, and so how many there were.
    pub(super) fn made(&self) -> u64 {
        self.next
    }

    /// The live fetches of a file.
    pub(super) fn of_file(&self, file: Inode) -> impl Iterator<Item = (FetchId, &Fetch)> {
        self.all.of_file(file).filter(|(_, fetch)| !fetch.cancelled)
    }
}

/// Where the record of a fetch is. What is looked for among many is here, so that their records stay untouched.
#[derive(Clone, Copy, Debug)]
struct Place {
    id: FetchId,
    file: Inode,
    at: usize,
}

/// Records by id, in memory that is used again: fetches come and go without an allocation each.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// By id. A new one is the last, and most that end are among the first.
    places: VecDeque<Place>,
    slots: Vec<Option<Fetch>>,
    free: Vec<usize>,
}

impl Records {
    pub(super) fn insert(&mut self, id: FetchId, fetch: Fetch) {
        let at = self.free.pop().unwrap_or(self.slots.len());
        let place = Place { id, file: fetch.file, at };
        match at < self.slots.len() {
            true => self.slots[at] = Some(fetch),
            false => self.slots.push(Some(fetch)),
        }
        let before = match self.places.back() {
            Some(last) if last.id > id => self.places.partition_point(|other| other.id < id),
            _ => self.places.len(),
        };
        self.places.insert(before, place);
    }

    pub(super) fn remove(&mut self, id: &FetchId) -> Option<Fetch> {
        let place = self.places.remove(self.find(id)?)?;
        self.free.push(place.at);
        self.slots[place.at].take()
    }

    pub(super) fn get(&self, id: &FetchId) -> Option<&Fetch> {
        self.slots[self.places[self.find(id)?].at].as_ref()
    }

    pub(super) fn get_mut(&mut self, id: &FetchId) -> Option<&mut Fetch> {
        let at = self.places[self.find(id)?].at;
        self.slots[at].as_mut()
    }

    /// In the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&FetchId, &Fetch)> {
        self.places.iter().filter_map(|place| Some((&place.id, self.slots[place.at].as_ref()?)))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Fetch> {
        self.iter().map(|(_, fetch)| fetch)
    }

    /// Of one file, in the order of their ids.
    fn of_file(&self, file: Inode) -> impl Iterator<Item = (FetchId, &Fetch)> {
        let places = self.places.iter().filter(move |place| place.file == file);
        places.filter_map(|place| Some((place.id, self.slots[place.at].as_ref()?)))
    }

    /// The same, to change them.
    pub(super) fn each_of_file(&mut self, file: Inode, mut change: impl FnMut(FetchId, &mut Fetch)) {
        for place in self.places.iter().filter(|place| place.file == file) {
            if let Some(fetch) = &mut self.slots[place.at] {
                change(place.id, fetch);
            }
        }
    }

    fn find(&self, id: &FetchId) -> Option<usize> {
        self.places.binary_search_by_key(id, |place| place.id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(file: u64, owned: &[Pages]) -> Fetch {
        Fetch {
            mirror: MirrorId(0),
            file: Inode(file),
            pages: Pages::new(0, 30),
            owned: Runs::from_slice(owned),
            class: Class::Demand,
            whole: false,
            phase: Phase::Connecting,
            length_bytes: 10,
            total_bytes: 12,
            arrived_bytes: 0,
            progress: Progress::new(1.0),
            started_at: Time(0),
            sign_at: Time(0),
            waited: false,
            queued: false,
            queued_bytes: 0,
            asked: Asked::default(),
            extra: false,
            small: false,
            hedged: false,
            is_hedge: false,
            twin: None,
            void: false,
            cancelled: false,
        }
    }

    #[test]
    fn disowning_the_middle_leaves_both_ends() {
        let mut fetch = fetch(1, &[Pages::new(0, 10), Pages::new(20, 30)]);
        assert_eq!(fetch.disown(Pages::new(5, 22))[..], [Pages::new(5, 10), Pages::new(20, 22)]);
        assert_eq!(fetch.owned[..], [Pages::new(0, 5), Pages::new(22, 30)]);
        assert!(fetch.owns_any(Pages::new(4, 5)) && !fetch.owns_any(Pages::new(5, 22)));
        assert_eq!(fetch.remaining_bytes(), 0);
    }

    #[test]
    fn records_are_found_by_id_and_by_file_whatever_ended_before() {
        let mut records = Records::default();
        for id in [1, 2, 4, 3, 5, 6] {
            records.insert(FetchId(id), fetch(id % 2, &[]));
        }
        assert_eq!(records.remove(&FetchId(2)).map(|fetch| fetch.file), Some(Inode(0)));
        assert!(records.remove(&FetchId(2)).is_none() && records.get(&FetchId(2)).is_none());
        records.insert(FetchId(7), fetch(1, &[]));
        assert_eq!(records.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [1, 3, 4, 5, 6, 7]);
        let mut odd = Vec::new();
        records.each_of_file(Inode(1), |id, _| odd.push(id.0));
        assert_eq!(odd, [1, 3, 5, 7]);
        assert_eq!(records.slots.len(), 6, "the record of 7 is where that of 2 was");
    }
}
