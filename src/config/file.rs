//! The configuration file: TOML, options at the top, one `[[mirror]]` table per mirror and `[[rule]]` tables
//! for parts of the tree.
//!
//! Every error says file, line and column, shows the line, and names what would have been right.

use super::duration::Length;
use super::options::Given;
use super::rate::Rate;
use super::source::MirrorUrl;
use reqwest::header::{HeaderName, HeaderValue};
use serde::de::{self, Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// Bytes of a file at most: a thousand mirrors with headers are far below it, and a data file given
/// by mistake is refused before it fills the memory.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Columns of a faulty line that an error shows.
const SHOWN_COLUMNS_MAX: usize = 160;

/// Words in a line that may hold a secret: its texts are starred out where the line is shown.
const SECRET_WORDS: &[&str] = &["header", "auth", "cookie", "token", "key", "secret", "password"];

/// Headers that braidfs sets itself on every request: another value would make answers wrong.
const OWN_HEADERS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "transfer-encoding",
    "user-agent",
];

/// One `[[mirror]]` table.
#[derive(serde::Deserialize, schemars::JsonSchema, Clone, Debug)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MirrorTable {
    /// The base URL.
    #[schemars(with = "String")]
    pub url: Spanned<MirrorUrl>,
    /// Headers to send with every request to this mirror.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    pub headers: Headers,
    /// The User-Agent to send instead of braidfs's own.
    #[schemars(with = "Option<String>")]
    pub user_agent: Option<HeaderText>,
    /// PEM file of certificate authorities to believe for this mirror, besides the system's.
    #[schemars(with = "Option<String>")]
    pub ca_file: Option<Spanned<PathBuf>>,
    /// How long a connection to it may take to be made.
    #[schemars(with = "Option<String>")]
    pub connect_timeout: Option<Length>,
    /// Offer HTTP/2 over TLS: all requests share one connection.
    pub http2: Option<bool>,
    /// How much it is to be used beside the others, for the strategies that go by it.
    #[schemars(with = "Option<f64>")]
    pub weight: Option<Spanned<f64>>,
    /// Lower ones are asked first: 0 to 9.
    #[schemars(with = "Option<u8>")]
    pub tier: Option<Spanned<i64>>,
    /// What it is asked for at most.
    #[schemars(with = "Option<String>")]
    pub rate_limit: Option<Spanned<Rate>>,
}

/// Headers, name (lower case) to value. Their values are secrets: `Debug` leaves them out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub BTreeMap<String, String>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, "…"))).finish()
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Headers, D::Error> {
        let mut headers = BTreeMap::new();
        // serde's own words would quote the value, which is a secret.
        let written = BTreeMap::<String, String>::deserialize(deserializer)
            .map_err(|_| de::Error::custom("headers are a table of texts: headers = { NAME = \"VALUE\" }"))?;
        for (name, value) in written {
            let value = HeaderText::check(value).map_err(de::Error::custom)?;
            let lower = name.to_ascii_lowercase();
            if HeaderName::from_bytes(lower.as_bytes()).is_err() {
                return Err(de::Error::custom(format!("{name:?} is not the name of a header")));
            }
            if lower == "user-agent" {
                return Err(de::Error::custom("write the User-Agent as its own key: user-agent = \"…\""));
            }
            if OWN_HEADERS.contains(&lower.as_str()) {
                return Err(de::Error::custom(format!("braidfs sets the header {name:?} itself; leave it out")));
            }
            headers.insert(lower, value.0);
        }
        Ok(Headers(headers))
    }
}

/// Text that can be the value of a header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderText(pub String);

impl HeaderText {
    fn check(text: String) -> Result<HeaderText, &'static str> {
        match HeaderValue::from_str(&text) {
            Ok(_) => Ok(HeaderText(text)),
            Err(_) => Err("the value of a header has no control characters and no line breaks"),
        }
    }
}

impl<'de> Deserialize<'de> for HeaderText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HeaderText, D::Error> {
        HeaderText::check(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Too large to be one.
    #[error("{} is larger than 4 MiB, so it is no configuration file", .0.display())]
    TooLarge(PathBuf),
    /// Something in it is wrong.
    #[error("{0}")]
    Wrong(Wrong),
}

/// What is wrong in a file, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// The file.
    pub path: PathBuf,
    /// Its line, from 1; 0 where the whole file is meant.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters are meant, at least 1.
    pub width: usize,
    /// The line itself.
    pub text: String,
    /// What is wrong, and the way out.
    pub message: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}: {}", self.path.display(), self.message);
        }
        writeln!(f, "{}:{}:{}: {}", self.path.display(), self.line, self.column, self.message)?;
        let number = self.line.to_string();
        writeln!(f, " {number} | {}", self.text)?;
        let indent = " ".repeat(number.len() + 2 + self.column);
        write!(f, "{indent} {}", "^".repeat(self.width)).map(|()| ())
    }
}

/// A file as read: what it gives, and its text for errors found later.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it gives.
    pub given: Given,
    text: String,
}

impl ConfigFile {
    /// Read and check `path`.
    pub fn read(path: &Path) -> Result<ConfigFile, FileError> {
        ConfigFile::parse(path, read_text(path)?).map_err(FileError::Wrong)
    }

    /// Check `text` as the contents of `path`.
    pub fn parse(path: &Path, text: String) -> Result<ConfigFile, Wrong> {
        match toml::from_str::<Given>(&text) {
            Ok(given) => Ok(ConfigFile { path: path.to_owned(), given, text }),
            Err(error) => {
                let message = with_nearest(error.message());
                Err(wrong_at(path, &text, error.span().unwrap_or(0..0), message))
            }
        }
    }

    /// A hash of what was in it.
    pub fn digest(&self) -> blake3::Hash {
        blake3::hash(self.text.as_bytes())
    }

    /// An error about the bytes `span` of it.
    pub fn wrong(&self, span: Range<usize>, message: String) -> FileError {
        FileError::Wrong(wrong_at(&self.path, &self.text, span, message))
    }
}

/// The text of a file that a person wrote.
pub(super) fn read_text(path: &Path) -> Result<String, FileError> {
    let unreadable = |error| FileError::Unreadable { path: path.to_owned(), error };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        FileError::Wrong(wrong_at(path, &before, before.len()..before.len(), "it is not UTF-8 text".into()))
    })
}

pub(super) fn wrong_at(path: &Path, text: &str, span: Range<usize>, message: String) -> Wrong {
    let start = char_start(text, span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let line_text = text[line_start..line_end].trim_end_matches('\r');
    let end = char_start(text, span.end.clamp(start, line_end.max(start)));
    let column = text[line_start..start].chars().count() + 1;
    let shown: String =
        without_secrets(line_text).chars().take(SHOWN_COLUMNS_MAX).map(|c| if c == '\t' { ' ' } else { c }).collect();
    Wrong {
        path: path.to_owned(),
        line: text[..line_start].matches('\n').count() + 1,
        column,
        width: text[start..end].chars().count().clamp(1, SHOWN_COLUMNS_MAX.saturating_sub(column).max(1)),
        text: shown,
        message,
    }
}

/// `line` with stars for the letters of passwords in URLs, and of all texts where one may be a secret.
fn without_secrets(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let hides_all = SECRET_WORDS.iter().any(|word| lower.contains(word));
    let mut quote = None;
    let mut shown = String::with_capacity(line.len());
    for letter in line.chars() {
        match quote {
            None if matches!(letter, '"' | '\'') => quote = Some(letter),
            Some(open) if letter == open => quote = None,
            Some(_) if hides_all => {
                shown.push('*');
                continue;
            }
            _ => {}
        }
        shown.push(letter);
    }
    let credentials = shown.split_once("://").and_then(|(before, rest)| {
        let authority = rest.split(['/', '"', '\'']).next().unwrap_or_default();
        authority.rfind('@').map(|at| before.len() + 3..before.len() + 3 + at)
    });
    match credentials {
        Some(range) => {
            let stars = "*".repeat(shown[range.clone()].chars().count());
            shown.replace_range(range, &stars);
            shown
        }
        None => shown,
    }
}

/// `at`, moved back to where a character starts.
fn char_start(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// serde's words for an unknown key, with the nearest known one in front of the list.
pub(super) fn with_nearest(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return message.replace("missing field", "missing key").replace("duplicate field", "duplicate key");
    };
    let mut quoted = rest.split('`').step_by(2);
    let unknown = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.filter(|name| !name.is_empty()).collect();
    let nearest =
        nearest(unknown, known.iter().copied()).map_or(String::new(), |name| format!(", did you mean {name:?}?"));
    format!("unknown key {unknown:?}{nearest} (known: {})", known.join(", "))
}

/// The name that `typed` is most probably a slip of.
pub(super) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The measure and the bound that clap uses for its own suggestions.
    let scored = known.map(|name| (strsim::jaro(typed, name), name)).filter(|(score, _)| *score > 0.7);
    scored.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
