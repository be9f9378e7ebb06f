//! Access profiles: a line of JSON for each range of a file that was read, in the order in which they were first touched.

use crate::control::client::ClientError;
use crate::control::protocol::{AskedRange, PathText};
use crate::control::report::AccessReport;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// A profile at most: what one request takes is less in any case.
const PROFILE_BYTES_MAX: u64 = 256 << 20;

/// Files, and ranges of them, as a request has them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Profile {
    pub(super) paths: Vec<PathText>,
    pub(super) ranges: Vec<AskedRange>,
    /// The line that each path is first on.
    pub(super) lines: Vec<u64>,
}

impl Profile {
    /// Of a file as `braidfs prefetch --record` writes it.
    ///
    /// # Errors
    /// It cannot be read, or a line of it is none, which is named.
    pub(super) fn read(file: &Path) -> Result<Profile, ClientError> {
        let name = file.display().to_string();
        let wrong = |name: String, why: String| ClientError::Input { name, why };
        let unread = |error: std::io::Error| wrong(name.clone(), format!("this profile cannot be read: {error}"));
        let opened = std::fs::File::open(file).map_err(unread)?;
        let mut lines = BufReader::new(opened.take(PROFILE_BYTES_MAX));
        let (mut profile, mut known, mut line) = (Profile::default(), HashMap::new(), Vec::new());
        for number in 1u64.. {
            line.clear();
            if lines.read_until(b'\n', &mut line).map_err(unread)? == 0 {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            profile.add(number, &line, &mut known).map_err(|why| wrong(format!("{name}:{number}"), why))?;
        }
        match profile.ranges.is_empty() {
            true => Err(wrong(name, "this profile has no range in it, so there is nothing to do".into())),
            false => Ok(profile),
        }
    }

    fn add(&mut self, number: u64, line: &[u8], known: &mut HashMap<PathText, u32>) -> Result<(), String> {
        const FORM: &str = "write {\"path\": \"a/b.bin\", \"offset\": 0, \"bytes\": 65536}";
        let access: AccessReport =
            serde_json::from_slice(line).map_err(|error| format!("this is no line of a profile: {error}; {FORM}"))?;
        if access.bytes == 0 || access.path.0.is_empty() {
            return Err(format!("this range has no path, or no bytes; {FORM}"));
        }
        let path = *known.entry(access.path.clone()).or_insert_with(|| {
            self.paths.push(access.path);
            self.lines.push(number);
            self.paths.len() as u32 - 1
        });
        self.ranges.push(AskedRange(path, access.offset, access.bytes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Profile, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let name = file.path().display().to_string();
        Profile::read(file.path()).map_err(|error| error.to_string().replace(&name, "p.jsonl"))
    }

    #[test]
    fn ranges_keep_their_order_and_paths_are_named_once() {
        let text = "{\"path\":\"b%FF\",\"offset\":0,\"bytes\":5}\n\n{\"path\":\"a\",\"offset\":7,\"bytes\":1,\"later\":true}\n\
                    {\"bytes\":2,\"offset\":9,\"path\":\"b%FF\"}";
        let wanted = Profile {
            paths: vec![PathText(b"b\xff".to_vec()), PathText(b"a".to_vec())],
            ranges: vec![AskedRange(0, 0, 5), AskedRange(1, 7, 1), AskedRange(0, 9, 2)],
            lines: vec![1, 3],
        };
        assert_eq!(read(text), Ok(wanted));
    }

    #[test]
    fn lines_that_are_none_are_named() {
        let good = "{\"path\":\"a\",\"offset\":0,\"bytes\":5}\n";
        for (text, said) in [
            (format!("{good}a.bin\n"), "p.jsonl:2: this is no line of a profile: expected value"),
            (format!("{good}{{\"path\":\"a\"}}\n"), "p.jsonl:2: this is no line of a profile: missing field `offset`"),
            ("{\"path\":\"a\",\"offset\":-1,\"bytes\":5}".into(), "invalid value: integer `-1`"),
            (
                "{\"path\":\"a\",\"offset\":0,\"bytes\":0}".into(),
                "p.jsonl:1: this range has no path, or no bytes; write",
            ),
            ("\n".into(), "p.jsonl: this profile has no range in it"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(said), "{said:?} is not in {error:?}");
        }
        let error = Profile::read(Path::new("/no/such.jsonl")).unwrap_err().to_string();
        assert!(error.starts_with("/no/such.jsonl: this profile cannot be read: No such file"), "{error}");
    }
}
