//! `mirrors` and `explain`, over the socket.

use super::House;
use crate::control::commands::{explain, mirrors};
use crate::control::server::ExplainRequest;
use std::path::Path;

#[test]
fn a_switch_of_the_strategy_says_what_it_was() {
    let house = House::new();
    let (code, out, err) = house.run(false, |desk, screen| mirrors(desk, None, Some("round-robin"), None, screen));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("the strategy is round-robin now, and was adaptive\n"), "{out}");
    let (code, out, _) = house.run(true, |desk, screen| mirrors(desk, Some(Path::new("a")), None, None, screen));
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &value["strategy"], &value["strategy_before"]), (0, &"adaptive".into(), &().into()));
}

#[test]
fn an_explanation_is_asked_for_by_bytes_and_comes_line_by_line() {
    use std::os::unix::ffi::OsStrExt;
    let house = House::new();
    let name = std::ffi::OsStr::from_bytes(b"100%\xff:5");
    let (code, out, _) = house.run(true, |desk, screen| explain(desk, Some(Path::new(name)), Some(4096), screen));
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines.len()), (0, 4097));
    assert_eq!((&lines[0]["decision"]["number"], &lines[4095]["decision"]["number"]), (&4096.into(), &1.into()));
    assert_eq!(lines[4096]["result"]["decisions_matching"], 4096);
    let (code, out, _) = house.run(false, |desk, screen| explain(desk, Some(Path::new("..")), None, screen));
    assert_eq!((code, out.as_str()), (0, "no decision yet: nothing was fetched since the mount\n"));
    let asked = [(&b"folder/100%\xff:5"[..], Some(4096)), (b"", None)];
    let asked = asked.map(|(target, last)| ExplainRequest { target: target.to_vec(), last });
    assert_eq!(*house.seen.explained.lock().unwrap(), asked);
}
