//! The driver's side of what is published: which mirrors have news after a drain.

use crate::chunk::MirrorId;
use crate::clock::Time;
use crate::fetch::published::Published;
use crate::scheduler::Scheduler;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often mirrors without news are published too: their weights and breakers change with time alone.
const ALL_PERIOD: Duration = Duration::from_millis(200);

/// What was published last.
#[derive(Default)]
pub struct Publisher {
    in_flight: Vec<(u64, usize)>,
    next_all: Time,
}

impl Publisher {
    /// The driver has done all there is to do. Costs two numbers per mirror, and a few more of those whose
    /// fetches moved: load, weight and rate follow from those.
    pub fn drained(&mut self, now: Time, scheduler: &Scheduler, published: &Published, offline: &AtomicBool) {
        // Mirrors are only ever added.
        self.in_flight.resize(scheduler.mirror_count(), (0, 0));
        let all = now >= self.next_all;
        if all {
            self.next_all = now + ALL_PERIOD;
        }
        for (at, last) in self.in_flight.iter_mut().enumerate() {
            let mirror = MirrorId(at as u16);
            let Some(in_flight) = scheduler.in_flight(mirror) else { continue };
            if all || in_flight != *last {
                *last = in_flight;
                scheduler.live(now, mirror).iter().for_each(|live| published.publish(mirror, live));
            }
        }
        published.publish_fetches(scheduler.fetches_made());
        offline.store(scheduler.offline(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{Class, FetchId, Inode, MirrorSet, Pages, ReaderId};
    use crate::scheduler::{Action, Event, Settings};

    #[test]
    fn a_fetch_is_published_with_the_drain_that_made_it() {
        let (file, pages) = (Inode(5), Pages::new(0, 16));
        let mut now = Time(1_000_000_000);
        let mut scheduler = Scheduler::new(Settings::default(), 1, 7, now);
        let (published, mut publisher, offline) = (Published::new(1), Publisher::default(), AtomicBool::new(true));
        publisher.drained(now, &scheduler, &published, &offline);
        assert!(!offline.load(Ordering::Relaxed));
        assert_eq!(published.live(MirrorId(0)), scheduler.live(now, MirrorId(0)));
        assert_eq!((published.in_flight(MirrorId(0)), published.next_fetch()), ((0, 0), FetchId(1)));
        let mirrors = MirrorSet::from_iter([MirrorId(0)]);
        scheduler.handle(
            now,
            Event::Opened { file, size_bytes: 1 << 20, mirrors, held: Vec::new(), rule: Default::default() },
        );
        let (class, reader, deadline) = (Class::Demand, ReaderId(0), now + Duration::from_secs(9));
        scheduler.handle(now, Event::Wanted { file, pages, class, reader, deadline });
        let Some(Action::Start { fetch, pages, .. }) = scheduler.poll_action(now) else { panic!("it is wanted") };
        now = now + Duration::from_millis(1);
        publisher.drained(now, &scheduler, &published, &offline);
        assert_eq!(published.in_flight(MirrorId(0)), (pages.count() * 4096, 1));
        assert_eq!(published.next_fetch(), FetchId(fetch.0 + 1));
    }
}
