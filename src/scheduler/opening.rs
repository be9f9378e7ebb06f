//! From when until when a file is known: opened with what is held of it, served by more mirrors, forgotten.

use super::Scheduler;
use super::action::Action;
use super::agreement::Verify;
use super::event::Failure;
use super::files::File;
use super::rule::FileRule;
use super::table::State;
use crate::chunk::{Inode, MirrorSet, Pages, ReaderId};
use crate::clock::Time;

impl Scheduler {
    pub(super) fn on_opened(
        &mut self,
        file: Inode,
        size_bytes: u64,
        mirrors: MirrorSet,
        held: &[Pages],
        rule: FileRule,
    ) {
        self.dirty = true;
        let comparing = &mut self.comparing;
        let known = self.files.entry(file).or_insert_with(|| {
            let mut known = File::new(size_bytes, MirrorSet::new());
            known.forgotten = true;
            known.agreement = comparing.recall(file).unwrap_or_default();
            known
        });
        known.served_by(mirrors, false);
        known.rule = rule;
        if !std::mem::take(&mut known.forgotten) {
            return;
        }
        for (mirror, until) in self.blamed.recall(file) {
            known.exclude(mirror, Failure::Corrupt, until);
        }
        // What was held when it was forgotten may have gone untold since.
        known.table.turn(known.table.pages(), State::Held, State::Absent);
        for &pages in held {
            known.table.turn(pages, State::Absent, State::Held);
        }
        let any_held = known.table.next_run(known.table.pages(), State::Held, 1).is_some();
        known.agreement.anonymous = any_held && known.agreement.kin.is_empty();
        // Somebody may have wanted some of it while it was forgotten.
        let pages = known.table.pages();
        self.tell_believed(file);
        self.requeue(file, pages, false);
    }

    /// Whoever opens it anew knows nothing of what is known here.
    fn tell_believed(&mut self, file: Inode) {
        let Some(known) = self.files.get(&file) else { return };
        let agreement = &known.agreement;
        self.out.extend(agreement.kin.iter().map(|mirror| Action::Believe { file, mirror }));
        if agreement.confirmed && self.settings.verify == Verify::Quorum && !agreement.disputed {
            self.out.push_back(Action::Seal { file, sealed: false });
        }
    }

    pub(super) fn on_agreed(&mut self, file: Inode, mirrors: &MirrorSet, confirmed: bool) {
        let Some(known) = self.files.get_mut(&file) else { return };
        let agreement = &mut known.agreement;
        // What this mount has found out since counts for more.
        if agreement.kin.is_empty() && agreement.odd.is_empty() {
            mirrors.iter().for_each(|mirror| agreement.kin.insert(mirror));
            agreement.anonymous &= agreement.kin.is_empty();
            agreement.confirmed |= confirmed;
            (agreement.candidate, agreement.settled) = (None, false);
        }
        self.dirty = true;
    }

    pub(super) fn on_served(&mut self, file: Inode, mirrors: MirrorSet, awaited: bool) {
        if let Some(known) = self.files.get_mut(&file) {
            known.served_by(mirrors, awaited);
            let all = known.table.pages();
            let on_its_way = self.fetches.of_file(file).next().is_some();
            // Somebody may wait for just that, with all it wants on its way from one that only trickles. Of a file that is
            // read from what is held nobody needs to be asked.
            if on_its_way || known.agreement.disputed || self.wants.touching(file, all).next().is_some() {
                self.comparing.unsettled.insert(file);
            }
            self.dirty = true;
        }
    }

    pub(super) fn on_forgotten(&mut self, now: Time, file: Inode) {
        let readers: Vec<ReaderId> =
            self.streams.iter().filter(|(_, stream)| stream.file == file).map(|(&reader, _)| reader).collect();
        readers.into_iter().for_each(|reader| self.close_stream(now, reader));
        for want in self.wants.take(|want| want.file == file) {
            self.unwant(file, want.pages);
        }
        self.end_comparisons(file);
        if let Some(known) = self.files.get_mut(&file) {
            known.forgotten = true;
        }
        self.forget_if_idle(file);
    }

    /// A forgotten file goes with its last fetch, and with it what was wanted of it on the way.
    pub(super) fn forget_if_idle(&mut self, file: Inode) {
        let idle = self.files.get(&file).is_some_and(|known| known.forgotten);
        if idle && self.fetches.of_file(file).next().is_none() {
            if let Some(known) = self.files.remove(&file) {
                self.blamed.remember(file, known.blamed());
                self.comparing.remember(file, known.agreement);
            }
            self.wants.take(|want| want.file == file);
            self.wants.forget_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{Class, MirrorId, PAGE_BYTES};
    use crate::scheduler::{Event, Settings};
    use std::time::Duration;

    #[test]
    fn mirrors_that_are_heard_of_late_are_compared_once_something_is_missing() {
        let (now, file) = (Time(1_000_000_000), Inode(5));
        let mut scheduler = Scheduler::new(Settings::default(), 2, 7, now);
        let (first, all) = (MirrorSet::from_iter([MirrorId(0)]), Pages::new(0, 1024));
        let (size_bytes, rule) = (1024 * PAGE_BYTES, FileRule::default());
        let opened = Event::Opened { file, size_bytes, mirrors: first.clone(), held: vec![all], rule };
        scheduler.handle(now, opened);
        scheduler.handle(now, Event::Agreed { file, mirrors: first, confirmed: false });
        scheduler.handle(now, Event::Served { file, mirrors: MirrorSet::first(2), awaited: false });
        let compared = |scheduler: &mut Scheduler| {
            let actions: Vec<Action> = std::iter::from_fn(|| scheduler.poll_action(now)).collect();
            actions.iter().filter(|action| matches!(action, Action::Compare { .. })).count()
        };
        assert_eq!(compared(&mut scheduler), 0, "all of it is held");
        let (pages, deadline) = (Pages::new(0, 16), now + Duration::from_secs(9));
        scheduler.handle(now, Event::Dropped { file, pages });
        scheduler.handle(now, Event::Wanted { file, pages, class: Class::Demand, reader: ReaderId(1), deadline });
        assert_eq!(compared(&mut scheduler), 1);
    }
}
