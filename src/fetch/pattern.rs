//! Patterns of paths (`2024/**/*.parquet`), held against what listings show.

use crate::fetch::rules::path_glob;
use globset::GlobMatcher;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A pattern, with the same meaning as that of a `[[rule]]`: `*` within a name, `**` over folders.
pub(in crate::fetch) struct Pattern {
    whole: GlobMatcher,
    /// What the names of the first folders must match, as far as that is told name by name.
    names: Vec<GlobMatcher>,
    /// No path with more names matches.
    names_max: Option<usize>,
}

impl Pattern {
    /// Is there anything in it that stands for other letters?
    pub(in crate::fetch) fn is_one(text: &[u8]) -> bool {
        text.iter().any(|letter| b"*?[{".contains(letter))
    }

    /// From its text.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub(in crate::fetch) fn new(text: &[u8]) -> Result<Pattern, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is no UTF-8".to_owned())?;
        let whole = path_glob(text).map_err(|error| error.kind().to_string())?.compile_matcher();
        let names = text.split('/').take_while(|name| stands_alone(name));
        let names = names.map_while(|name| path_glob(name).ok()).map(|glob| glob.compile_matcher()).collect();
        // A / within braces only makes it more than needed.
        let names_max = (!text.contains("**")).then(|| text.split('/').count());
        Ok(Pattern { whole, names, names_max })
    }

    /// Does this path match?
    pub(in crate::fetch) fn matches(&self, path: &[u8]) -> bool {
        self.whole.is_match(OsStr::from_bytes(path))
    }

    /// May anything in this folder match? Each folder that may not is one listing less.
    pub(in crate::fetch) fn may_match_below(&self, folder: &[u8]) -> bool {
        let names = || folder.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        let fits = names().zip(&self.names).all(|(name, glob)| glob.is_match(OsStr::from_bytes(name)));
        fits && self.names_max.is_none_or(|max| names().count() < max)
    }
}

/// Does this part of a pattern, between two /, say all about one name?
fn stands_alone(part: &str) -> bool {
    let count = |letter| part.matches(letter).count();
    !part.contains("**") && !part.contains('\\') && count('{') == count('}') && count('[') == count(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_rules() {
        for (pattern, path, wanted) in [
            ("2024/*.bin", "2024/a.bin", true),
            ("2024/*.bin", "2024/x/a.bin", false),
            ("2024/**/*.bin", "2024/a.bin", true),
            ("2024/**/*.bin", "2024/x/y/a.bin", true),
            ("**", "a", true),
            ("{a,b/c}/?.[xy]", "b/c/1.y", true),
            ("{a,b/c}/?.[xy]", "b/1.y", false),
            ("a\\*", "a*", true),
        ] {
            assert_eq!(Pattern::new(pattern.as_bytes()).unwrap().matches(path.as_bytes()), wanted, "{pattern} {path}");
        }
        assert!(Pattern::new(b"**").unwrap().matches(b"\xff"));
        assert_eq!(Pattern::new(b"a[").err().unwrap(), "unclosed character class; missing ']'");
        assert_eq!(Pattern::new(b"\xff*").err().unwrap(), "it is no UTF-8");
        assert!(Pattern::is_one(b"a*") && !Pattern::is_one(b"a b,c!"));
    }

    #[test]
    fn folders_in_which_nothing_can_match_are_not_looked_through() {
        for (pattern, folder, wanted) in [
            ("2024-*/x/*.bin", "", true),
            ("2024-*/x/*.bin", "2024-01", true),
            ("2024-*/x/*.bin", "2023-01", false),
            ("2024-*/x/*.bin", "2024-01/x", true),
            ("2024-*/x/*.bin", "2024-01/y", false),
            ("2024-*/x/*.bin", "2024-01/x/deeper", false),
            ("a/**/b*", "c", false),
            ("a/**/b*", "a/1/2/3", true),
            ("{a,b/c}/d", "b", true),
            ("{a,b/c}/d", "b/c", true),
            ("a[/]b/*", "a", true),
        ] {
            let seen = Pattern::new(pattern.as_bytes()).unwrap().may_match_below(folder.as_bytes());
            assert_eq!(seen, wanted, "{pattern} {folder}");
        }
    }
}
