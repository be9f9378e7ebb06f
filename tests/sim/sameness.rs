//! Mirrors that serve other bytes under the same name, size and date: what they cost, and that nothing is mixed.

use braidfs::chunk::{Inode, MirrorId, MirrorSet, PAGE_BYTES};
use braidfs::scheduler::{Event, Settings, Standing, Strategy, Verify};
use braidfs::simulate::mirror::{Change, Health, SimMirror};
use braidfs::simulate::reader::SimReader;
use braidfs::simulate::world::World;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const FILE: Inode = Inode(1);

/// Mirrors of 20 MB/s, 10 ms away, with these contents.
fn mirrors(contents: &[u8]) -> Vec<SimMirror> {
    let mirror = |&content: &u8| {
        let mut mirror = SimMirror::new(20e6, 10);
        mirror.content = content;
        mirror
    };
    contents.iter().map(mirror).collect()
}

fn world(mirrors: Vec<SimMirror>, verify: Verify, size_bytes: u64, seed: u64) -> World {
    world_with(Settings { verify, ..Settings::default() }, mirrors, size_bytes, seed)
}

fn world_with(settings: Settings, mirrors: Vec<SimMirror>, size_bytes: u64, seed: u64) -> World {
    let mut world = World::with(settings, mirrors, seed);
    world.listed();
    world.open(FILE.0, size_bytes);
    world.readers.push(SimReader::sequential(1, FILE, size_bytes));
    world
}

fn read(contents: &[u8], verify: Verify, size_bytes: u64, seed: u64) -> World {
    let mut world = world(mirrors(contents), verify, size_bytes, seed);
    world.run(120_000);
    world
}

/// Which contents the reader was given, with how many pages of each.
fn given(world: &World) -> Vec<(u8, u64)> {
    world
        .delivered
        .iter()
        .filter(|((file, _), _)| *file == FILE)
        .map(|(&(_, content), &pages)| (content, pages))
        .collect()
}

fn compared(world: &World) -> u64 {
    world.mirrors.iter().map(|mirror| mirror.compared).sum()
}

#[test]
fn honest_mirrors_are_all_used_and_comparing_costs_less_than_a_hundredth() {
    for count in [2, 4, 8, 64] {
        let size = 256 * MIB;
        let world = read(&vec![0; count], Verify::First, size, 1);
        assert!(world.readers[0].done_at.is_some() && world.readers[0].errors.is_empty());
        let used = world.mirrors.iter().filter(|mirror| mirror.wire_bytes > 1e6).count();
        let bytes = compared(&world) * PAGE_BYTES;
        println!(
            "{count} mirrors: {used} used, {} comparisons, {:.4} % of the bytes",
            compared(&world),
            bytes as f64 / size as f64 * 100.0
        );
        assert_eq!(used, count);
        assert!(bytes * 100 <= size, "{bytes}");
        assert!(compared(&world) >= count as u64 - 1 + 16, "and again while it is read: {}", compared(&world));
        assert!(world.differing.is_empty());
    }
}

#[test]
fn the_odd_one_of_three_is_left_out_wherever_it_stands() {
    for odd in 0..3 {
        for verify in [Verify::First, Verify::Quorum] {
            for seed in 0..8 {
                let mut contents = [0, 0, 0];
                contents[odd] = 1;
                let world = read(&contents, verify, 64 * MIB, seed);
                let reader = &world.readers[0];
                assert!(reader.done_at.is_some() && reader.errors.is_empty(), "{odd} {verify} {seed}: {reader:?}");
                assert_eq!(world.differing, [(MirrorId(odd as u16), FILE)], "{verify} {seed}");
                let wrong = given(&world).iter().find(|(content, _)| *content == 1).map_or(0, |(_, pages)| *pages);
                // A first read of 128 KiB may have been answered, and what was on its way when the others spoke.
                let most = if verify == Verify::Quorum { 0 } else { 64 };
                assert!(wrong <= most, "{odd} {verify} {seed}: {wrong} pages");
                let standing = world.scheduler.standings(FILE)[odd].1;
                assert!(matches!(standing, Standing::Differs { .. }), "{standing:?}");
            }
        }
    }
}

#[test]
fn two_that_differ_are_never_mixed() {
    for seed in 0..16 {
        let world = read(&[0, 1], Verify::First, 64 * MIB, seed);
        assert!(world.readers[0].done_at.is_some() && world.readers[0].errors.is_empty(), "{seed}");
        assert_eq!(given(&world).len(), 1, "{seed}: {:?}", given(&world));
        assert_eq!(world.differing.len(), 1, "{seed}");
    }
}

#[test]
fn two_that_differ_are_no_quorum() {
    let world = read(&[0, 1], Verify::Quorum, 4 * MIB, 3);
    assert_eq!(given(&world), []);
    assert!(!world.readers[0].errors.is_empty());
}

#[test]
fn when_the_first_of_two_that_differ_is_gone_the_other_does_not_take_over() {
    for seed in 0..8 {
        let mut two = mirrors(&[0, 1]);
        for mirror in &mut two {
            // Whichever is the first.
            mirror.changes.clear();
        }
        let mut world = world(two, Verify::First, 64 * MIB, seed);
        world.run(500);
        let first = world.scheduler.standings(FILE).iter().position(|(_, standing)| *standing == Standing::Agrees);
        world.mirrors[first.unwrap()].health = Health::Refusing;
        world.run(60_000);
        assert_eq!(given(&world).len(), 1, "{seed}: {:?}", given(&world));
    }
}

#[test]
fn a_quorum_costs_a_healthy_mount_nothing() {
    for size in [64 << 10, 900 << 10, 64 * MIB] {
        let ended = [Verify::First, Verify::Quorum].map(|verify| {
            let world = read(&[0, 0, 0], verify, size, 1);
            world.readers[0].done_at.unwrap_or_else(|| panic!("{verify}, {size}: {:?}", world.fails))
        });
        println!("{size}: {:?} and {:?} ns", ended[0].0, ended[1].0);
        assert!(ended[1].0 as f64 <= 1.03 * ended[0].0 as f64, "{size}: {ended:?}");
    }
}

#[test]
fn small_files_come_from_one_mirror_each() {
    for seed in 0..8 {
        let world = read(&[0, 1, 2], Verify::First, 900 << 10, seed);
        assert!(world.readers[0].done_at.is_some());
        assert_eq!((given(&world).len(), compared(&world)), (1, 0), "{seed}");
    }
}

#[test]
fn a_small_file_goes_on_elsewhere_only_where_that_is_the_same() {
    for health in [Health::BlackHole, Health::Refusing, Health::Bodiless, Health::Throttling(60)] {
        for (other, finishes) in [(0, true), (1, false)] {
            // It waits for bytes that are on their way; or has what it asked for, and asks for more later.
            for (rate, hedging) in [(None, true), (Some(400e3), true), (None, false), (Some(400e3), false)] {
                let mut two = mirrors(&[0, other]);
                two.iter_mut().for_each(|mirror| mirror.rate = 1e6);
                let settings = Settings { hedging, ..Settings::default() };
                let mut world = world_with(settings, two, 900 << 10, 5);
                world.readers[0].rate = rate;
                world.run(200);
                let first =
                    world.scheduler.standings(FILE).iter().position(|(_, standing)| *standing == Standing::Agrees);
                world.mirrors[first.unwrap()].health = health;
                world.run(20_000);
                let what = format!("{health:?}, {other}, {rate:?}, {hedging}");
                assert_eq!(world.readers[0].done_at.is_some(), finishes, "{what}: {:?}", world.alerts);
                assert_eq!(given(&world).len(), 1, "{what}");
            }
        }
    }
}

#[test]
fn a_small_file_that_nobody_waited_for_yet_goes_on_elsewhere_too() {
    type Trouble = fn(&mut SimMirror);
    let troubles: [(&str, Trouble); 5] = [
        ("black hole", |mirror| mirror.health = Health::BlackHole),
        ("refusing", |mirror| mirror.health = Health::Refusing),
        ("bodiless", |mirror| mirror.health = Health::Bodiless),
        ("throttling", |mirror| mirror.health = Health::Throttling(60)),
        ("lies", |mirror| mirror.lies = true),
    ];
    for (trouble, happens) in troubles {
        for hedging in [true, false] {
            let settings = Settings { hedging, ..Settings::default() };
            let mut world = world_with(settings, mirrors(&[0, 0]), 900 << 10, 5);
            world.readers[0] = SimReader::random(1, FILE, 900 << 10, 100);
            world.readers[0].arrivals_per_second = Some(50.0);
            world.run(200);
            assert_eq!(compared(&world), 0, "one brings it all");
            let first = world.scheduler.standings(FILE).iter().position(|(_, standing)| *standing == Standing::Agrees);
            happens(&mut world.mirrors[first.unwrap()]);
            world.run(20_000);
            assert!(world.readers[0].done_at.is_some(), "{trouble}, {hedging}: {:?}", world.alerts);
        }
    }
}

#[test]
fn a_small_file_goes_on_elsewhere_where_its_mirror_only_trickles() {
    let mut two = mirrors(&[0, 0]);
    two.iter_mut().for_each(|mirror| mirror.rate = 1e6);
    let mut world = world(two, Verify::First, 900 << 10, 5);
    world.run(200);
    let first = world.scheduler.standings(FILE).iter().position(|(_, standing)| *standing == Standing::Agrees);
    world.mirrors[first.unwrap()].rate = 1000.0;
    world.run(20_000);
    assert!(world.readers[0].done_at.is_some(), "{:?}", world.alerts);
}

#[test]
fn a_mirror_that_is_heard_of_late_helps_where_the_first_only_trickles() {
    for size in [900 << 10, 8 * MIB] {
        let mut two = mirrors(&[0, 0]);
        two.iter_mut().for_each(|mirror| mirror.rate = 1e6);
        let mut world = world(two, Verify::First, size, 5);
        // All of it in one read: it is on its way, and nothing is left to be decided.
        world.readers[0].read_pages = size / PAGE_BYTES;
        let served = |count| Event::Served { file: FILE, mirrors: MirrorSet::first(count), awaited: false };
        world.give(vec![served(1)]);
        world.run(200);
        world.mirrors[0].rate = 10.0;
        // It has been looked for somebody else in vain.
        world.run(5_000);
        assert!(world.readers[0].done_at.is_none());
        world.give(vec![served(2)]);
        world.run(30_000);
        assert!(world.readers[0].done_at.is_some(), "{size}: {:?}", world.alerts);
    }
}

#[test]
fn a_mirror_without_ranges_that_only_trickles_does_not_keep_a_small_file() {
    let mut two = mirrors(&[0, 0]);
    (two[0].ranges, two[0].rate) = (false, 10.0);
    // The other is away when the file is asked for.
    two[1].health = Health::Refusing;
    let mut world = world(two, Verify::First, 40_000, 5);
    world.run(100);
    world.mirrors[1].health = Health::Up;
    world.run(20_000);
    assert!(world.readers[0].done_at.is_some(), "{:?}", world.alerts);
}

#[test]
fn the_first_may_vanish_before_it_has_brought_anything() {
    for health in [Health::BlackHole, Health::Refusing, Health::Bodiless] {
        for victim in 0..2 {
            let mut two = mirrors(&[0, 1]);
            two[victim].health = health;
            let mut world = world(two, Verify::First, 8 * MIB, 2);
            world.run(60_000);
            assert!(world.readers[0].done_at.is_some(), "{health:?} {victim}: {:?}", world.alerts);
            assert_eq!(given(&world).len(), 1, "{health:?} {victim}");
        }
    }
}

/// What a mirror is, and what becomes of it.
fn any_mirror() -> impl proptest::strategy::Strategy<Value = (u8, u64, f64, Option<(u64, u8)>)> {
    (0u8..3, 1u64..80, 1.0f64..40.0, prop::option::of((1u64..3000, 0u8..4)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever mirrors there are and whatever happens to them: what was once believed is dropped before anything else
    /// is, so of what is held at any time all is alike.
    #[test]
    fn nothing_is_ever_mixed(
        all in prop::collection::vec(any_mirror(), 1..6),
        small in any::<bool>(),
        quorum in any::<bool>(),
        strategy in 0usize..4,
        seed in 0u64..1000,
    ) {
        let made = all.iter().map(|&(content, latency_ms, mb, change)| {
            let mut mirror = SimMirror::new(mb * 1e6, latency_ms);
            mirror.content = content;
            match change {
                Some((ms, 0)) => mirror.at(ms, Change::Health(Health::BlackHole)),
                Some((ms, 1)) => mirror.at(ms, Change::Health(Health::Refusing)),
                Some((ms, 2)) => mirror.at(ms, Change::Reset),
                Some((ms, _)) => mirror.at(ms, Change::Rate(2e5)),
                None => mirror,
            }
        });
        let verify = if quorum { Verify::Quorum } else { Verify::First };
        let settings = Settings { verify, strategy: Strategy::ALL[strategy], ..Settings::default() };
        let mut world = World::with(settings, made.collect(), seed);
        world.listed();
        let size_bytes = if small { 700 << 10 } else { 24 * MIB };
        world.open(FILE.0, size_bytes);
        world.readers.push(SimReader::sequential(1, FILE, size_bytes));
        for ms in (20..6000).step_by(20) {
            world.run(ms);
            let mut held = world.held_contents(FILE);
            held.dedup();
            prop_assert!(held.len() <= 1, "at {} ms: {:?} {:?}", ms, held, world.alerts);
        }
        let overturned = world.alerts.iter().any(|(_, _, what)| what.contains("is fetched again"));
        prop_assert!(given(&world).len() <= 1 || overturned, "{:?} {:?}", given(&world), world.alerts);
        if quorum {
            // Only what two serve may come.
            for (content, _) in given(&world) {
                prop_assert!(all.iter().filter(|mirror| mirror.0 == content).count() >= 2);
            }
        }
    }
}
