//! From the disk cache into the pool, on the disk's own threads.

use crate::cache::disk::ReadNow;
use crate::chunk::{Class, PAGE_BYTES, Pages};
use crate::fetch::driver::STREAM_PAGES;
use crate::fetch::inbox::Command;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::Plane;
use crate::fetch::slow::{self, Bringer, Outcome};
use std::io;
use std::sync::Arc;

/// Bring `pages` in; the driver hears of it by `FromDisk`, or by `NotOnDisk` for what could not be read.
pub fn spawn(plane: &Arc<Plane>, file: &Arc<OpenFile>, pages: Pages) {
    let (on_disk, job_plane, job_file) = (file.disk.clone(), plane.clone(), file.clone());
    let (Some(on_disk), Some(disk)) = (on_disk, plane.disk.as_ref()) else { return };
    let wait = slow::begins(plane, file, pages, || Bringer::Disk);
    let job_wait = wait.clone();
    let queued = disk.spawn_read(Box::new(move || {
        let (plane, file) = (job_plane, job_file);
        let read = |pages: Pages, into: &mut [u8]| match on_disk.read_blocking(pages, into) {
            ReadNow::Done => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let inode = file.inode;
        let is_here = into_pool(&plane, &file, pages, read);
        if let Some(wait) = job_wait {
            wait.brought(if is_here { pages.len_bytes(file.size_bytes) } else { 0 });
            wait.ended(if is_here { Outcome::Done } else { Outcome::Failed("the disk could not bring it".into()) });
        }
        match is_here {
            true => plane.inbox.push(Command::FromDisk { file: inode, pages }),
            false => plane.inbox.push(Command::NotOnDisk { file, pages }),
        }
    }));
    if queued.is_err() {
        // Too many wait for a disk that is slow or hangs: the mirrors shall.
        if let Some(wait) = wait {
            wait.ended(Outcome::Failed("too many reads wait for the disk".into()));
        }
        plane.inbox.push(Command::NotOnDisk { file: file.clone(), pages });
    }
}

/// Read `pages` without waiting for the disk, on the thread of a read. False where they are not all in now.
pub fn now(plane: &Plane, file: &Arc<OpenFile>, pages: Pages) -> bool {
    let Some(on_disk) = &file.disk else { return false };
    into_pool(plane, file, pages, |pages, into| match on_disk.read_now(pages, into) {
        ReadNow::Done => Ok(()),
        _ => Err(io::ErrorKind::WouldBlock.into()),
    })
}

/// Read `pages` into a buffer of their own, waiting for the disk: what the pool is compared with.
pub fn fresh(file: &OpenFile, pages: Pages) -> Option<Vec<u8>> {
    let on_disk = file.disk.as_ref().filter(|_| file.on_disk(pages))?;
    let mut bytes = vec![0; (pages.count() * PAGE_BYTES) as usize];
    let size_bytes = pages.len_bytes(file.size_bytes) as usize;
    (on_disk.read_blocking(pages, &mut bytes[..size_bytes]) == ReadNow::Done).then_some(bytes)
}

fn into_pool(
    plane: &Plane,
    file: &Arc<OpenFile>,
    pages: Pages,
    mut read: impl FnMut(Pages, &mut [u8]) -> io::Result<()>,
) -> bool {
    // A read that waits has reserved them already; then this shares its memory.
    let Ok(memory) = plane.pool.reserve(file.inode, pages, Class::Demand, pages.count() >= STREAM_PAGES) else {
        return false;
    };
    let mut filler = memory.filler(pages, file.size_bytes);
    let bring = |pages: Pages, into: &mut [u8]| read(pages, into).map(|()| into.len());
    let mut brought = 0;
    let filled = filler.fill_with(pages, bring, |pages| brought += pages.count()).is_ok();
    plane.metrics.disk_read_bytes.add(brought * PAGE_BYTES);
    filled
}
