//! 256 bits, one per page of an extent, and where their runs and gaps are.

/// Pages in an extent, and bits in a [`Mask`].
pub(super) const MASK_PAGES: usize = 256;
/// 64-bit words of a [`Mask`].
pub(super) const MASK_WORDS: usize = MASK_PAGES / 64;

/// A set of pages of one extent, by their place in it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Mask(pub(super) [u64; MASK_WORDS]);

impl Mask {
    /// The bits of word `word` that lie in `first..first + count`.
    pub(super) fn word_of(first: usize, count: usize, word: usize) -> u64 {
        let (low, high) = (word * 64, word * 64 + 64);
        let (start, end) = (first.max(low), (first + count).min(high));
        if start >= end {
            return 0;
        }
        (u64::MAX >> (64 - (end - start))) << (start - low)
    }

    /// `first..first + count`.
    pub(super) fn range(first: usize, count: usize) -> Mask {
        Mask(std::array::from_fn(|word| Mask::word_of(first, count, word)))
    }

    /// Are all bits of `other` set?
    pub(super) fn covers(self, other: Mask) -> bool {
        other.without(self).is_empty()
    }

    /// The bits that are set here but not in `other`.
    pub(super) fn without(self, other: Mask) -> Mask {
        Mask(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    /// The bits that are set in either.
    pub(super) fn with(self, other: Mask) -> Mask {
        Mask(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// No bit set.
    pub(super) fn is_empty(self) -> bool {
        self.0 == [0; MASK_WORDS]
    }

    /// How many bits are set.
    pub(super) fn count(self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// How many bits from `first` on are set without a gap.
    pub(super) fn prefix(self, first: usize) -> usize {
        self.complement().next(first) - first
    }

    /// The runs of set bits, `(first, count)`, in order.
    pub(super) fn runs(self) -> impl Iterator<Item = (usize, usize)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = self.next(at);
            if first >= MASK_PAGES {
                return None;
            }
            at = first + self.prefix(first);
            Some((first, at - first))
        })
    }

    /// The first place where `count` neighbouring bits are clear.
    pub(super) fn gap(self, count: usize) -> Option<usize> {
        self.complement().runs().find(|&(_, length)| length >= count).map(|(first, _)| first)
    }

    /// The longest run of clear bits, `(first, count)`, the first of equals.
    pub(super) fn longest_gap(self) -> Option<(usize, usize)> {
        self.complement().runs().fold(None, |best, run| match best {
            Some((_, length)) if length >= run.1 => best,
            _ => Some(run),
        })
    }

    fn complement(self) -> Mask {
        Mask(self.0.map(|word| !word))
    }

    /// The first set bit at or after `from`; [`MASK_PAGES`] where there is none.
    fn next(self, from: usize) -> usize {
        for word in from / 64..MASK_WORDS {
            let bits = self.0[word] & Mask::word_of(from, MASK_PAGES - from, word);
            if bits != 0 {
                return word * 64 + bits.trailing_zeros() as usize;
            }
        }
        MASK_PAGES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn has(mask: Mask, at: usize) -> bool {
        mask.0[at / 64] >> (at % 64) & 1 == 1
    }

    proptest! {
        #[test]
        fn a_mask_is_a_set_of_256(words: [u64; 4], first in 0usize..256, length in 0usize..=256) {
            // Words with long runs are the likelier case.
            let mask = Mask([words[0] | words[1], 0, u64::MAX, words[2] & words[3]]);
            let bits: Vec<bool> = (0..256).map(|at| has(mask, at)).collect();
            let count = length.min(256 - first);
            let range = Mask::range(first, count);
            prop_assert!((0..256).all(|at| has(range, at) == (first..first + count).contains(&at)));
            prop_assert_eq!(mask.covers(range), bits[first..first + count].iter().all(|&bit| bit));
            prop_assert_eq!(mask.count(), bits.iter().filter(|&&bit| bit).count());
            prop_assert_eq!(mask.prefix(first), bits[first..].iter().take_while(|&&bit| bit).count());
            let joined = mask.runs().fold(Mask::default(), |sum, (first, count)| sum.with(Mask::range(first, count)));
            prop_assert_eq!(joined, mask);
            let fits = |at: usize| at + count <= 256 && bits[at..at + count].iter().all(|&bit| !bit);
            if count > 0 {
                prop_assert_eq!(mask.gap(count), (0..256).find(|&at| fits(at)));
            }
            let longest = mask.longest_gap().map_or(0, |(_, count)| count);
            prop_assert!(longest == 0 || mask.gap(longest).is_some());
            prop_assert!(longest == 256 || mask.gap(longest + 1).is_none());
        }
    }
}
