//! What one check found: how bad, what was looked at, what was seen, and what to do.

use serde::Serialize;
use std::collections::BTreeMap;

/// How bad it is.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Good to know; nothing is wrong.
    Note,
    /// It works, and not as well as it could.
    Warning,
    /// It does not work, or a mirror's bytes cannot be believed.
    Problem,
}

impl Level {
    /// As shown.
    pub fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

/// What the checks of one group are about.
#[derive(Serialize, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "kebab-case", tag = "group", content = "about")]
pub enum About {
    /// What was asked for, and the file it comes from.
    Configuration,
    /// This machine.
    System,
    /// The cache folder.
    Cache(String),
    /// A mirror, by its URL without credentials.
    Mirror(String),
    /// Several mirrors beside each other.
    Sameness,
    /// A live mount, by its mountpoint.
    Mount(String),
}

impl About {
    /// The head above its findings.
    pub fn head(&self) -> String {
        match self {
            About::Configuration => "configuration".into(),
            About::System => "this machine".into(),
            About::Cache(folder) => format!("cache {folder}"),
            About::Mirror(url) => format!("mirror {url}"),
            About::Sameness => "sameness of the mirrors".into(),
            About::Mount(mountpoint) => format!("mount {mountpoint}"),
        }
    }
}

/// One finding. The names are those of `--json`: they are not changed.
#[derive(Serialize, Clone, PartialEq, Debug)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// Of which group, and of whom.
    #[serde(flatten)]
    pub about: About,
    /// What was looked at, in a word or two.
    pub check: &'static str,
    /// What was seen.
    pub seen: String,
    /// What to do, where there is something.
    #[serde(rename = "do")]
    pub to_do: Option<String>,
    /// What was seen, in numbers, by name; the name ends in the unit.
    pub figures: BTreeMap<&'static str, serde_json::Value>,
}

impl Finding {
    /// With what to do about it, unless nothing has to be done.
    pub fn new(level: Level, about: &About, check: &'static str, seen: impl Into<String>) -> Finding {
        let (seen, figures) = (seen.into(), BTreeMap::new());
        Finding { level, about: about.clone(), check, seen, to_do: None, figures }
    }

    /// As it should be.
    pub fn ok(about: &About, check: &'static str, seen: impl Into<String>) -> Finding {
        Finding::new(Level::Ok, about, check, seen)
    }

    /// Good to know.
    pub fn note(about: &About, check: &'static str, seen: impl Into<String>) -> Finding {
        Finding::new(Level::Note, about, check, seen)
    }

    /// It could be better, and how.
    pub fn warning(about: &About, check: &'static str, seen: impl Into<String>, to_do: impl Into<String>) -> Finding {
        Finding::new(Level::Warning, about, check, seen).way_out(to_do)
    }

    /// It is wrong, and what to do.
    pub fn problem(about: &About, check: &'static str, seen: impl Into<String>, to_do: impl Into<String>) -> Finding {
        Finding::new(Level::Problem, about, check, seen).way_out(to_do)
    }

    /// And this is to be done.
    pub fn way_out(mut self, to_do: impl Into<String>) -> Finding {
        self.to_do = Some(to_do.into());
        self
    }

    /// And this was measured.
    pub fn figure(mut self, name: &'static str, value: impl Into<serde_json::Value>) -> Finding {
        self.figures.insert(name, value.into());
        self
    }
}
