//! What is wanted: pages that wait in the queue, and those that leave it.

use super::action::Hopeless;
use super::agreement::Verify;
use super::fetches::Runs;
use super::readahead::Stream;
use super::table::State;
use super::wants::Want;
use super::{Action, SETTLING, Scheduler};
use crate::chunk::{Class, FetchId, Inode, Pages, ReaderId};
use crate::clock::Time;
use smallvec::SmallVec;

impl Scheduler {
    pub(super) fn on_wanted(
        &mut self,
        now: Time,
        file: Inode,
        pages: Pages,
        class: Class,
        reader: ReaderId,
        deadline: Time,
    ) {
        let Some(known) = self.files.get_mut(&file) else { return };
        let pages = pages.intersect(known.table.pages());
        if pages.is_empty() || deadline <= now {
            return;
        }
        self.wanted_at = Some(now);
        if self.offline_since.is_some() {
            let states = [State::Absent, State::Queued, State::InFlight].into_iter();
            let missing = states.flat_map(|state| known.table.runs(pages, state));
            let why = Hopeless::Offline;
            self.out.extend(missing.map(|pages| Action::Fail { file, pages, why }));
            self.hurried = true;
            self.hurry(now);
            return;
        }
        let held = known.table.first_missing(pages).is_none();
        known.table.turn(pages, State::Absent, State::Queued);
        let expires = if held { deadline.min(now + SETTLING) } else { deadline };
        let mut want = Want::new(now, file, pages, class, reader, deadline);
        // A reader of a file that is ruled so is served after true demand.
        want.class = class.max(known.rule.class);
        let ruled = want.class;
        want.in_order = self.streams.contains_key(&reader);
        if class == Class::Demand && !want.in_order {
            self.headroom.asked(now);
        }
        self.wants.add(want, expires);
        self.dirty |= !held;
        if !known.agreement.confirmed && self.settings.verify == Verify::Quorum {
            // It may be held and not be given to anybody yet.
            known.agreement.settled = false;
            self.comparing.unsettled.insert(file);
            self.dirty = true;
        }
        if class == Class::Demand {
            self.moved(now, reader, file, pages.start);
        }
        if ruled == Class::Demand {
            self.promote(file, pages);
        }
    }

    /// A reader waits for these pages: the fetches that bring them must not be late.
    pub(super) fn promote(&mut self, file: Inode, pages: Pages) {
        let in_flight = self.files.get(&file).is_some_and(|known| known.table.count(pages, State::InFlight) > 0);
        if in_flight {
            let mut promoted = SmallVec::<[FetchId; 8]>::new();
            self.fetches.all.each_of_file(file, |id, fetch| {
                if !fetch.cancelled && !fetch.waited && fetch.owns_any(pages) {
                    fetch.waited = true;
                    promoted.push(id);
                }
            });
            promoted.into_iter().for_each(|id| self.note_hedge_due(id));
        }
    }

    /// Its reads are answered still: the kernel waits for each. What was fetched ahead for it is not.
    pub(super) fn on_closed(&mut self, now: Time, reader: ReaderId) {
        for want in self.wants.take(|want| want.reader == reader && !want.is_read) {
            self.unwant(want.file, want.pages);
        }
        self.close_stream(now, reader);
    }

    pub(super) fn on_dropped(&mut self, now: Time, file: Inode, pages: Pages) {
        let Some(known) = self.files.get_mut(&file) else { return };
        let dropped: Runs = known.table.runs(pages, State::Held).collect();
        known.table.turn(pages, State::Held, State::Absent);
        // Readahead that was let go unread is left to demand, or it would be fetched for ever.
        for run in dropped {
            self.dirty |= self.requeue(file, run, false);
            self.wants.live_longer(now, file, run);
        }
    }

    /// Is any of `pages` wanted by anybody?
    pub(super) fn wanted(&self, file: Inode, pages: Pages) -> bool {
        let ahead = |stream: &Stream| stream.file == file && !stream.window().intersect(pages).is_empty();
        self.wants.touching(file, pages).next().is_some() || self.streams.values().any(ahead)
    }

    /// One who wanted `pages` does not any more: what nobody else wants leaves the queue.
    pub(super) fn unwant(&mut self, file: Inode, pages: Pages) {
        let Some(known) = self.files.get_mut(&file) else { return };
        let queued: Runs = known.table.runs(pages, State::Queued).collect();
        known.table.turn(pages, State::Queued, State::Absent);
        for run in queued {
            self.requeue(file, run, true);
        }
    }

    /// `pages` are absent: queue those that somebody wants. Returns whether any were.
    pub(super) fn requeue(&mut self, file: Inode, pages: Pages, ahead: bool) -> bool {
        let Some(known) = self.files.get_mut(&file) else { return false };
        let mut any = false;
        let touching: Vec<_> = self.wants.touching(file, pages).map(|(key, want)| (key, want.pages)).collect();
        for (key, wanted) in touching {
            known.table.turn(pages.intersect(wanted), State::Absent, State::Queued);
            self.wants.reopen(key, pages);
            any = true;
        }
        for stream in self.streams.values_mut().filter(|stream| ahead && stream.file == file) {
            let common = stream.window().intersect(pages);
            if !common.is_empty() {
                known.table.turn(common, State::Absent, State::Queued);
                stream.from = stream.from.min(common.start);
                any = true;
            }
        }
        any
    }
}
