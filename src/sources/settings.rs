//! How to reach one mirror: plain data, checked before anything is opened.

use super::failure::redacted;
use reqwest::header::{HeaderName, HeaderValue};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// A mirror across the world on a bad line answers a SYN within 3 s; twice lost is 7 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers that say what is being asked for. Braidfs sets them itself; another value would make
/// answers that look right and are not.
const OWN_HEADERS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// How to reach one mirror. `Debug` shows no credentials.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// The folder that holds the dataset. Its path ends with a slash. A user and password in it
    /// become basic authentication; a query goes along with every request.
    pub url: Url,
    /// Sent to this mirror's own host only, never to one that it redirects to.
    pub headers: Vec<(String, String)>,
    /// Instead of `braidfs/VERSION`.
    pub user_agent: Option<String>,
    /// Name lookup, TCP and TLS together. Default 10 s.
    pub connect_timeout: Duration,
    /// Certificate authorities to trust besides the machine's, as PEM.
    pub ca_file: Option<PathBuf>,
    /// Whether requests go through a proxy.
    pub proxy: Proxy,
    /// Offer HTTP/2 over TLS. Off by default: one HTTP/2 connection carries everything to a host,
    /// so one lost packet stalls every fetch, and bulk ranges are faster and cheaper over several HTTP/1.1
    /// connections. Over a long line small reads gain a few percent (`tests/bench/compare 'idea: HTTP/2, 20 ms'`).
    pub http2: bool,
    /// A connection serves one request after another. Off only to measure what that is worth.
    pub keeps_connections: bool,
    /// A new TLS connection goes on with the session of an earlier one. Off only to measure what that is worth.
    pub resumes_tls: bool,
}

/// Whether requests go through a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// As `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say; never for loopback addresses.
    #[default]
    Environment,
    /// Never.
    Off,
    /// Through this one, always.
    Through(Url),
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Settings")
            .field("url", &redacted(&self.url))
            .field("headers", &headers)
            .field("user_agent", &self.user_agent)
            .field("connect_timeout", &self.connect_timeout)
            .field("ca_file", &self.ca_file)
            .field("http2", &self.http2)
            .finish_non_exhaustive()
    }
}

/// Why a mirror cannot be used as it was written. Each message names what was written (without
/// credentials) and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum BadSource {
    /// No `http://` in front.
    #[error("{0}: an address begins with http:// or https:// (write https://{0} ?)")]
    NoScheme(String),
    /// A scheme that is not spoken.
    #[error("{address}: {scheme}:// is not supported; a mirror is reached by http:// or https://")]
    Scheme {
        /// As written.
        address: String,
        /// What it begins with.
        scheme: String,
    },
    /// Not an address.
    #[error("{address}: not an address: {why}")]
    Address {
        /// As written.
        address: String,
        /// What the parser says.
        why: String,
    },
    /// A header that cannot be sent.
    #[error("{url}: the header {name:?} {why}")]
    Header {
        /// Of which mirror.
        url: String,
        /// Its name. Values are never shown.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A value that cannot be meant.
    #[error("{url}: {what}")]
    Value {
        /// Of which mirror.
        url: String,
        /// What is wrong and what would be right.
        what: &'static str,
    },
    /// A file of certificate authorities that cannot be used.
    #[error("{url}: ca_file {}: {why}", path.display())]
    CaFile {
        /// Of which mirror.
        url: String,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS or the connector could not be set up.
    #[error("{url}: cannot set up the HTTP client: {why}")]
    Client {
        /// Of which mirror.
        url: String,
        /// What the library says.
        why: String,
    },
}

impl Settings {
    /// A mirror by its address alone, with the defaults for the rest.
    ///
    /// # Errors
    /// No scheme, another scheme than http and https, or no address at all.
    pub fn parse(address: &str) -> Result<Settings, BadSource> {
        let address = address.trim();
        let shown = without_user(address);
        // "localhost:8080/data" would parse, with the scheme "localhost".
        let Some((scheme, _)) = address.split_once("://") else {
            return Err(BadSource::NoScheme(shown));
        };
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Err(BadSource::Scheme { address: shown, scheme });
        }
        let mut url =
            Url::parse(address).map_err(|error| BadSource::Address { address: shown, why: error.to_string() })?;
        url.set_fragment(None);
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Settings {
            url,
            headers: Vec::new(),
            user_agent: None,
            connect_timeout: CONNECT_TIMEOUT,
            ca_file: None,
            proxy: Proxy::default(),
            http2: false,
            keeps_connections: true,
            resumes_tls: true,
        })
    }

    /// Can these be used together? Reads no file; [`super::Source::new`] reads `ca_file`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), BadSource> {
        let url = redacted(&self.url);
        if !matches!(self.url.scheme(), "http" | "https") {
            return Err(BadSource::Scheme { address: url, scheme: self.url.scheme().into() });
        }
        if !self.url.path().ends_with('/') {
            return Err(BadSource::Value { url, what: "the address of a folder ends with a slash" });
        }
        if self.connect_timeout.is_zero() {
            return Err(BadSource::Value { url, what: "connect_timeout must be more than 0 s" });
        }
        if self.user_agent.as_ref().is_some_and(|agent| HeaderValue::from_str(agent).is_err()) {
            return Err(BadSource::Value { url, what: "user_agent holds characters that a header cannot hold" });
        }
        for (name, value) in &self.headers {
            let bad = |why| BadSource::Header { url: url.clone(), name: name.clone(), why };
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(bad("has a name that a header cannot have"));
            }
            if HeaderValue::from_str(value).is_err() {
                return Err(bad("has a value that a header cannot hold"));
            }
            if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(bad("is set by braidfs itself (user_agent has a setting of its own)"));
            }
        }
        Ok(())
    }
}

/// What was typed, without `user:password@`, for messages about addresses that do not parse.
fn without_user(address: &str) -> String {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..host_end].rfind('@') {
        Some(at) => format!("{scheme}{}", &rest[at + 1..]),
        None => format!("{scheme}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gets_its_slash_and_keeps_its_query() {
        assert_eq!(Settings::parse("http://h/data").unwrap().url.as_str(), "http://h/data/");
        assert_eq!(Settings::parse(" https://h ").unwrap().url.as_str(), "https://h/");
        assert_eq!(Settings::parse("https://h/a?sv=1#top").unwrap().url.as_str(), "https://h/a/?sv=1");
        assert_eq!(Settings::parse("http://[::1]:8080/x/").unwrap().url.as_str(), "http://[::1]:8080/x/");
    }

    #[test]
    fn what_cannot_be_an_address_says_what_to_write() {
        let table = [
            ("mirror.example/data", "https://mirror.example/data ?"),
            ("localhost:8080/x", "https://localhost:8080/x ?"),
            ("ftp://h/x", "ftp:// is not supported"),
            ("http://", "not an address"),
            ("http://me:pw@h:port/", "http://h:port/: not an address"),
        ];
        for (address, wanted) in table {
            let message = Settings::parse(address).unwrap_err().to_string();
            assert!(message.contains(wanted), "{address}: {message}");
            assert!(!message.contains("pw"), "{message}");
        }
    }

    #[test]
    fn headers_are_checked_and_their_values_never_shown() {
        let mut settings = Settings::parse("https://me:secret@h/").unwrap();
        settings.headers = vec![("Cookie".into(), "secret".into())];
        settings.validate().unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
        for (name, value) in [("Range", "secret"), ("a b", "secret"), ("X", "secret\nmore")] {
            settings.headers = vec![(name.into(), value.into())];
            let message = settings.validate().unwrap_err().to_string();
            assert!(message.contains(&format!("{name:?}")) && !message.contains("secret"), "{message}");
        }
    }
}
