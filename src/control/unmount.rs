//! Take a mount away: by the system call where one may, by fusermount3 elsewhere; and wait until it is gone.

use super::mountinfo::{self, Mount};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Why a mount was not taken away.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Somebody uses it.
    #[error("{} is busy", .0.display())]
    Busy(PathBuf),
    /// The program for ordinary users is not there.
    #[error("fusermount3 was not found, without which only root can unmount: install the package fuse3")]
    NoProgram,
    /// Nothing is mounted there any more.
    #[error("{} is not mounted", .0.display())]
    NotMounted(PathBuf),
    /// The system refuses.
    #[error("cannot unmount {}: {why}", mountpoint.display())]
    Refused {
        /// Which.
        mountpoint: PathBuf,
        /// In its own words.
        why: String,
    },
}

/// Unmount what is at `mountpoint`. A busy one is refused, unless `lazy`: then it is detached, and
/// ends once nobody uses it.
///
/// # Errors
/// Busy, or what the system says.
pub fn unmount(mountpoint: &Path, lazy: bool) -> Result<(), UnmountError> {
    let flags = if lazy { UnmountFlags::NOFOLLOW | UnmountFlags::DETACH } else { UnmountFlags::NOFOLLOW };
    let refused = |why: String| UnmountError::Refused { mountpoint: mountpoint.to_owned(), why };
    match rustix::mount::unmount(mountpoint, flags) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(UnmountError::Busy(mountpoint.to_owned())),
        Err(Errno::INVAL | Errno::NOENT) => Err(UnmountError::NotMounted(mountpoint.to_owned())),
        Err(Errno::PERM) => by_program(mountpoint, lazy),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// Wait until `mount` is no longer in the file `mountinfo`, at most `length`. `Ok(false)`: it still is.
///
/// # Errors
/// The file cannot be read or watched.
pub fn wait_until_gone(mountinfo: &Path, mount: &Mount, length: Duration) -> std::io::Result<bool> {
    let is_gone = || -> std::io::Result<bool> {
        let mounts = mountinfo::read(mountinfo)?;
        Ok(!mounts.iter().any(|other| other.id == mount.id && other.device == mount.device))
    };
    // The kernel raises "priority" on this file whenever a mount comes or goes after it was opened:
    // so open first, then look.
    let watched = File::open(mountinfo)?;
    if is_gone()? {
        return Ok(true);
    }
    let alarm = alarm_after(length)?;
    loop {
        let rang = wait_for(&watched, PollFlags::PRI, &alarm)?;
        if is_gone()? {
            return Ok(true);
        }
        if rang {
            return Ok(false);
        }
    }
}

/// Wait until the process `pid` has ended, at most `length`; so that its cache folder is free for the next.
pub fn wait_for_end(pid: u32, length: Duration) {
    let other = Pid::from_raw(pid as i32).filter(|_| pid != std::process::id());
    let Some(Ok(process)) = other.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return };
    // Whether it ended or the alarm rang, there is nothing more to wait for.
    let _ = alarm_after(length).and_then(|alarm| wait_for(&process, PollFlags::IN, &alarm));
}

/// A timer that becomes readable after `length`: the deadline of waits that may wake up for nothing.
fn alarm_after(length: Duration) -> std::io::Result<OwnedFd> {
    let alarm = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?;
    // Zero would mean never.
    let length = length.max(Duration::from_nanos(1));
    let it_value = Timespec { tv_sec: length.as_secs() as i64, tv_nsec: i64::from(length.subsec_nanos()) };
    let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
    timerfd_settime(&alarm, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
    Ok(alarm)
}

/// Wait for `flags` on `file`, or for the alarm; says whether the alarm rang.
fn wait_for(file: &impl AsFd, flags: PollFlags, alarm: &OwnedFd) -> std::io::Result<bool> {
    let mut polled = [PollFd::new(file, flags), PollFd::new(alarm, PollFlags::IN)];
    match poll(&mut polled, None) {
        Ok(_) | Err(Errno::INTR) => Ok(!polled[1].revents().is_empty()),
        Err(error) => Err(error.into()),
    }
}

fn by_program(mountpoint: &Path, lazy: bool) -> Result<(), UnmountError> {
    let mut command = Command::new("fusermount3");
    command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(mountpoint);
    // Its words are matched below.
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output();
    let refused = |why: String| UnmountError::Refused { mountpoint: mountpoint.to_owned(), why };
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            match said.as_str() {
                busy if busy.contains("resource busy") => Err(UnmountError::Busy(mountpoint.to_owned())),
                none if none.contains("not found in /etc/mtab") || none.contains("Invalid argument") => {
                    Err(UnmountError::NotMounted(mountpoint.to_owned()))
                }
                _ => Err(refused(said)),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(UnmountError::NoProgram),
        Err(error) => Err(refused(format!("fusermount3: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_mount_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = unmount(folder.path(), false).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
    }

    #[test]
    fn a_mount_that_stays_is_waited_for_until_the_deadline_only() {
        let path = Path::new("/proc/self/mountinfo");
        let mounts = mountinfo::read(path).unwrap();
        assert!(!wait_until_gone(path, &mounts[0], Duration::from_millis(20)).unwrap());
        let gone = Mount { id: u64::MAX, ..mounts[0].clone() };
        assert!(wait_until_gone(path, &gone, Duration::from_secs(60)).unwrap());
    }

    #[test]
    fn a_process_that_ends_is_waited_for() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        drop(child.stdin.take());
        wait_for_end(child.id(), Duration::from_secs(60));
        assert!(child.try_wait().unwrap().is_some(), "it has ended");
        wait_for_end(std::process::id(), Duration::from_secs(60));
    }

    /// A real mount, which only root can make; detached at the end, whatever happens.
    struct Real(tempfile::TempDir);

    impl Real {
        fn new() -> Option<Real> {
            let folder = tempfile::tempdir().unwrap();
            let made =
                rustix::mount::mount("braidfs-test", folder.path(), "tmpfs", rustix::mount::MountFlags::empty(), None);
            match made {
                Ok(()) => Some(Real(folder)),
                Err(Errno::PERM) => {
                    eprintln!("not run: mounting is for root");
                    None
                }
                Err(error) => panic!("{error}"),
            }
        }

        fn mount(&self) -> Mount {
            let mounts = mountinfo::read(Path::new("/proc/self/mountinfo")).unwrap();
            mountinfo::mount_of(&mounts, &self.0.path().canonicalize().unwrap()).unwrap().clone()
        }
    }

    impl Drop for Real {
        fn drop(&mut self) {
            let _ = rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH);
        }
    }

    fn start(program: &str, with: impl FnOnce(&mut Command) -> &mut Command) -> std::process::Child {
        let mut command = Command::new(program);
        let mut child = with(command.stdin(Stdio::piped()).stdout(Stdio::piped())).spawn().unwrap();
        // It answers once it stands where it was told to.
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"x\n").unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        assert_eq!(line, "x\n");
        child
    }

    #[test]
    fn a_real_mount_is_busy_by_name_and_then_goes() {
        let Some(real) = Real::new() else { return };
        let (mount, inside) = (real.mount(), real.0.path().canonicalize().unwrap());
        std::fs::write(inside.join("open"), "x").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let library = maps
            .lines()
            .filter_map(|line| line.split_whitespace().nth(5))
            .find(|path| path.contains("libc.so"))
            .unwrap();
        std::fs::copy(library, inside.join("mapped.so")).unwrap();
        std::fs::copy("/bin/cat", inside.join("run")).unwrap();
        let open = std::fs::File::open(inside.join("open")).unwrap();
        let mut children = [
            start("cat", |command| command.current_dir(&inside)),
            start("sh", |command| command.args(["-c", "read x; echo x; read x"]).stderr(open)),
            start("cat", |command| command.env("LD_PRELOAD", inside.join("mapped.so"))),
            start(inside.join("run").to_str().unwrap(), |command| command),
        ];
        let users = super::super::busy::users_of(&mount);
        let how =
            |child: &std::process::Child| users.iter().find(|user| user.pid == child.id()).map(|user| user.how.clone());
        let at = inside.display();
        assert_eq!(how(&children[0]), Some(format!("works in {at}")));
        assert_eq!(how(&children[1]), Some(format!("has {at}/open open")));
        assert_eq!(how(&children[2]), Some(format!("has {at}/mapped.so mapped")));
        assert_eq!(how(&children[3]), Some(format!("runs {at}/run")));
        assert_eq!(users.len(), 4);
        assert!(matches!(unmount(&inside, false), Err(UnmountError::Busy(_))));
        let mountinfo = Path::new("/proc/self/mountinfo");
        assert!(!wait_until_gone(mountinfo, &mount, Duration::from_millis(20)).unwrap());
        for child in &mut children {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
        let waiting = std::thread::spawn(move || wait_until_gone(mountinfo, &mount, Duration::from_secs(60)));
        unmount(&inside, false).unwrap();
        assert!(waiting.join().unwrap().unwrap());
        assert!(matches!(unmount(&inside, false), Err(UnmountError::NotMounted(_))));
    }

    #[test]
    fn a_busy_mount_can_be_detached() {
        let Some(real) = Real::new() else { return };
        let mount = real.mount();
        let _open = std::fs::File::create(real.0.path().join("open")).unwrap();
        unmount(real.0.path(), true).unwrap();
        assert!(wait_until_gone(Path::new("/proc/self/mountinfo"), &mount, Duration::from_secs(60)).unwrap());
    }
}
