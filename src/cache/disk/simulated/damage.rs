//! What one power cut takes: chance from a seed, and the count of what was at risk.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Sectors that a disk writes as a whole, pages that the kernel does; everything at once, where nothing is torn.
const UNITS_BYTES: [u64; 3] = [512, 4096, 1 << 40];
/// How likely each unsynced part of a file is there: all lost and all kept are as likely as a wild mixture.
const KEPT: [f64; 5] = [0.0, 0.1, 0.5, 0.9, 1.0];

/// What a cut found unsynced, and what it did to it.
#[derive(Clone, Copy, Default, Debug)]
pub(in crate::cache::disk) struct Lost {
    /// Bytes written and not synced.
    pub(in crate::cache::disk) unsynced_bytes: u64,
    /// Those of them that are gone.
    pub(in crate::cache::disk) lost_bytes: u64,
    /// Writes of which a part is there.
    pub(in crate::cache::disk) torn_writes: u64,
    /// Names made, moved or taken away that are as they were before.
    pub(in crate::cache::disk) names_undone: u64,
}

/// The chance of one cut.
pub(super) struct Damage {
    random: StdRng,
    kept: f64,
    unit_bytes: u64,
    pub(super) lost: Lost,
}

impl Damage {
    pub(super) fn of_seed(seed: u64) -> Damage {
        let mut random = StdRng::seed_from_u64(seed);
        let unit_bytes = UNITS_BYTES[random.random_range(0..UNITS_BYTES.len())];
        Damage { random, kept: 1.0, unit_bytes, lost: Lost::default() }
    }

    /// Each file and folder fares in its own way.
    pub(super) fn next_file(&mut self) {
        self.kept = KEPT[self.random.random_range(0..KEPT.len())];
    }

    pub(super) fn keeps(&mut self) -> bool {
        self.random.random_bool(self.kept)
    }

    pub(super) fn unit_bytes(&self) -> u64 {
        self.unit_bytes
    }

    pub(super) fn count_write(&mut self, bytes: usize, kept: usize) {
        self.lost.unsynced_bytes += bytes as u64;
        self.lost.lost_bytes += (bytes - kept) as u64;
        self.lost.torn_writes += u64::from(kept > 0 && kept < bytes);
    }
}
