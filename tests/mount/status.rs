//! `braidfs status --json` has what the README promises, and it adds up.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::Tree;
use crate::support::mounted::Place;
use crate::support::reading;

const SIZE: u64 = 5_000_000;

#[test]
fn the_promised_fields_are_there_and_count() {
    let (mirrors, place) = (mirrors(2, &Tree::new().with_generated("data.bin", 1, SIZE)), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &["--memory", "64MiB", "--cache-size", "1GiB"]);
    reading::generated(&mount.path("data.bin"), 1, SIZE);
    let status = mount.status();
    assert_eq!(status["mountpoint"].as_str(), place.mountpoint().to_str());
    for name in ["bytes_read", "bytes_fetched", "memory_bytes", "memory_limit", "disk_bytes", "disk_limit"] {
        assert!(status[name].is_u64(), "{name}: {status:#}");
    }
    assert!(
        status["bytes_read"].as_u64() >= Some(SIZE) && status["bytes_fetched"].as_u64() >= Some(SIZE),
        "{status:#}"
    );
    assert_eq!(status["memory_limit"], 64 << 20);
    assert_eq!(status["disk_limit"], 1 << 30);
    let listed = status["mirrors"].as_array().expect("a list of mirrors");
    assert_eq!(listed.len(), 2);
    for mirror in listed {
        assert!(mirror["url"].is_string() && mirror["state"].is_string(), "{mirror:#}");
        for name in ["bytes_fetched", "in_flight_bytes", "failures"] {
            assert!(mirror[name].is_u64(), "{name}: {mirror:#}");
        }
        for name in ["throughput_bytes_per_second", "time_to_first_byte_ms"] {
            assert!(mirror.get(name).is_some_and(|value| value.is_number() || value.is_null()), "{name}: {mirror:#}");
        }
        assert_eq!(mirror["in_flight_bytes"], 0, "at rest: {mirror:#}");
    }
    let fetched: u64 = listed.iter().filter_map(|mirror| mirror["bytes_fetched"].as_u64()).sum();
    assert!((SIZE..=data_bytes(&mirrors)).contains(&fetched), "{fetched} of {}", data_bytes(&mirrors));
    mount.umount();
}

#[test]
fn status_is_found_from_any_path_and_reads_for_people_too() {
    let (mirrors, place) = (mirrors(1, &Tree::new().with_generated("deep/data.bin", 1, SIZE)), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    for path in [place.mountpoint(), mount.path("deep"), mount.path("deep/data.bin")] {
        let output = place.braidfs([std::ffi::OsStr::new("status"), path.as_os_str()]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(mirrors[0].url().trim_end_matches('/')) || path.is_file(), "{said}");
    }
    let elsewhere = place.braidfs([std::ffi::OsStr::new("status"), place.path("home").as_os_str()]);
    assert!(!elsewhere.status.success());
    mount.umount();
}
