//! Waiting for memory, where a task may wait.

use crate::cache::pool::Reservation;
use crate::chunk::{Class, Pages};
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::Plane;
use std::sync::Arc;
use std::time::Duration;

/// How often to look again: a read that begins to wait further on rings no bell here.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Memory for `pages` of a body that comes in file order, whatever is wanted of it: as soon as there is
/// some, since a reader that it is ahead of makes room by reading on. None where a read waits further
/// on: these pages must not stand in its way (its own memory is reserved already).
pub async fn wait_for(plane: &Arc<Plane>, file: &Arc<OpenFile>, pages: Pages) -> Option<Reservation> {
    loop {
        let freed = plane.memory_freed.notified();
        // A read that waits for them has reserved them; what nobody waits for takes no demand memory.
        if let Ok(memory) = plane.pool.reserve(file.inode, pages, Class::Readahead, true) {
            return Some(memory);
        }
        if plane.waiting.beyond(file.inode, pages.end) {
            return None;
        }
        #[allow(clippy::disallowed_methods, reason = "fetch waits for time; a deadline is no cure here")]
        let look_again = tokio::time::sleep(LOOK_AGAIN);
        tokio::select! { () = freed => {}, () = look_again => {} }
    }
}
