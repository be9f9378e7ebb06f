//! What tells threads that read until a test is over, however it ends.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets it when it goes: after the last step, or when a step has failed. Readers that nobody stops would hang the test.
pub struct SetAtEnd<'a>(pub &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
