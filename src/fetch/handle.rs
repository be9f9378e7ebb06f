//! Open handles: which version they are pinned to, and how they are being read.
//!
//! A hit in memory sends the driver nothing: it moves the position of its streak here, and the
//! driver hears of it only when the reader passes the mark that the scheduler set.

use crate::chunk::{Inode, Pages, ReaderId};
use crate::fetch::inbox::Inbox;
use crate::fetch::opened::OpenFile;
use crate::scheduler::Event;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Streams of one handle that are told apart. Two threads that read one file through one handle, or a
/// table of contents read between rows, are common; more than four are rarely in order at all.
const STREAKS: usize = 4;
/// How far from its place a read may be and still belong to a streak, in pages: the kernel sends its
/// readahead, at most 1 MiB a request, on several threads, and they overtake one another.
const SLACK_PAGES: u64 = 256;
/// A streak this long, in pages, is worth reading ahead of. One `read` of 256 KiB at a random place
/// reaches us as two requests of 128 KiB, which look like a streak and are none.
const STREAK_PAGES_MIN: u64 = 65;

/// One `open` of a file.
pub struct Handle {
    /// The version that it is pinned to.
    pub file: Arc<OpenFile>,
    streaks: Mutex<[Streak; STREAKS]>,
}

#[derive(Default)]
struct Streak {
    reader: Option<ReaderId>,
    begin: u64,
    next: u64,
    reads: u64,
    read_pages: u64,
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

/// The marks of streaks that the scheduler follows, and the next id.
#[derive(Default)]
pub struct Readers {
    next: AtomicU64,
    marks: Mutex<HashMap<ReaderId, Arc<AtomicU64>>>,
}

impl Readers {
    /// An id that was never used.
    pub fn new_id(&self) -> ReaderId {
        ReaderId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Tell us when `reader` passes `page`.
    pub fn set_mark(&self, reader: ReaderId, page: u64) {
        if let Some(mark) = self.marks.lock().get(&reader) {
            mark.store(page, Ordering::Relaxed);
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
        let age = streaks.iter().map(|streak| streak.age).max().unwrap_or(0) + 1;
        let near = |streak: &Streak| streak.reader.is_some() && pages.start.abs_diff(streak.next) <= SLACK_PAGES;
        let known = streaks.iter().position(near);
        let at = known.unwrap_or_else(|| oldest(&streaks[..]));
        let streak = &mut streaks[at];
        if known.is_none() {
            streak.end(readers, inbox);
            *streak = Streak { reader: Some(readers.new_id()), begin: pages.start, ..Streak::default() };
        }
        streak.age = age;
        streak.reads += 1;
        streak.read_pages += pages.count();
        streak.next = streak.next.max(pages.end);
        streak.tell(self.file.inode, readers, inbox);
        Place {
            reader: streak.reader.expect("set above or known"),
            in_order: streak.length_pages() >= STREAK_PAGES_MIN,
        }
    }

    /// The handle is closed: nothing is read ahead for it any more.
    pub fn close(&self, readers: &Readers, inbox: &Inbox) {
        for streak in self.streaks.lock().iter_mut() {
            streak.end(readers, inbox);
        }
    }
}

fn oldest(streaks: &[Streak]) -> usize {
    (0..streaks.len()).min_by_key(|&at| streaks[at].age).expect("there is at least one")
}

impl Streak {
    /// Pages read in order. Two random reads that happen to be near each other span many pages and have
    /// read few of them: that is no streak.
    fn length_pages(&self) -> u64 {
        self.read_pages.min(self.next - self.begin)
    }

    /// Tell the scheduler where the reader is, where that is news.
    fn tell(&mut self, file: Inode, readers: &Readers, inbox: &Inbox) {
        if self.reads < 2 || self.length_pages() < STREAK_PAGES_MIN {
            return;
        }
        let reader = self.reader.expect("a streak that is read has an id");
        let mark = self.mark.get_or_insert_with(|| {
            let mark = Arc::<AtomicU64>::default();
            readers.marks.lock().insert(reader, mark.clone());
            mark
        });
        if self.next < mark.load(Ordering::Relaxed) {
            return;
        }
        // Until the scheduler sets the next mark there is nothing more to say.
        mark.store(self.next + SLACK_PAGES, Ordering::Relaxed);
        let length_pages = self.length_pages();
        inbox.tell(Event::Streak { reader, file, position: self.next, length_pages });
    }

    fn end(&mut self, readers: &Readers, inbox: &Inbox) {
        let Some(reader) = self.reader.take() else { return };
        if self.mark.take().is_some() {
            readers.marks.lock().remove(&reader);
            inbox.tell(Event::Closed { reader });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::inbox::Command;
    use crate::fetch::opened::{Opened, Opening};

    fn handle() -> (Handle, Readers, Inbox) {
        let opening = Opening { inode: Inode(7), path: b"a".to_vec(), size_bytes: 1 << 30, disk: None };
        (Handle::new(Opened::default().open(opening).0), Readers::default(), Inbox::default())
    }

    fn told(inbox: &Inbox) -> Vec<Event> {
        let mut commands = Vec::new();
        inbox.take(&mut commands);
        let event = |command| match command {
            Command::Tell(event) => Some(event),
            _ => None,
        };
        commands.into_iter().filter_map(event).collect()
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
        let [Event::Streak { reader, position: 96, length_pages: 96, .. }] = told(&inbox)[..] else { panic!() };
        readers.set_mark(reader, 200);
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
        handle.close(&readers, &inbox);
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
    fn requests_that_overtake_one_another_are_one_streak() {
        let (handle, readers, inbox) = handle();
        let places: Vec<_> =
            [0, 64, 32, 128, 96, 160].map(|at| handle.reads(Pages::new(at, at + 32), &readers, &inbox).reader).to_vec();
        assert!(places.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
