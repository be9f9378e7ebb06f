//! Rate caps and tiers (spec 1.7), in figures.

use braidfs::chunk::{Class, MirrorId, Pages};
use braidfs::scheduler::{Event, Settings, Strategy};
use braidfs::simulate::mirror::{Change, Health, SimMirror};
use braidfs::simulate::reader::SimReader;
use braidfs::simulate::world::World;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// Bytes on the wire are looked at so often.
const LOOK_MS: u64 = 10;

fn world(mirrors: Vec<SimMirror>, settings: Settings) -> World {
    let mut world = World::with(settings, mirrors, 1);
    world.listed();
    world
}

/// Read a file in order and return the wire bytes of each mirror at each look.
fn stream(world: &mut World, size_bytes: u64, until_ms: u64) -> Vec<Vec<f64>> {
    let file = world.open(1, size_bytes);
    world.readers.push(SimReader::sequential(1, file, size_bytes));
    let mut looks = Vec::new();
    for at in 1..=until_ms / LOOK_MS {
        world.run(at * LOOK_MS);
        looks.push(world.mirrors.iter().map(|mirror| mirror.wire_bytes).collect());
    }
    looks
}

/// The most that came in any second, by `of` each look.
fn most_in_a_second(looks: &[Vec<f64>], of: impl Fn(&Vec<f64>) -> f64) -> f64 {
    let second = 1000 / LOOK_MS as usize;
    looks.windows(second + 1).map(|span| of(&span[second]) - of(&span[0])).fold(0.0, f64::max)
}

#[test]
fn a_capped_mirror_brings_its_cap_and_in_no_second_more_than_5_percent_above() {
    for (cap, latency_ms) in [(20e6, 10), (20e6, 100), (5e6, 20), (2e6, 5)] {
        let mut world = world(vec![SimMirror::new(100e6, latency_ms)], Settings::default());
        world.scheduler.set_rate_limit(world.now, MirrorId(0), Some(cap));
        let looks = stream(&mut world, 256 * MIB, 5000);
        let most = most_in_a_second(&looks, |look| look[0]);
        let mean = looks.last().unwrap()[0] / 5.0;
        println!("cap {cap:.0}, {latency_ms} ms: most {:.3} of it, mean {:.3}", most / cap, mean / cap);
        assert!(most < 1.05 * cap, "{most} in a second of {cap}");
        assert!(mean > 0.9 * cap, "{mean} of {cap}");
    }
}

#[test]
fn the_other_mirrors_make_up_for_one_that_is_capped() {
    let mut world = world(vec![SimMirror::new(100e6, 10), SimMirror::new(20e6, 10)], Settings::default());
    world.scheduler.set_rate_limit(world.now, MirrorId(0), Some(10e6));
    let looks = stream(&mut world, 256 * MIB, 5000);
    let rates: Vec<f64> = looks.last().unwrap().iter().map(|bytes| bytes / 5.0).collect();
    println!("{rates:?}");
    assert!(rates[0] > 9e6 && rates[0] < 10.5e6 && rates[1] > 18e6, "{rates:?}");
}

#[test]
fn the_cap_of_all_holds_for_all_together_whatever_the_strategy() {
    for strategy in Strategy::ALL {
        let settings = Settings { rate_limit: Some(20_000_000), strategy, ..Settings::default() };
        let mut world = world((0..3).map(|at| SimMirror::new(40e6, 10 + at)).collect(), settings);
        let looks = stream(&mut world, 256 * MIB, 5000);
        let sum = |look: &Vec<f64>| look.iter().sum::<f64>();
        let (most, mean) = (most_in_a_second(&looks, sum), sum(looks.last().unwrap()) / 5.0);
        println!("{strategy}: most {:.3} of the cap, mean {:.3}", most / 20e6, mean / 20e6);
        assert!(most < 1.05 * 20e6, "{strategy}: {most}");
        assert!(mean > 0.9 * 20e6, "{strategy}: {mean}");
    }
}

#[test]
fn random_reads_and_prefetch_keep_to_the_cap_too_and_demand_comes_first() {
    let settings = Settings { rate_limit: Some(8_000_000), ..Settings::default() };
    let mut world = world(vec![SimMirror::new(100e6, 5), SimMirror::new(100e6, 7)], settings);
    let (file, job) = (world.open(1, 1024 * MIB), world.open(2, 256 * MIB));
    world.readers.push(SimReader::random(1, file, 1024 * MIB, 400));
    world.want(job, Pages::of_file(256 * MIB), Class::Prefetch, 9);
    let mut looks = Vec::new();
    for at in 1..=400 {
        world.run_until(at * LOOK_MS);
        looks.push(vec![world.wire_bytes()]);
    }
    let most = most_in_a_second(&looks, |look| look[0]);
    let reader = &world.readers[0];
    println!("most {:.3} of the cap, {} reads, longest wait {:?}", most / 8e6, reader.reads, reader.longest_wait);
    assert!(most < 1.05 * 8e6, "{most}");
    assert!(reader.done_at.is_some() && reader.longest_wait < Duration::from_millis(100), "{reader:?}");
}

#[test]
fn a_cap_that_is_lifted_is_forgotten_and_an_idle_one_wakes_nobody() {
    let settings = Settings { rate_limit: Some(1_000_000), ..Settings::default() };
    let mut world = world(vec![SimMirror::new(100e6, 5)], settings);
    let looks = stream(&mut world, 4 * MIB, 10_000);
    assert!(world.readers[0].done_at.is_some(), "{looks:?}");
    world.give(vec![Event::Closed { reader: world.readers[0].id }]);
    world.run_until(200_000);
    assert_eq!(world.scheduler.poll_timeout(), None);
    world.give(vec![Event::SettingsChanged { settings: Box::default() }]);
    let file = world.open(2, 64 * MIB);
    world.readers.push(SimReader::sequential(2, file, 64 * MIB));
    world.run(202_000);
    assert!(world.readers[1].done_at.is_some());
}

fn tiered(mirrors: Vec<SimMirror>, strategy: Strategy) -> World {
    let mut world = world(mirrors, Settings { strategy, ..Settings::default() });
    world.scheduler.set_tier(MirrorId(1), 5);
    world
}

#[test]
fn the_paid_mirror_is_untouched_while_a_free_one_is_up_however_slow() {
    for strategy in Strategy::ALL {
        let mut slow = SimMirror::new(4e6, 80);
        (slow.jitter, slow.wobble, slow.reset_every) = (Duration::from_millis(60), 0.5, 9);
        let mut world = tiered(vec![slow, SimMirror::new(100e6, 5)], strategy);
        let file = world.open(9, 1024 * MIB);
        world.readers.push(SimReader::random(9, file, 1024 * MIB, 50));
        stream(&mut world, 32 * MIB, 20_000);
        assert!(world.readers.iter().all(|reader| reader.done_at.is_some()), "{strategy}");
        assert_eq!(world.mirrors[1].requests, 0, "{strategy}");
    }
}

#[test]
fn the_paid_mirror_is_used_when_the_free_one_is_down_and_left_when_it_is_back() {
    for down in [Health::Refusing, Health::BlackHole] {
        let free = SimMirror::new(20e6, 10).at(1000, Change::Health(down)).at(5000, Change::Health(Health::Up));
        let mut world = tiered(vec![free, SimMirror::new(20e6, 10)], Strategy::Adaptive);
        let looks = stream(&mut world, 512 * MIB, 12_000);
        let paid = |ms: u64| looks[(ms / LOOK_MS) as usize - 1][1];
        println!("{down:?}: paid {} until 1 s, {} until 5 s, {} in the end", paid(1000), paid(5000), paid(12_000));
        assert_eq!(paid(1000), 0.0);
        assert!(paid(5000) > 0.8 * 3.0 * 20e6, "{down:?}: {}", paid(5000));
        // Probes are 4 s apart by then.
        assert_eq!(paid(12_000), paid(10_000), "{down:?}: left again");
        assert!(world.readers[0].longest_wait < Duration::from_secs(1), "{:?}", world.readers[0].longest_wait);
    }
}

#[test]
fn who_cannot_wait_for_the_free_mirror_gets_the_paid_one() {
    for (deadline_ms, paid) in [(800, 1), (30_000, 0)] {
        let mut world = tiered(vec![SimMirror::new(1e6, 2000), SimMirror::new(20e6, 10)], Strategy::Adaptive);
        let file = world.open(1, 64 * MIB);
        let deadline = world.now + Duration::from_millis(deadline_ms);
        let (pages, class, reader) = (Pages::new(0, 1), Class::Demand, braidfs::chunk::ReaderId(1));
        world.give(vec![Event::Wanted { file, pages, class, reader, deadline }]);
        assert_eq!((world.mirrors[1].requests, world.mirrors[0].requests), (paid, 1 - paid), "{deadline_ms} ms");
    }
}

#[test]
fn explain_shows_the_mirrors_that_were_left_out_for_their_tier() {
    let mut world = tiered(vec![SimMirror::new(1e6, 50), SimMirror::new(20e6, 10)], Strategy::Adaptive);
    let file = world.open(1, 64 * MIB);
    world.want(file, Pages::new(0, 1), Class::Demand, 1);
    let decided = *world.scheduler.decisions().next().unwrap();
    let tiers: Vec<(u16, bool)> = decided
        .best
        .iter()
        .flatten()
        .map(|it| (it.mirror.0, it.score.terms[braidfs::scheduler::strategy::Term::Tier as usize] > 0.0))
        .collect();
    assert_eq!((tiers, decided.considered), (vec![(0, false), (1, true)], 2));
}
