//! A name's attributes as the kernel wants them.

use crate::chunk::PAGE_BYTES;
use crate::fs::Settings;
use crate::namespace::{Attributes, Kind};
use fuser::{FileAttr, FileType, INodeNo};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The size of a folder that `ls -l` shows. Folders have none; one page is what people are used to.
const FOLDER_BYTES: u64 = PAGE_BYTES;

/// Owner and permissions of everything in the mount.
pub struct Owner {
    uid: u32,
    gid: u32,
    umask: u32,
}

impl Owner {
    /// As the settings say, else whoever mounts.
    pub fn new(settings: &Settings) -> Owner {
        Owner {
            uid: settings.uid.unwrap_or_else(|| rustix::process::getuid().as_raw()),
            gid: settings.gid.unwrap_or_else(|| rustix::process::getgid().as_raw()),
            umask: settings.umask,
        }
    }

    /// As the kernel wants them.
    pub fn attributes(&self, known: &Attributes) -> FileAttr {
        let (kind, perm, size, nlink) = match known.kind {
            Kind::Folder => (FileType::Directory, 0o555, FOLDER_BYTES, 2),
            Kind::File => (FileType::RegularFile, 0o444, known.size_bytes, 1),
        };
        let time = moment(known.modified_unix_s);
        FileAttr {
            ino: INodeNo(known.inode.0),
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm: (perm & !self.umask) as u16,
            nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: PAGE_BYTES as u32,
            flags: 0,
        }
    }
}

fn moment(unix_s: i64) -> SystemTime {
    match unix_s >= 0 {
        true => UNIX_EPOCH + Duration::from_secs(unix_s.unsigned_abs()),
        false => UNIX_EPOCH - Duration::from_secs(unix_s.unsigned_abs()),
    }
}
