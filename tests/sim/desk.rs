//! A scheduler by itself, whose driver is the test: every event and every millisecond is told to it by hand.

use braidfs::chunk::{Class, FetchId, Inode, MirrorId, MirrorSet, Pages, ReaderId};
use braidfs::clock::Time;
use braidfs::scheduler::{Action, Event, FileRule, Scheduler, Settings, Verdict};
use std::collections::VecDeque;
use std::time::Duration;

pub const FILE: Inode = Inode(1);
pub const SIZE: u64 = 1 << 30;
/// Nothing that a test waits for takes longer.
const PATIENCE_MS: u64 = 100_000;

/// See the module.
pub struct Desk {
    pub scheduler: Scheduler,
    pub now: Time,
    /// What it decided, but for what is answered here.
    decided: VecDeque<Action>,
    latency_ms: u64,
}

impl Desk {
    /// So many mirrors of which nothing is known, and a file.
    pub fn new(settings: Settings, mirrors: usize) -> Desk {
        let now = Time(1_000_000_000);
        let scheduler = Scheduler::new(settings, mirrors, 1, now);
        let mut desk = Desk { scheduler, now, decided: VecDeque::new(), latency_ms: 0 };
        desk.open(FILE, mirrors);
        desk
    }

    /// Two mirrors that have always answered after so long; both have been asked and compared.
    pub fn of_two(settings: Settings, latency_ms: u64) -> Desk {
        let mut desk = Desk::new(settings, 2);
        desk.learn(2, latency_ms);
        desk.compared();
        desk
    }

    pub fn open(&mut self, file: Inode, mirrors: usize) {
        let (mirrors, rule) = (MirrorSet::first(mirrors), FileRule::default());
        self.tell(Event::Opened { file, size_bytes: SIZE, mirrors, held: Vec::new(), rule });
    }

    /// Each of the mirrors has answered after so long, always.
    pub fn learn(&mut self, mirrors: u16, latency_ms: u64) {
        self.latency_ms = latency_ms;
        for _ in 0..200 {
            self.now = self.now + Duration::from_millis(50);
            for mirror in (0..mirrors).map(MirrorId) {
                self.tell(Event::MirrorSeen { mirror, result: Ok(Duration::from_millis(latency_ms)) });
            }
        }
    }

    /// The first page has come, and every mirror that is asked for it has the same.
    pub fn compared(&mut self) {
        let page = Pages::new(5000, 5001);
        let (fetch, _) = self.want(Class::Demand, page);
        self.answers(fetch);
        self.tell(Event::Arrived { fetch, pages: page });
        self.tell(Event::Finished { fetch });
    }

    /// 4 MiB of demand have come from each of two mirrors, 64 MiB a second.
    pub fn learn_rate(&mut self) {
        for at in 0..32 {
            // Two at a time, so that each mirror gets one.
            let both = [0, 32].map(|from| {
                let start = 100_000 + at * 64 + from;
                let pages = Pages::new(start, start + 32);
                (self.want(Class::Demand, pages), pages)
            });
            assert_ne!(both[0].0.1, both[1].0.1, "one mirror gets both");
            both.iter().for_each(|&((fetch, _), _)| self.tell(Event::Connected { fetch }));
            (0..self.latency_ms).for_each(|_| self.pass());
            both.iter().for_each(|&((fetch, _), _)| self.tell(Event::FirstByte { fetch }));
            for half in 0..2 {
                self.pass();
                for &((fetch, _), Pages { start, .. }) in &both {
                    self.tell(Event::Arrived { fetch, pages: Pages::new(start + half * 16, start + half * 16 + 16) });
                }
            }
            both.iter().for_each(|&((fetch, _), _)| self.tell(Event::Finished { fetch }));
        }
    }

    /// A fetch has its connection, and after the usual time its head.
    pub fn answers(&mut self, fetch: FetchId) {
        self.tell(Event::Connected { fetch });
        (0..self.latency_ms).for_each(|_| self.pass());
        self.tell(Event::FirstByte { fetch });
    }

    pub fn tell(&mut self, event: Event) {
        self.scheduler.handle(self.now, event);
        while let Some(action) = self.scheduler.poll_action(self.now) {
            match action {
                Action::Compare { comparison, .. } => {
                    self.scheduler.handle(self.now, Event::Compared { comparison, result: Ok(Verdict::Same) });
                }
                action => self.decided.push_back(action),
            }
        }
    }

    /// What it has decided since this was last asked.
    pub fn decided(&mut self) -> Vec<Action> {
        self.decided.drain(..).collect()
    }

    /// Somebody wants these pages. The fetches that begin.
    pub fn starts(&mut self, class: Class, pages: Pages) -> Vec<(FetchId, MirrorId)> {
        self.decided();
        let deadline = self.now + Duration::from_secs(600);
        self.tell(Event::Wanted { file: FILE, pages, class, reader: ReaderId(1), deadline });
        let start = |action| match action {
            Action::Start { fetch, mirror, .. } => Some((fetch, mirror)),
            _ => None,
        };
        self.decided().into_iter().filter_map(start).collect()
    }

    /// The same, where one does.
    pub fn want(&mut self, class: Class, pages: Pages) -> (FetchId, MirrorId) {
        self.starts(class, pages)[0]
    }

    /// A millisecond later.
    pub fn pass(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        if self.scheduler.poll_timeout().is_some_and(|due| due <= self.now) {
            self.tell(Event::Tick);
        }
    }

    /// After how many milliseconds it decides such a thing.
    pub fn decides_after_ms(&mut self, is_it: impl Fn(&Action) -> bool) -> u64 {
        for ms in 1..PATIENCE_MS {
            self.pass();
            if self.decided().iter().any(&is_it) {
                return ms;
            }
        }
        panic!("not within {PATIENCE_MS} ms");
    }

    /// Nothing more comes: after how many milliseconds is another mirror asked too?
    pub fn hedged_after_ms(&mut self) -> u64 {
        self.decides_after_ms(|action| matches!(action, Action::Start { .. }))
    }

    /// Nothing more comes: after how many milliseconds is this fetch given up?
    pub fn given_up_after_ms(&mut self, wanted: FetchId) -> u64 {
        self.decides_after_ms(|action| matches!(action, Action::Cancel { fetch, .. } if *fetch == wanted))
    }
}
