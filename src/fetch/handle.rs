//! Open handles: which version they are pinned to, and how they are being read.
//!
//! A hit in memory sends the driver nothing: it moves the position of its streak here, and the
//! driver hears of it only when the reader passes the mark that the scheduler set.
//!
//! The lock of a handle's streaks is taken by its readers and its close, and by nobody who fetches.

use crate::chunk::{Inode, Pages, ReaderId};
use crate::fetch::inbox::{Command, Inbox};
use crate::fetch::opened::OpenFile;
use crate::scheduler::Event;
use crate::scheduler::streak::{SLACK_PAGES, Streak};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Streams of one handle that are told apart. Two threads that read one file through one handle, or a
/// table of contents read between rows, are common; more than four are rarely in order at all.
const STREAKS: usize = 4;
/// Reads that no other followed, one after the other, from which on a reader is one that goes here and there.
const LONE_MIN: u32 = 8;

/// One `open` of a file.
pub struct Handle {
    /// The version that it is pinned to.
    pub file: Arc<OpenFile>,
    streaks: Mutex<Streaks>,
}

#[derive(Default)]
struct Streaks {
    followed: [Followed; STREAKS],
    /// Streaks that ended before they were in order, since the last one that was.
    lone: u32,
}

/// A streak, and what the scheduler knows of it.
#[derive(Default)]
struct Followed {
    streak: Streak,
    reader: Option<ReaderId>,
    age: u64,
    mark: Option<Arc<AtomicU64>>,
}

/// What a read is part of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The streak it belongs to.
    pub reader: ReaderId,
    /// The reader goes through the file in order.
    pub in_order: bool,
}

/// The next id of a streak.
#[derive(Default)]
pub struct Readers {
    next: AtomicU64,
}

impl Readers {
    /// An id that was never used.
    pub fn new_id(&self) -> ReaderId {
        ReaderId(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Where readers in order are to be heard of, by streak: the driver's.
#[derive(Default)]
pub struct Marks(HashMap<ReaderId, Arc<AtomicU64>>);

impl Marks {
    /// A streak that the scheduler is told of from now on.
    pub fn follow(&mut self, reader: ReaderId, mark: Arc<AtomicU64>) {
        self.0.insert(reader, mark);
    }

    /// The scheduler wants to hear of `reader` when it passes `page`.
    pub fn set(&self, reader: ReaderId, page: u64) {
        if let Some(mark) = self.0.get(&reader) {
            mark.store(page, Ordering::Relaxed);
        }
    }

    /// Forgets a streak that ended.
    pub fn heard(&mut self, event: &Event) {
        if let Event::Closed { reader } = event {
            self.0.remove(reader);
        }
    }
}

impl Handle {
    /// A handle that nobody has read through yet.
    pub fn new(file: Arc<OpenFile>) -> Handle {
        Handle { file, streaks: Mutex::default() }
    }

    /// A read of `pages` comes through this handle.
    pub fn reads(&self, pages: Pages, readers: &Readers, inbox: &Inbox) -> Place {
        let mut streaks = self.streaks.lock();
        let Streaks { followed, lone } = &mut *streaks;
        let age = followed.iter().map(|streak| streak.age).max().unwrap_or(0) + 1;
        let known = followed.iter().position(|it| it.reader.is_some() && it.streak.goes_on(pages));
        let at = known.unwrap_or_else(|| oldest(&followed[..]));
        let followed = &mut followed[at];
        if known.is_none() {
            *lone = lone.saturating_add(u32::from(followed.reader.is_some() && !followed.streak.in_order()));
            followed.begin(readers, inbox);
            if *lone >= LONE_MIN {
                followed.streak = Streak::doubted();
            }
        }
        followed.age = age;
        followed.streak.read(pages);
        if followed.mark.is_some() && !followed.streak.in_order() {
            // It strides by now: nothing is read ahead for it until it is in order again.
            followed.begin(readers, inbox);
            followed.age = age;
            followed.streak.read(pages);
        }
        if followed.streak.in_order() {
            *lone = 0;
        }
        followed.tell(self.file.inode, inbox);
        Place { reader: followed.reader.expect("set above or known"), in_order: followed.streak.in_order() }
    }

    /// The handle is closed: nothing is read ahead for it any more.
    pub fn close(&self, inbox: &Inbox) {
        for followed in self.streaks.lock().followed.iter_mut() {
            followed.end(inbox);
        }
    }
}

fn oldest(streaks: &[Followed]) -> usize {
    (0..streaks.len()).min_by_key(|&at| streaks[at].age).expect("there is at least one")
}

impl Followed {
    /// Another streak takes its place.
    fn begin(&mut self, readers: &Readers, inbox: &Inbox) {
        self.end(inbox);
        *self = Followed { reader: Some(readers.new_id()), ..Followed::default() };
    }

    /// Tell the scheduler where the reader is, where that is news.
    fn tell(&mut self, file: Inode, inbox: &Inbox) {
        if !self.streak.in_order() {
            return;
        }
        let reader = self.reader.expect("a streak that is read has an id");
        let mark = self.mark.get_or_insert_with(|| {
            let mark = Arc::<AtomicU64>::default();
            inbox.push(Command::Follow { reader, mark: mark.clone() });
            mark
        });
        let (position, length_pages) = (self.streak.next(), self.streak.length_pages());
        if position < mark.load(Ordering::Relaxed) {
            return;
        }
        // Until the scheduler sets the next mark there is nothing more to say.
        mark.store(position + SLACK_PAGES, Ordering::Relaxed);
        inbox.tell(Event::Streak { reader, file, position, length_pages });
    }

    fn end(&mut self, inbox: &Inbox) {
        let Some(reader) = self.reader.take() else { return };
        if self.mark.take().is_some() {
            inbox.tell(Event::Closed { reader });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::opened::{Opened, Opening};
    use crate::scheduler::FileRule;

    fn handle() -> (Handle, Readers, Inbox) {
        let opening = Opening {
            inode: Inode(7),
            path: b"a".to_vec(),
            size_bytes: 1 << 30,
            rule: FileRule::default(),
            disk: None,
        };
        (Handle::new(Opened::default().open(opening, |_| {})), Readers::default(), Inbox::default())
    }

    fn told(inbox: &Inbox) -> Vec<Event> {
        told_with_marks(inbox).0
    }

    fn told_with_marks(inbox: &Inbox) -> (Vec<Event>, Marks) {
        let (mut commands, mut marks) = (Vec::new(), Marks::default());
        inbox.take(&mut commands);
        let event = |command| match command {
            Command::Tell(event) => Some(event),
            Command::Follow { reader, mark } => {
                marks.follow(reader, mark);
                None
            }
            _ => None,
        };
        (commands.into_iter().filter_map(event).collect(), marks)
    }

    #[test]
    fn a_reader_in_order_is_told_of_at_its_marks_only() {
        let (handle, readers, inbox) = handle();
        for at in 0..2 {
            handle.reads(Pages::new(at * 32, at * 32 + 32), &readers, &inbox);
        }
        assert!(told(&inbox).is_empty(), "64 pages may be one random read of 256 KiB");
        let place = handle.reads(Pages::new(64, 96), &readers, &inbox);
        assert!(place.in_order);
        let (events, marks) = told_with_marks(&inbox);
        let [Event::Streak { reader, position: 96, length_pages: 96, .. }] = events[..] else { panic!() };
        marks.set(reader, 200);
        for at in 3..6 {
            handle.reads(Pages::new(at * 32, at * 32 + 32), &readers, &inbox);
        }
        assert!(told(&inbox).is_empty(), "192 is before the mark");
        handle.reads(Pages::new(192, 224), &readers, &inbox);
        assert!(matches!(told(&inbox)[..], [Event::Streak { position: 224, .. }]));
    }

    #[test]
    fn random_reads_say_nothing_and_two_streams_are_told_apart() {
        let (handle, readers, inbox) = handle();
        for at in [0, 90_000, 40_000, 200_000, 10_000, 170_000, 60_000] {
            assert!(!handle.reads(Pages::new(at, at + 1), &readers, &inbox).in_order);
        }
        assert!(told(&inbox).is_empty());
        let mut seen = std::collections::BTreeSet::new();
        for step in 0..8 {
            for base in [1_000, 100_000] {
                let pages = Pages::new(base + step * 32, base + step * 32 + 32);
                seen.insert(handle.reads(pages, &readers, &inbox).reader);
            }
        }
        assert_eq!(seen.len(), 2);
        handle.close(&inbox);
        let closed = told(&inbox).into_iter().filter(|event| matches!(event, Event::Closed { .. })).count();
        assert_eq!(closed, 2);
    }

    #[test]
    fn random_reads_that_happen_to_be_near_are_no_streak() {
        let (handle, readers, inbox) = handle();
        for at in [1_000, 1_200, 1_100, 1_300, 1_250, 1_500, 1_700] {
            assert!(!handle.reads(Pages::new(at, at + 1), &readers, &inbox).in_order);
        }
        assert!(told(&inbox).is_empty());
    }

    #[test]
    fn who_goes_here_and_there_is_in_order_later_than_others_and_only_once_so_late() {
        let (handle, readers, inbox) = handle();
        let read = |start: u64| handle.reads(Pages::new(start, start + 64), &readers, &inbox).in_order;
        let first_in_order = |from: u64| (0..).find(|at| read(from + at * 64)).unwrap();
        assert_eq!(first_in_order(0), 1);
        for at in 1..20 {
            assert!(!read(at * 9_000));
        }
        // Two that are near each other, as happens.
        assert!(!read(9_000 + 100) && !read(9_000 + 180));
        assert_eq!(first_in_order(220_000), 8);
        assert_eq!(first_in_order(240_000), 1);
    }

    #[test]
    fn streams_that_were_in_order_are_none_that_led_nowhere() {
        let (handle, readers, inbox) = handle();
        let read = |start: u64| handle.reads(Pages::new(start, start + 64), &readers, &inbox).in_order;
        for base in 1..=STREAKS as u64 {
            assert!(!read(base * 9_000) && read(base * 9_000 + 64));
        }
        for at in 10..10 + u64::from(LONE_MIN) {
            assert!(!read(at * 9_000));
        }
        assert!(!read(220_000) && read(220_064), "they took the places of those in order first");
    }

    #[test]
    fn requests_that_overtake_one_another_are_one_streak() {
        let (handle, readers, inbox) = handle();
        let places: Vec<_> =
            [0, 64, 32, 128, 96, 160].map(|at| handle.reads(Pages::new(at, at + 32), &readers, &inbox).reader).to_vec();
        assert!(places.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
