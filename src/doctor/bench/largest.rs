//! The largest file of a mount, as far as a bounded look finds it.

use crate::clock::{Time, now};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

const FOLDERS_MAX: usize = 64;
const NAMES_MAX: usize = 20_000;

/// Folder by folder, those near the root first; `None` where no file is found by then that is not empty.
///
/// # Errors
/// The root cannot be listed.
pub fn largest_file(root: &Path, until: Time) -> std::io::Result<Option<PathBuf>> {
    let mut waiting = VecDeque::from([root.to_owned()]);
    let mut largest: Option<(u64, PathBuf)> = None;
    let (mut folders, mut names) = (0, 0);
    while let Some(folder) = waiting.pop_front() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if folders == 0 => return Err(error),
            Err(_) => continue,
        };
        folders += 1;
        for entry in entries.flatten() {
            names += 1;
            if names > NAMES_MAX || now() > until {
                return Ok(largest.map(|(_, path)| path));
            }
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() && waiting.len() + folders < FOLDERS_MAX {
                waiting.push_back(entry.path());
            } else if about.is_file() && about.len() > largest.as_ref().map_or(0, |(bytes, _)| *bytes) {
                largest = Some((about.len(), entry.path()));
            }
        }
    }
    Ok(largest.map(|(_, path)| path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_found_below_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let find = || largest_file(folder.path(), Time::NEVER).unwrap();
        std::fs::write(folder.path().join("empty"), "").unwrap();
        assert_eq!(find(), None);
        std::fs::write(folder.path().join("small"), "12").unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/large"), "12345").unwrap();
        assert_eq!(find(), Some(folder.path().join("a/b/large")));
        assert!(largest_file(&folder.path().join("no"), Time::NEVER).is_err());
    }
}
