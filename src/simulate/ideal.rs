//! What nobody can beat: bytes over the summed bandwidth of what is available over time, and one round trip.
//!
//! A fluid model, written apart from the scheduler and from the simulated links: it knows rates and
//! times only. A stream may be fetched ahead, so its bytes flow all the time; reads that depend on one another
//! cost a round trip each.

/// A mirror as a function of time: from each moment on, so many bytes per second, so far away.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// In order of time; the first from 0.
    pub phases: Vec<Phase>,
}

/// From a moment on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phase {
    /// Seconds.
    pub from: f64,
    /// Bytes per second; 0: it is away.
    pub rate: f64,
    /// Seconds from request to first byte.
    pub latency: f64,
}

impl Link {
    /// One that never changes.
    pub fn steady(rate: f64, latency: f64) -> Link {
        Link { phases: vec![Phase { from: 0.0, rate, latency }] }
    }

    fn at(&self, time: f64) -> Phase {
        let now = self.phases.iter().rev().find(|phase| phase.from <= time);
        now.copied().unwrap_or(Phase { from: 0.0, rate: 0.0, latency: 0.0 })
    }
}

/// What somebody wants, in the order in which he can know it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Demand {
    /// Bytes that can be fetched ahead, taken at `rate` at most.
    Stream {
        /// How many.
        bytes: f64,
        /// At most so many per second, where it takes its time.
        rate: Option<f64>,
    },
    /// Reads of which each is known when the one before has ended.
    Chain {
        /// How many.
        reads: f64,
        /// How large each is.
        bytes: f64,
        /// At most so many bytes per second, where it takes its time.
        rate: Option<f64>,
    },
    /// Reads that arrive by themselves.
    Open {
        /// How many.
        reads: f64,
        /// How large each is.
        bytes: f64,
        /// How many a second.
        per_second: f64,
    },
}

impl Demand {
    fn bytes(&self) -> f64 {
        match *self {
            Demand::Stream { bytes, .. } => bytes,
            Demand::Chain { reads, bytes, .. } | Demand::Open { reads, bytes, .. } => reads * bytes,
        }
    }
}

/// Seconds until all of `demands`, each from its own second on, can be satisfied by `links` together.
/// Infinite, where they never can.
pub fn seconds(links: &[Link], demands: &[(f64, Demand)]) -> f64 {
    let Some(first) = demands.iter().map(|&(start, _)| start).min_by(f64::total_cmp) else { return 0.0 };
    let total = demands.iter().map(|(_, demand)| demand.bytes()).sum();
    let own = demands.iter().map(|&(start, demand)| one(links, start, demand));
    own.fold(stream(links, first, total), f64::max)
}

/// The same by each link alone: which is the best, and how long it takes.
pub fn best_alone(links: &[Link], demands: &[(f64, Demand)]) -> Option<(usize, f64)> {
    let alone = links.iter().map(|link| seconds(std::slice::from_ref(link), demands));
    alone.enumerate().min_by(|(_, one), (_, other)| one.total_cmp(other))
}

fn one(links: &[Link], start: f64, demand: Demand) -> f64 {
    let paced = |bytes: f64, rate: Option<f64>| start + rate.map_or(0.0, |rate| bytes / rate);
    match demand {
        Demand::Stream { bytes, rate } => stream(links, start, bytes).max(paced(bytes, rate)),
        Demand::Chain { reads, bytes, rate } => chain(links, start, reads, bytes).max(paced(reads * bytes, rate)),
        Demand::Open { reads, bytes, per_second } => {
            let last = start + (reads - 1.0).max(0.0) / per_second;
            chain(links, last, 1.0, bytes)
        }
    }
}

/// The moments after `start` at which anything changes, and the end of time.
fn moments(links: &[Link], start: f64) -> Vec<f64> {
    let mut moments: Vec<f64> = links.iter().flat_map(|link| link.phases.iter().map(|phase| phase.from)).collect();
    moments.retain(|&at| at > start);
    moments.push(f64::INFINITY);
    moments.sort_by(f64::total_cmp);
    moments.dedup();
    moments
}

fn stream(links: &[Link], start: f64, bytes: f64) -> f64 {
    if bytes <= 0.0 {
        return start;
    }
    let (mut at, mut left) = (start, bytes);
    // The round trip is that of the nearest mirror that is there when the first request goes out.
    let mut round_trip = None;
    for end in moments(links, start) {
        let live = || links.iter().map(|link| link.at(at)).filter(|phase| phase.rate > 0.0);
        let rate: f64 = live().map(|phase| phase.rate).sum();
        round_trip = round_trip.or(live().map(|phase| phase.latency).min_by(f64::total_cmp));
        if rate > 0.0 && left / rate <= end - at {
            return at + left / rate + round_trip.unwrap_or(0.0);
        }
        left -= if rate > 0.0 { rate * (end - at) } else { 0.0 };
        at = end;
    }
    f64::INFINITY
}

fn chain(links: &[Link], start: f64, reads: f64, bytes: f64) -> f64 {
    let (mut at, mut left) = (start, reads);
    for end in moments(links, start) {
        let each = read_seconds(links, at, bytes);
        if each.is_finite() && left * each <= end - at {
            return at + left * each;
        }
        left -= if each.is_finite() { (end - at) / each } else { 0.0 };
        at = end;
    }
    f64::INFINITY
}

/// One read, asked of all at once: until enough has come from those whose first byte is there by then.
fn read_seconds(links: &[Link], at: f64, bytes: f64) -> f64 {
    let mut live: Vec<Phase> = links.iter().map(|link| link.at(at)).filter(|phase| phase.rate > 0.0).collect();
    live.sort_by(|one, other| one.latency.total_cmp(&other.latency));
    let (mut rate, mut head_start) = (0.0, 0.0);
    let mut best = f64::INFINITY;
    for phase in live {
        rate += phase.rate;
        head_start += phase.rate * phase.latency;
        // The sum of rate times (time after its latency) is `bytes`.
        best = best.min(((bytes + head_start) / rate).max(phase.latency));
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-9 * other.abs().max(1.0), "{one} is not {other}");
    }

    fn streamed(links: &[Link], bytes: f64) -> f64 {
        seconds(links, &[(0.0, Demand::Stream { bytes, rate: None })])
    }

    #[test]
    fn steady_rates_add_up_and_the_nearest_gives_the_round_trip() {
        let links = [5e6, 10e6, 20e6, 40e6].map(|rate| Link::steady(rate, 0.01));
        near(streamed(&links, 75e6), 1.01);
        near(streamed(&[Link::steady(1e6, 0.2), Link::steady(1e6, 0.005)], 2e6), 1.005);
        near(streamed(&links, 0.0), 0.0);
    }

    #[test]
    fn changes_and_outages_are_integrated() {
        let phase = |from, rate| Phase { from, rate, latency: 0.0 };
        let swapping = Link { phases: vec![phase(0.0, 40.0), phase(2.0, 5.0), phase(4.0, 40.0)] };
        near(streamed(std::slice::from_ref(&swapping), 80.0 + 10.0 + 40.0), 5.0);
        let away = Link { phases: vec![phase(0.0, 10.0), phase(1.0, 0.0), phase(6.0, 10.0)] };
        near(streamed(std::slice::from_ref(&away), 15.0), 6.5);
        near(streamed(&[away, swapping], 15.0), 0.3);
        let gone = Link { phases: vec![phase(0.0, 10.0), phase(1.0, 0.0)] };
        assert!(streamed(&[gone], 11.0).is_infinite());
        assert!(streamed(&[], 1.0).is_infinite());
    }

    #[test]
    fn dependent_reads_cost_a_round_trip_each() {
        let links = [Link::steady(1000.0, 0.5), Link::steady(1000.0, 0.01)];
        let chain = |bytes| seconds(&links, &[(1.0, Demand::Chain { reads: 10.0, bytes, rate: None })]);
        near(chain(10.0), 1.0 + 10.0 * 0.02);
        // 980 bytes come from the near one in 0.99 s; with the far one 2000 (t - 0.255) = 980.
        near(chain(980.0), 1.0 + 10.0 * (0.255 + 0.49));
        let open = Demand::Open { reads: 11.0, bytes: 10.0, per_second: 5.0 };
        near(seconds(&links, &[(0.0, open)]), 2.02);
    }

    #[test]
    fn a_reader_that_takes_its_time_and_many_readers_bound_each_other() {
        let links = [Link::steady(100.0, 0.0)];
        let slow = Demand::Stream { bytes: 100.0, rate: Some(10.0) };
        near(seconds(&links, &[(2.0, slow)]), 12.0);
        near(seconds(&links, &[(0.0, slow), (0.0, Demand::Stream { bytes: 1900.0, rate: None })]), 20.0);
    }

    #[test]
    fn the_best_alone_is_named() {
        let links = [Link::steady(1.0, 0.0), Link::steady(100.0, 0.5), Link::steady(50.0, 0.1)];
        let demand = [(0.0, Demand::Stream { bytes: 100.0, rate: None })];
        assert_eq!(best_alone(&links, &demand), Some((1, 1.5)));
        assert_eq!(best_alone(&[], &demand), None);
    }
}
