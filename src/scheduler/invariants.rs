//! What must hold between any two calls, spelled out: the simulator asks after each event.

use super::Scheduler;
use super::fetches::Phase;
use super::files::File;
use super::table::State;
use crate::chunk::{Class, Inode, Pages};

impl Scheduler {
    /// The first invariant that does not hold, in words. Walks everything: for tests and simulations.
    pub fn broken_invariant(&self) -> Option<String> {
        let files = self.files.iter().find_map(|(&file, known)| self.broken_in_file(file, known));
        files.or_else(|| self.broken_in_counts()).or_else(|| self.broken_in_wants())
    }

    fn broken_in_file(&self, file: Inode, known: &File) -> Option<String> {
        let all = known.table.pages();
        let mut owned: Vec<Pages> = self.fetches.of_file(file).flat_map(|(_, fetch)| fetch.owned.clone()).collect();
        owned.sort();
        if owned.windows(2).any(|pair| pair[0].end > pair[1].start) {
            return Some(format!("{file:?}: two fetches own one page: {owned:?}"));
        }
        let owned_pages: u64 = owned.iter().map(|run| run.count()).sum();
        let in_flight: u64 = owned.iter().map(|&run| known.table.count(run, State::InFlight)).sum();
        if owned_pages != in_flight || known.table.count(all, State::InFlight) != in_flight {
            let table: Vec<Pages> = known.table.runs(all, State::InFlight).collect();
            return Some(format!("{file:?}: in flight {table:?}, owned {owned:?}"));
        }
        known.table.runs(all, State::Queued).find_map(|run| {
            let wanted = |page| self.wanted(file, Pages::new(page, page + 1));
            let lost = run.iter().find(|&page| !wanted(page));
            lost.map(|page| format!("{file:?}: page {page} is queued for nobody"))
        })
    }

    fn broken_in_counts(&self) -> Option<String> {
        let live = || self.fetches.all.values().filter(|fetch| !fetch.cancelled);
        if live().count() != self.fetches.live {
            return Some(format!("{} live fetches, counted {}", live().count(), self.fetches.live));
        }
        self.mirrors.iter().enumerate().find_map(|(at, mirror)| {
            let of = || live().filter(|fetch| usize::from(fetch.mirror.0) == at);
            let counted = (mirror.fetches, mirror.demand_fetches, mirror.bodies, mirror.remaining_bytes);
            let true_ones = (
                of().count(),
                of().filter(|fetch| fetch.class == Class::Demand).count(),
                of().filter(|fetch| fetch.phase == Phase::Body).count(),
                of().map(|fetch| fetch.remaining_bytes()).sum(),
            );
            (counted != true_ones).then(|| format!("mirror {at}: counted {counted:?}, is {true_ones:?}"))
        })
    }

    /// Nothing that a reader waits for may be lost: each page is queued, in flight or held.
    fn broken_in_wants(&self) -> Option<String> {
        self.wants.keyed().find_map(|(key, want)| {
            let Some(known) = self.files.get(&want.file) else { return Some(format!("a want of no file: {want:?}")) };
            if known.table.count(want.pages, State::Absent) > 0 {
                return Some(format!("nobody fetches some of {want:?}"));
            }
            let queued = known.table.next_run(want.pages, State::Queued, 1)?;
            let seen = self.wants.is_pending(key) && want.from <= queued.start;
            (!seen).then(|| format!("{queued:?} is queued, but the plan will not look at {want:?}"))
        })
    }
}
