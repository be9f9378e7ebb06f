//! The memory that the control groups above this process leave it.

use std::path::{Path, PathBuf};

/// Limits at or above this are how cgroup v1 says "none" (`PAGE_COUNTER_MAX`, about 8 EiB).
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// The smallest memory limit of the process's cgroup and the cgroups above it, in bytes.
/// `root`: where cgroups are mounted; `of_process`: the text of `/proc/self/cgroup`. Version 1 and 2.
pub fn memory_limit_bytes(root: &Path, of_process: &str) -> Option<u64> {
    let limits = of_process.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        if id == "0" && controllers.is_empty() {
            let hybrid = smallest(&root.join("unified"), path, &["memory.max", "memory.high"]);
            return smaller(smallest(root, path, &["memory.max", "memory.high"]), hybrid);
        }
        if controllers.split(',').any(|controller| controller == "memory") {
            return smallest(&root.join("memory"), path, &["memory.limit_in_bytes"]);
        }
        None
    });
    limits.min()
}

fn smallest(root: &Path, path: &str, files: &[&str]) -> Option<u64> {
    // In a cgroup namespace the path may point above its root; what is visible starts at the root.
    let inside: PathBuf = path.split('/').filter(|name| !matches!(*name, "" | "." | "..")).collect();
    let folders = inside.ancestors().map(|folder| root.join(folder));
    folders.flat_map(|folder| files.iter().filter_map(move |file| read_limit(&folder.join(file)))).min()
}

fn read_limit(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT_BYTES)
}

fn smaller(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn version_2_takes_the_smallest_of_the_group_and_those_above() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "a/memory.max", "1000000\n");
        write(root.path(), "a/b/memory.max", "max\n");
        write(root.path(), "a/b/memory.high", "2000000\n");
        assert_eq!(memory_limit_bytes(root.path(), "0::/a/b\n"), Some(1_000_000));
        assert_eq!(memory_limit_bytes(root.path(), "0::/c\n"), None);
        assert_eq!(memory_limit_bytes(root.path(), "0::/../../a\n"), Some(1_000_000));
    }

    #[test]
    fn version_1_and_its_word_for_none() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "memory/memory.limit_in_bytes", "9223372036854771712\n");
        let of_process = "12:cpu,cpuacct:/x\n5:memory:/docker/abc\n0::/docker/abc\n";
        assert_eq!(memory_limit_bytes(root.path(), of_process), None);
        write(root.path(), "memory/docker/abc/memory.limit_in_bytes", "536870912\n");
        assert_eq!(memory_limit_bytes(root.path(), of_process), Some(512 << 20));
    }

    #[test]
    fn hybrid_and_nonsense() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "unified/a/memory.max", "77\n");
        assert_eq!(memory_limit_bytes(root.path(), "0::/a"), Some(77));
        assert_eq!(memory_limit_bytes(root.path(), "garbage\n::\n"), None);
    }
}
