//! The examples in `mount-examples/` run as they stand.

use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::{Place, program};
use crate::support::process::run;
use crate::support::state::Registered;
use std::path::{Path, PathBuf};
use std::process::Command;

const SIZE: u64 = 3_000_001;

fn mirrors() -> Vec<FaultyMirror> {
    let tree = Tree::new().with("a text.txt", *b"hello\n").with_generated("data/big.bin", 1, SIZE);
    super::mirrors(2, &tree)
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mount-examples").join(name)
}

/// Run an example with this user's folders; it must succeed. Its output.
fn runs(place: &Place, mirrors: &[FaultyMirror], name: &str, variables: &[(&str, &str)]) -> String {
    let _registered = Registered::mount(&place.mountpoint());
    let mut command = Command::new(example(name));
    place.environment(&mut command);
    command.env("BRAIDFS", program()).env("MIRRORS", super::faulty_urls(mirrors).join(" "));
    command.env("MOUNTPOINT", place.mountpoint()).env("CACHE_DIR", place.cache()).envs(variables.iter().copied());
    let output = run(&mut command);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn several_mirrors() {
    let (place, mirrors) = (Place::new(), mirrors());
    let said = runs(&place, &mirrors, "several-mirrors.sh", &[]);
    assert!(said.contains("a text.txt") && said.contains("files: 2"), "{said}");
    // sha256 of "hello\n".
    assert!(said.contains("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"), "{said}");
    assert!(!place.is_mounted());
}

#[test]
fn from_file() {
    let (place, mirrors) = (Place::new(), mirrors());
    // The example's own file, with the mirrors of this test in the place of its.
    let mut text = std::fs::read_to_string(example("mirrors.toml")).unwrap();
    for (port, mirror) in [8001, 8002].iter().zip(&mirrors) {
        let old = format!("http://127.0.0.1:{port}/");
        assert!(text.contains(&old));
        text = text.replace(&old, &mirror.url());
    }
    std::fs::write(place.path("mirrors.toml"), text).unwrap();
    let file = place.path("mirrors.toml");
    let said = runs(&place, &mirrors, "from-file.sh", &[("MIRRORS_FILE", file.to_str().unwrap())]);
    assert!(said.contains("\"mirrors\"") && said.contains(mirrors[1].url().trim_end_matches('/')), "{said}");
    assert!(!place.is_mounted());
}

#[test]
fn prefetch_before_a_job() {
    let (place, mirrors) = (Place::new(), mirrors());
    let said = runs(&place, &mirrors, "prefetch-before-a-job.sh", &[("INPUTS", "data"), ("JOB", "wc -c")]);
    assert!(said.contains(&SIZE.to_string()), "{said}");
    assert!(!place.is_mounted());
}

#[test]
fn read_from_python() {
    let (place, mirrors) = (Place::new(), mirrors());
    let mount = place.mount(&super::faulty_urls(&mirrors), &[]);
    let said = runs(&place, &mirrors, "read-from-python.py", &[]);
    assert!(said.contains(&format!("read {SIZE} bytes")), "{said}");
    mount.umount();
}
