//! File handles: the numbers that the kernel holds for what we hold.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A table of things by number. Numbers are never used twice.
pub struct Handles<T: ?Sized> {
    next: AtomicU64,
    by_number: RwLock<HashMap<u64, Arc<T>>>,
}

impl<T: ?Sized> Default for Handles<T> {
    fn default() -> Self {
        Handles { next: AtomicU64::new(1), by_number: RwLock::default() }
    }
}

impl<T: ?Sized> Handles<T> {
    /// A number for it.
    pub fn add(&self, thing: Arc<T>) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.by_number.write().insert(number, thing);
        number
    }

    /// What has this number.
    pub fn get(&self, number: u64) -> Option<Arc<T>> {
        self.by_number.read().get(&number).cloned()
    }

    /// Take it out.
    pub fn remove(&self, number: u64) -> Option<Arc<T>> {
        self.by_number.write().remove(&number)
    }
}
