//! What was found in an index page: names checked, duplicates dropped, bounded.

use super::links::Link;
use super::{Entry, Modified, Size};
use crate::sources::names::RefusedName;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// A hundred times the largest folders that people complain about; 10 million names are about
/// 1 GB, which no mount should hold for one folder.
pub const ENTRIES_MAX: usize = 10_000_000;
/// Refused names are kept as examples for `status`; all are counted.
const REFUSED_SHOWN: usize = 20;
/// Of each refused name so much is shown: it is hostile, so it may be long.
const REFUSED_CHARS: usize = 120;

/// What was found so far.
pub struct Gather {
    pub entries: Vec<Entry>,
    pub refused: Vec<(String, RefusedName)>,
    pub refused_count: u64,
    /// Hashes of the names: with a random key, two of ten million names meet once in 10^5 such
    /// folders, and the names themselves need not be held twice.
    seen: HashSet<u64>,
    hasher: RandomState,
    entries_max: usize,
}

impl Gather {
    pub fn new(entries_max: usize) -> Gather {
        Gather {
            entries: Vec::new(),
            refused: Vec::new(),
            refused_count: 0,
            seen: HashSet::new(),
            hasher: RandomState::new(),
            entries_max,
        }
    }

    /// More than a folder may have.
    pub fn is_too_large(&self) -> bool {
        self.entries.len() > self.entries_max
    }

    /// Take a row of the index. `written` is its link or name as the page has it; `in_table` says
    /// that it has a date, as rows of an index have and other links of the page have not.
    pub fn row(&mut self, link: Link, written: &[u8], in_table: bool, size: Size, modified: Option<Modified>) {
        match link {
            Link::Entry { name, folder } => self.add(name, folder, size, modified),
            Link::Hostile(why) => self.refuse(written, why),
            Link::Elsewhere(why) if in_table => self.refuse(written, why),
            Link::Elsewhere(_) | Link::Parent | Link::Sort | Link::Here => {}
        }
    }

    fn add(&mut self, name: Vec<u8>, folder: bool, size: Size, modified: Option<Modified>) {
        if self.is_too_large() || !self.seen.insert(self.hasher.hash_one(&name)) {
            return;
        }
        let size = if folder { Size::Unknown } else { size };
        self.entries.push(Entry { name, folder, size, modified });
    }

    fn refuse(&mut self, written: &[u8], why: RefusedName) {
        self.refused_count += 1;
        if self.refused.len() < REFUSED_SHOWN {
            let shown = String::from_utf8_lossy(written).chars().take(REFUSED_CHARS).collect();
            self.refused.push((shown, why));
        }
    }
}
