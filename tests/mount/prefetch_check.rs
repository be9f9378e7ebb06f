//! `braidfs prefetch --check`.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::Place;
use crate::support::{reading, wait};
use serde_json::{Value, json};
use std::os::unix::fs::FileExt;

const SIZE: u64 = 4_000_003;

fn check(place: &Place, below: &str) -> (Option<i32>, Value, String) {
    let path = place.mountpoint().join(below);
    let output = place.braidfs(["prefetch".as_ref(), "--check".as_ref(), "--json".as_ref(), path.as_os_str()]);
    let text = String::from_utf8(output.stdout).unwrap();
    let last = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    (output.status.code(), last, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_is_durable_is_counted_and_nothing_is_fetched() {
    let tree = Tree::new().with_generated("job/a.bin", 1, SIZE).with_generated("job/b.bin", 2, SIZE);
    let tree = tree.with("job/empty", *b"").with("job/small.txt", *b"small");
    let (mut mirrors, place) = (mirrors(1, &tree), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let result = |complete: u64, part: u64, missing: u64, durable: u64| {
        json!({ "result": {
            "files_total": 4, "files_complete": complete, "files_in_part": part, "files_missing": missing,
            "bytes_durable": durable, "bytes_total": 2 * SIZE + 5, "failed": 0
        }})
    };
    assert_eq!(check(&place, "job"), (Some(1), result(1, 0, 3, 0), String::new()));
    assert_eq!(data_bytes(&mirrors), 0, "it was only looked at");
    let output = place.braidfs(["prefetch".into(), mount.path("job/a.bin").into_os_string()]);
    assert!(output.status.success());
    // A page of another one: a reader's bytes count too, once they are on disk.
    let file = std::fs::File::open(mount.path("job/b.bin")).unwrap();
    reading::generated_at(&file, 2, 1 << 20, 4096).unwrap();
    file.read_exact_at(&mut [0; 1], SIZE - 1).unwrap();
    wait::until("both pages are durable", || check(&place, "job/b.bin").1["result"]["bytes_durable"] != 0);
    drop(file);
    let (code, seen, said) = check(&place, "job");
    assert_eq!((code, said.as_str()), (Some(1), ""));
    let durable = seen["result"]["bytes_durable"].as_u64().unwrap();
    assert!(durable > SIZE && durable < 2 * SIZE, "{seen}");
    assert_eq!(seen, result(2, 1, 1, durable));
    assert!(place.braidfs(["prefetch".into(), mount.path("job").into_os_string()]).status.success());
    // It needs no mirror; nor does what it says change by a kill.
    mount.kill9();
    mirrors.iter_mut().for_each(FaultyMirror::down);
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    assert_eq!(check(&place, "job"), (Some(0), result(4, 0, 0, 2 * SIZE + 5), String::new()));
    assert_eq!(check(&place, "job/*.bin").1["result"]["files_complete"], 2);
    let (code, seen, said) = check(&place, "job/no*");
    assert_eq!((code, &seen["result"]["failed"]), (Some(1), &1.into()));
    assert!(said.contains("job/no*: no file or folder matches this pattern"), "{said}");
    mount.umount();
}
