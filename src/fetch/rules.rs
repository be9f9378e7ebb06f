//! Path rules (spec 3.1): parts of the tree with a class, an objective and hours of their own.

use crate::scheduler::FileRule;
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

const MINUTES_PER_DAY: u32 = 24 * 60;

/// What holds for a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// For who decides what is fetched when.
    pub file: FileRule,
    /// It is prefetched in these hours only; `None`: always.
    pub prefetch_hours: Option<Hours>,
}

/// A part of the day by local time, from a minute to before another; over midnight where that is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from_minute: u32,
    until_minute: u32,
}

impl Hours {
    /// From one minute of the day (0 to 1439) to before another. `None` where they are none, or the same: that
    /// would be always or never, and nobody could tell which.
    pub fn new(from_minute: u32, until_minute: u32) -> Option<Hours> {
        let fits = from_minute < MINUTES_PER_DAY && until_minute < MINUTES_PER_DAY && from_minute != until_minute;
        fits.then_some(Hours { from_minute, until_minute })
    }

    /// How many seconds until they begin, at this second of the day; `None` within them.
    pub fn wait_seconds(self, second_of_day: u32) -> Option<u32> {
        let day = MINUTES_PER_DAY * 60;
        let (from, until) = (self.from_minute * 60, self.until_minute * 60);
        let since_start = (second_of_day % day + day - from) % day;
        let length = (until + day - from) % day;
        (since_start >= length).then(|| day - since_start)
    }

    /// When they begin, as people read it: `01:00`.
    pub fn begins(self) -> String {
        minute_text(self.from_minute)
    }

    /// The minute of the day at which they begin.
    pub fn from_minute(self) -> u32 {
        self.from_minute
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", minute_text(self.from_minute), minute_text(self.until_minute))
    }
}

/// A minute of the day: `01:00`.
pub fn minute_text(minute: u32) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// A pattern of paths below the mount, as rules and prefetches have it: `*` within a name, `**` over folders.
///
/// # Errors
/// It is none.
pub fn path_glob(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build()
}

/// All rules of a mount, the first that matches a path wins.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    globs: GlobSet,
    rules: Vec<(Glob, Rule)>,
}

impl PartialEq for Rules {
    fn eq(&self, other: &Rules) -> bool {
        self.rules == other.rules
    }
}

impl Rules {
    /// In the order in which they are tried.
    ///
    /// # Errors
    /// The globs are too large together.
    pub fn new(rules: Vec<(Glob, Rule)>) -> Result<Rules, globset::Error> {
        let mut globs = GlobSetBuilder::new();
        rules.iter().for_each(|(glob, _)| _ = globs.add(glob.clone()));
        Ok(Rules { globs: globs.build()?, rules })
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.rules.len()
    }

    /// What holds for a path relative to the mount.
    pub fn of(&self, path: &[u8]) -> Rule {
        if self.rules.is_empty() {
            return Rule::default();
        }
        let first = self.globs.matches(OsStr::from_bytes(path)).into_iter().min();
        first.map_or_else(Rule::default, |at| self.rules[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Class;

    fn glob(text: &str) -> Glob {
        GlobBuilder::new(text).literal_separator(true).build().unwrap()
    }

    fn ruled(class: Class) -> Rule {
        Rule { file: FileRule { class, objective: None }, prefetch_hours: None }
    }

    #[test]
    fn the_first_rule_that_matches_wins_and_paths_are_bytes() {
        let rules = vec![
            (glob("archive/hot/**"), Rule::default()),
            (glob("archive/**"), ruled(Class::Prefetch)),
            (glob("**/*.bam"), ruled(Class::Readahead)),
        ];
        let rules = Rules::new(rules).unwrap();
        for (path, class) in [
            (&b"archive/a.bam"[..], Class::Prefetch),
            (b"archive/x/\xff", Class::Prefetch),
            (b"archive/hot/a.bam", Class::Demand),
            (b"a.bam", Class::Readahead),
            (b"x/y/a.bam", Class::Readahead),
            (b"x/archive/a", Class::Demand),
            (b"archive", Class::Demand),
        ] {
            assert_eq!(rules.of(path).file.class, class, "{}", String::from_utf8_lossy(path));
        }
        assert_eq!(Rules::default().of(b"a"), Rule::default());
    }

    #[test]
    fn hours_begin_at_their_second_end_before_it_and_go_over_midnight() {
        let second = |hour: u32, minute: u32, second: u32| (hour * 60 + minute) * 60 + second;
        let night = Hours::new(60, 360).unwrap();
        for (at, wait) in [
            (second(0, 59, 59), Some(1)),
            (second(1, 0, 0), None),
            (second(5, 59, 59), None),
            (second(6, 0, 0), Some(19 * 3600)),
            (second(0, 0, 0), Some(3600)),
        ] {
            assert_eq!(night.wait_seconds(at), wait, "{at}");
        }
        let wraps = Hours::new(22 * 60, 5 * 60 + 30).unwrap();
        for (at, wait) in [
            (second(21, 59, 59), Some(1)),
            (second(22, 0, 0), None),
            (second(23, 59, 59), None),
            (second(0, 0, 0), None),
            (second(5, 29, 59), None),
            (second(5, 30, 0), Some(16 * 3600 + 1800)),
        ] {
            assert_eq!(wraps.wait_seconds(at), wait, "{at}");
        }
        assert_eq!((wraps.to_string(), wraps.begins()), ("22:00-05:30".to_owned(), "22:00".to_owned()));
        assert_eq!((Hours::new(60, 60), Hours::new(1440, 0)), (None, None));
    }
}
