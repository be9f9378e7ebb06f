//! `tests/bench/compare`: what can be said of it without an hour and a half.

use std::process::{Command, Output};

fn compare(words: &[&str]) -> Output {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/compare");
    Command::new(program).args(words).output().expect("python3 is among the tools of the tests")
}

#[test]
fn it_lists_its_rows() {
    let output = compare(&["--list"]);
    let rows = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for row in ["sequential: ", "find: ", "small files, 20 ms: ", "black hole: "] {
        assert!(rows.lines().any(|line| line.starts_with(row)), "no {row:?} in {rows}");
    }
}

#[test]
fn what_it_cannot_run_is_refused_with_the_way_out() {
    for (words, said) in [
        (&["no such row"][..], "no row has the name 'no such row'; --list shows all of them"),
        (&["--program", "/nowhere"][..], "/nowhere is no program: cargo build --release, or name one by --program"),
    ] {
        let output = compare(words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(said), "{words:?}: {error}");
    }
}
