//! Is a complete file what its hash says? Hashed on a blocking thread, two files at a time; what is wrong is put right
//! by [`super::repair`]. Until a file was checked it is not DONE on disk.
//!
//! A hash that nobody's bytes match ends in an error for readers, not in fetching for ever: the version is condemned
//! until its hash or itself changes.

use crate::chunk::{Inode, PAGE_BYTES, Pages};
use crate::fetch::error::Trouble;
use crate::fetch::hashes::{Standing, consider, steps};
use crate::fetch::in_use::InUse;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::Plane;
use crate::fetch::repair::{Repaired, repair};
use crate::fetch::tree::Tree;
use crate::scheduler::Event;
use crate::sources::{Algorithm, Digest, Hasher};
use std::sync::Arc;

/// Each round that does not end it has found a mirror's wrong bytes and put them right.
const ROUNDS_MAX: usize = 4;
/// Completed again and found wrong while some mirror could not be asked for its bytes, so many times in all.
const UNDECIDED_MAX: u32 = 3;
/// Whoever waits for a check hears of it so often, in steps of 1 MiB.
const TELL_EVERY_STEPS: usize = 64;

/// Check `file`, which [`super::hashes::consider`] found complete.
pub fn begin(tree: &Arc<Tree>, file: Inode) {
    let tree = tree.clone();
    tree.runtime.clone().spawn(async move {
        // Closed never: then nobody would check any more.
        let _turn = tree.plane.checks.turns.acquire().await;
        let Ok(file) = InUse::open(&tree.plane, &tree, file).await else {
            // Another version has taken its place, or the mount ends: the next who opens it has it checked.
            return tree.plane.checks.ended(file);
        };
        let again = check(&tree, &file).await;
        tree.plane.checks.ended(file.inode);
        if again {
            consider(&tree.plane, &file);
        }
        file.changed.notify_waiters();
    });
}

/// True where pages went meanwhile: once they are back it is to be checked again.
async fn check(tree: &Arc<Tree>, file: &Arc<OpenFile>) -> bool {
    let plane = &tree.plane;
    let mut found = None;
    for _ in 0..ROUNDS_MAX {
        until_looked_up(file).await;
        let Standing::Unchecked(wanted) = file.standing() else { return false };
        let epoch = file.disk.as_ref().map_or(0, |disk| disk.epoch());
        let Some(digest) = hash(plane, file, wanted.algorithm()).await else { return false };
        let path = String::from_utf8_lossy(&file.path);
        if digest == wanted {
            plane.metrics.hashes_right.add(1);
            tracing::debug!(%path, %wanted, "a file matches its hash");
            // Without a disk it is checked each time that it is complete in memory.
            return file.disk.is_some() && !file.hash_verified(&wanted, epoch);
        }
        plane.metrics.hashes_wrong.add(1);
        tracing::warn!(%path, %wanted, found = %digest, "a file does not match its hash: comparing with the mirrors");
        match repair(tree, file, &wanted, &digest).await {
            Repaired::Replaced => {}
            Repaired::Gone => return file.disk.is_some(),
            Repaired::NoCure { all_asked } => {
                let hopeless = all_asked || plane.checks.count_undecided(file.inode) >= UNDECIDED_MAX;
                give_up(plane, file, &wanted, &digest, hopeless);
                return false;
            }
        }
        if file.disk.is_none() {
            // It comes anew from the others, and is checked then.
            return false;
        }
        found = Some((wanted, digest));
    }
    if let Some((wanted, found)) = found {
        give_up(plane, file, &wanted, &found, true);
    }
    false
}

/// Until it is known what the sums files in the folder say: who opens it first has them asked for.
pub async fn until_looked_up(file: &OpenFile) {
    loop {
        let changed = file.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if file.standing() != Standing::Looking {
            return;
        }
        changed.await;
    }
}

/// Of what is held; `None` where not all is held (any more) or can be read.
async fn hash(plane: &Arc<Plane>, file: &Arc<OpenFile>, algorithm: Algorithm) -> Option<Digest> {
    let (plane, file) = (plane.clone(), file.clone());
    let hashed = tokio::task::spawn_blocking(move || {
        let (mut hasher, mut room) = (Hasher::new(algorithm), Vec::new());
        for (step, pages) in steps(&file).enumerate() {
            read_held(&plane, &file, pages, &mut room)?;
            hasher.update(&room);
            if step % TELL_EVERY_STEPS == TELL_EVERY_STEPS - 1 {
                file.changed.notify_waiters();
            }
        }
        Some(hasher.finish())
    });
    hashed.await.ok()?
}

/// The bytes of `pages` that a reader would get; `None` where they are not all held. Waits for the disk.
pub fn read_held(plane: &Plane, file: &OpenFile, pages: Pages, room: &mut Vec<u8>) -> Option<()> {
    use crate::cache::disk::ReadNow;
    debug_assert!(pages.count() * PAGE_BYTES <= 1 << 20, "a step at a time");
    room.resize(pages.len_bytes(file.size_bytes) as usize, 0);
    let is_read = match &file.disk {
        Some(disk) => disk.read_blocking(pages, room) == ReadNow::Done,
        None => plane.pool.copy(file.inode, pages, room),
    };
    is_read.then_some(())
}

/// No mirror's bytes match: none of ours are kept. `hopeless`: and none are asked for any more.
fn give_up(plane: &Plane, file: &Arc<OpenFile>, wanted: &Digest, found: &Digest, hopeless: bool) {
    let pages = file.pages();
    if hopeless {
        plane.checks.condemn(file, wanted.clone());
    }
    if let Some(disk) = &file.disk {
        disk.discard();
        // It went with the bytes; what it says of the mirrors is true still.
        file.note(|_| true);
    }
    plane.pool.forget_file(file.inode);
    plane.tainted.lock().insert(file.inode);
    plane.inbox.tell(Event::Dropped { file: file.inode, pages });
    if hopeless {
        plane.waiting.hopeless(file.inode, pages, Trouble::WrongHash, &plane.pool, &plane.metrics);
    }
    file.give_up(pages, Trouble::WrongHash);
    let labels = file.said_by(wanted);
    let mirrors = plane.mirrors.all();
    let said_by: Vec<_> =
        mirrors.iter().filter(|mirror| labels.contains(&mirror.label)).map(|mirror| mirror.url()).collect();
    let path = String::from_utf8_lossy(&file.path);
    plane.metrics.alerts.add(1);
    match hopeless {
        true => tracing::error!(
            %path, %wanted, %found, ?said_by,
            "no mirror's bytes match the hash of this file: reads of it fail until the hash or the file changes"
        ),
        false => tracing::warn!(
            %path, %wanted, %found, ?said_by,
            "a file does not match its hash, and not every mirror could be asked: it is fetched anew when it is wanted"
        ),
    }
}
