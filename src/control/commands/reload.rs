//! `braidfs reload [PATH] [--json]`.

use super::{Screen, unexpected};
use crate::control::client::Desk;
use crate::control::human::plain;
use crate::control::protocol::{Answer, Command};
use crate::control::reloaded::ReloadReport;
use std::path::Path;

/// Have the mount of `path` read its configuration file anew. Returns the exit code.
pub fn reload(desk: &Desk, path: Option<&Path>, screen: &mut Screen<'_>) -> u8 {
    let asked = desk.find_or_here(path).and_then(|target| desk.connect(&target.mount)?.run(&Command::Reload, |_| {}));
    match asked {
        Ok(Answer::Reloaded(report)) => {
            match screen.json {
                true => screen.say_json(&serde_json::json!({ "result": report })),
                false => screen.say(&text(&report)),
            }
            0
        }
        Ok(_) => screen.fail(&unexpected()),
        Err(error) => screen.fail(&error),
    }
}

fn text(report: &ReloadReport) -> String {
    let mut text: String = report.warnings.iter().map(|warning| format!("warning: {}\n", plain(warning))).collect();
    for change in &report.changed {
        text.push_str(&format!("{}\n", plain(&change.text())));
    }
    for change in &report.waits_for_mount {
        text.push_str(&format!("{} (takes another mount)\n", plain(&change.text())));
    }
    let (file, version) = (plain(&report.file), report.version);
    text.push_str(&match report.changed.is_empty() {
        true => format!("{file}: nothing to change, version {version} stays\n"),
        false => format!("{file}: version {version} is in force\n"),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::reloaded::ChangeReport;

    #[test]
    fn what_is_in_force_and_what_is_not_is_told_apart() {
        let change = |name: &str, before: &str, after: Option<&str>| ChangeReport {
            name: name.into(),
            before: Some(before.into()),
            after: after.map(Into::into),
        };
        let mut report = ReloadReport { file: "/etc/d.toml".into(), version: 3, ..ReloadReport::default() };
        assert_eq!(text(&report), "/etc/d.toml: nothing to change, version 3 stays\n");
        report.changed = vec![change("hedging", "true", Some("false"))];
        report.waits_for_mount = vec![change("rate-limit", "\"1MB/s\"", None)];
        assert_eq!(
            text(&report),
            "hedging: true -> false\nrate-limit: \"1MB/s\" -> not set (takes another mount)\n\
             /etc/d.toml: version 3 is in force\n"
        );
    }
}
