//! Which mounts there are, read from `/proc/self/mountinfo` and from nowhere else: a `stat` of a hung
//! mount hangs too.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// The type of our mounts in mountinfo.
pub const FS_TYPE: &str = "fuse.braidfs";
/// The source of our mounts where root mounted them without a subtype, so that the type is `fuse`.
pub const FS_SOURCE: &str = "braidfs";
/// Symbolic links that one path may lead through, as in the kernel.
const LINKS_MAX: usize = 40;

/// The device number of a mounted file system; unique on the machine while it is mounted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Device {
    /// 0 for everything that is no disk.
    pub major: u32,
    /// Which one.
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One line of mountinfo.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// The mount's own number.
    pub id: u64,
    /// Of which file system.
    pub device: Device,
    /// Which folder of the file system is mounted (`/` but for bind mounts).
    pub root: PathBuf,
    /// Where.
    pub mountpoint: PathBuf,
    /// The type, with its subtype.
    pub fs_type: String,
    /// The source, or what stands for it.
    pub source: OsString,
    /// FUSE: who mounted it.
    pub owner_uid: Option<u32>,
}

impl Mount {
    /// Is it ours?
    pub fn is_braidfs(&self) -> bool {
        self.fs_type == FS_TYPE || self.fs_type == "fuse" && self.source == FS_SOURCE
    }

    /// `path`, which is under the mount, relative to the root of the file system: `a/b`, or nothing
    /// for the root itself.
    pub fn relative(&self, path: &Path) -> Vec<u8> {
        let below = path.strip_prefix(&self.mountpoint).unwrap_or(Path::new(""));
        let root = self.root.strip_prefix("/").unwrap_or(&self.root);
        let joined = if below.as_os_str().is_empty() { root.to_owned() } else { root.join(below) };
        joined.into_os_string().into_vec()
    }
}

/// The mounts that this process sees, in the kernel's order.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> std::io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read(path)?))
}

/// The lines of a mountinfo file; what is no such line is left out.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// The mount that `path` (absolute, normal) is on: the longest mountpoint that it begins with, and
/// of several mounts on one mountpoint the last, which hides the others.
pub fn mount_of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let under = mounts.iter().filter(|mount| path.starts_with(&mount.mountpoint));
    under.max_by_key(|mount| mount.mountpoint.components().count())
}

/// The braidfs mount that `path` is on, with the path as it is there: as written, else with the links
/// on the way to the mount resolved. Nothing inside a braidfs mount is touched.
pub fn braidfs_of<'a>(mounts: &'a [Mount], cwd: &Path, path: &Path) -> Option<(&'a Mount, PathBuf)> {
    let ours = |path: &Path| mount_of(mounts, path).filter(|mount| mount.is_braidfs());
    let written = normal(&cwd.join(path));
    if let Some(mount) = ours(&written) {
        return Some((mount, written));
    }
    let resolved = resolve_up_to(&written, &|path| ours(path).is_some())?;
    ours(&resolved).map(|mount| (mount, resolved))
}

/// `path` without `.`, `..` and doubled slashes, by its letters alone.
pub fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}

/// Follow links one by one, and stop as soon as `is_there`. `None` where nothing changed.
fn resolve_up_to(path: &Path, is_there: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut rest = names_last_first(path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = rest.pop() {
        let next = normal(&at.join(&name));
        if is_there(&next) {
            return Some(rest.into_iter().rev().fold(next, |path, name| path.join(name)));
        }
        match std::fs::read_link(&next) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                rest.extend(names_last_first(&normal(&at.join(target))));
                at = PathBuf::from("/");
            }
            _ => at = next,
        }
    }
    (links > 0).then_some(at)
}

/// The names in an absolute path, the last one first.
fn names_last_first(path: &Path) -> Vec<OsString> {
    let names: Vec<OsString> = path.iter().skip(1).map(OsString::from).collect();
    names.into_iter().rev().collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let _parent = fields.next()?;
    let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let root = path(fields.next()?);
    let mountpoint = path(fields.next()?);
    // Per-mount options and any number of optional fields come before a lone dash.
    fields.find(|field| *field == b"-")?;
    let fs_type = String::from_utf8_lossy(&unescape(fields.next()?)).into_owned();
    let source = OsString::from_vec(unescape(fields.next()?));
    let options = fields.next().unwrap_or_default();
    let mut options = options.split(|byte| *byte == b',');
    Some(Mount {
        id,
        device: Device { major: major.parse().ok()?, minor: minor.parse().ok()? },
        root,
        mountpoint,
        fs_type,
        source,
        owner_uid: options.find_map(|option| number(option.strip_prefix(b"user_id=")?)),
    })
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(field)).into()
}

/// `\040` and its like: the kernel writes blanks, tabs, line breaks and backslashes in octal.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let octal = field.get(at + 1..at + 4).filter(|digits| field[at] == b'\\' && digits[0] <= b'3');
        match octal.filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit))) {
            Some(digits) => {
                plain.push(digits.iter().fold(0, |value, digit| value << 3 | (digit - b'0')));
                at += 4;
            }
            None => {
                plain.push(field[at]);
                at += 1;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &[u8] = b"\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw
40 27 0:50 / /mnt/a\\040b\\011c rw,nosuid,nodev,relatime shared:7 master:3 - fuse.braidfs braidfs ro,user_id=1000,group_id=100
41 27 0:51 / /mnt/data rw - fuse braidfs ro,user_id=0,group_id=0,allow_other
42 41 0:52 / /mnt/data/deep/tmp rw - tmpfs tmpfs rw
43 41 0:53 / /mnt/data/inner rw - fuse.braidfs genomes ro,user_id=7
44 27 0:51 /sub /mnt/bind rw - fuse braidfs ro,user_id=0
45 27 0:54 / /mnt/other rw - fuse.sshfs braidfs rw,user_id=0
46 27 0:55 / /mnt/twice rw - fuse.braidfs x ro,user_id=0
47 46 0:56 / /mnt/twice rw - fuse.braidfs y ro,user_id=0
48 27 0:57 / /mnt/back\\134slash\\012 rw - fuse.braidfs  ro,user_id=0
nonsense
49 27 0:58 / /cut off
";

    fn find(path: &str) -> Option<u64> {
        braidfs_of(&parse(MOUNTINFO), Path::new("/home/joe"), Path::new(path)).map(|(mount, _)| mount.id)
    }

    #[test]
    fn lines_are_read_with_their_escapes() {
        let mounts = parse(MOUNTINFO);
        assert_eq!(mounts.len(), 11);
        let spaced = &mounts[2];
        assert_eq!(spaced.mountpoint, Path::new("/mnt/a b\tc"));
        assert_eq!((spaced.device, spaced.owner_uid), (Device { major: 0, minor: 50 }, Some(1000)));
        assert_eq!(mounts[10].mountpoint, Path::new("/mnt/back\\slash\n"));
        assert_eq!(mounts[10].source, "");
        assert_eq!(unescape(b"\\"), b"\\");
        assert_eq!(unescape(b"\\04"), b"\\04");
        assert_eq!(unescape(b"\\377\\400"), b"\xff\\400");
    }

    #[test]
    fn the_longest_mountpoint_counts_and_the_last_of_two() {
        assert_eq!(find("/mnt/data"), Some(41));
        assert_eq!(find("/mnt/data/x/../y"), Some(41));
        assert_eq!(find("/mnt/data/inner/x"), Some(43));
        assert_eq!(find("/mnt/data/deep/tmp/x"), None, "another mount lies over it");
        assert_eq!(find("/mnt/data/deep"), Some(41));
        assert_eq!(find("/mnt/database"), None, "a prefix of a name is no folder above it");
        assert_eq!(find("/mnt/twice/x"), Some(47));
        assert_eq!(find("/mnt/other/x"), None, "another program's mount");
        assert_eq!(find("../../mnt/a b\tc/x"), Some(40));
        assert_eq!(find("/mnt/data/../other"), None);
    }

    #[test]
    fn paths_are_relative_to_the_file_system() {
        let mounts = parse(MOUNTINFO);
        let relative = |path: &str| mount_of(&mounts, Path::new(path)).unwrap().relative(Path::new(path));
        assert_eq!(relative("/mnt/data"), b"");
        assert_eq!(relative("/mnt/data/x/y"), b"x/y");
        assert_eq!(relative("/mnt/bind/y"), b"sub/y");
        assert_eq!(relative("/mnt/bind"), b"sub");
    }

    #[test]
    fn links_on_the_way_are_followed_and_none_inside() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("real/mnt")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        std::os::unix::fs::symlink(base.join("link/mnt/in"), base.join("short")).unwrap();
        std::os::unix::fs::symlink("loop", base.join("loop")).unwrap();
        std::os::unix::fs::symlink("/nowhere", base.join("real/mnt/trap")).unwrap();
        let line = format!("9 1 0:9 / {} rw - fuse.braidfs b ro\n", base.join("real/mnt").display());
        let mounts = parse(line.as_bytes());
        let find = |path: &str| braidfs_of(&mounts, &base, Path::new(path)).map(|(mount, path)| mount.relative(&path));
        assert_eq!(find("link/mnt/a/b"), Some(b"a/b".to_vec()));
        assert_eq!(find("short/x"), Some(b"in/x".to_vec()));
        assert_eq!(find("link/mnt/trap"), Some(b"trap".to_vec()), "not followed");
        assert_eq!(find("loop/x"), None);
    }

    #[test]
    fn this_machine_has_mounts() {
        let mounts = read(Path::new("/proc/self/mountinfo")).unwrap();
        assert!(mount_of(&mounts, Path::new("/proc/self")).is_some_and(|mount| mount.fs_type == "proc"));
    }
}
