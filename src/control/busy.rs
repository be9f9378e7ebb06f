//! Who uses a mount: read from `/proc`, without touching the mount.

use super::mountinfo::{self, Device, Mount};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// `/proc/PID/maps` of a process that hangs in the mount may hang as well; then what was found so far
/// is all there is to say.
const SCAN_WITHIN: Duration = Duration::from_secs(3);
/// Processes that are listed; more help nobody.
const USERS_MAX: usize = 20;

/// A process that keeps a mount busy.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct User {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// How it uses the mount, in words: `works in /mnt/x`, `has /mnt/x/a open`.
    pub how: String,
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {}) {}", super::human::plain(&self.name), self.pid, super::human::plain(&self.how))
    }
}

/// The processes that keep `mount` busy, this one left out; those of other users only as far as `/proc`
/// shows them. At most 20, found within 3 s.
pub fn users_of(mount: &Mount) -> Vec<User> {
    let (sender, found) = mpsc::channel();
    let (device, own_pid) = (mount.device, std::process::id());
    let scan = move || {
        for pid in processes().into_iter().filter(|pid| *pid != own_pid) {
            // Nobody listens any more after the deadline.
            if let Some(user) = look_at(pid, device)
                && sender.send(user).is_err()
            {
                return;
            }
        }
    };
    if std::thread::Builder::new().name("braidfs-busy".into()).spawn(scan).is_err() {
        return Vec::new();
    }
    let mut users = Vec::new();
    while let Ok(user) = found.recv_timeout(SCAN_WITHIN) {
        users.push(user);
        if users.len() == USERS_MAX {
            break;
        }
    }
    users
}

fn processes() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn look_at(pid: u32, device: Device) -> Option<User> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    // The process may see the mount elsewhere, and under other numbers, than we do.
    let seen = mountinfo::read(&folder.join("mountinfo")).ok()?;
    let seen: Vec<&Mount> = seen.iter().filter(|mount| mount.device == device).collect();
    let ids: BTreeSet<u64> = seen.iter().map(|mount| mount.id).collect();
    let places = || seen.iter().map(|mount| mount.mountpoint.as_path());
    let how =
        how_by_link(&folder, &places).or_else(|| how_by_fd(&folder, &ids)).or_else(|| how_by_map(&folder, device));
    let name = std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
    how.map(|how| User { pid, name: name.trim_end().to_owned(), how })
}

/// Reading such a link asks nothing of the place that it names.
fn how_by_link<'a, P: Iterator<Item = &'a Path>>(folder: &Path, places: &dyn Fn() -> P) -> Option<String> {
    for (link, verb) in [("cwd", "works in"), ("root", "has its root in"), ("exe", "runs")] {
        if let Ok(target) = std::fs::read_link(folder.join(link))
            && places().any(|place| target.starts_with(place))
        {
            return Some(format!("{verb} {}", target.display()));
        }
    }
    None
}

fn how_by_fd(folder: &Path, ids: &BTreeSet<u64>) -> Option<String> {
    for entry in std::fs::read_dir(folder.join("fdinfo")).ok()?.flatten() {
        let Ok(info) = std::fs::read_to_string(entry.path()) else { continue };
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        if id.is_some_and(|id| ids.contains(&id)) {
            let target = std::fs::read_link(folder.join("fd").join(entry.file_name()));
            return Some(format!("has {} open", target.unwrap_or_else(|_| "a file".into()).display()));
        }
    }
    None
}

fn how_by_map(folder: &Path, device: Device) -> Option<String> {
    let maps = std::fs::read(folder.join("maps")).ok()?;
    maps.split(|byte| *byte == b'\n').find_map(|line| mapped(line, device)).map(|path| format!("has {path} mapped"))
}

/// The path in a line of `maps`, where it lies on `device`.
fn mapped(line: &[u8], device: Device) -> Option<String> {
    let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    let (major, minor) = std::str::from_utf8(fields.nth(3)?).ok()?.split_once(':')?;
    let found = Device { major: u32::from_str_radix(major, 16).ok()?, minor: u32::from_str_radix(minor, 16).ok()? };
    let _inode = fields.next()?;
    // Blanks in a path stand as they are: the rest of the line is the path.
    let first = fields.next()?;
    let start = first.as_ptr() as usize - line.as_ptr() as usize;
    (found == device).then(|| std::ffi::OsStr::from_bytes(&line[start..]).to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn maps_are_read_with_hexadecimal_devices() {
        let device = Device { major: 0, minor: 0x2d };
        let line = b"7f00-7f10 r--s 00000000 00:2d 77                 /mnt/a b";
        assert_eq!(mapped(line, device).as_deref(), Some("/mnt/a b"));
        assert_eq!(mapped(line, Device { major: 0, minor: 2 }), None);
        assert_eq!(mapped(b"7f00-7f10 rw-p 00000000 00:00 0", device), None);
        assert_eq!(mapped(b"", device), None);
    }

    #[test]
    fn a_process_that_works_there_or_has_a_file_open_is_found() {
        // The file system of the temporary folder stands for the mount: many use it, and two must be among them.
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().canonicalize().unwrap();
        let mounts = mountinfo::read(Path::new("/proc/self/mountinfo")).unwrap();
        let Some(device) = mountinfo::mount_of(&mounts, &inside).map(|mount| mount.device) else {
            // In a chroot whose root is no mount of its own the kernel shows only what is mounted below it.
            return eprintln!("skipped: no mount is known of {}", inside.display());
        };
        std::fs::write(inside.join("file"), "x").unwrap();
        let start = |script: &str, cwd: &Path| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).current_dir(cwd).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            child
        };
        let mut worker = start("echo ready; read x", &inside);
        let mut reader = start(&format!("exec 5< {}/file; echo ready; read x", inside.display()), Path::new("/proc"));
        let works = look_at(worker.id(), device).unwrap();
        assert_eq!((works.name.as_str(), works.how), ("sh", format!("works in {}", inside.display())));
        assert_eq!(look_at(worker.id(), Device { major: 999, minor: 0 }), None);
        let ids = mounts.iter().filter(|mount| mount.device == device).map(|mount| mount.id).collect();
        let reads = how_by_fd(&PathBuf::from(format!("/proc/{}", reader.id())), &ids).unwrap();
        assert_eq!(reads, format!("has {}/file open", inside.display()));
        let other = BTreeSet::from([u64::MAX]);
        assert_eq!(how_by_fd(&PathBuf::from(format!("/proc/{}", reader.id())), &other), None);
        for child in [&mut worker, &mut reader] {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}
