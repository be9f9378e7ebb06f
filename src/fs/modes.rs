//! In which mode each inode is open: its reads are answered by us, through the kernel's page cache, or the kernel reads a
//! complete file on the cache's disk by itself (FUSE passthrough).
//!
//! The mode belongs to the inode until its last handle closes: while one handle is open in one mode, the kernel fails an
//! open in the other with EIO. So the first open decides for all that overlap with it.

use crate::fetch::{LentStanding, Whole};
use fuser::{BackingId, FileHandle, FopenFlags, ReplyOpen};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is open, by inode.
#[derive(Default)]
pub struct Modes {
    open: Mutex<HashMap<u64, Open>>,
    /// The kernel has it, it was asked for, and nothing was refused yet.
    passthrough: AtomicBool,
}

struct Open {
    handles: u64,
    mode: Mode,
}

enum Mode {
    Answered,
    /// Both are to outlive the last handle.
    Passthrough {
        id: BackingId,
        file: Whole,
    },
}

/// What became of an open.
pub enum Opened {
    /// Its reads come to us.
    Answered,
    /// They do not.
    Passthrough,
    /// Somebody has it open and reads it past us, and it was found damaged: it is to be mended, and then opened again.
    Damaged(ReplyOpen),
    /// The same, but it turned out to be wrong. Nobody else may read it: the open is to fail.
    Wrong(ReplyOpen),
}

impl Modes {
    /// From now on complete files are passed through.
    pub fn allow_passthrough(&self) {
        self.passthrough.store(true, Ordering::Relaxed);
    }

    /// Answer an open. `whole` gives the complete file, where it is one and nobody else has it open.
    pub fn opened(
        &self,
        inode: u64,
        handle: FileHandle,
        flags: FopenFlags,
        whole: impl FnOnce() -> Option<Whole>,
        reply: ReplyOpen,
    ) -> Opened {
        let mut open = self.open.lock();
        let open = match open.entry(inode) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(Open { handles: 0, mode: self.choose(whole, &reply) }),
        };
        // Under the lock: answers reach the kernel in the order in which modes were chosen.
        let opened = match &open.mode {
            Mode::Answered => {
                reply.opened(handle, flags);
                Opened::Answered
            }
            Mode::Passthrough { id, file } => match file.standing() {
                LentStanding::Wrong => return Opened::Wrong(reply),
                LentStanding::Damaged => return Opened::Damaged(reply),
                LentStanding::Right => {
                    // What is said of the page cache does not go with it: the kernel would refuse.
                    reply.opened_passthrough(handle, FopenFlags::empty(), id);
                    Opened::Passthrough
                }
            },
        };
        open.handles += 1;
        opened
    }

    /// A handle was closed.
    pub fn released(&self, inode: u64) {
        let mut all = self.open.lock();
        let Entry::Occupied(mut open) = all.entry(inode) else { return };
        open.get_mut().handles -= 1;
        let gone = if open.get().handles == 0 { Some(open.remove()) } else { None };
        drop(all);
        drop(gone);
    }

    fn choose(&self, whole: impl FnOnce() -> Option<Whole>, reply: &ReplyOpen) -> Mode {
        if !self.passthrough.load(Ordering::Relaxed) {
            return Mode::Answered;
        }
        let Some(whole) = whole() else { return Mode::Answered };
        let Some(descriptor) = whole.descriptor() else { return Mode::Answered };
        match reply.open_backing(descriptor) {
            Ok(id) => Mode::Passthrough { id, file: whole },
            Err(error) => {
                // Without privilege, or a cache on a file system that cannot be under another: it stays so.
                self.passthrough.store(false, Ordering::Relaxed);
                tracing::info!(%error, "the kernel does not take over reads of complete files (passthrough): they are answered by us");
                Mode::Answered
            }
        }
    }
}
