//! A fetch that a reader waits for, and connections beside it that take the link for themselves.

use braidfs::chunk::{Class, FetchId, Inode, MirrorSet, PAGE_BYTES, Pages, ReaderId};
use braidfs::clock::Time;
use braidfs::scheduler::{Action, Event, Failure, FileRule, Scheduler, Settings};
use braidfs::simulate::mirror::{Change, Health, SimMirror};
use braidfs::simulate::reader::SimReader;
use braidfs::simulate::world::World;
use std::time::Duration;

const FILE: Inode = Inode(1);
const PAGES: u64 = 1 << 18;
const MS: u64 = 1_000_000;
/// What the mirror's link carries in a millisecond.
const LINK_BYTES: u64 = 20_000;

/// One mirror whose link its fetches share as they are told to, a prefetch without end, and a reader.
struct Link {
    scheduler: Scheduler,
    now: Time,
    running: Vec<Running>,
    started: [usize; 3],
}

struct Running {
    fetch: FetchId,
    class: Class,
    pages: Pages,
    told_bytes: u64,
}

impl Link {
    fn new() -> Link {
        let now = Time(1_000_000_000);
        let mut scheduler = Scheduler::new(Settings::default(), 1, 1, now);
        let (size_bytes, mirrors) = (PAGES * PAGE_BYTES, MirrorSet::first(1));
        let rule = FileRule::default();
        scheduler.handle(now, Event::Opened { file: FILE, size_bytes, mirrors, held: Vec::new(), rule });
        Link { scheduler, now, running: Vec::new(), started: [0; 3] }
    }

    fn want(&mut self, pages: Pages, class: Class) {
        let (reader, deadline) = (ReaderId(class as u64), self.now + Duration::from_secs(600));
        self.scheduler.handle(self.now, Event::Wanted { file: FILE, pages, class, reader, deadline });
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.scheduler.poll_action(self.now) {
            match action {
                Action::Start { fetch, pages, class, .. } => {
                    self.scheduler.handle(self.now, Event::Connected { fetch });
                    self.scheduler.handle(self.now, Event::FirstByte { fetch });
                    self.started[class as usize] += 1;
                    self.running.push(Running { fetch, class, pages, told_bytes: 0 });
                }
                Action::Cancel { fetch, .. } => {
                    self.running.retain(|it| it.fetch != fetch);
                    self.scheduler.handle(self.now, Event::Failed { fetch, failure: Failure::Cancelled });
                }
                _ => {}
            }
        }
    }

    /// A millisecond in which demand gets this part of the link and the others the rest, in equal shares; either gets all
    /// of it without the other.
    fn step(&mut self, of_demand: f64) {
        self.now = self.now + Duration::from_nanos(MS);
        let demands = self.running.iter().filter(|it| it.class == Class::Demand).count();
        let others = self.running.len() - demands;
        let of_demand = if others == 0 { 1.0 } else { of_demand };
        let of_others = if demands == 0 { 1.0 } else { 1.0 - of_demand };
        for Running { fetch, class, pages, told_bytes } in &mut self.running {
            let (part, among) = if *class == Class::Demand { (of_demand, demands) } else { (of_others, others) };
            let before = *told_bytes / PAGE_BYTES;
            *told_bytes =
                (*told_bytes + (LINK_BYTES as f64 * part) as u64 / among as u64).min(pages.count() * PAGE_BYTES);
            let (from, to) = (pages.start + before, pages.start + *told_bytes / PAGE_BYTES);
            let event = match from < to {
                true => Event::Arrived { fetch: *fetch, pages: Pages::new(from, to) },
                false => Event::Progress { fetch: *fetch, total_bytes: *told_bytes },
            };
            self.scheduler.handle(self.now, event);
            if *told_bytes == pages.count() * PAGE_BYTES {
                self.scheduler.handle(self.now, Event::Finished { fetch: *fetch });
            }
        }
        self.running.retain(|it| it.told_bytes < it.pages.count() * PAGE_BYTES);
        self.scheduler.handle(self.now, Event::Tick);
        self.act();
    }

    fn background(&self) -> usize {
        self.started[Class::Prefetch as usize]
    }
}

/// A prefetch runs, and a reader asks for 1 MiB, which gets this part of the link: how many fetches of prefetch start
/// until it is there, but for those before it can be seen to be late, and how many afterwards.
fn started(of_demand: f64) -> (usize, usize) {
    let mut link = Link::new();
    link.want(Pages::new(0, PAGES / 2), Class::Prefetch);
    (0..1000).for_each(|_| link.step(0.0));
    link.want(Pages::new(PAGES / 2, PAGES / 2 + 256), Class::Demand);
    (0..150).for_each(|_| link.step(of_demand));
    let before = link.background();
    let mut beside = 0;
    for step in 0.. {
        assert!(step < 5000, "it never comes");
        if link.running.iter().all(|it| it.class != Class::Demand) {
            break;
        }
        beside = link.background() - before;
        link.step(of_demand);
    }
    (0..400).for_each(|_| link.step(0.0));
    (beside, link.background() - before - beside)
}

#[test]
fn the_background_stands_back_while_a_fetch_that_is_waited_for_hardly_moves() {
    let (beside, after) = started(0.02);
    assert_eq!(beside, 0, "they take the link from who waits");
    assert!(after > 2, "{after}: it goes on afterwards");
}

#[test]
fn a_fetch_that_gets_its_share_stops_nobody() {
    let (beside, _) = started(0.2);
    assert!(beside > 0);
}

#[test]
fn connections_that_starve_where_they_join_hold_no_reader_up() {
    let starving = || {
        let mut mirror = SimMirror::new(20e6, 6);
        (mirror.joining, mirror.jitter) = (0.07, Duration::from_millis(6));
        mirror
    };
    for seed in 1..=24 {
        let silent = starving().at(2000, Change::Health(Health::BlackHole));
        let mut world = World::new(vec![starving(), starving(), starving(), silent], seed);
        world.listed();
        let (size, longest) = (512 << 20, Duration::from_millis(200));
        let file = world.open(1, size);
        world.readers.push(SimReader::sequential(1, file, size));
        world.run(600_000);
        let reader = &world.readers[0];
        // It is more without any one of these: few mirrors at a time try a number of connections, what is near goes on
        // none that is only tried, and what crawls is asked for anew by one that has become free.
        assert!(reader.done_at.is_some() && reader.longest_wait < longest, "seed {seed}: {:?}", reader.longest_wait);
    }
}
