//! `braidfs stat PATH... [--json]`.

use super::{Screen, file_of};
use crate::control::client::{ClientError, Desk};
use crate::control::file_report::{FileReport, PathKind};
use crate::control::human::{bytes, plain};
use crate::control::protocol::{Command, PathText};
use std::path::{Path, PathBuf};

/// What the letters of a map mean.
const LEGEND: &str = "         # on disk  m in memory  : in part  . not here";

/// Show what is known of each of `paths`, files and folders in mounts, and what is cached of it. Returns the exit code: the
/// worst of theirs.
pub fn stat(desk: &Desk, paths: &[PathBuf], screen: &mut Screen<'_>) -> u8 {
    let (mut worst, mut between) = (0, "");
    for path in paths {
        match ask(desk, path) {
            Ok(report) if screen.json => screen.say_json(&report),
            Ok(report) => {
                screen.say(&format!("{between}{}", stat_text(&report)));
                between = "\n";
            }
            Err(error) => worst = worst.max(screen.fail(&error)),
        }
    }
    worst
}

fn ask(desk: &Desk, path: &Path) -> Result<FileReport, ClientError> {
    let target = desk.find(path)?;
    // Of the mountpoint too: it is a folder like others here.
    let command = Command::Status { path: Some(PathText(target.relative)) };
    file_of(desk.connect(&target.mount)?.run(&command, |_| {})?)
}

fn stat_text(report: &FileReport) -> String {
    let mut text = known_text(report);
    if report.kind == PathKind::File {
        text += &format!("map      {}\n{LEGEND}\n", plain(&report.cells));
    }
    text
}

/// A file or folder, and how much of it is cached.
pub(super) fn known_text(report: &FileReport) -> String {
    let path = plain(&String::from_utf8_lossy(&report.path.0));
    match report.kind {
        PathKind::File => file_text(&path, report),
        PathKind::Folder => folder_text(&path, report),
    }
}

fn file_text(path: &str, report: &FileReport) -> String {
    let part = if report.size == 0 { 100.0 } else { report.cached_bytes as f64 / report.size as f64 * 100.0 };
    let complete = if report.complete { ", complete" } else { "" };
    let mut lines = vec![
        path.to_owned(),
        format!("size     {} ({} bytes)", bytes(report.size), report.size),
        // What is missing must not look like nothing.
        format!(
            "cached   {} ({:.0} %): {}{complete}{}",
            bytes(report.cached_bytes),
            part.floor(),
            places_text(report),
            pinned_text(report)
        ),
        format!("version  {}", plain(&report.version)),
    ];
    lines.extend(report.mirrors.iter().map(|url| format!("mirror   {}", plain(url))));
    lines
        .extend(report.dissenters.iter().map(|other| format!("not used {}: {}", plain(&other.url), plain(&other.why))));
    lines.join("\n") + "\n"
}

fn folder_text(path: &str, report: &FileReport) -> String {
    let files = match report.cached_files {
        1 => "1 file".to_owned(),
        files => format!("{files} files"),
    };
    let path = if path.is_empty() { "the mountpoint" } else { path };
    let mut lines = vec![
        format!("{path}: a folder{}", pinned_text(report)),
        format!("cached   {} of {files} below it: {}", bytes(report.cached_bytes), places_text(report)),
    ];
    lines.extend(report.mirrors.iter().map(|url| format!("mirror   {}", plain(url))));
    lines.join("\n") + "\n"
}

fn places_text(report: &FileReport) -> String {
    format!("{} in memory, {} on disk", bytes(report.in_memory_bytes), bytes(report.on_disk_bytes))
}

fn pinned_text(report: &FileReport) -> &'static str {
    if report.pinned { ", pinned" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::file_report::Dissenter;

    #[test]
    fn a_file_is_shown_with_its_map_and_who_has_it() {
        let report = FileReport {
            path: PathText(b"a/b\x1b[2J".to_vec()),
            size: 1 << 20,
            cached_bytes: (1 << 20) - 1,
            in_memory_bytes: 4096,
            on_disk_bytes: 1 << 19,
            pinned: true,
            version: "2024-03-01T12:00:00Z".into(),
            mirrors: vec!["https://a/".into()],
            dissenters: vec![Dissenter { url: "https://b/".into(), why: "it has 5 bytes".into() }],
            cells: "#".repeat(63) + ":",
            ..FileReport::default()
        };
        let wanted = [
            "a/b\u{fffd}[2J",
            "size     1.00 MiB (1048576 bytes)",
            "cached   1024.00 KiB (99 %): 4.00 KiB in memory, 512.00 KiB on disk, pinned",
            "version  2024-03-01T12:00:00Z",
            "mirror   https://a/",
            "not used https://b/: it has 5 bytes",
            &format!("map      {}:", "#".repeat(63)),
            "         # on disk  m in memory  : in part  . not here\n",
        ];
        assert_eq!(stat_text(&report), wanted.join("\n"));
        let report = FileReport { complete: true, ..report };
        assert!(known_text(&report).contains("on disk, complete, pinned\n"));
    }

    #[test]
    fn a_folder_is_a_sum() {
        let report = FileReport {
            kind: PathKind::Folder,
            cached_files: 1,
            cached_bytes: 4096,
            on_disk_bytes: 4096,
            ..FileReport::default()
        };
        let text = "the mountpoint: a folder\ncached   4.00 KiB of 1 file below it: 0 B in memory, 4.00 KiB on disk\n";
        assert_eq!(stat_text(&report), text);
    }

    #[test]
    fn the_names_of_the_json_stay() {
        let text = r#"{"path":"a","kind":"file","size":9,"modified_unix_s":null,"cached_bytes":0,"in_memory_bytes":0,"on_disk_bytes":0,"cached_files":0,"complete":false,"pinned":false,"version":"","mirrors":[],"dissenters":[],"cells":"","map":[{"offset_bytes":0,"bytes":2,"cached_bytes":1,"where":"both"}],"map_merged":true}"#;
        let report: FileReport = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&report).unwrap(), text);
        let older: FileReport = serde_json::from_str(r#"{"path":"a","size":9,"moon":1}"#).unwrap();
        assert_eq!((older.size, older.kind), (9, PathKind::File));
    }
}
