//! What a faulty mirror serves: paths as bytes, contents in memory, generated or on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a file's bytes come from.
#[derive(Clone)]
pub enum Content {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// `size_bytes` bytes that follow from `seed`, made when asked for.
    Generated { seed: u64, size_bytes: u64 },
    /// A file of this machine.
    OnDisk { path: PathBuf, size_bytes: u64 },
}

impl Content {
    /// How many bytes.
    pub fn len(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Generated { size_bytes, .. } | Content::OnDisk { size_bytes, .. } => *size_bytes,
        }
    }

    /// Fill `out` from `offset`; the caller stays within the length.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Content::Bytes(bytes) => out.copy_from_slice(&bytes[offset as usize..offset as usize + out.len()]),
            Content::Generated { seed, .. } => generate(*seed, offset, out),
            Content::OnDisk { path, .. } => File::open(path)?.read_exact_at(out, offset)?,
        }
        Ok(())
    }
}

/// The bytes that follow from `seed`, from `offset` on. The same on every machine, for ever.
pub fn generate(seed: u64, offset: u64, out: &mut [u8]) {
    let mut stream = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    stream.set_position(offset);
    stream.fill(out);
}

/// A file of the tree.
#[derive(Clone)]
pub struct Entry {
    /// Its bytes.
    pub content: Content,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Grows with every replacement; part of the ETag.
    pub generation: u64,
}

impl Entry {
    /// As nginx makes it: from date and size (and here the generation), so mirrors of equal files may agree by chance.
    pub fn etag(&self) -> String {
        format!("\"{:x}-{:x}-{}\"", self.mtime, self.content.len(), self.generation)
    }
}

/// A tree of files; folders follow from the paths. Paths begin without `/`.
#[derive(Clone, Default)]
pub struct Tree {
    files: BTreeMap<Vec<u8>, Entry>,
}

/// A date that all mirrors of a tree made in memory give: 2024-05-06 07:08:00.
const MTIME: i64 = 1_714_979_280;

/// What a path is.
pub enum Found<'a> {
    File(&'a Entry),
    Folder,
    Missing,
}

impl Tree {
    /// Nothing yet.
    pub fn new() -> Tree {
        Tree::default()
    }

    /// Every file below `root`, read where it lies.
    pub fn of_folder(root: &Path) -> io::Result<Tree> {
        let mut tree = Tree::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                let about = std::fs::metadata(&path)?;
                if about.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name =
                    path.strip_prefix(root).expect("it was found below the root").as_os_str().as_bytes().to_vec();
                let content = Content::OnDisk { path, size_bytes: about.len() };
                tree.files.insert(name, Entry { content, mtime: about.mtime(), generation: 0 });
            }
        }
        Ok(tree)
    }

    /// With a file of these bytes.
    pub fn with(mut self, path: impl AsRef<[u8]>, bytes: impl Into<Arc<[u8]>>) -> Tree {
        self.put(path.as_ref(), Content::Bytes(bytes.into()));
        self
    }

    /// With a file of `size_bytes` generated from `seed`.
    pub fn with_generated(mut self, path: impl AsRef<[u8]>, seed: u64, size_bytes: u64) -> Tree {
        self.put(path.as_ref(), Content::Generated { seed, size_bytes });
        self
    }

    /// Put or replace; a replacement is newer by a minute, and has another ETag.
    pub fn put(&mut self, path: &[u8], content: Content) {
        let (mtime, generation) = match self.files.get(path) {
            Some(old) => (old.mtime + 60, old.generation + 1),
            None => (MTIME, 0),
        };
        self.files.insert(path.to_vec(), Entry { content, mtime, generation });
    }

    /// Put or replace, dated `mtime` (seconds since 1970): for mirrors that get the same version at different times.
    pub fn put_dated(&mut self, path: &[u8], content: Content, mtime: i64) {
        let generation = self.files.get(path).map_or(0, |old| old.generation + 1);
        self.files.insert(path.to_vec(), Entry { content, mtime, generation });
    }

    /// Take a file away.
    pub fn remove(&mut self, path: &[u8]) {
        self.files.remove(path);
    }

    /// What is at `path` (no `/` in front; a folder may end in one)?
    pub fn find(&self, path: &[u8]) -> Found<'_> {
        if let Some(entry) = self.files.get(path) {
            return Found::File(entry);
        }
        let mut prefix = path.to_vec();
        if !prefix.is_empty() && !prefix.ends_with(b"/") {
            prefix.push(b'/');
        }
        let first_below = self.files.range(prefix.clone()..).next();
        match prefix.is_empty() || first_below.is_some_and(|(name, _)| name.starts_with(&prefix)) {
            true => Found::Folder,
            false => Found::Missing,
        }
    }

    /// The index page of a folder, as nginx writes it.
    pub fn index_page(&self, folder: &[u8]) -> Vec<u8> {
        let shown = String::from_utf8_lossy(folder);
        let mut page = format!(
            "<html>\r\n<head><title>Index of /{shown}</title></head>\r\n<body>\r\n<h1>Index of /{shown}</h1><hr><pre>"
        );
        page.push_str("<a href=\"../\">../</a>\r\n");
        let mut folders = BTreeSet::new();
        let mut files = Vec::new();
        let below = self.files.range(folder.to_vec()..).take_while(|(name, _)| name.starts_with(folder));
        for (name, entry) in below {
            let rest = &name[folder.len()..];
            match rest.iter().position(|&byte| byte == b'/') {
                Some(at) => drop(folders.insert(rest[..=at].to_vec())),
                None => files.push((rest.to_vec(), entry)),
            }
        }
        for name in folders {
            page.push_str(&line(&name, MTIME, "-"));
        }
        for (name, entry) in files {
            page.push_str(&line(&name, entry.mtime, &entry.content.len().to_string()));
        }
        page.push_str("</pre><hr></body>\r\n</html>\r\n");
        page.into_bytes()
    }
}

/// Everything but what never means anything in a URL, escaped.
pub fn percent_encode(name: &[u8]) -> String {
    const KEEP: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
    percent_encoding::percent_encode(name, KEEP).to_string()
}

/// The longest name that nginx shows whole; longer ones end in `..&gt;`.
const SHOWN_CHARS_MAX: usize = 50;

fn line(name: &[u8], mtime: i64, size: &str) -> String {
    let text = String::from_utf8_lossy(name);
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let mut width = shown.chars().count();
    if text.chars().count() > SHOWN_CHARS_MAX {
        shown = text.chars().take(SHOWN_CHARS_MAX - 3).collect::<String>() + "..>";
        width = SHOWN_CHARS_MAX;
    }
    let shown = shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let date = jiff::Timestamp::from_second(mtime).expect("a date of this century").strftime("%d-%b-%Y %H:%M");
    let gap = " ".repeat(SHOWN_CHARS_MAX + 1 - width);
    format!("<a href=\"{}\">{shown}</a>{gap}{date} {size:>19}\r\n", percent_encode(name))
}
