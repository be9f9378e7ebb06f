//! Questions to the scheduler. It lives on the driver's thread: a question is put to it there, between two
//! events, and the answer comes back through a oneshot, so that nobody who reads ever waits for one who asks.

use crate::chunk::{FetchId, Inode, MirrorId, PAGE_BYTES, Pages};
use crate::clock::{Time, now};
use crate::fetch::engine::{Engine, walk};
use crate::fetch::error::Trouble;
use crate::fetch::held::{Held, HeldBytes};
use crate::fetch::in_use::InUse;
use crate::fetch::inbox::{Command, Inbox};
use crate::fetch::opened::OpenFile;
use crate::fetch::report::MirrorReport;
use crate::namespace::{Kind, Lookup, Resolved};
use crate::scheduler::explain::Decided;
use crate::scheduler::origins::Origin;
use crate::scheduler::{Event, MirrorSnapshot, Scheduler, Settings, Snapshot, Standing, Strategy};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Something to ask the scheduler. Quick: readers wait for the same thread.
pub type Question = Box<dyn FnOnce(Time, &mut Scheduler) + Send>;

/// What `mirrors` shows.
#[derive(Clone, Debug)]
pub struct Mirrors {
    /// Each mirror, in the order given.
    pub mirrors: Vec<(MirrorReport, MirrorSnapshot)>,
    /// All that is not about one mirror.
    pub scheduler: Snapshot,
    /// The strategy before this question switched it.
    pub strategy_before: Option<Strategy>,
}

/// What `explain` is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WhyAsked {
    /// `FILE` or `FILE:OFFSET`, relative to the mount; empty: about all files.
    pub target: Vec<u8>,
    /// At most so many decisions, the newest. None: [`LAST`], or about a page those back to the one that
    /// brought it.
    pub last: Option<usize>,
}

/// Decisions that are shown unless more are asked for: a screen of tables.
pub const LAST: usize = 10;

/// What `explain` shows.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The file that it is about, where it is about one.
    pub about: Option<About>,
    /// The newest first.
    pub decisions: Vec<Explained>,
    /// How many of those that are kept are about it.
    pub matching: usize,
    /// How many are kept at all.
    pub kept: usize,
    /// How many there were in all.
    pub made: u64,
    /// When the oldest that is kept was made.
    pub oldest: Option<Time>,
    /// When it was asked.
    pub at: Time,
    /// Every mirror's URL, by its id.
    pub urls: Vec<String>,
}

/// The file, or the page of it, that is asked about.
#[derive(Clone, Debug)]
pub struct About {
    /// Relative to the mount.
    pub path: Vec<u8>,
    /// Where in it; none: all of it.
    pub offset_bytes: Option<u64>,
    /// Its size.
    pub size_bytes: u64,
    /// How much of it (of the page at the offset) is held.
    pub held: HeldBytes,
    /// A page that is held: who brought it, where that is still known.
    pub origin: Option<Origin>,
    /// How each mirror that has the file stands to what is held of it.
    pub standings: Vec<(MirrorId, Standing)>,
}

/// One decision.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Its number, from 1 on since the mount.
    pub number: u64,
    /// As the scheduler keeps it.
    pub decided: Decided,
    /// Its fetch has not ended yet.
    pub in_flight: bool,
    /// The file, where it is still known.
    pub path: Option<Vec<u8>>,
    /// How many bytes its pages have.
    pub bytes: u64,
}

/// Why nothing is explained.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotExplained {
    /// There is no such file.
    #[error("no mirror has a file of this name; `ls` shows the names that there are")]
    Absent,
    /// There is no such file, but for what stands after its last colon it might be one.
    #[error(
        "no mirror has a file of this name, and what stands after the colon is no offset: give bytes, as in FILE:1048576"
    )]
    NoOffset,
    /// It cannot be found out whether there is.
    #[error("it cannot be looked up: {0}; `braidfs status` shows the mirrors")]
    Trouble(Trouble),
    /// A folder is not fetched.
    #[error("it is a folder, and decisions are about files: name a file in it, or the mountpoint for all of them")]
    Folder,
    /// Beyond the end.
    #[error(
        "there is no byte {offset_bytes}: the file has {size_bytes} bytes; give an offset below that, or none for the whole file"
    )]
    PastTheEnd {
        /// As given.
        offset_bytes: u64,
        /// Of the file.
        size_bytes: u64,
    },
}

impl From<Trouble> for NotExplained {
    fn from(trouble: Trouble) -> NotExplained {
        match trouble {
            // Something in the middle of the path is a file: then there is nothing below it.
            Trouble::Absent | Trouble::NotAFolder => NotExplained::Absent,
            trouble => NotExplained::Trouble(trouble),
        }
    }
}

/// What the driver's thread gives of its ring.
struct Kept {
    decisions: Vec<(u64, Decided, bool)>,
    matching: usize,
    kept: usize,
    made: u64,
    oldest: Option<Time>,
    origin: Option<Origin>,
}

/// Put a question to the scheduler.
pub(in crate::fetch) fn put<T, F>(inbox: &Inbox, question: F) -> oneshot::Receiver<T>
where
    T: Send + 'static,
    F: FnOnce(Time, &mut Scheduler) -> T + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    inbox.push(Command::Ask(Box::new(move |time, scheduler| {
        // Who asked may be gone by now, and then nobody needs to know.
        let _ = reply.send(question(time, scheduler));
    })));
    answer
}

impl Engine {
    /// Does the driver's thread take what it is told? Comes back once it has.
    pub async fn answers(&self) -> bool {
        self.ask(|_, _| ()).await.is_ok()
    }

    pub(in crate::fetch) async fn ask<T, F>(&self, question: F) -> Result<T, Trouble>
    where
        T: Send + 'static,
        F: FnOnce(Time, &mut Scheduler) -> T + Send + 'static,
    {
        put(&self.plane.inbox, question).await.map_err(|_| Trouble::Ending)
    }

    /// Every mirror as the scheduler knows it now; with `switch`, after it has taken up that strategy.
    pub async fn mirrors(&self, switch: Option<Strategy>) -> Result<Mirrors, Trouble> {
        let (before, scheduler) = self
            .ask(move |time, scheduler| {
                let before = scheduler.settings().strategy;
                if let Some(strategy) = switch {
                    let settings = Box::new(Settings { strategy, ..scheduler.settings().clone() });
                    scheduler.handle(time, Event::SettingsChanged { settings });
                }
                (before, scheduler.snapshot(time))
            })
            .await?;
        if let Some(strategy) = switch.filter(|strategy| *strategy != before) {
            tracing::info!(%before, now = %strategy, "the strategy was switched");
        }
        let in_use = self.plane.mirrors.in_use();
        let seen =
            in_use.filter_map(|(mirror, _)| Some((mirror, scheduler.mirrors.get(usize::from(mirror.0))?.clone())));
        let mirrors = seen.map(|(mirror, seen)| (self.mirror_report(mirror, Some(seen.live())), seen)).collect();
        Ok(Mirrors { mirrors, scheduler, strategy_before: switch.map(|_| before) })
    }

    /// The last decisions, about a file, a page of it, or all.
    pub async fn explain(self: &Arc<Self>, asked: WhyAsked) -> Result<Explanation, NotExplained> {
        if asked.target.is_empty() {
            let kept = self.ask_why(None, None, asked.last).await?;
            return Ok(self.explanation(None, kept));
        }
        let (inode, path, offset_bytes) = self.target(&asked.target).await?;
        let file = InUse::open(&self.plane, &self.tree, inode).await?;
        self.explain_file(&file, path, offset_bytes, asked.last).await
    }

    async fn explain_file(
        &self,
        file: &OpenFile,
        path: Vec<u8>,
        offset_bytes: Option<u64>,
        last: Option<usize>,
    ) -> Result<Explanation, NotExplained> {
        let size_bytes = file.size_bytes;
        let page = match offset_bytes {
            Some(offset_bytes) if offset_bytes >= size_bytes => {
                return Err(NotExplained::PastTheEnd { offset_bytes, size_bytes });
            }
            offset => offset.map(|offset| offset / PAGE_BYTES),
        };
        // Handles that were opened before the file changed have versions of their own.
        let mut inodes = BTreeSet::from([file.inode]);
        inodes.extend(self.plane.opened.all().iter().filter(|open| open.path == path).map(|open| open.inode));
        let mut kept = self.ask_why(Some(inodes), page.map(|page| (file.inode, page)), last).await?;
        let pages = page.map_or(file.pages(), |page| Pages::new(page, page + 1));
        let held = Held::of(&self.plane, Some(file.inode), file.disk.as_deref(), pages, size_bytes).bytes();
        // Of a page that is gone again nobody asks where it came from.
        let origin = kept.origin.take().filter(|_| held.either_bytes == held.asked_bytes);
        let inode = file.inode;
        let standings = self.ask(move |_, scheduler| scheduler.standings(inode)).await?;
        let about = About { path, offset_bytes, size_bytes, held, origin, standings };
        Ok(self.explanation(Some(about), kept))
    }

    async fn ask_why(
        &self,
        files: Option<BTreeSet<Inode>>,
        page: Option<(Inode, u64)>,
        last: Option<usize>,
    ) -> Result<Kept, Trouble> {
        self.ask(move |_, scheduler| {
            let (kept, made) = (scheduler.decisions().count(), scheduler.decisions_made());
            let origin = page.and_then(|(file, page)| scheduler.origin(file, page));
            let numbered = (made - kept as u64 + 1..).zip(scheduler.decisions());
            let of_files = numbered.filter(|(_, it)| files.as_ref().is_none_or(|files| files.contains(&it.file)));
            let of_files: Vec<(u64, &Decided)> = of_files.collect();
            let meant = match page {
                Some((_, page)) => about_page(of_files, page, origin.map(|origin| origin.fetch)),
                None => of_files,
            };
            let usual = match (page, origin) {
                (Some(_), Some(origin)) => {
                    1 + meant.iter().rev().position(|(_, it)| it.fetch == origin.fetch).unwrap_or(0)
                }
                (Some(_), None) => 1,
                (None, _) => LAST,
            };
            let newest = meant.iter().rev().take(last.unwrap_or(usual));
            Kept {
                decisions: newest.map(|&(number, it)| (number, *it, scheduler.is_in_flight(it.fetch))).collect(),
                matching: meant.len(),
                kept,
                made,
                oldest: scheduler.decisions().next().map(|decided| decided.at),
                origin,
            }
        })
        .await
    }

    fn explanation(&self, about: Option<About>, kept: Kept) -> Explanation {
        let namespace = self.tree.namespace.read();
        let mut files: HashMap<Inode, (Option<Vec<u8>>, u64)> = HashMap::new();
        let decisions = kept.decisions.into_iter().map(|(number, decided, in_flight)| {
            let (path, size_bytes) = files.entry(decided.file).or_insert_with(|| {
                let size_bytes = namespace.version(decided.file).map_or(u64::MAX, |version| version.size_bytes);
                (namespace.path(decided.file), size_bytes)
            });
            let bytes = decided.pages.len_bytes(*size_bytes);
            Explained { number, decided, in_flight, path: path.clone(), bytes }
        });
        Explanation {
            about,
            decisions: decisions.collect(),
            matching: kept.matching,
            kept: kept.kept,
            made: kept.made,
            oldest: kept.oldest,
            at: now(),
            urls: self.plane.mirrors.all().iter().map(|mirror| mirror.url()).collect(),
        }
    }

    /// The file that `target` names, with the offset where it is one. Names may have colons: the whole is
    /// tried first, and first of all what is known already, since only of that can there be decisions.
    async fn target(self: &Arc<Self>, target: &[u8]) -> Result<(Inode, Vec<u8>, Option<u64>), NotExplained> {
        let parted = part(target);
        let offset = parted.and_then(|(path, offset)| Some((path, Some(offset?))));
        let candidates: Vec<(&[u8], Option<u64>)> = [(target, None)].into_iter().chain(offset).collect();
        for &(path, offset) in &candidates {
            if let Some(inode) = self.known_file(path) {
                return Ok((inode, path.to_owned(), offset));
            }
        }
        // The likelier reading first: each unknown name costs a question to every mirror.
        for &(path, offset) in candidates.iter().rev() {
            match walk(&self.tree, path).await {
                Err(Trouble::Absent | Trouble::NotAFolder) => {}
                Err(trouble) => return Err(trouble.into()),
                Ok(found) if found.kind == Kind::Folder => return Err(NotExplained::Folder),
                Ok(found) => {
                    // Its folder is listed by now, and may show the whole as a name.
                    let whole = self.known_file(target).map(|inode| (inode, target.to_owned(), None));
                    return Ok(whole.unwrap_or((found.inode, path.to_owned(), offset)));
                }
            }
        }
        match parted {
            Some((_, None)) => Err(NotExplained::NoOffset),
            _ => Err(NotExplained::Absent),
        }
    }

    fn known_file(&self, path: &[u8]) -> Option<Inode> {
        let namespace = self.tree.namespace.read();
        match namespace.resolve(path, now()) {
            Resolved::At { lookup: Lookup::Known { attributes, .. }, rest, .. } if rest.is_empty() => {
                namespace.version(attributes.inode).map(|_| attributes.inode)
            }
            _ => None,
        }
    }
}

/// Those that gave this page to somebody; where it came with a whole file, the one that asked for that.
fn about_page(decisions: Vec<(u64, &Decided)>, page: u64, by: Option<FetchId>) -> Vec<(u64, &Decided)> {
    let mut meant = decisions.clone();
    meant.retain(|(_, it)| it.pages.contains(page));
    if meant.is_empty() {
        meant = decisions;
        meant.retain(|(_, it)| Some(it.fetch) == by);
    }
    meant
}

/// `FILE` and what stands after its last colon: an offset, or none that is one.
fn part(target: &[u8]) -> Option<(&[u8], Option<u64>)> {
    let colon = target.iter().rposition(|byte| *byte == b':')?;
    let (path, offset) = (&target[..colon], &target[colon + 1..]);
    let digits = !offset.is_empty() && offset.iter().all(u8::is_ascii_digit);
    let offset = std::str::from_utf8(offset).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    // A colon in the name of a folder is nobody's offset.
    (!path.is_empty() && !target[colon..].contains(&b'/')).then_some((path, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_stands_after_the_last_colon_and_is_a_number() {
        for (target, parted) in [
            ("a.bin", None),
            ("a.bin:5", Some(("a.bin", Some(5)))),
            ("a:b:5", Some(("a:b", Some(5)))),
            ("a.bin:", Some(("a.bin", None))),
            ("a.bin:5k", Some(("a.bin", None))),
            ("a.bin:-5", Some(("a.bin", None))),
            ("a.bin:+5", Some(("a.bin", None))),
            ("a.bin:99999999999999999999", Some(("a.bin", None))),
            ("dir:5/a", None),
            (":5", None),
        ] {
            let wanted = parted.map(|(path, offset)| (path.as_bytes(), offset));
            assert_eq!(part(target.as_bytes()), wanted, "{target}");
        }
    }
}
