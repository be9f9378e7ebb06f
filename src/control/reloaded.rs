//! What the daemon says of its configuration file, and of reading it anew. The names are those of `--json`: they are not
//! changed.

use serde::{Deserialize, Serialize};

/// The configuration of a mount that has a file, in `status`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct ConfigurationReport {
    /// The file.
    pub file: String,
    /// 1 at the mount, one more with each reload that changed something.
    pub version: u64,
    /// How long this version has been in force, in seconds.
    pub age_s: f64,
    /// Why the last reload was refused, where it was; this version is the last good one then.
    pub trouble: Option<String>,
    /// What the file has and only another mount takes up.
    pub waits_for_mount: Vec<String>,
}

/// `braidfs reload`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(default)]
pub struct ReloadReport {
    /// Where it is mounted.
    pub mountpoint: String,
    /// The file.
    pub file: String,
    /// The version that is in force now.
    pub version: u64,
    /// What it changed, and is in force; none: nothing was otherwise.
    pub changed: Vec<ChangeReport>,
    /// What the file has and only another mount takes up, the earlier ones too.
    pub waits_for_mount: Vec<ChangeReport>,
    /// What is not wrong but should be said.
    pub warnings: Vec<String>,
}

/// One thing that is otherwise. Values are as a file has them; secrets are `…`.
#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Eq, Debug)]
#[serde(default)]
pub struct ChangeReport {
    /// As in `hedging`, `rules`, `mirror https://HOST/FOLDER/` or `mirror https://HOST/FOLDER/ weight`.
    pub name: String,
    /// What it was; none: not set, or not there.
    pub before: Option<String>,
    /// And is.
    pub after: Option<String>,
}

impl ChangeReport {
    /// `hedging: true -> false`.
    pub fn text(&self) -> String {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
        format!("{}: {} -> {}", self.name, value(&self.before), value(&self.after))
    }
}
