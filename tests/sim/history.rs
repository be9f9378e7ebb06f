//! A scheduler that is told what an earlier one measured begins where that one ended.

use braidfs::chunk::{Class, MirrorId};
use braidfs::scheduler::{Aged, History};
use braidfs::simulate::mirror::SimMirror;
use braidfs::simulate::reader::SimReader;
use braidfs::simulate::world::World;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 64 * MIB;

/// The rates in MB/s of mirrors 20 ms away, and what is supposed of them.
fn world(rates: &[f64], histories: &[History], seed: u64) -> World {
    let mut world = World::new(rates.iter().map(|rate| SimMirror::new(rate * 1e6, 20)).collect(), seed);
    for (at, &history) in histories.iter().enumerate() {
        world.scheduler.suppose(world.now, MirrorId(at as u16), history);
    }
    world.listed();
    world
}

/// One reader through one file; the seconds that it took.
fn read(world: &mut World, size_bytes: u64) -> f64 {
    let file = world.open(1, size_bytes);
    world.readers.push(SimReader::sequential(1, file, size_bytes));
    world.run(600_000);
    let reader = &world.readers[0];
    assert!(reader.errors.is_empty(), "{:?}", reader.errors);
    reader.done_at.expect("it is through").seconds_since(reader.start_at)
}

/// What a mount of these mirrors learns.
fn learned(rates: &[f64]) -> Vec<History> {
    let mut first = world(rates, &[], 1);
    read(&mut first, 256 * MIB);
    first.scheduler.history(first.now)
}

fn seconds(rates: &[f64], histories: &[History], size_bytes: u64) -> f64 {
    let all: Vec<f64> = (1..=5).map(|seed| read(&mut world(rates, histories, seed), size_bytes)).collect();
    all.iter().sum::<f64>() / all.len() as f64
}

fn rate(mb: f64) -> History {
    History { bytes_per_second: Some(Aged { value: mb * 1e6, age: Duration::ZERO }), ..History::default() }
}

#[test]
fn what_was_measured_is_what_is_told() {
    for (rate, history) in [60.0, 10.0].into_iter().zip(learned(&[60.0, 10.0])) {
        let told = history.bytes_per_second.expect("it was measured").value / 1e6;
        assert!((0.8..1.25).contains(&(told / rate)), "{told} of {rate} MB/s");
        assert!(history.first_byte.is_some() && history.ranges.is_some_and(|ranges| ranges.value), "{history:?}");
    }
}

#[test]
fn the_first_fetch_goes_to_the_fast_mirror_and_is_no_small_one() {
    let rates = [2.0, 100.0, 5.0];
    let histories = learned(&rates);
    for seed in 1..=9 {
        let mut known = world(&rates, &histories, seed);
        read(&mut known, SIZE);
        assert_eq!(known.starts[0].1, MirrorId(1), "seed {seed}");
        // A prefetch has no window that grows, so it shows the size of a first fetch best.
        let mut known = world(&rates, &histories, seed);
        let file = known.open(1, SIZE);
        known.prefetch(file, 0);
        known.run_until(1);
        let (_, _, _, pages, class) = known.starts.iter().find(|start| start.1 == MirrorId(1)).expect("it is asked");
        assert!(*class == Class::Prefetch && pages.count() * 4096 >= 2 * MIB, "seed {seed}: {pages:?}");
        let of_fast = known.starts.iter().filter(|start| start.1 == MirrorId(1)).count();
        assert_eq!(of_fast, 1, "seed {seed}: one fetch, until it has shown that it is what it was");
    }
}

#[test]
fn it_starts_faster() {
    for rates in [&[2.0, 100.0, 5.0][..], &[100.0; 4], &[40.0, 1.0, 1.0, 1.0, 1.0]] {
        let histories = learned(rates);
        for size_bytes in [MIB, 8 * MIB, SIZE] {
            let (without, with) = (seconds(rates, &[], size_bytes), seconds(rates, &histories, size_bytes));
            println!("{rates:?} MB/s, {size_bytes} bytes: {without:.3} s, {with:.3} s with a history");
            assert!(with <= without, "{rates:?} MB/s, {size_bytes} bytes: {without} s, {with} s with a history");
            let unequal = rates[0] != rates[1];
            assert!(!unequal || size_bytes == SIZE || with < 0.6 * without, "{rates:?} MB/s: {without} s, {with} s");
        }
    }
}

#[test]
fn one_that_has_become_slow_costs_no_more_than_its_first_fetch() {
    for now in [0.2, 1.0, 5.0] {
        let rates = [now, 20.0, 20.0];
        let histories = [rate(100.0), rate(20.0), rate(20.0)];
        for size_bytes in [MIB, 8 * MIB, SIZE] {
            let (without, with) = (seconds(&rates, &[], size_bytes), seconds(&rates, &histories, size_bytes));
            println!("{rates:?} MB/s, {size_bytes} bytes: {without:.3} s, {with:.3} s with a wrong history");
            // Who is on trial has 30 ms and two round trips, and the next look is 25 ms later.
            assert!(with <= without + 0.1, "{rates:?} MB/s, {size_bytes} bytes: {without} s, {with} s");
        }
    }
}
