//! What the driver does about mirrors that do not serve the same: comparisons, files that are kept from their readers,
//! and bytes that must go.

use crate::chunk::{Class, Inode, MirrorId};
use crate::clock::Time;
use crate::fetch::compare;
use crate::fetch::driver::{Driver, STREAM_PAGES};
use crate::fetch::plane::Doubt;
use crate::fetch::waiting::Waiter;
use crate::scheduler::{Action, ComparisonId, Event, Failure};

impl Driver {
    pub(super) fn act_on_sameness(&mut self, time: Time, action: Action) {
        match action {
            Action::Compare { comparison, mirror, file, page, whole } => {
                self.compare(time, comparison, mirror, file, page, whole);
            }
            Action::EndComparison { comparison } => {
                if let Some(task) = self.comparing.remove(&comparison) {
                    task.abort();
                }
            }
            Action::Believe { file, mirror } => {
                if let Some(open) = self.plane.opened.get(file) {
                    open.believe(self.plane.labels.of(mirror));
                }
            }
            Action::Seal { file, sealed } => self.seal(file, sealed),
            Action::Discard { file } => self.discard(time, file),
            Action::Differ { file, mirror, page } => self.show_difference(file, mirror, page),
            Action::Renew { file, mirror } => {
                // The receiver lives as long as the mount.
                let _ = self.plane.doubts.send(Doubt::Changed { file, mirror });
            }
            _ => {}
        }
    }

    fn compare(&mut self, time: Time, comparison: ComparisonId, mirror: MirrorId, file: Inode, page: u64, whole: bool) {
        let open = self.plane.opened.get(file);
        let coming = self.scheduler.is_coming(file, page);
        let held = open.map(|open| (compare::held(&self.plane, &open, page, coming), open));
        match held {
            Some((Some(held), open)) => {
                let task = compare::start(&self.plane, open, comparison, mirror, (page, held), whole);
                self.comparing.insert(comparison, task);
            }
            Some((None, open)) => {
                // Evicted since, and what is beside it most likely too.
                let lost = open.disk.as_ref().map_or_else(|| vec![open.pages()], |disk| disk.missing(open.pages()));
                for pages in lost.into_iter().flat_map(|pages| self.plane.pool.missing(file, pages)) {
                    self.scheduler.handle(time, Event::Dropped { file, pages });
                }
                self.scheduler.handle(time, Event::Compared { comparison, result: Err(Failure::Cancelled) });
            }
            None => self.scheduler.handle(time, Event::Compared { comparison, result: Err(Failure::Cancelled) }),
        }
    }

    /// Who waits for what is held is answered when the file is opened to readers again.
    fn seal(&self, file: Inode, sealed: bool) {
        let plane = &self.plane;
        let Some(open) = plane.opened.get(file) else { return };
        open.seal(sealed);
        if !sealed {
            plane.waiting.published(file, open.pages(), 0, &plane.pool, &plane.metrics);
        }
    }

    /// Its fetches have ended by now, on this thread: nothing of them comes after this.
    fn discard(&mut self, time: Time, file: Inode) {
        let plane = self.plane.clone();
        let Some(open) = plane.opened.get(file) else { return };
        open.disbelieve();
        plane.pool.forget_file(file);
        plane.tainted.lock().insert(file);
        for waiter in plane.waiting.of(file, open.pages()) {
            let stream = waiter.in_order || waiter.pages.count() >= STREAM_PAGES;
            // What was reserved for it cannot be found any more. Without memory now, its fetch waits for some.
            if let Ok(memory) = plane.pool.reserve(file, waiter.pages, Class::Demand, stream) {
                waiter.equip(memory);
            }
            self.want_missing(time, &waiter);
        }
    }

    /// Held or not: that somebody waits for what is given to nobody is reason to find out whether it can be believed.
    pub(super) fn want_sealed(&mut self, time: Time, waiter: &Waiter) {
        if waiter.file.is_sealed() {
            let (file, pages, class, reader) = (waiter.file.inode, waiter.pages, Class::Demand, waiter.reader);
            let deadline = waiter.since + self.plane.settings.read_deadline;
            self.scheduler.handle(time, Event::Wanted { file, pages, class, reader, deadline });
        }
    }

    fn show_difference(&self, file: Inode, mirror: MirrorId, page: u64) {
        let open = self.plane.opened.get(file);
        let path = open.map(|open| String::from_utf8_lossy(&open.path).into_owned()).unwrap_or_default();
        let why = format!(
            "serves other bytes of {path} than others do, under the same size and date (page {page}): not used for it"
        );
        self.plane.lied(mirror, &why);
    }
}
