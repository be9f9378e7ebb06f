//! Who wants which pages, and in which order they are served.
//!
//! Demand goes by deadline, then by arrival; the background by arrival. A want lives until its pages
//! are held, its deadline has passed, or it is hopeless.

use super::table::Table;
use crate::chunk::{Class, Inode, Pages, ReaderId};
use crate::clock::Time;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) file: Inode,
    pub(super) pages: Pages,
    pub(super) class: Class,
    pub(super) reader: ReaderId,
    /// A read waits for it, whatever its class: the memory for it is there.
    pub(super) is_read: bool,
    /// When nobody waits any more: `patience` after it came, or after the last byte that came for it.
    expires: Time,
    patience: Duration,
    /// When it came.
    since: Time,
    /// Its reader goes in order: what it waits for is its own readahead.
    pub(super) in_order: bool,
    /// No queued page is before this one.
    pub(super) from: u64,
    /// Every page before this one is held.
    done: u64,
}

impl Want {
    pub(super) fn new(now: Time, file: Inode, pages: Pages, class: Class, reader: ReaderId, deadline: Time) -> Want {
        let (from, done) = (pages.start, pages.start);
        let patience = deadline.since(now);
        let is_read = class == Class::Demand;
        Want {
            file,
            pages,
            class,
            reader,
            is_read,
            expires: deadline,
            patience,
            since: now,
            in_order: false,
            from,
            done,
        }
    }

    /// The same as demand, nothing of it looked for yet.
    pub(super) fn into_demand(self) -> Want {
        let start = self.pages.start;
        Want { class: Class::Demand, from: start, done: start, ..self }
    }

    /// When nobody waits any more unless a byte comes.
    pub(super) fn expires(&self) -> Time {
        self.expires
    }
}

/// Class, deadline, arrival: the order in which wants are served. And where the want is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    class: Class,
    deadline: Time,
    arrival: u64,
    slot: usize,
}

/// Wants of at most so many pages are found by their place in the file; a read is no longer. Those that are longer
/// are few and all looked at.
const SHORT_PAGES: u64 = 256;

/// The wants of one file, by their first page.
#[derive(Debug, Default)]
struct OfFile {
    short: Vec<Place>,
    long: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    start: u64,
    slot: usize,
}

impl OfFile {
    fn of_length(&mut self, pages: Pages) -> &mut Vec<Place> {
        if pages.count() <= SHORT_PAGES { &mut self.short } else { &mut self.long }
    }

    /// Among them is every one that touches `pages`, and not many that do not.
    fn near(&self, pages: Pages) -> impl Iterator<Item = usize> + '_ {
        let short = &self.short[short_near(&self.short, pages)];
        short.iter().chain(&self.long).map(|place| place.slot)
    }
}

fn short_near(places: &[Place], pages: Pages) -> Range<usize> {
    let first = places.partition_point(|place| place.start + SHORT_PAGES <= pages.start);
    first..first + places[first..].partition_point(|place| place.start < pages.end)
}

/// In memory that is used again: wants come and go without an allocation each.
#[derive(Debug, Default)]
pub(super) struct Wants {
    slots: Vec<Option<(Key, Want)>>,
    free: Vec<usize>,
    /// Those that may have queued pages, by class, in order. A new one is the last as a rule, and the first go first.
    pending: [VecDeque<Key>; 3],
    by_file: BTreeMap<Inode, OfFile>,
    arrivals: u64,
    /// No want expires before this.
    pub(super) expiry: Option<Time>,
}

impl Wants {
    /// A new want, kept until `expires`; one that is there already only lives longer. Returns its key.
    pub(super) fn add(&mut self, want: Want, expires: Time) -> Key {
        let same = |old: &Want| (old.pages, old.class, old.reader) == (want.pages, want.class, want.reader);
        let places = self.by_file.entry(want.file).or_default().of_length(want.pages);
        let (slots, first) = (&self.slots, places.partition_point(|place| place.start < want.pages.start));
        let alike = places[first..].iter().take_while(|place| place.start == want.pages.start);
        let mut alike = alike.filter_map(|place| slots[place.slot].as_ref());
        let there = alike.find(|(_, old)| same(old)).map(|(key, _)| *key);
        if let Some(key) = there {
            if let Some(old) = self.get_mut(&key) {
                old.expires = old.expires.max(expires);
                old.from = old.pages.start;
            }
            self.pend(key);
            return key;
        }
        self.arrivals += 1;
        // Only demand is urgent in itself; the background goes first come, first served.
        let deadline = if want.class == Class::Demand { want.expires } else { Time(0) };
        let slot = self.free.pop().unwrap_or(self.slots.len());
        let key = Key { class: want.class, deadline, arrival: self.arrivals, slot };
        let (file, pages) = (want.file, want.pages);
        let kept = Some((key, Want { expires, ..want }));
        match slot < self.slots.len() {
            true => self.slots[slot] = kept,
            false => self.slots.push(kept),
        }
        let places = self.by_file.entry(file).or_default().of_length(pages);
        let place = Place { start: pages.start, slot };
        places.insert(first + places[first..].partition_point(|other| *other < place), place);
        self.pend(key);
        self.expiry = Some(self.expiry.map_or(expires, |at| at.min(expires)));
        key
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Want> {
        self.slots.get(key.slot)?.as_ref().filter(|(kept, _)| kept == key).map(|(_, want)| want)
    }

    fn get_mut(&mut self, key: &Key) -> Option<&mut Want> {
        self.slots.get_mut(key.slot)?.as_mut().filter(|(kept, _)| kept == key).map(|(_, want)| want)
    }

    fn pend(&mut self, key: Key) {
        let pending = &mut self.pending[key.class as usize];
        if pending.back().is_none_or(|last| *last < key) {
            pending.push_back(key);
        } else if let Err(before) = pending.binary_search(&key) {
            pending.insert(before, key);
        }
    }

    /// The first of a class that may have queued pages, or the first after another one.
    pub(super) fn next_pending(&self, class: Class, after: Option<Key>) -> Option<Key> {
        let pending = &self.pending[class as usize];
        pending.get(after.map_or(0, |after| pending.partition_point(|key| *key <= after))).copied()
    }

    /// Does a reader wait for it?
    pub(super) fn is_read(&self, key: &Key) -> bool {
        self.get(key).is_some_and(|want| want.is_read)
    }

    /// Is it among those that may have queued pages?
    pub(super) fn is_pending(&self, key: &Key) -> bool {
        self.pending[key.class as usize].binary_search(key).is_ok()
    }

    /// Nothing of it is queued before this page; at its end, nothing at all.
    pub(super) fn advance(&mut self, key: &Key, from: u64) {
        let Some(want) = self.get_mut(key) else { return };
        want.from = from;
        if from >= want.pages.end {
            unpend(&mut self.pending, key);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Want> {
        self.keyed().map(|(_, want)| want)
    }

    pub(super) fn keyed(&self) -> impl Iterator<Item = (&Key, &Want)> {
        self.slots.iter().flatten().map(|(key, want)| (key, want))
    }

    /// The wants of a file that touch `pages`.
    pub(super) fn touching(&self, file: Inode, pages: Pages) -> impl Iterator<Item = (Key, &Want)> {
        let near = self.by_file.get(&file).into_iter().flat_map(move |of_file| of_file.near(pages));
        near.filter_map(|slot| self.slots[slot].as_ref().map(|(key, want)| (*key, want)))
            .filter(move |(_, want)| !want.pages.intersect(pages).is_empty())
    }

    /// Does a reader wait for any of `pages`?
    pub(super) fn waited(&self, file: Inode, pages: Pages) -> bool {
        self.touching(file, pages).any(|(key, _)| key.class == Class::Demand)
    }

    /// `pages` may be queued again.
    pub(super) fn reopen(&mut self, key: Key, pages: Pages) {
        if let Some(want) = self.get_mut(&key) {
            want.from = want.from.min(pages.start.max(want.pages.start));
            want.done = want.done.min(pages.start.max(want.pages.start));
            self.pend(key);
        }
    }

    /// What was held for them is gone again: they wait anew.
    pub(super) fn live_longer(&mut self, now: Time, file: Inode, pages: Pages) {
        let Some(of_file) = self.by_file.get(&file) else { return };
        for slot in of_file.near(pages) {
            if let Some((_, want)) = &mut self.slots[slot]
                && !want.pages.intersect(pages).is_empty()
            {
                want.expires = want.expires.max(now + want.patience);
            }
        }
    }

    /// `pages` are held now: those who waited for them live longer, or are served and go. `served` is told how
    /// long each reader waited, and whether it goes in order.
    pub(super) fn arrived(
        &mut self,
        now: Time,
        file: Inode,
        pages: Pages,
        table: &Table,
        mut served: impl FnMut(Duration, bool),
    ) {
        let Some(of_file) = self.by_file.get_mut(&file) else { return };
        let (slots, free, pending) = (&mut self.slots, &mut self.free, &mut self.pending);
        let mut is_served = |place: Place| {
            let Some((key, want)) = &mut slots[place.slot] else { return true };
            if want.pages.intersect(pages).is_empty() {
                return false;
            }
            want.expires = want.expires.max(now + want.patience);
            if let Some(page) = table.first_missing(Pages::new(want.done, want.pages.end)) {
                want.done = page;
                return false;
            }
            if want.class == Class::Demand {
                served(now.since(want.since), want.in_order);
            }
            unpend(pending, key);
            slots[place.slot] = None;
            free.push(place.slot);
            true
        };
        let mut near = short_near(&of_file.short, pages);
        while near.start < near.end {
            match is_served(of_file.short[near.start]) {
                true => {
                    of_file.short.remove(near.start);
                    near.end -= 1;
                }
                false => near.start += 1,
            }
        }
        of_file.long.retain(|&place| !is_served(place));
    }

    /// Take out every want that `gone` says, and return them in the order in which they are served.
    pub(super) fn take(&mut self, mut gone: impl FnMut(&Want) -> bool) -> Vec<Want> {
        let mut keys: Vec<Key> = self.keyed().filter(|(_, want)| gone(want)).map(|(&key, _)| key).collect();
        keys.sort_unstable();
        keys.into_iter().filter_map(|key| self.remove(&key)).collect()
    }

    fn remove(&mut self, key: &Key) -> Option<Want> {
        let (_, want) = self.slots[key.slot].take()?;
        self.free.push(key.slot);
        unpend(&mut self.pending, key);
        let places = self.by_file.get_mut(&want.file)?.of_length(want.pages);
        let place = Place { start: want.pages.start, slot: key.slot };
        if let Ok(at) = places.binary_search(&place) {
            places.remove(at);
        }
        Some(want)
    }

    /// Nobody will want anything of this file for now: the memory for its wants goes.
    pub(super) fn forget_file(&mut self, file: Inode) {
        if self.by_file.get(&file).is_some_and(|of_file| of_file.short.is_empty() && of_file.long.is_empty()) {
            self.by_file.remove(&file);
        }
    }

    /// Those whose deadline has passed.
    pub(super) fn expire(&mut self, now: Time) -> Vec<Want> {
        if self.expiry.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let expired = self.take(|want| want.expires <= now);
        self.expiry = self.iter().map(|want| want.expires).min();
        expired
    }
}

fn unpend(pending: &mut [VecDeque<Key>; 3], key: &Key) {
    let pending = &mut pending[key.class as usize];
    if let Ok(at) = pending.binary_search(key) {
        pending.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::State;
    use super::*;

    const FILE: Inode = Inode(1);

    #[test]
    fn demand_goes_by_deadline_and_before_the_background() {
        let mut wants = Wants::default();
        let add = |wants: &mut Wants, start, class, deadline| {
            let (pages, deadline) = (Pages::new(start, start + 1), Time(deadline));
            wants.add(Want::new(Time(0), FILE, pages, class, ReaderId(start), deadline), deadline)
        };
        add(&mut wants, 1, Class::Prefetch, 1);
        let late = add(&mut wants, 2, Class::Demand, 20);
        let soon = add(&mut wants, 3, Class::Demand, 10);
        let pending = |wants: &Wants| {
            let next = |after: &Key| wants.next_pending(Class::Demand, Some(*after));
            std::iter::successors(wants.next_pending(Class::Demand, None), next).collect::<Vec<_>>()
        };
        assert_eq!(pending(&wants), [soon, late]);
        wants.advance(&soon, 4);
        assert_eq!(pending(&wants), [late]);
        wants.reopen(soon, Pages::new(0, 9));
        assert_eq!(wants.get(&soon).unwrap().from, 3);
    }

    #[test]
    fn a_byte_for_it_resets_its_deadline_and_the_last_one_ends_it() {
        let mut wants = Wants::default();
        let mut table = Table::new(10);
        let want =
            |now, deadline| Want::new(Time(now), FILE, Pages::new(0, 4), Class::Demand, ReaderId(1), Time(deadline));
        wants.add(want(0, 30), Time(30));
        table.turn_all(Pages::new(0, 2), State::Held);
        wants.arrived(Time(20), FILE, Pages::new(0, 2), &table, |_, _| ());
        assert!(wants.expire(Time(40)).is_empty());
        assert_eq!(wants.expire(Time(50)).len(), 1);
        wants.add(want(50, 80), Time(80));
        table.turn_all(Pages::new(2, 4), State::Held);
        wants.arrived(Time(60), FILE, Pages::new(2, 4), &table, |_, _| ());
        assert!(wants.is_empty() && wants.next_pending(Class::Demand, None).is_none());
    }

    #[test]
    fn short_and_long_wants_are_found_by_what_they_touch() {
        let mut wants = Wants::default();
        let runs =
            [(0, 1), (5, 6), (5, 261), (200, 456), (300, 557), (0, 5000), (700, 701)].map(|(a, b)| Pages::new(a, b));
        for (at, &pages) in runs.iter().enumerate() {
            let want = Want::new(Time(0), FILE, pages, Class::Demand, ReaderId(at as u64), Time(9));
            wants.add(want, Time(9));
        }
        for (start, end) in [(0, 1), (260, 261), (455, 456), (456, 457), (556, 557), (100, 800), (4999, 5000)] {
            let asked = Pages::new(start, end);
            let mut found: Vec<Pages> = wants.touching(FILE, asked).map(|(_, want)| want.pages).collect();
            let mut expected = runs.to_vec();
            expected.retain(|run| !run.intersect(asked).is_empty());
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{asked:?}");
        }
        assert_eq!(wants.take(|want| want.pages.count() > 100).len(), 4);
        assert_eq!(wants.touching(FILE, Pages::new(0, 5000)).count(), 3);
    }
}
