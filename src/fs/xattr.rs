//! The extended attributes of files: what is cached of one, and who has it, as text (`getfattr -n user.braidfs.complete FILE`).
//!
//! They can be asked for by name and are never listed, as Ceph does with its virtual ones. `cp -a`, `rsync -X` and `tar --xattrs` copy
//! all that is listed, and in the copy these would be ordinary attributes that are true of nothing; some file systems have no
//! room for them either, and the copy would fail. docs/control.md has their names, where people find them.

use crate::fetch::stat::FileReport;
use fuser::{Errno, ReplyXattr};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// What all their names begin with.
const PREFIX: &[u8] = b"user.braidfs.";

/// The longest value that the kernel passes on (its `XATTR_SIZE_MAX`). Longer ones are E2BIG to who asks.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Bytes that are held, in memory or on disk, each counted once.
    CachedBytes,
    /// Bytes that are durable on disk.
    OnDiskBytes,
    /// Bytes that are in memory.
    InMemoryBytes,
    /// In bytes.
    Size,
    /// `yes` where all of it is durable on disk, else `no`.
    Complete,
    /// `yes` where it is pinned, or a folder above it, else `no`.
    Pinned,
    /// Its date, in words.
    Version,
    /// The URLs of the mirrors that have this version, without credentials, one a line.
    Mirrors,
    /// What is held of it, a letter for each of 64 parts.
    Map,
}

impl Attribute {
    /// Each with its name, after the prefix.
    const ALL: [(&str, Attribute); 9] = [
        ("cached_bytes", Attribute::CachedBytes),
        ("on_disk_bytes", Attribute::OnDiskBytes),
        ("in_memory_bytes", Attribute::InMemoryBytes),
        ("size", Attribute::Size),
        ("complete", Attribute::Complete),
        ("pinned", Attribute::Pinned),
        ("version", Attribute::Version),
        ("mirrors", Attribute::Mirrors),
        ("map", Attribute::Map),
    ];

    /// By its whole name. None of anybody else's: `ls` asks for `security.*` of each file, and gets its answer at once.
    pub fn of(name: &OsStr) -> Option<Attribute> {
        let name = name.as_bytes().strip_prefix(PREFIX)?;
        Attribute::ALL.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, attribute)| *attribute)
    }

    /// Its text, without an end of line.
    pub fn value(self, file: &FileReport) -> String {
        let yes_or_no = |is_so: bool| if is_so { "yes" } else { "no" }.to_owned();
        match self {
            Attribute::CachedBytes => file.held.either_bytes.to_string(),
            Attribute::OnDiskBytes => file.held.disk_bytes.to_string(),
            Attribute::InMemoryBytes => file.held.memory_bytes.to_string(),
            Attribute::Size => file.size_bytes.to_string(),
            Attribute::Complete => yes_or_no(file.complete),
            Attribute::Pinned => yes_or_no(file.pinned),
            Attribute::Version => file.version.clone(),
            Attribute::Mirrors => lines(&file.mirrors),
            Attribute::Map => file.cells.clone(),
        }
    }
}

/// As many of `all` as fit, one a line.
fn lines(all: &[String]) -> String {
    let mut text = String::new();
    for line in all {
        let end = if text.is_empty() { "" } else { "\n" };
        if text.len() + end.len() + line.len() > VALUE_BYTES_MAX {
            break;
        }
        text.push_str(end);
        text.push_str(line);
    }
    text
}

/// Answer who has room for `room_bytes`, or with 0 asks how much is needed.
pub fn answer(value: &[u8], room_bytes: u32, reply: ReplyXattr) {
    match room_bytes as usize {
        0 => reply.size(value.len() as u32),
        room_bytes if room_bytes < value.len() => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_known() {
        for (name, attribute) in Attribute::ALL {
            assert_eq!(Attribute::of(OsStr::new(&format!("user.braidfs.{name}"))), Some(attribute));
        }
        for name in ["security.capability", "user.braidfs.", "user.braidfs.siz", "user.braidfs.Size", "user.size", ""] {
            assert_eq!(Attribute::of(OsStr::new(name)), None, "{name}");
        }
    }

    #[test]
    fn more_mirrors_than_fit_are_cut_at_a_line() {
        let urls: Vec<String> = (0..1024).map(|at| format!("https://{at:0100}/")).collect();
        let file = FileReport { mirrors: urls.clone(), ..FileReport::default() };
        let text = Attribute::Mirrors.value(&file);
        let shown: Vec<&str> = text.split('\n').collect();
        assert_eq!(shown, urls[..VALUE_BYTES_MAX / 110]);
        assert_eq!(Attribute::Mirrors.value(&FileReport::default()), "");
    }
}
