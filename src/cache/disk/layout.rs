//! The cache folder: `lock`, `format`, `state.redb`, `data/xx/ID.pages` and `data/xx/ID.sums`.

use super::OpenError;
use super::drive::{Drive, DriveFile, Opening};
use super::fail_point::{FailPoint, reached};
use super::page_io::DataFile;
use std::collections::BTreeSet;
use std::io;
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
    drive: Drive,
}

impl Layout {
    /// Make the folder where it is missing.
    pub(super) fn make_folder(drive: &Drive, dir: &Path) -> Result<(), OpenError> {
        let missing: Vec<_> = dir.ancestors().take_while(|folder| !drive.exists(folder)).collect();
        drive.make_folders(dir).map_err(|error| OpenError::from_io(dir, error))?;
        for parent in missing.iter().filter_map(|folder| folder.parent()) {
            // Best effort: a power cut soon after loses a cache with little in it, and never a byte's truth.
            if let Err(error) = drive.sync_folder(parent) {
                tracing::debug!(%error, folder = %parent.display(), "could not make the new cache folder's name durable");
            }
        }
        Ok(())
    }

    /// Check the format of the locked folder. Says whether anything had to be set aside.
    pub(super) fn open(drive: &Drive, dir: &Path) -> Result<(Layout, bool), OpenError> {
        let layout = Layout { dir: dir.to_path_buf(), drive: drive.clone() };
        let path = dir.join("format");
        let failed = |error| OpenError::from_io(&path, error);
        let text = match drive.read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let known = text.as_deref().map(format_of);
        let mut set_aside = false;
        match known {
            Some(Some(FORMAT)) => {}
            Some(Some(found)) if found > FORMAT => {
                return Err(OpenError::NewerFormat { dir: dir.to_path_buf(), found, known: FORMAT });
            }
            // Unreadable, or state without the file that says what it is.
            _ => {
                set_aside = drive.exists(&layout.state());
                if set_aside {
                    layout.set_aside()?;
                }
                layout.write_format().map_err(failed)?;
            }
        }
        layout.make_data()?;
        Ok((layout, set_aside))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn drive(&self) -> &Drive {
        &self.drive
    }

    /// Bytes that the file system has left for us.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        self.drive.free_bytes(&self.dir)
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
        self.subfolder(data_id % FOLDERS).join(format!("{data_id:x}.pages"))
    }

    fn subfolder(&self, number: u64) -> PathBuf {
        self.data().join(format!("{number:02x}"))
    }

    pub(super) fn sums(&self, data_id: u64) -> PathBuf {
        self.pages(data_id).with_extension("sums")
    }

    /// The file of all small state, made where it is missing.
    pub(super) fn open_state(&self) -> io::Result<DriveFile> {
        self.drive.open(&self.state(), Opening::Made)
    }

    /// An existing data file.
    pub(super) fn open_data(&self, data_id: u64) -> io::Result<DataFile> {
        DataFile::open(&self.drive, &self.pages(data_id), &self.sums(data_id))
    }

    /// A new data file.
    pub(super) fn create_data(&self, data_id: u64) -> io::Result<DataFile> {
        DataFile::create(&self.drive, &self.pages(data_id), &self.sums(data_id))
    }

    /// Wait until the names of the folder itself are on the disk.
    pub(super) fn sync_names(&self) -> io::Result<()> {
        self.drive.sync_folder(&self.dir)
    }

    /// Wait until the names of these data files, or that they are gone, are on the disk.
    pub(super) fn sync_data_names(&self, data_ids: impl IntoIterator<Item = u64>) -> io::Result<()> {
        let folders: BTreeSet<u64> = data_ids.into_iter().map(|data_id| data_id % FOLDERS).collect();
        for folder in &folders {
            match self.drive.sync_folder(&self.subfolder(*folder)) {
                // Nothing was ever made there.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // The subfolders may be as new as the files.
        if folders.is_empty() { Ok(()) } else { self.drive.sync_folder(&self.data()) }
    }

    /// Delete a data file and its checksums. Missing ones are fine.
    pub(super) fn remove(&self, data_id: u64) -> io::Result<()> {
        for path in [self.pages(data_id), self.sums(data_id)] {
            match self.drive.remove_file(&path) {
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
            let _ = self.drive.remove_file(&self.dir.join(format!("state.redb.damaged-{old}")));
        }
        // The data first: a state without its data claims files that are missed at once and fetched again, but data
        // without its state would be counted by nobody.
        for (from, to) in [(self.data(), "data"), (self.state(), "state.redb")] {
            let to = self.dir.join(format!("{to}.damaged-{number}"));
            match self.drive.rename(&from, &to) {
                Ok(()) => tracing::warn!(from = %from.display(), to = %to.display(), "set aside a damaged cache"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(OpenError::from_io(&from, error)),
            }
            self.sync_names().map_err(|error| OpenError::from_io(&self.dir, error))?;
            reached(FailPoint::SettingAside);
        }
        self.make_data()
    }

    /// Delete the data that was set aside. Takes time in proportion to it: not while opening.
    pub(super) fn clear_damaged_data(&self) -> io::Result<()> {
        for number in self.damaged_numbers() {
            match self.drive.remove_folder(&self.dir.join(format!("data.damaged-{number}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Is there set-aside data left to delete?
    pub(super) fn has_damaged_data(&self) -> bool {
        self.damaged_numbers().iter().any(|number| self.drive.exists(&self.dir.join(format!("data.damaged-{number}"))))
    }

    /// What the folder holds besides data files: state, what was set aside of it, the folders themselves.
    pub(super) fn overhead_bytes(&self) -> u64 {
        let allocated = |path: PathBuf| self.drive.allocated_bytes(&path);
        let damaged = self.damaged_numbers().into_iter().map(|number| format!("state.redb.damaged-{number}"));
        // `data` itself, its parent, lock, format, probe, and every subfolder, made or not.
        let folders = (FOLDERS + 8) * 4096;
        folders + allocated(self.state()) + damaged.map(|name| allocated(self.dir.join(name))).sum::<u64>()
    }

    fn damaged_numbers(&self) -> Vec<u64> {
        let number = |name: &String| name.split_once(".damaged-").and_then(|(_, number)| number.parse().ok());
        let mut numbers: Vec<_> = self.drive.names(&self.dir).iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    fn make_data(&self) -> Result<(), OpenError> {
        self.drive.make_folders(&self.data()).map_err(|error| OpenError::from_io(&self.data(), error))
    }

    fn write_format(&self) -> io::Result<()> {
        let (path, fresh) = (self.dir.join("format"), self.dir.join("format.new"));
        let file = self.drive.open(&fresh, Opening::Anew)?;
        let form = format!("braidfs cache {FORMAT}");
        file.write_all_at(format!("{form}\n{:08x}\n", crc32c::crc32c(form.as_bytes())).as_bytes(), 0)?;
        file.sync()?;
        self.drive.rename(&fresh, &path)?;
        self.drive.sync_folder(&self.dir)
    }
}

/// The format that is written down, by a line with its checksum below it: an altered one must not pass for a newer
/// one, which is refused.
fn format_of(bytes: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (form, sum) = text.split_once('\n')?;
    let right = u32::from_str_radix(sum.trim(), 16).is_ok_and(|sum| sum == crc32c::crc32c(form.as_bytes()));
    // Folders made before there was a checksum have the first form.
    let first = sum.is_empty() && form == "braidfs cache 1";
    form.strip_prefix("braidfs cache ").filter(|_| right || first)?.parse().ok()
}
