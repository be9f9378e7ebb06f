//! Everything that the mirrors have is there, and nothing else, byte for byte.

use super::{nginxes, urls};
use crate::support::dataset;
use crate::support::mounted::Place;
use crate::support::nginx::Setup;
use std::collections::BTreeSet;
use std::fs;

#[test]
fn every_file_equals_its_original() {
    let mirrors = nginxes(4, &Setup::default());
    let place = Place::new();
    let mount = place.mount(&urls(&mirrors), &[]);
    let original = dataset::root();
    let wanted = dataset::files(&original);
    let got = dataset::files(&place.mountpoint());
    let names = |files: &[dataset::Listed]| files.iter().map(|file| file.path.clone()).collect::<BTreeSet<_>>();
    let (got_names, wanted_names) = (names(&got), names(&wanted));
    // Only what differs: the whole list is 5,000 names long.
    let (missing, strange) = (wanted_names.difference(&got_names), got_names.difference(&wanted_names));
    let (missing, strange): (Vec<_>, Vec<_>) = (missing.collect(), strange.collect());
    assert!(missing.is_empty() && strange.is_empty(), "missing: {missing:?}, strange: {strange:?}");
    for (got, wanted) in got.iter().zip(&wanted) {
        assert_eq!((got.size_bytes, got.mtime), (wanted.size_bytes, wanted.mtime), "{}", wanted.path.display());
        // 5,000 files of five bytes each prove nothing more than 500 of them.
        if wanted.path.starts_with("many") && wanted.mtime % 600 != 0 {
            continue;
        }
        let sum =
            dataset::sha256(&mount.path(&wanted.path)).unwrap_or_else(|e| panic!("{}: {e}", wanted.path.display()));
        assert_eq!(sum, dataset::sha256(&original.join(&wanted.path)).unwrap(), "{}", wanted.path.display());
    }
    mount.umount();
}

#[test]
fn mirrors_that_list_in_html_and_in_json_make_one_tree() {
    let html = nginxes(1, &Setup::default());
    let json = nginxes(1, &Setup { json: true, ..Setup::default() });
    let place = Place::new();
    let mount = place.mount(&[html[0].url(), json[0].url()], &[]);
    for name in ["big", "text/0", "text/6", "many"] {
        let names = |root: std::path::PathBuf| {
            let mut names: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert!(names(mount.path(name)) == names(dataset::root().join(name)), "{name} has other names");
    }
    mount.umount();
}

#[test]
fn what_is_not_there_is_enoent() {
    let mirrors = nginxes(1, &Setup::default());
    let place = Place::new();
    let mount = place.mount(&urls(&mirrors), &[]);
    for name in ["nothing", "big/nothing", "big/a.bin.txt", "deep/level-0/nothing"] {
        let error = fs::metadata(mount.path(name)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{name}: {error}");
    }
    let error = fs::metadata(mount.path("big/a.bin/x")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotADirectory);
}
