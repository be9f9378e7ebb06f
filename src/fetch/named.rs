//! The files that paths name: files, folders with all that is below them, and patterns. In their order, one after the other,
//! with no more in memory than the folders on the way.

use crate::chunk::Inode;
use crate::fetch::engine::walk;
use crate::fetch::error::Trouble;
use crate::fetch::pattern::Pattern;
use crate::fetch::translate::join;
use crate::fetch::tree::Tree;
use crate::namespace::Kind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why a path that was given comes to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathTrouble {
    /// It cannot be looked up, or its bytes cannot be had.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// It is a pattern.
    #[error("no file or folder matches this pattern")]
    NoMatch,
    /// A range is asked of it.
    #[error("it is a folder, and ranges are of files")]
    Folder,
    /// A range is asked of it that it does not have.
    #[error("it has {size_bytes} bytes, and a range begins at {offset_bytes}")]
    PastTheEnd {
        /// Where.
        offset_bytes: u64,
        /// Its size.
        size_bytes: u64,
    },
    /// There is no such name, and it is not a pattern either.
    #[error("no mirror has it, and it is not a pattern: {0}")]
    BadPattern(String),
}

/// A file that was found.
pub(in crate::fetch) struct NamedFile {
    pub(in crate::fetch) inode: Inode,
    pub(in crate::fetch) path: Vec<u8>,
}

/// Goes through what is named.
pub(in crate::fetch) struct Named {
    tree: Arc<Tree>,
    /// The next one last.
    left: Vec<Left>,
}

enum Left {
    /// A path as it was given: a name, or else a pattern.
    Given(Vec<u8>),
    /// A name; what it leads to, where that is known.
    Name(Vec<u8>, Option<(Inode, Kind)>),
    /// A folder in which a pattern may match.
    Search(Vec<u8>, Inode, Arc<Search>),
    /// All of a pattern has been looked through.
    Searched(Arc<Search>),
}

/// A pattern that is being looked for.
struct Search {
    text: Vec<u8>,
    /// Paths are matched from here on: what is before it is the name of a folder.
    base_length: usize,
    pattern: Pattern,
    found: AtomicBool,
}

impl Search {
    fn below<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        &path[self.base_length.min(path.len())..]
    }
}

impl Named {
    /// What is at `paths`, relative to the mount.
    pub(in crate::fetch) fn new(tree: Arc<Tree>, paths: Vec<Vec<u8>>) -> Named {
        Named { tree, left: paths.into_iter().rev().map(Left::Given).collect() }
    }

    /// The next file, or a path that comes to nothing. Folders are listed as they are come to.
    pub(in crate::fetch) async fn next(&mut self) -> Option<Result<NamedFile, (Vec<u8>, PathTrouble)>> {
        loop {
            let (path, found) = match self.left.pop()? {
                Left::Given(path) => match walk(&self.tree, &path).await {
                    Ok(found) => (path, Ok((found.inode, found.kind))),
                    Err(Trouble::Absent | Trouble::NotAFolder) if Pattern::is_one(&path) => {
                        match self.search(&path).await {
                            Ok(()) => continue,
                            Err(why) => return Some(Err((path, why))),
                        }
                    }
                    Err(trouble) => (path, Err(trouble)),
                },
                Left::Name(path, Some(known)) => (path, Ok(known)),
                Left::Name(path, None) => {
                    let found = walk(&self.tree, &path).await;
                    (path, found.map(|found| (found.inode, found.kind)))
                }
                Left::Search(path, folder, search) => match self.look_for(&path, folder, &search).await {
                    Ok(()) => continue,
                    Err(trouble) => (path, Err(trouble)),
                },
                Left::Searched(search) => match search.found.load(Ordering::Relaxed) {
                    true => continue,
                    false => return Some(Err((search.text.clone(), PathTrouble::NoMatch))),
                },
            };
            match found {
                Ok((inode, Kind::File)) => return Some(Ok(NamedFile { inode, path })),
                Ok((folder, Kind::Folder)) => {
                    if let Err(trouble) = self.look_through(&path, folder).await {
                        return Some(Err((path, trouble.into())));
                    }
                }
                Err(trouble) => return Some(Err((path, trouble.into()))),
            }
        }
    }

    /// All that is in a folder is next.
    async fn look_through(&mut self, path: &[u8], folder: Inode) -> Result<(), Trouble> {
        let inside = self.inside(path, folder).await?;
        self.left.extend(inside.into_iter().rev().map(|(path, _, known)| Left::Name(path, known)));
        Ok(())
    }

    /// The names in a folder with their paths, and where each leads if that is known: a size that is not is asked for when
    /// the file is looked up.
    async fn inside(
        &self,
        path: &[u8],
        folder: Inode,
    ) -> Result<Vec<(Vec<u8>, Inode, Option<(Inode, Kind)>)>, Trouble> {
        let entries = self.tree.entries(folder).await?;
        let inside = entries.iter().map(|entry| {
            let known = (entry.kind == Kind::Folder || entry.sized).then_some((entry.inode, entry.kind));
            (join(path, entry.name), entry.inode, known)
        });
        Ok(inside.collect())
    }

    /// Begin to look for a pattern, in the folder to which its first names lead as they stand.
    async fn search(&mut self, text: &[u8]) -> Result<(), PathTrouble> {
        let mut folder = walk(&self.tree, b"").await?;
        let mut base_length = 0;
        let mut rest = text;
        while let Some(at) = rest.iter().position(|&byte| byte == b'/') {
            let name = &rest[..at];
            match self.tree.lookup(folder.inode, name, false).await {
                Ok(found) => folder = found,
                Err(Trouble::Absent) if Pattern::is_one(name) => break,
                Err(trouble) => return Err(trouble.into()),
            }
            if folder.kind != Kind::Folder {
                return Err(Trouble::NotAFolder.into());
            }
            base_length += at + 1;
            rest = &rest[at + 1..];
        }
        let pattern = Pattern::new(rest).map_err(PathTrouble::BadPattern)?;
        let base = text[..base_length].strip_suffix(b"/").unwrap_or_default().to_vec();
        let search = Arc::new(Search { text: text.to_vec(), base_length, pattern, found: AtomicBool::new(false) });
        self.left.push(Left::Searched(search.clone()));
        self.left.push(Left::Search(base, folder.inode, search));
        Ok(())
    }

    /// What matches in a folder is next, and the folders in which more may.
    async fn look_for(&mut self, path: &[u8], folder: Inode, search: &Arc<Search>) -> Result<(), Trouble> {
        let inside = self.inside(path, folder).await?;
        let next = inside.into_iter().rev().filter_map(|(path, inode, known)| {
            let below = search.below(&path);
            if search.pattern.matches(below) {
                search.found.store(true, Ordering::Relaxed);
                return Some(Left::Name(path, known));
            }
            let is_folder = known.is_some_and(|(_, kind)| kind == Kind::Folder);
            (is_folder && search.pattern.may_match_below(below)).then(|| Left::Search(path, inode, search.clone()))
        });
        self.left.extend(next);
        Ok(())
    }
}
