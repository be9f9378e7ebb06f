//! kill -9 and power cuts at any moment: right bytes after it, little fetched again, nothing stale left.

mod cycles;
mod ext4;
mod killed;
mod load;
mod points;
mod stale_mountpoint;
