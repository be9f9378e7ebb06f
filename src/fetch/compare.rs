//! One comparison: a page of a mirror, beside the one that is held or comes soon.

use crate::cache::disk::ReadNow;
use crate::cache::pool::Pool;
use crate::chunk::{Inode, MirrorId, PAGE_BYTES, Pages};
use crate::fetch::inbox::Command;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::Plane;
use crate::fetch::transfer::{accept, doubt};
use crate::scheduler::{self, ComparisonId, Event, Verdict};
use crate::sources::{Failure, RangeAsk};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// A page that is held, by its bytes; a last one by those that the file has.
pub enum Held {
    /// In memory, now or as soon as it has come.
    InMemory(oneshot::Receiver<Vec<u8>>),
    /// Being read from disk.
    OnDisk(oneshot::Receiver<Vec<u8>>),
}

/// A disk that takes longer for a page than this is too slow to say what is held: another place is taken.
const DISK_PATIENCE: Duration = Duration::from_millis(500);

/// Pages of a file that somebody wants to know the bytes of as soon as they are held.
#[derive(Default)]
pub struct Watched {
    any: AtomicBool,
    pages: Mutex<Vec<(u64, oneshot::Sender<Vec<u8>>)>>,
}

impl Watched {
    fn watch(&self, page: u64, sender: oneshot::Sender<Vec<u8>>) {
        self.pages.lock().push((page, sender));
        self.any.store(true, Ordering::Release);
    }

    /// `came` are held now. Costs who brings them one look where nobody watches.
    pub fn came(&self, file: Inode, size_bytes: u64, came: Pages, pool: &Pool) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut pages = self.pages.lock();
        for (page, sender) in std::mem::take(&mut *pages) {
            match came.contains(page).then(|| in_memory(pool, file, page, size_bytes)).flatten() {
                // Who has not waited for it needs no answer.
                Some(bytes) => drop(sender.send(bytes)),
                None if sender.is_closed() => {}
                None => pages.push((page, sender)),
            }
        }
        self.any.store(!pages.is_empty(), Ordering::Release);
    }
}

/// Compare what `mirror` has on `page` with what is held.
pub fn start(
    plane: &Arc<Plane>,
    file: Arc<OpenFile>,
    comparison: ComparisonId,
    mirror: MirrorId,
    (page, held): (u64, Held),
    whole: bool,
) -> tokio::task::AbortHandle {
    let plane = plane.clone();
    let task = async move {
        let result = compare(&plane, &file, mirror, page, whole, held).await;
        plane.inbox.push(Command::Tell(Event::Compared { comparison, result }));
    };
    tokio::task::spawn_local(task).abort_handle()
}

async fn compare(
    plane: &Arc<Plane>,
    file: &OpenFile,
    mirror: MirrorId,
    page: u64,
    whole: bool,
    held: Held,
) -> Result<Verdict, scheduler::Failure> {
    let theirs = bring(plane, file, mirror, page, whole).await.map_err(|failure| {
        doubt(plane, file, mirror, &failure);
        plane.failed(mirror, &failure)
    })?;
    let ours = match held {
        Held::InMemory(held) => held.await.ok(),
        Held::OnDisk(held) => tokio::time::timeout(DISK_PATIENCE, held).await.ok().and_then(Result::ok),
    };
    let Some(ours) = ours else {
        tell_not_held(plane, file);
        return Err(scheduler::Failure::Cancelled);
    };
    Ok(if ours == theirs { Verdict::Same } else { Verdict::Other { digest: digest(&theirs) } })
}

fn digest(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(blake3::hash(bytes).as_bytes()[..8].try_into().expect("eight of 32 bytes"))
}

/// The bytes of one page of a mirror.
async fn bring(plane: &Plane, file: &OpenFile, mirror: MirrorId, page: u64, whole: bool) -> Result<Vec<u8>, Failure> {
    let member = plane.mirrors.of(mirror);
    let label = member.label;
    let validator = file.validator(label);
    let wanted = Pages::new(page, page + 1).bytes(file.size_bytes);
    let bytes = if whole { 0..file.size_bytes } else { wanted.clone() };
    let (path, size_bytes) = (&file.path[..], file.size_bytes);
    // By what is asked for: an answer may be on its way when nobody needs it any more.
    plane.metrics.compared_bytes.add(bytes.end - bytes.start);
    let ask = RangeAsk { path, bytes, size_bytes, validator: validator.as_ref(), whole };
    let mut answer = member.source.open(&ask).await?;
    plane.answered();
    accept(plane, file, mirror, &answer)?;
    let mut theirs = Vec::with_capacity(PAGE_BYTES as usize);
    while answer.body.offset() < wanted.end {
        let at = answer.body.offset();
        let Some(body) = answer.body.next().await? else { break };
        let place = |offset: u64| (offset.clamp(at, at + body.len() as u64) - at) as usize;
        theirs.extend_from_slice(&body[place(wanted.start)..place(wanted.end)]);
    }
    if !whole {
        // Only then is its connection free again; and a body that does not end there is a lie.
        answer.body.next().await?;
    }
    Ok(theirs)
}

/// The page that is held, out of memory or from disk; one that is neither, as soon as it comes, where it is `coming`. On
/// the thread of the driver: what is held is taken before anything else can happen to it.
pub fn held(plane: &Arc<Plane>, file: &Arc<OpenFile>, page: u64, coming: bool) -> Option<Held> {
    let (sender, held) = oneshot::channel();
    if let Some(bytes) = in_memory(&plane.pool, file.inode, page, file.size_bytes) {
        // The receiver is right here.
        let _ = sender.send(bytes);
        return Some(Held::InMemory(held));
    }
    let one = Pages::new(page, page + 1);
    let (Some(disk), Some(on_disk)) = (&plane.disk, file.disk.clone().filter(|disk| disk.held(one))) else {
        if !coming {
            return None;
        }
        file.watched.watch(page, sender);
        return Some(Held::InMemory(held));
    };
    let size_bytes = one.len_bytes(file.size_bytes) as usize;
    // Refused where the disk hangs: then it cannot be said.
    let _ = disk.spawn_read(Box::new(move || {
        let mut bytes = vec![0; size_bytes];
        if on_disk.read_blocking(one, &mut bytes) == ReadNow::Done {
            let _ = sender.send(bytes);
        }
    }));
    Some(Held::OnDisk(held))
}

/// The disk does not give what it holds of a file: what is not in memory does not count as held for now, or the next place
/// would be on that disk too.
fn tell_not_held(plane: &Plane, file: &OpenFile) {
    for pages in plane.pool.missing(file.inode, file.pages()) {
        plane.inbox.tell(Event::Dropped { file: file.inode, pages });
    }
}

fn in_memory(pool: &Pool, file: Inode, page: u64, size_bytes: u64) -> Option<Vec<u8>> {
    let one = Pages::new(page, page + 1);
    let mut bytes = vec![0; one.len_bytes(size_bytes) as usize];
    pool.copy(file, one, &mut bytes).then_some(bytes)
}
