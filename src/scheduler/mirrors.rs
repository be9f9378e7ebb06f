//! All mirrors, and which of them may have changed since that was last asked.
//!
//! Whoever takes one to change it marks it: what is derived of a mirror ([`super::lanes`]) can be kept without
//! anybody having to say so where mirrors change.

use super::marks::Marks;
use super::mirror::Mirror;
use std::ops::{Deref, Index, IndexMut};

#[derive(Debug)]
pub(super) struct Mirrors {
    all: Vec<Mirror>,
    changed: Marks,
}

impl Mirrors {
    pub(super) fn new(all: Vec<Mirror>) -> Mirrors {
        let mut mirrors = Mirrors { all, changed: Marks::default() };
        mirrors.mark_all();
        mirrors
    }

    pub(super) fn push(&mut self, mirror: Mirror) {
        self.all.push(mirror);
        self.changed.insert(self.all.len() - 1);
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Mirror> {
        let mirror = self.all.get_mut(at)?;
        self.changed.insert(at);
        Some(mirror)
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Mirror> {
        self.mark_all();
        self.all.iter_mut()
    }

    pub(super) fn mark(&mut self, at: usize) {
        self.changed.insert(at);
    }

    pub(super) fn mark_all(&mut self) {
        self.changed.insert_first(self.all.len());
    }

    /// Those that may have changed.
    pub(super) fn changed(&self) -> &Marks {
        &self.changed
    }

    /// The same, and none from here on.
    pub(super) fn take_changed(&mut self) -> Marks {
        std::mem::take(&mut self.changed)
    }
}

impl Deref for Mirrors {
    type Target = [Mirror];
    fn deref(&self) -> &[Mirror] {
        &self.all
    }
}

impl Index<usize> for Mirrors {
    type Output = Mirror;
    fn index(&self, at: usize) -> &Mirror {
        &self.all[at]
    }
}

impl IndexMut<usize> for Mirrors {
    fn index_mut(&mut self, at: usize) -> &mut Mirror {
        self.changed.insert(at);
        &mut self.all[at]
    }
}

impl<'a> IntoIterator for &'a Mirrors {
    type Item = &'a Mirror;
    type IntoIter = std::slice::Iter<'a, Mirror>;
    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

impl<'a> IntoIterator for &'a mut Mirrors {
    type Item = &'a mut Mirror;
    type IntoIter = std::slice::IterMut<'a, Mirror>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;

    #[test]
    fn every_way_to_change_one_marks_it_and_reading_does_not() {
        let mut mirrors = Mirrors::new((0..70).map(|_| Mirror::new(Time(0))).collect());
        let changed = |mirrors: &mut Mirrors| {
            let mut changed = Vec::new();
            mirrors.take_changed().each(|at| changed.push(at));
            changed
        };
        assert_eq!(changed(&mut mirrors).len(), 70, "what is new has changed");
        assert!(mirrors[3].ranges && mirrors.get(69).is_some() && mirrors.iter().count() == 70);
        assert!(changed(&mut mirrors).is_empty());
        mirrors[3].ranges = false;
        mirrors.get_mut(69).unwrap().fetches = 1;
        assert!(mirrors.get_mut(70).is_none());
        mirrors.mark(5);
        assert_eq!(changed(&mut mirrors), [3, 5, 69]);
        (&mut mirrors).into_iter().for_each(|mirror| mirror.bodies = 0);
        assert_eq!(changed(&mut mirrors).len(), 70);
    }
}
