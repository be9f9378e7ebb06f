//! This machine: FUSE, its helper, the kernel, and where it would be mounted.

use super::finding::{About, Finding};
use crate::config::defaults::Surroundings;
use crate::config::plan::MountPlan;
use crate::control::place::Places;
use crate::mount::{fuse_settings, mountpoint};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// CAP_SYS_ADMIN of linux/capability.h.
const SYS_ADMIN: u32 = 21;
/// The first kernel with FUSE passthrough.
const PASSTHROUGH_SINCE: (u32, u32) = (6, 9);

/// What of the machine decides, read from it; tests make their own.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Nobody has to be asked.
    pub is_root: bool,
    /// It may do what mounts ask for.
    pub has_sys_admin: bool,
    /// `uname -r`.
    pub release: String,
    /// Where fusermount3 is, its mode and its owner.
    pub helper: Option<(PathBuf, u32, u32)>,
    /// `/etc/fuse.conf`; empty where there is none.
    pub fuse_conf: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Machine {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let helper = mountpoint::helper().and_then(|path| {
            let about = std::fs::metadata(&path).ok()?;
            Some((path, about.permissions().mode(), about.uid()))
        });
        Machine {
            is_root: rustix::process::geteuid().is_root(),
            has_sys_admin: has_capability(&status, SYS_ADMIN),
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
            helper,
            fuse_conf: std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default(),
        }
    }
}

/// All checks that need no plan, then those that do.
pub fn check(plan: Option<&MountPlan>, place: Option<&Path>, around: &Surroundings) -> Vec<Finding> {
    let machine = Machine::here();
    let allow_other = plan.is_some_and(|plan| plan.allow_other);
    let mut findings = vec![device(mountpoint::open_fuse()), helper(&machine)];
    findings.extend(allow_other.then(|| others(&machine)));
    findings.extend(plan.map(|plan| passthrough(plan, &machine)));
    findings.push(read_ahead(&machine));
    findings.push(control_folder(&Places::of_user(around.uid, around.xdg_runtime_dir.as_deref())));
    findings.extend(place.map(mountpoint));
    findings
}

fn device(opened: std::io::Result<()>) -> Finding {
    match opened {
        Ok(()) => Finding::ok(&About::System, "fuse device", "/dev/fuse can be opened"),
        Err(error) => Finding::problem(
            &About::System,
            "fuse device",
            format!("/dev/fuse cannot be opened ({error})"),
            "load it with `modprobe fuse`, give the container `--device /dev/fuse`, or let users open it with `chmod 666 /dev/fuse`",
        ),
    }
}

fn helper(machine: &Machine) -> Finding {
    const SETUID: u32 = 0o4000;
    let found = |seen: String| Finding::ok(&About::System, "fuse helper", seen);
    match &machine.helper {
        None if machine.is_root => found("fusermount3 is not installed, and root needs none".into()),
        None => Finding::problem(
            &About::System,
            "fuse helper",
            "fusermount3 is not installed, and only root can mount without it",
            "install the package `fuse3`",
        ),
        Some((path, mode, owner)) if !machine.is_root && (mode & SETUID == 0 || *owner != 0) => Finding::problem(
            &About::System,
            "fuse helper",
            format!("{} does not run as root, so it cannot mount for you", path.display()),
            format!("as root: `chown root {0} && chmod u+s {0}`", path.display()),
        ),
        Some((path, ..)) => found(path.display().to_string()),
    }
}

fn others(machine: &Machine) -> Finding {
    let allows = machine.fuse_conf.lines().any(|line| line.trim() == "user_allow_other");
    match (machine.is_root, allows) {
        (true, _) => Finding::ok(&About::System, "other users", "root may let them in"),
        (_, true) => Finding::ok(&About::System, "other users", "/etc/fuse.conf has user_allow_other"),
        _ => Finding::problem(
            &About::System,
            "other users",
            "allow-other is asked for, and /etc/fuse.conf does not have user_allow_other",
            "add that line as root, or leave --allow-other out",
        ),
    }
}

fn passthrough(plan: &MountPlan, machine: &Machine) -> Finding {
    let fuse = fuse_settings(plan);
    let no = |why: String| {
        Finding::note(&About::System, "passthrough", format!("complete files are read through the daemon: {why}"))
    };
    let release = &machine.release;
    if !fuse.passthrough {
        let asked = if plan.passthrough { "nothing is kept on disk" } else { "--passthrough=false" };
        return no(asked.into());
    }
    match version_of(release) {
        Some(version) if version < PASSTHROUGH_SINCE => no(format!("Linux {release} is older than 6.9")),
        None => no(format!("the kernel calls itself {release:?}")),
        _ if !machine.has_sys_admin => no("the kernel lets only root (CAP_SYS_ADMIN) pass them on".into()),
        _ => {
            let overlay = match fuse.stack_depth {
                1 => "",
                _ => "; the cache lies on an overlay, so no overlay can lie on the mount",
            };
            let seen = format!("Linux {release} reads complete files in the cache by itself{overlay}");
            Finding::ok(&About::System, "passthrough", seen)
        }
    }
}

fn read_ahead(machine: &Machine) -> Finding {
    match machine.is_root {
        true => Finding::ok(&About::System, "kernel readahead", "root may raise it to 1 MiB"),
        false => {
            let seen = "128 KiB at a time, since only root can raise it: a stream through the kernel's cache costs more requests";
            Finding::note(&About::System, "kernel readahead", seen)
        }
    }
}

fn control_folder(places: &Places) -> Finding {
    match places.would_be() {
        Ok(folder) => Finding::ok(&About::System, "control folder", folder.display().to_string()),
        Err(error) => {
            let text = error.to_string();
            let (seen, to_do) = text
                .rsplit_once("; ")
                .or_else(|| text.rsplit_once(": "))
                .unwrap_or((&text, "set XDG_RUNTIME_DIR to a folder of your own"));
            Finding::problem(&About::System, "control folder", seen, to_do)
        }
    }
}

fn mountpoint(place: &Path) -> Finding {
    match mountpoint::check(place) {
        Ok(()) => Finding::ok(&About::System, "mountpoint", format!("{} is an empty folder", place.display())),
        Err(error) => {
            let text = error.to_string();
            let (seen, to_do) = text.rsplit_once(": ").unwrap_or((&text, "give another folder"));
            Finding::problem(&About::System, "mountpoint", seen, to_do)
        }
    }
}

/// `6.18.44-fc` is (6, 18).
fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn has_capability(status: &str, which: u32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> which & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    fn machine() -> Machine {
        Machine {
            is_root: false,
            has_sys_admin: false,
            release: "6.12.1-generic".into(),
            helper: Some(("/bin/fusermount3".into(), 0o104_755, 0)),
            fuse_conf: "# user_allow_other\n".into(),
        }
    }

    fn plan(line: &str) -> MountPlan {
        use crate::config::command_line::{Command, CommandLine};
        let words = format!("braidfs doctor {line}");
        let Command::Doctor(asked) = CommandLine::read(words.split(' ').map(Into::into)).unwrap().command else {
            panic!("{line}")
        };
        let around = Surroundings { variables: Vec::new(), ..Surroundings::of_process().unwrap() };
        crate::config::unplaced::plan_unplaced(&asked.mount(), &around).unwrap().0
    }

    #[test]
    fn what_is_missing_is_a_problem_with_a_way_out() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let found = device(Err(missing));
        assert!(found.level == Level::Problem && found.to_do.unwrap().contains("modprobe fuse"));
        assert_eq!(helper(&machine()).level, Level::Ok);
        let none = Machine { helper: None, ..machine() };
        assert_eq!(helper(&none).level, Level::Problem);
        assert_eq!(helper(&Machine { is_root: true, ..none }).level, Level::Ok);
        let plain = Machine { helper: Some(("/bin/fusermount3".into(), 0o100_755, 0)), ..machine() };
        assert!(helper(&plain).to_do.unwrap().contains("chmod u+s /bin/fusermount3"));
        let others_own = Machine { helper: Some(("/bin/fusermount3".into(), 0o104_755, 7)), ..machine() };
        assert_eq!(helper(&others_own).level, Level::Problem);
        assert_eq!(others(&machine()).level, Level::Problem);
        assert_eq!(others(&Machine { fuse_conf: "x\n user_allow_other\n".into(), ..machine() }).level, Level::Ok);
        assert_eq!(others(&Machine { is_root: true, ..machine() }).level, Level::Ok);
    }

    #[test]
    fn passthrough_says_why_not() {
        let root = Machine { is_root: true, has_sys_admin: true, ..machine() };
        let usual = plan("http://a/ --cache-dir /tmp");
        let said = |plan: &MountPlan, machine: &Machine| {
            let found = passthrough(plan, machine);
            (found.level, found.seen)
        };
        assert_eq!(said(&usual, &root).0, Level::Ok);
        for (plan, machine, why) in [
            (usual.clone(), machine(), "CAP_SYS_ADMIN"),
            (usual.clone(), Machine { release: "6.8.0".into(), ..root.clone() }, "older than 6.9"),
            (usual, Machine { release: "odd".into(), ..root.clone() }, "calls itself"),
            (plan("http://a/ --cache-dir none"), root.clone(), "nothing is kept on disk"),
            (plan("http://a/ --cache-dir /tmp --passthrough=false"), root, "--passthrough=false"),
        ] {
            let (level, seen) = said(&plan, &machine);
            assert!(level == Level::Note && seen.contains(why), "{why}: {seen}");
        }
    }

    #[test]
    fn a_place_that_will_not_do_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(mountpoint(folder.path()).level, Level::Ok);
        let found = mountpoint(&folder.path().join("no"));
        assert!(found.level == Level::Problem && found.to_do.unwrap().contains("mkdir -p"));
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let found = control_folder(&Places::in_folders(vec![open], uid));
        assert_eq!(found.level, Level::Problem);
        assert!(found.seen.contains("is open to others") && found.to_do.unwrap().contains("XDG_RUNTIME_DIR"));
        let found = control_folder(&Places::in_folders(vec![folder.path().join("new")], uid));
        assert_eq!(found.level, Level::Ok);
    }

    #[test]
    fn the_kernel_is_read_as_it_says() {
        assert_eq!(version_of("6.18.44-fc-v857"), Some((6, 18)));
        assert_eq!(version_of("5"), None);
        assert!(has_capability("Name:\tx\nCapEff:\t000001ffffffffff\n", SYS_ADMIN));
        assert!(!has_capability("CapEff:\t00000000a80425fb\n", SYS_ADMIN));
    }
}
