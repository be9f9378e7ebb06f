//! What comes faster than the disk writes.

use super::shared::{Seam, Step, Tuning};
use super::tests::{MIB, PATIENCE, check, job, key, quick, settings};
use super::*;
use std::sync::mpsc;

/// The writer stands still until the queue has seven runs of 1 MiB of the eight that it takes. Says how much of them
/// went by way of the kernel's memory.
fn burst_bytes(may_let_go: bool) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let seam: Seam = Arc::new(move |step| {
        if matches!(step, Step::Write(_)) {
            let _ = wait.lock().recv_timeout(PATIENCE);
        }
        Ok(())
    });
    let metrics: Arc<Metrics> = Arc::default();
    let settings = Settings { queue_bytes_max: 8 * MIB, ..settings(dir.path(), 64 * MIB) };
    let disk = Disk::open_with(settings, metrics.clone(), Tuning { seam: Some(seam), ..quick() }).unwrap();
    // A disk that is known to be fast, so that no stall of the true one decides.
    disk.shared().burst.measured(1 << 40, Duration::from_secs(1));
    let file = disk.file(&key("a", 14 * MIB));
    // No neighbours, so that each is a run of its own.
    for at in 0..7 {
        let pages = Pages::new(at * 512, at * 512 + 256);
        disk.write(WriteJob { may_let_go, ..job(&file, pages) }).ok().unwrap();
    }
    drop(go);
    assert!(disk.sync(clock::now() + PATIENCE));
    assert_eq!(check(&file), 7 * 256);
    assert!(disk.shared().burst.owes_nothing());
    metrics.disk_burst_bytes.get()
}

#[test]
fn a_burst_goes_by_way_of_memory_and_owes_nothing_once_it_is_synced() {
    assert_eq!(burst_bytes(true), 7 * MIB);
    assert_eq!(burst_bytes(false), 0, "who promised durability waits for the disk");
}
