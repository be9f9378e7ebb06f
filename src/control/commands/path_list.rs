//! Lists of paths (`--files-from`): one a line, or each ended by a NUL.

use crate::control::client::ClientError;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A list at most: what is longer is a mistake (a data file for a list), or better named by its folders.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// Where a list of paths is, and how it is written.
#[derive(Clone, Copy, Debug)]
pub struct PathList<'a> {
    /// The file; `-`: stdin.
    pub file: &'a Path,
    /// A NUL ends each path, as `find -print0` writes them; else the end of its line does.
    pub null: bool,
}

/// A path that was given, and where that was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    /// As it was written.
    pub path: PathBuf,
    /// `list.txt:17`; none on the command line.
    pub place: Option<String>,
}

impl From<&PathBuf> for Given {
    fn from(path: &PathBuf) -> Given {
        Given { path: path.clone(), place: None }
    }
}

impl PathList<'_> {
    /// Its paths, in their order. Empty lines are skipped.
    ///
    /// # Errors
    /// It cannot be read, is too long, or names nothing.
    pub fn read(&self, stdin: &mut dyn Read) -> Result<Vec<Given>, ClientError> {
        let name = self.name();
        let mut bytes = Vec::new();
        let read = match self.is_stdin() {
            true => stdin.take(LIST_BYTES_MAX + 1).read_to_end(&mut bytes),
            false => {
                std::fs::File::open(self.file).and_then(|file| file.take(LIST_BYTES_MAX + 1).read_to_end(&mut bytes))
            }
        };
        let wrong = |why: String| ClientError::Input { name: name.clone(), why };
        read.map_err(|error| wrong(format!("this list of paths cannot be read: {error}")))?;
        if bytes.len() as u64 > LIST_BYTES_MAX {
            return Err(wrong("a list of paths has 64 MiB at most: name folders instead of their files".into()));
        }
        let paths = self.paths(&bytes);
        match paths.is_empty() {
            true => Err(wrong("this list names no path, so there is nothing to do".into())),
            false => Ok(paths),
        }
    }

    fn paths(&self, bytes: &[u8]) -> Vec<Given> {
        let (end, name) = (if self.null { 0 } else { b'\n' }, self.name());
        let numbered = bytes.split(|byte| *byte == end).zip(1u64..).filter(|(path, _)| !path.is_empty());
        let given = |(path, number): (&[u8], u64)| Given {
            path: OsStr::from_bytes(path).into(),
            place: Some(if self.null { format!("{name}, path {number}") } else { format!("{name}:{number}") }),
        };
        numbered.map(given).collect()
    }

    fn is_stdin(&self) -> bool {
        self.file == Path::new("-")
    }

    fn name(&self) -> String {
        if self.is_stdin() { "stdin".to_owned() } else { self.file.display().to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(null: bool, mut text: &[u8]) -> Result<Vec<(String, String)>, String> {
        let given = PathList { file: Path::new("-"), null }.read(&mut text).map_err(|error| error.to_string())?;
        let shown = |given: Given| (given.path.display().to_string(), given.place.unwrap());
        Ok(given.into_iter().map(shown).collect())
    }

    fn pairs(wanted: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(wanted.iter().map(|(path, place)| (path.to_string(), place.to_string())).collect())
    }

    #[test]
    fn lines_are_paths_in_their_order_and_keep_their_numbers() {
        assert_eq!(read(false, b"b\n\na c\n\n"), pairs(&[("b", "stdin:1"), ("a c", "stdin:3")]));
        assert_eq!(read(false, b"b"), pairs(&[("b", "stdin:1")]), "the last line need not end");
        let nulls = pairs(&[("b\nc", "stdin, path 1"), ("d", "stdin, path 2")]);
        assert_eq!(read(true, b"b\nc\0d\0"), nulls, "a name may have a line's end in it");
    }

    #[test]
    fn lists_that_are_none_are_named() {
        assert_eq!(read(false, b"\n\n"), Err("stdin: this list names no path, so there is nothing to do".into()));
        let missing = PathList { file: Path::new("/no/such.txt"), null: false }.read(&mut std::io::empty());
        let error = missing.unwrap_err();
        assert!(error.to_string().starts_with("/no/such.txt: this list of paths cannot be read: No such file"));
        assert_eq!(error.exit_code(), 1);
        let error = PathList { file: Path::new("/dev/zero"), null: true }.read(&mut std::io::empty()).unwrap_err();
        assert!(error.to_string().contains("/dev/zero: a list of paths has 64 MiB at most"), "{error}");
    }
}
