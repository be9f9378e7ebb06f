//! What the driver does about mirrors that do not serve the same: comparisons, files that are kept from their readers,
//! and bytes that must go.

use crate::chunk::{Class, Inode, MirrorId};
use crate::clock::Time;
use crate::fetch::compare;
use crate::fetch::driver::Driver;
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
                    open.believe(self.plane.mirrors.of(mirror).label);
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
                self.not_compared(comparison);
            }
            None => self.not_compared(comparison),
        }
    }

    /// There is nothing to compare with. Not said here and now: the scheduler would ask again in the same breath, about a
    /// file that is closed for ever, since we would never come to what says so.
    fn not_compared(&self, comparison: ComparisonId) {
        self.plane.inbox.tell(Event::Compared { comparison, result: Err(Failure::Cancelled) });
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
            // What was reserved for it cannot be found any more. Without memory now, its fetch waits for some.
            waiter.reserve(&plane.pool);
            self.want_missing(time, &waiter);
        }
    }

    /// Held or not: that somebody waits for what is given to nobody is reason to find out whether it can be believed.
    pub(super) fn want_sealed(&mut self, time: Time, waiter: &Waiter) {
        if waiter.file.is_sealed() {
            let (file, pages, class, reader) = (waiter.file.inode, waiter.pages, Class::Demand, waiter.reader);
            let deadline = waiter.since + self.plane.settings().read_deadline;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::pool::Pool;
    use crate::chunk::{MirrorSet, Pages, ReaderId};
    use crate::clock::now;
    use crate::fetch::plane::{Parts, Plane};
    use crate::fetch::settings::Settings;
    use crate::metrics::Metrics;
    use crate::scheduler::{self, Scheduler};
    use crate::sources::{self, Source};
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    fn driver() -> Driver {
        let metrics = Arc::new(Metrics::default());
        let pool = Pool::new(8 << 20, metrics.clone()).unwrap();
        let source = |port: u16| {
            let settings = sources::Settings::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
            Arc::new(Source::new(settings, metrics.clone()).unwrap())
        };
        let sources: Vec<_> = [1, 2].map(source).into();
        let (index_sources, rules, settings) = (sources.clone(), Default::default(), Settings::default());
        let parts = Parts { settings, metrics, pool, disk: None, sources, index_sources, rules };
        let plane = Plane::new(parts, tokio::sync::mpsc::unbounded_channel().0);
        Driver::new(Arc::new(plane), Scheduler::new(scheduler::Settings::default(), 2, 1, now()))
    }

    #[test]
    fn a_comparison_for_a_file_that_was_just_closed_does_not_keep_the_driver_from_hearing_of_that() {
        let (ended, ends) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut driver, time, file) = (driver(), now(), Inode(7));
            let held = vec![Pages::new(0, 256)];
            let (mirrors, rule) = (MirrorSet::first(2), Default::default());
            let first = [MirrorId(0)].into_iter().collect();
            let gone = Event::MirrorSeen { mirror: MirrorId(0), result: Err(Failure::Unreachable) };
            // Its only kin is gone while it is held: another has to be compared.
            let (pages, class, deadline) = (Pages::new(300, 304), Class::Demand, time + Duration::from_secs(30));
            let events = [
                Event::Opened { file, size_bytes: 2 << 20, mirrors, held, rule },
                Event::Agreed { file, mirrors: first, confirmed: false },
                gone.clone(),
                gone,
                Event::Wanted { file, pages, class, reader: ReaderId(1), deadline },
            ];
            events.into_iter().for_each(|event| driver.scheduler.handle(time, event));
            // Probes are sent from it.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async { driver.act_on_all(time) });
            let asked = driver.scheduler.compared_bytes();
            ended.send(asked).unwrap();
        });
        let asked = ends.recv_timeout(Duration::from_secs(20)).expect("it comes back to its inbox");
        assert_eq!(asked, 4096, "one comparison was tried");
    }
}
