//! What is known of one open file: who serves it, who turned out not to, and its pages.

use super::action::Hopeless;
use super::agreement::Agreement;
use super::event::Failure;
use super::marks::Marks;
use super::rule::FileRule;
use super::table::Table;
use crate::chunk::{MirrorId, MirrorSet, Pages};
use crate::clock::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// Readahead of a stretch of 1 MiB is given up after so many failures (spec 3.3): demand will ask again.
const STRETCH_FAILURES_MAX: u8 = 3;
const STRETCH_PAGES: u64 = 256;
/// A stretch that was moved to another mirror for being late is moved again only when it is this much
/// later still, doubled each time: two mirrors that share a slow link would pass it to and fro for ever.
const MOVES_COUNTED_MAX: u32 = 6;
/// After so long a move is forgotten.
const MOVE_FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct File {
    pub(super) size_bytes: u64,
    pub(super) mirrors: MirrorSet,
    /// More mirrors may yet be heard of.
    awaited: bool,
    pub(super) table: Table,
    /// What its path is given in configuration.
    pub(super) rule: FileRule,
    /// Nobody has it open; it is kept only until its fetches have ended.
    pub(super) forgotten: bool,
    /// Which of its mirrors serve the same.
    pub(super) agreement: Agreement,
    excluded: BTreeMap<MirrorId, (Failure, Time)>,
    stretch_failures: BTreeMap<u64, u8>,
    moves: BTreeMap<u64, Moves>,
}

/// How often a stretch went to another mirror because it was late, when last, and from whom.
#[derive(Clone, Debug, Default)]
struct Moves {
    count: u32,
    at: Time,
    from: MirrorSet,
}

impl File {
    pub(super) fn new(size_bytes: u64, mirrors: MirrorSet) -> File {
        let table = Table::new(Pages::of_file(size_bytes).end);
        let (excluded, stretch_failures, moves) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (rule, agreement) = (FileRule::default(), Agreement::default());
        let (awaited, forgotten) = (false, false);
        File { size_bytes, mirrors, awaited, table, rule, forgotten, agreement, excluded, stretch_failures, moves }
    }

    /// Who serves it is known anew. A mirror that was not in the last list gets another chance.
    pub(super) fn served_by(&mut self, mirrors: MirrorSet, awaited: bool) {
        self.awaited = awaited;
        self.agreement.settled = false;
        let old = std::mem::replace(&mut self.mirrors, mirrors);
        self.excluded.retain(|&mirror, _| old.contains(mirror));
    }

    /// Do not ask this mirror for this file until then.
    pub(super) fn exclude(&mut self, mirror: MirrorId, why: Failure, until: Time) {
        self.excluded.insert(mirror, (why, until));
    }

    /// Who sent wrong bytes of it, and until when they are left out.
    pub(super) fn blamed(&self) -> Vec<(MirrorId, Time)> {
        let corrupt = self.excluded.iter().filter(|(_, (why, _))| *why == Failure::Corrupt);
        corrupt.map(|(&mirror, &(_, until))| (mirror, until)).collect()
    }

    /// More mirrors may yet be heard of.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// Is it known to serve something else than what is held?
    pub(super) fn is_unlike(&self, mirror: MirrorId) -> bool {
        self.excluded.get(&mirror).is_some_and(|&(why, _)| why == Failure::Unlike)
    }

    /// Those that serve something else than what is held are not asked, and nobody else is left out for that.
    pub(super) fn exclude_odd(&mut self) {
        self.excluded.retain(|_, (why, _)| *why != Failure::Unlike);
        for at in 0..self.agreement.odd.len() {
            self.exclude(self.agreement.odd[at].mirror, Failure::Unlike, Time::NEVER);
        }
    }

    /// Nobody has it any more but those that serve something else than what is held.
    pub(super) fn is_lost(&self, now: Time) -> bool {
        let gone = |mirror| {
            let why = self.excluded.get(&mirror).filter(|&&(_, until)| until > now).map(|&(why, _)| why);
            matches!(why, Some(Failure::Missing | Failure::Changed))
        };
        let mut mirrors = self.mirrors.iter();
        !self.awaited
            && !self.agreement.odd.is_empty()
            && mirrors.all(|mirror| self.agreement.is_odd(mirror) || gone(mirror))
    }

    /// May this mirror's bytes be used?
    pub(super) fn may(&self, mirror: MirrorId, now: Time) -> bool {
        self.serves(mirror, now) && self.agreement.may(mirror)
    }

    /// Could they, beside those of who was asked first?
    pub(super) fn could(&self, mirror: MirrorId, now: Time) -> bool {
        self.serves(mirror, now) && self.agreement.could(mirror)
    }

    /// May this mirror be asked for it?
    pub(super) fn serves(&self, mirror: MirrorId, now: Time) -> bool {
        self.mirrors.contains(mirror) && self.excluded.get(&mirror).is_none_or(|&(_, until)| until <= now)
    }

    /// All that may be asked for it.
    pub(super) fn serving(&self, now: Time) -> Marks {
        let mut serving = Marks::of(&self.mirrors);
        for (mirror, _) in self.excluded.iter().filter(|&(_, &(_, until))| until > now) {
            serving.remove(usize::from(mirror.0));
        }
        serving
    }

    /// When the first mirror that is rested for it may be asked again.
    pub(super) fn rest_ends(&self, now: Time) -> Option<Time> {
        let rests = self.excluded.values().filter(|&&(why, until)| why == Failure::Unreachable && until > now);
        rests.map(|&(_, until)| until).min()
    }

    /// Nobody may be asked for it: why.
    pub(super) fn hopeless(&self, now: Time) -> Option<Hopeless> {
        if self.awaited || self.mirrors.iter().any(|mirror| self.serves(mirror, now)) {
            return None;
        }
        let any = |wanted| self.excluded.values().any(|&(why, _)| why == wanted);
        // A mirror that fell silent over it is only rested: it may bring it yet.
        if any(Failure::Unreachable) {
            return None;
        }
        // What tells the user most: another version exists, then wrong bytes, then a locked door.
        Some(if any(Failure::Changed) {
            Hopeless::Changed
        } else if any(Failure::Corrupt) {
            Hopeless::Corrupt
        } else if any(Failure::Refused) {
            Hopeless::Refused
        } else if any(Failure::Unlike) {
            // Who is left has another version, whatever it says.
            Hopeless::Changed
        } else {
            Hopeless::Missing
        })
    }

    /// A background fetch of these pages failed. Returns whether they failed too often.
    pub(super) fn count_failure(&mut self, pages: Pages) -> bool {
        let mut given_up = false;
        for part in pages.split(STRETCH_PAGES) {
            let count = self.stretch_failures.entry(part.start / STRETCH_PAGES).or_default();
            *count = count.saturating_add(1);
            given_up |= *count >= STRETCH_FAILURES_MAX;
        }
        given_up
    }

    /// Unfinished pages from `page` on go from `mirror` to another because they are late.
    pub(super) fn count_move(&mut self, page: u64, mirror: MirrorId, now: Time) {
        self.moves.retain(|_, moves| now.since(moves.at) < MOVE_FORGOTTEN_AFTER);
        let moves = self.moves.entry(page / STRETCH_PAGES).or_default();
        (moves.count, moves.at) = (moves.count + 1, now);
        moves.from.insert(mirror);
    }

    /// Those who were late with pages from `page` on, lately.
    pub(super) fn late_with(&self, page: u64, now: Time) -> Option<&MirrorSet> {
        self.moved(page, now).map(|moves| &moves.from)
    }

    fn moved(&self, page: u64, now: Time) -> Option<&Moves> {
        self.moves.get(&(page / STRETCH_PAGES)).filter(|moves| now.since(moves.at) < MOVE_FORGOTTEN_AFTER)
    }

    /// How many times later than usual pages from `page` on must be to be moved: 1, or more where they were
    /// moved lately.
    pub(super) fn patience(&self, page: u64, now: Time) -> f64 {
        self.moved(page, now).map_or(1.0, |moves| f64::from(1u32 << moves.count.min(MOVES_COUNTED_MAX)))
    }

    /// These pages came: their failures are forgotten.
    pub(super) fn forget_failures(&mut self, pages: Pages) {
        if !self.stretch_failures.is_empty() {
            pages.split(STRETCH_PAGES).for_each(|part| {
                self.stretch_failures.remove(&(part.start / STRETCH_PAGES));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_that_tells_most_wins_and_ends_with_time() {
        let mut file = File::new(1, MirrorSet::first(2));
        file.exclude(MirrorId(0), Failure::Missing, Time(10));
        assert_eq!(file.hopeless(Time(0)), None);
        file.exclude(MirrorId(1), Failure::Changed, Time(20));
        assert_eq!(file.hopeless(Time(0)), Some(Hopeless::Changed));
        assert_eq!(file.hopeless(Time(10)), None);
        assert_eq!(File::new(1, MirrorSet::new()).hopeless(Time(0)), Some(Hopeless::Missing));
    }

    #[test]
    fn each_move_takes_twice_the_lateness_of_the_one_before_for_a_while() {
        let mut file = File::new(8 << 20, MirrorSet::first(2));
        let now = Time(1);
        assert_eq!(file.patience(300, now), 1.0);
        file.count_move(300, MirrorId(1), now);
        file.count_move(310, MirrorId(1), now);
        assert_eq!((file.patience(300, now), file.patience(0, now)), (4.0, 1.0));
        assert_eq!(file.patience(300, now + MOVE_FORGOTTEN_AFTER), 1.0);
    }

    #[test]
    fn a_mirror_that_is_rested_is_still_a_hope() {
        let mut file = File::new(1, MirrorSet::first(2));
        file.exclude(MirrorId(0), Failure::Missing, Time(90));
        file.exclude(MirrorId(1), Failure::Unreachable, Time(50));
        assert!(!file.serves(MirrorId(1), Time(49)) && file.hopeless(Time(49)).is_none());
        assert_eq!(file.rest_ends(Time(49)), Some(Time(50)));
        assert!(file.serves(MirrorId(1), Time(50)) && file.rest_ends(Time(50)).is_none());
    }

    #[test]
    fn a_stretch_is_given_up_after_three_failures_in_a_row() {
        let mut file = File::new(8 << 20, MirrorSet::first(2));
        assert!(!file.count_failure(Pages::new(0, 10)) && !file.count_failure(Pages::new(0, 300)));
        assert!(file.count_failure(Pages::new(5, 6)));
        file.forget_failures(Pages::new(0, 1));
        assert!(!file.count_failure(Pages::new(0, 10)));
    }
}
