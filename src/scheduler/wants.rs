//! Who wants which pages, and in which order they are served.
//!
//! Demand goes by deadline, then by arrival; the background by arrival. A want lives until its pages
//! are held, its deadline has passed, or it is hopeless.

use super::table::Table;
use crate::chunk::{Class, Inode, Pages, ReaderId};
use crate::clock::Time;
use std::collections::{BTreeMap, BTreeSet};
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

/// Class, deadline, arrival: the order in which wants are served.
pub(super) type Key = (Class, Time, u64);

#[derive(Debug, Default)]
pub(super) struct Wants {
    all: BTreeMap<Key, Want>,
    /// Those that may have queued pages.
    pending: BTreeSet<Key>,
    by_file: BTreeMap<Inode, Vec<Key>>,
    arrivals: u64,
    /// No want expires before this.
    pub(super) expiry: Option<Time>,
}

impl Wants {
    /// A new want, kept until `expires`; one that is there already only lives longer. Returns its key.
    pub(super) fn add(&mut self, want: Want, expires: Time) -> Key {
        let keys = self.by_file.entry(want.file).or_default();
        let same = |old: &Want| (old.pages, old.class, old.reader) == (want.pages, want.class, want.reader);
        if let Some(key) = keys.iter().copied().find(|key| self.all.get(key).is_some_and(same)) {
            if let Some(old) = self.all.get_mut(&key) {
                old.expires = old.expires.max(expires);
                old.from = old.pages.start;
            }
            self.pending.insert(key);
            return key;
        }
        self.arrivals += 1;
        // Only demand is urgent in itself; the background goes first come, first served.
        let deadline = if want.class == Class::Demand { want.expires } else { Time(0) };
        let key = (want.class, deadline, self.arrivals);
        keys.push(key);
        self.all.insert(key, Want { expires, ..want });
        self.pending.insert(key);
        self.expiry = Some(self.expiry.map_or(expires, |at| at.min(expires)));
        key
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Want> {
        self.all.get(key)
    }

    /// Those of a class that may have queued pages, in order.
    pub(super) fn pending(&self, class: Class) -> impl Iterator<Item = Key> + '_ {
        self.pending.range((class, Time(0), 0)..=(class, Time::NEVER, u64::MAX)).copied()
    }

    /// Does a reader wait for it?
    pub(super) fn is_read(&self, key: &Key) -> bool {
        self.all.get(key).is_some_and(|want| want.is_read)
    }

    /// Is it among those that may have queued pages?
    pub(super) fn is_pending(&self, key: &Key) -> bool {
        self.pending.contains(key)
    }

    /// Nothing of it is queued before this page; at its end, nothing at all.
    pub(super) fn advance(&mut self, key: &Key, from: u64) {
        let Some(want) = self.all.get_mut(key) else { return };
        want.from = from;
        if from >= want.pages.end {
            self.pending.remove(key);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Want> {
        self.all.values()
    }

    pub(super) fn keyed(&self) -> impl Iterator<Item = (&Key, &Want)> {
        self.all.iter()
    }

    /// The wants of a file that touch `pages`.
    pub(super) fn touching(&self, file: Inode, pages: Pages) -> impl Iterator<Item = (Key, &Want)> {
        let keys = self.by_file.get(&file).map_or(&[][..], Vec::as_slice).iter();
        keys.filter_map(|&key| self.all.get(&key).map(|want| (key, want)))
            .filter(move |(_, want)| !want.pages.intersect(pages).is_empty())
    }

    /// Does a reader wait for any of `pages`?
    pub(super) fn waited(&self, file: Inode, pages: Pages) -> bool {
        self.touching(file, pages).any(|(key, _)| key.0 == Class::Demand)
    }

    /// `pages` may be queued again.
    pub(super) fn reopen(&mut self, key: Key, pages: Pages) {
        if let Some(want) = self.all.get_mut(&key) {
            want.from = want.from.min(pages.start.max(want.pages.start));
            want.done = want.done.min(pages.start.max(want.pages.start));
            self.pending.insert(key);
        }
    }

    /// What was held for them is gone again: they wait anew.
    pub(super) fn live_longer(&mut self, now: Time, file: Inode, pages: Pages) {
        let keys: Vec<Key> = self.touching(file, pages).map(|(key, _)| key).collect();
        for key in keys {
            if let Some(want) = self.all.get_mut(&key) {
                want.expires = want.expires.max(now + want.patience);
            }
        }
    }

    /// `pages` are held now: those who waited for them live longer, or are served and go. `served` is told how
    /// long each reader waited that does not go in order.
    pub(super) fn arrived(
        &mut self,
        now: Time,
        file: Inode,
        pages: Pages,
        table: &Table,
        mut served: impl FnMut(Duration),
    ) {
        let Some(keys) = self.by_file.get_mut(&file) else { return };
        let (all, pending) = (&mut self.all, &mut self.pending);
        keys.retain(|key| {
            let Some(want) = all.get_mut(key) else { return false };
            if want.pages.intersect(pages).is_empty() {
                return true;
            }
            want.expires = want.expires.max(now + want.patience);
            match table.first_missing(Pages::new(want.done, want.pages.end)) {
                Some(page) => want.done = page,
                None => {
                    if want.class == Class::Demand && !want.in_order {
                        served(now.since(want.since));
                    }
                    all.remove(key);
                    pending.remove(key);
                    return false;
                }
            }
            true
        });
        if keys.is_empty() {
            self.by_file.remove(&file);
        }
    }

    /// Take out every want that `gone` says, and return them.
    pub(super) fn take(&mut self, mut gone: impl FnMut(&Want) -> bool) -> Vec<Want> {
        let keys: Vec<Key> = self.all.iter().filter(|(_, want)| gone(want)).map(|(&key, _)| key).collect();
        let mut taken = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(want) = self.all.remove(&key) else { continue };
            self.pending.remove(&key);
            if let Some(of_file) = self.by_file.get_mut(&want.file) {
                of_file.retain(|other| *other != key);
                if of_file.is_empty() {
                    self.by_file.remove(&want.file);
                }
            }
            taken.push(want);
        }
        taken
    }

    /// Those whose deadline has passed.
    pub(super) fn expire(&mut self, now: Time) -> Vec<Want> {
        if self.expiry.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let expired = self.take(|want| want.expires <= now);
        self.expiry = self.all.values().map(|want| want.expires).min();
        expired
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
        assert_eq!(wants.pending(Class::Demand).collect::<Vec<_>>(), [soon, late]);
        wants.advance(&soon, 4);
        assert_eq!(wants.pending(Class::Demand).collect::<Vec<_>>(), [late]);
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
        wants.arrived(Time(20), FILE, Pages::new(0, 2), &table, |_| ());
        assert!(wants.expire(Time(40)).is_empty());
        assert_eq!(wants.expire(Time(50)).len(), 1);
        wants.add(want(50, 80), Time(80));
        table.turn_all(Pages::new(2, 4), State::Held);
        wants.arrived(Time(60), FILE, Pages::new(2, 4), &table, |_| ());
        assert!(wants.is_empty() && wants.pending(Class::Demand).next().is_none());
    }
}
