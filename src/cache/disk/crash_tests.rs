//! kill -9 at any moment: after a new start every held page has its right bytes, and the ledger is true.

use super::tests::{MIB, check, job, key, open};
use super::*;
use std::process::{Command, Stdio};
use std::time::Duration;

const DIR: &str = "BRAIDFS_TEST_CRASH_DIR";
const LIMIT: u64 = 24 * MIB;
const CYCLES: u64 = 10;

fn keys() -> Vec<FileKey> {
    (0..30).map(|at| key(&format!("f{at}"), if at % 2 == 0 { 40_000 } else { 3 * MIB + at })).collect()
}

/// Not a test of its own: the child that is killed. Without the variable it does nothing.
#[test]
fn write_until_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let disk = open(Path::new(&dir), LIMIT);
    let keys = keys();
    for round in u64::from(std::process::id()).. {
        let key = &keys[(round * 11 % 30) as usize];
        let file = disk.file(key);
        let start = round * 53 % key.page_count();
        let pages = Pages::new(start, (start + 1 + round % 200).min(key.page_count()));
        if disk.write(job(&file, pages)).is_err() {
            disk.sync(clock::now() + Duration::from_secs(1));
        }
        if round % 50 == 0 {
            println!("going");
        }
    }
}

#[test]
fn killed_at_any_moment_it_holds_only_right_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut held = 0;
    for cycle in 0..CYCLES {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cache::disk::crash_tests::write_until_killed", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Some way into its work, a different one each time.
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        for _ in 0..=(3 + cycle * 3) {
            lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("going"))).unwrap().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let disk = open(dir.path(), LIMIT);
        held += keys().iter().map(|key| check(&disk.file(key))).sum::<u64>();
        assert_eq!(disk.shared().metrics.disk_damaged_pages.get(), 0, "a set bit lacks its bytes");
        let counted = disk.used_bytes();
        let real = data_bytes(&dir.path().join("data"));
        assert!(real <= counted, "{real} bytes of data on disk, {counted} counted");
    }
    assert!(held > 100 * CYCLES, "only {held} pages survived: the test proves nothing");
}

fn data_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { data_bytes(&path) } else { path.metadata().unwrap().blocks() * 512 }).sum()
}
