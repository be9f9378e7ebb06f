//! The README is true: all its commands run as they stand, in its order, and each ends with 0.
//!
//! Only names are put in: URLs of mirrors that exist, folders of this test for those of a system, and for the full screen its one picture.

use super::{faulty_urls, mirrors};
use crate::support::faulty::Tree;
use crate::support::mounted::{Place, program, without_passthrough};
use crate::support::process::{path_with_sbin, run, which};
use crate::support::state::Registered;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

const README: &str = include_str!("../../README.md");

/// The texts between fences of a language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

fn tree() -> Tree {
    let tree = Tree::new().with("index.csv", *b"name,size\n").with("2019/old.bin", [7; 5000]);
    let tree = tree.with_generated("2024/05/a.parquet", 1, 300_000).with_generated("2024/b.bin", 2, 2 << 20);
    tree.with_generated("recordings/monday.bin", 3, 3 << 20).with_generated("big.bin", 4, (1 << 30) + (70 << 20))
}

/// What stands for something that only its reader has.
fn filled_in(text: &str, place: &Place, urls: &[String]) -> String {
    let path = |name: &str| place.path(name).into_os_string().into_string().unwrap();
    [
        ("https://HOST/FOLDER/", urls[0].as_str()),
        ("http://HOST/FOLDER/", &urls[0]),
        ("https://OTHER/FOLDER/", &urls[1]),
        ("/usr/share/bash-completion/completions/braidfs", &path("completions")),
        ("/usr/local/share/man/man1", &path("man1")),
        ("braidfs top mnt", "braidfs top mnt --once"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (name, real)| text.replace(name, real))
}

/// Each line by itself, as at a prompt; what it said, and how it ended.
fn script(place: &Place, urls: &[String]) -> String {
    let lines = blocks("sh").into_iter().filter(|block| !block.contains("cargo run")).flat_map(str::lines);
    let mut script = String::from("exec 2>&1\n");
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let line = filled_in(line, place, urls);
        let quoted = line.replace('\'', r"'\''");
        script += &format!("echo '$ {quoted}'\n{line}\nended=$?\n[ $ended = 0 ] || echo '{quoted}' >> failed\n");
    }
    script + "braidfs umount mnt || echo 'the last unmount' >> failed\n"
}

#[test]
fn every_command_works() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let urls = faulty_urls(&mirrors);
    for name in ["bin", "man1"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    symlink(program(), place.path("bin/braidfs")).unwrap();
    // Some systems have it by its other name only.
    fs::write(place.path("bin/python"), "#!/bin/sh\nexec python3 \"$@\"\n").unwrap();
    fs::set_permissions(place.path("bin/python"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(place.path("train.py"), "print(len(open('mnt/2024/b.bin', 'rb').read()))\n").unwrap();
    fs::write(place.path("mark"), "").unwrap();
    let old = fs::File::options().write(true).open(place.path("mark")).unwrap();
    old.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    fs::write(place.path("mirrors.toml"), filled_in(blocks("toml")[0], &place, &urls)).unwrap();
    assert!(which("getfattr"), "the README uses it");
    let _registered = Registered::mount(&place.mountpoint());
    let mut command = Command::new("bash");
    place.environment(&mut command);
    let path = format!("{}:{}", place.path("bin").display(), path_with_sbin());
    command.arg("-c").arg(script(&place, &urls)).current_dir(place.path("")).env("PATH", path);
    if without_passthrough() {
        command.env("BRAIDFS_PASSTHROUGH", "false");
    }
    let said = String::from_utf8_lossy(&run(&mut command).stdout).into_owned();
    println!("{said}");
    let failed = fs::read_to_string(place.path("failed")).unwrap_or_default();
    assert!(failed.is_empty(), "{said}\nfailed:\n{failed}");
    assert!(said.contains("mnt/2024") && said.contains("user.braidfs.complete=\"no\""), "{said}");
    assert!(fs::metadata(place.path("completions")).unwrap().len() > 1000);
    assert!(place.path("man1/braidfs-prefetch.1").exists());
    assert!(!place.is_mounted());
}

#[test]
fn every_command_and_option_is_named() {
    let help = |words: &[&str]| String::from_utf8(run(Command::new(program()).args(words)).stdout).unwrap();
    let commands = help(&["--help"]);
    let listed = commands.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
    for name in listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()) {
        if !name.is_empty() && name != "help" {
            assert!(README.contains(&format!("`{name}`")), "the README lacks `{name}`");
        }
    }
    for word in help(&["mount", "--help"]).split_whitespace().filter(|word| word.starts_with("--")) {
        let option = word.trim_end_matches(|c: char| !c.is_ascii_lowercase()).split(['=', '[']).next().unwrap();
        assert!(["--help", "--verbose"].contains(&option) || README.contains(option), "the README lacks {option}");
    }
}
