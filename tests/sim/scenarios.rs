//! What the scheduler must reach, in figures.

use braidfs::chunk::{Class, MirrorId, Pages, ReaderId};
use braidfs::scheduler::{BreakerState, Event, Hopeless, Reason};
use braidfs::simulate::mirror::{Change, Health, SimMirror};
use braidfs::simulate::reader::SimReader;
use braidfs::simulate::world::World;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn mb(rate: f64) -> f64 {
    rate * 1e6
}

/// One reader through one file; returns the world and the rate from start to end in bytes per second.
fn sequential(mirrors: Vec<SimMirror>, size_bytes: u64) -> (World, f64) {
    let mut world = World::new(mirrors, 1);
    world.listed();
    let file = world.open(1, size_bytes);
    world.readers.push(SimReader::sequential(1, file, size_bytes));
    world.run(600_000);
    let rate = finish(&world, size_bytes);
    (world, rate)
}

fn finish(world: &World, size_bytes: u64) -> f64 {
    let reader = &world.readers[0];
    let done = reader.done_at.unwrap_or_else(|| panic!("not done at {:?}: {reader:?}", world.now));
    assert!(reader.errors.is_empty(), "{:?}", reader.errors);
    size_bytes as f64 / done.seconds_since(reader.start_at)
}

fn summary(world: &World) -> String {
    let wire: Vec<String> = world.mirrors.iter().map(|mirror| format!("{:.1}", mirror.wire_bytes / 1e6)).collect();
    let wait = world.readers[0].longest_wait;
    format!("wire MB {wire:?}, longest wait {wait:?}, {} fetches, alerts {:?}", world.starts.len(), world.alerts)
}

#[test]
fn four_equal_mirrors_give_their_sum_in_equal_shares() {
    let size = 256 * MIB;
    let (world, rate) = sequential((0..4).map(|_| SimMirror::new(mb(20.0), 10)).collect(), size);
    println!("{:.3} of the sum; {}", rate / mb(80.0), summary(&world));
    assert!(rate > 0.95 * mb(80.0), "{rate} {}", summary(&world));
    for mirror in &world.mirrors {
        let share = mirror.wire_bytes / size as f64;
        assert!((share - 0.25).abs() < 0.03, "{}", summary(&world));
    }
}

#[test]
fn unequal_mirrors_give_their_sum_each_its_share() {
    let (size, rates) = (1024 * MIB, [5.0, 10.0, 20.0, 40.0]);
    let (world, rate) = sequential(rates.iter().map(|&rate| SimMirror::new(mb(rate), 10)).collect(), size);
    println!("{:.3} of the sum; {}", rate / mb(75.0), summary(&world));
    assert!(rate > 0.95 * mb(75.0), "{rate} {}", summary(&world));
    for (mirror, own) in world.mirrors.iter().zip(rates) {
        let share = mirror.wire_bytes / size as f64 / (own / 75.0);
        assert!((0.85..1.15).contains(&share), "{share} of the share of {own} MB/s; {}", summary(&world));
    }
    assert!(world.wire_bytes() < 1.01 * size as f64, "{}", summary(&world));
}

#[test]
fn long_and_short_ways_mix() {
    let size = 512 * MIB;
    let mirrors = [(20.0, 5), (20.0, 50), (20.0, 200)];
    let (world, rate) = sequential(mirrors.iter().map(|&(rate, ms)| SimMirror::new(mb(rate), ms)).collect(), size);
    println!("{:.3} of the sum; {}", rate / mb(60.0), summary(&world));
    assert!(rate > 0.90 * mb(60.0), "{rate} {}", summary(&world));
}

#[test]
fn many_bad_mirrors_are_never_worse_than_the_good_one_alone() {
    let size = 512 * MIB;
    for bad in [vec![1.0], vec![0.4; 7], vec![0.05; 3]] {
        let (_, alone) = sequential(vec![SimMirror::new(mb(100.0), 10)], size);
        let mut mirrors: Vec<_> = bad.iter().map(|&rate| SimMirror::new(mb(rate), 100)).collect();
        mirrors.push(SimMirror::new(mb(100.0), 10));
        let (world, rate) = sequential(mirrors, size);
        println!("{:.3} of the best alone; {}", rate / alone, summary(&world));
        assert!(rate > 0.98 * alone, "{bad:?}: {rate} of {alone}; {}", summary(&world));
    }
}

#[test]
fn a_mirror_gets_as_many_connections_as_fill_its_link_and_no_more() {
    let size = 512 * MIB;
    let mut limited = SimMirror::new(mb(20.0), 10);
    limited.connection_rate = mb(4.0);
    let (world, rate) = sequential(vec![limited], size);
    println!("4 of 20 MB/s a connection: {:.1} MB/s; {}", rate / 1e6, summary(&world));
    assert!(rate > 0.9 * mb(20.0), "{rate} {}", summary(&world));
    let (world, rate) = sequential(vec![SimMirror::new(mb(20.0), 10)], size);
    println!("one link: {:.1} MB/s, mean {:.2} at a time; {}", rate / 1e6, world.mean_flows(0), summary(&world));
    assert!(rate > 0.97 * mb(20.0), "{rate} {}", summary(&world));
    assert!(world.mean_flows(0) < 2.3, "{} at a time", world.mean_flows(0));
}

#[test]
fn one_mirror_dead_at_start_is_left_out() {
    for health in [Health::Refusing, Health::BlackHole] {
        let mut mirrors: Vec<_> = (0..4).map(|_| SimMirror::new(mb(20.0), 10)).collect();
        mirrors[1].health = health;
        let (world, rate) = sequential(mirrors, 256 * MIB);
        println!("{health:?}: {:.3} of the rest; {}", rate / mb(60.0), summary(&world));
        assert!(rate > 0.88 * mb(60.0), "{health:?}: {rate} {}", summary(&world));
        assert!(world.readers[0].longest_wait < Duration::from_millis(700), "{}", summary(&world));
    }
}

#[test]
fn a_black_hole_in_mid_read_pauses_the_reader_for_less_than_half_a_second() {
    let faults = [
        Change::Health(Health::BlackHole),
        Change::Health(Health::Bodiless),
        Change::Health(Health::Refusing),
        Change::Reset,
        Change::Rate(mb(0.5)),
        Change::Rate(mb(0.02)),
        Change::Health(Health::Throttling(5)),
    ];
    for fault in faults {
        let mut mirrors: Vec<_> = (0..4).map(|_| SimMirror::new(mb(20.0), 10)).collect();
        mirrors[2] = SimMirror::new(mb(20.0), 10).at(2000, fault);
        let size = 256 * MIB;
        let (world, rate) = sequential(mirrors, size);
        println!("{fault:?}: {:.1} MB/s; {}", rate / 1e6, summary(&world));
        let wait = world.readers[0].longest_wait;
        assert!(wait < Duration::from_millis(500), "{fault:?}: {wait:?} {}", summary(&world));
        assert!(rate > 0.9 * mb(60.0), "{fault:?}: {rate} {}", summary(&world));
        assert!(world.wire_bytes() < 1.03 * size as f64, "{fault:?}: {}", summary(&world));
    }
}

#[test]
fn the_fastest_of_unequal_mirrors_throttled_in_mid_fetch_pauses_less_than_a_second() {
    let mirrors = vec![
        SimMirror::new(mb(5.0), 10),
        SimMirror::new(mb(10.0), 10),
        SimMirror::new(mb(40.0), 10).at(2000, Change::Rate(mb(0.5))),
    ];
    let (world, _) = sequential(mirrors, 256 * MIB);
    println!("{}", summary(&world));
    assert!(world.readers[0].longest_wait < Duration::from_secs(1), "{}", summary(&world));
}

#[test]
fn all_but_one_go_in_mid_read_and_the_last_one_brings_the_rest() {
    let mut mirrors: Vec<_> =
        (0..3).map(|at| SimMirror::new(mb(20.0), 10).at(1000 + 5 * at, Change::Health(Health::BlackHole))).collect();
    mirrors.push(SimMirror::new(mb(20.0), 10));
    let (world, _) = sequential(mirrors, 256 * MIB);
    println!("{}", summary(&world));
    assert!(world.readers[0].longest_wait < Duration::from_secs(1), "{}", summary(&world));
}

#[test]
fn a_lone_mirror_that_pauses_or_is_slow_goes_on() {
    let pause =
        SimMirror::new(mb(20.0), 10).at(1000, Change::Health(Health::BlackHole)).at(4000, Change::Health(Health::Up));
    let (world, _) = sequential(vec![pause], 64 * MIB);
    assert!(world.readers[0].longest_wait < Duration::from_millis(3600), "{}", summary(&world));
    let slow = SimMirror::new(20e3, 3000);
    let (world, _) = sequential(vec![slow], MIB);
    assert!(world.fails.is_empty(), "{}", summary(&world));
    let gone =
        SimMirror::new(mb(20.0), 10).at(1000, Change::Health(Health::BlackHole)).at(12_000, Change::Health(Health::Up));
    let mut world = World::new(vec![gone], 1);
    let file = world.open(1, 64 * MIB);
    world.readers.push(SimReader::sequential(1, file, 64 * MIB));
    world.run(60_000);
    let reader = &world.readers[0];
    assert!(reader.done_at.is_some_and(|at| at.0 < 18_000_000_000), "{:?} {}", reader.done_at, summary(&world));
}

#[test]
fn a_mirror_that_comes_back_is_used_again() {
    let mut mirrors: Vec<_> = (0..2).map(|_| SimMirror::new(mb(20.0), 10)).collect();
    mirrors[0] =
        SimMirror::new(mb(20.0), 10).at(1000, Change::Health(Health::BlackHole)).at(4000, Change::Health(Health::Up));
    let (world, _) = sequential(mirrors, 512 * MIB);
    println!("{}", summary(&world));
    assert!(world.mirrors[0].wire_bytes > 150e6, "{}", summary(&world));
    assert!(world.mirrors[0].probes >= 2);
}

#[test]
fn random_reads_fetch_what_was_asked_and_nothing_more() {
    let size = 1024 * MIB;
    let mut world = World::new((0..3).map(|at| SimMirror::new(mb(40.0), 5 + at)).collect(), 1);
    let file = world.open(1, size);
    for id in 0..8 {
        world.readers.push(SimReader::random(id + 1, file, size, 250));
    }
    world.run(120_000);
    let asked: u64 = world.readers.iter().map(|reader| reader.asked_bytes).sum();
    assert!(world.readers.iter().all(|reader| reader.done_at.is_some()));
    assert!(world.wire_bytes() <= asked as f64 + 0.5, "{} for {asked}", world.wire_bytes());
    let pages: u64 = world.starts.iter().map(|(.., pages, _)| pages.count()).sum();
    let compared: u64 = world.mirrors.iter().map(|mirror| mirror.compared).sum();
    assert_eq!(((pages + compared) * 4096, compared), (world.wire_bytes().round() as u64, 2));
    let mean = world.readers[0].done_at.unwrap().seconds_since(world.readers[0].start_at) / 250.0;
    assert!(mean < 0.009, "the nearest mirror answers in 5 ms, a read took {mean} s");
}

#[test]
fn a_sequential_reader_without_a_cache_fetches_each_byte_once() {
    let size = 256 * MIB;
    let mut world = World::new((0..3).map(|_| SimMirror::new(mb(30.0), 10)).collect(), 1);
    (world.drop_read, world.pool_bytes) = (true, Some(64 * MIB));
    let file = world.open(1, size);
    world.readers.push(SimReader::sequential(1, file, size));
    world.run(60_000);
    let rate = finish(&world, size);
    println!("{:.3} of the sum; {}", rate / mb(90.0), summary(&world));
    assert!(world.wire_bytes() <= 1.01 * size as f64, "{}", summary(&world));
    assert!(rate > 0.9 * mb(90.0), "{rate} {}", summary(&world));
}

#[test]
fn sixty_four_readers_of_one_range_make_one_fetch() {
    let mut world = World::new((0..4).map(|_| SimMirror::new(mb(20.0), 10)).collect(), 1);
    world.check_every = 1;
    let file = world.open(1, 64 * MIB);
    for reader in 0..64 {
        world.want(file, Pages::new(100, 132), Class::Demand, reader);
    }
    world.run_until(500);
    assert!(world.all_held(file, Pages::new(100, 132)));
    assert_eq!(world.starts.len(), 1, "{:?}", world.starts);
}

#[test]
fn sixty_four_readers_of_their_own_files_all_go_on() {
    let size = 8 * MIB;
    let mut world = World::new((0..4).map(|_| SimMirror::new(mb(50.0), 5)).collect(), 1);
    (world.drop_read, world.pool_bytes) = (true, Some(64 * MIB));
    world.check_every = 256;
    for id in 0..64 {
        let file = world.open(id + 1, size);
        let reader = SimReader::sequential(id + 1, file, size).reading(256);
        world.readers.push(reader);
    }
    world.run(60_000);
    let worst = world.readers.iter().map(|reader| reader.longest_wait).max().unwrap();
    let done = world.readers.iter().map(|reader| reader.done_at.expect("all done").0).max().unwrap();
    println!("longest wait {worst:?}, all done after {:.2} s, ideal {:.2} s", done as f64 / 1e9, 64.0 * 8.4 / 200.0);
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    assert!((done as f64) < 1.25e9 * 64.0 * 8.4 / 200.0, "{done}");
    assert!(world.wire_bytes() <= 1.02 * (64 * size) as f64, "{}", world.wire_bytes());
}

#[test]
fn a_slow_reader_does_not_make_a_slow_mirror() {
    let size = 32 * MIB;
    let mut world = World::new(vec![SimMirror::new(mb(40.0), 10)], 1);
    let file = world.open(1, size);
    world.readers.push(SimReader::sequential(1, file, size).at_rate(mb(4.0)));
    world.run(60_000);
    let seen = world.scheduler.snapshot(world.now).mirrors[0].throughput_bytes_per_second.unwrap();
    assert!((seen / mb(40.0) - 1.0).abs() < 0.1, "{seen}");
    assert!(world.readers[0].longest_wait < Duration::from_millis(20), "{}", summary(&world));
}

#[test]
fn demand_does_not_queue_behind_a_prefetch() {
    let size = 512 * MIB;
    let mut world = World::new((0..4).map(|_| SimMirror::new(mb(20.0), 10)).collect(), 1);
    let bulk = world.open(1, size);
    let file = world.open(2, size);
    world.want(bulk, Pages::of_file(size), Class::Prefetch, 99);
    world.readers.push(SimReader::random(1, file, size, 100).reading(16).starting(1000));
    world.run(60_000);
    let reader = &world.readers[0];
    let mean = reader.done_at.unwrap().seconds_since(reader.start_at) / 100.0;
    println!("mean {mean}; longest {:?}", reader.longest_wait);
    assert!(reader.longest_wait < Duration::from_millis(100), "{:?}", reader.longest_wait);
}

#[test]
fn prefetch_and_readahead_share_by_weight_and_neither_starves() {
    let size = 256 * MIB;
    let mut world = World::new((0..2).map(|_| SimMirror::new(mb(40.0), 10)).collect(), 1);
    let (bulk, file) = (world.open(1, size), world.open(2, size));
    world.want(bulk, Pages::of_file(size), Class::Prefetch, 99);
    world.readers.push(SimReader::sequential(1, file, size));
    world.run(60_000);
    let prefetched = world.files[&bulk].held.iter().filter(|&&held| held).count() as u64 * 4096;
    let share = prefetched as f64 / (prefetched + size) as f64;
    println!("prefetch got {share:.3}");
    assert!((0.08..0.4).contains(&share), "5 of 35 is 0.14, not {share}");
    world.run_until(60_000);
    assert!(world.all_held(bulk, Pages::of_file(size)), "the prefetch ends too");
}

#[test]
fn offline_is_said_at_once_when_known_and_ends_when_they_are_back() {
    let mirrors = (0..3)
        .map(|_| {
            SimMirror::new(mb(20.0), 10)
                .at(500, Change::Health(Health::Refusing))
                .at(20_000, Change::Health(Health::Up))
        })
        .collect();
    let mut world = World::new(mirrors, 1);
    world.check_every = 1;
    let file = world.open(1, 64 * MIB);
    world.run_until(600);
    world.want(file, Pages::new(0, 32), Class::Demand, 1);
    world.run_until(10_000);
    assert!(world.scheduler.offline(), "{:?}", world.alerts);
    let known = world.fails[0].0;
    assert!(known.0 < 5_000_000_000 && world.fails[0].3 == Hopeless::Offline, "{:?}", world.fails);
    world.want(file, Pages::new(32, 64), Class::Demand, 2);
    assert!(world.fails.iter().any(|&(at, _, pages, _)| at == world.now && pages == Pages::new(32, 64)));
    world.run_until(22_000);
    assert!(!world.scheduler.offline(), "back after 20 s: {:?}", world.alerts);
    world.want(file, Pages::new(0, 32), Class::Demand, 3);
    world.run_until(22_500);
    assert!(world.all_held(file, Pages::new(0, 32)));
}

#[test]
fn black_holes_are_offline_too_and_a_restart_of_the_only_mirror_is_not() {
    let mut world = World::new((0..4).map(|_| SimMirror::new(mb(20.0), 10)).collect(), 1);
    world.mirrors.iter_mut().for_each(|mirror| mirror.health = Health::BlackHole);
    let file = world.open(1, 64 * MIB);
    world.want(file, Pages::new(0, 32), Class::Demand, 1);
    world.run_until(20_000);
    assert!(world.scheduler.offline(), "{:?}", world.alerts);
    let restart =
        SimMirror::new(mb(20.0), 10).at(500, Change::Health(Health::Refusing)).at(2000, Change::Health(Health::Up));
    let (world, _) = sequential(vec![restart], 64 * MIB);
    assert!(
        world.fails.is_empty() && world.readers[0].longest_wait < Duration::from_millis(3500),
        "{}",
        summary(&world)
    );
}

#[test]
fn a_mirror_without_ranges_streams_the_whole_file_once_where_no_other_exists() {
    let mut mirror = SimMirror::new(mb(20.0), 10);
    mirror.ranges = false;
    let (world, _) = sequential(vec![mirror], 32 * MIB);
    assert!(!world.scheduler.has_ranges(MirrorId(0)));
    assert!(world.wire_bytes() <= 1.01 * (32 * MIB) as f64, "{}", summary(&world));
    let mut mirrors = vec![SimMirror::new(mb(200.0), 1), SimMirror::new(mb(20.0), 10)];
    mirrors[0].ranges = false;
    let (world, rate) = sequential(mirrors, 32 * MIB);
    assert!(rate > 0.8 * mb(20.0) && world.mirrors[0].wire_bytes == 0.0, "{}", summary(&world));
}

#[test]
fn a_mirror_that_lies_is_left_out_and_alone_it_is_an_error() {
    let mut mirrors: Vec<_> = (0..3).map(|_| SimMirror::new(mb(20.0), 10)).collect();
    mirrors[0].lies = true;
    let (world, rate) = sequential(mirrors, 64 * MIB);
    assert!(rate > 0.8 * mb(40.0), "{}", summary(&world));
    let seen = world.scheduler.snapshot(world.now);
    assert!(seen.mirrors[0].failures.corrupt > 0 && world.mirrors[0].wire_bytes == 0.0);
    let mut world = World::new(vec![SimMirror::new(mb(20.0), 10)], 1);
    world.mirrors[0].lies = true;
    for file in 1..=3 {
        let file = world.open(file, 64 * MIB);
        world.want(file, Pages::new(0, 32), Class::Demand, 1);
        world.run_until(file.0 * 500);
    }
    assert_eq!(world.fails.iter().map(|fail| fail.3).collect::<Vec<_>>(), [Hopeless::Corrupt; 3]);
    let seen = world.scheduler.snapshot(world.now);
    assert_eq!((seen.mirrors[0].state, seen.mirrors[0].reason), (BreakerState::Open, Some(Reason::Quarantined)));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let mut mirrors: Vec<_> = (0..4).map(|at| SimMirror::new(mb(10.0 + at as f64), 10)).collect();
        mirrors[1] = SimMirror::new(mb(20.0), 10).at(500, Change::Health(Health::BlackHole));
        mirrors[2] = SimMirror::new(mb(20.0), 10).at(800, Change::Health(Health::Refusing));
        let mut world = World::new(mirrors, seed);
        let file = world.open(1, 64 * MIB);
        world.readers.push(SimReader::sequential(1, file, 64 * MIB));
        world.readers.push(SimReader::random(2, file, 64 * MIB, 50));
        world.run(30_000);
        (world.trace, world.starts.len())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0, "the seed decides the jitter");
}

#[test]
fn our_own_silence_is_not_blamed_on_the_mirrors() {
    let mut world = World::new((0..3).map(|_| SimMirror::new(mb(20.0), 10)).collect(), 1);
    let file = world.open(1, 256 * MIB);
    world.readers.push(SimReader::sequential(1, file, 256 * MIB));
    for at in 1..=4 {
        world.run(at * 800);
        world.freeze(400);
    }
    world.run(60_000);
    assert!(world.alerts.is_empty(), "{:?}", world.alerts);
    assert!(world.wire_bytes() < 1.01 * (256 * MIB) as f64, "{}", summary(&world));
}

#[test]
fn a_reader_that_leaves_takes_its_queue_with_it_and_wastes_little() {
    let mut world = World::new((0..3).map(|_| SimMirror::new(mb(20.0), 10)).collect(), 1);
    world.check_every = 1;
    let file = world.open(1, 1024 * MIB);
    world.readers.push(SimReader::sequential(1, file, 1024 * MIB));
    world.run(3000);
    assert!(world.scheduler.snapshot(world.now).queued_bytes[1] > 0);
    let started = world.starts.len();
    world.readers[0].done_at = Some(world.now);
    world.give(vec![Event::Closed { reader: ReaderId(1) }]);
    let seen = world.scheduler.snapshot(world.now);
    assert_eq!((seen.queued_bytes[1], seen.streams), (0, 0));
    world.run_until(4000);
    assert!(world.starts.len() <= started + 1, "what was waited for may start; nothing else");
    assert_eq!(world.scheduler.snapshot(world.now).in_flight_bytes, 0);
}

#[test]
fn rates_that_swap_are_followed() {
    let swapping = |first: f64, second: f64| {
        (1..60).fold(SimMirror::new(mb(first), 10), |mirror, at| {
            mirror.at(at * 2000, Change::Rate(mb(if at % 2 == 1 { second } else { first })))
        })
    };
    let (world, rate) = sequential(vec![swapping(40.0, 5.0), swapping(5.0, 40.0)], 512 * MIB);
    println!("{:.3} of the sum; {}", rate / mb(45.0), summary(&world));
    assert!(rate > 0.9 * mb(45.0), "{rate} {}", summary(&world));
}

/// A mirror that does something bad at some time, out of what a seed makes of it.
fn bad_mirror(rng: &mut StdRng) -> SimMirror {
    let mirror = SimMirror::new(mb(rng.random_range(0.2..50.0)), rng.random_range(1..200));
    let at = rng.random_range(0..3000);
    let fault = match rng.random_range(0..8) {
        0 => Change::Health(Health::BlackHole),
        1 => Change::Health(Health::Bodiless),
        2 => Change::Health(Health::Refusing),
        3 => Change::Health(Health::Throttling(2)),
        4 => Change::Reset,
        5 => Change::Rate(mb(0.1)),
        6 => Change::Rate(mb(80.0)),
        _ => return mirror,
    };
    let mirror = mirror.at(at, fault);
    if rng.random() { mirror.at(at + rng.random_range(500..4000), Change::Health(Health::Up)) } else { mirror }
}

#[test]
fn while_one_mirror_is_well_no_reader_sees_an_error_whatever_the_others_do() {
    let size = 64 * MIB;
    let (mut worst_wait, mut worst_waste, mut worst_rate) = (Duration::ZERO, 0.0f64, f64::MAX);
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let good_rate = mb(rng.random_range(5.0..50.0));
        let mut mirrors = vec![SimMirror::new(good_rate, rng.random_range(1..100))];
        mirrors.extend((0..rng.random_range(0..5)).map(|_| bad_mirror(&mut rng)));
        let mut world = World::new(mirrors, seed);
        let file = world.open(1, size);
        world.readers.push(SimReader::sequential(1, file, size));
        world.readers.push(SimReader::random(2, file, size, 30));
        world.run(60_000);
        let rate = finish(&world, size);
        assert!(world.fails.is_empty(), "seed {seed}: {:?}", world.fails);
        let wait = world.readers.iter().map(|reader| reader.longest_wait).max().unwrap();
        println!("seed {seed}: {:.2} of the good one, wait {wait:?}; {}", rate / good_rate, summary(&world));
        worst_wait = worst_wait.max(wait);
        worst_rate = worst_rate.min(rate / good_rate);
        worst_waste = worst_waste.max(world.wire_bytes() / size as f64 - 1.0);
    }
    println!("worst: wait {worst_wait:?}, waste {worst_waste:.3}, {worst_rate:.3} of the good mirror alone");
    assert!(worst_wait < Duration::from_secs(2) && worst_waste < 0.15, "{worst_wait:?} {worst_waste}");
    assert!(worst_rate > 0.75, "{worst_rate}");
}

#[test]
fn at_rest_all_gauges_are_zero() {
    let size = 16 * MIB;
    let mut world = World::new((0..3).map(|_| SimMirror::new(mb(20.0), 10)).collect(), 1);
    let file = world.open(1, size);
    world.readers.push(SimReader::sequential(1, file, size));
    world.run_until(60_000);
    let seen = world.scheduler.snapshot(world.now);
    assert_eq!((seen.in_flight_bytes, seen.queued_bytes, seen.in_flight_fetches, seen.wants), (0, [0; 3], [0; 3], 0));
    assert_eq!(world.scheduler.poll_timeout(), None, "an idle mount is quiet");
}

#[test]
fn readers_in_order_that_outrun_their_readahead_do_not_throttle_it() {
    let size = 24 * MIB;
    let mirrors = [(0.7, 2), (0.9, 8), (8.5, 158), (2.0, 121)];
    let mut world = World::new(mirrors.map(|(rate, latency)| SimMirror::new(mb(rate), latency)).into(), 1);
    world.listed();
    for id in 1..=4 {
        let file = world.open(id, size);
        world.readers.push(SimReader::sequential(id, file, size));
    }
    world.run(60_000);
    assert_eq!(world.scheduler.snapshot(world.now).background_share, 1.0);
    let rate = finish(&world, 4 * size);
    assert!(rate > 0.85 * mb(12.1), "{rate}: {}", summary(&world));
}
