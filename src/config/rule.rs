//! `[[rule]]` tables: parts of the tree with a class, an objective and hours of their own (spec 3.1).

use super::duration::Length;
use super::file::{ConfigFile, FileError};
use crate::chunk::Class;
use crate::fetch::rules::{Hours, Rule, Rules, path_glob};
use crate::scheduler::FileRule;
use globset::Glob;
use serde::de::{self, Deserialize, Deserializer};
use std::time::Duration;
use toml::Spanned;

/// Rules of a file at most: each path that is opened is held against all of them.
const RULES_MAX: usize = 1000;
/// Objectives below what a mirror next door needs would always be missed, those above what a person bears never.
const OBJECTIVES: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// One `[[rule]]` table. The first one whose path matches holds, also where it gives nothing else.
#[derive(serde::Deserialize, schemars::JsonSchema, Clone, Debug)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuleTable {
    /// Which paths, relative to the mount: `*` within a name, `**` over folders.
    #[schemars(with = "String")]
    pub path: Spanned<PathGlob>,
    /// What a reader there counts for.
    #[schemars(with = "Option<String>")]
    pub class: Option<ClassName>,
    /// What the P99 of reads that wait there should be.
    #[schemars(with = "Option<String>")]
    pub objective: Option<Spanned<Length>>,
    /// When it is prefetched, by local time.
    #[schemars(with = "Option<String>")]
    pub prefetch_hours: Option<HoursText>,
}

/// A pattern of paths below the mount.
#[derive(Clone, Debug)]
pub struct PathGlob(pub Glob);

impl<'de> Deserialize<'de> for PathGlob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PathGlob, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bad = |why: String| de::Error::custom(format!("{text:?} is not a pattern of paths: {why}"));
        if text.is_empty() {
            return Err(bad("it is empty; write \"archive/**\" for all below a folder, \"**\" for everything".into()));
        }
        if let Some(relative) = text.strip_prefix('/') {
            return Err(bad(format!("paths begin at the mount; write {relative:?}")));
        }
        if text.ends_with('/') {
            return Err(bad(format!("it ends with /, and no file does; write \"{text}**\" for all below it")));
        }
        path_glob(&text)
            .map(PathGlob)
            .map_err(|error| bad(format!("{}; write \"archive/**\" or \"*.bam\"", error.kind())))
    }
}

/// The name of a class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClassName(pub Class);

impl<'de> Deserialize<'de> for ClassName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ClassName, D::Error> {
        let name = String::deserialize(deserializer)?;
        match name.as_str() {
            "demand" => Ok(ClassName(Class::Demand)),
            "readahead" => Ok(ClassName(Class::Readahead)),
            "prefetch" => Ok(ClassName(Class::Prefetch)),
            _ => {
                let nearest = super::file::nearest(&name, ["demand", "readahead", "prefetch"].into_iter());
                let nearest = nearest.map_or(String::new(), |name| format!(", did you mean {name:?}?"));
                let message = format!("{name:?} is not a class{nearest} (known: demand, readahead, prefetch)");
                Err(de::Error::custom(message))
            }
        }
    }
}

/// `01:00-06:00`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HoursText(pub Hours);

impl<'de> Deserialize<'de> for HoursText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HoursText, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bad = |why| de::Error::custom(format!("{text:?} are no hours: {why}; write 01:00-06:00"));
        let (from, until) = text.split_once('-').ok_or_else(|| bad("there is no - between two times"))?;
        let (from, until) = minute(from).zip(minute(until)).ok_or_else(|| bad("a time is from 00:00 to 23:59"))?;
        Hours::new(from, until).map(HoursText).ok_or_else(|| bad("both times are the same; leave them out for always"))
    }
}

/// `01:00` as a minute of the day.
fn minute(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        let fits = digits.contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| fits)
    };
    let (hour, minute) = (number(hour, 1..=2)?, number(minute, 2..=2)?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

/// The rules that a file gives.
///
/// # Errors
/// The first that is out of bounds, with its place in the file.
pub(super) fn rules(file: &ConfigFile) -> Result<Rules, FileError> {
    let tables = &file.given.rule;
    if let Some(table) = tables.get(RULES_MAX) {
        let message = format!("more than {RULES_MAX} rules; put paths together, as in \"{{a,b}}/**\"");
        return Err(file.wrong(table.path.span(), message));
    }
    let mut rules = Vec::with_capacity(tables.len());
    for table in tables {
        if let Some(given) = &table.objective
            && !OBJECTIVES.contains(&given.get_ref().0)
        {
            let (least, most) = (Length(*OBJECTIVES.start()), Length(*OBJECTIVES.end()));
            let message =
                format!("objective {} is not from {least} to {most}; the usual one is 200ms", given.get_ref());
            return Err(file.wrong(given.span(), message));
        }
        let class = table.class.map_or(Class::Demand, |name| name.0);
        let objective = table.objective.as_ref().map(|given| given.get_ref().0);
        let prefetch_hours = table.prefetch_hours.map(|hours| hours.0);
        rules.push((table.path.get_ref().0.clone(), Rule { file: FileRule { class, objective }, prefetch_hours }));
    }
    let span = tables.first().map_or(0..0, |table| table.path.span());
    Rules::new(rules).map_err(|error| file.wrong(span, format!("the paths of all rules are too much: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Result<Rules, String> {
        let file = ConfigFile::parse(Path::new("d.toml"), text.to_owned()).map_err(|wrong| wrong.to_string())?;
        rules(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn rules_are_read_in_order() {
        let rules = read(
            r#"
[[rule]]
path = "archive/hot/*"
[[rule]]
path = "archive/**"
class = "prefetch"
objective = "2s"
prefetch-hours = "22:30-6:00"
"#,
        )
        .unwrap();
        assert_eq!(rules.of(b"archive/hot/a"), Rule::default());
        let rule = rules.of(b"archive/hot/deep/a");
        assert_eq!(rule.file, FileRule { class: Class::Prefetch, objective: Some(Duration::from_secs(2)) });
        assert_eq!(rule.prefetch_hours, Hours::new(22 * 60 + 30, 360));
        assert_eq!(rules.of(b"other"), Rule::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_and_the_way_out() {
        let rule = |line: &str| format!("[[rule]]\npath = \"a/**\"\n{line}\n");
        for (text, said) in [
            (rule("clas = \"demand\""), "d.toml:3:1: unknown key \"clas\", did you mean \"class\"?"),
            (rule("class = \"readahed\""), "d.toml:3:9: \"readahed\" is not a class, did you mean \"readahead\"?"),
            (rule("class = \"p0\""), "\"p0\" is not a class (known: demand, readahead, prefetch)"),
            (rule("objective = \"0s\""), "d.toml:3:13: objective 0s is not from 1ms to 1m"),
            (rule("objective = \"61s\""), "objective 1m1s is not from 1ms to 1m"),
            (rule("objective = \"2\""), "its unit is missing"),
            (rule("prefetch-hours = \"1-6\""), "d.toml:3:18: \"1-6\" are no hours: a time is from 00:00 to 23:59"),
            (rule("prefetch-hours = \"01:00\""), "there is no - between two times; write 01:00-06:00"),
            (rule("prefetch-hours = \"01:00-24:00\""), "a time is from 00:00 to 23:59"),
            (rule("prefetch-hours = \"01:00-01:00\""), "both times are the same"),
            ("[[rule]]\nclass = \"demand\"\n".into(), "missing key `path`"),
            ("[[rule]]\npath = \"/a/**\"\n".into(), "d.toml:2:8: \"/a/**\" is not a pattern of paths: paths begin at"),
            ("[[rule]]\npath = \"a/\"\n".into(), "write \"a/**\" for all below it"),
            ("[[rule]]\npath = \"\"\n".into(), "it is empty"),
            ("[[rule]]\npath = \"a[\"\n".into(), "\"a[\" is not a pattern of paths: unclosed character class"),
            ("[[rules]]\npath = \"a\"\n".into(), "unknown key \"rules\", did you mean \"rule\"?"),
        ] {
            let error = read(&text).expect_err(&text);
            assert!(error.contains(said), "{said:?} is not in:\n{error}");
        }
        for text in [rule("objective = \"1ms\""), rule("objective = \"60s\""), rule("prefetch-hours = \"00:00-23:59\"")]
        {
            read(&text).unwrap();
        }
    }
}
