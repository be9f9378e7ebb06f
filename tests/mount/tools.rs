//! Ordinary tools agree with the originals.

use super::{nginxes, urls};
use crate::support::dataset;
use crate::support::mounted::Place;
use crate::support::nginx::{Nginx, Setup};
use crate::support::process::{output_of, run};
use std::path::Path;
use std::process::Command;

/// `tool` on the mount and on the originals says the same.
fn same_output(make: impl Fn(&Path) -> Command) {
    let mirrors = nginxes(2, &Setup::default());
    let place = Place::new();
    let mount = place.mount(&urls(&mirrors), &[]);
    let through = output_of(make(&place.mountpoint()).current_dir(place.mountpoint()));
    let original = output_of(make(&dataset::root()).current_dir(dataset::root()));
    assert!(!original.is_empty());
    assert!(through == original, "the tool's outputs differ");
    mount.umount();
}

fn shell(script: &'static str) -> impl Fn(&Path) -> Command {
    move |_| {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).env("LC_ALL", "C");
        command
    }
}

#[test]
fn grep() {
    same_output(shell("grep -rn needle text | sort"));
}

#[test]
fn tar() {
    // Names, sizes and dates of files; owners, modes and the dates of folders are the mount's own.
    same_output(shell(
        "tar --sort=name -cf - big/c.bin big/d.bin text deep 'odd names' | tar -xOf - | sha256sum;
         tar --sort=name -cf - text | tar -tvf - --full-time --utc | awk '$1 !~ /^d/ { $1 = $2 = \"\"; print }'",
    ));
}

#[test]
fn find_and_wc() {
    same_output(shell("find . -type f -print0 | sort -z | sha256sum; find . -type f -size -2k | wc -l; wc -c big/*"));
}

#[test]
fn dd_and_tail_and_head() {
    same_output(shell(
        "dd if=big/b.bin bs=7777 skip=100 count=33 status=none | sha256sum; tail -c 5001 big/b.bin | sha256sum; \
         head -c 70000 big/c.bin | sha256sum",
    ));
}

#[test]
fn cp_gives_the_same_tree() {
    let (mirrors, place) = (nginxes(2, &Setup::default()), Place::new());
    let mount = place.mount(&urls(&mirrors), &[]);
    let copy = place.path("copy");
    std::fs::create_dir(&copy).unwrap();
    for name in ["big", "text", "odd names", "deep", "empty"] {
        output_of(Command::new("cp").args(["-r", "--preserve=timestamps"]).arg(mount.path(name)).arg(&copy));
        output_of(Command::new("diff").arg("-r").arg(dataset::root().join(name)).arg(copy.join(name)));
    }
    mount.umount();
}

#[test]
fn rsync_finds_nothing_to_do() {
    let (mirrors, place) = (nginxes(2, &Setup::default()), Place::new());
    let mount = place.mount(&urls(&mirrors), &[]);
    let mut rsync = Command::new("rsync");
    rsync.args(["-rtcni", "--omit-dir-times", "--exclude=/many"]).arg(place.mountpoint().join("")).arg(dataset::root());
    let changes = String::from_utf8_lossy(&output_of(&mut rsync)).into_owned();
    let files: Vec<_> = changes.lines().filter(|line| !line.starts_with('.')).collect();
    assert!(files.is_empty(), "rsync would copy: {files:?}");
    mount.umount();
}

const MMAP: &str = r"
import mmap, sys, hashlib, random
path, original = sys.argv[1:]
with open(path, 'rb') as a, open(original, 'rb') as b:
    x = mmap.mmap(a.fileno(), 0, access=mmap.ACCESS_READ)
    y = mmap.mmap(b.fileno(), 0, access=mmap.ACCESS_READ)
    assert len(x) == len(y)
    r = random.Random(1)
    for _ in range(300):
        at = r.randrange(len(x))
        assert x[at:at + 5000] == y[at:at + 5000], at
    assert hashlib.sha256(x).digest() == hashlib.sha256(y).digest()
";

#[test]
fn python_maps_a_file() {
    let (mirrors, place) = (nginxes(2, &Setup::default()), Place::new());
    let mount = place.mount(&urls(&mirrors), &[]);
    let name = "big/b.bin";
    output_of(Command::new("python3").args(["-c", MMAP]).arg(mount.path(name)).arg(dataset::root().join(name)));
    mount.umount();
}

#[test]
fn fio_reads_at_random() {
    let (mirrors, place) = (nginxes(2, &Setup::default()), Place::new());
    let mount = place.mount(&urls(&mirrors), &[]);
    let fio = |kind: &str, path: &Path| {
        let mut command = Command::new("fio");
        command.args(["--name=x", "--ioengine=psync", "--bs=4k", "--numjobs=2", "--size=8m", "--io_size=2m"]);
        command.args(["--randseed=7", "--minimal", "--allow_file_create=0", "--readonly"]);
        command.arg(format!("--rw={kind}")).arg(format!("--filename={}", path.display()));
        let output = run(&mut command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "fio: {said}");
    };
    fio("randread", &mount.path("big/d.bin"));
    fio("read", &mount.path("big/d.bin"));
    mount.umount();
}

#[test]
fn fio_verifies_what_it_wrote_at_the_mirror() {
    // fio writes its own checksummed pattern once, a mirror serves it, and fio reads it at random through the mount.
    let place = Place::new();
    let root = place.path("root");
    std::fs::create_dir(&root).unwrap();
    let fio = |path: &Path, more: &[&str]| {
        let mut command = Command::new("fio");
        command.args(["--name=x", "--ioengine=psync", "--bs=16k", "--size=16m", "--randseed=7", "--minimal"]);
        command.args(["--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0"]).args(more);
        command.arg(format!("--filename={}", path.display())).current_dir(place.path("home"));
        run(&mut command)
    };
    let verify = ["--rw=randread", "--readonly", "--allow_file_create=0"];
    assert!(fio(&root.join("pattern"), &["--rw=write", "--do_verify=0"]).status.success());
    let mirrors: Vec<Nginx> = (0..2).map(|_| Nginx::start(&root, &Setup::default())).collect();
    let mount = place.mount(&urls(&mirrors), &[]);
    let output = fio(&mount.path("pattern"), &verify);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    mount.umount();
    // And fio would have seen a wrong byte.
    let file = std::fs::OpenOptions::new().write(true).open(root.join("pattern")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"wrong", 5_000_000).unwrap();
    assert!(!fio(&root.join("pattern"), &verify).status.success());
}
