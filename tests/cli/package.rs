//! What packages are made of: the files that Cargo.toml and the Containerfile name are there.

use crate::support::mounted::program;
use crate::support::process::output_of;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a pattern with at most one `*`, in its last part.
fn files(pattern: &str) -> Vec<PathBuf> {
    let path = root().join(pattern);
    let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
    let Some((before, after)) = name.split_once('*') else { return Vec::from_iter(path.exists().then_some(path)) };
    let is_meant = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(before) && name.ends_with(after)
    };
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(is_meant).collect()
}

#[test]
fn the_debian_package_has_what_it_names() {
    output_of(Command::new(root().join("mount-examples/build-deb")).arg("--generate").env("BRAIDFS", program()));
    let manifest: toml::Value = toml::from_str(&fs::read_to_string(root().join("Cargo.toml")).unwrap()).unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets = deb["assets"].as_array().unwrap().iter().map(|asset| asset[0].as_str().unwrap());
    let others = [deb["changelog"].as_str().unwrap(), deb["license-file"][0].as_str().unwrap()];
    for source in assets.chain(others).filter(|source| *source != "target/release/braidfs") {
        let files = files(source);
        assert!(!files.is_empty(), "{source} is not there");
        assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() > 0), "{source} is empty");
    }
    for helper in ["mount.braidfs", "mount.fuse.braidfs"] {
        let link = fs::read_link(root().join("target/package/sbin").join(helper)).unwrap();
        assert_eq!(link, Path::new("../bin/braidfs"));
    }
    // A page for each command, and the options of today in the completions.
    assert!(root().join("target/package/man/braidfs-mount.1").exists());
    assert!(fs::read_to_string(root().join("target/package/braidfs.bash")).unwrap().contains("--fuse-fd"));
}

#[test]
fn the_image_is_built_from_files_that_are_there() {
    let recipe = fs::read_to_string(root().join("mount-examples/Containerfile")).unwrap();
    let copied = recipe.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--"));
    let sources: Vec<&str> = copied.flat_map(|line| line.split(' ').rev().skip(1)).collect();
    for needed in ["Cargo.toml", "Cargo.lock", "src"] {
        assert!(sources.contains(&needed), "{needed} is not copied: {sources:?}");
    }
    for source in sources {
        assert!(root().join(source).exists(), "{source} is not there");
    }
}
