//! A set of mirrors as bits, for what is asked of all of them at once in each decision.

use crate::chunk::{MIRRORS_MAX, MirrorSet};

const WORDS: usize = MIRRORS_MAX / 64;

/// Which of the mirrors, by their places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    words: [u64; WORDS],
    /// Which of the words are not 0: of few mirrors only the first is ever looked at.
    used: u16,
}

impl Marks {
    /// Those of a set.
    pub(super) fn of(mirrors: &MirrorSet) -> Marks {
        Marks::by_word(u16::MAX, |at| mirrors.word(at))
    }

    #[inline(always)]
    fn by_word(may: u16, word: impl Fn(usize) -> u64) -> Marks {
        let mut marks = Marks::default();
        each_bit(u64::from(may), |at| {
            marks.words[at] = word(at);
            marks.used |= u16::from(marks.words[at] != 0) << at;
        });
        marks
    }

    pub(super) fn insert(&mut self, at: usize) {
        self.words[at / 64] |= 1 << (at % 64);
        self.used |= 1 << (at / 64);
    }

    pub(super) fn remove(&mut self, at: usize) {
        self.words[at / 64] &= !(1 << (at % 64));
        self.used &= !(u16::from(self.words[at / 64] == 0) << (at / 64));
    }

    pub(super) fn set(&mut self, at: usize, is: bool) {
        if is { self.insert(at) } else { self.remove(at) }
    }

    pub(super) fn contains(&self, at: usize) -> bool {
        self.words[at / 64] & (1 << (at % 64)) != 0
    }

    /// The first `count`.
    pub(super) fn insert_first(&mut self, count: usize) {
        (0..count).for_each(|at| self.insert(at));
    }

    pub(super) fn any(&self) -> bool {
        self.used != 0
    }

    pub(super) fn count(&self) -> usize {
        let mut count = 0;
        each_bit(u64::from(self.used), |at| count += self.words[at].count_ones() as usize);
        count
    }

    /// Only those that are in `other` too.
    #[inline(always)]
    pub(super) fn keep(&mut self, other: &Marks) {
        each_bit(u64::from(self.used), |at| {
            self.words[at] &= other.words[at];
            self.used &= !(u16::from(self.words[at] == 0) << at);
        });
    }

    /// Is any in both?
    #[inline(always)]
    pub(super) fn meets(&self, other: &Marks) -> bool {
        let mut any = false;
        each_bit(u64::from(self.used & other.used), |at| any |= self.words[at] & other.words[at] != 0);
        any
    }

    pub(super) fn clear(&mut self) {
        each_bit(u64::from(self.used), |at| self.words[at] = 0);
        self.used = 0;
    }

    #[inline(always)]
    pub(super) fn or(&self, other: &Marks) -> Marks {
        Marks::by_word(self.used | other.used, |at| self.words[at] | other.words[at])
    }

    /// Hand each to `take`, in ascending order.
    #[inline(always)]
    pub(super) fn each(&self, mut take: impl FnMut(usize)) {
        each_bit(u64::from(self.used), |word| each_bit(self.words[word], |bit| take(word * 64 + bit)));
    }

    /// Hand all others of the first `count` to `take`.
    #[inline(always)]
    pub(super) fn each_other(&self, count: usize, mut take: impl FnMut(usize)) {
        for word in 0..count.div_ceil(64) {
            let last = if (word + 1) * 64 <= count { u64::MAX } else { (1 << (count % 64)) - 1 };
            each_bit(!self.words[word] & last, |bit| take(word * 64 + bit));
        }
    }

    /// The same from `first` on, and then those before it.
    #[inline(always)]
    pub(super) fn each_from(&self, first: usize, mut take: impl FnMut(usize)) {
        let (word, below) = (first / 64, (1u64 << (first % 64)) - 1);
        let mut part = |words: std::ops::Range<usize>, mask: u64| {
            words.for_each(|at| each_bit(self.words[at] & mask, |bit| take(at * 64 + bit)));
        };
        part(word..word + 1, !below);
        part(word + 1..WORDS, u64::MAX);
        part(0..word, u64::MAX);
        part(word..word + 1, below);
    }
}

#[inline(always)]
fn each_bit(mut bits: u64, mut take: impl FnMut(usize)) {
    while bits != 0 {
        take(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_the_set_that_they_were_made_of() {
        let set: MirrorSet = [0, 1, 63, 64, 700, 1023].into_iter().map(crate::chunk::MirrorId).collect();
        let mut marks = Marks::of(&set);
        let all = |marks: &Marks| {
            let mut all = Vec::new();
            marks.each(|at| all.push(at));
            all
        };
        assert_eq!(all(&marks), [0, 1, 63, 64, 700, 1023]);
        for first in [0, 1, 2, 63, 64, 65, 1023] {
            let mut turned = Vec::new();
            marks.each_from(first, |at| turned.push(at));
            let (before, after): (Vec<_>, Vec<_>) = all(&marks).into_iter().partition(|&at| at < first);
            assert_eq!(turned, [after, before].concat());
        }
        assert_eq!((marks.count(), marks.contains(63), marks.contains(62)), (6, true, false));
        let mut few = Marks::default();
        few.insert_first(64);
        let mut both = marks;
        both.keep(&few);
        assert_eq!((all(&both), both.count()), (vec![0, 1, 63], 3));
        assert!(marks.meets(&few) && !both.meets(&Marks::default()));
        both.clear();
        assert_eq!(both, Marks::default());
        assert_eq!(marks.or(&few).count(), 67);
        set.iter().for_each(|mirror| marks.remove(usize::from(mirror.0)));
        assert!(!marks.any());
    }
}
