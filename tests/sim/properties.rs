//! What holds in every scenario, also in those that nobody thought of.
//!
//! A few fixed seeds run each time. For more, fresh ones each time:
//! `BRAIDFS_SIM_SECONDS=3600 cargo nextest run --release -E 'test(whatever_happens)'`; the seed of a failure is
//! printed, and `BRAIDFS_SIM_SEED=n` begins there.

use braidfs::chunk::ReaderId;
use braidfs::clock;
use braidfs::scheduler::{Event, Strategy};
use braidfs::simulate::random;
use braidfs::simulate::scenario::{Order, PrefetchPlan, ReaderPlan, Scenario};
use braidfs::simulate::world::{READ_TIMEOUT, World};
use std::time::Duration;

/// Seeds that run each time: so many take some seconds in a debug build.
const SEEDS: u64 = 12;
/// Invariants are walked after each so many batches: all of them would take all the time.
const CHECK_EVERY: u64 = 17;
/// A tenth of the size is enough for everything to happen, but for what takes seconds.
const SIZE_DIVISOR: u64 = 10;

/// The random scenario of a seed, smaller, every other time with a prefetch beside the readers, and every third with
/// somebody who reads here and there in a file of less than 1 MiB for some seconds: whichever mirror began it may
/// vanish between two reads.
fn scenario(seed: u64) -> Scenario {
    let mut scenario = random::scenario(seed);
    // Whoever goes by first bytes alone may read from the slowest link to the end; each read has its own deadline.
    scenario.until = Duration::from_secs(3600);
    for reader in &mut scenario.readers {
        if scenario.mirrors.len() > 1 {
            reader.size_bytes = (reader.size_bytes / SIZE_DIVISOR).max(10_000);
        }
    }
    if seed.is_multiple_of(2) {
        let bandwidth: f64 = scenario.mirrors.iter().map(|plan| plan.bandwidth).sum();
        let size_bytes = (bandwidth as u64).min(32 << 20);
        scenario.prefetches.push(PrefetchPlan { size_bytes, start: Duration::from_millis(seed % 700) });
    }
    if seed.is_multiple_of(3) {
        let size_bytes = 5_000 + seed.wrapping_mul(7919) % 1_000_000;
        let mut reader = ReaderPlan::new(Order::Random(100), size_bytes, 4096);
        reader.arrivals_per_second = Some(20.0);
        scenario.readers.push(reader);
    }
    scenario
}

/// The promises are those of every strategy; most seeds go to the default one.
fn strategy(seed: u64) -> Strategy {
    Strategy::ALL[(seed % 8).min(3) as usize]
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// Says the seed where an assertion inside of the simulation fails, which does not know it.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("that was seed {}", self.0);
        }
    }
}

fn run(seed: u64, check_every: u64) -> (Scenario, World) {
    let _told = Seed(seed);
    let scenario = scenario(seed);
    let mut world = scenario.world(strategy(seed), seed);
    world.check_every = check_every;
    world.run(scenario.until.as_millis() as u64);
    (scenario, world)
}

/// Every page that was wanted came, once, before its deadline, whatever its class.
fn all_delivered(scenario: &Scenario, world: &World, seed: u64) {
    for (at, reader) in world.readers.iter().enumerate() {
        let plan = &scenario.readers[at];
        assert!(reader.done_at.is_some(), "seed {seed}: reader {at} ({plan:?}) starves: {:?}", reader.waiting);
        assert!(reader.errors.is_empty(), "seed {seed}: reader {at} saw errors: {:?}", reader.errors);
        assert_eq!(reader.timed_out, 0, "seed {seed}: reader {at} waited {:?}", reader.longest_wait);
        assert!(reader.longest_wait < READ_TIMEOUT, "seed {seed}: reader {at} waited {:?}", reader.longest_wait);
    }
    assert!(world.fails.is_empty(), "seed {seed}: a mirror is well, but {:?}", world.fails);
    for (&file, sim) in world.files.iter().filter(|(_, sim)| sim.held.iter().any(|held| !held)) {
        let prefetched = scenario.prefetches.iter().any(|plan| plan.size_bytes == sim.size_bytes);
        assert!(
            !prefetched || file.0 <= scenario.readers.len() as u64,
            "seed {seed}: the prefetch of {file:?} starves"
        );
    }
    assert!(world.useful_bytes >= world.wanted_bytes, "seed {seed}: some pages never came");
}

/// When nobody wants anything any more, nothing is left behind.
fn at_rest(world: &mut World, seed: u64) {
    let readers: Vec<ReaderId> = world.readers.iter().map(|reader| reader.id).collect();
    world.give(readers.into_iter().map(|reader| Event::Closed { reader }).collect());
    let later_ms = world.now.0 / 1_000_000 + 120_000;
    world.run_until(later_ms);
    let seen = world.scheduler.snapshot(world.now);
    let gauges = (seen.in_flight_bytes, seen.queued_bytes, seen.in_flight_fetches, seen.wants, seen.streams);
    assert_eq!(gauges, (0, [0; 3], [0; 3], 0, 0), "seed {seed}");
    assert_eq!(world.scheduler.poll_timeout(), None, "seed {seed}: an idle mount is quiet");
    assert_eq!(world.scheduler.broken_invariant(), None, "seed {seed}");
}

fn check(seed: u64) {
    let (scenario, mut world) = run(seed, CHECK_EVERY);
    all_delivered(&scenario, &world, seed);
    assert!(world.over_pool_max_bytes <= over_pool_allowed(&scenario), "seed {seed}: {}", world.over_pool_max_bytes);
    at_rest(&mut world, seed);
}

/// Only demand may go beyond the pool's limit: what each reader waits for.
fn over_pool_allowed(scenario: &Scenario) -> u64 {
    scenario.readers.iter().map(|plan| plan.read_bytes.next_multiple_of(4096)).sum()
}

#[test]
fn whatever_happens_every_page_comes_once_and_nothing_is_left() {
    let first = environment("BRAIDFS_SIM_SEED").unwrap_or(1);
    let Some(seconds) = environment("BRAIDFS_SIM_SECONDS") else {
        return (first..first + SEEDS).for_each(check);
    };
    let end = clock::now() + Duration::from_secs(seconds);
    // Fresh ones: those of the last run are somebody's regression tests by now.
    let fresh = (clock::unix_seconds() as u64) << 20;
    let mut seed = environment("BRAIDFS_SIM_SEED").unwrap_or(fresh);
    while clock::now() < end {
        check(seed);
        seed += 1;
    }
    println!("seeds to {seed}: all well");
}

/// What fresh seeds found.
#[test]
fn seeds_that_failed_once() {
    // A prefetch beside eight readers at random, left alone at the least share: it never began again.
    check(1_882_840_403_804_756);
    // A prefetch that was served early left its deadline to be woken for.
    check(1_882_843_363_934_362);
    // By first bytes, the best of four was one that sends heads and no bodies: it was asked for ever.
    check(1_882_894_107_674_626);
    // A prefetch left the only mirror that was known idle for readers, had nothing else to wait for, and slept for ever.
    check(1_883_000_000_002_562);
    // A mirror known for just over 100 ms lost more than a tenth of its rate between two looks.
    check(1_884_000_000_005_953);
    // By first bytes, a late fetch went back to the slow mirror that it was taken from, until the read failed.
    check(1_885_000_000_004_674);
    check(1_886_000_000_003_306);
    // The first mirror fell silent before the page came that the others were to be compared with, again and again.
    check(1_887_000_000_002_987);
}

#[test]
fn the_same_seed_gives_the_same_trace_in_any_scenario() {
    let traces = || -> Vec<u64> { (1..5).map(|seed| run(seed, 0).1.trace).collect() };
    let first = traces();
    assert_eq!(first, traces());
    assert!(first.windows(2).all(|pair| pair[0] != pair[1]), "the seed decides");
}

#[test]
fn small_memory_bounds_what_is_fetched_ahead() {
    let mut scenario = scenario(3);
    scenario.memory_bytes = 4 << 20;
    let mut world = scenario.world(Strategy::Adaptive, 3);
    world.run(scenario.until.as_millis() as u64);
    all_delivered(&scenario, &world, 3);
    assert!(world.over_pool_max_bytes <= over_pool_allowed(&scenario), "{} over", world.over_pool_max_bytes);
}
