//! Speak FUSE; choose errno in one place ([`errno`]).
//!
//! No thread that the kernel talks to waits for the network or for a disk: what the engine cannot
//! answer at once is answered later, by whoever has it, through the reply that travels along.

pub mod descriptor;
pub mod errno;
pub mod session;

mod attributes;
mod filesystem;
mod handles;
mod modes;
mod xattr;

pub use session::{Mounted, mount, serve};

/// How the mount looks to the system.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Let other users see it.
    pub allow_other: bool,
    /// Who owns everything; the one who mounts where not given.
    pub uid: Option<u32>,
    /// Its group likewise.
    pub gid: Option<u32>,
    /// Permission bits taken away from `r--r--r--` and `r-xr-xr-x`.
    pub umask: u32,
    /// The source that `mount` and `df` show.
    pub fsname: String,
    /// Refuse to run programs from it.
    pub noexec: bool,
    /// The kernel's readahead of one stream, in KiB; raised where root allows it. The kernel caps it at
    /// 128 KiB for FUSE otherwise, whatever the daemon asks for, and each request costs a round trip to us.
    pub read_ahead_kib: u32,
    /// Complete files on the cache's disk are read by the kernel itself, where it can.
    pub passthrough: bool,
    /// How deep file systems that lie on others may be stacked below this one, 1 or 2. With 1 the cache must lie on a
    /// plain file system, and an overlay may lie on the mount; with 2 (the cache lies on an overlay) none may.
    pub stack_depth: u32,
    /// Threads that the kernel talks to. They never wait, so as many as there are cores is enough.
    pub threads: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
        Settings {
            allow_other: false,
            uid: None,
            gid: None,
            umask: 0,
            fsname: "braidfs".into(),
            noexec: false,
            read_ahead_kib: 1024,
            passthrough: true,
            stack_depth: 1,
            threads: cores.clamp(2, 8),
        }
    }
}

impl Settings {
    /// Errors name the setting and what would be right.
    pub fn validate(&self) -> Result<(), String> {
        if self.umask > 0o777 {
            return Err(format!("umask {:o} has more than the permission bits: give 000 to 777", self.umask));
        }
        if self.threads == 0 {
            return Err("0 threads serve nobody: give 1 or more".into());
        }
        Ok(())
    }
}
