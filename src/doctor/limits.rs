//! What the machine lets a mount of this plan use: open files and memory.

use super::finding::{About, Finding};
use crate::config::defaults::Surroundings;
use crate::config::plan::MountPlan;
use crate::control::human::bytes;
use rustix::process::{Resource, getrlimit};

/// What the disk cache keeps open at most: 128 data files with up to three descriptors each.
const CACHE_FILES: u64 = 3 * 128;
/// A mirror's fetches at a time, background and demand, each on a connection of its own.
const FETCHES_PER_MIRROR: u64 = 8 + 16;
/// What a fetch takes of the memory beside its bytes, which bounds them.
const FETCH_BYTES: u64 = 448 << 10;
/// Sockets, the log, FUSE's own.
const OTHER_FILES: u64 = 64;

/// All checks.
pub fn check(plan: &MountPlan, around: &Surroundings) -> Vec<Finding> {
    let limit = getrlimit(Resource::Nofile);
    let about_memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    vec![
        open_files(plan, limit.current, limit.maximum),
        memory(plan.memory, around.memory_limit_bytes, available_bytes(&about_memory)),
    ]
}

/// `None`: no limit.
fn open_files(plan: &MountPlan, current: Option<u64>, maximum: Option<u64>) -> Finding {
    let connections = (plan.mirrors.len() as u64 * FETCHES_PER_MIRROR).min(plan.memory / FETCH_BYTES);
    let needed = CACHE_FILES + connections + OTHER_FILES;
    let shown = |limit: Option<u64>| limit.map_or("any number".to_owned(), |limit| limit.to_string());
    let seen = format!("{} may be open, and {needed} are needed at most", shown(current));
    let found = match current.is_none_or(|limit| limit >= needed) {
        true => Finding::ok(&About::System, "open files", seen),
        false => {
            let to_do = match maximum.is_none_or(|most| most >= needed) {
                true => format!("`ulimit -n {needed}` before the mount (LimitNOFILE= in a unit of systemd)"),
                false => format!(
                    "raise the hard limit of {} too, in /etc/security/limits.conf or by LimitNOFILE= in a unit of systemd",
                    shown(maximum)
                ),
            };
            Finding::warning(&About::System, "open files", seen, to_do)
        }
    };
    found.figure("limit", current).figure("needed", needed)
}

fn memory(wanted: u64, cgroup: Option<u64>, available: Option<u64>) -> Finding {
    let wanted_text = bytes(wanted);
    let found = match (cgroup, available) {
        (Some(limit), _) if wanted >= limit => Finding::problem(
            &About::System,
            "memory",
            format!(
                "--memory is {wanted_text}, and the control group allows {}: the kernel kills it before that",
                bytes(limit)
            ),
            format!("give at most half of that, --memory {}", bytes(limit / 2).replace(' ', "")),
        ),
        (_, Some(available)) if wanted > available => Finding::warning(
            &About::System,
            "memory",
            format!("--memory is {wanted_text}, and {} are available", bytes(available)),
            "give less with --memory, or end what takes it",
        ),
        (Some(limit), _) if wanted > limit / 2 => Finding::warning(
            &About::System,
            "memory",
            format!("--memory is {wanted_text}, more than half of the {} that the control group allows", bytes(limit)),
            "leave more to the programs that read: give less with --memory",
        ),
        _ => {
            let of = available.map_or(String::new(), |available| format!(" of {} available", bytes(available)));
            let group = cgroup.map_or(String::new(), |limit| format!(", the control group allows {}", bytes(limit)));
            Finding::ok(&About::System, "memory", format!("{wanted_text}{of}{group}"))
        }
    };
    found.figure("wanted_bytes", wanted).figure("cgroup_bytes", cgroup).figure("available_bytes", available)
}

fn available_bytes(about_memory: &str) -> Option<u64> {
    let line = about_memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::command_line::{Command, CommandLine};
    use crate::config::unplaced::plan_unplaced;
    use crate::doctor::finding::Level;

    fn plan(mirrors: usize) -> MountPlan {
        let urls = (0..mirrors).map(|at| format!("http://h{at}/").into());
        let words = ["braidfs", "doctor", "--memory", "256MiB"].map(Into::into).into_iter().chain(urls);
        let Command::Doctor(asked) = CommandLine::read(words).unwrap().command else { panic!() };
        plan_unplaced(&asked.mount(), &Surroundings::of_process().unwrap()).unwrap().0
    }

    #[test]
    fn open_files_are_counted_by_mirrors_and_memory() {
        let level = |mirrors, current, most| {
            let found = open_files(&plan(mirrors), current, most);
            (found.level, found.to_do.unwrap_or_default())
        };
        assert_eq!(level(2, Some(1024), Some(1024)).0, Level::Ok);
        assert_eq!(level(2, None, None).0, Level::Ok);
        assert!(level(2, Some(256), Some(4096)).1.starts_with("`ulimit -n 496`"));
        assert!(level(2, Some(256), Some(256)).1.contains("hard limit of 256"));
        assert!(level(1000, Some(1024), None).1.starts_with("`ulimit -n 1033`"), "memory bounds the connections");
    }

    #[test]
    fn memory_is_held_against_what_there_is() {
        let level = |wanted: u64, cgroup, available| memory(wanted, cgroup, available).level;
        assert_eq!(level(256, None, None), Level::Ok);
        assert_eq!(level(256, Some(1024), Some(1024)), Level::Ok);
        assert_eq!(level(256, Some(256), None), Level::Problem);
        assert_eq!(level(256, Some(300), Some(1024)), Level::Warning);
        assert_eq!(level(256, None, Some(255)), Level::Warning);
        assert_eq!(available_bytes("MemTotal: 9 kB\nMemAvailable:   12 kB\n"), Some(12 << 10));
    }
}
