//! `braidfs prefetch --rate`: counted in bytes that left the mirror.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::Tree;
use crate::support::mounted::Place;
use crate::support::{reading, wait};
use braidfs::clock::now;
use std::path::Path;

const SIZE: u64 = 8 << 20;
/// Little beside what loopback carries.
const RATE: u64 = 512 << 10;
/// One piece, and what is asked for besides: pages that mirrors are compared by.
const BEYOND: u64 = 128 << 10;

fn tree() -> Tree {
    let tree = (0..4).fold(Tree::new(), |tree, at| tree.with_generated(format!("slow/{at}.bin"), at, SIZE));
    tree.with_generated("other.bin", 9, SIZE).with_generated("read.bin", 10, SIZE)
}

fn begin(place: &Place, below: impl AsRef<Path>, rate: &str) {
    let path = place.mountpoint().join(below);
    let output = place.braidfs([Path::new("prefetch"), &path, "--no-wait".as_ref(), "--rate".as_ref(), rate.as_ref()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_job_keeps_to_its_rate_also_after_a_restart_and_others_do_not() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let slow_bytes = || (0..4).map(|at| mirrors[0].data_bytes_of(format!("slow/{at}.bin"))).sum::<u64>();
    let began = now();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    begin(&place, "slow", "512KiB/s");
    // Two more than loopback needs a moment for, while the job has much left to do.
    let output = place.braidfs(["prefetch".into(), mount.path("other.bin").into_os_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    reading::generated(&mount.path("read.bin"), 10, SIZE);
    // In so many seconds as have passed at most; a slow machine only makes that more.
    let allowed = |beyond| (now().seconds_since(began) * RATE as f64) as u64 + beyond;
    let sent = slow_bytes();
    assert!(sent <= allowed(BEYOND), "{sent} of {} at most", allowed(BEYOND));
    wait::until("some of it has come", || slow_bytes() > 2 * BEYOND);
    let status = mount.status();
    assert_eq!(status["jobs"][0]["rate_bytes_per_second"], RATE);
    mount.kill9();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let before = slow_bytes();
    wait::until("it goes on", || slow_bytes() > before + 2 * BEYOND);
    assert_eq!(mount.status()["jobs"][0]["rate_bytes_per_second"], RATE);
    let sent = slow_bytes();
    // What was in flight when it was killed is fetched again.
    assert!(sent <= allowed(3 * BEYOND), "{sent} of {} at most", allowed(3 * BEYOND));
    assert!(data_bytes(&mirrors) >= 2 * SIZE);
    mount.umount();
}
