//! What hedging is for: a reader whose answer does not come waits about as long as if it had been asked elsewhere.

use super::desk::Desk;
use braidfs::chunk::{Class, Pages};
use braidfs::scheduler::{Event, Settings};
use braidfs::simulate::mirror::{Change, Health, SimMirror};
use braidfs::simulate::reader::SimReader;
use braidfs::simulate::world::World;
use std::time::Duration;

const SIZE: u64 = 1 << 30;
const READS: u64 = 250;

/// Eight readers of 64 KiB here and there.
fn world(mirrors: Vec<SimMirror>, hedging: bool) -> World {
    let mut world = World::with(Settings { hedging, ..Settings::default() }, mirrors, 1);
    world.listed();
    let file = world.open(1, SIZE);
    world.readers.extend((1..=8).map(|id| SimReader::random(id, file, SIZE, READS).reading(16)));
    world.run(120_000);
    assert!(world.readers.iter().all(|reader| reader.done_at.is_some()));
    world
}

fn longest_wait(world: &World) -> Duration {
    world.readers.iter().map(|reader| reader.longest_wait).max().unwrap()
}

fn healthy() -> SimMirror {
    SimMirror::new(20e6, 10)
}

fn stalling() -> SimMirror {
    let mut mirror = healthy();
    mirror.stall_every = 2;
    mirror
}

#[test]
fn a_mirror_that_dies_costs_each_reader_one_short_wait() {
    let mirrors = || vec![healthy(), healthy(), healthy().at(700, Change::Health(Health::BlackHole))];
    let with = world(mirrors(), true);
    let hedges = with.scheduler.snapshot(with.now).hedges;
    // 60 ms of silence are unusual in mid-body; then a round trip and what it shares the link with.
    assert!(longest_wait(&with) < Duration::from_millis(100), "{:?}", longest_wait(&with));
    assert!(hedges.won > 0 && hedges.issued < 20, "{hedges:?}");
    let without = world(mirrors(), false);
    assert!(longest_wait(&without) > Duration::from_millis(200), "{:?}", longest_wait(&without));
}

#[test]
fn one_that_stalls_every_second_answer_is_waited_for_no_longer_than_silence_is_unusual() {
    let mirrors = || vec![healthy(), healthy(), stalling()];
    let with = world(mirrors(), true);
    assert!(longest_wait(&with) < Duration::from_millis(110), "{:?}", longest_wait(&with));
    let asked = (8 * READS * 64) << 10;
    let waste = with.wire_bytes() / asked as f64 - 1.0;
    assert!(waste < 0.05, "{waste}");
    assert!(longest_wait(&world(mirrors(), false)) > Duration::from_millis(200));
}

#[test]
fn what_all_mirrors_are_slow_at_is_not_asked_for_twice() {
    let slow =
        || (0..3).map(|_| SimMirror::new(20e6, 10).at(300, Change::Latency(Duration::from_millis(400)))).collect();
    let all = world(slow(), true);
    let hedges = all.scheduler.snapshot(all.now).hedges;
    assert!(hedges.issued < 40, "{hedges:?}");
}

#[test]
fn a_first_byte_is_late_after_a_quarter_more_than_is_unusual_and_not_before_a_tick() {
    // Where nothing deviates, more than the usual is unusual.
    for (latency_ms, late_ms) in [(100, 125), (60, 75), (40, 50), (24, 30), (20, 25), (10, 25), (1, 25)] {
        let mut desk = Desk::of_two(Settings::default(), latency_ms);
        let (fetch, _) = desk.want(Class::Demand, Pages::new(0, 16));
        desk.tell(Event::Connected { fetch });
        let ms = desk.hedged_after_ms();
        assert!((late_ms..=late_ms + 2).contains(&ms), "usual {latency_ms} ms: hedged after {ms}");
    }
}

#[test]
fn a_small_body_is_late_after_60_ms_of_silence() {
    for (pages, late_ms) in [(1, 60), (16, 60), (32, 60)] {
        let mut desk = Desk::of_two(Settings::default(), 10);
        let wanted = Pages::new(0, pages);
        let (fetch, _) = desk.want(Class::Demand, wanted);
        desk.tell(Event::Connected { fetch });
        desk.now = desk.now + Duration::from_millis(10);
        desk.tell(Event::FirstByte { fetch });
        desk.tell(Event::Progress { fetch, total_bytes: 1000 });
        let ms = desk.hedged_after_ms();
        assert!((late_ms..=late_ms + 2).contains(&ms), "{pages} pages: hedged after {ms}");
    }
}
