//! Reading in order, as an open file sees it: a run of reads, each near where the last one ended, that leaves
//! out little of what it goes through.

use crate::chunk::Pages;

/// How far from its place a read may be and still go on with a run, in pages: the kernel sends its
/// readahead, at most 1 MiB a request, on several threads, and they overtake one another.
pub const SLACK_PAGES: u64 = 256;
/// A run this long, in pages, is worth reading ahead of. One `read` of 256 KiB at a random place
/// reaches us as two requests of 128 KiB, which look like a run and are none.
const LENGTH_PAGES_MIN: u64 = 65;
/// Two random reads near each other look like a run as well. Of 400 random reads of 256 KiB in 1 GiB some do, and each brings a
/// window that nobody reads, 2 % of all bytes (measured): who went here and there up to now goes so far in order first.
const LENGTH_PAGES_MIN_DOUBTED: u64 = 8 * LENGTH_PAGES_MIN;
/// Who reads less than one page in so many that it passes reads here and there, or strides: what lies between
/// would be fetched for nothing.
const PASSED_PER_READ_MAX: u64 = 2;
/// The part that is read is counted over the last so many pages, more or less.
const RECENT_PAGES: u64 = 4096;

/// One run of reads.
#[derive(Clone, Debug, Default)]
pub struct Streak {
    next: u64,
    reads: u64,
    /// Pages read in all.
    total_pages: u64,
    /// Where what counts as recent begins, and the pages read since.
    begin: u64,
    recent_pages: u64,
    doubted: bool,
}

impl Streak {
    /// One of a reader that went here and there up to now.
    pub fn doubted() -> Streak {
        Streak { doubted: true, ..Streak::default() }
    }

    /// Does a read of these pages go on with it? Every read does with one that nobody has read yet.
    pub fn goes_on(&self, pages: Pages) -> bool {
        self.reads == 0 || pages.start.abs_diff(self.next) <= SLACK_PAGES
    }

    /// A read goes by.
    pub fn read(&mut self, pages: Pages) {
        if self.reads == 0 {
            (self.begin, self.next) = (pages.start, pages.start);
        }
        self.reads += 1;
        self.total_pages += pages.count();
        self.recent_pages += pages.count();
        self.next = self.next.max(pages.end);
        if self.next - self.begin > RECENT_PAGES {
            self.begin += RECENT_PAGES / 2;
            self.recent_pages /= 2;
        }
    }

    /// The page after the last one that was read.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Pages read in order. Two random reads that happen to be near each other span many pages and have
    /// read few of them: that is no run.
    pub fn length_pages(&self) -> u64 {
        self.total_pages
    }

    /// The reader goes through the file in order.
    pub fn in_order(&self) -> bool {
        let passed = self.next - self.begin;
        let least = if self.doubted { LENGTH_PAGES_MIN_DOUBTED } else { LENGTH_PAGES_MIN };
        self.reads >= 2
            && self.total_pages >= least
            && passed >= least.min(RECENT_PAGES / 2)
            && self.recent_pages * PASSED_PER_READ_MAX >= passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(reads: impl IntoIterator<Item = (u64, u64)>) -> Streak {
        let mut streak = Streak::default();
        for (start, end) in reads {
            assert!(streak.goes_on(Pages::new(start, end)), "{start}");
            streak.read(Pages::new(start, end));
        }
        streak
    }

    #[test]
    fn more_than_a_read_of_256_kib_is_in_order() {
        assert!(!after([(0, 32), (32, 64)]).in_order());
        assert!(after([(0, 32), (32, 65)]).in_order());
        assert!(!after([(0, 65)]).in_order(), "one read is none");
        assert!(!after([(7, 39), (7, 39), (7, 39)]).in_order(), "again and again is not ahead");
    }

    #[test]
    fn a_jump_of_a_mebibyte_is_within_it_and_more_is_not() {
        let streak = after([(1000, 1032)]);
        assert!(streak.goes_on(Pages::new(1032 + SLACK_PAGES, 1300)));
        assert!(!streak.goes_on(Pages::new(1033 + SLACK_PAGES, 1300)));
        assert!(streak.goes_on(Pages::new(1032 - SLACK_PAGES, 800)));
    }

    #[test]
    fn a_little_more_than_half_is_in_order_and_a_third_is_not() {
        assert!(after((0..200).map(|at| (at * 32, at * 32 + 18))).in_order());
        assert!(!after((0..200).map(|at| (at * 48, at * 48 + 16))).in_order());
    }

    #[test]
    fn who_begins_to_stride_is_noticed_soon() {
        let order = (0..1000).map(|at| (at * 32, at * 32 + 32));
        let mut streak = after(order);
        assert!(streak.in_order());
        let from = streak.next();
        let noticed = (1..).find(|at| {
            streak.read(Pages::new(from + at * 256, from + at * 256 + 16));
            !streak.in_order()
        });
        assert!(noticed.is_some_and(|reads| reads < 20), "{noticed:?}");
    }
}
