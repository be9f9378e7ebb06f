//! The names in one simulated folder.

use super::damage::Damage;
use std::collections::BTreeMap;

/// A change of names that is not synced yet. Each happens as a whole or not at all.
#[derive(Debug)]
enum Change {
    Put(String, u64),
    Remove(String),
    Rename(String, String, u64),
}

/// Name -> number of the file or folder.
#[derive(Default, Debug)]
pub(super) struct Names {
    live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    unsynced: Vec<Change>,
}

impl Names {
    /// A folder of which everything is safe.
    pub(super) fn settled(names: BTreeMap<String, u64>) -> Names {
        Names { live: names.clone(), durable: names, unsynced: Vec::new() }
    }

    pub(super) fn live(&self) -> &BTreeMap<String, u64> {
        &self.live
    }

    pub(super) fn put(&mut self, name: &str, number: u64) {
        self.live.insert(name.to_owned(), number);
        self.unsynced.push(Change::Put(name.to_owned(), number));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.live.remove(name);
        self.unsynced.push(Change::Remove(name.to_owned()));
    }

    /// `false`: there is no such name.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(number) = self.live.remove(from) else { return false };
        self.live.insert(to.to_owned(), number);
        self.unsynced.push(Change::Rename(from.to_owned(), to.to_owned(), number));
        true
    }

    pub(super) fn sync(&mut self) {
        self.durable = self.live.clone();
        self.unsynced.clear();
    }

    /// The names that are left after a power cut.
    pub(super) fn survivor(&self, damage: &mut Damage) -> BTreeMap<String, u64> {
        let mut left = self.durable.clone();
        damage.next_file();
        for change in &self.unsynced {
            if !damage.keeps() {
                damage.lost.names_undone += 1;
                continue;
            }
            match change {
                Change::Put(name, number) => drop(left.insert(name.clone(), *number)),
                Change::Remove(name) => drop(left.remove(name)),
                Change::Rename(from, to, number) => {
                    left.remove(from);
                    left.insert(to.clone(), *number);
                }
            }
        }
        left
    }
}
