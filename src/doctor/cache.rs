//! The cache folder: whether it can be used, what it lies on, and whether it has room.

use super::disk_speed::{self, Measured, Unmeasured};
use super::finding::{About, Finding, Level};
use crate::cache::disk;
use crate::config::plan::{CacheDir, MountPlan};
use crate::control::human::{bytes, rate};
use crate::mount::{DISK_BYTES_MIN, FREE_FLOOR_BYTES};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// A disk that has not answered for so long is as good as none.
const PATIENCE: Duration = Duration::from_secs(20);
/// Slower than that, a fast mirror's bytes are let go of.
const SLOW_BYTES_PER_SECOND: f64 = 50e6;
/// A commit waits for so long each time, and prefetch for each commit.
const SLOW_SYNC: Duration = Duration::from_millis(250);

/// What a file system is called, by the magic number of linux/magic.h and its kin, and what is to be said of it.
const KINDS: &[(u64, &str, Option<&str>)] = &[
    (0xef53, "ext4", None),
    (0x5846_5342, "XFS", None),
    (0x9123_683e, "Btrfs", None),
    (0xf2f5_2010, "F2FS", None),
    (0x2fc1_2fc1, "ZFS", None),
    (0xca45_1a4e, "bcachefs", None),
    (0x794c_7630, "an overlay", None),
    (0x0102_1994, "tmpfs", Some("it is memory: all of it is gone after a restart")),
    (0x8584_58f6, "ramfs", Some("it is memory: all of it is gone after a restart")),
    (0x6969, "NFS", Some("every cached byte goes over a network, and locks may not hold")),
    (0xff53_4d42, "CIFS", Some("every cached byte goes over a network, and locks may not hold")),
    (0xfe53_4d42, "SMB", Some("every cached byte goes over a network, and locks may not hold")),
    (0x6573_5546, "FUSE", Some("another program serves it, which costs speed and may hang")),
    (0x4d44, "FAT", Some("it has no sparse files")),
];

/// What a look at the folder gives, on a thread of its own: a disk may hang.
struct Looked {
    /// The folder, or the nearest one above it that is there.
    there: PathBuf,
    kind: Option<u64>,
    free_bytes: u64,
    user: io::Result<Option<(u32, String)>>,
    held_bytes: u64,
    measured: Result<Measured, Unmeasured>,
}

/// All checks. `is_to_be_mounted`: the user has said where to, and not only asked about what may be mounted already.
pub fn check(plan: &MountPlan, is_to_be_mounted: bool) -> Vec<Finding> {
    let Some(folder) = plan.cache.path() else {
        let about = About::Cache("none".into());
        return vec![Finding::note(&about, "folder", "nothing is kept on disk, as asked for")];
    };
    let about = About::Cache(folder.display().to_string());
    let (sender, answer) = mpsc::channel();
    let path = folder.to_owned();
    // Who waits no longer does not need it.
    std::thread::spawn(move || drop(sender.send(Box::new(look(&path)))));
    match answer.recv_timeout(PATIENCE).as_deref() {
        Ok(Ok(looked)) => findings(&about, plan, folder, looked, is_to_be_mounted),
        Ok(Err(error)) => vec![unusable(&about, folder, error, plan)],
        Err(_) => vec![Finding::problem(
            &about,
            "disk",
            format!("it has not answered for {} s", PATIENCE.as_secs()),
            "look for its errors with `dmesg`, or take another disk with --cache-dir",
        )],
    }
}

fn look(folder: &Path) -> io::Result<Looked> {
    let there = folder.ancestors().find(|path| std::fs::symlink_metadata(path).is_ok()).unwrap_or(Path::new("/"));
    if !std::fs::metadata(there)?.is_dir() {
        let what = format!("{} is not a folder", there.display());
        return Err(io::Error::new(io::ErrorKind::NotADirectory, what));
    }
    let kind = rustix::fs::statfs(there).ok().map(|about| about.f_type as u64);
    let space = rustix::fs::statvfs(there)?;
    let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
    Ok(Looked {
        there: there.to_owned(),
        kind,
        free_bytes,
        user: disk::user_of(folder),
        held_bytes: held_bytes(folder),
        measured: disk_speed::measure(there, free_bytes.saturating_sub(FREE_FLOOR_BYTES)),
    })
}

fn findings(about: &About, plan: &MountPlan, folder: &Path, looked: &Looked, is_to_be_mounted: bool) -> Vec<Finding> {
    let mut findings = match &looked.measured {
        Err(Unmeasured::NoFile(error)) => vec![unusable(about, folder, error, plan)],
        _ => {
            let seen = if looked.there == folder { "it is there, and can be written" } else { "it can be made" };
            vec![Finding::ok(about, "folder", seen)]
        }
    };
    findings.push(user(about, &looked.user, is_to_be_mounted));
    findings.push(kind(about, looked.kind));
    findings.push(space(about, plan.cache_size, looked.free_bytes, looked.held_bytes));
    match &looked.measured {
        Ok(measured) => findings.extend(speed(about, measured)),
        Err(Unmeasured::NoFile(_)) => {}
        Err(Unmeasured::NoRoom) => {
            findings.push(Finding::note(
                about,
                "disk",
                "not measured: that would take the space that is left to others",
            ));
        }
        Err(Unmeasured::Failed(error)) => findings.push(Finding::problem(
            about,
            "disk",
            format!("it fails: {error}"),
            "look for its errors with `dmesg`, or take another disk with --cache-dir",
        )),
    }
    findings
}

fn unusable(about: &About, folder: &Path, error: &io::Error, plan: &MountPlan) -> Finding {
    let named = match &plan.cache {
        CacheDir::Default(_) => "choose another folder with --cache-dir, or `none` to keep nothing on disk",
        _ => "choose another --cache-dir, or `none` to keep nothing on disk",
    };
    Finding::problem(about, "folder", format!("{} cannot be written: {error}", folder.display()), named)
}

fn user(about: &About, user: &io::Result<Option<(u32, String)>>, is_to_be_mounted: bool) -> Finding {
    match user {
        Ok(None) => Finding::ok(about, "other mounts", "none uses this folder"),
        Ok(Some((pid, owner))) => {
            let level = if is_to_be_mounted { Level::Problem } else { Level::Note };
            Finding::new(level, about, "other mounts", format!("process {pid} uses this folder, mounted at {owner}"))
                .way_out("for another mount unmount that, or give this one a --name or --cache-dir of its own")
                .figure("pid", *pid)
        }
        Err(error) => Finding::problem(
            about,
            "other mounts",
            format!("its lock cannot be read ({error})"),
            "it belongs to another user: choose another --cache-dir",
        ),
    }
}

fn kind(about: &About, kind: Option<u64>) -> Finding {
    let known = kind.and_then(|kind| KINDS.iter().find(|(magic, ..)| *magic == kind));
    match (kind, known) {
        (_, Some((_, name, None))) => Finding::ok(about, "file system", *name),
        (_, Some((_, name, Some(why)))) => {
            Finding::warning(about, "file system", format!("{name}: {why}"), "take a local disk with --cache-dir")
        }
        (Some(kind), None) => Finding::note(about, "file system", format!("of a kind that is not known (0x{kind:x})")),
        (None, None) => Finding::note(about, "file system", "the system does not say what it is"),
    }
}

/// Room for what the cache may still take, above the floor that is left to others.
fn space(about: &About, given: Option<u64>, free_bytes: u64, held_bytes: u64) -> Finding {
    // As a mount takes it: a tenth of what is free.
    let size = given.unwrap_or(free_bytes / 10);
    let room = held_bytes + free_bytes.saturating_sub(FREE_FLOOR_BYTES);
    let floor = bytes(FREE_FLOOR_BYTES);
    let seen =
        format!("{} free, {} may be taken, {} of it are held", bytes(free_bytes), bytes(size), bytes(held_bytes));
    let to_do = "free some space, or take another disk with --cache-dir";
    let found = if size < DISK_BYTES_MIN || room < DISK_BYTES_MIN {
        let seen =
            format!("{} free, of which {floor} are left to others: nothing new is kept on disk", bytes(free_bytes));
        Finding::warning(about, "space", seen, to_do)
    } else if room < size {
        let seen = format!("{seen}, and {floor} are left to others: it stays below {}", bytes(room));
        Finding::warning(about, "space", seen, format!("{to_do}, or give a smaller --cache-size"))
    } else {
        Finding::ok(about, "space", seen)
    };
    found.figure("free_bytes", free_bytes).figure("size_bytes", size).figure("held_bytes", held_bytes)
}

fn speed(about: &About, measured: &Measured) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(match &measured.direct {
        Ok(()) => Finding::ok(about, "direct writes", "it takes them (O_DIRECT)"),
        Err(error) => {
            let seen = format!(
                "it takes none (O_DIRECT: {error}): writes go by way of the kernel's memory, and cost more CPU"
            );
            Finding::note(about, "direct writes", seen)
        }
    });
    let seen = format!(
        "{} written at {}, made durable in {:.1} ms; a page and its sync take {:.1} ms; read back at {}",
        bytes(measured.bytes),
        rate(measured.write_bytes_per_second),
        millis(measured.sync),
        millis(measured.page_sync),
        rate(measured.read_bytes_per_second)
    );
    let slow = measured.write_bytes_per_second < SLOW_BYTES_PER_SECOND || measured.page_sync > SLOW_SYNC;
    let found = match slow {
        true => Finding::warning(
            about,
            "disk",
            format!("{seen}: slower than a fast mirror, so part of what is read is not kept"),
            "take a faster disk with --cache-dir",
        ),
        false => Finding::ok(about, "disk", seen),
    };
    findings.push(
        found
            .figure("bytes", measured.bytes)
            .figure("write_bytes_per_second", measured.write_bytes_per_second)
            .figure("read_bytes_per_second", measured.read_bytes_per_second)
            .figure("sync_ms", millis(measured.sync))
            .figure("page_sync_ms", millis(measured.page_sync)),
    );
    if !measured.same {
        findings.push(Finding::problem(
            about,
            "bytes",
            "what was read back is not what was written",
            "do not trust this disk: look for its errors with `dmesg`, and take another with --cache-dir",
        ));
    }
    findings.push(match (&measured.sparse, &measured.punch) {
        (true, Ok(())) => Finding::ok(about, "holes", "files may have holes, and get them later"),
        (_, Err(error)) => Finding::warning(
            about,
            "holes",
            format!("none can be made in a file ({error}): evicting a part of a file frees no space"),
            "take another file system with --cache-dir, such as ext4 or XFS",
        ),
        (false, _) => Finding::warning(
            about,
            "holes",
            "a file takes the space of what was never written: the cache holds less than it could",
            "take another file system with --cache-dir, such as ext4 or XFS",
        ),
    });
    findings
}

fn millis(length: Duration) -> f64 {
    (length.as_secs_f64() * 1e6).round() / 1e3
}

/// What the files of the cache take on disk. Its folders are its own, and two deep.
fn held_bytes(folder: &Path) -> u64 {
    const DEPTH_MAX: usize = 3;
    const ENTRIES_MAX: usize = 100_000;
    let mut folders = vec![(folder.to_owned(), 0)];
    let (mut held, mut seen) = (0, 0);
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            seen += 1;
            match entry.metadata() {
                Ok(about) if about.is_dir() && depth < DEPTH_MAX => folders.push((entry.path(), depth + 1)),
                Ok(about) if about.is_file() => held += about.blocks() * 512,
                _ => {}
            }
            if seen > ENTRIES_MAX {
                return held;
            }
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    const GIB: u64 = 1 << 30;

    fn about() -> About {
        About::Cache("/c".into())
    }

    #[test]
    fn room_is_counted_above_the_floor_and_with_what_is_held() {
        let level = |size, free, held| space(&about(), size, free, held).level;
        assert_eq!(level(None, 100 * GIB, 0), Level::Ok);
        assert_eq!(level(Some(GIB), 2 * GIB, 0), Level::Ok);
        assert_eq!(level(Some(2 * GIB), 2 * GIB, 0), Level::Warning);
        assert_eq!(level(Some(2 * GIB), 2 * GIB, GIB), Level::Ok);
        assert_eq!(level(None, 100 << 20, 0), Level::Warning);
        assert!(space(&about(), Some(GIB), FREE_FLOOR_BYTES, 0).seen.contains("nothing new is kept"));
        assert_eq!(level(Some(GIB), FREE_FLOOR_BYTES, GIB), Level::Ok);
    }

    #[test]
    fn file_systems_are_named_and_judged() {
        assert_eq!(
            (kind(&about(), Some(0xef53)).level, kind(&about(), Some(0x6969)).level),
            (Level::Ok, Level::Warning)
        );
        assert_eq!((kind(&about(), Some(0x77)).level, kind(&about(), None).level), (Level::Note, Level::Note));
    }

    #[test]
    fn a_slow_or_lying_disk_is_said() {
        let fast = Measured {
            bytes: 64 << 20,
            write_bytes_per_second: 5e8,
            sync: Duration::from_millis(3),
            page_sync: Duration::from_millis(1),
            read_bytes_per_second: 2e9,
            same: true,
            direct: Ok(()),
            sparse: true,
            punch: Ok(()),
        };
        let worst = |measured: &Measured| speed(&about(), measured).into_iter().map(|found| found.level).max().unwrap();
        let refused = || Err("not supported".to_owned());
        assert_eq!(worst(&fast), Level::Ok);
        assert_eq!(worst(&Measured { direct: refused(), ..fast.clone() }), Level::Note);
        assert_eq!(worst(&Measured { punch: refused(), ..fast.clone() }), Level::Warning);
        assert_eq!(worst(&Measured { sparse: false, ..fast.clone() }), Level::Warning);
        assert_eq!(worst(&Measured { write_bytes_per_second: 1e6, ..fast.clone() }), Level::Warning);
        assert_eq!(worst(&Measured { page_sync: Duration::from_secs(1), ..fast.clone() }), Level::Warning);
        assert_eq!(worst(&Measured { same: false, ..fast.clone() }), Level::Problem);
    }

    #[test]
    fn a_folder_in_use_is_said_by_whom() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(user(&about(), &disk::user_of(folder.path()), true).level, Level::Ok);
        std::fs::write(folder.path().join("lock"), "77\n/mnt/x\n").unwrap();
        assert_eq!(user(&about(), &disk::user_of(folder.path()), true).level, Level::Ok, "nobody holds it");
        let held = std::fs::File::open(folder.path().join("lock")).unwrap();
        rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
        assert_eq!(user(&about(), &disk::user_of(folder.path()), false).level, Level::Note);
        let found = user(&about(), &disk::user_of(folder.path()), true);
        assert_eq!(found.level, Level::Problem);
        assert_eq!(found.seen, "process 77 uses this folder, mounted at /mnt/x");
    }
}
