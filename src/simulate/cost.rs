//! What a decision costs, and how that grows with mirrors and with fetches in flight.
//!
//! The clock is handed in; nothing here reads one.

use super::outcome::percentile;
use super::table::{head, row};
use crate::chunk::{Class, Inode, MirrorId, MirrorSet, PAGE_BYTES, Pages, ReaderId};
use crate::clock::Time;
use crate::scheduler::{Action, Event, FileRule, Scheduler, Settings, Strategy};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// Pages of the file that is read here and there.
const FILE_PAGES: u64 = 1 << 22;
/// Decisions that are measured, after as many that are not.
const DECISIONS: usize = 2000;

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
pub(super) const SETTINGS: &[(usize, usize)] =
    &[(4, 16), (64, 16), (64, 128), (64, 1000), (1000, 16), (1000, 128), (1000, 4000)];

struct Bench {
    scheduler: Scheduler,
    now: Time,
    running: VecDeque<(crate::chunk::FetchId, Pages)>,
    next_page: u64,
}

impl Bench {
    fn new(strategy: Strategy, mirrors: usize) -> Bench {
        let settings = Settings { strategy, demand_fetches_max: 64, ..Settings::default() };
        let now = Time(1_000_000_000);
        let mut scheduler = Scheduler::new(settings, mirrors, 1, now);
        for at in 0..mirrors {
            let result = Ok(Duration::from_millis(5 + at as u64 % 40));
            scheduler.handle(now, Event::MirrorSeen { mirror: MirrorId(at as u16), result });
        }
        let size_bytes = FILE_PAGES * PAGE_BYTES;
        let mirrors = MirrorSet::first(mirrors);
        scheduler.handle(
            now,
            Event::Opened { file: Inode(1), size_bytes, mirrors, held: Vec::new(), rule: FileRule::default() },
        );
        Bench { scheduler, now, running: VecDeque::new(), next_page: 0 }
    }

    /// Somebody wants a page: what is to be done?
    fn decide(&mut self) {
        // A stride that is prime to the size meets every page once, and no two neighbours.
        self.next_page = (self.next_page + 1_000_003) % FILE_PAGES;
        let pages = Pages::new(self.next_page, self.next_page + 1);
        let deadline = self.now + Duration::from_secs(30);
        let class = Class::Demand;
        let wanted = Event::Wanted { file: Inode(1), pages, class, reader: ReaderId(1), deadline };
        self.scheduler.handle(self.now, wanted);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.scheduler.poll_action(self.now) {
            if let Action::Start { fetch, pages, .. } = action {
                self.running.push_back((fetch, pages));
            }
        }
    }

    /// The oldest fetch ends.
    fn arrive(&mut self) {
        self.now = self.now + Duration::from_micros(20);
        if let Some((fetch, pages)) = self.running.pop_front() {
            let events = [Event::FirstByte { fetch }, Event::Arrived { fetch, pages }, Event::Finished { fetch }];
            events.into_iter().for_each(|event| self.scheduler.handle(self.now, event));
            self.act();
        }
    }
}

/// Measure one setting by a clock of nanoseconds.
pub(super) fn measure(strategy: Strategy, mirrors: usize, in_flight: usize, now_ns: &mut dyn FnMut() -> u64) -> Cost {
    let mut bench = Bench::new(strategy, mirrors);
    let mut taken = Vec::with_capacity(DECISIONS);
    for turn in 0..in_flight + 2 * DECISIONS {
        let before = now_ns();
        bench.decide();
        if turn >= in_flight + DECISIONS {
            taken.push(now_ns().saturating_sub(before));
        }
        while bench.running.len() >= in_flight {
            bench.arrive();
        }
    }
    taken.sort_unstable();
    let (p50_ns, p99_ns) = (percentile(&taken, 0.5), percentile(&taken, 0.99));
    Cost { strategy: strategy.to_string(), mirrors, in_flight, p50_ns, p99_ns }
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
