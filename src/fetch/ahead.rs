//! What a program that goes through a folder in order will want next: the next files, the next folders.
//!
//! `tar`, `grep -r` or `find` open one name after the other as the folder lists them, and pay a round trip for each, however
//! many mirrors there are. Who has opened three neighbours in order gets the next ones brought before they are opened, more of
//! them the longer it goes on; who opens here and there gets nothing. Who came from the folder before, in the order of folders,
//! gets the first files of the one after as well.

use crate::chunk::{CHUNK_BYTES, Class, Inode, PAGE_BYTES, Pages, ReaderId};
use crate::clock::{Time, now};
use crate::fetch::driver::Driver;
use crate::fetch::in_use::InUse;
use crate::fetch::inbox::Command;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::Plane;
use crate::fetch::tree::Tree;
use crate::namespace::{Kind, Namespace};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Folders that are gone through at a time and told apart.
const WALKS: usize = 16;
/// So many opens after a first one, each further on than the last, are a walk.
const STREAK_MIN: u32 = 2;
/// Names that may be left out, and places by which several threads of one walk overtake each other.
const SLACK: usize = 16;
/// A walk that has rested so long is a new one: what was brought for it may be gone from memory.
const RESTED: Duration = Duration::from_secs(60);
/// Files brought ahead at most, …
const FILES_MAX: usize = 32;
/// … and folders, half of those that may be listed at once.
const FOLDERS_MAX: usize = 8;
/// Files up to this: their first read brings all of them in any case, so nothing comes that a walk would not bring. Of larger
/// ones a walk may read the first few bytes only, and what it did not read would double the time of what it does (measured).
const SMALL_BYTES: u64 = CHUNK_BYTES;
/// What is brought ahead at a time takes this part of the memory at most.
const MEMORY_PARTS: u64 = 16;
/// So many files ahead are open at a time and wait for a thread that opens or for their bytes.
const AT_ONCE: usize = 64;

/// Everybody who goes through a folder in order.
pub struct Ahead {
    walks: Mutex<Vec<Walk>>,
    reader: ReaderId,
    /// Pages that may be on their way.
    window: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
}

/// One of them.
#[derive(Debug)]
struct Walk {
    folder: Inode,
    kind: Kind,
    /// The place of the name that was opened last, or the furthest of those that overtook each other.
    at: usize,
    /// Opens in order, one after the other.
    streak: u32,
    /// What is before this place was brought, or passed.
    brought: usize,
    seen: Time,
}

impl Walk {
    fn new(folder: Inode, kind: Kind, at: usize, seen: Time) -> Walk {
        Walk { folder, kind, at, streak: 0, brought: at + 1, seen }
    }

    /// One that comes from the folder before and has opened nothing here yet.
    fn arriving(folder: Inode, streak: u32, seen: Time) -> Walk {
        Walk { folder, kind: Kind::File, at: 0, streak, brought: 0, seen }
    }

    fn goes_on(&self, now: Time) -> bool {
        self.streak >= STREAK_MIN && now.since(self.seen) <= RESTED
    }

    /// The name at `at` is opened. The places whose turn it is.
    fn opens(&mut self, at: usize, seen: Time) -> Range<usize> {
        let rested = seen.since(self.seen) > RESTED;
        self.seen = seen;
        if at <= self.at && self.at - at <= SLACK && !rested {
            // Again, or overtaken.
            return 0..0;
        }
        if at < self.at || at - self.at > SLACK || rested {
            *self = Walk::new(self.folder, self.kind, at, seen);
            return 0..0;
        }
        self.at = at;
        self.streak += 1;
        self.brought = self.brought.max(at + 1);
        if self.streak < STREAK_MIN {
            return 0..0;
        }
        self.brought..self.brought.max(self.reach())
    }

    /// What is before this place is due: further ahead the longer it goes on.
    fn reach(&self) -> usize {
        let most = if self.kind == Kind::Folder { FOLDERS_MAX } else { FILES_MAX };
        self.at + 1 + (1 << self.streak.min(16)).min(most)
    }
}

impl Ahead {
    /// For a mount with so much memory.
    pub fn new(memory_bytes: u64, reader: ReaderId) -> Ahead {
        let pages = (memory_bytes / MEMORY_PARTS / PAGE_BYTES) as usize;
        let (window, at_once) = (Arc::new(Semaphore::new(pages)), Arc::new(Semaphore::new(AT_ONCE)));
        Ahead { walks: Mutex::default(), reader, window, at_once }
    }

    /// Something in a folder is opened by a program. Brings what will probably be opened next, where there is any.
    pub fn opened(self: &Arc<Self>, plane: &Arc<Plane>, tree: &Arc<Tree>, inode: Inode, kind: Kind) {
        let namespace = tree.namespace.read();
        let Some((folder, at)) = namespace.place(inode) else { return };
        if plane.is_offline() {
            return;
        }
        let (mut walks, seen) = (self.walks.lock(), now());
        let walk = walk_in(&mut walks, folder, kind, at, seen);
        let turn = walk.opens(at, seen);
        if turn.is_empty() {
            return;
        }
        self.bring(plane, tree, &namespace, walk, turn);
        let next = if kind == Kind::File { folder_after(&namespace, &walks, folder, seen) } else { None };
        match next {
            Some(next) if namespace.places(next) == 0 => self.list_and_go_on(plane, tree, folder, next),
            Some(next) => self.go_on(plane, tree, &namespace, &mut walks, folder, next),
            None => {}
        }
    }

    /// The next folder is not listed yet: whoever walks through `folder` may be at its end by the time it is.
    fn list_and_go_on(self: &Arc<Self>, plane: &Arc<Plane>, tree: &Arc<Tree>, folder: Inode, next: Inode) {
        let (ahead, plane) = (self.clone(), plane.clone());
        self.list(tree, next, move |tree| {
            let namespace = tree.namespace.read();
            ahead.go_on(&plane, tree, &namespace, &mut ahead.walks.lock(), folder, next);
        });
    }

    /// Who walks through `folder` is so near its end that the first files of the next one are due.
    fn go_on(
        &self,
        plane: &Arc<Plane>,
        tree: &Arc<Tree>,
        namespace: &Namespace,
        walks: &mut Vec<Walk>,
        folder: Inode,
        next: Inode,
    ) {
        let Some(walk) = walks.iter().find(|walk| walk.folder == folder && walk.kind == Kind::File) else { return };
        let (streak, seen) = (walk.streak, walk.seen);
        let turn_end = walk.reach().saturating_sub(namespace.places(folder));
        if turn_end > 0 {
            let walk = walk_in(walks, next, Kind::File, 0, seen);
            if !walk.goes_on(seen) {
                *walk = Walk::arriving(next, streak, seen);
            }
            let turn = walk.brought..turn_end;
            self.bring(plane, tree, namespace, walk, turn);
        }
    }

    /// Bring what is at these places of a walk's folder, as far as there is room for it.
    fn bring(&self, plane: &Arc<Plane>, tree: &Arc<Tree>, namespace: &Namespace, walk: &mut Walk, turn: Range<usize>) {
        for at in turn {
            let Some((next, its_kind, size_bytes)) = namespace.at_place(walk.folder, at) else { break };
            let is_brought = match (its_kind, size_bytes) {
                (Kind::Folder, _) if walk.kind == Kind::Folder => self.list(tree, next, |_| ()),
                // Only a file of a known size has an inode to open.
                (Kind::File, Some(bytes @ 1..=SMALL_BYTES)) if walk.kind == Kind::File => {
                    self.fetch(plane, tree, next, bytes)
                }
                _ => true,
            };
            if !is_brought {
                break;
            }
            walk.brought = at + 1;
        }
    }

    fn list(&self, tree: &Arc<Tree>, folder: Inode, then: impl FnOnce(&Arc<Tree>) + Send + 'static) -> bool {
        let Ok(turn) = self.at_once.clone().try_acquire_owned() else { return false };
        let tree = tree.clone();
        tree.runtime.clone().spawn(async move {
            if tree.is_listed(folder) == Ok(false) {
                // Who opens it asks again, and hears of what is wrong.
                let _ = tree.list(folder).await;
            }
            then(&tree);
            drop(turn);
        });
        true
    }

    /// False where it has to wait for what is on its way already.
    fn fetch(&self, plane: &Arc<Plane>, tree: &Arc<Tree>, file: Inode, size_bytes: u64) -> bool {
        if plane.opened.get(file).is_some() {
            return true;
        }
        let pages = Pages::of_file(size_bytes);
        let room = self.window.clone().try_acquire_many_owned(pages.count() as u32);
        let (Ok(room), Ok(turn)) = (room, self.at_once.clone().try_acquire_owned()) else { return false };
        let (plane, tree, reader) = (plane.clone(), tree.clone(), self.reader);
        tree.runtime.clone().spawn(fetched(plane, tree, file, pages, reader, [room, turn]));
        true
    }
}

/// The walk through `folder`; where there is none, the one that rests longest makes room for it.
fn walk_in(walks: &mut Vec<Walk>, folder: Inode, kind: Kind, at: usize, seen: Time) -> &mut Walk {
    let known = walks.iter().position(|walk| walk.folder == folder && walk.kind == kind);
    let place = known.unwrap_or_else(|| {
        if walks.len() >= WALKS {
            let oldest = (0..walks.len()).min_by_key(|&place| walks[place].seen);
            walks.swap_remove(oldest.expect("there are some"));
        }
        walks.push(Walk::new(folder, kind, at, seen));
        walks.len() - 1
    });
    &mut walks[place]
}

/// The folder after this one, for who walks through the files of one folder after the other: the one before was walked through too.
fn folder_after(namespace: &Namespace, walks: &[Walk], folder: Inode, now: Time) -> Option<Inode> {
    let (parent, at) = namespace.place(folder)?;
    let (before, _, _) = namespace.at_place(parent, at.checked_sub(1)?)?;
    let came = |walk: &Walk| walk.folder == before && walk.kind == Kind::File && walk.goes_on(now);
    let next = namespace.at_place(parent, at + 1).filter(|(_, its_kind, _)| *its_kind == Kind::Folder);
    next.filter(|_| walks.iter().any(came)).map(|(next, _, _)| next)
}

/// One file's pages into memory, and to the disk where there is room: after all that readers wait for, and no promise.
async fn fetched(
    plane: Arc<Plane>,
    tree: Arc<Tree>,
    inode: Inode,
    pages: Pages,
    reader: ReaderId,
    _permits: [OwnedSemaphorePermit; 2],
) {
    let Ok(file) = InUse::open(&plane, &tree, inode).await else { return };
    let patience = plane.settings().read_timeout;
    let _ = tokio::time::timeout(patience, until_here(&plane, &file, pages, reader)).await;
}

async fn until_here(plane: &Plane, file: &Arc<OpenFile>, pages: Pages, reader: ReaderId) {
    if file.is_condemned() || missing(plane, file, pages).is_empty() {
        return;
    }
    plane.inbox.push(Command::Ahead { file: file.clone(), pages, reader });
    loop {
        let changed = file.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if missing(plane, file, pages).is_empty() {
            return;
        }
        changed.await;
    }
}

impl Driver {
    /// What is missing of `pages` is wanted after all that readers wait for.
    pub(super) fn want_ahead(&mut self, time: Time, file: &Arc<OpenFile>, pages: Pages, reader: ReaderId) {
        let deadline = time + self.plane.settings().read_timeout;
        for missing in missing(&self.plane, file, pages) {
            self.want_remote(time, file, missing, Class::Readahead, reader, deadline);
        }
    }
}

/// What of `pages` is neither in memory nor on disk.
fn missing(plane: &Plane, file: &OpenFile, pages: Pages) -> Vec<Pages> {
    let remote = file.disk.as_ref().map_or(vec![pages], |disk| disk.missing(pages));
    remote.into_iter().flat_map(|pages| plane.pool.missing(file.inode, pages)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn walk() -> Walk {
        Walk::new(Inode(1), Kind::File, 10, Time(0))
    }

    /// What is brought for opens at these places, one a millisecond.
    fn brought(walk: &mut Walk, places: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut brought = Vec::new();
        for (ms, at) in places.into_iter().enumerate() {
            let more = walk.opens(at, walk.seen + Duration::from_millis(ms as u64));
            walk.brought = walk.brought.max(more.end);
            brought.extend(more);
        }
        brought
    }

    #[test]
    fn three_in_order_are_a_walk_and_it_looks_further_ahead_the_longer_it_goes_on() {
        let mut walk = walk();
        assert_eq!(brought(&mut walk, [11]), NONE);
        assert_eq!(brought(&mut walk, [12]), [13, 14, 15, 16]);
        assert_eq!(brought(&mut walk, [13]), (17..22).collect::<Vec<_>>());
        assert_eq!(brought(&mut walk, 14..100), (22..132).collect::<Vec<_>>(), "each once");
    }

    #[test]
    fn folders_are_listed_a_few_ahead() {
        let mut walk = Walk::new(Inode(1), Kind::Folder, 0, Time(0));
        assert_eq!(brought(&mut walk, 1..50), (3..58).collect::<Vec<_>>());
    }

    #[test]
    fn threads_of_one_walk_may_overtake_each_other() {
        let mut walk = walk();
        let places = (0..20).flat_map(|at| [12 + 2 * at, 11 + 2 * at]);
        assert_eq!(brought(&mut walk, places).len(), 36 + FILES_MAX);
    }

    #[test]
    fn who_opens_here_and_there_or_goes_back_gets_nothing() {
        assert_eq!(brought(&mut walk(), [40, 2, 90, 60, 12, 300]), NONE);
        assert_eq!(brought(&mut walk(), (0..=10).rev()), NONE);
        assert_eq!(brought(&mut walk(), [10, 10, 10, 10]), NONE, "the same again");
    }

    #[test]
    fn a_walk_that_has_rested_begins_anew() {
        let mut walk = walk();
        assert!(!brought(&mut walk, 11..20).is_empty());
        walk.opens(20, walk.seen + RESTED + Duration::from_secs(1));
        assert_eq!(walk.streak, 0);
        assert_eq!(brought(&mut walk, [21, 22]), [23, 24, 25, 26]);
    }

    #[test]
    fn the_walk_that_rests_longest_makes_room() {
        let mut walks = Vec::new();
        for folder in 0..=WALKS as u64 {
            walk_in(&mut walks, Inode(folder), Kind::File, 0, Time(folder));
        }
        assert_eq!(walks.len(), WALKS);
        assert!(!walks.iter().any(|walk| walk.folder == Inode(0)));
    }
}
