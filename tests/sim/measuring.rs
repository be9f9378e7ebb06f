//! What is measured of mirrors while they work, and of those that have nothing to do.

use super::desk::Desk;
use braidfs::chunk::{Class, Inode, MirrorId, MirrorSet, PAGE_BYTES, Pages, ReaderId};
use braidfs::clock::Time;
use braidfs::scheduler::{Action, BreakerState, Event, Failure, Scheduler, Settings};
use braidfs::simulate::mirror::{Change, SimMirror};
use braidfs::simulate::reader::SimReader;
use braidfs::simulate::world::World;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// The mirror that gets 1 MiB of demand at `ms`, while a reader streams from one of 40 MB/s, which drops to 5 MB/s after
/// 2 s, and from one of 15 MB/s.
fn chosen_at(ms: u64, jitter_ms: u64) -> MirrorId {
    let mut mirrors = vec![SimMirror::new(40e6, 10).at(2000, Change::Rate(5e6)), SimMirror::new(15e6, 10)];
    mirrors.iter_mut().for_each(|mirror| mirror.jitter = Duration::from_millis(jitter_ms));
    let mut world = World::new(mirrors, 1);
    world.listed();
    let (file, other) = (world.open(1, 1024 * MIB), world.open(2, 1024 * MIB));
    world.readers.push(SimReader::sequential(1, file, 1024 * MIB));
    world.run_until(ms);
    let seen = &world.scheduler.snapshot(world.now).mirrors[0];
    assert!(seen.in_flight_fetches > 0, "a change can only show where something is in flight: {seen:?}");
    assert_eq!(seen.rate_is_filtered, jitter_ms > 0, "{:?}", seen.jitter);
    world.want(other, Pages::new(0, 256), Class::Demand, 9);
    world.run_until(ms + 1);
    let start = world.starts.iter().find(|(_, _, of, ..)| *of == other).expect("it was asked for at once");
    start.1
}

#[test]
fn a_drop_from_40_to_5_mb_per_second_shows_in_the_choice_within_300_ms() {
    for jitter_ms in [0, 150] {
        assert_eq!(chosen_at(1999, jitter_ms), MirrorId(0), "{jitter_ms} ms of jitter: before");
        assert_eq!(chosen_at(2300, jitter_ms), MirrorId(1), "{jitter_ms} ms of jitter: after");
    }
}

/// A scheduler whose first mirror has the file, and whose others have nothing to do.
struct Idle {
    scheduler: Scheduler,
    now: Time,
    next_page: u64,
    /// What every probe is answered with.
    answer: Result<Duration, Failure>,
    probes: Vec<(Time, MirrorId)>,
}

impl Idle {
    fn new(mirrors: usize) -> Idle {
        let now = Time(1_000_000_000);
        let mut scheduler = Scheduler::new(Settings::default(), mirrors, 1, now);
        let size_bytes = 1 << 40;
        let mirrors = MirrorSet::first(1);
        scheduler.handle(
            now,
            Event::Opened { file: Inode(1), size_bytes, mirrors, held: Vec::new(), rule: Default::default() },
        );
        let answer = Ok(Duration::from_millis(10));
        Idle { scheduler, now, next_page: 0, answer, probes: Vec::new() }
    }

    /// `count` reads of a page, each answered at once.
    fn requests(&mut self, count: u64) {
        for _ in 0..count {
            self.want();
            while let Some(action) = self.scheduler.poll_action(self.now) {
                if let Action::Start { fetch, pages, .. } = action {
                    let events =
                        [Event::FirstByte { fetch }, Event::Arrived { fetch, pages }, Event::Finished { fetch }];
                    events.into_iter().for_each(|event| self.scheduler.handle(self.now, event));
                }
            }
        }
    }

    fn want(&mut self) {
        self.next_page += 2;
        let pages = Pages::new(self.next_page, self.next_page + 1);
        let (reader, deadline) = (ReaderId(1), self.now + Duration::from_secs(30));
        let wanted = Event::Wanted { file: Inode(1), pages, class: Class::Demand, reader, deadline };
        self.scheduler.handle(self.now, wanted);
    }

    /// Time passes; what is asked of the first mirror from here on is not answered.
    fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        loop {
            while let Some(action) = self.scheduler.poll_action(self.now) {
                if let Action::Probe { mirror } = action {
                    self.probes.push((self.now, mirror));
                    self.scheduler.handle(self.now, Event::ProbeDone { mirror, result: self.answer });
                }
            }
            match self.scheduler.poll_timeout() {
                Some(due) if due <= end => self.now = due.max(self.now),
                _ => break,
            }
        }
        self.now = end;
    }
}

#[test]
fn an_idle_mirror_is_probed_once_a_hundred_requests_pay_for_it() {
    // The read that waits is a request itself.
    for (requests, probes) in [(98, 0), (99, 1), (198, 1), (199, 2)] {
        let mut idle = Idle::new(2);
        idle.requests(requests);
        idle.pass(1000);
        idle.want();
        idle.pass(2000);
        assert_eq!(idle.probes.len(), probes, "{requests} requests");
        assert!(idle.probes.iter().all(|&(_, mirror)| mirror == MirrorId(1)), "{:?}", idle.probes);
        let seen = idle.scheduler.snapshot(idle.now);
        assert_eq!((seen.probes, seen.light_probes), (probes as u64, probes as u64));
    }
}

#[test]
fn nobody_is_probed_while_nobody_reads() {
    let mut idle = Idle::new(2);
    idle.requests(1000);
    idle.pass(120_000);
    assert_eq!(idle.probes, []);
    assert_eq!(idle.scheduler.poll_timeout(), None, "nor is anybody woken");
    let streak = |position| Event::Streak { reader: ReaderId(2), file: Inode(1), position, length_pages: 64 };
    idle.scheduler.handle(idle.now, streak(1 << 20));
    idle.pass(2000);
    let probes = idle.probes.len();
    assert!(probes > 0, "one who goes in order reads");
    idle.scheduler.handle(idle.now, Event::Closed { reader: ReaderId(2) });
    idle.pass(10_000);
    assert_eq!(idle.probes.len(), probes);
}

#[test]
fn a_mirror_that_was_heard_of_within_the_window_is_not_probed() {
    for (silent_ms, probed) in [(200, false), (201, true)] {
        let mut idle = Idle::new(2);
        idle.requests(500);
        idle.pass(5000);
        let result = Ok(Duration::from_millis(10));
        idle.scheduler.handle(idle.now, Event::MirrorSeen { mirror: MirrorId(1), result });
        idle.pass(silent_ms - 25);
        idle.want();
        // The first look comes with the first tick, 25 ms after the request.
        idle.pass(25);
        assert_eq!(!idle.probes.is_empty(), probed, "{silent_ms} ms");
    }
}

#[test]
fn idle_mirrors_are_probed_in_turn_and_five_a_second_at_most() {
    let mut idle = Idle::new(20);
    idle.requests(1000);
    idle.pass(1000);
    idle.want();
    idle.pass(1020);
    assert_eq!(idle.probes.len(), 5, "{:?}", idle.probes);
    let mut asked: Vec<MirrorId> = idle.probes.iter().map(|&(_, mirror)| mirror).collect();
    asked.dedup();
    assert!(asked.len() == 5 && asked.is_sorted(), "each once, the one longest unheard of first: {asked:?}");
    idle.pass(10_000);
    assert_eq!(idle.probes.len(), 5, "no more than five are saved up");
}

#[test]
fn a_mirror_that_refuses_probes_is_known_to_be_down_before_it_is_wanted() {
    let mut idle = Idle::new(2);
    idle.requests(500);
    idle.answer = Err(Failure::Unreachable);
    idle.want();
    idle.pass(1500);
    let seen = &idle.scheduler.snapshot(idle.now).mirrors[1];
    assert_eq!((seen.state, seen.error_rate), (BreakerState::Open, Some(1.0)), "{:?}", idle.probes);
}

#[test]
fn one_that_serves_whole_files_only_is_not_asked_for_a_byte() {
    let mut idle = Idle::new(2);
    idle.scheduler.set_ranges(MirrorId(1), false);
    idle.requests(500);
    idle.want();
    idle.pass(2000);
    assert_eq!(idle.probes, []);
}

#[test]
fn probes_teach_latency_and_not_the_rate() {
    let mut idle = Idle::new(2);
    idle.requests(500);
    idle.answer = Ok(Duration::from_millis(70));
    idle.want();
    idle.pass(1500);
    let seen = &idle.scheduler.snapshot(idle.now).mirrors[1];
    assert_eq!((seen.throughput_bytes_per_second, seen.learned.throughput), (None, None));
    let (p50, p99) = seen.first_byte_quantiles.expect("probes were answered");
    for seen in [p50, p99, seen.time_to_first_byte.unwrap()] {
        assert!(seen.abs_diff(Duration::from_millis(70)) < Duration::from_micros(1), "{seen:?}");
    }
    assert!(seen.learned.first_byte.is_some_and(|at| at > idle.now - Duration::from_millis(1500)));
}

#[test]
fn simulated_probes_are_at_most_a_hundredth_of_the_requests_and_go_to_those_at_rest() {
    let mut far = SimMirror::new(40e6, 50);
    far.jitter = Duration::from_millis(5);
    let mut world = World::new(vec![SimMirror::new(40e6, 5), far], 1);
    world.listed();
    let file = world.open(1, 1024 * MIB);
    world.readers.push(SimReader::random(1, file, 1024 * MIB, 1500));
    world.run(120_000);
    let [near, far] = &world.mirrors[..] else { unreachable!("there are two") };
    let requests = near.requests + far.requests;
    assert!(far.probes > 5 && near.probes == 0, "{} of the far one, {} of the near one", far.probes, near.probes);
    assert!(far.probes * 100 <= requests, "{} beside {requests} requests", far.probes);
    let seen = world.scheduler.snapshot(world.now);
    assert_eq!((seen.light_probes, seen.requests), (far.probes, requests));
    let compared = near.compared + far.compared;
    assert!(world.wire_bytes() <= ((requests + compared) * PAGE_BYTES) as f64 + 0.5);
}

#[test]
fn resets_and_stalls_are_counted_and_make_the_window_smaller() {
    let mut mirrors: Vec<_> = (0..2).map(|_| SimMirror::new(20e6, 10)).collect();
    (mirrors[0].reset_every, mirrors[1].stall_every) = (5, 5);
    let mut world = World::new(mirrors, 1);
    world.listed();
    let file = world.open(1, 64 * MIB);
    world.readers.push(SimReader::sequential(1, file, 64 * MIB));
    world.run(60_000);
    let [resets, stalls] = &world.scheduler.snapshot(world.now).mirrors[..] else { unreachable!("there are two") };
    let (one, other) = (resets.connection_stability, stalls.connection_stability);
    assert!(one.resets > 0 && one.reconnects > 0 && one.reconnects <= one.resets, "{one:?}");
    assert!(other.stalls > 0 && other.resets == 0, "{other:?}");
    for seen in [resets, stalls] {
        assert!(seen.error_rate.is_some_and(|rate| (0.02..0.5).contains(&rate)), "{:?}", seen.error_rate);
        assert!(seen.trouble > 0.0 && seen.learned.outcome.is_some(), "{seen:?}");
    }
}

#[test]
fn the_rate_of_a_slow_mirror_that_has_nothing_to_do_is_doubted_slowly() {
    let mut world = World::new(vec![SimMirror::new(20e6, 10), SimMirror::new(30e3, 10)], 1);
    // What the scheduler keeps of it must stay near what it would say anew, whenever somebody looks.
    world.check_every = 17;
    world.listed();
    let (file, slow) = (world.open(1, 1024 * MIB), world.open(2, MIB));
    let mut mirrors = MirrorSet::new();
    mirrors.insert(MirrorId(1));
    world.give(vec![Event::Opened {
        file: slow,
        size_bytes: MIB,
        mirrors,
        held: Vec::new(),
        rule: Default::default(),
    }]);
    world.want(slow, Pages::new(0, 64), Class::Demand, 9);
    world.run_until(10_000);
    let rates = |world: &World| world.scheduler.snapshot(world.now).mirrors[1].throughput_bytes_per_second.unwrap();
    assert!((25e3..35e3).contains(&rates(&world)), "{}", rates(&world));
    let mut reader = SimReader::random(1, file, 1024 * MIB, 800);
    (reader.arrivals_per_second, reader.start_at) = (Some(20.0), world.now);
    world.readers.push(reader);
    let mut seen = vec![rates(&world)];
    for second in 11..=50 {
        world.run_until(second * 1000);
        seen.push(rates(&world));
    }
    assert!(seen.windows(2).all(|pair| pair[1] <= 1.25 * pair[0]), "{seen:?}");
    assert!(seen.last() > Some(&500e3), "in the end it is worth another try: {seen:?}");
}

/// Bodies that come in one piece show no rate, however many there are; and small ones fill no link, however fast.
#[test]
fn a_mirror_that_brings_small_files_whole_is_given_more_of_them_at_a_time() {
    let mut desk = Desk::new(Settings::default(), 1);
    desk.learn(1, 20);
    let (page, deadline) = (Pages::new(0, 1), desk.now + Duration::from_secs(600));
    for file in (100..200).map(Inode) {
        desk.open(file, 1);
        desk.tell(Event::Wanted { file, pages: page, class: Class::Prefetch, reader: ReaderId(1), deadline });
    }
    let started = |desk: &mut Desk| {
        let start = |action| if let Action::Start { fetch, .. } = action { Some(fetch) } else { None };
        desk.decided().into_iter().filter_map(start).collect::<Vec<_>>()
    };
    let at_a_time: Vec<usize> = (0..8)
        .map(|_| {
            let begun = started(&mut desk);
            begun.iter().for_each(|&fetch| desk.tell(Event::Connected { fetch }));
            (0..20).for_each(|_| desk.pass());
            begun.iter().for_each(|&fetch| desk.tell(Event::FirstByte { fetch }));
            for &fetch in &begun {
                desk.tell(Event::Arrived { fetch, pages: page });
                desk.tell(Event::Finished { fetch });
            }
            begun.len()
        })
        .collect();
    assert_eq!(at_a_time, [1, 1, 2, 4, 8, 16, 32, 32]);
}
