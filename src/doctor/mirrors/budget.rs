//! Every wait has a deadline: its own, and that of the part of the work that it belongs to.

use crate::clock::{Time, now};
use std::future::Future;
use std::time::Duration;

/// The time that a part of the work may take.
pub struct Budget {
    until: Time,
}

impl Budget {
    /// So long, from now on.
    pub fn of(length: Duration) -> Budget {
        Budget { until: now() + length }
    }

    /// What is left of it, at most `most`.
    pub fn left(&self, most: Duration) -> Duration {
        self.until.since(now()).min(most)
    }

    /// Nothing is left.
    pub fn is_over(&self) -> bool {
        self.left(Duration::MAX).is_zero()
    }

    /// What `work` gives within `most` and within the budget; `None` where it takes longer.
    pub async fn within<T>(&self, most: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.left(most), work).await.ok()
    }
}
