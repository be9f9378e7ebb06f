//! One turn of the world: what the scheduler is given, what it wants done, and how readers go on.

use super::reader::{Pattern, SimReader};
use super::world::{Due, READ_TIMEOUT, Running, World};
use crate::chunk::{Class, FetchId, Inode, PAGE_BYTES, Pages, ReaderId};
use crate::clock::Time;
use crate::scheduler::streak::{SLACK_PAGES, Streak};
use crate::scheduler::{Action, Event, Failure, Hopeless};
use std::time::Duration;

/// A reader whose read failed tries again after this.
const AGAIN: Duration = Duration::from_millis(100);

impl World {
    /// A batch of events, and all actions that follow.
    pub fn give(&mut self, events: Vec<Event>) {
        for event in events {
            let Some(event) = self.judged(event) else { continue };
            match &event {
                Event::Arrived { fetch, pages } => self.hold(*fetch, *pages),
                Event::Finished { fetch } | Event::Failed { fetch, .. } => self.end(*fetch),
                _ => {}
            }
            self.timed(|world| world.scheduler.handle(world.now, event));
            self.stopwatch.iter_mut().for_each(|watch| watch.events += 1);
        }
        while let Some(action) = self.timed(|world| world.scheduler.poll_action(world.now)) {
            for byte in format!("{:?}{action:?}", self.now).bytes() {
                self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            self.act(action);
        }
        self.check();
    }

    fn timed<T>(&mut self, call: impl FnOnce(&mut World) -> T) -> T {
        let Some(watch) = &mut self.stopwatch else { return call(self) };
        let before = (watch.now_ns)();
        let answer = call(self);
        if let Some(watch) = &mut self.stopwatch {
            watch.spent_ns += (watch.now_ns)().saturating_sub(before);
        }
        answer
    }

    fn hold(&mut self, fetch: FetchId, pages: Pages) {
        let Some(running) = self.running.get_mut(&fetch) else { return };
        let (file_id, content) = (running.file, self.mirrors[running.mirror].content);
        let Some(file) = self.files.get_mut(&file_id) else { return };
        let arrived = pages.len_bytes(file.size_bytes).min(running.left_bytes);
        running.left_bytes -= arrived;
        self.in_flight_bytes -= arrived;
        for page in pages.iter() {
            if !std::mem::replace(&mut file.held[page as usize], true) {
                file.left_pages -= 1;
                file.sameness.content[page as usize] = content;
                self.useful_bytes += file.page_bytes(page);
                // What somebody waits for leaves the pool with the answer.
                self.held_bytes += if file.asked[page as usize] { 0 } else { PAGE_BYTES };
            }
        }
        let waits = |reader: &SimReader| reader.waiting.iter().any(|(wanted, _)| !wanted.intersect(pages).is_empty());
        self.ready.extend(file.waiters.iter().filter(|&&at| waits(&self.readers[at])));
        self.note_compared(file_id, pages);
    }

    fn end(&mut self, fetch: FetchId) {
        if let Some(running) = self.running.remove(&fetch) {
            self.in_flight_bytes -= running.left_bytes;
            self.touched.push(running.mirror);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start { fetch, mirror, file, pages, class, whole } => {
                self.starts.push((self.now, mirror, file, pages, class));
                assert_eq!(self.starts.len() as u64, fetch.0, "ids only grow, one by one");
                let at = usize::from(mirror.0);
                let sim = &mut self.mirrors[at];
                if !whole && !sim.ranges {
                    self.later(Duration::from_millis(5), Event::Failed { fetch, failure: Failure::NoRanges });
                    return;
                }
                // A file that was closed meanwhile is fetched to the end of what was asked.
                let size_bytes = self.files.get(&file).map_or(pages.end * PAGE_BYTES, |file| file.size_bytes);
                sim.ask(self.now, fetch, pages, size_bytes, class);
                let left_bytes = pages.len_bytes(size_bytes);
                self.in_flight_bytes += left_bytes;
                self.running.insert(fetch, Running { mirror: at, file, left_bytes });
                self.in_flight_max = self.in_flight_max.max(self.running.len());
                self.touched.push(at);
            }
            Action::Cancel { fetch, .. } => {
                if let Some(running) = self.running.get(&fetch) {
                    let at = running.mirror;
                    self.mirrors[at].cancel(self.now, fetch);
                    self.touched.push(at);
                    self.later(Duration::from_micros(100), Event::Failed { fetch, failure: Failure::Cancelled });
                }
            }
            Action::Probe { mirror } => {
                if let Some((after, result)) = self.mirrors[usize::from(mirror.0)].probe(self.now) {
                    self.later(after, Event::ProbeDone { mirror, result });
                }
            }
            Action::Fail { file, pages, why } => self.give_up(file, pages, why),
            Action::Mark { reader, page, .. } => {
                for sim in self.readers.iter_mut().filter(|sim| sim.id == reader) {
                    sim.mark = Some(page);
                }
            }
            Action::Alert { mirror, what, .. } => self.alerts.push((self.now, mirror, what)),
            other => self.act_on_sameness(other),
        }
    }

    /// Whoever waits for these pages has an error.
    fn give_up(&mut self, file: Inode, pages: Pages, why: Hopeless) {
        let read = self.readers.iter().any(|reader| reader.file == file);
        if why == Hopeless::Offline && !self.scheduler.offline() && self.prefetched.contains(&file) && !read {
            // As the job does: what failed by chance is asked for again in its next pass.
            self.left_for_next_pass += 1;
            let (reader, deadline) = (ReaderId(self.own_id()), Time::NEVER);
            self.later(AGAIN, Event::Wanted { file, pages, class: Class::Prefetch, reader, deadline });
            return;
        }
        self.fails.push((self.now, file, pages, why));
        let mut again = Vec::new();
        for (at, reader) in self.readers.iter_mut().enumerate().filter(|(_, reader)| reader.file == file) {
            let before = reader.waiting.len();
            reader.waiting.retain(|(waited, _)| waited.intersect(pages).is_empty());
            if reader.waiting.len() < before {
                reader.errors.push((self.now, why));
                reader.next_at = self.now + AGAIN;
                again.push(at);
            }
        }
        for at in again {
            self.push(self.now + AGAIN, Due::Reader(at));
        }
    }

    /// Let every reader that has something to do go as far as it can.
    pub(super) fn read_all(&mut self) {
        self.start_prefetches();
        while !self.ready.is_empty() {
            let mut ready = std::mem::take(&mut self.ready);
            ready.sort_unstable();
            ready.dedup();
            for at in ready {
                let mut events = Vec::new();
                self.read(at, &mut events);
                if !events.is_empty() {
                    events.extend(self.budget());
                    self.give(events);
                }
            }
        }
        if let Some(budget) = self.budget() {
            self.give(vec![budget]);
        }
    }

    fn start_prefetches(&mut self) {
        for at in 0..self.prefetches.len() {
            let (due, file) = self.prefetches[at];
            if due <= self.now {
                self.prefetches[at].0 = Time::NEVER;
                let (pages, reader) = (Pages::of_file(self.files[&file].size_bytes), self.own_id());
                self.want(file, pages, Class::Prefetch, reader);
            }
        }
    }

    fn budget(&mut self) -> Option<Event> {
        let background_bytes = self.pool_bytes?.saturating_sub(self.held_bytes + self.in_flight_bytes);
        let told = self.budget_told.replace(background_bytes);
        (told != Some(background_bytes)).then_some(Event::BudgetChanged { background_bytes })
    }

    fn read(&mut self, at: usize, events: &mut Vec<Event>) {
        self.answer(at, events);
        while self.readers[at].may_read(self.now) {
            let Some(pages) = self.readers[at].next_read() else {
                if !self.next_file(at, events) {
                    return;
                }
                continue;
            };
            self.note_streak(at, pages, events);
            let reader = &mut self.readers[at];
            reader.reads += 1;
            let (file_id, id) = (reader.file, reader.id);
            self.note_asked(file_id, pages);
            let sealed = Some(pages).filter(|_| self.is_sealed(file_id));
            let missing = self.missing(file_id, pages).or(sealed);
            let reader = &mut self.readers[at];
            reader.waiting.push((pages, self.now));
            if let Some(missing) = missing {
                let deadline = self.now + READ_TIMEOUT;
                let class = Class::Demand;
                events.push(Event::Wanted { file: file_id, pages: missing, class, reader: id, deadline });
                self.files.entry(file_id).and_modify(|file| file.waiters.push(at));
            }
            if let Some(arrivals) = self.readers[at].arrivals_per_second {
                self.readers[at].pass(pages);
                self.next_at(at, Duration::from_secs_f64(1.0 / arrivals));
            }
            self.answer(at, events);
        }
    }

    /// Its reads that are all here are answered; those that nobody brought in time are given up.
    fn answer(&mut self, at: usize, events: &mut Vec<Event>) {
        let waiting = std::mem::take(&mut self.readers[at].waiting);
        let mut still = Vec::with_capacity(waiting.len());
        let file = self.readers[at].file;
        for (pages, since) in waiting {
            let late = self.now >= since + READ_TIMEOUT;
            if !late && (self.missing(file, pages).is_some() || self.is_sealed(file)) {
                still.push((pages, since));
                continue;
            }
            let reader = &mut self.readers[at];
            reader.timed_out += u64::from(late);
            if self.now > since {
                reader.waited(self.now.since(since));
            }
            reader.asked_bytes += pages.count() * PAGE_BYTES;
            if !late {
                self.note_delivered(file, pages);
            }
            let reader = &mut self.readers[at];
            if reader.arrivals_per_second.is_none() {
                reader.pass(pages);
                let rate = reader.rate;
                if let Some(rate) = rate {
                    self.next_at(at, Duration::from_secs_f64((pages.count() * PAGE_BYTES) as f64 / rate));
                }
            }
            self.drop_if_read(file, pages, events);
        }
        let reader = &mut self.readers[at];
        reader.waiting = still;
        if reader.waiting.is_empty() {
            self.files.entry(file).and_modify(|file| file.waiters.retain(|&waiter| waiter != at));
        }
        self.watch(at);
    }

    /// Look again when the oldest of its reads is to be given up.
    fn watch(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        let oldest = reader.waiting.iter().map(|&(_, since)| since + READ_TIMEOUT).min();
        if let Some(due) = oldest
            && reader.watched.is_none_or(|watched| watched <= self.now)
        {
            reader.watched = Some(due);
            self.push(due, Due::Reader(at));
        }
    }

    fn next_at(&mut self, at: usize, after: Duration) {
        let reader = &mut self.readers[at];
        // Not later and later by what it is late: arrivals keep their times.
        let from = if reader.arrivals_per_second.is_some() { reader.next_at } else { self.now };
        reader.next_at = from + after;
        let due = reader.next_at;
        self.push(due, Due::Reader(at));
    }

    /// It is at the end of its file. Returns whether there is another one.
    fn next_file(&mut self, at: usize, events: &mut Vec<Event>) -> bool {
        let reader = &mut self.readers[at];
        if !reader.waiting.is_empty() {
            return false;
        }
        let old = reader.file;
        let Pattern::Files { left } = &mut reader.pattern else {
            reader.done_at = Some(self.now);
            return false;
        };
        if *left == 0 {
            reader.done_at = Some(self.now);
            return false;
        }
        *left -= 1;
        let size_bytes = self.files[&old].size_bytes;
        self.end_streak(at, events);
        events.push(Event::Forgotten { file: old });
        if let Some(gone) = self.files.remove(&old) {
            let unread = gone.held.iter().zip(&gone.asked).filter(|&(&held, &asked)| held && !asked).count();
            self.held_bytes -= unread as u64 * PAGE_BYTES;
        }
        let id = Inode(self.own_id());
        let (file, opened) = self.opened(id, size_bytes);
        events.push(opened);
        let reader = &mut self.readers[at];
        (reader.file, reader.position) = (file, 0);
        true
    }

    fn note_streak(&mut self, at: usize, pages: Pages, events: &mut Vec<Event>) {
        if !self.readers[at].streak.goes_on(pages) {
            self.end_streak(at, events);
        }
        self.readers[at].streak.read(pages);
        if self.readers[at].mark.is_some() && !self.readers[at].streak.in_order() {
            self.end_streak(at, events);
            self.readers[at].streak.read(pages);
        }
        let reader = &mut self.readers[at];
        let (position, length_pages) = (reader.streak.next(), reader.streak.length_pages());
        if reader.streak.in_order() && reader.mark.is_none_or(|mark| position >= mark) {
            // Until the scheduler sets the next mark there is nothing more to say.
            reader.mark = Some(position + SLACK_PAGES);
            events.push(Event::Streak { reader: reader.id, file: reader.file, position, length_pages });
        }
    }

    /// Only a streak that the scheduler heard of has an end; reads here and there keep their id.
    fn end_streak(&mut self, at: usize, events: &mut Vec<Event>) {
        let reader = &mut self.readers[at];
        reader.streak = Streak::default();
        if reader.mark.take().is_some() {
            events.push(Event::Closed { reader: reader.id });
            self.readers[at].id = ReaderId(self.own_id());
        }
    }

    /// The run of pages from the first to the last that are not held.
    fn missing(&self, file: Inode, pages: Pages) -> Option<Pages> {
        let file = self.files.get(&file)?;
        let first = pages.iter().find(|&page| !file.held[page as usize])?;
        let last = pages.iter().rev().find(|&page| !file.held[page as usize])?;
        Some(Pages::new(first, last + 1))
    }

    pub(super) fn note_asked(&mut self, file: Inode, pages: Pages) {
        let Some(file) = self.files.get_mut(&file) else { return };
        for page in pages.intersect(Pages::of_file(file.size_bytes)).iter() {
            if !std::mem::replace(&mut file.asked[page as usize], true) {
                self.wanted_bytes += file.page_bytes(page);
                self.held_bytes -= if file.held[page as usize] { PAGE_BYTES } else { 0 };
            }
        }
    }

    fn drop_if_read(&mut self, file_id: Inode, pages: Pages, events: &mut Vec<Event>) {
        let Some(file) = self.files.get_mut(&file_id).filter(|_| self.drop_read) else { return };
        for page in pages.iter() {
            file.left_pages += u64::from(std::mem::replace(&mut file.held[page as usize], false));
            file.asked[page as usize] = false;
        }
        events.push(Event::Dropped { file: file_id, pages });
    }
}
