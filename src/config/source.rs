//! A SOURCE: the base URL of a mirror, or a TOML file that lists mirrors.

use serde::de::{self, Deserialize, Deserializer};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use url::Url;

/// Bytes of a base URL at most. Real ones are short; each request carries it.
const URL_BYTES_MAX: usize = 2048;

/// The base URL of a mirror: http or https, a host, a path that ends with `/`, no query.
#[derive(Clone, PartialEq, Eq)]
pub struct MirrorUrl(pub Url);

impl fmt::Debug for MirrorUrl {
    /// As shown to people: plans and options are logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

/// Text that is no base URL of a mirror: the input, and the way out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{input:?} is not a mirror's URL: {why}")]
pub struct BadUrl {
    input: String,
    why: String,
}

impl MirrorUrl {
    /// As shown to people: without user and password.
    pub fn shown(&self) -> String {
        without_credentials(&self.0).to_string()
    }
}

/// `url` without user and password, for logs, errors and names.
pub fn without_credentials(url: &Url) -> Url {
    let mut shown = url.clone();
    // Both fail only for URLs without a host, which hold no credentials.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown
}

impl FromStr for MirrorUrl {
    type Err = BadUrl;

    fn from_str(input: &str) -> Result<MirrorUrl, BadUrl> {
        let bad = |why: String| BadUrl { input: hidden(input), why };
        let text = input.trim();
        if text.len() > URL_BYTES_MAX {
            return Err(bad(format!("it is longer than {URL_BYTES_MAX} bytes")));
        }
        if !text.contains("://") {
            return Err(bad(format!("it has no scheme; write https://{}", hidden(text))));
        }
        let mut url = Url::parse(text).map_err(|error| bad(format!("{error}; write https://HOST/FOLDER/")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad(format!("braidfs speaks http and https, not {}", url.scheme())));
        }
        if url.query().is_some() {
            return Err(bad(
                "it has a query (?...), which the files below it would lose; give the folder's own URL".into()
            ));
        }
        url.set_fragment(None);
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(MirrorUrl(url))
    }
}

impl<'de> Deserialize<'de> for MirrorUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MirrorUrl, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What a SOURCE on the command line is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The base URL of a mirror.
    Mirror(MirrorUrl),
    /// A configuration file.
    File(PathBuf),
}

/// A SOURCE that is neither: the input, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum BadSource {
    /// It has a scheme and is no URL of a mirror.
    #[error(transparent)]
    Url(#[from] BadUrl),
    /// It has no scheme, and no file has that name.
    #[error(
        "SOURCE {0:?} is no file, and has no scheme to be a URL: write https://{0} for a mirror, or the path of a TOML file"
    )]
    NoScheme(String),
    /// A path to a file that does not exist.
    #[error("SOURCE {}: no such file; give a TOML file with [[mirror]] tables, or a mirror's URL such as https://HOST/FOLDER/", .0.display())]
    NoFile(PathBuf),
    /// A folder.
    #[error("SOURCE {} is a folder; give a mirror's URL such as https://HOST/FOLDER/, or a TOML file", .0.display())]
    Folder(PathBuf),
}

/// Tell a URL from a file. `cwd` is what a relative path is relative to.
pub fn read_source(typed: &OsStr, cwd: &Path) -> Result<Source, BadSource> {
    let path = cwd.join(typed);
    let text = typed.to_str();
    if let Some(text) = text
        && text.contains("://")
    {
        return Ok(Source::Mirror(text.parse()?));
    }
    match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => Err(BadSource::Folder(path)),
        Ok(_) => Ok(Source::File(path)),
        Err(_) => match text {
            Some(text) if !looks_like_a_path(text) => Err(BadSource::NoScheme(hidden(text))),
            _ => Err(BadSource::NoFile(path)),
        },
    }
}

/// A path rather than `host/folder` without its scheme.
fn looks_like_a_path(text: &str) -> bool {
    text.starts_with(['/', '.', '~']) || text.ends_with(".toml")
}

/// The input as an error may show it: a password typed into a URL stays out of logs.
fn hidden(input: &str) -> String {
    let authority = input.split_once("://").map_or(input, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((credentials, _)) => input.replacen(&format!("{credentials}@"), "", 1),
        None => input.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_end_with_a_slash_and_lose_the_fragment() {
        for (text, url) in [
            ("https://example.org", "https://example.org/"),
            ("https://example.org/data", "https://example.org/data/"),
            (" http://[::1]:8080/a%20b/#top ", "http://[::1]:8080/a%20b/"),
            ("HTTPS://Example.org/data/", "https://example.org/data/"),
        ] {
            assert_eq!(text.parse::<MirrorUrl>().unwrap().0.as_str(), url);
        }
    }

    #[test]
    fn bad_urls_are_named_with_the_way_out() {
        for (text, said) in [
            ("example.org/data", "it has no scheme; write https://example.org/data"),
            ("ftp://example.org/", "braidfs speaks http and https, not ftp"),
            ("file:///etc", "braidfs speaks http and https, not file"),
            ("https://", "empty host; write https://HOST/FOLDER/"),
            ("https://exa mple.org/", "write https://HOST/FOLDER/"),
            ("https://example.org:99999/", "invalid port number"),
            ("https://example.org/?list=1", "it has a query"),
        ] {
            let error = text.parse::<MirrorUrl>().expect_err(text).to_string();
            assert!(error.starts_with(&format!("{text:?} is not a mirror's URL: ")), "{error}");
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_password_is_in_no_error_and_in_nothing_shown() {
        let url: MirrorUrl = "https://joe:s3cret@example.org/data".parse().unwrap();
        assert_eq!(url.shown(), "https://example.org/data/");
        assert!(!format!("{url:?}").contains("s3cret"));
        assert_eq!(url.0.password(), Some("s3cret"));
        let without_scheme =
            read_source(OsStr::new("joe:s3cret@example.org/x"), Path::new("/")).expect_err("no scheme");
        assert!(!without_scheme.to_string().contains("s3cret"), "{without_scheme}");
        for text in ["ftp://joe:s3cret@example.org/", "joe:s3cret@example.org/x", "https://joe:s3cret@example.org/?a"] {
            let error = text.parse::<MirrorUrl>().expect_err(text).to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_source_is_a_url_or_an_existing_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("dataset.toml"), "").unwrap();
        let read = |typed: &str| read_source(OsStr::new(typed), folder.path());
        assert_eq!(read("dataset.toml").unwrap(), Source::File(folder.path().join("dataset.toml")));
        assert!(matches!(read("https://example.org").unwrap(), Source::Mirror(_)));
        for (typed, said) in [
            (
                "example.org/data",
                "SOURCE \"example.org/data\" is no file, and has no scheme to be a URL: write https://example.org/data ",
            ),
            ("missing.toml", "missing.toml: no such file"),
            ("/nowhere/x", "SOURCE /nowhere/x: no such file"),
            (".", "is a folder"),
            ("ftp://example.org", "not ftp"),
        ] {
            let error = read(typed).expect_err(typed).to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
