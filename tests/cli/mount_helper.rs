//! `mount.braidfs`, as mount(8) calls it, and mount(8) itself.

use crate::support::faulty::{BlackHole, FaultyMirror, Tree};
use crate::support::mounted::{Place, program};
use crate::support::process::{Process, run};
use crate::support::state::{self, Registered};
use crate::support::wait;
use rustix::process::Signal;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

fn mirror() -> FaultyMirror {
    FaultyMirror::start(Tree::new().with("a", *b"a").with("folder/b", *b"b"))
}

/// The program under the name `name`.
fn helper(place: &Place, name: &str) -> Command {
    let path = place.path(name);
    if !path.exists() {
        symlink(program(), &path).unwrap();
    }
    let mut command = Command::new(path);
    place.environment(&mut command);
    command
}

fn options(place: &Place) -> String {
    format!("ro,nofail,_netdev,x-systemd.requires=a.service,memory=64MiB,cache-dir={}", place.cache().display())
}

fn umount(place: &Place) {
    let output = place.braidfs([OsStr::new("umount"), place.mountpoint().as_os_str()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn it_returns_when_the_mount_can_be_used() {
    let (place, mirror) = (Place::new(), mirror());
    let _registered = Registered::mount(&place.mountpoint());
    for name in ["mount.braidfs", "mount.fuse.braidfs"] {
        let mut command = helper(&place, name);
        command.arg(mirror.url()).arg(place.mountpoint()).args(["-n", "-v", "-o", &options(&place)]);
        let output = run(&mut command);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("mounted at") && said.contains("1 mirror"), "{said}");
        assert_eq!(fs::read(place.mountpoint().join("a")).unwrap(), b"a");
        umount(&place);
    }
}

#[test]
fn fake_checks_and_mounts_nothing() {
    let (place, mirror) = (Place::new(), mirror());
    let fake = |mountpoint: &OsStr, options: &str| -> Output {
        run(helper(&place, "mount.braidfs").arg(mirror.url()).arg(mountpoint).args(["-f", "-o", options]))
    };
    let mountpoint = place.mountpoint();
    let output = fake(mountpoint.as_os_str(), &options(&place));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!place.is_mounted());
    assert_eq!(fake(place.path("none").as_os_str(), "ro").status.code(), Some(32));
    assert_eq!(fake(mountpoint.as_os_str(), "memory=lots").status.code(), Some(1));
}

#[test]
fn exit_codes_are_those_of_mount() {
    let (place, mut gone) = (Place::new(), mirror());
    gone.down();
    let url = gone.url();
    let cache = format!("cache-dir={}", place.cache().display());
    let mountpoint = place.mountpoint().to_str().unwrap().to_owned();
    for (words, code, said) in [
        (vec![], 1, "SOURCE MOUNTPOINT"),
        (vec![&*url, &*mountpoint, "-x"], 1, "-x is no option"),
        (vec![&*url, &*mountpoint, "-o", "ro,zzz"], 1, "zzz: unknown option"),
        (vec!["ftp://a/", &*mountpoint], 1, "ftp"),
        // With `-s` what is not known is let pass, and then there is still nobody to mount.
        (vec![&*url, &*mountpoint, "-s", "-o", "ro,zzz", "-o", &*cache], 32, &*url),
        (vec![&*url, "/no/such/folder", "-o", &*cache], 32, "/no/such/folder"),
    ] {
        let output = run(helper(&place, "mount.braidfs").args(&words));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
        assert!(text.contains(said) && !text.contains("panicked"), "{words:?}: {text}");
        assert!(!place.is_mounted());
    }
}

#[test]
fn an_interrupt_before_it_is_mounted_ends_it() {
    let (place, hole) = (Place::new(), BlackHole::open());
    let mut command = helper(&place, "mount.braidfs");
    command.arg(hole.url()).arg(place.mountpoint()).args(["-o", &options(&place)]);
    let mut process = Process::start(&mut command, &place.path("log"));
    let children = format!("/proc/{0}/task/{0}/children", process.pid());
    let child = wait::for_some("the daemon", || {
        fs::read_to_string(&children).unwrap().split_whitespace().next().map(str::to_owned)
    });
    let _registered = Registered::process(child.parse().unwrap());
    process.signal(Signal::INT);
    assert_eq!(process.ends_within(wait::PATIENCE).expect("it ends").code(), Some(8));
    assert!(!fs::exists(format!("/proc/{child}")).unwrap(), "the daemon goes on");
    assert!(!place.is_mounted());
}

/// In a mount namespace of its own, with the helper where mount(8) looks for it.
const BY_MOUNT: &str = r#"
program=$1 url=$2 mnt=$3 cache=$4
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay -o lowerdir=/sbin,upperdir=/mnt/upper,workdir=/mnt/work none /sbin
ln -s "$program" /sbin/mount.braidfs
ln -s "$program" /sbin/mount.fuse.braidfs
umount() { "$program" umount "$1"; }
for type in braidfs fuse.braidfs; do
    mount -t $type -o "ro,nofail,cache-dir=$cache" "$url" "$mnt"
    cat "$mnt/folder/b"
    grep -q " $mnt ro,.* - fuse.braidfs " /proc/self/mountinfo
    umount "$mnt"
    # mount(8) itself writes rw where nobody wrote ro.
    mount -t $type -o "cache-dir=$cache" "$url" "$mnt"
    cat "$mnt/a"
    umount "$mnt"
    code=0
    mount -t $type -o "ro,cache-dir=$cache-of-nobody" http://127.0.0.1:1/ "$mnt" || code=$?
    test $code = 32
    code=0
    mount -t $type -o "ro,zzz" "$url" "$mnt" || code=$?
    test $code = 1
done
echo "$url $mnt fuse.braidfs ro,_netdev,nofail,x-systemd.automount,allow_other,cache-dir=$cache 0 0" > /mnt/fstab
mount --fstab /mnt/fstab "$mnt"
cat "$mnt/a"
umount "$mnt"
"#;

#[test]
fn mount_calls_it_for_both_types_and_for_fstab() {
    let test = "mount_calls_it_for_both_types_and_for_fstab";
    if !rustix::process::geteuid().is_root() {
        return state::skip(test, "only root can make a namespace of mounts");
    }
    let (place, mirror) = (Place::new(), mirror());
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-euc", BY_MOUNT, "sh"]).arg(program()).arg(mirror.url());
    place.environment(command.arg(place.mountpoint()).arg(place.cache()));
    let output = run(&mut command);
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{why}");
    assert_eq!(said, "babaa", "{why}");
}
