//! What the daemon says of the files that are being read. The names are those of `--json`: they are not changed.

use super::protocol::PathText;
use serde::{Deserialize, Serialize};

/// An open file in `status`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct ReadingReport {
    /// Relative to the mount.
    pub path: PathText,
    /// In bytes.
    pub size: u64,
    /// Handles and jobs that have it open.
    pub users: u64,
    /// Bytes that readers asked for since it was opened; what the kernel reads by itself is not counted.
    pub bytes_read: u64,
    /// Bytes of it that are durable on disk.
    pub on_disk_bytes: u64,
    /// Requests for it that are on their way.
    pub in_flight_fetches: u64,
    /// The file in 64 letters: `#` durable on disk, `m` here and some of it in memory only, `:` in part, `>` on its way, `.` not here.
    pub map: String,
}
