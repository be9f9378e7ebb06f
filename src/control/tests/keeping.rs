//! `pin`, `unpin`, `evict` and `verify`, over the socket.

use super::{House, Seen};
use crate::control::commands::keep;
use crate::control::protocol::{Answer, PathText, Refusal, RefusalKind};
use crate::control::report::{DamagedRange, EvictReport, PinReport, Progress, VerifyReport};
use crate::control::server::{KeepRequest, Keeping, ProgressSender};
use std::path::PathBuf;
use std::sync::Arc;

/// A path that ends in `bad` is refused by `pin`, said to have failed by `evict` and to be damaged by `verify`.
pub(super) async fn fake_keep(
    seen: Arc<Seen>,
    request: KeepRequest,
    sender: ProgressSender,
) -> Result<Answer, Refusal> {
    seen.kept.lock().unwrap().push(request.clone());
    sender.progress(Progress { files_done: 1, listing: true, ..Progress::default() });
    let bad: Vec<_> = request.paths.iter().filter(|path| path.ends_with(b"bad")).cloned().collect();
    let failed = bad.len() as u64;
    Ok(match request.what {
        Keeping::Pin if failed > 0 => return Err(Refusal::new(RefusalKind::Failed, "it does not fit")),
        Keeping::Pin => Answer::Pinned(PinReport { paths: 2, ..PinReport::default() }),
        Keeping::Unpin => Answer::Unpinned(PinReport { paths: 2, ..PinReport::default() }),
        Keeping::Evict => {
            for path in bad {
                sender.failed(path, "it is pinned".into()).await;
            }
            Answer::Evicted(EvictReport { files: 3, failed, ..EvictReport::default() })
        }
        Keeping::Verify => {
            for path in bad {
                sender.damaged(DamagedRange { path: PathText(path), offset_bytes: 8192, bytes: 4096 }).await;
            }
            Answer::Verified(VerifyReport { files: 3, damaged_bytes: 4096 * failed, ..VerifyReport::default() })
        }
    })
}

fn run(house: &House, json: bool, what: Keeping, paths: &[&str]) -> (u8, String, String) {
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    house.run(json, |desk, screen| keep(desk, what, &paths, screen))
}

#[test]
fn each_command_reaches_its_door_with_the_paths_as_bytes() {
    let house = House::new();
    for what in [Keeping::Pin, Keeping::Unpin, Keeping::Evict, Keeping::Verify] {
        let (code, out, err) = run(&house, false, what, &["100%", "/mnt/data"]);
        assert_eq!((code, err.as_str(), out.lines().count()), (0, "", 1), "{what:?}: {out}");
        let asked = house.seen.kept.lock().unwrap().pop();
        let paths = vec![b"folder/100%".to_vec(), Vec::new()];
        assert_eq!(asked, Some(KeepRequest { what, paths }));
    }
}

#[test]
fn what_was_not_done_is_named_and_is_the_exit_code() {
    let house = House::new();
    let (code, out, err) = run(&house, false, Keeping::Pin, &["bad"]);
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", "braidfs: it does not fit\n"));
    let (code, out, err) = run(&house, false, Keeping::Evict, &["bad", "good"]);
    assert!(code == 1 && out.contains("3 files evicted") && out.contains("1 path not"), "{out}");
    assert_eq!(err, "/mnt/data/folder/bad: it is pinned\n");
    let (code, out, err) = run(&house, false, Keeping::Verify, &["bad"]);
    assert!(code == 1 && out.contains("4.00 KiB did not match"), "{out}");
    assert!(err.starts_with("/mnt/data/folder/bad: 4.00 KiB at byte 8192 did not match"), "{err}");
}

#[test]
fn with_json_each_line_is_one_thing_and_the_last_is_the_result() {
    let house = House::new();
    let (code, out, _) = run(&house, true, Keeping::Verify, &["bad", "good"]);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines.len()), (1, 3), "{out}");
    assert_eq!(lines[0]["progress"]["files_done"], 1);
    assert_eq!(lines[1]["damaged"], serde_json::json!({"path": "folder/bad", "offset_bytes": 8192, "bytes": 4096}));
    assert_eq!(lines[2]["result"]["damaged_bytes"], 4096);
}
