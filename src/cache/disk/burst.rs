//! What comes faster than the disk writes: so much of it goes by way of the kernel's memory, not past it.
//!
//! A direct write costs the least of everything and is as slow as the disk. A reader who is faster than that for a while
//! fills the queue, and from then on what he reads would not be kept. The kernel's page cache takes such a burst at the
//! speed of memory, as it does for every program that writes. It is bounded by what the disk puts away in [`BEHIND`],
//! as measured: the sync that follows takes no longer, and a crash costs no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// So much of the disk's time may be owed to the kernel's memory at once.
const BEHIND: Duration = Duration::from_secs(1);
/// Shorter writes tell of the round trip to the disk, not of its rate.
const TELLING_BYTES: u64 = 1 << 20;
/// A new measurement is worth one of so many parts of what is believed.
const PARTS: u64 = 4;

/// Measured and asked by the writer, which is one thread.
#[derive(Default)]
pub(super) struct Burst {
    /// Of direct writes; 0 until one was measured.
    bytes_per_second: AtomicU64,
    owed_bytes: AtomicU64,
}

/// Bytes that are in the kernel's memory, until this is dropped: they are synced, or given up.
pub(super) struct Owed {
    burst: Arc<Burst>,
    bytes: u64,
}

impl Burst {
    /// A direct write of `bytes` took so long.
    pub(super) fn measured(&self, bytes: u64, took: Duration) {
        if bytes < TELLING_BYTES {
            return;
        }
        let rate = (bytes as f64 / took.as_secs_f64().max(1e-9)) as u64;
        let before = self.bytes_per_second.load(Ordering::Relaxed);
        let believed = if before == 0 { rate } else { before / PARTS * (PARTS - 1) + rate / PARTS };
        self.bytes_per_second.store(believed, Ordering::Relaxed);
    }

    /// Room for `bytes` more; `None` where the disk is too far behind already.
    pub(super) fn take(self: &Arc<Self>, bytes: u64) -> Option<Owed> {
        let most = self.bytes_per_second.load(Ordering::Relaxed) as f64 * BEHIND.as_secs_f64();
        if self.owed_bytes.load(Ordering::Relaxed) + bytes > most as u64 {
            return None;
        }
        self.owed_bytes.fetch_add(bytes, Ordering::Relaxed);
        Some(Owed { burst: self.clone(), bytes })
    }
}

#[cfg(test)]
impl Burst {
    pub(super) fn owes_nothing(&self) -> bool {
        self.owed_bytes.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.burst.owed_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_owed_than_a_second_of_the_disk() {
        const MIB: u64 = 1 << 20;
        let burst = Arc::new(Burst::default());
        let fits = |bytes| burst.take(bytes).is_some();
        assert!(!fits(1), "of a disk that nobody has measured nothing is known");
        burst.measured(4096, Duration::from_nanos(1));
        assert!(!fits(1), "a lone page tells nothing");
        burst.measured(MIB, Duration::from_millis(10));
        assert!(fits(100 * MIB) && !fits(101 * MIB));
        let owed = burst.take(60 * MIB).unwrap();
        assert!(fits(40 * MIB) && !fits(41 * MIB));
        drop(owed);
        assert!(fits(100 * MIB));
        // It becomes slow: by and by less is owed to it.
        (0..20).for_each(|_| burst.measured(MIB, Duration::from_millis(100)));
        assert!(fits(9 * MIB) && !fits(12 * MIB));
    }
}
