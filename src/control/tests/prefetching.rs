//! `prefetch` with lists, `--check` and `--record`, over the socket.

use super::House;
use crate::control::commands::{Asked, PathList, RecordAsked, prefetch, record};
use crate::control::protocol::PathText;
use crate::control::report::{AccessReport, CheckReport, RecordReport};
use crate::control::server::{CheckDoor, RecordDoor};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// One access at once, and one after it was told to stop.
pub(super) fn fake_record() -> RecordDoor {
    Arc::new(|path, stopped, sender| {
        Box::pin(async move {
            sender.begun();
            sender.accessed(AccessReport { path: PathText(path), offset: 0, bytes: 5 }).await;
            let is_told = stopped.await.is_ok();
            sender.accessed(AccessReport { path: PathText(b"last".to_vec()), offset: 5, bytes: 6 }).await;
            Ok(RecordReport { ranges: 2, full: !is_told, ..RecordReport::default() })
        })
    })
}

/// Three files that are there; a path that ends in `bad` cannot be looked at.
pub(super) fn fake_check() -> CheckDoor {
    Arc::new(|paths, sender| {
        Box::pin(async move {
            let bad: Vec<_> = paths.into_iter().filter(|path| path.ends_with(b"bad")).collect();
            let failed = bad.len() as u64;
            for path in bad {
                sender.failed(path, "no mirror has it".into()).await;
            }
            Ok(CheckReport { files_total: 3, files_complete: 3, failed, ..CheckReport::default() })
        })
    })
}

#[test]
fn paths_of_a_list_come_after_the_others_and_are_named_with_their_place() {
    let house = House::new();
    let list = house.folder.path().join("list.txt");
    let run = |text: &str, paths: &[PathBuf]| {
        std::fs::write(&list, text).unwrap();
        let list = Some(PathList { file: &list, null: false });
        house.run(false, |desk, screen| prefetch(desk, &Asked { paths, list, ..Asked::default() }, screen))
    };
    let (code, _, err) = run("c\n/mnt/data/b\n", &["x".into()]);
    assert_eq!(code, 0, "{err}");
    let wanted = [&b"folder/x"[..], b"folder/c", b"b"];
    assert_eq!(house.seen.prefetched.lock().unwrap()[0].paths, wanted);
    let (code, _, err) = run("bad\nbad/7\n", &[]);
    let (plain, listed) =
        ("/mnt/data/folder/bad/8: no mirror", format!("{}:2: /mnt/data/folder/bad/7: no", list.display()));
    assert!(code == 1 && err.contains(&listed) && err.contains(&format!("\n{plain}")), "{err}");
    let (code, _, err) = run("a\n\n/elsewhere\n", &[]);
    assert!(code == 1 && err.contains(&format!("{}:3: /elsewhere is under no braidfs mount", list.display())), "{err}");
}

#[test]
fn a_recording_ends_with_its_command_and_what_was_said_last_is_in_the_profile() {
    let house = House::new();
    let file = house.folder.path().join("p.jsonl");
    let record = |command: &[&str]| {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        let asked = RecordAsked { file: &file, paths: &["a".into()], command: &command };
        house.run(false, |desk, screen| record(desk, &asked, screen))
    };
    let (code, out, err) = record(&["sh", "-c", "exit 4"]);
    assert_eq!((code, out.as_str()), (4, ""), "{err}");
    assert!(err.contains("p.jsonl: 2 ranges of 0 files"), "{err}");
    let wanted = "{\"path\":\"folder/a\",\"offset\":0,\"bytes\":5}\n{\"path\":\"last\",\"offset\":5,\"bytes\":6}\n";
    assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted);
    let (code, _, err) = record(&["/no/such/program"]);
    assert!(code == 1 && err.contains("/no/such/program: it cannot be run: No such file"), "{err}");
}

#[test]
fn a_check_is_shown_and_its_exit_code_says_whether_all_is_there() {
    let house = House::new();
    let check = |json, paths: &[PathBuf]| {
        house.run(json, |desk, screen| prefetch(desk, &Asked { paths, check: true, ..Asked::default() }, screen))
    };
    let (code, out, err) = check(false, &["a".into()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("3 of 3 files are durable on disk"), "{out}");
    let (code, out, err) = check(true, &["bad".into()]);
    assert!(code == 1 && err.contains("/mnt/data/folder/bad: no mirror has it"), "{err}");
    assert!(
        out.contains("\n{\"result\":{") && out.contains("\"failed\":1,") && out.starts_with("{\"failed\":{"),
        "{out}"
    );
    assert!(house.seen.prefetched.lock().unwrap().is_empty());
}
