//! Sums files (SHA256SUMS and its kin) of the folders that a file lies in: asked of every mirror that lists one, once
//! for each version of it, when the first file below is opened. Nobody who reads waits for that.

use crate::chunk::{Inode, MirrorId, MirrorSet};
use crate::clock::now;
use crate::fetch::hashes::consider;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::Plane;
use crate::fetch::translate;
use crate::fetch::tree::Tree;
use crate::namespace::{Kind, Lookup, Namespace, ROOT};
use crate::sources::{Digest, FailureKind, SUMS_BYTES_MAX, SUMS_ENTRIES_MAX, SUMS_NAMES, Sums};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

/// Lines of sums files that are kept in all, some 150 bytes each. Beyond that the folders begin anew.
const LINES_KEPT: usize = 2 * SUMS_ENTRIES_MAX;
/// Mirrors asked for one at a time: each may send the longest.
const AT_ONCE: usize = 4;
/// Folders whose sums are kept.
const FOLDERS_KEPT: usize = 256;

/// What the sums files of one folder say, and whose they are.
struct Known {
    sums: Sums,
    labels: Vec<u64>,
}

type Cell = Arc<OnceCell<Known>>;

/// By the version of the sums file.
#[derive(Default)]
pub struct SumsKnown(Mutex<HashMap<Inode, Cell>>);

impl SumsKnown {
    fn of(&self, sums: Inode) -> Cell {
        let mut known = self.0.lock();
        let lines = || known.values().filter_map(|cell| cell.get()).map(|known| known.sums.len()).sum::<usize>();
        if !known.contains_key(&sums) && (known.len() >= FOLDERS_KEPT || lines() > LINES_KEPT) {
            known.clear();
        }
        known.entry(sums).or_default().clone()
    }
}

/// A sums file that may speak of a file.
pub struct Candidate {
    sums: Inode,
    /// Its path.
    path: Vec<u8>,
    /// The file's, relative to the folder of the sums.
    below: Vec<u8>,
    mirrors: MirrorSet,
}

/// The sums files of the folder that `file` is in and of those above, the nearest first.
pub fn candidates(namespace: &Namespace, file: Inode) -> Vec<Candidate> {
    let mut found = Vec::new();
    let Some((mut folder, mut below)) = namespace.name(file) else { return found };
    loop {
        let named = SUMS_NAMES.iter().find_map(|name| there(namespace, folder, name.as_bytes(), file));
        if let (Some((name, sums, mirrors)), Some(path)) = (named, namespace.path(folder)) {
            found.push(Candidate { sums, path: translate::join(&path, name), below: below.clone(), mirrors });
        }
        if folder == ROOT {
            return found;
        }
        let Some((above, name)) = namespace.name(folder) else { return found };
        below = translate::join(&name, &below);
        folder = above;
    }
}

fn there<'a>(
    namespace: &Namespace,
    folder: Inode,
    name: &'a [u8],
    file: Inode,
) -> Option<(&'a [u8], Inode, MirrorSet)> {
    let (sums, mirrors) = match namespace.lookup(folder, name, now()).ok()? {
        Lookup::Known { attributes, .. }
            if attributes.kind == Kind::File && attributes.size_bytes <= SUMS_BYTES_MAX =>
        {
            let version = namespace.version(attributes.inode)?;
            // Those that have another one are heard too: they may differ.
            let others = version.dissenters.iter().map(|dissenter| dissenter.mirror);
            (attributes.inode, version.mirrors.iter().chain(others).collect())
        }
        Lookup::NeedsSize { inode, mirrors } => (inode, mirrors),
        _ => return None,
    };
    (sums != file).then_some((name, sums, mirrors))
}

/// Find out what the sums files say of `file`, behind everybody's back.
pub fn look_up(tree: &Arc<Tree>, file: Arc<OpenFile>, candidates: Vec<Candidate>) {
    let plane = tree.plane.clone();
    tree.runtime.spawn(async move {
        let listed = find(&plane, candidates).await;
        file.hash_looked_up(&plane.checks, listed);
        consider(&plane, &file);
        // Only now: who waits for its check must find it begun.
        file.changed.notify_waiters();
    });
}

async fn find(plane: &Arc<Plane>, candidates: Vec<Candidate>) -> Option<(Digest, Vec<u64>)> {
    for candidate in candidates {
        let cell = plane.checks.sums.of(candidate.sums);
        // Where nobody answers it is asked for again at the next open.
        let Ok(known) = cell.get_or_try_init(|| fetch(plane, &candidate)).await else { continue };
        if let Some(digest) = known.sums.get(&candidate.below) {
            return Some((digest.clone(), known.labels.clone()));
        }
    }
    None
}

/// None of them gave one.
struct Nobody;

/// Ask every mirror that has one. Only what all of those that give it say is kept.
async fn fetch(plane: &Arc<Plane>, candidate: &Candidate) -> Result<Known, Nobody> {
    let mirrors: Vec<MirrorId> = candidate.mirrors.iter().collect();
    let mut known: Option<Known> = None;
    for some in mirrors.chunks(AT_ONCE) {
        let mut asked = JoinSet::new();
        for &mirror in some {
            let (plane, path) = (plane.clone(), candidate.path.clone());
            asked.spawn(async move { (mirror, ask(&plane, mirror, &path).await) });
        }
        while let Some(Ok((mirror, sums))) = asked.join_next().await {
            let Some(sums) = sums else { continue };
            known = Some(joined(plane, candidate, known, mirror, sums));
        }
    }
    known.ok_or(Nobody)
}

/// What is known, and what one more mirror says.
fn joined(plane: &Plane, candidate: &Candidate, known: Option<Known>, mirror: MirrorId, sums: Sums) -> Known {
    let path = String::from_utf8_lossy(&candidate.path);
    let label = plane.mirrors.of(mirror).label;
    if sums.cut {
        tracing::warn!(%path, lines = SUMS_ENTRIES_MAX, "a sums file is longer than is read: the rest is not checked");
    }
    let Some(mut known) = known else { return Known { sums, labels: vec![label] } };
    let names = known.sums.keep_common(&sums);
    if names > 0 {
        let mirror = plane.mirrors.of(mirror).url();
        plane.metrics.alerts.add(1);
        tracing::warn!(mirror, %path, names, "mirrors differ in their sums file: what they differ in is believed of none");
    }
    known.labels.push(label);
    known
}

async fn ask(plane: &Arc<Plane>, mirror: MirrorId, path: &[u8]) -> Option<Sums> {
    let source = &plane.mirrors.of(mirror).index_source;
    let read = tokio::time::timeout(plane.settings().read_timeout, source.read_small(path, SUMS_BYTES_MAX)).await;
    match read.ok()? {
        Ok(text) => {
            plane.answered();
            // A second's work for the longest.
            tokio::task::spawn_blocking(move || Sums::parse(&text)).await.ok()
        }
        Err(failure) => {
            tracing::debug!(mirror = mirror.0, why = failure.why, "a sums file could not be read");
            if failure.kind == FailureKind::Corrupt {
                plane.lied(mirror, &failure.why);
            }
            None
        }
    }
}
