//! The thread that touches memory before it is needed.
//!
//! The first write to a huge page makes the kernel clear it: 0.1 ms, but some 5 ms on virtual machines whose host takes free
//! memory back. A read would wait for that, and everything else that the data plane has to do meanwhile.

use super::Pool;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

impl Pool {
    /// Starts the thread. It ends with the pool. Memory that it touched counts as resident, and is given back like any
    /// other when nobody comes for it. To be called once.
    ///
    /// Errors: the machine has no thread left.
    pub fn touch_ahead(&self) -> io::Result<()> {
        let (toucher, told) = sync_channel(1);
        let arena = Arc::downgrade(&self.0.arena);
        let touch = move || {
            // The sender goes with the arena.
            while told.recv().is_ok() {
                let Some(arena) = arena.upgrade() else { return };
                arena.touch_ahead();
            }
        };
        std::thread::Builder::new().name("braidfs-memory".into()).spawn(touch)?;
        self.0.arena.set_toucher(toucher);
        Ok(())
    }
}
