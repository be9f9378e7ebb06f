//! What each class does when a fetch fails (spec 3.3), and what path rules make of readers (3.1).

use braidfs::chunk::{Class, FetchId, Inode, MirrorId, MirrorSet, Pages, ReaderId};
use braidfs::clock::Time;
use braidfs::scheduler::{Action, Event, Failure, FileRule, Hopeless, Scheduler, Settings};
use braidfs::simulate::mirror::SimMirror;
use braidfs::simulate::reader::SimReader;
use braidfs::simulate::world::World;
use std::time::Duration;

const FILE: Inode = Inode(1);
const SIZE: u64 = 1 << 30;
const MS: u64 = 1_000_000;

/// A scheduler with its driver's part done by hand.
struct Bench {
    scheduler: Scheduler,
    now: Time,
    starts: Vec<(Time, FetchId, MirrorId, Pages, Class)>,
    fails: Vec<(Pages, Hopeless)>,
    alerts: usize,
}

impl Bench {
    fn new(mirrors: usize, rule: FileRule) -> Bench {
        let scheduler = Scheduler::new(Settings::default(), mirrors, 1, Time(0));
        let now = Time(1_000 * MS);
        let mut bench = Bench { scheduler, now, starts: Vec::new(), fails: Vec::new(), alerts: 0 };
        let mirrors = MirrorSet::first(mirrors);
        bench.give(Event::Opened { file: FILE, size_bytes: SIZE, mirrors, held: Vec::new(), rule });
        bench
    }

    fn give(&mut self, event: Event) {
        self.scheduler.handle(self.now, event);
        while let Some(action) = self.scheduler.poll_action(self.now) {
            match action {
                Action::Start { fetch, mirror, pages, class, .. } => {
                    self.starts.push((self.now, fetch, mirror, pages, class));
                }
                Action::Fail { pages, why, .. } => self.fails.push((pages, why)),
                Action::Alert { .. } => self.alerts += 1,
                Action::Probe { mirror } => {
                    self.scheduler.handle(self.now, Event::ProbeDone { mirror, result: Ok(Duration::from_millis(9)) });
                }
                _ => {}
            }
        }
        assert_eq!(self.scheduler.broken_invariant(), None);
    }

    fn want(&mut self, pages: Pages, class: Class) {
        let deadline = self.now + Duration::from_secs(60);
        self.give(Event::Wanted { file: FILE, pages, class, reader: ReaderId(1), deadline });
    }

    /// The last fetch fails at once; time goes on until the next one starts, for `ms` at most. Did one?
    fn fail(&mut self, failure: Failure, ms: u64) -> bool {
        let (before, &(_, fetch, ..)) = (self.starts.len(), self.starts.last().unwrap());
        self.give(Event::Failed { fetch, failure });
        let until = self.now + Duration::from_millis(ms);
        while self.starts.len() == before && self.now < until {
            self.now = self.now + Duration::from_millis(1);
            self.give(Event::Tick);
        }
        self.starts.len() > before
    }
}

#[test]
fn demand_that_fails_is_tried_until_its_deadline_later_and_later_with_an_alert_each_time() {
    let gaps = |seed: u64| {
        let mut bench = Bench::new(1, FileRule::default());
        // Chance comes from the seed; another time is another place in it.
        (0..seed).for_each(|_| bench.now = bench.now + Duration::from_millis(1));
        bench.want(Pages::new(0, 8), Class::Demand);
        for tries in 1..=6 {
            assert!(bench.fail(Failure::Unreachable, 30_000), "after {tries} failures");
            assert!(bench.alerts >= tries && bench.scheduler.snapshot(bench.now).alerts >= tries as u64);
        }
        assert!(bench.fails.is_empty());
        let times: Vec<Time> = bench.starts.iter().map(|start| start.0).collect();
        times.windows(2).map(|pair| pair[1].since(pair[0])).collect::<Vec<_>>()
    };
    let gaps = gaps(0);
    println!("{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(50)), "no tight loop: {gaps:?}");
    // A rest of 50 to 100 ms, then the breaker: 500 ms, a quarter more or less. Time goes by in milliseconds.
    let (rest, wait) = (50..=101, 375..=626);
    assert!(rest.contains(&gaps[0].as_millis()) && wait.contains(&gaps[1].as_millis()), "later and later: {gaps:?}");
    assert!(gaps.windows(2).all(|pair| pair[0] != pair[1]), "jitter: {gaps:?}");
}

#[test]
fn readahead_tries_after_two_failures_and_is_left_to_demand_after_three() {
    let mut bench = Bench::new(5, FileRule::default());
    bench.want(Pages::new(0, 8), Class::Readahead);
    for failures in 1..=3 {
        assert_eq!(bench.fail(Failure::Unreachable, 200), failures < 3, "after {failures}");
    }
    assert!(bench.fails.is_empty() && bench.alerts == 0, "nobody waits: nobody is told");
    let before = bench.starts.len();
    bench.want(Pages::new(0, 8), Class::Demand);
    assert_eq!((bench.starts.len(), bench.starts[before].4), (before + 1, Class::Demand));
}

#[test]
fn prefetch_moves_to_another_mirror_and_is_reported_where_there_is_none() {
    for (mirrors, moves) in [(1, 0), (2, 1), (3, 2), (9, 2)] {
        let mut bench = Bench::new(mirrors, FileRule::default());
        bench.want(Pages::new(0, 8), Class::Prefetch);
        let mut asked = vec![bench.starts[0].2];
        while bench.fail(Failure::Unreachable, 20) {
            let (_, _, mirror, ..) = *bench.starts.last().unwrap();
            assert!(!asked.contains(&mirror), "no mirror is asked again: {asked:?}");
            asked.push(mirror);
        }
        assert_eq!((asked.len() - 1, bench.fails.len()), (moves, 1), "{mirrors} mirrors");
        assert_eq!(bench.fails[0], (Pages::new(0, 8), Hopeless::Offline));
        bench.now = bench.now + Duration::from_secs(5);
        bench.give(Event::Tick);
        assert_eq!(bench.starts.len(), moves + 1, "left alone until somebody asks again");
        bench.want(Pages::new(0, 8), Class::Prefetch);
        assert_eq!(bench.starts.len(), moves + 2, "the next pass");
    }
}

#[test]
fn a_reader_that_a_rule_makes_readahead_is_demand_after_three_failures() {
    for class in [Class::Readahead, Class::Prefetch] {
        let mut bench = Bench::new(5, FileRule { class, objective: None });
        bench.want(Pages::new(0, 8), Class::Demand);
        assert_eq!(bench.starts[0].4, class);
        let mut failures = 0;
        while bench.starts.last().unwrap().4 == class {
            failures += 1;
            assert!(bench.fail(Failure::Unreachable, 200), "a reader waits: it must go on");
        }
        assert_eq!((failures, bench.starts.last().unwrap().4), (3, Class::Demand));
        assert!(bench.fails.is_empty());
    }
}

#[test]
fn a_ruled_reader_goes_on_without_memory_for_the_background_and_outlives_its_streak() {
    let mut bench = Bench::new(1, FileRule { class: Class::Readahead, objective: None });
    bench.give(Event::BudgetChanged { background_bytes: 0 });
    bench.want(Pages::new(100, 140), Class::Demand);
    assert_eq!(
        (bench.starts.len(), bench.starts[0].3),
        (1, Pages::new(100, 128)),
        "a first fetch, to the end of a chunk"
    );
    bench.give(Event::Closed { reader: ReaderId(1) });
    assert_eq!(bench.scheduler.snapshot(bench.now).wants, 1, "the kernel waits for it still");
}

#[test]
fn ruled_readers_are_served_after_true_demand_and_do_not_starve() {
    let mut world = World::new(vec![SimMirror::new(20e6, 10)], 1);
    world.listed();
    let (plain, ruled) = (world.open(1, SIZE), world.open(2, SIZE));
    let rule = FileRule { class: Class::Readahead, objective: None };
    let mirrors = MirrorSet::first(1);
    world.give(vec![Event::Opened { file: ruled, size_bytes: SIZE, mirrors, held: Vec::new(), rule }]);
    for id in 1..=32 {
        let (file, reads) = if id % 2 == 0 { (ruled, 60) } else { (plain, 60) };
        world.readers.push(SimReader::random(id, file, SIZE, reads).reading(32));
    }
    world.run(120_000);
    let end = |odd: bool| {
        let of = world.readers.iter().filter(|reader| (reader.id.0 % 2 == 1) == odd);
        of.map(|reader| reader.done_at.expect("it must end").0).max().unwrap() / MS
    };
    println!("demand ends at {} ms, ruled readers at {} ms", end(true), end(false));
    assert!(world.readers.iter().all(|reader| reader.errors.is_empty() && reader.timed_out == 0));
    assert!(end(false) > end(true) * 3 / 2, "{} after {}", end(false), end(true));
}
