//! The pace of one prefetch job (`--rate`): it asks for no more in any second than it was given, by the same bucket as the
//! rate caps of mirrors. Others, and who reads the same files, are not held back by it.

use crate::chunk::{CHUNK_PAGES, PAGE_BYTES};
use crate::clock::now;
use crate::scheduler::rate_cap::Bucket;
use tokio::sync::Mutex;

/// What a job may ask for, and when.
pub(in crate::fetch) struct Pace {
    /// Who waits for it comes after those that waited before: the job's order stays.
    bucket: Option<Mutex<Bucket>>,
    piece_pages: u64,
}

impl Pace {
    /// So many bytes a second, asked for in pieces of at most `pages_max` pages; none: as many as come.
    pub(in crate::fetch) fn new(bytes_per_second: Option<u64>, pages_max: u64) -> Pace {
        let mut bucket = Bucket::default();
        bucket.set(now(), bytes_per_second.map(|rate| rate as f64));
        let smallest = bucket.smallest_bytes();
        Pace { bucket: smallest.map(|_| Mutex::new(bucket)), piece_pages: piece_pages(smallest, pages_max) }
    }

    /// Pages that may be asked for at a time: whole chunks.
    pub(in crate::fetch) fn piece_pages(&self) -> u64 {
        self.piece_pages
    }

    /// Until so many bytes may be asked for, which they are then.
    pub(in crate::fetch) async fn turn(&self, bytes: u64) {
        let Some(bucket) = self.bucket.as_ref().filter(|_| bytes > 0) else { return };
        let mut bucket = bucket.lock().await;
        loop {
            let time = now();
            let Some(due) = bucket.due(time, bytes as f64) else { return bucket.spend(time, bytes) };
            #[allow(clippy::disallowed_methods, reason = "a rate is bytes and time")]
            tokio::time::sleep(due.since(time)).await;
        }
    }
}

/// A bucket holds so many bytes when it is full: a larger piece would take what it has not.
fn piece_pages(smallest_bytes: Option<f64>, pages_max: u64) -> u64 {
    let chunks = smallest_bytes.map_or(u64::MAX, |bytes| bytes as u64 / PAGE_BYTES / CHUNK_PAGES);
    chunks.max(1).saturating_mul(CHUNK_PAGES).min(pages_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use std::time::Duration;

    /// A job's pieces in virtual time, as [`Pace::turn`] lets them go: when, and how many bytes.
    fn pieces(rate: u64, seconds: u64) -> Vec<(Time, u64)> {
        let mut bucket = Bucket::default();
        let (mut time, mut gone) = (Time(0), Vec::new());
        bucket.set(time, Some(rate as f64));
        let piece_bytes = piece_pages(bucket.smallest_bytes(), 2048) * PAGE_BYTES;
        while time < Time(0) + Duration::from_secs(seconds) {
            match bucket.due(time, piece_bytes as f64) {
                Some(due) => time = due,
                None => {
                    bucket.spend(time, piece_bytes);
                    gone.push((time, piece_bytes));
                }
            }
        }
        gone
    }

    #[test]
    fn a_job_asks_for_its_rate_and_at_no_time_for_more_than_a_piece_beyond() {
        for rate in [64 << 10, 1_000_000, 20_000_000, 300_000_000] {
            let gone = pieces(rate, 10);
            let all: u64 = gone.iter().map(|(_, bytes)| bytes).sum();
            assert!(all > rate * 10 * 9 / 10, "{all} of {rate} a second in 10 s");
            for (from, _) in &gone {
                let second = *from..*from + Duration::from_secs(1);
                let bytes: u64 = gone.iter().filter(|(at, _)| second.contains(at)).map(|(_, bytes)| bytes).sum();
                assert!(bytes <= rate + gone[0].1, "{bytes} of {rate} in a second");
            }
        }
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let pace = Pace::new(None, 2048);
        assert!(pace.bucket.is_none() && pace.piece_pages() == 2048);
        assert_eq!(Pace::new(Some(1_000_000_000), 2048).piece_pages(), 2048);
        assert_eq!(Pace::new(Some(1), 2048).piece_pages(), CHUNK_PAGES);
    }
}
