//! The driver's part, in virtual time: events in batches, then actions until none, then the next moment.
//!
//! Moments are those at which anything happens: a mirror has something to say, a reader reads, the
//! scheduler's own time has come. They wait in one heap, so what is idle costs nothing.

use super::mirror::{Health, SimMirror};
use super::reader::SimReader;
use super::sameness::{Sameness, SimComparison};
use crate::chunk::{Class, FetchId, Inode, MirrorId, MirrorSet, PAGE_BYTES, Pages, ReaderId};
use crate::clock::Time;
use crate::scheduler::{ComparisonId, Event, FileRule, Hopeless, Scheduler, Settings, Verify};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::fmt;
use std::time::Duration;

/// A read is given up after so long.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A prefetch is not.
const PREFETCH_TIMEOUT: Duration = Duration::from_secs(1 << 30);
/// Ids of files and streaks that the simulation makes up begin here; those that it is given are below.
const OWN_IDS: u64 = 1 << 32;

/// A file of the dataset.
#[derive(Debug)]
pub struct SimFile {
    /// Its size.
    pub size_bytes: u64,
    /// Which of its pages have arrived.
    pub held: Vec<bool>,
    /// Which of them somebody asked for.
    pub(super) asked: Vec<bool>,
    /// Whose bytes may be in it, what is in each page that is held, and nothing of it is given to readers.
    pub(super) sameness: Sameness,
    pub(super) left_pages: u64,
    /// The readers that wait for some of it.
    pub(super) waiters: Vec<usize>,
}

impl SimFile {
    fn new(size_bytes: u64) -> SimFile {
        let left_pages = Pages::of_file(size_bytes).end;
        let none = vec![false; left_pages as usize];
        let sameness = Sameness::new(left_pages);
        SimFile { size_bytes, held: none.clone(), asked: none, sameness, left_pages, waiters: Vec::new() }
    }

    /// What this page brings; the last one of a file is shorter.
    pub(super) fn page_bytes(&self, page: u64) -> u64 {
        PAGE_BYTES.min(self.size_bytes - page * PAGE_BYTES)
    }
}

/// What waits for its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Mirror(usize),
    Reader(usize),
    Prefetch,
    /// An event on its way to the scheduler.
    Event(usize),
}

/// What the scheduler's calls cost, by a clock that is handed in.
pub struct Stopwatch {
    /// Nanoseconds of some clock.
    pub now_ns: Box<dyn FnMut() -> u64>,
    /// Spent inside the scheduler so far.
    pub spent_ns: u64,
    /// Events that it was given.
    pub events: u64,
}

impl fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stopwatch({} ns, {} events)", self.spent_ns, self.events)
    }
}

/// A fetch that has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) mirror: usize,
    pub(super) file: Inode,
    pub(super) left_bytes: u64,
}

/// Mirrors, files, readers, and the scheduler between them.
#[derive(Debug)]
pub struct World {
    /// Virtual time.
    pub now: Time,
    /// The true one.
    pub scheduler: Scheduler,
    /// By their ids.
    pub mirrors: Vec<SimMirror>,
    /// Those that are open.
    pub files: BTreeMap<Inode, SimFile>,
    /// Everyone who reads.
    pub readers: Vec<SimReader>,
    /// What the pool can hold for the background; nothing: without end.
    pub pool_bytes: Option<u64>,
    /// Read pages are dropped at once, as with `--cache-dir none` and a small pool.
    pub drop_read: bool,
    /// A hash over all actions and their times.
    pub trace: u64,
    /// Every fetch, in the order of their ids.
    pub starts: Vec<(Time, MirrorId, Inode, Pages, Class)>,
    /// Pages that the scheduler gave up.
    pub fails: Vec<(Time, Inode, Pages, Hopeless)>,
    /// What a person was told.
    pub alerts: Vec<(Time, Option<MirrorId>, String)>,
    /// Bytes that arrived for the first time.
    pub useful_bytes: u64,
    /// Distinct bytes that somebody asked for.
    pub wanted_bytes: u64,
    /// By how much what is held unread and what is in flight were above the pool's limit at the most.
    pub over_pool_max_bytes: u64,
    /// Fetches in flight at the most.
    pub in_flight_max: usize,
    /// Invariants are checked after every so many batches.
    pub check_every: u64,
    /// Measures the scheduler, where somebody wants to know.
    pub stopwatch: Option<Stopwatch>,
    /// How often pages of a prefetch were reported and left for its next pass.
    pub left_for_next_pass: u64,
    /// Mirrors that were found to serve something else than others, and of which file.
    pub differing: Vec<(MirrorId, Inode)>,
    /// Pages of each content that were given to readers, by file.
    pub delivered: BTreeMap<(Inode, u8), u64>,
    pub(super) comparisons: BTreeMap<ComparisonId, SimComparison>,
    /// Prefetches that are to be wanted, and when.
    pub(super) prefetches: Vec<(Time, Inode)>,
    /// The files of all jobs.
    pub(super) prefetched: BTreeSet<Inode>,
    pub(super) running: HashMap<FetchId, Running>,
    pub(super) in_flight_bytes: u64,
    pub(super) held_bytes: u64,
    pub(super) ready: Vec<usize>,
    pub(super) own_ids: u64,
    pub(super) budget_told: Option<u64>,
    heap: BinaryHeap<Reverse<(Time, u64, Due)>>,
    pushed: u64,
    armed: Vec<Option<Time>>,
    pub(super) touched: Vec<usize>,
    bodies: Vec<Option<Event>>,
    free: Vec<usize>,
    started: usize,
    batches: u64,
}

impl World {
    /// A world with the default settings.
    pub fn new(mirrors: Vec<SimMirror>, seed: u64) -> World {
        World::with(Settings::default(), mirrors, seed)
    }

    /// A world in which all chance, the scheduler's and the mirrors', comes from `seed`.
    pub fn with(settings: Settings, mut mirrors: Vec<SimMirror>, seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        mirrors.iter_mut().for_each(|mirror| mirror.seed(rng.random()));
        World {
            now: Time(0),
            scheduler: Scheduler::new(settings, mirrors.len(), seed, Time(0)),
            armed: vec![None; mirrors.len()],
            mirrors,
            files: BTreeMap::new(),
            readers: Vec::new(),
            pool_bytes: None,
            drop_read: false,
            trace: 0xcbf2_9ce4_8422_2325,
            starts: Vec::new(),
            fails: Vec::new(),
            alerts: Vec::new(),
            useful_bytes: 0,
            wanted_bytes: 0,
            over_pool_max_bytes: 0,
            in_flight_max: 0,
            check_every: 64,
            stopwatch: None,
            left_for_next_pass: 0,
            differing: Vec::new(),
            delivered: BTreeMap::new(),
            comparisons: BTreeMap::new(),
            prefetches: Vec::new(),
            prefetched: BTreeSet::new(),
            running: HashMap::new(),
            in_flight_bytes: 0,
            held_bytes: 0,
            ready: Vec::new(),
            own_ids: OWN_IDS,
            budget_told: None,
            heap: BinaryHeap::new(),
            pushed: 0,
            touched: Vec::new(),
            bodies: Vec::new(),
            free: Vec::new(),
            started: 0,
            batches: 0,
        }
    }

    /// A file of the dataset is opened.
    pub fn open(&mut self, file: u64, size_bytes: u64) -> Inode {
        let (file, event) = self.opened(Inode(file), size_bytes);
        self.scheduler.handle(self.now, event);
        if self.pool_bytes.is_none() {
            self.scheduler.handle(self.now, Event::BudgetChanged { background_bytes: 1 << 40 });
        }
        file
    }

    pub(super) fn opened(&mut self, file: Inode, size_bytes: u64) -> (Inode, Event) {
        let mut sim = SimFile::new(size_bytes);
        sim.sameness.sealed = self.scheduler.settings().verify == Verify::Quorum;
        self.files.insert(file, sim);
        let mirrors = MirrorSet::first(self.mirrors.len());
        (file, Event::Opened { file, size_bytes, mirrors, held: Vec::new(), rule: FileRule::default() })
    }

    pub(super) fn own_id(&mut self) -> u64 {
        self.own_ids += 1;
        self.own_ids
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

    /// Somebody who is none of the readers wants pages.
    pub fn want(&mut self, file: Inode, pages: Pages, class: Class, reader: u64) {
        let deadline = self.now + if class == Class::Prefetch { PREFETCH_TIMEOUT } else { READ_TIMEOUT };
        self.note_asked(file, pages);
        self.give(vec![Event::Wanted { file, pages, class, reader: ReaderId(reader), deadline }]);
        self.arm_mirrors();
    }

    /// All of this file is to be prefetched, `ms` after the start.
    pub fn prefetch(&mut self, file: Inode, ms: u64) {
        let due = Time(ms * 1_000_000);
        self.prefetches.push((due, file));
        self.prefetched.insert(file);
        self.push(due, Due::Prefetch);
    }

    /// Go on until every reader is done and every prefetch is here, or it is `until_ms`.
    pub fn run(&mut self, until_ms: u64) {
        let until = Time(until_ms * 1_000_000);
        self.begin();
        while self.now < until && !self.all_done() {
            self.moment(until);
        }
    }

    /// Go on until it is `until_ms`, readers or not.
    pub fn run_until(&mut self, until_ms: u64) {
        let until = Time(until_ms * 1_000_000);
        self.begin();
        while self.now < until {
            self.moment(until);
        }
    }

    /// Have these pages arrived?
    pub fn all_held(&self, file: Inode, pages: Pages) -> bool {
        pages.iter().all(|page| self.files[&file].held[page as usize])
    }

    /// Background fetches at a time on a mirror, while it had any.
    pub fn mean_flows(&self, mirror: usize) -> f64 {
        let mirror = &self.mirrors[mirror];
        mirror.flow_seconds / mirror.busy_seconds
    }

    /// Body bytes of all mirrors.
    pub fn wire_bytes(&self) -> f64 {
        self.mirrors.iter().map(|mirror| mirror.wire_bytes).sum()
    }

    /// The driver gets no processor for so long; what the mirrors send meanwhile comes all at once.
    pub fn freeze(&mut self, ms: u64) {
        let mut events = Vec::new();
        for _ in 0..ms {
            self.now = self.now + Duration::from_millis(1);
            for mirror in &mut self.mirrors {
                mirror.step(self.now, &mut events);
            }
        }
        // It wakes by its timer, and finds the events only then.
        self.give(vec![Event::Tick]);
        self.now = self.now + Duration::from_millis(1);
        self.give(events);
        self.touched.extend(0..self.mirrors.len());
        self.arm_mirrors();
    }

    fn all_done(&self) -> bool {
        let readers = self.readers.iter().all(|reader| reader.done_at.is_some());
        readers && self.prefetches.iter().all(|(_, file)| self.files[file].left_pages == 0)
    }

    /// Readers that were added since the last time start.
    fn begin(&mut self) {
        for at in std::mem::replace(&mut self.started, self.readers.len())..self.readers.len() {
            self.push(self.readers[at].next_at, Due::Reader(at));
        }
        self.touched.extend(0..self.mirrors.len());
        self.read_all();
        self.arm_mirrors();
    }

    /// The next moment at which anything happens.
    fn moment(&mut self, until: Time) {
        let mut next = until.min(self.scheduler.poll_timeout().unwrap_or(until));
        // A timeout in the past would be a scheduler that spins.
        assert!(next >= self.now, "time goes backwards");
        if let Some(&Reverse((at, ..))) = self.heap.peek() {
            // After a freeze the simulation itself is late.
            next = next.min(at.max(self.now));
        }
        self.now = next;
        let mut events = self.take_due();
        if self.scheduler.poll_timeout().is_some_and(|due| due <= self.now) {
            events.push(Event::Tick);
        }
        self.give(events);
        self.read_all();
        self.arm_mirrors();
        let due = self.scheduler.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "due {due:?} at {:?}: the driver would spin", self.now);
    }

    fn take_due(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(&Reverse((at, _, due))) = self.heap.peek().filter(|Reverse((at, ..))| *at <= self.now) {
            self.heap.pop();
            match due {
                Due::Mirror(mirror) if self.armed[mirror] == Some(at) => {
                    self.armed[mirror] = None;
                    self.mirrors[mirror].step(self.now, &mut events);
                    self.touched.push(mirror);
                }
                // It was armed anew for an earlier time meanwhile.
                Due::Mirror(_) => {}
                Due::Reader(reader) => self.ready.push(reader),
                // Looked at in each turn.
                Due::Prefetch => {}
                Due::Event(event) => {
                    events.extend(self.bodies[event].take());
                    self.free.push(event);
                }
            }
        }
        events
    }

    pub(super) fn push(&mut self, at: Time, due: Due) {
        self.pushed += 1;
        self.heap.push(Reverse((at, self.pushed, due)));
    }

    pub(super) fn later(&mut self, after: Duration, event: Event) {
        let at = self.free.pop().unwrap_or(self.bodies.len());
        if at == self.bodies.len() {
            self.bodies.push(None);
        }
        self.bodies[at] = Some(event);
        self.push(self.now + after, Due::Event(at));
    }

    /// Mirrors about which anything changed say when they are due next.
    pub(super) fn arm_mirrors(&mut self) {
        for mirror in std::mem::take(&mut self.touched) {
            let Some(due) = self.mirrors[mirror].next_moment().filter(|&due| due < Time::NEVER) else { continue };
            if self.armed[mirror].is_none_or(|armed| due < armed) {
                self.armed[mirror] = Some(due);
                self.push(due, Due::Mirror(mirror));
            }
        }
    }

    /// Invariants hold, whenever it is their turn.
    pub(super) fn check(&mut self) {
        self.batches += 1;
        if let Some(pool_bytes) = self.pool_bytes {
            let over = (self.held_bytes + self.in_flight_bytes).saturating_sub(pool_bytes);
            self.over_pool_max_bytes = self.over_pool_max_bytes.max(over);
        }
        if self.check_every > 0 && self.batches.is_multiple_of(self.check_every) {
            let broken = self.scheduler.broken_invariant();
            assert!(broken.is_none(), "at {:?}: {}", self.now, broken.unwrap_or_default());
        }
    }
}
