//! `braidfs prefetch --files-from`.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::Tree;
use crate::support::mounted::Place;
use std::io::Write;
use std::process::{Output, Stdio};

/// As names of real datasets are: ten thousand of them are more than a mebibyte.
fn name(at: usize) -> String {
    format!("recordings/{at:05}-{}.txt", "x".repeat(110))
}

fn tree(files: usize) -> Tree {
    (0..files).fold(Tree::new(), |tree, at| tree.with(name(at), format!("{at}").into_bytes()))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_list_of_ten_thousand_paths_is_brought_and_named_in_short() {
    const FILES: usize = 1000;
    const PATHS: usize = 10_000;
    let (mirrors, place) = (mirrors(2, &tree(FILES)), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let list: String = (0..PATHS).map(|at| format!("mnt/{}\n", name(at % FILES))).collect();
    assert!(list.len() > 1 << 20);
    std::fs::write(place.path("list.txt"), list).unwrap();
    let output = crate::support::process::run(place.command().current_dir(place.path("")).args([
        "prefetch",
        "--files-from",
        "list.txt",
    ]));
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("10000 of 10000 files"), "{}", text(&output));
    let status = mount.status();
    let job = &status["jobs"][0];
    assert_eq!((&job["state"], &job["paths_total"]), (&"done".into(), &PATHS.into()));
    assert_eq!(job["paths"].as_array().unwrap().len(), 20);
    mirrors.iter().for_each(super::FaultyMirror::forget);
    for at in [0, FILES / 2, FILES - 1] {
        assert_eq!(std::fs::read(mount.path(name(at))).unwrap(), at.to_string().into_bytes());
    }
    assert_eq!(data_bytes(&mirrors), 0);
    mount.umount();
}

#[test]
fn names_on_stdin_may_hold_a_line_end_and_what_fails_is_named_with_its_place() {
    let tree = Tree::new().with("a\nb.txt", *b"1").with("c.txt", *b"2");
    let (mirrors, place) = (mirrors(1, &tree), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let run = |words: &[&str], list: &[u8]| {
        let mut command = place.command();
        command.current_dir(place.mountpoint()).arg("prefetch").args(words);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child.stdin.take().unwrap().write_all(list).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = run(&["--files-from", "-", "-0"], b"a\nb.txt\0c.txt\0");
    assert!(output.status.success(), "{}", text(&output));
    let output = run(&["--files-from", "-"], b"c.txt\n\nno.txt\n");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let missing = format!("stdin:3: {}: no mirror has it", mount.path("no.txt").display());
    assert!(text(&output).contains(&missing), "{}", text(&output));
    let output = run(&["--files-from", "-"], b"c.txt\n/etc/passwd\n");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("stdin:2: /etc/passwd is under no braidfs mount"), "{}", text(&output));
    mount.umount();
}
