//! The driver's part, in virtual time: events in batches, then actions until none, then the next moment.

use super::mirror::{Health, SimMirror};
use super::reader::SimReader;
use braidfs::chunk::{Class, FetchId, Inode, MirrorId, MirrorSet, PAGE_BYTES, Pages, ReaderId};
use braidfs::clock::Time;
use braidfs::scheduler::{Action, Event, Failure, Hopeless, Scheduler, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The grain of the links. A driver reports progress about as often.
const QUANTUM: Duration = Duration::from_millis(1);
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

pub struct SimFile {
    pub size_bytes: u64,
    pub held: Vec<bool>,
}

pub struct World {
    pub now: Time,
    pub scheduler: Scheduler,
    pub mirrors: Vec<SimMirror>,
    pub files: BTreeMap<Inode, SimFile>,
    pub readers: Vec<SimReader>,
    /// Events on their way to the scheduler.
    later: BTreeSet<(Time, u64, usize)>,
    bodies: Vec<Event>,
    fetch_mirror: BTreeMap<FetchId, usize>,
    /// What the pool can hold for the background; nothing: without end.
    pub pool_bytes: Option<u64>,
    held_bytes: u64,
    /// Read pages are dropped at once, as with `--cache-dir none` and a small pool.
    pub drop_read: bool,
    pub trace: u64,
    pub starts: Vec<(Time, MirrorId, Inode, Pages, Class)>,
    pub fails: Vec<(Time, Inode, Pages, Hopeless)>,
    pub alerts: Vec<(Time, String)>,
    /// Invariants are checked after every so many batches.
    pub check_every: u64,
    batches: u64,
}

impl World {
    pub fn new(mirrors: Vec<SimMirror>, seed: u64) -> World {
        World::with(Settings::default(), mirrors, seed)
    }

    pub fn with(settings: Settings, mirrors: Vec<SimMirror>, seed: u64) -> World {
        World {
            now: Time(0),
            scheduler: Scheduler::new(settings, mirrors.len(), seed, Time(0)),
            mirrors,
            files: BTreeMap::new(),
            readers: Vec::new(),
            later: BTreeSet::new(),
            bodies: Vec::new(),
            fetch_mirror: BTreeMap::new(),
            pool_bytes: None,
            held_bytes: 0,
            drop_read: false,
            trace: 0xcbf2_9ce4_8422_2325,
            starts: Vec::new(),
            fails: Vec::new(),
            alerts: Vec::new(),
            check_every: 64,
            batches: 0,
        }
    }

    pub fn open(&mut self, file: u64, size_bytes: u64) -> Inode {
        let file = Inode(file);
        let pages = Pages::of_file(size_bytes).end as usize;
        self.files.insert(file, SimFile { size_bytes, held: vec![false; pages] });
        let mirrors = MirrorSet::first(self.mirrors.len());
        self.scheduler.handle(self.now, Event::Opened { file, size_bytes, mirrors, held: Vec::new() });
        if self.pool_bytes.is_none() {
            self.scheduler.handle(self.now, Event::BudgetChanged { background_bytes: 1 << 40 });
        }
        file
    }

    /// The mount has listed its root: the mirrors that are up have answered once.
    pub fn listed(&mut self) {
        for (at, mirror) in self.mirrors.iter().enumerate() {
            if mirror.health == Health::Up {
                let mirror_id = MirrorId(at as u16);
                self.scheduler.handle(self.now, Event::MirrorSeen { mirror: mirror_id, result: Ok(mirror.latency) });
            }
        }
    }

    pub fn want(&mut self, file: Inode, pages: Pages, class: Class, reader: u64) {
        let deadline = self.now + READ_TIMEOUT;
        self.give(vec![Event::Wanted { file, pages, class, reader: ReaderId(reader), deadline }]);
    }

    /// Go on until every reader is done, or it is `until_ms`.
    pub fn run(&mut self, until_ms: u64) {
        let until = Time(until_ms * 1_000_000);
        self.read_all();
        while self.now < until && self.readers.iter().any(|reader| reader.done_at.is_none()) {
            self.moment(until);
        }
    }

    /// Go on until it is `until_ms`, readers or not.
    pub fn run_until(&mut self, until_ms: u64) {
        let until = Time(until_ms * 1_000_000);
        self.read_all();
        while self.now < until {
            self.moment(until);
        }
    }

    pub fn all_held(&self, file: Inode, pages: Pages) -> bool {
        pages.iter().all(|page| self.files[&file].held[page as usize])
    }

    /// Background fetches at a time on a mirror, while it had any.
    pub fn mean_flows(&self, mirror: usize) -> f64 {
        let mirror = &self.mirrors[mirror];
        mirror.flow_moments as f64 / mirror.busy_moments as f64
    }

    pub fn wire_bytes(&self) -> f64 {
        self.mirrors.iter().map(|mirror| mirror.wire_bytes).sum()
    }

    /// The driver gets no processor for so long; what the mirrors send meanwhile comes all at once.
    pub fn freeze(&mut self, ms: u64) {
        let mut events = Vec::new();
        for _ in 0..ms {
            self.now = self.now + QUANTUM;
            for mirror in &mut self.mirrors {
                mirror.step(self.now, QUANTUM, &mut events);
            }
        }
        // It wakes by its timer, and finds the events only then.
        self.give(vec![Event::Tick]);
        self.now = self.now + QUANTUM;
        self.give(events);
    }

    /// The next moment at which anything happens.
    fn moment(&mut self, until: Time) {
        let mut next = until;
        if self.mirrors.iter().any(|mirror| mirror.busy()) {
            next = next.min(self.now + QUANTUM);
        }
        next = next.min(self.later.first().map_or(until, |&(at, ..)| at));
        next = next.min(self.scheduler.poll_timeout().unwrap_or(until));
        for reader in self.readers.iter().filter(|reader| reader.done_at.is_none() && reader.waiting.is_none()) {
            next = next.min(reader.next_at);
        }
        let passed = next.since(self.now);
        // A timeout in the past would be a scheduler that spins.
        assert!(next >= self.now, "time goes backwards");
        self.now = next;
        let mut events = Vec::new();
        for mirror in &mut self.mirrors {
            mirror.step(self.now, passed, &mut events);
        }
        while let Some(&(at, order, index)) = self.later.first().filter(|&&(at, ..)| at <= self.now) {
            self.later.remove(&(at, order, index));
            events.push(self.bodies[index].clone());
        }
        if self.scheduler.poll_timeout().is_some_and(|due| due <= self.now) {
            events.push(Event::Tick);
        }
        self.give(events);
        self.read_all();
        let due = self.scheduler.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "due {due:?} at {:?}: the driver would spin", self.now);
    }

    fn later(&mut self, after: Duration, event: Event) {
        let order = self.bodies.len();
        self.bodies.push(event);
        self.later.insert((self.now + after, order as u64, order));
    }

    /// A batch of events, and all actions that follow.
    pub fn give(&mut self, events: Vec<Event>) {
        for event in events {
            if let Event::Arrived { fetch, pages } = &event {
                self.hold(*fetch, *pages);
            }
            self.scheduler.handle(self.now, event);
        }
        while let Some(action) = self.scheduler.poll_action(self.now) {
            for byte in format!("{:?}{action:?}", self.now).bytes() {
                self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            self.act(action);
        }
        self.batches += 1;
        if self.batches.is_multiple_of(self.check_every) {
            let broken = self.scheduler.broken_invariant();
            assert!(broken.is_none(), "at {:?}: {}", self.now, broken.unwrap_or_default());
        }
    }

    fn hold(&mut self, fetch: FetchId, pages: Pages) {
        let Some(&(_, _, file, ..)) = self.starts.get(fetch.0 as usize - 1) else { return };
        let file = self.files.get_mut(&file).expect("only open files are fetched");
        for page in pages.iter() {
            if !std::mem::replace(&mut file.held[page as usize], true) {
                self.held_bytes += PAGE_BYTES;
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start { fetch, mirror, file, pages, class, whole } => {
                self.starts.push((self.now, mirror, file, pages, class));
                assert_eq!(self.starts.len() as u64, fetch.0, "ids only grow, one by one");
                self.fetch_mirror.insert(fetch, usize::from(mirror.0));
                let sim = &mut self.mirrors[usize::from(mirror.0)];
                if !whole && !sim.ranges {
                    self.later(Duration::from_millis(5), Event::Failed { fetch, failure: Failure::NoRanges });
                    return;
                }
                sim.ask(self.now, fetch, pages, self.files[&file].size_bytes, class);
            }
            Action::Cancel { fetch, .. } => {
                let at = self.fetch_mirror[&fetch];
                self.mirrors[at].flows.retain(|flow| flow.fetch != fetch);
                let failure = Failure::Cancelled;
                self.later(Duration::from_micros(100), Event::Failed { fetch, failure });
            }
            Action::Probe { mirror } => {
                if let Some((after, result)) = self.mirrors[usize::from(mirror.0)].probe() {
                    self.later(after, Event::ProbeDone { mirror, result });
                }
            }
            Action::Fail { file, pages, why } => {
                self.fails.push((self.now, file, pages, why));
                for reader in self.readers.iter_mut().filter(|reader| reader.file == file) {
                    let hit = reader.waiting.is_some_and(|(waited, _)| !waited.intersect(pages).is_empty());
                    if hit {
                        reader.errors.push((self.now, why));
                        reader.waiting = None;
                        reader.next_at = self.now + Duration::from_millis(100);
                    }
                }
            }
            Action::Mark { reader, page, .. } => {
                for sim in self.readers.iter_mut().filter(|sim| sim.id == reader) {
                    sim.mark = Some(page);
                }
            }
            Action::Alert { what, .. } => self.alerts.push((self.now, what)),
        }
    }

    /// Let every reader go as far as it can.
    fn read_all(&mut self) {
        for at in 0..self.readers.len() {
            let mut events = Vec::new();
            self.read(at, &mut events);
            if self.pool_bytes.is_some() && !events.is_empty() {
                events.push(self.budget());
            }
            if !events.is_empty() {
                self.give(events);
            }
        }
        if self.pool_bytes.is_some() {
            let budget = self.budget();
            self.give(vec![budget]);
        }
    }

    fn budget(&self) -> Event {
        let in_flight = self.scheduler.snapshot(self.now).in_flight_bytes;
        let pool = self.pool_bytes.expect("asked only with a pool");
        Event::BudgetChanged { background_bytes: pool.saturating_sub(self.held_bytes + in_flight) }
    }

    fn read(&mut self, at: usize, events: &mut Vec<Event>) {
        let reader = &mut self.readers[at];
        let file = self.files.get_mut(&reader.file).expect("readers read open files");
        while reader.done_at.is_none() && reader.next_at <= self.now {
            let pages = match reader.waiting {
                Some((pages, _)) => pages,
                None => match reader.next_read() {
                    Some(pages) => pages,
                    None => {
                        reader.done_at = Some(self.now);
                        return;
                    }
                },
            };
            let missing: Vec<u64> = pages.iter().filter(|&page| !file.held[page as usize]).collect();
            if let (Some(&first), Some(&last)) = (missing.first(), missing.last()) {
                if reader.waiting.is_none() {
                    reader.waiting = Some((pages, self.now));
                    let deadline = self.now + READ_TIMEOUT;
                    let (file, pages) = (reader.file, Pages::new(first, last + 1));
                    events.push(Event::Wanted { file, pages, class: Class::Demand, reader: reader.id, deadline });
                }
                return;
            }
            if let Some((_, since)) = reader.waiting.take() {
                reader.longest_wait = reader.longest_wait.max(self.now.since(since));
            }
            reader.asked_bytes += pages.count() * PAGE_BYTES;
            reader.reads += 1;
            reader.position = pages.end;
            if let Some(rate) = reader.rate {
                reader.next_at = self.now + Duration::from_secs_f64((pages.count() * PAGE_BYTES) as f64 / rate);
            }
            if self.pool_bytes.is_some() || self.drop_read {
                self.held_bytes = self.held_bytes.saturating_sub(pages.count() * PAGE_BYTES);
            }
            if self.drop_read {
                pages.iter().for_each(|page| file.held[page as usize] = false);
                events.push(Event::Dropped { file: reader.file, pages });
            }
            let passed = reader.mark.is_some_and(|mark| reader.position >= mark);
            if reader.sequential_pattern() && (reader.reads == 2 || passed) {
                reader.mark = None;
                let (id, file, position) = (reader.id, reader.file, reader.position);
                events.push(Event::Streak { reader: id, file, position, length_pages: position });
            }
        }
    }
}
