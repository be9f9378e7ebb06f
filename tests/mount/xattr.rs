//! `user.braidfs.*`: what is cached of a file, as its extended attributes, without a word to any mirror.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::process::{output_of, run};
use crate::support::{state, wait};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const SIZE: u64 = 8 << 20;
const ALL: [&str; 9] =
    ["cached_bytes", "on_disk_bytes", "in_memory_bytes", "size", "complete", "pinned", "version", "mirrors", "map"];

fn tree() -> Tree {
    Tree::new().with_generated("a/data.bin", 1, SIZE).with("a/empty", *b"").with("small", *b"small")
}

/// As a user asks for it.
fn attribute(mount: &Mount, file: &str, name: &str) -> String {
    let mut command = Command::new("getfattr");
    command.args(["--only-values", "--absolute-names", "-n", &format!("user.braidfs.{name}")]).arg(mount.path(file));
    String::from_utf8(output_of(&mut command)).expect("text")
}

fn get(path: &Path, name: &str, room: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; room];
    let length = rustix::fs::getxattr(path, name, bytes.as_mut_slice())?;
    bytes.resize(length, b'?');
    Ok(bytes)
}

fn requests(mirrors: &[FaultyMirror]) -> usize {
    mirrors.iter().map(|mirror| mirror.requests().len()).sum()
}

#[test]
fn they_say_what_is_here_while_no_mirror_answers_anything() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let file = mount.path("a/data.bin");
    fs::File::open(&file).unwrap().read_exact_at(&mut [0; 4096], SIZE / 2).unwrap();
    fs::metadata(mount.path("a/empty")).unwrap();
    let number = |name: &str| attribute(&mount, "a/data.bin", name).parse::<u64>().expect(name);
    wait::until("all that came is durable", || {
        mount.number("disk_bytes") > 0 && number("on_disk_bytes") == number("cached_bytes")
    });
    wait::until("nothing is on its way", || mount.status()["counters"]["fetches_in_flight"] == 0);
    mirrors.iter().for_each(FaultyMirror::freeze);
    let cached = number("cached_bytes");
    assert!((4096..SIZE).contains(&cached), "{cached}");
    assert!((4096..=cached).contains(&number("in_memory_bytes")));
    assert_eq!(number("size"), SIZE);
    assert_eq!(attribute(&mount, "a/data.bin", "complete"), "no");
    let version = attribute(&mount, "a/data.bin", "version");
    assert!(version.starts_with("20") && version.ends_with('Z'), "{version}");
    let urls = attribute(&mount, "a/data.bin", "mirrors");
    assert_eq!(urls.lines().collect::<Vec<_>>(), faulty_urls(&mirrors));
    let map = attribute(&mount, "a/data.bin", "map");
    assert_eq!((map.len(), &map[..8]), (64, "........"), "{map}");
    assert!(matches!(map.as_bytes()[32], b'#' | b':'), "{map}");
    assert_eq!(attribute(&mount, "a/empty", "complete"), "yes");
    assert_eq!(attribute(&mount, "a/data.bin", "pinned"), "no");
    assert!(place.braidfs(["pin".into(), mount.path("a")]).status.success());
    assert_eq!(attribute(&mount, "a/data.bin", "pinned"), "yes");
    mirrors.iter().for_each(FaultyMirror::thaw);
    assert!(place.braidfs(["prefetch".into(), file]).status.success());
    assert_eq!(attribute(&mount, "a/data.bin", "complete"), "yes");
    assert_eq!(attribute(&mount, "a/data.bin", "map"), "#".repeat(64));
    assert_eq!((number("on_disk_bytes"), number("cached_bytes")), (SIZE, SIZE));
    mount.umount();
}

#[test]
fn sizes_unknown_names_and_writers_are_answered_as_everywhere() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let with_password = mirrors[0].url().replace("http://", "http://me:secret@");
    let mount = place.mount(&[with_password], &[]);
    let (file, folder) = (mount.path("a/data.bin"), mount.path("a"));
    fs::metadata(&file).unwrap();
    let before = requests(&mirrors);
    let size = SIZE.to_string();
    assert_eq!(rustix::fs::getxattr_query(&file, "user.braidfs.size"), Ok(size.len()));
    assert_eq!(get(&file, "user.braidfs.size", size.len()), Ok(size.into_bytes()));
    assert_eq!(get(&file, "user.braidfs.size", 6), Err(Errno::RANGE));
    assert_eq!(get(&file, "user.braidfs.mirrors", 1000), Ok(mirrors[0].url().into_bytes()), "without the password");
    for name in ["user.braidfs.moon", "user.braidfs.", "user.mine", "security.capability", "security.selinux"] {
        let error = get(&file, name, 100).expect_err(name);
        assert!([Errno::NODATA, Errno::OPNOTSUPP].contains(&error), "{name}: {error}");
    }
    for name in ALL {
        get(&file, &format!("user.braidfs.{name}"), 1000).expect(name);
        assert_eq!(get(&folder, &format!("user.braidfs.{name}"), 100), Err(Errno::NODATA), "{name} of a folder");
    }
    let flags = rustix::fs::XattrFlags::empty();
    for name in ["user.braidfs.pinned", "user.mine"] {
        assert_eq!(rustix::fs::setxattr(&file, name, b"yes", flags), Err(Errno::ROFS), "{name}");
        assert_eq!(rustix::fs::removexattr(&file, name), Err(Errno::ROFS), "{name}");
    }
    assert_eq!(requests(&mirrors), before, "a mirror was asked");
    mount.umount();
}

#[test]
fn tools_that_copy_attributes_copy_none_of_them() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let copies = place.path("copies");
    fs::create_dir(&copies).unwrap();
    let marked = copies.join("marked");
    fs::write(&marked, "x").unwrap();
    if rustix::fs::setxattr(&marked, "user.mine", b"1", rustix::fs::XattrFlags::empty()).is_err() {
        return state::skip("tools_that_copy_attributes_copy_none_of_them", "the disk has no user attributes");
    }
    for (name, script) in [
        ("cp", "mkdir cp && cp -a \"$0\"/a/data.bin \"$0\"/small marked cp"),
        ("rsync", "rsync -aX \"$0\"/a/data.bin \"$0\"/small marked rsync/"),
        (
            "tar",
            "mkdir tar && tar --xattrs --xattrs-include='*' -cf - -C \"$0\" small a/data.bin -C \"$PWD\" marked |
                 tar --xattrs --xattrs-include='*' -xf - -C tar",
        ),
    ] {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", script]).arg(place.mountpoint()).current_dir(&copies);
        output_of(&mut shell);
        let mut show = Command::new("getfattr");
        let said = output_of(show.args(["-R", "-d", "-m", "-", name]).current_dir(&copies));
        let said = String::from_utf8(said).unwrap();
        // The tool does copy attributes; ours are none.
        assert!(said.contains("user.mine=") && !said.contains("braidfs"), "{name}: {said}");
        assert!(copies.join(name).join("small").exists(), "{name}");
    }
    // Also where every kind is asked for: nothing of the mount is listed, and nothing goes wrong.
    let all = run(Command::new("getfattr").args(["-d", "-m", "-", "--absolute-names"]).arg(mount.path("small")));
    let said = String::from_utf8_lossy(&all.stdout).into_owned() + &String::from_utf8_lossy(&all.stderr);
    assert!(all.status.success() && !said.contains("braidfs."), "{said}");
    mount.umount();
}
