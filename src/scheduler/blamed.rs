//! Who sent wrong bytes of files that nobody has open now: a file that is opened again must not be fetched from them.

use crate::chunk::{Inode, MirrorId};
use crate::clock::Time;
use std::collections::BTreeMap;

/// Files that are remembered. Forgetting them costs another look at each.
const FILES_MAX: usize = 1024;

/// Each file's mirrors, and until when they are left out.
#[derive(Debug, Default)]
pub(super) struct Blamed(BTreeMap<Inode, Vec<(MirrorId, Time)>>);

impl Blamed {
    /// The file is closed.
    pub(super) fn remember(&mut self, file: Inode, mirrors: Vec<(MirrorId, Time)>) {
        if mirrors.is_empty() {
            return;
        }
        if self.0.len() >= FILES_MAX {
            self.0.clear();
        }
        self.0.insert(file, mirrors);
    }

    /// It is opened again.
    pub(super) fn recall(&mut self, file: Inode) -> Vec<(MirrorId, Time)> {
        self.0.remove(&file).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recalled_is_what_was_remembered_within_the_bound() {
        let (mut blamed, liar) = (Blamed::default(), vec![(MirrorId(1), Time(9))]);
        for file in 0..2 * FILES_MAX as u64 + 1 {
            blamed.remember(Inode(file), liar.clone());
            assert!(blamed.0.len() <= FILES_MAX);
        }
        assert_eq!(blamed.recall(Inode(2 * FILES_MAX as u64)), liar);
        blamed.remember(Inode(1), Vec::new());
        assert!(blamed.recall(Inode(1)).is_empty() && blamed.recall(Inode(2)).is_empty());
    }
}
