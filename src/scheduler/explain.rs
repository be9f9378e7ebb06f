//! Why a mirror got a range: the last decisions, with what was considered (spec 2.12).

use super::strategy::{Score, Strategy};
use crate::chunk::{Class, FetchId, Inode, MirrorId, Pages};
use crate::clock::Time;

/// Decisions that are kept.
pub const DECISIONS_KEPT: usize = 4096;
/// Mirrors that are kept of each decision: the best ones.
pub const RATED_KEPT: usize = 8;

/// One mirror in a decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rated {
    /// Which.
    pub mirror: MirrorId,
    /// Its score: the least won.
    pub score: Score,
    /// What was taken to be its rate, in bytes per second.
    pub bytes_per_second: f32,
    /// And its time to first byte, in seconds.
    pub latency_seconds: f32,
    /// Bytes that were in flight on it or meant for it.
    pub load_bytes: u64,
    /// Fetches that were in flight on it.
    pub fetches: u16,
    /// Its live weight.
    pub weight: f32,
}

/// Why a fetch was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Pages were wanted.
    Wanted,
    /// Another fetch for them was late.
    Hedge,
}

/// One decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decided {
    /// When.
    pub at: Time,
    /// Of which file.
    pub file: Inode,
    /// Which pages.
    pub pages: Pages,
    /// For what.
    pub class: Class,
    /// Why.
    pub cause: Cause,
    /// By which strategy.
    pub strategy: Strategy,
    /// The fetch that came of it; neighbours may share one.
    pub fetch: FetchId,
    /// How many mirrors might have been asked.
    pub considered: u16,
    /// The best of them, the one that got it first.
    pub best: [Option<Rated>; RATED_KEPT],
}

impl Decided {
    /// Who got it.
    pub fn winner(&self) -> Option<MirrorId> {
        self.best[0].map(|rated| rated.mirror)
    }
}

/// The last decisions, oldest first, in memory that is taken once.
#[derive(Debug)]
pub(super) struct Ring {
    kept: Vec<Decided>,
    next: usize,
    /// Decisions in all.
    pub(super) made: u64,
}

impl Ring {
    pub(super) fn new() -> Ring {
        Ring { kept: Vec::with_capacity(DECISIONS_KEPT), next: 0, made: 0 }
    }

    /// Where the next one is written. In place: a decision is larger than all else that it takes.
    pub(super) fn next(&mut self) -> &mut Decided {
        if self.kept.len() < DECISIONS_KEPT {
            self.kept.push(Decided {
                at: Time(0),
                file: Inode(0),
                pages: Pages::new(0, 0),
                class: Class::Demand,
                cause: Cause::Wanted,
                strategy: Strategy::Adaptive,
                fetch: FetchId(0),
                considered: 0,
                best: [None; RATED_KEPT],
            });
        }
        let at = self.next;
        self.next = (self.next + 1) % DECISIONS_KEPT;
        self.made += 1;
        &mut self.kept[at]
    }

    /// From the oldest on.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Decided> {
        let start = if self.kept.len() < DECISIONS_KEPT { 0 } else { self.next };
        self.kept[start..].iter().chain(&self.kept[..start])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_4096_are_kept_in_order() {
        let mut ring = Ring::new();
        for at in 0..5000 {
            ring.next().at = Time(at);
        }
        let kept: Vec<u64> = ring.iter().map(|decided| decided.at.0).collect();
        assert_eq!((kept.len(), kept[0], kept[4095], ring.made), (4096, 904, 4999, 5000));
        assert!(kept.is_sorted());
    }
}
