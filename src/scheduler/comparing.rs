//! Who is compared with what is held of a file, when, and what comes of it.
//!
//! A first comparison costs a page and a round trip, and is sent with the first fetch of the file, so that by the time
//! at which readahead begins the others may help. What all comparing may cost is bounded; where a read could not go
//! on without one, it is sent all the same.

use super::action::{Action, ComparisonId, Hopeless};
use super::agreement::{Agreement, Asked, MIXED_BYTES_MIN, Members, Odd, Verify};
use super::event::{Failure, Verdict};
use super::marks::Marks;
use super::table::State;
use super::{Scheduler, TICK};
use crate::chunk::{FetchId, Inode, MirrorId, PAGE_BYTES, Pages};
use crate::clock::Time;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// So much of what is fetched may be fetched again to be compared, beside what there is at first: a page of each
/// mirror, and this for mounts of few, so that the first comparisons of the first files are never held up.
const BUDGET_PART: f64 = 0.01;
const BUDGET_START_BYTES: f64 = (64 * PAGE_BYTES) as f64;
/// No more of one file either: of 1 MiB two mirrors are compared, of 100 MiB any number.
const FILE_PARTS: u64 = 100;
const FILE_PAGES_MIN: u64 = 2;
/// The place is drawn among so many first pages of a fetch that is on its way: the last ones of a long one come late.
const FIRST_PAGES: u64 = 16;
/// Where a read waits for it, so many mirrors are compared at a time: the first may be slow, and one is enough.
const NEEDED_AT_ONCE: usize = 3;
/// Draws for a page that somebody else brought.
const DRAWS: usize = 8;
/// Closed files whose mirrors' sameness is remembered, in case they are opened again: some 50 KiB.
const REMEMBERED_MAX: usize = 256;

/// What comparing may cost, and what is on its way.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    budget_bytes: f64,
    start_bytes: f64,
    made: u64,
    /// Bytes that were asked for to compare.
    pub(super) bytes: u64,
    of: BTreeMap<ComparisonId, Inode>,
    /// Files about which something may be done.
    pub(super) unsettled: BTreeSet<Inode>,
    /// When the first comparison is given up.
    pub(super) due: Option<Time>,
    remembered: VecDeque<(Inode, Agreement)>,
}

impl Comparing {
    pub(super) fn new(mirrors: usize) -> Comparing {
        let start_bytes = BUDGET_START_BYTES.max((mirrors as u64 * PAGE_BYTES) as f64);
        Comparing { budget_bytes: start_bytes, start_bytes, ..Comparing::default() }
    }

    /// There are so many mirrors now.
    pub(super) fn grow(&mut self, mirrors: usize) {
        let start_bytes = Comparing::new(mirrors).start_bytes;
        self.budget_bytes += (start_bytes - self.start_bytes).max(0.0);
        self.start_bytes = self.start_bytes.max(start_bytes);
    }

    /// Bytes came, by any fetch.
    pub(super) fn earn(&mut self, bytes: u64) {
        self.budget_bytes = (self.budget_bytes + BUDGET_PART * bytes as f64).min(self.start_bytes);
    }

    fn pages_left(&self) -> usize {
        (self.budget_bytes / PAGE_BYTES as f64).max(0.0) as usize
    }

    /// A file is closed: what is known of its mirrors is kept for a while.
    pub(super) fn remember(&mut self, file: Inode, agreement: Agreement) {
        if agreement.kin.is_empty() {
            return;
        }
        if self.remembered.len() == REMEMBERED_MAX {
            self.remembered.pop_front();
        }
        self.remembered.push_back((file, agreement));
    }

    pub(super) fn recall(&mut self, file: Inode) -> Option<Agreement> {
        let at = self.remembered.iter().position(|(known, _)| *known == file)?;
        let (_, mut agreement) = self.remembered.remove(at)?;
        agreement.settled = false;
        Some(agreement)
    }
}

impl Scheduler {
    /// Look at the files about which something may be done.
    pub(super) fn compare(&mut self, now: Time) {
        if self.comparing.unsettled.is_empty() {
            return;
        }
        for file in std::mem::take(&mut self.comparing.unsettled) {
            self.compare_file(now, file);
        }
    }

    /// Ask those who should be compared, and draw the consequence where there is nobody.
    fn compare_file(&mut self, now: Time, file: Inode) {
        let Some(known) = self.files.get(&file).filter(|known| !known.forgotten && !known.agreement.settled) else {
            return;
        };
        if known.is_lost(now) {
            return self.renew(file);
        }
        let agreement = &known.agreement;
        let (mut hopes, disputed) = (known.serving(now), agreement.disputed);
        let mut left = hopes;
        left.keep(&self.lanes.usable);
        let mut able = left;
        agreement.filter(&mut able);
        let stuck = (!agreement.kin.is_empty() || agreement.anonymous) && !able.any();
        let unconfirmed = self.settings.verify == Verify::Quorum && !agreement.confirmed;
        let needed_now = stuck || unconfirmed || disputed || agreement.wanted_any;
        let forced = needed_now || agreement.wanted;
        if !forced && known.size_bytes < MIXED_BYTES_MIN {
            return self.settle(file);
        }
        drop_known(&mut left, agreement, &self.lanes.ranges);
        drop_known(&mut hopes, agreement, &self.lanes.ranges);
        // Who contradicts waits for nobody that does not answer.
        let hope = if disputed { left.any() } else { hopes.any() || known.is_awaited() };
        if !hope && agreement.asked.is_empty() {
            return self.nobody_is_left(now, file, unconfirmed, stuck);
        }
        if stuck && self.start_anew(now, file) {
            return;
        }
        self.send_comparisons(now, file, &left, forced, needed_now);
        if forced {
            // Until it is not: whatever changes meanwhile may help.
            self.comparing.unsettled.insert(file);
        }
    }

    fn send_comparisons(&mut self, now: Time, file: Inode, left: &Marks, forced: bool, needed_now: bool) {
        let mut left = *left;
        if !needed_now {
            // Who serves no ranges would have to send half the file.
            left.keep(&self.lanes.ranges);
        }
        let Some(known) = self.files.get(&file).filter(|_| left.any()) else { return };
        let agreement = &known.agreement;
        let needed = if agreement.disputed { NEEDED_AT_ONCE } else { usize::from(forced) };
        let needed = needed.saturating_sub(agreement.asked.len());
        let affordable = if known.size_bytes < MIXED_BYTES_MIN { 0 } else { self.affordable(file) };
        let count = needed.max(affordable);
        if count > 0
            && let Some(page) = self.page_to_compare(file)
        {
            for at in self.fastest(&left, count, needed_now) {
                self.send_comparison(now, file, MirrorId(at as u16), page);
            }
        }
    }

    /// Nobody else could be compared: what is undecided stays so, or is decided by who was first.
    fn nobody_is_left(&mut self, now: Time, file: Inode, unconfirmed: bool, stuck: bool) {
        let Some(known) = self.files.get(&file) else { return };
        if known.agreement.disputed {
            return self.decide_dispute(now, file, false);
        }
        if unconfirmed {
            self.refuse_unconfirmed(file);
        } else if !stuck || !self.start_anew(now, file) {
            self.settle(file);
        }
    }

    /// Whoever waits for some of it is told so, though it may be held.
    fn refuse_unconfirmed(&mut self, file: Inode) {
        self.give_up(file, Hopeless::Unconfirmed);
        let Some(known) = self.files.get_mut(&file) else { return };
        let (pages, why) = (known.table.pages(), Hopeless::Unconfirmed);
        self.out.push_back(Action::Fail { file, pages, why });
        if !std::mem::replace(&mut known.agreement.refused, true) {
            let what = "no second mirror confirms what the first serves: it is not delivered (--verify quorum)";
            self.alert(None, Some(file), what.into());
        }
    }

    fn settle(&mut self, file: Inode) {
        if let Some(known) = self.files.get_mut(&file) {
            known.agreement.settled = true;
        }
    }

    /// Whoever the held pages are from is gone for good, and who is left serves something else: that is another
    /// version of the file, and whoever has this one open is told so.
    fn renew(&mut self, file: Inode) {
        self.give_up(file, Hopeless::Changed);
        let Some(known) = self.files.get_mut(&file) else { return };
        if std::mem::replace(&mut known.agreement.renewed, true) {
            return;
        }
        let odd: BTreeSet<MirrorId> = known.agreement.odd.iter().map(|odd| odd.mirror).collect();
        self.out.extend(odd.into_iter().map(|mirror| Action::Renew { file, mirror }));
    }

    /// Nobody of the kin can be asked, and none of its pages is held or on its way: another may begin.
    fn start_anew(&mut self, now: Time, file: Inode) -> bool {
        let on_its_way = self.fetches.all.values().any(|fetch| fetch.file == file);
        let Some(known) = self.files.get_mut(&file) else { return false };
        let all = known.table.pages();
        if on_its_way || known.table.count(all, State::Held) > 0 {
            return false;
        }
        known.agreement.kin = Members::default();
        known.agreement.confirmed = false;
        let others = known.serving(now).any();
        self.discard(now, file);
        self.dirty |= others;
        true
    }

    /// A place that is held, or of a fetch that was just sent, drawn anew when the last one is gone. Who was asked about one
    /// that is on its way in vain is asked about a held one: whoever was to bring it may have fallen silent.
    fn page_to_compare(&mut self, file: Inode) -> Option<u64> {
        let known = self.files.get(&file)?;
        let is = |page: u64, state| known.table.count(Pages::new(page, page + 1), state) > 0;
        let last = known.agreement.page;
        let coming = last.filter(|&page| is(page, State::InFlight));
        let held = last.filter(|&page| is(page, State::Held));
        let asked = !known.agreement.asked.is_empty();
        if let Some(page) = held.or(coming.filter(|_| asked)) {
            return Some(page);
        }
        let page = match self.held_page(file, None).or(coming) {
            Some(page) => page,
            None => self.coming_page(file)?,
        };
        if Some(page) != last {
            self.files.get_mut(&file)?.agreement.at(page);
        }
        Some(page)
    }

    /// A held page at a random place that `but` did not bring.
    fn held_page(&mut self, file: Inode, but: Option<MirrorId>) -> Option<u64> {
        let known = self.files.get(&file)?;
        let all = known.table.pages();
        for _ in 0..DRAWS {
            let from = self.rng.random_range(0..all.end.max(1));
            let held = |pages| known.table.next_run(pages, State::Held, 1);
            let page = held(Pages::new(from, all.end)).or_else(|| held(Pages::new(0, from)))?.start;
            if but.is_none() || self.origins.of(file, page).map(|origin| origin.mirror) != but {
                return Some(page);
            }
        }
        None
    }

    /// One of the first pages of a fetch that may bring some.
    fn coming_page(&mut self, file: Inode) -> Option<u64> {
        let agreement = &self.files.get(&file)?.agreement;
        let mut coming = self.fetches.of_file(file).filter(|(_, fetch)| agreement.may(fetch.mirror));
        let run = coming.find_map(|(_, fetch)| fetch.owned.first().copied())?;
        Some(run.start + self.rng.random_range(0..run.count().min(FIRST_PAGES)))
    }

    /// How many mirrors of a file may be compared now.
    fn affordable(&self, file: Inode) -> usize {
        let Some(known) = self.files.get(&file) else { return 0 };
        let most = (known.size_bytes / PAGE_BYTES / FILE_PARTS).max(FILE_PAGES_MIN);
        self.comparing.pages_left().min(most.saturating_sub(known.agreement.compared) as usize)
    }

    /// The fastest few: it is their help that is wanted most.
    fn fastest(&self, among: &Marks, count: usize, any_tier: bool) -> Vec<usize> {
        let mut places = Vec::with_capacity(among.count());
        among.each(|at| places.push(at));
        let tier = |at: usize| self.lanes.all[at].tier;
        places.sort_by(|&a, &b| {
            tier(a).cmp(&tier(b)).then(self.lanes.all[b].rate.total_cmp(&self.lanes.all[a].rate)).then(a.cmp(&b))
        });
        // One of a higher tier is for what no lower one can do.
        let lowest = self.lanes.lowest_tier();
        let wanted = places.iter().take_while(|&&at| tier(at) <= lowest).count().max(usize::from(any_tier));
        places.truncate(count.min(wanted));
        places
    }

    fn send_comparison(&mut self, now: Time, file: Inode, mirror: MirrorId, page: u64) {
        self.comparing.made += 1;
        let comparison = ComparisonId(self.comparing.made);
        let seen = &mut self.mirrors[usize::from(mirror.0)];
        let late = seen.latency.late_seconds().map(std::time::Duration::from_secs_f64);
        let until = now + self.settings.probe_timeout.max(late.unwrap_or_default());
        let whole = !seen.ranges;
        seen.bucket.spend(now, PAGE_BYTES);
        self.bucket.spend(now, PAGE_BYTES);
        self.comparing.budget_bytes -= PAGE_BYTES as f64;
        self.comparing.bytes += PAGE_BYTES;
        self.comparing.of.insert(comparison, file);
        self.comparing.due = Some(self.comparing.due.map_or(until, |due| due.min(until)));
        if let Some(known) = self.files.get_mut(&file) {
            known.agreement.compared += 1;
            known.agreement.asked.push(Asked { comparison, mirror, page, until });
        }
        self.out.push_back(Action::Compare { comparison, mirror, file, page, whole });
    }

    /// A mirror brought bytes of a file. Where they are the first, nobody else's are used before they were compared.
    /// Returns whether they are.
    pub(super) fn begin_kin(&mut self, file: Inode, mirror: MirrorId) -> bool {
        let begun = self.files.get_mut(&file).filter(|known| known.agreement.kin.is_empty());
        let Some(known) = begun else { return false };
        known.agreement.begin(mirror);
        self.out.push_back(Action::Believe { file, mirror });
        self.comparing.unsettled.insert(file);
        self.dirty = true;
        self.fetches.all.each_of_file(file, |_, fetch| fetch.void |= fetch.mirror != mirror);
        true
    }

    /// Those who were asked as well, and were not the first.
    pub(super) fn end_void(&mut self, now: Time, file: Inode) {
        let void = self.fetches.all.iter().filter(|(_, fetch)| fetch.file == file && fetch.void);
        let void: Vec<FetchId> = void.map(|(&id, _)| id).collect();
        for id in void {
            self.learn_from_void(now, id);
            self.cancel(now, id, false);
        }
    }

    /// One that brings bytes of the file is compared again, with what somebody else brought.
    pub(super) fn recheck(&mut self, now: Time, file: Inode, mirror: MirrorId) {
        let idle = self.files.get(&file).is_some_and(|known| known.agreement.asked.is_empty());
        if !idle || self.comparing.pages_left() == 0 || !self.mirrors[usize::from(mirror.0)].ranges {
            return;
        }
        if let Some(page) = self.held_page(file, Some(mirror)) {
            self.send_comparison(now, file, mirror, page);
        }
    }

    /// No mirror could be chosen for some of a file. What was settled while its kin could be asked (a small file needs
    /// nobody else) is open again when none of them can.
    pub(super) fn look_for_others(&mut self, now: Time, file: Inode) {
        let Some(known) = self.files.get_mut(&file) else { return };
        known.agreement.settled &= self.lanes.any_asked(now, known);
        if !known.agreement.settled {
            self.comparing.unsettled.insert(file);
        }
    }

    /// Another mirror would be of use, though the file is small or the budget spent.
    pub(super) fn want_other(&mut self, file: Inode, any_tier: bool) {
        let Some(known) = self.files.get_mut(&file) else { return };
        let agreement = &mut known.agreement;
        if known.mirrors.len() < 2 || agreement.kin.is_empty() {
            return;
        }
        let news = !agreement.wanted || (any_tier && !agreement.wanted_any);
        agreement.wanted = true;
        agreement.wanted_any |= any_tier;
        // It is wanted with each look at a late fetch: what was settled in vain stays so until there is news of its mirrors.
        agreement.settled &= !news;
        if !agreement.settled {
            self.dirty |= self.comparing.unsettled.insert(file) || news;
        }
    }

    /// A comparison ended.
    pub(super) fn on_compared(&mut self, now: Time, comparison: ComparisonId, result: Result<Verdict, Failure>) {
        let Some(file) = self.comparing.of.remove(&comparison) else { return };
        let Some(known) = self.files.get_mut(&file) else { return };
        let agreement = &mut known.agreement;
        let Some(at) = agreement.asked.iter().position(|asked| asked.comparison == comparison) else { return };
        let Asked { mirror, page, .. } = agreement.asked.swap_remove(at);
        self.comparing.unsettled.insert(file);
        agreement.settled = false;
        self.dirty = true;
        match result {
            Ok(Verdict::Same) => {
                let was_confirmed = agreement.confirmed;
                agreement.agree(mirror, page);
                (agreement.wanted, agreement.wanted_any) = (false, false);
                let sealed = self.settings.verify == Verify::Quorum && !was_confirmed;
                let opens = sealed && agreement.confirmed && !agreement.disputed;
                self.out.push_back(Action::Believe { file, mirror });
                if opens {
                    self.out.push_back(Action::Seal { file, sealed: false });
                }
            }
            Ok(Verdict::Other { digest }) => {
                agreement.differ(Odd { mirror, page, digest: Some(digest) });
                self.out.push_back(Action::Seal { file, sealed: true });
            }
            Err(Failure::Cancelled) => {}
            Err(failure) => self.blame(now, mirror, Some(file), failure),
        }
        if self.files.get(&file).is_some_and(|known| known.agreement.disputed) {
            self.decide_dispute(now, file, true);
        }
    }

    /// Nobody needs to know any more.
    pub(super) fn end_comparisons(&mut self, file: Inode) {
        let Some(known) = self.files.get_mut(&file) else { return };
        for asked in known.agreement.asked.drain(..) {
            self.comparing.of.remove(&asked.comparison);
            self.out.push_back(Action::EndComparison { comparison: asked.comparison });
        }
    }

    /// Comparisons that take too long are given up: their mirrors are asked again some other time.
    pub(super) fn expire_comparisons(&mut self, now: Time) {
        if self.comparing.due.is_none_or(|due| now < due) {
            return;
        }
        let (mut late, mut next) = (Vec::new(), None::<Time>);
        for file in self.comparing.of.values().copied().collect::<BTreeSet<_>>() {
            let Some(known) = self.files.get_mut(&file) else { continue };
            for asked in &mut known.agreement.asked {
                let held = known.table.count(Pages::new(asked.page, asked.page + 1), State::Held) > 0;
                // Until there is anything to compare it with, its silence is not its own.
                if asked.until <= now && !held && known.agreement.kin.is_empty() {
                    asked.until = now + TICK;
                }
                match asked.until <= now {
                    true => late.push((asked.comparison, held)),
                    false => next = Some(next.map_or(asked.until, |at| at.min(asked.until))),
                }
            }
        }
        self.comparing.due = next;
        for (comparison, held) in late {
            self.out.push_back(Action::EndComparison { comparison });
            let failure = if held { Failure::Unreachable } else { Failure::Cancelled };
            self.on_compared(now, comparison, Err(failure));
        }
    }
}

/// Take out those of whom it is known how they stand to what is held, or will be soon.
fn drop_known(marks: &mut Marks, agreement: &Agreement, ranges: &Marks) {
    let all = *marks;
    let voted = |mirror| match agreement.disputed {
        true => agreement.has_voted(mirror),
        false => agreement.kin.contains(mirror) || agreement.is_odd(mirror),
    };
    all.each(|at| {
        let mirror = MirrorId(at as u16);
        let first = agreement.kin.is_empty() && agreement.candidate == Some(mirror);
        if first || voted(mirror) || agreement.is_asked(mirror) {
            marks.remove(at);
        }
    });
    // Who serves no ranges is compared only where there is nobody else.
    if marks.meets(ranges) {
        marks.keep(ranges);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundredth_of_what_is_fetched_pays_for_comparisons_and_a_page_of_each_mirror_at_first() {
        for (mirrors, pages) in [(2, 64), (64, 64), (1000, 1000)] {
            let mut comparing = Comparing::new(mirrors);
            assert_eq!(comparing.pages_left(), pages);
            comparing.budget_bytes = 0.0;
            comparing.earn(100 * PAGE_BYTES - 1);
            assert_eq!(comparing.pages_left(), 0);
            comparing.earn(1);
            assert_eq!(comparing.pages_left(), 1);
            comparing.earn(1 << 40);
            assert_eq!(comparing.pages_left(), pages, "a long quiet time pays for no storm");
        }
    }

    #[test]
    fn what_is_known_of_closed_files_is_remembered_within_a_bound() {
        let mut comparing = Comparing::new(2);
        let mut agreement = Agreement::default();
        comparing.remember(Inode(0), agreement.clone());
        assert!(comparing.recall(Inode(0)).is_none(), "nothing is known of it");
        agreement.begin(MirrorId(1));
        (0..=REMEMBERED_MAX as u64).for_each(|file| comparing.remember(Inode(file), agreement.clone()));
        assert!(comparing.recall(Inode(0)).is_none());
        assert!(comparing.recall(Inode(1)).is_some_and(|agreement| agreement.may(MirrorId(1))));
        assert!(comparing.recall(Inode(1)).is_none(), "it is the file's again");
    }
}
