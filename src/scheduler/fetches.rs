//! The record of one fetch: which pages it owns, what came, and when it last gave a sign of life.

use super::sampling::Progress;
use crate::chunk::{Class, FetchId, Inode, MirrorId, Pages};
use crate::clock::Time;
use std::collections::BTreeMap;

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Started; no connection yet.
    Connecting,
    /// The request is under way since then.
    Asked(Time),
    /// Bytes are coming.
    Body,
    /// All bytes are here. Its pages may still wait for the disk, which is not the mirror's silence.
    Ended,
}

#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) mirror: MirrorId,
    pub(super) file: Inode,
    /// What was asked for.
    pub(super) pages: Pages,
    /// The pages that are in flight by this fetch and no other. Sorted.
    pub(super) owned: Vec<Pages>,
    pub(super) class: Class,
    pub(super) whole: bool,
    pub(super) phase: Phase,
    /// What it will bring in all, what came, and what of it was reported as pages, in bytes.
    pub(super) length_bytes: u64,
    pub(super) total_bytes: u64,
    pub(super) arrived_bytes: u64,
    /// Its own rate, which beside others is a share of the mirror's.
    pub(super) progress: Progress,
    pub(super) started_at: Time,
    pub(super) sign_at: Time,
    /// A reader waits for some of it.
    pub(super) waited: bool,
    /// Other bytes of ours were on the link when it asked.
    pub(super) queued: bool,
    /// What was on its mirror's link before it, in bytes.
    pub(super) queued_bytes: u64,
    /// It was late and was hedged, or could not be.
    pub(super) hedged: bool,
    /// It is the second one for its pages, and owns none of them.
    pub(super) is_hedge: bool,
    /// The other one for its pages.
    pub(super) twin: Option<FetchId>,
    /// Told to end: it owns nothing and counts nowhere; only its last event is awaited.
    pub(super) cancelled: bool,
}

impl Fetch {
    pub(super) fn remaining_bytes(&self) -> u64 {
        self.length_bytes.saturating_sub(self.total_bytes)
    }

    /// These pages are not its own any more. Returns those that were.
    pub(super) fn disown(&mut self, pages: Pages) -> Vec<Pages> {
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for &run in &self.owned {
            let common = run.intersect(pages);
            if common.is_empty() {
                kept.push(run);
                continue;
            }
            gone.push(common);
            let around = [Pages::new(run.start, common.start), Pages::new(common.end, run.end)];
            kept.extend(around.into_iter().filter(|part| !part.is_empty()));
        }
        self.owned = kept;
        gone
    }

    pub(super) fn owns_any(&self, pages: Pages) -> bool {
        self.owned.iter().any(|run| !run.intersect(pages).is_empty())
    }
}

/// All fetches whose last event has not come.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    pub(super) all: BTreeMap<FetchId, Fetch>,
    /// Those that are not cancelled.
    pub(super) live: usize,
    next: u64,
}

impl Fetches {
    /// Ids only grow.
    pub(super) fn next_id(&mut self) -> FetchId {
        self.next += 1;
        FetchId(self.next)
    }

    /// The last one that was given, and so how many there were.
    pub(super) fn made(&self) -> u64 {
        self.next
    }

    /// The live fetches of a file.
    pub(super) fn of_file(&self, file: Inode) -> impl Iterator<Item = (FetchId, &Fetch)> {
        let live = self.all.iter().filter(move |(_, fetch)| !fetch.cancelled && fetch.file == file);
        live.map(|(&id, fetch)| (id, fetch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disowning_the_middle_leaves_both_ends() {
        let mut fetch = Fetch {
            mirror: MirrorId(0),
            file: Inode(1),
            pages: Pages::new(0, 30),
            owned: vec![Pages::new(0, 10), Pages::new(20, 30)],
            class: Class::Demand,
            whole: false,
            phase: Phase::Connecting,
            length_bytes: 10,
            total_bytes: 12,
            arrived_bytes: 0,
            progress: Progress::new(1.0),
            started_at: Time(0),
            sign_at: Time(0),
            waited: false,
            queued: false,
            queued_bytes: 0,
            hedged: false,
            is_hedge: false,
            twin: None,
            cancelled: false,
        };
        assert_eq!(fetch.disown(Pages::new(5, 22)), [Pages::new(5, 10), Pages::new(20, 22)]);
        assert_eq!(fetch.owned, [Pages::new(0, 5), Pages::new(22, 30)]);
        assert!(fetch.owns_any(Pages::new(4, 5)) && !fetch.owns_any(Pages::new(5, 22)));
        assert_eq!(fetch.remaining_bytes(), 0);
    }
}
