//! The FUSE operations, each as short as it can be: ask the engine, answer through the reply.

use crate::chunk::Inode;
use crate::fetch::{Engine, Handle, Trouble};
use crate::fs::Settings;
use crate::fs::attributes::Owner;
use crate::fs::errno::errno;
use crate::fs::handles::Handles;
use crate::fs::modes::{Modes, Opened};
use crate::fs::xattr::{self, Attribute};
use crate::namespace::{Attributes, Entry, Kind, Snapshot};
use fuser::{
    BsdFileFlags, Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request, TimeOrNow,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Requests that the kernel may have waiting with us. Reads that stall are among them, and 16, the
/// default, stalled readaheads of one file would stop every other file (the kernel counts per mount).
const BACKGROUND_MAX: u16 = 4096;

/// Offsets 1 and 2 of a folder are `.` and `..`; its names follow.
const FIRST_NAME_OFFSET: u64 = 2;

/// The filesystem that the kernel talks to.
pub struct BraidFs {
    engine: Arc<Engine>,
    owner: Arc<Owner>,
    read_ahead_kib: u32,
    /// See [`Settings::stack_depth`]; nothing is passed through where there is none.
    passthrough_depth: Option<u32>,
    modes: Arc<Modes>,
    files: Arc<Handles<Handle>>,
    folders: Arc<Handles<Snapshot>>,
}

impl BraidFs {
    /// Over `engine`.
    pub fn new(engine: Arc<Engine>, settings: &Settings) -> BraidFs {
        let (files, folders) = (Arc::default(), Arc::default());
        let owner = Arc::new(Owner::new(settings));
        let passthrough_depth = settings.passthrough.then_some(settings.stack_depth);
        let modes = Arc::default();
        BraidFs { engine, owner, read_ahead_kib: settings.read_ahead_kib, passthrough_depth, modes, files, folders }
    }
}

/// What answers an open, from another thread.
struct Opening {
    files: Arc<Handles<Handle>>,
    engine: Arc<Engine>,
    modes: Arc<Modes>,
}

impl Opening {
    fn answer(self, inode: u64, handle: Arc<Handle>, reply: ReplyOpen) {
        // The page cache belongs to the inode, and the inode is one version: it is stale only where that turned
        // out to be somebody else's bytes.
        let keeps = self.engine.keeps_cached(handle.file.inode);
        let flags = if keeps { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
        self.answer_with(flags, inode, handle, reply);
    }

    fn answer_with(self, flags: FopenFlags, inode: u64, handle: Arc<Handle>, reply: ReplyOpen) {
        let engine = &self.engine;
        let number = self.files.add(handle.clone());
        match self.modes.opened(inode, FileHandle(number), flags, || engine.whole(&handle), reply) {
            Opened::Answered => {}
            Opened::Passthrough => engine.note_passthrough(&handle),
            Opened::Damaged(reply) => {
                self.files.remove(number);
                engine.clone().mend(&handle.clone(), move |mended| match mended {
                    Ok(()) => self.answer_with(flags, inode, handle, reply),
                    Err(trouble) => self.fail(&handle, trouble, reply),
                });
            }
            Opened::Wrong(reply) => {
                self.files.remove(number);
                self.fail(&handle, Trouble::Stale, reply);
            }
        }
    }

    fn fail(&self, handle: &Handle, trouble: Trouble, reply: ReplyOpen) {
        self.engine.close(handle);
        reply.error(errno(trouble));
    }
}

impl Filesystem for BraidFs {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Each is wanted where the kernel has it: without PARALLEL_DIROPS one slow lookup holds up its
        // folder, without READDIRPLUS `ls -l` asks once more for each name.
        for wanted in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_CACHE_SYMLINKS,
        ] {
            if config.add_capabilities(wanted).is_err() {
                tracing::debug!(?wanted, "the kernel does not have it");
            }
        }
        // Both calls answer with the nearest value that is allowed, which is then what counts.
        let _ = config.set_max_background(BACKGROUND_MAX);
        let _ = config.set_max_readahead(self.read_ahead_kib * 1024);
        if let Some(depth) = self.passthrough_depth
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(depth).is_ok()
        {
            self.modes.allow_passthrough();
        }
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let owner = self.owner.clone();
        self.engine.lookup(Inode(parent.0), name.as_bytes(), move |found| match found {
            Ok(known) => {
                reply.entry(&known.lifetime, &owner.attributes(&known), Generation(0));
            }
            Err(trouble) => reply.error(errno(trouble)),
        });
    }

    fn forget(&self, _request: &Request, inode: INodeNo, count: u64) {
        self.engine.forget(Inode(inode.0), count);
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.engine.attributes(Inode(inode.0)) {
            Some(known) => reply.attr(&known.lifetime, &self.owner.attributes(&known)),
            None => reply.error(errno(Trouble::Stale)),
        }
    }

    fn open(&self, _request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != fuser::OpenAccMode::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        let opening = Opening { files: self.files.clone(), engine: self.engine.clone(), modes: self.modes.clone() };
        self.engine.open(Inode(inode.0), move |opened| match opened {
            Ok(handle) => opening.answer(inode.0, handle, reply),
            Err(trouble) => reply.error(errno(trouble)),
        });
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(handle) = self.files.get(handle.0) else { return reply.error(Errno::EBADF) };
        self.engine.read(&handle, offset, u64::from(size), move |bytes| match bytes {
            Ok(bytes) => reply.data(bytes),
            Err(trouble) => reply.error(errno(trouble)),
        });
    }

    fn release(
        &self,
        _request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if let Some(handle) = self.files.remove(handle.0) {
            self.modes.released(inode.0);
            self.engine.close(&handle);
        }
        reply.ok();
    }

    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Nothing is ever written. ENOSYS tells the kernel not to ask again at each close.
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let folders = self.folders.clone();
        self.engine.entries(Inode(inode.0), move |entries| match entries {
            Ok(entries) => reply.opened(FileHandle(folders.add(entries)), FopenFlags::empty()),
            Err(trouble) => reply.error(errno(trouble)),
        });
    }

    fn readdir(&self, _request: &Request, inode: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(entries) = self.folders.get(handle.0) else { return reply.error(Errno::EBADF) };
        for (at, name) in [(1, "."), (2, "..")] {
            if offset < at && reply.add(inode, at, FileType::Directory, name) {
                return reply.ok();
            }
        }
        for (at, entry) in rest(&entries, offset) {
            if reply.add(INodeNo(entry.inode.0), at, file_type(entry.kind), OsStr::from_bytes(entry.name)) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let Some(entries) = self.folders.get(handle.0) else { return reply.error(Errno::EBADF) };
        let Some(this) = self.engine.attributes(Inode(inode.0)) else { return reply.error(errno(Trouble::Stale)) };
        let attributes = self.owner.attributes(&this);
        for (at, name) in [(1, "."), (2, "..")] {
            if offset < at && reply.add(inode, at, name, &Duration::ZERO, &attributes, Generation(0)) {
                return reply.ok();
            }
        }
        for (at, entry) in rest(&entries, offset) {
            let known = self.known(entry);
            let attributes = self.owner.attributes(&known);
            let name = OsStr::from_bytes(entry.name);
            if reply.add(attributes.ino, at, name, &known.lifetime, &attributes, Generation(0)) {
                break;
            }
            // The kernel counts each name that it is told of as one lookup. A number that only stands in
            // for an inode is not one that can be remembered; its lifetime is over as it is told.
            if entry.sized {
                self.engine.remember(known.inode, 1);
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.folders.remove(handle.0);
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        // Like any read-only image: as large as what is known to be in it, and full.
        let (files, bytes) = self.engine.known();
        let page_bytes = crate::chunk::PAGE_BYTES;
        reply.statfs(bytes.div_ceil(page_bytes), 0, 0, files, 0, page_bytes as u32, 255, page_bytes as u32);
    }

    // Our own mounts are read-only before they come here; those that others have made need not be.

    fn create(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, _target: &Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _request: &Request, _inode: INodeNo, _parent: INodeNo, _name: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn setattr(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _accessed: Option<TimeOrNow>,
        _modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed_flags: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn getxattr(&self, _request: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        // ENOSYS, the default, would turn extended attributes off for the whole mount.
        let Some(attribute) = Attribute::of(name) else { return reply.error(Errno::NO_XATTR) };
        match self.engine.attributes(Inode(inode.0)).map(|known| known.kind) {
            Some(Kind::File) => self.engine.look_at(Inode(inode.0), move |seen| match seen {
                Ok(file) => xattr::answer(attribute.value(&file).as_bytes(), size, reply),
                Err(trouble) => reply.error(errno(trouble)),
            }),
            Some(Kind::Folder) => reply.error(Errno::NO_XATTR),
            None => reply.error(errno(Trouble::Stale)),
        }
    }

    fn listxattr(&self, _request: &Request, _inode: INodeNo, size: u32, reply: ReplyXattr) {
        // None of ours: see `xattr`.
        xattr::answer(&[], size, reply);
    }

    fn setxattr(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _request: &Request, _inode: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }
}

impl BraidFs {
    /// An entry's attributes; with lifetime 0 where its exact size is not known yet, so that the kernel
    /// looks it up before it shows it.
    fn known(&self, entry: Entry<'_>) -> Attributes {
        let unknown = || Attributes {
            inode: entry.inode,
            kind: entry.kind,
            size_bytes: 0,
            modified_unix_s: 0,
            lifetime: Duration::ZERO,
        };
        match entry.sized {
            true => self.engine.attributes(entry.inode).unwrap_or_else(unknown),
            false => unknown(),
        }
    }
}

/// The names from `offset` on, each with the offset that continues after it.
fn rest(entries: &Snapshot, offset: u64) -> impl Iterator<Item = (u64, Entry<'_>)> {
    let first = offset.saturating_sub(FIRST_NAME_OFFSET) as usize;
    let from_first = (first..entries.len()).filter_map(|at| entries.get(at).map(|entry| (at, entry)));
    from_first.map(|(at, entry)| (at as u64 + FIRST_NAME_OFFSET + 1, entry))
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Folder => FileType::Directory,
        Kind::File => FileType::RegularFile,
    }
}
