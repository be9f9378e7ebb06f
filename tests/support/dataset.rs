//! The tests' dataset: small, the same bytes every time, with every kind of name that hurts.

use super::faulty::generate;
use super::state;
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Part of the folder's name: change it with the contents, so that an old build's files are not used.
const VERSION: u32 = 2;
/// The large files: name, bytes. One ends on a page, one in the middle of one, one is odd in every way.
pub const BIG: [(&str, u64); 4] =
    [("big/a.bin", 32 << 20), ("big/b.bin", (16 << 20) + 1234), ("big/c.bin", 3_333_333), ("big/d.bin", 8 << 20)];
/// Small text files.
pub const TEXTS: usize = 200;
/// Entries of the large folder.
pub const MANY: usize = 5000;
/// 2024-03-01 12:00 UTC. Whole minutes only, since index pages of nginx carry no more.
const MTIME: u64 = 1_709_294_400;

/// A file of it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Below the root.
    pub path: PathBuf,
    pub size_bytes: u64,
    /// Seconds since 1970.
    pub mtime: u64,
}

/// Where it lies on disk; made once for all tests.
pub fn root() -> PathBuf {
    let wanted = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("dataset-{VERSION}"));
    if !wanted.exists() {
        let made = state::folder();
        make(made.path()).expect("the target folder has room for 90 MB");
        // Two tests may both have made it; the second one's is dropped, which is no error.
        let renamed = fs::rename(made.path(), &wanted);
        assert!(renamed.is_ok() || wanted.exists(), "the dataset could not be put in place: {renamed:?}");
    }
    wanted
}

/// Every file below `root`, sorted by path.
pub fn files(root: &Path) -> Vec<Listed> {
    let mut folders = vec![root.to_path_buf()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder's entries can be read").path();
            let about = fs::metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if about.is_dir() {
                folders.push(path);
                continue;
            }
            let mtime = about.modified().expect("Linux has mtimes").duration_since(UNIX_EPOCH);
            let mtime = mtime.expect("no file is older than 1970").as_secs();
            let path = path.strip_prefix(root).expect("it was found below the root").to_path_buf();
            found.push(Listed { path, size_bytes: about.len(), mtime });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The hash of a file, read by 1 MiB.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(format!("{:x}", hash.finalize()));
        }
        hash.update(&buffer[..count]);
    }
}

/// The right bytes of a large file of [`BIG`].
pub fn big_bytes(name: &str, offset: u64, length: usize) -> Vec<u8> {
    let seed = BIG.iter().position(|(have, _)| *have == name).expect("a large file's name") as u64;
    let mut bytes = vec![0; length];
    generate(seed, offset, &mut bytes);
    bytes
}

/// Names that a careless client gets wrong: in URLs, in HTML, in UTF-8, in a terminal.
pub fn odd_names() -> Vec<OsString> {
    let mut names: Vec<OsString> = [
        "with space.txt",
        " leading and trailing ",
        "per%cent",
        "per%2Fcent",
        "hash#mark",
        "question?mark",
        "am&per<sand>",
        "quotes\"'",
        "plus+plus",
        "semi;colon,comma",
        "http:colon",
        "back\\slash",
        "a..b",
        // nginx leaves names that begin with a dot out of its index pages.
        "x...",
        "[brackets]{braces}",
        "tilde~",
        "ünïcödé 日本語 🦀",
        "new\nline",
        "tab\tin it",
        "&amp;",
    ]
    .iter()
    .map(OsString::from)
    .collect();
    names.push(OsStr::from_bytes(b"not \xff\xfe utf-8").to_owned());
    names.push(OsString::from("l".repeat(255)));
    names
}

fn make(root: &Path) -> io::Result<()> {
    let put = |path: &Path, bytes: &[u8], number: usize| -> io::Result<()> {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("it lies below the root"))?;
        fs::write(&path, bytes)?;
        let mtime = UNIX_EPOCH + Duration::from_secs(MTIME + 60 * number as u64);
        File::options().write(true).open(&path)?.set_modified(mtime)
    };
    for (number, (name, size_bytes)) in BIG.iter().enumerate() {
        put(Path::new(name), &big_bytes(name, 0, *size_bytes as usize), number)?;
    }
    for number in 0..TEXTS {
        put(&PathBuf::from(format!("text/{}/note-{number}.txt", number % 7)), &text(number), number)?;
    }
    for number in 0..MANY {
        put(&PathBuf::from(format!("many/entry-{number:05}")), format!("{number}\n").as_bytes(), number)?;
    }
    for (number, name) in odd_names().iter().enumerate() {
        put(&Path::new("odd names").join(name), format!("odd {number}\n").as_bytes(), number)?;
    }
    put(Path::new("empty"), b"", 0)?;
    let deep: PathBuf = (0..24).map(|level| format!("level-{level}")).collect();
    put(&Path::new("deep").join(deep).join("bottom"), b"the bottom\n", 1)
}

/// A page or two of words; every tenth file has the word that `grep` looks for.
fn text(number: usize) -> Vec<u8> {
    let words = ["braid", "strand", "weave", "plait", "cord", "twine", "rope", "thread"];
    let mut text = String::new();
    for line in 0..20 + number {
        for word in 0..8 {
            text += words[(number * 7 + line * 3 + word * word) % words.len()];
            text.push(' ');
        }
        text.push('\n');
    }
    if number.is_multiple_of(10) {
        text += "here is the needle\n";
    }
    text.into_bytes()
}
