//! Files of checksums beside the files that they speak of: SHA256SUMS and its kin.
//!
//! Lines as coreutils' `sha256sum` writes them: the digest in hex, a space, a space or `*`, the name. A backslash in
//! front says that the name is escaped. `--tag` lines (`SHA256 (name) = digest`) are read too. Anything else in such a
//! file (comments, signatures) is passed over.

use super::digest::Digest;
use std::collections::HashMap;

/// The names that such a file goes by, the one to be asked for first in front.
pub const SUMS_NAMES: [&str; 9] = [
    "SHA256SUMS",
    "SHA256SUMS.txt",
    "sha256sums.txt",
    "sha256sum.txt",
    "checksums.sha256",
    "SHA512SUMS",
    "sha512sums.txt",
    "MD5SUMS",
    "md5sums.txt",
];

/// The longest such file that is read, in bytes: some 150,000 lines.
pub const SUMS_BYTES_MAX: u64 = 16 << 20;
/// Lines that are kept of one file, some 150 bytes each. Files behind that are not checked.
pub const SUMS_ENTRIES_MAX: usize = 65_536;

/// What one such file says. Names are relative to its folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// `None`: it says two things of one file, so nothing.
    entries: HashMap<Box<[u8]>, Option<Digest>>,
    /// There were more lines than are kept.
    pub cut: bool,
}

impl Sums {
    /// Never fails: what is no line of a sums file says nothing.
    pub fn parse(text: &[u8]) -> Sums {
        let mut sums = Sums::default();
        for line in text.split(|&byte| byte == b'\n') {
            let Some((name, digest)) = parse_line(line.strip_suffix(b"\r").unwrap_or(line)) else { continue };
            if sums.entries.len() >= SUMS_ENTRIES_MAX && !sums.entries.contains_key(&*name) {
                sums.cut = true;
                continue;
            }
            sums.add(name, digest);
        }
        sums
    }

    /// What it says of the file at `path`.
    pub fn get(&self, path: &[u8]) -> Option<&Digest> {
        self.entries.get(path)?.as_ref()
    }

    /// How many files it speaks of.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// It speaks of none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forget what `other` does not say too. Of how many files they differ.
    pub fn keep_common(&mut self, other: &Sums) -> usize {
        let before = self.entries.len();
        self.entries.retain(|name, digest| other.entries.get(name) == Some(digest));
        before - self.entries.len() + (other.entries.len() - self.entries.len())
    }

    fn add(&mut self, name: Box<[u8]>, digest: Digest) {
        let known = self.entries.entry(name).or_insert_with(|| Some(digest.clone()));
        match known {
            Some(known) if known.algorithm() == digest.algorithm() && *known != digest => {}
            Some(known) => {
                if digest.algorithm() < known.algorithm() {
                    *known = digest;
                }
                return;
            }
            None => return,
        }
        *known = None;
    }
}

fn parse_line(line: &[u8]) -> Option<(Box<[u8]>, Digest)> {
    let (escaped, line) = match line.strip_prefix(b"\\") {
        Some(line) => (true, line),
        None => (false, line),
    };
    let (name, digest) = plain(line).or_else(|| tagged(line))?;
    let name = if escaped { unescape(name)? } else { name.to_vec() };
    Some((normal(&name)?.into(), digest))
}

/// `digest  name`, `digest *name`, and `digest name` of those who leave the mark out.
fn plain(line: &[u8]) -> Option<(&[u8], Digest)> {
    let at = line.iter().position(|&byte| byte == b' ')?;
    let digest = Digest::of_hex(&line[..at])?;
    let rest = &line[at + 1..];
    Some((rest.strip_prefix(b" ").or(rest.strip_prefix(b"*")).unwrap_or(rest), digest))
}

/// `SHA256 (name) = digest`.
fn tagged(line: &[u8]) -> Option<(&[u8], Digest)> {
    let open = line.windows(2).position(|pair| pair == b" (")?;
    let close = line.windows(4).rposition(|four| four == b") = ")?;
    let name = line.get(open + 2..close)?;
    Some((name, Digest::of_hex(&line[close + 4..])?))
}

fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(plain)
}

/// Without `./` in front; none where it leads out of the folder or to no file.
fn normal(mut name: &[u8]) -> Option<&[u8]> {
    while let Some(rest) = name.strip_prefix(b"./") {
        name = rest;
    }
    let sound = name.split(|&byte| byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    sound.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::digest::Algorithm;
    use proptest::prelude::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    fn digest(bytes: &[u8]) -> Digest {
        Digest::of(Algorithm::Sha256, bytes)
    }

    fn hex(bytes: &[u8]) -> String {
        digest(bytes).to_string()["sha-256:".len()..].to_owned()
    }

    #[test]
    fn lines_of_all_usual_kinds_are_read_and_others_passed_over() {
        let (a, b) = (hex(b"a"), hex(b"b"));
        let text = format!(
            "# a comment\n{a}  plain\n{a} *binary\n{a}  ./sub/below\r\n{a} reversed\nSHA256 (tagged (1)) = {a}\n\
             {a}  ../outside\n{a}  /absolute\n{a}  \n{a}zz  long\n{b}  twice\n{a}  twice\n\\{a}  a\\nb\n\\{a}  a\\tb\n{a}  same\n{a}  same"
        );
        let sums = Sums::parse(text.as_bytes());
        for name in ["plain", "binary", "sub/below", "reversed", "tagged (1)", "a\nb", "same"] {
            assert_eq!(sums.get(name.as_bytes()), Some(&digest(b"a")), "{name:?}");
        }
        assert_eq!((sums.len(), sums.get(b"twice"), sums.cut), (8, None, false));
        let md5 = Digest::of(Algorithm::Md5, b"").to_string();
        let both = format!("{}  x\n{a}  x\n{}  x\n", &md5["md5:".len()..], &md5["md5:".len()..]);
        assert_eq!(Sums::parse(both.as_bytes()).get(b"x"), Some(&digest(b"a")), "the better one");
    }

    #[test]
    fn what_two_differ_in_is_said_by_neither() {
        let (a, b) = (hex(b"a"), hex(b"b"));
        let mut one = Sums::parse(format!("{a}  same\n{a}  other\n{a}  one only\n").as_bytes());
        let two = Sums::parse(format!("{a}  same\n{b}  other\n").as_bytes());
        // One name on one side only, and one on both that differs.
        assert_eq!((one.keep_common(&two), one.len()), (3, 1));
        let same = one.clone();
        assert_eq!((one.keep_common(&same), one.get(b"same")), (0, Some(&digest(b"a"))));
    }

    #[test]
    fn more_lines_than_are_kept_are_cut() {
        let line = |at: usize| format!("{}  f{at}\n", hex(b""));
        let text: String = (0..SUMS_ENTRIES_MAX + 5).map(line).collect();
        let sums = Sums::parse(text.as_bytes());
        assert_eq!((sums.len(), sums.cut), (SUMS_ENTRIES_MAX, true));
    }

    /// Coreutils itself writes the lines.
    #[test]
    fn what_coreutils_writes_of_odd_names_is_read_back() {
        let names: &[&[u8]] = &[
            b"plain",
            b"two words",
            b" leading",
            b"*star",
            b"back\\slash",
            b"new\nline",
            b"trailing ",
            b"#hash",
            b"(x) = y",
            b"caf\xc3\xa9",
            b"\xff\xfe",
            b"tab\t",
            b"-dash",
            b"\\",
            b"quote'\"",
        ];
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(OsStr::from_bytes(name)), name).unwrap();
        }
        for options in [&["--"][..], &["--binary", "--"], &["--tag", "--"]] {
            let mut command = Command::new("sha256sum");
            command.current_dir(folder.path()).args(options).args(names.iter().map(|name| OsStr::from_bytes(name)));
            let written = command.output().unwrap();
            assert!(written.status.success());
            let sums = Sums::parse(&written.stdout);
            for name in names {
                assert_eq!(sums.get(name), Some(&digest(name)), "{options:?} {:?}", OsStr::from_bytes(name));
            }
            assert_eq!(sums.len(), names.len());
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..400)) {
            Sums::parse(&text);
        }

        #[test]
        fn lines_among_rubbish_are_found(name in "[a-z \\\\*]{1,12}", before in "[ -~]{0,40}", after in "[ -~\\\\\n]{0,80}") {
            let escaped = name.replace('\\', "\\\\");
            let mark = if escaped == name { "" } else { "\\" };
            let text = format!("{before}\n{mark}{}  {escaped}\n{after}", hex(name.as_bytes()));
            let sums = Sums::parse(text.as_bytes());
            prop_assert_eq!(sums.get(name.as_bytes()), Some(&digest(name.as_bytes())));
        }
    }
}
