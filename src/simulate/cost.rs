//! What a decision costs, and how that grows with mirrors and with fetches in flight.
//!
//! The clock is handed in; nothing here reads one.

use super::outcome::percentile;
use super::table::{head, row};
use crate::chunk::{Class, FetchId, Inode, MirrorId, MirrorSet, PAGE_BYTES, Pages, ReaderId};
use crate::clock::Time;
use crate::scheduler::{Action, Event, Failure, FileRule, Scheduler, Settings, Strategy, Verdict};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// Pages of the file that is read here and there, and of one read.
const FILE_PAGES: u64 = 1 << 22;
const READ_PAGES: u64 = 4;
/// A fetch is on its way for so long; so with more in flight, decisions follow each other faster.
const LIFE: Duration = Duration::from_millis(10);
/// Decisions that are measured by `braidfs simulate --cost`.
const DECISIONS: usize = 5000;
/// Before them as many as fill the memory that is taken once, and so many for each mirror that it is known.
const DECISIONS_BEFORE: usize = 5000;
const DECISIONS_BEFORE_PER_MIRROR: usize = 16;

/// What one decision costs in one setting.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// By which strategy.
    pub strategy: String,
    /// Among how many mirrors.
    pub mirrors: usize,
    /// With how many fetches in flight.
    pub in_flight: usize,
    /// Nanoseconds from `Wanted` to the last action: median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
}

/// The settings that are measured: mirrors, fetches in flight.
const SETTINGS: &[(usize, usize)] = &[(4, 16), (64, 16), (64, 128), (64, 1000), (1000, 16), (1000, 128), (1000, 4000)];

/// A scheduler in the middle of its work: as many fetches as are asked for are on their way, some of them connecting,
/// some with their body begun; with each decision one begins and one ends.
#[derive(Debug)]
pub struct Bench {
    scheduler: Scheduler,
    now: Time,
    half_step: Duration,
    in_flight: usize,
    running: VecDeque<(FetchId, Pages)>,
    next_page: u64,
    /// Fetches that a decision has started.
    pub started: u64,
}

impl Bench {
    /// Warmed up: every mirror is known, and all memory that is taken once is taken.
    pub fn new(strategy: Strategy, mirrors: usize, in_flight: usize) -> Bench {
        let settings = Settings { strategy, demand_fetches_max: 1024, ..Settings::default() };
        let now = Time(1_000_000_000);
        let mut scheduler = Scheduler::new(settings, mirrors, 1, now);
        for at in 0..mirrors {
            let result = Ok(Duration::from_millis(5 + at as u64 % 40));
            scheduler.handle(now, Event::MirrorSeen { mirror: MirrorId(at as u16), result });
        }
        let size_bytes = FILE_PAGES * PAGE_BYTES;
        let (served_by, rule) = (MirrorSet::first(mirrors), FileRule::default());
        scheduler.handle(now, Event::Opened { file: Inode(1), size_bytes, mirrors: served_by, held: Vec::new(), rule });
        let half_step = LIFE / (2 * in_flight as u32);
        let mut bench =
            Bench { scheduler, now, half_step, in_flight, running: VecDeque::new(), next_page: 0, started: 0 };
        for _ in 0..in_flight + DECISIONS_BEFORE + DECISIONS_BEFORE_PER_MIRROR * mirrors {
            bench.decide();
            bench.go_on();
        }
        bench
    }

    /// Somebody wants some pages: what is to be done?
    #[inline(never)]
    pub fn decide(&mut self) {
        // A stride that is prime to the size meets every page once, and no two neighbours.
        self.next_page = (self.next_page + 1_000_003) % (FILE_PAGES - READ_PAGES);
        let pages = Pages::new(self.next_page, self.next_page + READ_PAGES);
        let deadline = self.now + Duration::from_secs(30);
        let class = Class::Demand;
        let wanted = Event::Wanted { file: Inode(1), pages, class, reader: ReaderId(1), deadline };
        self.scheduler.handle(self.now, wanted);
        self.act();
    }

    /// What happens until the next one: the oldest fetch ends, another gets its first byte, timers.
    pub fn go_on(&mut self) {
        self.now = self.now + self.half_step;
        while self.running.len() >= self.in_flight {
            self.end_oldest();
        }
        if let Some(&(fetch, _)) = self.running.back() {
            self.scheduler.handle(self.now, Event::Connected { fetch });
        }
        if let Some(&(fetch, _)) = self.running.get(self.running.len() / 2) {
            self.scheduler.handle(self.now, Event::FirstByte { fetch });
        }
        self.act();
        self.now = self.now + self.half_step;
        if self.scheduler.poll_timeout().is_some_and(|due| due <= self.now) {
            self.scheduler.handle(self.now, Event::Tick);
            self.act();
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.scheduler.poll_action(self.now) {
            match action {
                Action::Start { fetch, pages, .. } => {
                    self.started += 1;
                    self.running.push_back((fetch, pages));
                }
                Action::Cancel { fetch, .. } => {
                    self.running.retain(|&(running, _)| running != fetch);
                    self.scheduler.handle(self.now, Event::Failed { fetch, failure: Failure::Cancelled });
                }
                Action::Probe { mirror } => {
                    let result = Ok(Duration::from_millis(5));
                    self.scheduler.handle(self.now, Event::ProbeDone { mirror, result });
                }
                Action::Compare { comparison, .. } => {
                    let result = Ok(Verdict::Same);
                    self.scheduler.handle(self.now, Event::Compared { comparison, result });
                }
                _ => {}
            }
        }
    }

    fn end_oldest(&mut self) {
        let Some((fetch, pages)) = self.running.pop_front() else { return };
        let file = Inode(1);
        // Nothing is kept, so that the last read is like the first.
        let events = [Event::Arrived { fetch, pages }, Event::Finished { fetch }, Event::Dropped { file, pages }];
        events.into_iter().for_each(|event| self.scheduler.handle(self.now, event));
        self.act();
    }
}

/// Measure one setting by a clock of nanoseconds.
pub fn measure(
    strategy: Strategy,
    (mirrors, in_flight): (usize, usize),
    decisions: usize,
    now_ns: &mut dyn FnMut() -> u64,
) -> Cost {
    let mut bench = Bench::new(strategy, mirrors, in_flight);
    let mut taken = Vec::with_capacity(decisions);
    for _ in 0..decisions {
        let before = now_ns();
        bench.decide();
        taken.push(now_ns().saturating_sub(before));
        bench.go_on();
    }
    taken.sort_unstable();
    let (p50_ns, p99_ns) = (percentile(&taken, 0.5), percentile(&taken, 0.99));
    Cost { strategy: strategy.to_string(), mirrors, in_flight, p50_ns, p99_ns }
}

/// The settings that `braidfs simulate --cost` measures.
pub(super) fn measure_all(strategy: Strategy, now_ns: &mut dyn FnMut() -> u64) -> Vec<Cost> {
    SETTINGS.iter().map(|&setting| measure(strategy, setting, DECISIONS, now_ns)).collect()
}

/// Costs as a table.
pub(super) fn table(costs: &[Cost]) -> String {
    let names = ["strategy", "mirrors", "fetches in flight", "a decision, µs: median", "99th percentile"];
    let micros = |ns: u64| format!("{:.2}", ns as f64 / 1e3);
    let rows = costs.iter().map(|cost| {
        let [mirrors, in_flight] = [cost.mirrors, cost.in_flight].map(|count| count.to_string());
        row(&[cost.strategy.clone(), mirrors, in_flight, micros(cost.p50_ns), micros(cost.p99_ns)])
    });
    head(&names) + &rows.collect::<String>()
}
