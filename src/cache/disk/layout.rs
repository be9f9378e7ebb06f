//! The cache folder: `lock`, `format`, `state.redb`, `data/xx/ID.pages` and `data/xx/ID.sums`.

use super::OpenError;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The form of everything in the folder. A change that older programs cannot read raises it.
const FORMAT: u32 = 1;
/// Damaged state files that are kept for whoever looks into it; older ones go.
const DAMAGED_KEPT: u64 = 1;
/// Subfolders of `data`: a few thousand names each, even with a million data files.
pub(super) const FOLDERS: u64 = 256;

/// Knows every path.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Make the folder where it is missing.
    pub(super) fn make_folder(dir: &Path) -> Result<(), OpenError> {
        // What people read is their own business: 0700.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| OpenError::from_io(dir, error))
    }

    /// Check the format of the locked folder. Says whether anything had to be set aside.
    pub(super) fn open(dir: &Path) -> Result<(Layout, bool), OpenError> {
        let layout = Layout { dir: dir.to_path_buf() };
        let path = dir.join("format");
        let failed = |error| OpenError::from_io(&path, error);
        let text = match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let known = text.as_ref().map(|bytes| {
            std::str::from_utf8(bytes).ok().and_then(|text| text.trim().strip_prefix("braidfs cache ")?.parse().ok())
        });
        let mut set_aside = false;
        match known {
            Some(Some(FORMAT)) => {}
            Some(Some(found)) if found > FORMAT => {
                return Err(OpenError::NewerFormat { dir: dir.to_path_buf(), found, known: FORMAT });
            }
            // Unreadable, or state without the file that says what it is.
            _ => {
                set_aside = layout.state().exists();
                if set_aside {
                    layout.set_aside()?;
                }
                layout.write_format().map_err(failed)?;
            }
        }
        fs::create_dir_all(layout.data()).map_err(|error| OpenError::from_io(&layout.data(), error))?;
        Ok((layout, set_aside))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn state(&self) -> PathBuf {
        self.dir.join("state.redb")
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A file that is written to see whether the disk works again.
    pub(super) fn probe(&self) -> PathBuf {
        self.dir.join("probe")
    }

    pub(super) fn pages(&self, data_id: u64) -> PathBuf {
        self.data().join(format!("{:02x}", data_id % FOLDERS)).join(format!("{data_id:x}.pages"))
    }

    pub(super) fn sums(&self, data_id: u64) -> PathBuf {
        self.pages(data_id).with_extension("sums")
    }

    /// Delete a data file and its checksums. Missing ones are fine.
    pub(super) fn remove(&self, data_id: u64) -> io::Result<()> {
        for path in [self.pages(data_id), self.sums(data_id)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Put a damaged state out of the way, and the data that nobody can make sense of without it.
    pub(super) fn set_aside(&self) -> Result<(), OpenError> {
        let numbers = self.damaged_numbers();
        let number = numbers.iter().max().map_or(1, |last| last + 1);
        for old in numbers.iter().filter(|&&old| old + DAMAGED_KEPT < number) {
            let _ = fs::remove_file(self.dir.join(format!("state.redb.damaged-{old}")));
        }
        for (from, to) in [(self.state(), "state.redb"), (self.data(), "data")] {
            let to = self.dir.join(format!("{to}.damaged-{number}"));
            match fs::rename(&from, &to) {
                Ok(()) => tracing::warn!(from = %from.display(), to = %to.display(), "set aside a damaged cache"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(OpenError::from_io(&from, error)),
            }
        }
        fs::create_dir_all(self.data()).map_err(|error| OpenError::from_io(&self.data(), error))
    }

    /// Delete the data that was set aside. Takes time in proportion to it: not while opening.
    pub(super) fn clear_damaged_data(&self) -> io::Result<()> {
        for number in self.damaged_numbers() {
            match fs::remove_dir_all(self.dir.join(format!("data.damaged-{number}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Is there set-aside data left to delete?
    pub(super) fn has_damaged_data(&self) -> bool {
        self.damaged_numbers().iter().any(|number| self.dir.join(format!("data.damaged-{number}")).exists())
    }

    /// What the folder holds besides data files: state, what was set aside of it, the folders themselves.
    pub(super) fn overhead_bytes(&self) -> u64 {
        let allocated = |path: PathBuf| fs::metadata(path).map_or(0, |data| data.blocks() * 512);
        let damaged = self.damaged_numbers().into_iter().map(|number| format!("state.redb.damaged-{number}"));
        // `data` itself, its parent, lock, format, probe, and every subfolder, made or not.
        let folders = (FOLDERS + 8) * 4096;
        folders + allocated(self.state()) + damaged.map(|name| allocated(self.dir.join(name))).sum::<u64>()
    }

    fn damaged_numbers(&self) -> Vec<u64> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut numbers: Vec<_> =
            names.filter_map(|name| name.split_once(".damaged-").and_then(|(_, number)| number.parse().ok())).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    fn write_format(&self) -> io::Result<()> {
        let (path, fresh) = (self.dir.join("format"), self.dir.join("format.new"));
        let mut file = fs::File::create(&fresh)?;
        writeln!(file, "braidfs cache {FORMAT}")?;
        file.sync_all()?;
        fs::rename(fresh, path)?;
        fs::File::open(&self.dir)?.sync_all()
    }
}
