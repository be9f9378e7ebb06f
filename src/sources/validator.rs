//! What one mirror calls a version of a file: ETag and Last-Modified.
//!
//! Validators belong to a mirror, and more exactly to the host that answered: a redirector that
//! sends us to another host each time yields another ETag each time, for the same bytes. So the
//! host is kept where it is not the mirror's own, and ETags of different hosts are never compared.

use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED};
use std::time::{Duration, UNIX_EPOCH};

/// One mirror's name for a version of a file. Never compared across mirrors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Validator {
    /// The opaque part of the ETag, with its quotes, without `W/`.
    pub etag: Option<String>,
    /// Was it marked weak? Then equal tags do not promise equal bytes.
    pub weak: bool,
    /// Last-Modified, in seconds since 1970 UTC.
    pub last_modified: Option<i64>,
    /// The host (and port) that the mirror's redirects led to; `None` for the mirror itself.
    pub host: Option<String>,
}

impl Validator {
    /// Nothing is known of the version.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// As text to keep on disk; [`Validator::decode`] reads it.
    pub fn encode(&self) -> String {
        let etag = self.etag.as_deref().unwrap_or_default();
        let weak = if self.weak { "W/" } else { "" };
        let date = self.last_modified.map(|date| date.to_string()).unwrap_or_default();
        // Header values and hosts hold no line breaks.
        format!("{weak}{etag}\n{date}\n{}", self.host.as_deref().unwrap_or_default())
    }

    /// What [`Validator::encode`] wrote; `None` if it is something else.
    pub fn decode(text: &str) -> Option<Validator> {
        let mut lines = text.split('\n');
        let (etag, date, host) = (lines.next()?, lines.next()?, lines.next()?);
        if lines.next().is_some() {
            return None;
        }
        let (weak, etag) = match etag.strip_prefix("W/") {
            Some(etag) => (true, etag),
            None => (false, etag),
        };
        let last_modified = if date.is_empty() { None } else { Some(date.parse().ok()?) };
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some(Validator { etag: some(etag), weak, last_modified, host: some(host) })
    }

    /// From an answer's headers. `host` as in [`Validator::host`].
    pub(super) fn of_headers(headers: &HeaderMap, host: Option<&str>) -> Validator {
        let etag = headers.get(ETAG).and_then(|value| value.to_str().ok()).map(str::trim).unwrap_or_default();
        let (weak, etag) = match etag.strip_prefix("W/").or_else(|| etag.strip_prefix("w/")) {
            Some(etag) => (true, etag),
            None => (false, etag),
        };
        let etag = (!etag.is_empty()).then(|| etag.to_owned());
        Validator {
            weak: weak && etag.is_some(),
            etag,
            last_modified: headers.get(LAST_MODIFIED).and_then(|value| unix_of_http(value.to_str().ok()?)),
            host: host.map(str::to_owned),
        }
    }

    /// The header that makes a mirror answer 412 when it has another version, if any of the
    /// validators is one that `host` can judge: If-Match takes strong tags only.
    pub(super) fn condition(&self, host: Option<&str>) -> Option<(HeaderName, HeaderValue)> {
        if let Some(etag) = &self.etag
            && !self.weak
            && self.host.as_deref() == host
        {
            return Some((IF_MATCH, HeaderValue::from_str(etag).ok()?));
        }
        let date = Duration::from_secs(u64::try_from(self.last_modified?).ok()?);
        // A year over 9999 cannot be written as an HTTP date.
        let date = (date.as_secs() < 253_402_300_800).then(|| httpdate::fmt_http_date(UNIX_EPOCH + date))?;
        Some((IF_UNMODIFIED_SINCE, HeaderValue::from_str(&date).ok()?))
    }

    /// Do both name the same version? `None` where they have nothing in common to tell by.
    pub(super) fn same(&self, other: &Validator) -> Option<bool> {
        let tags = match (&self.etag, &other.etag) {
            (Some(mine), Some(theirs)) if self.host == other.host => Some(mine == theirs),
            _ => None,
        };
        let dates = match (self.last_modified, other.last_modified) {
            (Some(mine), Some(theirs)) => Some(mine == theirs),
            _ => None,
        };
        match (tags, dates) {
            // Equal strong tags promise equal bytes, whatever a balancer's other machine dates them.
            (Some(true), Some(false)) => Some(!self.weak && !other.weak),
            (Some(tags), _) => Some(tags),
            (None, dates) => dates,
        }
    }
}

/// An HTTP date in seconds since 1970.
pub(super) fn unix_of_http(text: &str) -> Option<i64> {
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(etag: &str, date: Option<i64>, host: Option<&str>) -> Validator {
        let mut headers = HeaderMap::new();
        if !etag.is_empty() {
            headers.insert(ETAG, etag.parse().unwrap());
        }
        Validator { last_modified: date, ..Validator::of_headers(&headers, host) }
    }

    #[test]
    fn the_condition_is_one_that_the_host_can_judge() {
        let name = |validator: &Validator, host| validator.condition(host).map(|(name, _)| name);
        assert_eq!(name(&of("\"a\"", Some(5), None), None), Some(IF_MATCH));
        assert_eq!(name(&of("W/\"a\"", Some(5), None), None), Some(IF_UNMODIFIED_SINCE));
        assert_eq!(name(&of("\"a\"", Some(5), Some("cdn")), None), Some(IF_UNMODIFIED_SINCE));
        assert_eq!(name(&of("\"a\"", None, Some("cdn")), None), None);
        assert_eq!(name(&of("\"a\"", None, Some("cdn")), Some("cdn")), Some(IF_MATCH));
        let (_, value) = of("", Some(784_111_777), None).condition(None).unwrap();
        assert_eq!(value, "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn sameness_is_only_told_by_what_is_comparable() {
        let table = [
            (of("\"a\"", None, None), of("\"a\"", None, None), Some(true)),
            (of("\"a\"", None, None), of("\"b\"", None, None), Some(false)),
            (of("\"a\"", Some(1), None), of("\"a\"", Some(2), None), Some(true)),
            (of("W/\"a\"", Some(1), None), of("\"a\"", Some(2), None), Some(false)),
            (of("\"a\"", Some(1), Some("x")), of("\"b\"", Some(1), Some("y")), Some(true)),
            (of("\"a\"", None, Some("x")), of("\"b\"", None, Some("y")), None),
            (of("", Some(1), None), of("", Some(2), None), Some(false)),
            (of("", None, None), of("\"a\"", Some(2), None), None),
        ];
        for (mine, theirs, wanted) in table {
            assert_eq!(mine.same(&theirs), wanted, "{mine:?} {theirs:?}");
            assert_eq!(theirs.same(&mine), wanted, "{theirs:?} {mine:?}");
        }
    }

    proptest! {
        #[test]
        fn kept_on_disk_it_stays_the_same(
            etag in proptest::option::of("\"[ -~]{0,20}\""),
            weak: bool,
            last_modified in proptest::option::of(any::<i64>()),
            host in proptest::option::of("[a-z.:0-9]{1,20}"),
        ) {
            let validator = Validator { weak: weak && etag.is_some(), etag, last_modified, host };
            prop_assert_eq!(Validator::decode(&validator.encode()), Some(validator));
        }

        #[test]
        fn nonsense_decodes_to_nothing_or_to_itself(text in ".*") {
            if let Some(validator) = Validator::decode(&text) {
                prop_assert_eq!(Validator::decode(&validator.encode()), Some(validator));
            }
        }
    }
}
