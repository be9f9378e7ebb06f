//! A complete file does not match its hash: whose bytes are wrong?
//!
//! Each mirror's bytes are compared with ours, page by page, until with one mirror's the hash is right. Then the pages
//! that differ are wrong, who brought them is blamed, and they alone are replaced. Ranges that a mirror brought itself
//! are taken from what is held: asking it for them again would show nothing.

use crate::cache::disk::{Health, WriteJob};
use crate::chunk::{MirrorId, PAGE_BYTES, Pages};
use crate::fetch::asking;
use crate::fetch::checking::read_held;
use crate::fetch::hashes::{STEP_PAGES, steps};
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::Plane;
use crate::fetch::tree::Tree;
use crate::scheduler::Event;
use crate::scheduler::origins::Origin;
use crate::sources::{Digest, Failure, FailureKind, Hasher, RangeAsk};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// One connection in a hundred breaks off on a poor line.
const TRIES_MAX: usize = 3;
/// Runs of wrong pages that are told apart. What lies between the last ones is replaced with them.
const WRONG_RUNS_MAX: usize = 65_536;

/// What came of it.
pub enum Repaired {
    /// Wrong pages were dropped, and others written where they could be had.
    Replaced,
    /// Pages of it are not held any more: there is nothing to compare.
    Gone,
    /// With no mirror's bytes the hash is right.
    NoCure {
        /// All of them gave theirs.
        all_asked: bool,
    },
}

enum NotCompared {
    Gone,
    Failed(Failure),
}

/// Who brought which page, the newest first.
struct Brought(Vec<Origin>);

impl Brought {
    /// What of it concerns `pages`.
    fn within(&self, pages: Pages) -> Brought {
        Brought(self.0.iter().filter(|origin| !origin.pages.intersect(pages).is_empty()).copied().collect())
    }

    fn by(&self, page: u64) -> Option<MirrorId> {
        self.0.iter().find(|origin| origin.pages.contains(page)).map(|origin| origin.mirror)
    }

    /// The runs of `pages` that this mirror has not brought.
    fn by_others(&self, mirror: MirrorId, pages: Pages) -> Vec<Pages> {
        let (near, mut runs) = (self.within(pages), Vec::new());
        let others = pages.iter().filter(|&page| near.by(page) != Some(mirror));
        others.for_each(|page| join(&mut runs, Pages::new(page, page + 1)));
        runs
    }

    fn count(&self, mirror: MirrorId) -> u64 {
        self.0.iter().filter(|origin| origin.mirror == mirror).map(|origin| origin.pages.count()).sum()
    }
}

struct Case<'a> {
    plane: &'a Arc<Plane>,
    file: &'a Arc<OpenFile>,
    wanted: &'a Digest,
    found: &'a Digest,
    brought: Brought,
    /// Who serves the file, those that brought the least of it first: they are the likeliest to be innocent.
    mirrors: Vec<MirrorId>,
}

/// `file` is complete, and hashes to `found` where `wanted` is right.
pub async fn repair(tree: &Arc<Tree>, file: &Arc<OpenFile>, wanted: &Digest, found: &Digest) -> Repaired {
    let (plane, inode) = (&tree.plane, file.inode);
    let origins = asking::put(&plane.inbox, move |_, scheduler| scheduler.origins_of(inode)).await;
    let brought = Brought(origins.unwrap_or_default());
    let version = tree.namespace.read().version(inode);
    let mut mirrors: Vec<MirrorId> = version.map(|version| version.mirrors.iter().collect()).unwrap_or_default();
    mirrors.sort_by_key(|&mirror| brought.count(mirror));
    let case = Case { plane, file, wanted, found, brought, mirrors };
    let mut all_asked = true;
    for &mirror in &case.mirrors {
        match case.compare(mirror).await {
            Ok((digest, wrong)) if digest == *wanted => {
                let guilty = case.guilty(mirror, &wrong).await;
                // Before the pages go, or they might come from there again.
                for &mirror in guilty.keys() {
                    plane.inbox.tell(Event::Blamed { mirror, file: inode });
                }
                case.take_away(&wrong);
                case.name(mirror, &wrong, &guilty);
                case.put_back(mirror, &wrong).await;
                return Repaired::Replaced;
            }
            Ok(_) => {}
            Err(NotCompared::Gone) => return Repaired::Gone,
            Err(NotCompared::Failed(failure)) => {
                tracing::debug!(mirror = mirror.0, why = failure.why, "a mirror could not be compared with");
                // Those that have no such file (any more) have nothing to be asked for.
                all_asked &=
                    matches!(failure.kind, FailureKind::Missing | FailureKind::Changed | FailureKind::Redated { .. });
            }
        }
    }
    Repaired::NoCure { all_asked }
}

impl Case<'_> {
    /// What the file hashes to with this mirror's bytes in place of all that others brought, and where these differ.
    async fn compare(&self, mirror: MirrorId) -> Result<(Digest, Vec<Pages>), NotCompared> {
        let mut hasher = Hasher::new(self.wanted.algorithm());
        let mut wrong = Vec::new();
        for pages in steps(self.file) {
            // The only mirror is asked again: its bytes may have been right, and the way to us wrong.
            let asked = match self.mirrors.len() {
                1 => vec![pages],
                _ => self.brought.by_others(mirror, pages),
            };
            let mut theirs = Vec::new();
            for run in asked {
                theirs.push((run, self.fetch(mirror, run).await.map_err(NotCompared::Failed)?));
            }
            let (plane, file) = (self.plane.clone(), self.file.clone());
            let compared = tokio::task::spawn_blocking(move || {
                let mut bytes = Vec::new();
                read_held(&plane, &file, pages, &mut bytes)?;
                let mut differ = Vec::new();
                for (run, theirs) in theirs {
                    let at = ((run.start - pages.start) * PAGE_BYTES) as usize;
                    let ours = &mut bytes[at..at + theirs.len()];
                    differ.extend(differing(run, ours, &theirs));
                    ours.copy_from_slice(&theirs);
                }
                hasher.update(&bytes);
                Some((hasher, differ))
            });
            let differ;
            (hasher, differ) = compared.await.ok().flatten().ok_or(NotCompared::Gone)?;
            differ.into_iter().for_each(|run| join(&mut wrong, run));
        }
        Ok((hasher.finish(), wrong))
    }

    /// The bytes of `pages` from this mirror, without its page padding.
    async fn fetch(&self, mirror: MirrorId, pages: Pages) -> Result<Vec<u8>, Failure> {
        let (plane, file) = (self.plane, self.file);
        let validator = file.validator(plane.mirrors.of(mirror).label);
        let bytes = pages.bytes(file.size_bytes);
        let (path, size_bytes) = (&file.path[..], file.size_bytes);
        let ask = RangeAsk { path, bytes, size_bytes, validator: validator.as_ref(), whole: false };
        let source = &plane.mirrors.of(mirror).index_source;
        let read = async || {
            let mut answer = source.open(&ask).await?;
            let mut bytes = Vec::with_capacity(pages.len_bytes(size_bytes) as usize);
            while let Some(more) = answer.body.next().await? {
                plane.brought(mirror, more.len() as u64);
                bytes.extend_from_slice(&more);
            }
            Ok(bytes)
        };
        let patience = plane.settings().read_timeout;
        let mut tries = 0;
        loop {
            tries += 1;
            let silent = || {
                let why = format!("{} did not send a range to compare with in {patience:?}", source.redacted_url());
                Err(Failure { kind: FailureKind::Unreachable, why })
            };
            match tokio::time::timeout(patience, read()).await.unwrap_or_else(|_| silent()) {
                Err(failure) if failure.kind == FailureKind::Unreachable && tries < TRIES_MAX => {}
                ended => return ended,
            }
        }
    }

    /// Those whose pages are wrong where `right` has other ones, each with the first of them.
    async fn guilty(&self, right: MirrorId, wrong: &[Pages]) -> BTreeMap<MirrorId, Pages> {
        let mut guilty = BTreeMap::new();
        let mut unknown = None;
        for &run in wrong {
            let near = self.brought.within(run);
            for page in run.iter() {
                let pages = Pages::new(page, page + 1);
                match near.by(page) {
                    Some(mirror) => _ = guilty.entry(mirror).or_insert(pages),
                    None => _ = unknown.get_or_insert(pages),
                }
            }
        }
        if let Some(page) = unknown.filter(|_| guilty.is_empty()) {
            self.ask_who_sends(right, page, &mut guilty).await;
        }
        guilty
    }

    /// Say who sent what is wrong.
    fn name(&self, right: MirrorId, wrong: &[Pages], guilty: &BTreeMap<MirrorId, Pages>) {
        let (plane, file) = (self.plane, self.file);
        let path = String::from_utf8_lossy(&file.path);
        let url = |mirror: MirrorId| plane.mirrors.of(mirror).url();
        let (wrong_pages, right_url) = (wrong.iter().map(|run| run.count()).sum::<u64>(), url(right));
        if guilty.is_empty() {
            plane.metrics.alerts.add(1);
            tracing::warn!(%path, wrong_pages, "wrong pages of a file, sent by it is not known whom, are replaced");
        }
        for (&mirror, page) in guilty {
            let bytes = page.bytes(file.size_bytes);
            let what = format!(
                "{}{path} was sent with wrong bytes (the first in {}-{}): its hash was {} then, where {} is given, and right with the bytes of {right_url}",
                url(mirror),
                bytes.start,
                bytes.end - 1,
                self.found,
                self.wanted,
            );
            plane.lied(mirror, &what);
            plane.metrics.alerts.add(1);
            tracing::warn!(mirror = url(mirror), %path, wrong_pages, "{what}");
        }
    }

    /// Nobody remembers who brought this wrong page (it was before the mount began): who sends another than `right`?
    async fn ask_who_sends(&self, right: MirrorId, page: Pages, guilty: &mut BTreeMap<MirrorId, Pages>) {
        let Ok(right_bytes) = self.fetch(right, page).await else { return };
        for &mirror in self.mirrors.iter().filter(|&&mirror| mirror != right) {
            if self.fetch(mirror, page).await.is_ok_and(|bytes| bytes != right_bytes) {
                guilty.insert(mirror, page);
            }
        }
    }

    /// Nobody reads `wrong` any more.
    fn take_away(&self, wrong: &[Pages]) {
        let (plane, file) = (self.plane, self.file);
        if let Some(disk) = &file.disk {
            disk.drop_pages(wrong);
        }
        // After the disk, or it would come back from there. What else was in memory is on disk.
        plane.pool.forget_file(file.inode);
        plane.tainted.lock().insert(file.inode);
        if file.disk.is_none() {
            plane.inbox.tell(Event::Dropped { file: file.inode, pages: file.pages() });
        }
    }

    /// Put the bytes of `right` in the place of `wrong` on disk. What cannot be had now is fetched when it is wanted.
    async fn put_back(&self, right: MirrorId, wrong: &[Pages]) {
        let (plane, file) = (self.plane, self.file);
        if file.disk.is_none() {
            return;
        }
        for pages in wrong.iter().flat_map(|run| run.split(STEP_PAGES)) {
            let written = match self.fetch(right, pages).await {
                Ok(bytes) => self.write(pages, bytes).await,
                Err(failure) => {
                    tracing::warn!(why = failure.why, ?pages, "right pages cannot be had now");
                    false
                }
            };
            if !written {
                plane.inbox.tell(Event::Dropped { file: file.inode, pages });
            }
        }
    }

    /// To disk, durably. False where that fails.
    async fn write(&self, pages: Pages, mut bytes: Vec<u8>) -> bool {
        let (Some(disk), Some(file)) = (&self.plane.disk, &self.file.disk) else { return false };
        bytes.resize((pages.count() * PAGE_BYTES) as usize, 0);
        let (told, written) = oneshot::channel();
        let done = Box::new(move |result: Result<(), _>| _ = told.send(result.is_ok()));
        let mut job = WriteJob {
            file: file.clone(),
            pages,
            bytes: Box::new(bytes),
            discards: file.discards(),
            may_let_go: false,
            done: Some(done),
            written: None,
        };
        loop {
            let room = self.plane.disk_room.notified();
            match disk.write(job) {
                Ok(()) => return written.await.unwrap_or(false),
                Err(back) if disk.health() == Health::Ok => job = back,
                Err(_) => return false,
            }
            room.await;
        }
    }
}

/// The runs of `pages` in which two versions of their bytes differ.
fn differing(pages: Pages, ours: &[u8], theirs: &[u8]) -> Vec<Pages> {
    let mut runs = Vec::new();
    let each = ours.chunks(PAGE_BYTES as usize).zip(theirs.chunks(PAGE_BYTES as usize));
    for (page, _) in (pages.start..).zip(each).filter(|(_, (ours, theirs))| ours != theirs) {
        join(&mut runs, Pages::new(page, page + 1));
    }
    runs
}

/// Add a run behind all others.
fn join(runs: &mut Vec<Pages>, run: Pages) {
    let full = runs.len() >= WRONG_RUNS_MAX;
    match runs.last_mut() {
        Some(last) if last.end == run.start || full => last.end = run.end,
        _ => runs.push(run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_differ_are_found_and_joined() {
        let ours = vec![0; 5 * PAGE_BYTES as usize + 100];
        let mut theirs = ours.clone();
        for at in [PAGE_BYTES as usize, 2 * PAGE_BYTES as usize + 7, ours.len() - 1] {
            theirs[at] = 1;
        }
        let pages = Pages::new(10, 16);
        assert_eq!(differing(pages, &ours, &theirs), [Pages::new(11, 13), Pages::new(15, 16)]);
        assert_eq!(differing(pages, &ours, &ours), []);
        let mut runs = vec![Pages::new(0, 1); WRONG_RUNS_MAX];
        join(&mut runs, Pages::new(7, 8));
        assert_eq!((runs.len(), runs[WRONG_RUNS_MAX - 1]), (WRONG_RUNS_MAX, Pages::new(0, 8)));
    }
}
