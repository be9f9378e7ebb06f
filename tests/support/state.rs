//! What a test makes outside its own process is written down, so that `tests/run` can clear it away
//! (and fail) should the test die before it could.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A line in the books; dropping it strikes it out. Drop it only once the thing itself is gone.
pub struct Registered(PathBuf);

impl Registered {
    /// A mountpoint.
    pub fn mount(path: &Path) -> Registered {
        write("mounts", path.to_str().expect("test folders have plain names"))
    }

    /// A network namespace.
    pub fn namespace(name: &str) -> Registered {
        write("namespaces", name)
    }

    /// A process, with its start time, so that a number used again is not taken for it.
    pub fn process(pid: u32) -> Registered {
        write("pids", &format!("{pid} {}", start_time(pid).unwrap_or_default()))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Say that a test is skipped, and why; `tests/run` counts it.
pub fn skip(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
    // Kept: it is a report, not a thing to clear away.
    std::mem::forget(write("skips", &format!("{test}: {why}")));
}

/// A new folder of this test's own below the build's folder, gone when dropped.
pub fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("t").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target folder is writable")
}

fn write(kind: &str, line: &str) -> Registered {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let root = std::env::var_os("BRAIDFS_TEST_STATE").map(PathBuf::from);
    let root = root.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("state"));
    let folder = root.join(kind);
    fs::create_dir_all(&folder).expect("the state folder is writable");
    let path = folder.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::write(&path, format!("{line}\n")).expect("the state folder is writable");
    Registered(path)
}

/// Field 22 of `/proc/PID/stat`; the name in field 2 may hold spaces.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}
