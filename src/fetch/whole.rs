//! Complete files on the cache's disk, lent to be read past us, and mended where that turns out to be damaged.
//!
//! Whoever reads such a file asks us for nothing, so nobody would miss a page that was found damaged: it is fetched
//! here, and written where it was.

use crate::cache::disk::Lent;
pub use crate::cache::disk::LentStanding;
use crate::chunk::Pages;
use crate::fetch::error::Trouble;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::Plane;
use crate::fetch::prefetch::{STRETCH_PAGES, until};
use crate::scheduler::Event;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle as Runtime;

/// What no mirror gave is asked for again after this, as long as the file is lent.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// A complete and verified file version on the cache's disk, for the kernel to read past us. To be held as long as it
/// may.
pub struct Whole {
    lent: Lent,
    _mender: Arc<Mender>,
}

impl Whole {
    /// Of this file, where the kernel may read it past us. Never waits.
    pub(in crate::fetch) fn of(file: &Arc<OpenFile>, plane: &Arc<Plane>, runtime: &Runtime) -> Option<Whole> {
        if file.is_sealed() || file.is_condemned() {
            return None;
        }
        let (file, plane, runtime) = (file.clone(), plane.clone(), runtime.clone());
        let disk = file.disk.clone()?;
        let mender = Arc::new(Mender { file, plane, runtime, notices: AtomicU64::new(0) });
        let told = Arc::downgrade(&mender);
        let lent = disk.lend_now(move || {
            if let Some(mender) = told.upgrade() {
                mender.hear();
            }
        })?;
        Some(Whole { lent, _mender: mender })
    }

    /// Of a file with these bytes and no others.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.lent.descriptor()
    }

    /// What is known of them by now?
    pub fn standing(&self) -> LentStanding {
        self.lent.standing()
    }
}

/// Hears of damage and sees to it, one round at a time.
struct Mender {
    file: Arc<OpenFile>,
    plane: Arc<Plane>,
    runtime: Runtime,
    /// What came since the round that runs began; 0: none runs.
    notices: AtomicU64,
}

impl Mender {
    fn hear(self: &Arc<Mender>) {
        if self.notices.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let mender = Arc::downgrade(self);
        self.runtime.spawn(async move {
            while let Some(at_work) = mender.upgrade() {
                let seen = at_work.notices.load(Ordering::Acquire);
                let mended = mend(&at_work.plane, &at_work.file).await;
                let Err(trouble) = mended else {
                    match at_work.notices.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire) {
                        Ok(_) => return,
                        Err(_) => continue,
                    }
                };
                let path = String::from_utf8_lossy(&at_work.file.path);
                tracing::warn!(%path, why = %trouble, "a damaged file that the kernel reads by itself is not mended yet");
                drop(at_work);
                #[allow(clippy::disallowed_methods, reason = "nothing says that a mirror could give it by now")]
                tokio::time::sleep(TRY_AGAIN).await;
            }
        });
    }
}

/// Fetch what is not held of a file on disk, and write it there.
pub(in crate::fetch) async fn mend(plane: &Arc<Plane>, file: &Arc<OpenFile>) -> Result<(), Trouble> {
    let disk = file.disk.as_ref().ok_or(Trouble::NotKept)?;
    let reader = plane.readers.new_id();
    let missing: Vec<Pages> = disk.missing(file.pages()).iter().flat_map(|run| run.split(STRETCH_PAGES)).collect();
    let mut result = Ok(());
    for pages in missing {
        result = until(plane, file, pages, reader, |disk| disk.held(pages)).await;
        if result.is_err() {
            break;
        }
    }
    plane.inbox.tell(Event::Closed { reader });
    result
}
