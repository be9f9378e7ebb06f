//! Two mirrors contradict each other: who is believed, and what becomes of the bytes of who is not.

use super::Scheduler;
use super::action::Action;
use super::agreement::{Outcome, Verify};
use super::event::Failure;
use super::table::State;
use crate::chunk::{FetchId, Inode, MirrorId, MirrorSet};
use crate::clock::Time;

impl Scheduler {
    /// Count the votes, and draw the consequence where that says enough, or nobody else can speak.
    pub(super) fn decide_dispute(&mut self, now: Time, file: Inode, more_to_come: bool) {
        let Some(known) = self.files.get_mut(&file) else { return };
        let agreement = &mut known.agreement;
        let kin = &agreement.kin;
        let origin = agreement.page.and_then(|page| self.origins.of(file, page));
        let only = kin.iter().next().filter(|_| kin.len() == 1);
        let bringer = origin.map(|origin| origin.mirror).filter(|&mirror| kin.contains(mirror)).or(only);
        if let Some(bringer) = bringer.filter(|&bringer| !agreement.has_voted(bringer)) {
            agreement.same.insert(bringer);
        }
        match agreement.count(more_to_come) {
            Outcome::Open => {}
            Outcome::Odd(odd) => self.leave_out(now, file, &odd),
            Outcome::Overturned(most) => self.overturn(now, file, most),
        }
    }

    /// These serve something else than most, or than the first, where nobody can decide.
    fn leave_out(&mut self, now: Time, file: Inode, odd: &[MirrorId]) {
        let Some(known) = self.files.get_mut(&file) else { return };
        self.comparing.unsettled.insert(file);
        let agreement = &mut known.agreement;
        (agreement.disputed, agreement.settled) = (false, false);
        let page = agreement.page.unwrap_or(0);
        let odd: Vec<MirrorId> = odd.iter().copied().filter(|&mirror| !known.is_unlike(mirror)).collect();
        let agreement = &mut known.agreement;
        let brought = odd.iter().any(|&mirror| agreement.kin.contains(mirror));
        odd.iter().for_each(|&mirror| agreement.kin.remove(mirror));
        let sealed = self.settings.verify == Verify::Quorum && !agreement.confirmed;
        odd.iter().for_each(|&mirror| known.exclude(mirror, Failure::Unlike, Time::NEVER));
        for mirror in odd {
            self.tell_odd(file, mirror, page);
        }
        if brought {
            // What it brought before is held beside what others brought.
            self.discard(now, file);
        }
        self.out.push_back(Action::Seal { file, sealed });
        self.dirty = true;
    }

    fn tell_odd(&mut self, file: Inode, mirror: MirrorId, page: u64) {
        self.out.push_back(Action::Differ { file, mirror, page });
        let what = format!("serves other bytes than others on page {page} of this file: not used for it");
        self.alert(Some(mirror), Some(file), what);
    }

    /// What is held is not what most serve.
    fn overturn(&mut self, now: Time, file: Inode, most: MirrorSet) {
        let Some(known) = self.files.get_mut(&file) else { return };
        let agreement = &mut known.agreement;
        let (page, brought_bytes) = (agreement.page.unwrap_or(0), agreement.brought_bytes);
        let wrong = agreement.overturn(most);
        known.exclude_odd();
        for mirror in wrong.iter() {
            self.tell_odd(file, mirror, page);
        }
        self.discard(now, file);
        let confirmed = self.files.get(&file).is_some_and(|known| known.agreement.confirmed);
        let sealed = self.settings.verify == Verify::Quorum && !confirmed;
        let what = format!(
            "what was held of this file is not what most mirrors serve: it is fetched again; of {brought_bytes} bytes that had come, some may have been delivered"
        );
        self.alert(None, Some(file), what);
        self.out.push_back(Action::Seal { file, sealed });
    }

    /// Let go of all that is held of a file and of all that is on its way; what is wanted of it is asked for again.
    pub(super) fn discard(&mut self, now: Time, file: Inode) {
        let mut ids: Vec<(FetchId, bool)> = Vec::new();
        self.fetches.all.each_of_file(file, |id, fetch| {
            fetch.void = true;
            ids.push((id, fetch.cancelled));
        });
        for (fetch, cancelled) in ids {
            match cancelled {
                // It may be read out still.
                true => self.out.push_back(Action::Cancel { fetch, drain: false }),
                false => self.cancel(now, fetch, false),
            }
        }
        self.end_comparisons(file);
        let Some(known) = self.files.get_mut(&file) else { return };
        let all = known.table.pages();
        known.table.turn(all, State::Held, State::Absent);
        known.agreement.forget_pages();
        let kin = known.agreement.kin.clone();
        self.out.push_back(Action::Discard { file });
        self.out.extend(kin.iter().map(|mirror| Action::Believe { file, mirror }));
        self.requeue(file, all, true);
        self.comparing.unsettled.insert(file);
        self.dirty = true;
    }
}
