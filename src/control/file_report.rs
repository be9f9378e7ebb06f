//! What the daemon says of one file or folder, as plain data, under the same rules as in `report`.

use super::protocol::PathText;
use serde::{Deserialize, Serialize};

/// `braidfs stat` and `braidfs status FILE`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct FileReport {
    /// Relative to the mountpoint; empty: the mountpoint.
    pub path: PathText,
    /// What it is.
    pub kind: PathKind,
    /// In bytes; 0 of a folder.
    pub size: u64,
    /// Its date, in seconds since 1970; none of a folder, or where no mirror says it.
    pub modified_unix_s: Option<i64>,
    /// Bytes of it, or of all that is below it, that are held, in memory or on disk, each counted once.
    pub cached_bytes: u64,
    /// In memory; what is written and not durable yet too.
    pub in_memory_bytes: u64,
    /// Durable on disk.
    pub on_disk_bytes: u64,
    /// Of a folder: file versions below it of which something is cached.
    pub cached_files: u64,
    /// All of a file is durable on disk.
    pub complete: bool,
    /// It is pinned, or a folder above it.
    pub pinned: bool,
    /// What tells this version from others: date and validators, in words.
    pub version: String,
    /// The mirrors that have this version; of a folder, all that are in use.
    pub mirrors: Vec<String>,
    /// The mirrors that have the file otherwise, and are not used for it.
    pub dissenters: Vec<Dissenter>,
    /// What is cached of a file, a letter for each of 64 equal parts: `#` all of it is durable on disk, `m` all of it is
    /// here, some in memory only, `:` some of it is here, `.` nothing. Empty of a folder.
    pub cells: String,
    /// The same in bytes, at most 4,096 runs in the order of the file.
    pub map: Vec<MapRun>,
    /// There were more runs: neighbours were joined, over what is not cached between them too.
    pub map_merged: bool,
}

/// A file or a folder.
#[derive(Serialize, Deserialize, Clone, Copy, Default, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// A file.
    #[default]
    File,
    /// A folder.
    Folder,
}

/// Cached bytes of a file that follow each other.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapRun {
    /// Where they begin.
    pub offset_bytes: u64,
    /// How many.
    pub bytes: u64,
    /// How many of these are cached: all, unless the map is merged.
    pub cached_bytes: u64,
    /// Where; of a run that was merged, where some of it is.
    #[serde(rename = "where")]
    pub place: Place,
}

/// Where bytes are cached.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Durable on disk only.
    Disk,
    /// In memory only.
    Memory,
    /// In both.
    Both,
}

/// A mirror that does not agree on a file.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct Dissenter {
    /// Which.
    pub url: String,
    /// How it has the file.
    pub why: String,
}
