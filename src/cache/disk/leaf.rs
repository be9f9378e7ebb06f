//! Bitmaps as rows of the table: a leaf for so many pages.
//!
//! A commit of reads here and there changes every leaf of a large file, under the lock that each of its readers needs for
//! a moment. So leaves are made out of runs and words, never page by page.

use super::page_io::{GROUP_PAGES, GROUP_SUM_BYTES};
use crate::chunk::{PAGE_BYTES, Pages};
use roaring::RoaringBitmap;

/// Pages in one row of the table of bitmaps: 4 KiB when written plainly.
pub(super) const LEAF_PAGES: u64 = 32_768;
const WORDS: usize = (LEAF_PAGES / 64) as usize;
const GROUP_WORDS: usize = (GROUP_PAGES / 64) as usize;
const _: () = assert!(GROUP_PAGES.is_multiple_of(64) && LEAF_PAGES.is_multiple_of(GROUP_PAGES));

/// One leaf, a bit a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Leaf([u64; WORDS]);

impl Leaf {
    /// The pages of leaf `number` of `bitmap`.
    pub(super) fn of(bitmap: &RoaringBitmap, number: u64) -> Leaf {
        let start = number * LEAF_PAGES;
        let mut leaf = Leaf([0; WORDS]);
        let mut set = bitmap.range(start as u32..=(start + LEAF_PAGES - 1) as u32);
        while let Some(run) = set.next_range() {
            leaf.set(u64::from(*run.start()) - start, u64::from(*run.end()) - start);
        }
        leaf
    }

    fn set(&mut self, first: u64, last: u64) {
        for word in first / 64..=last / 64 {
            let (from, to) = (first.max(word * 64) % 64, last.min(word * 64 + 63) % 64);
            self.0[word as usize] |= u64::MAX << from & u64::MAX >> (63 - to);
        }
    }

    /// Empty where no page is set. Plain or compressed, whichever is shorter.
    pub(super) fn encode(&self) -> Vec<u8> {
        let plain: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut short = RoaringBitmap::from_lsb0_bytes(0, &plain);
        if short.is_empty() {
            return Vec::new();
        }
        short.optimize();
        if short.serialized_size() > plain.len() {
            return [&[0], &plain[..]].concat();
        }
        let mut bytes = vec![1];
        short.serialize_into(&mut bytes).expect("writing to memory does not fail");
        bytes
    }

    /// What its pages take of a data file, in bytes.
    pub(super) fn charge(&self) -> u64 {
        let groups =
            self.0.chunks(GROUP_WORDS).map(|words| words.iter().map(|word| u64::from(word.count_ones())).sum());
        groups.filter(|&pages: &u64| pages > 0).map(|pages| pages * PAGE_BYTES + GROUP_SUM_BYTES).sum()
    }
}

/// The numbers of the leaves that have some of these pages.
pub(super) fn leaves_of(pages: &[Pages]) -> Vec<u64> {
    let parts = pages.iter().flat_map(|pages| pages.split(LEAF_PAGES));
    let mut leaves: Vec<u64> = parts.map(|part| part.start / LEAF_PAGES).collect();
    leaves.sort_unstable();
    leaves.dedup();
    leaves
}

/// Add what [`Leaf::encode`] made to `bitmap`; `None` where the bytes are not of that form.
pub(super) fn decode_leaf(bytes: &[u8], leaf: u32, bitmap: &mut RoaringBitmap) -> Option<()> {
    let start = u64::from(leaf).checked_mul(LEAF_PAGES).and_then(|start| u32::try_from(start).ok())?;
    let own = match bytes.split_first()? {
        (0, plain) if plain.len() as u64 == LEAF_PAGES / 8 => RoaringBitmap::from_lsb0_bytes(0, plain),
        (1, short) => RoaringBitmap::deserialize_from(short).ok()?,
        _ => return None,
    };
    if own.max().is_some_and(|page| u64::from(page) >= LEAF_PAGES) {
        return None;
    }
    let mut runs = own.iter();
    while let Some(run) = runs.next_range() {
        bitmap.insert_range(start + run.start()..=start + run.end());
    }
    Some(())
}

/// A leaf's share of the bitmap's checksum: they are joined by exclusive or, so that a changed leaf
/// costs no reading of the others. An empty leaf has none.
pub(super) fn leaf_sum(leaf: u32, bytes: &[u8]) -> u32 {
    match bytes {
        [] => 0,
        bytes => crc32c::crc32c_append(leaf, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same page by page, as caches of earlier versions have it.
    fn page_by_page(bitmap: &RoaringBitmap, leaf: u32) -> Vec<u8> {
        let start = leaf * LEAF_PAGES as u32;
        let mut own: RoaringBitmap =
            bitmap.range(start..=start + (LEAF_PAGES - 1) as u32).map(|page| page - start).collect();
        if own.is_empty() {
            return Vec::new();
        }
        own.optimize();
        let mut bytes = vec![1];
        if own.serialized_size() as u64 <= LEAF_PAGES / 8 {
            own.serialize_into(&mut bytes).unwrap();
            return bytes;
        }
        let mut plain = vec![0; 1 + (LEAF_PAGES / 8) as usize];
        own.iter().for_each(|page| plain[1 + page as usize / 8] |= 1 << (page % 8));
        plain
    }

    fn charge_by_page(bitmap: &RoaringBitmap) -> u64 {
        let groups: std::collections::BTreeSet<u64> = bitmap.iter().map(|page| u64::from(page) / GROUP_PAGES).collect();
        bitmap.len() * PAGE_BYTES + groups.len() as u64 * GROUP_SUM_BYTES
    }

    #[test]
    fn leaves_of_runs_are_named_once() {
        let pages = [
            Pages::new(LEAF_PAGES - 1, LEAF_PAGES + 1),
            Pages::new(5, 6),
            Pages::new(3 * LEAF_PAGES, 3 * LEAF_PAGES + 9),
        ];
        assert_eq!(leaves_of(&pages), [0, 1, 3]);
        assert_eq!(leaves_of(&[]), [0; 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_a_leaf_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200), leaf: u32) {
            let mut bitmap = RoaringBitmap::new();
            let form = [&[1], &bytes[..]].concat();
            for bytes in [&bytes, &form] {
                let _ = decode_leaf(bytes, leaf, &mut bitmap);
            }
            let most = u64::from(leaf).checked_mul(LEAF_PAGES).map_or(0, |start| start + LEAF_PAGES);
            prop_assert!(bitmap.max().is_none_or(|page| u64::from(page) < most));
        }

        #[test]
        fn altered_leaves_decode_within_their_leaf_or_not_at_all(
            pages in proptest::collection::btree_set(0u32..32_768, 1..200),
            at: proptest::sample::Index,
            to: u8,
            leaf in 0u32..131_072,
        ) {
            let mut bytes = Leaf::of(&pages.into_iter().collect(), 0).encode();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let mut bitmap = RoaringBitmap::new();
            let _ = decode_leaf(&bytes, leaf, &mut bitmap);
            let own = u64::from(leaf) * LEAF_PAGES..(u64::from(leaf) + 1) * LEAF_PAGES;
            prop_assert!(bitmap.iter().all(|page| own.contains(&u64::from(page))));
        }

        #[test]
        fn leaves_survive_their_encoding(
            pages in proptest::collection::btree_set(0u32..70_000, 0..3000),
            runs in proptest::collection::vec((0u32..98_304, 1u32..3000), 0..20),
            dense: bool,
        ) {
            let mut bitmap: RoaringBitmap = pages.into_iter().collect();
            for (start, length) in runs {
                bitmap.insert_range(start..(start + length).min(98_304));
            }
            if dense {
                (0..65_536).step_by(2).for_each(|page| { bitmap.insert(page); });
            }
            let (mut again, mut charge) = (RoaringBitmap::new(), 0);
            for leaf in 0..3 {
                let made = Leaf::of(&bitmap, u64::from(leaf));
                let bytes = made.encode();
                prop_assert!(bytes.len() <= 4097);
                prop_assert_eq!(&bytes, &page_by_page(&bitmap, leaf));
                charge += made.charge();
                if !bytes.is_empty() {
                    decode_leaf(&bytes, leaf, &mut again).unwrap();
                }
            }
            prop_assert_eq!(charge, charge_by_page(&bitmap));
            prop_assert_eq!(again, bitmap);
        }
    }
}
