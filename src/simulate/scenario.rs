//! A scenario as plain data: which mirrors, who reads what, and the same as the fluid model sees it.

use super::ideal::{Demand, Link, Phase};
use super::mirror::{Change, Health, SimMirror};
use super::reader::{Pattern, SimReader};
use super::world::World;
use crate::chunk::{Inode, PAGE_BYTES, Pages};
use crate::clock::Time;
use crate::scheduler::{Settings, Strategy};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// With more mirrors than this, their progress is told every 4 ms instead of every one.
const MANY_MIRRORS: usize = 32;

/// A mirror, and what happens to it.
#[derive(Clone, Debug)]
pub struct MirrorPlan {
    /// Bytes per second of its link.
    pub bandwidth: f64,
    /// From request to first byte.
    pub latency: Duration,
    /// At most so much more, by chance.
    pub jitter: Duration,
    /// What one connection gets at most, in bytes per second.
    pub connection_bandwidth: f64,
    /// What a connection gets that was opened on a full link, as a part of what the others get.
    pub joining: f64,
    /// The rate varies by this part of itself.
    pub wobble: f64,
    /// Lost packets in a busy second.
    pub losses_per_second: f64,
    /// Every so many requests one breaks off in mid-body; 0: none.
    pub reset_every: u64,
    /// Every so many requests one falls silent in mid-body for ever; 0: none.
    pub stall_every: u64,
    /// This request falls silent in mid-body for ever; 0: none.
    pub stall_request: u64,
    /// How it is at the start.
    pub health: Health,
    /// It serves ranges.
    pub ranges: bool,
    /// It serves other bytes than most, under the same name, size and date.
    pub other_content: bool,
    /// What happens to it, and when.
    pub changes: Vec<PlannedChange>,
}

/// A change, once or again and again.
#[derive(Clone, Copy, Debug)]
pub struct PlannedChange {
    /// When, for the first time.
    pub at: Duration,
    /// And then again after each such time.
    pub every: Option<Duration>,
    /// What.
    pub change: Change,
}

impl MirrorPlan {
    /// A healthy mirror.
    pub fn new(bandwidth: f64, latency: Duration) -> MirrorPlan {
        MirrorPlan {
            bandwidth,
            latency,
            jitter: Duration::ZERO,
            connection_bandwidth: f64::INFINITY,
            joining: 1.0,
            wobble: 0.0,
            losses_per_second: 0.0,
            reset_every: 0,
            stall_every: 0,
            stall_request: 0,
            health: Health::Up,
            ranges: true,
            other_content: false,
            changes: Vec::new(),
        }
    }

    /// Everything that happens before `until`, in order.
    fn changes(&self, until: Duration) -> Vec<(Time, Change)> {
        let mut all = Vec::new();
        for planned in &self.changes {
            let mut at = planned.at;
            while at < until {
                all.push((Time(0) + at, planned.change));
                match planned.every {
                    Some(every) if !every.is_zero() => at += every,
                    _ => break,
                }
            }
        }
        all.sort_by_key(|&(at, _)| at);
        all
    }

    fn simulated(&self, until: Duration) -> SimMirror {
        let mut mirror = SimMirror::new(self.bandwidth, 0);
        mirror.latency = self.latency;
        mirror.jitter = self.jitter;
        mirror.connection_rate = self.connection_bandwidth;
        mirror.joining = self.joining;
        mirror.wobble = self.wobble;
        mirror.losses_per_second = self.losses_per_second;
        mirror.reset_every = self.reset_every;
        mirror.stall_every = self.stall_every;
        mirror.stall_request = self.stall_request;
        mirror.health = self.health;
        mirror.ranges = self.ranges;
        mirror.content = u8::from(self.other_content);
        mirror.changes = self.changes(until);
        mirror
    }

    /// What it could bring at best: chance, resets and stalls of single requests are not its link's fault.
    fn link(&self, until: Duration) -> Link {
        let (mut rate, mut latency, mut health) = (self.bandwidth, self.latency, self.health);
        let phase = |from: f64, rate: f64, latency: Duration, health: Health| Phase {
            from,
            rate: if health == Health::Up { rate } else { 0.0 },
            latency: latency.as_secs_f64(),
        };
        let mut phases = vec![phase(0.0, rate, latency, health)];
        for (at, change) in self.changes(until) {
            match change {
                Change::Rate(new) => rate = new,
                Change::Latency(new) => latency = new,
                Change::Health(new) => health = new,
                Change::Reset | Change::Hold(_) => continue,
            }
            phases.push(phase(at.seconds_since(Time(0)), rate, latency, health));
        }
        Link { phases }
    }
}

/// In which order a planned reader goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// In order to the end.
    Sequential,
    /// In reverse order.
    Backward,
    /// So many reads at random places.
    Random(u64),
    /// A read at the beginning of every so many bytes.
    Strided(u64),
    /// So many files in order, one after another; each has the size of the plan.
    Files(u64),
}

/// One reader.
#[derive(Clone, Debug)]
pub struct ReaderPlan {
    /// In which order.
    pub order: Order,
    /// The size of its file.
    pub size_bytes: u64,
    /// It reads the same file as the reader before it.
    pub shared: bool,
    /// How much it reads at a time.
    pub read_bytes: u64,
    /// At most so many bytes per second.
    pub rate: Option<f64>,
    /// Reads arrive so many a second by themselves.
    pub arrivals_per_second: Option<f64>,
    /// When it starts.
    pub start: Duration,
}

impl ReaderPlan {
    /// A reader of its own file from the start, as fast as it goes.
    pub fn new(order: Order, size_bytes: u64, read_bytes: u64) -> ReaderPlan {
        let (rate, arrivals_per_second) = (None, None);
        ReaderPlan { order, size_bytes, shared: false, read_bytes, rate, arrivals_per_second, start: Duration::ZERO }
    }

    fn simulated(&self, id: u64, file: Inode, seed: u64) -> SimReader {
        let pages = self.read_bytes.div_ceil(PAGE_BYTES).max(1);
        let mut reader = SimReader::sequential(id, file, self.size_bytes).reading(pages);
        reader.pattern = match self.order {
            Order::Sequential => Pattern::Sequential,
            Order::Backward => Pattern::Backward,
            Order::Random(left) => Pattern::Random { left, rng: Box::new(StdRng::seed_from_u64(seed)) },
            Order::Strided(bytes) => Pattern::Strided { stride_pages: bytes.div_ceil(PAGE_BYTES) },
            Order::Files(count) => Pattern::Files { left: count.saturating_sub(1) },
        };
        if self.order == Order::Backward {
            reader.position = reader.pages;
        }
        (reader.rate, reader.arrivals_per_second) = (self.rate, self.arrivals_per_second);
        reader.start_at = Time(0) + self.start;
        reader.next_at = reader.start_at;
        reader
    }

    fn demand(&self) -> Demand {
        let read = (self.read_bytes.div_ceil(PAGE_BYTES).max(1) * PAGE_BYTES).min(self.size_bytes.max(1)) as f64;
        let in_file = (self.size_bytes as f64 / read).ceil();
        let (reads, bytes) = match self.order {
            Order::Sequential => return Demand::Stream { bytes: self.size_bytes as f64, rate: self.rate },
            Order::Backward => (in_file, self.size_bytes as f64 / in_file.max(1.0)),
            Order::Random(reads) => (reads as f64, read),
            Order::Strided(stride) => ((self.size_bytes as f64 / stride.max(1) as f64).ceil(), read),
            Order::Files(files) => (files as f64 * in_file, self.size_bytes as f64 / in_file.max(1.0)),
        };
        match self.arrivals_per_second {
            Some(per_second) => Demand::Open { reads, bytes, per_second },
            None => Demand::Chain { reads, bytes, rate: self.rate },
        }
    }
}

/// A file that is prefetched.
#[derive(Clone, Copy, Debug)]
pub struct PrefetchPlan {
    /// Its size.
    pub size_bytes: u64,
    /// When it is asked for.
    pub start: Duration,
}

/// The whole.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// Who serves.
    pub mirrors: Vec<MirrorPlan>,
    /// Who reads.
    pub readers: Vec<ReaderPlan>,
    /// What is prefetched.
    pub prefetches: Vec<PrefetchPlan>,
    /// What the pool holds.
    pub memory_bytes: u64,
    /// Late demand is asked for twice.
    pub hedging: bool,
    /// It ends then at the latest.
    pub until: Duration,
    /// Where its chance comes from.
    pub seed: u64,
}

impl Scenario {
    /// The world in which it happens, not yet begun.
    pub fn world(&self, strategy: Strategy, seed: u64) -> World {
        let mut mirrors: Vec<SimMirror> = self.mirrors.iter().map(|plan| plan.simulated(self.until)).collect();
        if mirrors.len() > MANY_MIRRORS {
            mirrors.iter_mut().for_each(|mirror| mirror.grain = Duration::from_millis(4));
        }
        let settings =
            Settings { strategy, hedging: self.hedging, pool_bytes: self.memory_bytes, ..Settings::default() };
        let mut world = World::with(settings, mirrors, seed);
        world.pool_bytes = Some(self.memory_bytes);
        world.check_every = 0;
        world.listed();
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(1));
        let mut file = Inode(0);
        for (at, plan) in self.readers.iter().enumerate() {
            let id = at as u64 + 1;
            if !plan.shared || at == 0 {
                file = world.open(id, plan.size_bytes);
            }
            world.readers.push(plan.simulated(id, file, rng.random()));
        }
        for (at, plan) in self.prefetches.iter().enumerate() {
            let file = world.open((self.readers.len() + at + 1) as u64, plan.size_bytes);
            world.prefetch(file, plan.start.as_millis() as u64);
        }
        world
    }

    /// The same with one mirror only.
    pub fn alone(&self, mirror: usize) -> Scenario {
        Scenario { mirrors: self.mirrors[mirror..=mirror].to_vec(), ..self.clone() }
    }

    /// Its mirrors for the fluid model.
    pub fn links(&self) -> Vec<Link> {
        self.mirrors.iter().map(|plan| plan.link(self.until)).collect()
    }

    /// Its readers for the fluid model: each from its own second on. Readers of one file want it once.
    pub fn demands(&self) -> Vec<(f64, Demand)> {
        let readers = self.readers.iter().enumerate().map(|(at, plan)| {
            let again = at > 0 && plan.shared && plan.order == Order::Sequential;
            let demand = if again { Demand::Stream { bytes: 0.0, rate: plan.rate } } else { plan.demand() };
            (plan.start.as_secs_f64(), demand)
        });
        let prefetches = self.prefetches.iter().map(|plan| {
            let bytes = Pages::of_file(plan.size_bytes).len_bytes(plan.size_bytes) as f64;
            (plan.start.as_secs_f64(), Demand::Stream { bytes, rate: None })
        });
        readers.chain(prefetches).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::ideal;

    #[test]
    fn what_happens_again_and_again_is_spelled_out_for_both() {
        let mut plan = MirrorPlan::new(40.0, Duration::from_millis(10));
        let change = |at, rate| PlannedChange {
            at: Duration::from_secs(at),
            every: Some(Duration::from_secs(4)),
            change: Change::Rate(rate),
        };
        plan.changes = vec![change(4, 40.0), change(2, 5.0)];
        let link = plan.link(Duration::from_secs(9));
        let rates: Vec<f64> = link.phases.iter().map(|phase| phase.rate).collect();
        assert_eq!(rates, [40.0, 5.0, 40.0, 5.0, 40.0]);
        assert_eq!(plan.simulated(Duration::from_secs(9)).changes.len(), 4);
    }

    #[test]
    fn outages_count_for_the_fluid_model_and_single_requests_do_not() {
        let mut plan = MirrorPlan::new(10.0, Duration::ZERO);
        plan.reset_every = 3;
        let at = |seconds, health| PlannedChange {
            at: Duration::from_secs(seconds),
            every: None,
            change: Change::Health(health),
        };
        plan.changes = vec![at(1, Health::BlackHole), at(3, Health::Up)];
        let link = plan.link(Duration::from_secs(60));
        let demand = [(0.0, Demand::Stream { bytes: 20.0, rate: None })];
        assert_eq!(ideal::seconds(&[link], &demand), 4.0);
    }

    #[test]
    fn demands_follow_the_orders() {
        let of = |order, size, read| ReaderPlan::new(order, size, read).demand();
        let chain = |reads, bytes| Demand::Chain { reads, bytes, rate: None };
        assert_eq!(of(Order::Random(7), 1 << 20, 4096), chain(7.0, 4096.0));
        assert_eq!(of(Order::Strided(1 << 19), 1 << 20, 4096), chain(2.0, 4096.0));
        assert_eq!(of(Order::Files(9), 5000, 1 << 17), chain(9.0, 5000.0));
        assert_eq!(of(Order::Backward, 1 << 18, 1 << 17), chain(2.0, 131_072.0));
    }
}
