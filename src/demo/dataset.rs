//! A small generated dataset: nothing on disk, nothing in memory but its texts, the same bytes every time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// 2026-01-05 09:30 UTC, when every file of the demo was last changed.
pub const MODIFIED_UNIX_SECONDS: i64 = 1_767_605_400;
/// The large files: name, MiB. Large enough to watch them come, small enough for a minute's patience.
const RECORDINGS: [(&str, u64); 4] =
    [("monday.bin", 32), ("tuesday.bin", 24), ("wednesday.bin", 16), ("thursday.bin", 8)];
/// Small files: a folder to run `grep -r` and `tar` on.
const NOTES: u64 = 60;
/// Lines of the table.
const TABLE_LINES: u64 = 40_000;

/// What the embedded mirrors serve. Paths have no `/` in front.
pub struct Dataset {
    files: BTreeMap<String, Content>,
}

enum Content {
    Text(Vec<u8>),
    /// Bytes that follow from a seed, made when they are asked for.
    Noise {
        seed: u64,
        size_bytes: u64,
    },
}

/// An entry of a folder: what an index page says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A folder below, by its name.
    Folder(String),
    /// A file: name, size in bytes.
    File(String, u64),
}

impl Dataset {
    /// The demo's dataset: four recordings of 8 to 32 MiB, a table of 2 MB, some notes.
    pub fn generated() -> Dataset {
        let mut files = BTreeMap::new();
        for (seed, (name, mebibytes)) in RECORDINGS.iter().enumerate() {
            let content = Content::Noise { seed: seed as u64, size_bytes: mebibytes << 20 };
            files.insert(format!("recordings/{name}"), content);
        }
        files.insert("README.txt".to_owned(), Content::Text(README.as_bytes().to_vec()));
        files.insert("tables/stations.csv".to_owned(), Content::Text(table()));
        for number in 1..=NOTES {
            files.insert(format!("notes/note-{number:02}.txt"), Content::Text(note(number)));
        }
        Dataset { files }
    }

    /// Every file with its size in bytes, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(path, content)| (path.as_str(), content.size_bytes()))
    }

    /// A file's size in bytes; nothing where there is no such file.
    pub fn size_bytes(&self, path: &str) -> Option<u64> {
        self.files.get(path).map(Content::size_bytes)
    }

    /// Fill `out` with the bytes of `path` from `offset_bytes`. False where the file does not have them all.
    pub fn read(&self, path: &str, offset_bytes: u64, out: &mut [u8]) -> bool {
        let Some(content) = self.files.get(path) else { return false };
        let end = offset_bytes.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > content.size_bytes()) {
            return false;
        }
        match content {
            Content::Text(text) => out.copy_from_slice(&text[offset_bytes as usize..][..out.len()]),
            Content::Noise { seed, .. } => {
                let mut noise = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
                noise.set_position(offset_bytes);
                noise.fill(out);
            }
        }
        true
    }

    /// The entries of a folder (`""`, or a path that ends in `/`), folders first. Nothing where there is no such folder.
    pub fn folder(&self, folder: &str) -> Option<Vec<Entry>> {
        let (mut folders, mut files) = (BTreeSet::new(), Vec::new());
        for (path, content) in &self.files {
            match path.strip_prefix(folder).map(|rest| (rest, rest.split_once('/'))) {
                Some((_, Some((below, _)))) => drop(folders.insert(below.to_owned())),
                Some((name, None)) => files.push(Entry::File(name.to_owned(), content.size_bytes())),
                None => {}
            }
        }
        let entries: Vec<Entry> = folders.into_iter().map(Entry::Folder).chain(files).collect();
        (!entries.is_empty()).then_some(entries)
    }
}

impl Content {
    fn size_bytes(&self) -> u64 {
        match self {
            Content::Text(text) => text.len() as u64,
            Content::Noise { size_bytes, .. } => *size_bytes,
        }
    }
}

const README: &str = "\
This folder is a braidfs mount. Nothing in it is on your disk until you read it: three small
mirrors inside the demo serve it, at different speeds, and one of them is flaky.

Try, in another terminal, from here:

    ls -lR
    cat recordings/monday.bin | wc -c
    grep -r 'quiet' notes
    head -3 tables/stations.csv
    braidfs status .
";

/// Measurements of stations that do not exist. The numbers follow from the line's own.
fn table() -> Vec<u8> {
    let mut text = "station,hour,temperature,wind\n".to_owned();
    for line in 0..TABLE_LINES {
        let mixed = mix(line);
        let (station, temperature, wind) = (mixed % 97, mixed / 97 % 400, mixed / 38_800 % 120);
        let degrees = temperature as f64 / 10.0 - 8.0;
        let result = writeln!(text, "S{station:03},{line:05},{degrees:.1},{}.{}", wind / 10, wind % 10);
        result.expect("writing to a string cannot fail");
    }
    text.into_bytes()
}

fn note(number: u64) -> Vec<u8> {
    const SKIES: [&str; 5] = ["clear", "hazy", "overcast", "bright", "low"];
    const SOUNDS: [&str; 4] = ["quiet", "a steady hum", "two gusts", "rain on the roof"];
    let mut text = format!("Note {number}\n\n");
    for hour in 0..24 {
        let mixed = mix(number * 24 + hour);
        let (sky, sound) = (SKIES[(mixed % 5) as usize], SOUNDS[(mixed / 5 % 4) as usize]);
        let result = writeln!(text, "{hour:02}:00  the sky {sky}, {sound}.");
        result.expect("writing to a string cannot fail");
    }
    text.into_bytes()
}

/// A number that looks like chance and follows from `value` (the finalizer of SplitMix64, Steele et al. 2014).
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_follow_from_paths() {
        let dataset = Dataset::generated();
        let top = dataset.folder("").unwrap();
        let folder = |name: &str| Entry::Folder(name.to_owned());
        assert_eq!(top[..3], [folder("notes"), folder("recordings"), folder("tables")]);
        assert_eq!(top[3], Entry::File("README.txt".to_owned(), README.len() as u64));
        assert_eq!(dataset.folder("recordings/").unwrap()[0], Entry::File("monday.bin".to_owned(), 32 << 20));
        assert_eq!(dataset.folder("nothing/"), None);
        assert_eq!(dataset.size_bytes("recordings"), None);
    }

    #[test]
    fn any_cut_of_a_file_gives_the_same_bytes() {
        let dataset = Dataset::generated();
        for path in ["recordings/thursday.bin", "tables/stations.csv"] {
            let mut whole = vec![0; 300_000];
            assert!(dataset.read(path, 0, &mut whole));
            let mut cut = vec![0; 1001];
            assert!(dataset.read(path, 65_537, &mut cut));
            assert_eq!(cut, whole[65_537..66_538]);
        }
    }

    #[test]
    fn nothing_is_read_past_an_end() {
        let dataset = Dataset::generated();
        let mut out = [0; 2];
        assert!(dataset.read("recordings/thursday.bin", (8 << 20) - 2, &mut out));
        assert!(!dataset.read("recordings/thursday.bin", (8 << 20) - 1, &mut out));
        assert!(!dataset.read("recordings/thursday.bin", u64::MAX, &mut out));
        assert!(!dataset.read("nothing", 0, &mut out));
    }
}
