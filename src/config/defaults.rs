//! What is built in, and what of the environment decides it. The one place that reads the
//! environment of the process.

use super::source::{MirrorUrl, without_credentials};
use super::supervisor::Supervisor;
use super::{cgroup, otlp};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Enough for a few dozen streams with their readahead, and small beside any machine of today.
pub const MEMORY_BYTES: u64 = 256 << 20;
/// Of a cgroup's limit braidfs takes a quarter at most: the job that reads shares the limit, and so
/// does the kernel's page cache.
pub const MEMORY_CGROUP_SHARE: u64 = 4;
/// Below this a few readers with 1 MiB reads each would only wait for one another.
pub const MEMORY_BYTES_MIN: u64 = 16 << 20;
/// Below this the cache's own tables would take most of it.
pub const CACHE_BYTES_MIN: u64 = 16 << 20;
/// A mirror that has sent nothing for so long has had every chance to (spec 1.3).
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Less would fail reads over links that merely have a long round trip.
pub const READ_TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// However slowly bytes come, a process that waits longer looks hung (spec 1.3).
pub const READ_DEADLINE: Duration = Duration::from_secs(600);
/// A listing that is a minute old is what people expect of a network file system.
pub const ENTRY_LIFETIME: Duration = Duration::from_secs(60);
/// What is longer than a year is forever, and larger numbers overflow in the kernel's arithmetic.
pub const ENTRY_LIFETIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// A mirror's weight where none is given: all alike.
pub const WEIGHT: f64 = 1.0;
/// Only how weights compare counts, and less than a tenth of the largest counts as a tenth (spec 2.5): a wider
/// range would promise what is not so.
pub const WEIGHTS: std::ops::RangeInclusive<f64> = 0.1..=100.0;
/// The tiers of mirrors. All are of the first where none is given.
pub const TIERS: std::ops::RangeInclusive<i64> = 0..=crate::scheduler::TIER_MAX as i64;
/// One chunk a second: below that a single page of an index would take minutes.
pub const RATE_LIMIT_MIN: u64 = crate::chunk::CHUNK_BYTES;
/// Slow beside any disk, and a terabyte is read through in a day and a half of rest.
pub const SCRUB_RATE: u64 = 8 << 20;
/// At less than that not even a cache of 40 GB is read through in a week.
pub const SCRUB_RATE_MIN: u64 = 64 << 10;
/// Everybody reads, nobody writes.
pub const UMASK: u16 = 0o022;
/// What `df` shows.
pub const FSNAME: &str = "braidfs";
/// Bytes of a dataset's name at most: it is the name of a folder, with room for suffixes.
pub const NAME_BYTES_MAX: usize = 100;
/// Letters of host and path in a made name; with `-` and the hash it stays below the limit.
const MADE_NAME_LETTERS_MAX: usize = 60;

/// The names of variables that are options begin so.
pub const VARIABLE_PREFIX: &str = "BRAIDFS_";

/// What of the process's surroundings decides defaults. Tests make their own.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The working folder, which relative paths are relative to.
    pub cwd: PathBuf,
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// `$XDG_CACHE_HOME`.
    pub xdg_cache_home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`, for `control::place`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// Who runs this.
    pub uid: u32,
    /// And in which group.
    pub gid: u32,
    /// The memory that the cgroups leave, in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// The variables whose names begin with `BRAIDFS_`: without that, and their values.
    pub variables: Vec<(String, OsString)>,
    /// The variables of OpenTelemetry: their names without `OTEL_`, and their values.
    pub otel: BTreeMap<String, String>,
    /// Who looks after this process.
    pub supervisor: Supervisor,
}

fn variables(prefix: &str) -> impl Iterator<Item = (String, OsString)> {
    let begins_so =
        move |(name, value): (OsString, OsString)| Some((name.to_str()?.strip_prefix(prefix)?.to_owned(), value));
    std::env::vars_os().filter_map(begins_so)
}

impl Surroundings {
    /// Those of this process.
    ///
    /// # Errors
    /// The working folder is gone.
    pub fn of_process() -> std::io::Result<Surroundings> {
        // The XDG rules: a path that is not absolute is as good as none.
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let of_process = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Ok(Surroundings {
            cwd: std::env::current_dir()?,
            home: folder("HOME"),
            xdg_cache_home: folder("XDG_CACHE_HOME"),
            xdg_runtime_dir: folder("XDG_RUNTIME_DIR"),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            variables: variables(VARIABLE_PREFIX).collect(),
            otel: variables(otlp::VARIABLE_PREFIX)
                .filter_map(|(name, value)| Some((name, value.into_string().ok()?)))
                .collect(),
            supervisor: Supervisor::of_process(),
            memory_limit_bytes: cgroup::memory_limit_bytes(Path::new("/sys/fs/cgroup"), &of_process),
        })
    }

    /// The default of `--memory`, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let share = self.memory_limit_bytes.map_or(u64::MAX, |limit| limit / MEMORY_CGROUP_SHARE);
        share.clamp(MEMORY_BYTES_MIN, MEMORY_BYTES)
    }

    /// The default cache folder of the dataset `name`; `None` where no folder of the user is known.
    pub fn cache_dir(&self, name: &str) -> Option<PathBuf> {
        let base = match (&self.xdg_cache_home, &self.home) {
            (Some(cache), _) => cache.clone(),
            (None, Some(home)) => home.join(".cache"),
            // Started by the system: what mount(8) and systemd leave of the environment is nothing.
            (None, None) if self.uid == 0 => PathBuf::from("/var/cache"),
            (None, None) => return None,
        };
        Some(base.join("braidfs").join(name))
    }

    /// `path` made absolute against `folder`, a leading `~/` against the home folder.
    pub fn absolute(&self, folder: &Path, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.cwd.join(folder).join(path),
        }
    }
}

/// The name of the dataset whose first mirror is `first`: host and path, so that people know it, and
/// a hash of the exact URL, so that two datasets never share a cache.
pub fn name_of(first: &MirrorUrl) -> String {
    let url = without_credentials(&first.0);
    let port = url.port().map_or(String::new(), |port| format!("-{port}"));
    let plain = format!("{}{port}{}", url.host_str().unwrap_or_default(), url.path());
    let mut name = String::new();
    for letter in plain.chars() {
        let keeps = letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_');
        match letter {
            letter if keeps => name.push(letter.to_ascii_lowercase()),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    name.truncate(MADE_NAME_LETTERS_MAX);
    let hash = blake3::hash(url.as_str().as_bytes()).to_hex();
    format!("{}-{}", name.trim_matches(['-', '.']), &hash[..8])
}

/// Why `name` cannot name a dataset; `None` where it can.
pub fn bad_name(name: &str) -> Option<String> {
    let keeps = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "it is longer than 100 letters"
    } else if name.starts_with(['.', '-']) {
        "it starts with a point or a dash"
    } else if !name.chars().all(keeps) {
        "it has other letters than a-z, A-Z, 0-9, '.', '_' and '-'"
    } else {
        return None;
    };
    Some(format!("{name:?} cannot name a dataset, whose cache folder is called like it: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings() -> Surroundings {
        Surroundings {
            cwd: "/work".into(),
            home: Some("/home/joe".into()),
            xdg_cache_home: None,
            xdg_runtime_dir: None,
            uid: 1000,
            gid: 1000,
            memory_limit_bytes: None,
            variables: Vec::new(),
            otel: BTreeMap::new(),
            supervisor: Supervisor::default(),
        }
    }

    #[test]
    fn names_are_readable_and_never_shared() {
        let name = |url: &str| name_of(&url.parse().unwrap());
        let one = name("https://Mirror.example.org/genomes/v2");
        assert!(one.starts_with("mirror.example.org-genomes-v2-"), "{one}");
        assert_eq!(one, name("https://mirror.example.org/genomes/v2/"), "the slash at the end is no other dataset");
        assert_eq!(one, name("https://joe:pw@mirror.example.org/genomes/v2/"), "nor are credentials");
        for other in [
            "http://mirror.example.org/genomes/v2",
            "https://mirror.example.org/genomes-v2",
            "https://mirror.example.org/Genomes/v2",
        ] {
            assert_ne!(one, name(other));
        }
        for url in ["https://a/%2e%2e/x", "http://[::1]:80/é/", &format!("https://a/{}", "long/".repeat(300))] {
            assert_eq!(bad_name(&name(url)), None, "{url}");
        }
    }

    #[test]
    fn names_that_cannot_be_folders_are_refused() {
        for (name, why) in [
            ("", "empty"),
            ("..", "starts with"),
            ("-x", "starts with"),
            ("a/b", "other letters"),
            ("é", "other letters"),
        ] {
            let error = bad_name(name).expect(name);
            assert!(error.contains(why), "{error}");
        }
        assert!(bad_name(&"a".repeat(101)).is_some());
        assert_eq!(bad_name("genomes-v2.1_x"), None);
    }

    #[test]
    fn the_cache_folder_follows_the_environment() {
        let mut around = surroundings();
        assert_eq!(around.cache_dir("x"), Some("/home/joe/.cache/braidfs/x".into()));
        around.xdg_cache_home = Some("/fast".into());
        assert_eq!(around.cache_dir("x"), Some("/fast/braidfs/x".into()));
        (around.xdg_cache_home, around.home) = (None, None);
        assert_eq!(around.cache_dir("x"), None);
        around.uid = 0;
        assert_eq!(around.cache_dir("x"), Some("/var/cache/braidfs/x".into()));
    }

    #[test]
    fn memory_respects_the_cgroup() {
        let mut around = surroundings();
        for (limit, bytes) in
            [(None, 256 << 20), (Some(8 << 30), 256 << 20), (Some(512 << 20), 128 << 20), (Some(1 << 20), 16 << 20)]
        {
            around.memory_limit_bytes = limit;
            assert_eq!(around.memory_bytes(), bytes);
        }
    }

    #[test]
    fn paths_are_absolute_and_know_home() {
        let around = surroundings();
        assert_eq!(around.absolute(Path::new("/etc"), Path::new("ca.pem")), Path::new("/etc/ca.pem"));
        assert_eq!(around.absolute(Path::new("conf"), Path::new("ca.pem")), Path::new("/work/conf/ca.pem"));
        assert_eq!(around.absolute(Path::new("/etc"), Path::new("~/ca.pem")), Path::new("/home/joe/ca.pem"));
        assert_eq!(around.absolute(Path::new("/etc"), Path::new("/ca.pem")), Path::new("/ca.pem"));
    }
}
