//! Mountpoints that cannot be.

use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::Place;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

fn refused(place: &Place, mirror: &FaultyMirror, at: &Path, wanted: &[&str]) {
    let cache = place.path("other cache");
    let words: [OsString; 5] = ["mount".into(), mirror.url().into(), at.into(), "--cache-dir".into(), cache.into()];
    let output = place.braidfs(words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{} was accepted", at.display());
    assert!(said.contains(at.to_str().unwrap()), "{said}");
    for word in wanted {
        assert!(said.to_lowercase().contains(word), "no {word:?} in: {said}");
    }
}

fn mirror() -> FaultyMirror {
    FaultyMirror::start(Tree::new().with("a", *b"a"))
}

#[test]
fn missing_a_file_or_not_empty() {
    let (place, mirror) = (Place::new(), mirror());
    refused(&place, &mirror, &place.path("nothing"), &[]);
    fs::write(place.path("file"), b"x").unwrap();
    refused(&place, &mirror, &place.path("file"), &[]);
    fs::create_dir(place.path("full")).unwrap();
    fs::write(place.path("full/mine"), b"x").unwrap();
    refused(&place, &mirror, &place.path("full"), &["empty"]);
    assert_eq!(fs::read(place.path("full/mine")).unwrap(), b"x");
}

#[test]
fn mounted_already() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &[]);
    refused(&place, &mirror, &place.mountpoint(), &["mounted"]);
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"a");
    mount.umount();
}
