//! kill -9 at any moment: right bytes after it, little fetched again, nothing stale left.

mod killed;
mod stale_mountpoint;
