//! Why a mirror did not give what was asked for: a kind to decide by, and a sentence for people.

use crate::clock;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

/// The longest time that a mirror may ask us to stay away. Some answer "tomorrow" when they mean
/// "not so fast"; an hour later it is worth one more request to find out.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// One request that did not work out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// A sentence that names the address (without credentials and query) and what was wrong.
    pub why: String,
}

/// What a failure means for the mirror, the file and the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection, reset, name not found, TLS failure, 5xx: try elsewhere, and here later.
    Unreachable,
    /// 429 or 503: stay away for so long, where the mirror said how long (at most an hour).
    Throttled {
        /// How long.
        retry_after: Option<Duration>,
    },
    /// 404 or 410: this mirror has no such file or folder.
    Missing,
    /// This mirror has another version of the file.
    Changed,
    /// The same, under the same size, of this date; its index says another.
    Redated {
        /// In seconds since 1970.
        unix_s: i64,
    },
    /// It answered with something that is not what was asked for. The mirror is to blame.
    Corrupt,
    /// 401, 403 or another refusal, or a redirect that is not followed.
    Refused,
    /// It serves whole files only. Not a fault.
    NoRanges,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// `url` did `what` ("answered 404"). `what` continues a sentence that begins with the address.
    pub(super) fn new(kind: FailureKind, url: &Url, what: impl fmt::Display) -> Failure {
        Failure { kind, why: format!("{} {what}", redacted(url)) }
    }

    /// The connection to `url` failed or broke: the deepest cause is the one that helps.
    pub(super) fn of_transport(url: &Url, error: reqwest::Error) -> Failure {
        let error = error.without_url();
        Failure::new(FailureKind::Unreachable, url, format!("cannot be reached: {}", cause(&error)))
    }
}

/// The address without user, password, query and fragment: fit for logs and for `status`.
pub(super) fn redacted(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}://{host}{port}{}{query}", url.scheme(), url.path())
}

/// The innermost error of a chain, with what a person can do about it where that is known.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    let text = deepest.to_string();
    let lower = text.to_lowercase();
    if error.is_timeout() {
        return "no connection within the connect timeout".into();
    }
    if lower.contains("unknownissuer") || lower.contains("unknown issuer") {
        return format!(
            "{text} (is its certificate authority known here? Install ca-certificates, or name it as ca_file)"
        );
    }
    if lower.contains("lookup address") || lower.contains("name or service not known") {
        return format!("its name was not found ({text})");
    }
    text
}

/// What a status that is neither success nor redirect means; `None` for the others.
pub(super) fn of_status(status: StatusCode, headers: &HeaderMap) -> Option<(FailureKind, String)> {
    let kind = match status.as_u16() {
        404 | 410 => FailureKind::Missing,
        412 => FailureKind::Changed,
        408 => FailureKind::Unreachable,
        429 | 503 => FailureKind::Throttled { retry_after: retry_after(headers) },
        // 416 is judged where the range is known.
        416 => return None,
        400..=499 => FailureKind::Refused,
        500..=599 => FailureKind::Unreachable,
        _ => return None,
    };
    let wait = match kind {
        FailureKind::Throttled { retry_after: Some(wait) } => format!(", retry after {} s", wait.as_secs()),
        _ => String::new(),
    };
    let version = if kind == FailureKind::Changed { " (it has another version of the file)" } else { "" };
    Some((kind, format!("answered {}{wait}{version}", named(status))))
}

/// `404 Not Found`.
pub(super) fn named(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// Seconds, or an HTTP date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
            date.saturating_sub(Duration::from_secs(clock::unix_seconds().max(0) as u64))
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, retry: Option<&str>) -> Option<FailureKind> {
        let mut headers = HeaderMap::new();
        if let Some(retry) = retry {
            headers.insert(RETRY_AFTER, retry.parse().unwrap());
        }
        of_status(StatusCode::from_u16(status).unwrap(), &headers).map(|(kind, _)| kind)
    }

    #[test]
    fn statuses_fall_into_kinds() {
        use FailureKind::*;
        let table = [
            (404, Missing),
            (410, Missing),
            (401, Refused),
            (403, Refused),
            (407, Refused),
            (400, Refused),
            (412, Changed),
            (500, Unreachable),
            (502, Unreachable),
            (408, Unreachable),
            (503, Throttled { retry_after: None }),
            (429, Throttled { retry_after: None }),
        ];
        for (status, wanted) in table {
            assert_eq!(kind(status, None), Some(wanted), "{status}");
        }
        for status in [200, 206, 204, 302, 304, 416] {
            assert_eq!(kind(status, None), None, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let wait = |text| match kind(429, Some(text)) {
            Some(FailureKind::Throttled { retry_after }) => retry_after,
            other => panic!("{other:?}"),
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("99999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("Fri, 31 Dec 9999 23:59:59 GMT"), Some(RETRY_AFTER_MAX));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let url = Url::parse("https://me:secret@[2001:db8::1]:8443/a%20b?sig=topsecret#x").unwrap();
        assert_eq!(redacted(&url), "https://[2001:db8::1]:8443/a%20b?…");
    }
}
