//! How an open file notices that it is read in order: the same rule as the mount's handles, in small.

use crate::chunk::{Inode, Pages, ReaderId};
use crate::scheduler::Event;

/// A read this near to where the last one ended goes on with it.
const SLACK_PAGES: u64 = 256;
/// Less in order than this may be one random read.
const STREAK_PAGES_MIN: u64 = 65;

/// One run of reads in order.
#[derive(Debug, Default)]
pub(super) struct Streak {
    begin: u64,
    next: u64,
    reads: u64,
    read_pages: u64,
    /// The scheduler wants to hear when the reader is past this.
    pub(super) mark: Option<u64>,
    told: bool,
}

impl Streak {
    /// Would this read begin another one?
    pub(super) fn ends_with(&self, pages: Pages) -> bool {
        self.reads > 0 && pages.start.abs_diff(self.next) > SLACK_PAGES
    }

    /// Does the scheduler know of it?
    pub(super) fn told(&self) -> bool {
        self.told
    }

    /// A read goes by. Returns what the scheduler is told.
    pub(super) fn read(&mut self, reader: ReaderId, file: Inode, pages: Pages) -> Option<Event> {
        if self.reads == 0 {
            (self.begin, self.next) = (pages.start, pages.start);
        }
        self.reads += 1;
        self.read_pages += pages.count();
        self.next = self.next.max(pages.end);
        let length_pages = self.read_pages.min(self.next - self.begin);
        let due = match self.mark {
            Some(mark) => self.next >= mark,
            None => !self.told,
        };
        if self.reads < 2 || length_pages < STREAK_PAGES_MIN || !due {
            return None;
        }
        self.told = true;
        // Until the scheduler sets the next mark there is nothing more to say.
        self.mark = Some(self.next + SLACK_PAGES);
        Some(Event::Streak { reader, file, position: self.next, length_pages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(streak: &mut Streak, start: u64, end: u64) -> bool {
        streak.read(ReaderId(1), Inode(1), Pages::new(start, end)).is_some()
    }

    #[test]
    fn order_is_told_at_the_marks_and_chance_never() {
        let mut streak = Streak::default();
        assert!(!told(&mut streak, 0, 32) && !told(&mut streak, 32, 64));
        assert!(told(&mut streak, 64, 96), "more than one read of 256 KiB in order");
        streak.mark = Some(200);
        assert!(!told(&mut streak, 96, 199) && told(&mut streak, 199, 210));
        assert!(streak.ends_with(Pages::new(5000, 5001)) && !streak.ends_with(Pages::new(210, 220)));
        let mut apart = Streak::default();
        assert!((0..40).all(|at| !told(&mut apart, at * 7, at * 7 + 1)), "40 pages are no streak");
    }
}
