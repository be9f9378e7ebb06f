//! Redirect targets that are remembered, and for how long.
//!
//! A redirector in front of signed addresses is the commonest real source: asking it again for
//! each range would double every latency, and many of them limit how often they are asked.

use super::validator::unix_of_http;
use crate::clock::{self, Time};
use moka::sync::Cache;
use reqwest::header::{CACHE_CONTROL, EXPIRES, HeaderMap};
use reqwest::{StatusCode, Url};
use std::time::Duration;

/// A chain longer than this is a loop. Browsers allow 20; real chains have 1 to 3.
pub(super) const HOPS_MAX: usize = 10;
/// A temporary redirect that says nothing of its lifetime. Long enough to read a large file at
/// the cost of few extra requests, short enough that a mirror taken out of rotation is left soon.
const TEMPORARY: Duration = Duration::from_secs(300);
/// One that must not be cached: the ranges of one download still go to one place, as in other
/// download programs, or each would pay for two requests.
const UNCACHEABLE: Duration = Duration::from_secs(30);
/// The longest that any is believed, permanent ones too: a day after a site moved back we follow.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Signed addresses are 500 to 1,500 bytes: some 2,000 files of a mirror.
const REMEMBERED_BYTES_MAX: u64 = 2 << 20;
/// An address longer than any that a signature needs is not worth keeping.
pub(super) const LOCATION_BYTES_MAX: usize = 16 << 10;

/// Where paths of one mirror are to be found, until when.
pub(super) struct Remembered {
    targets: Cache<String, Target>,
}

/// Where a path of the mirror is really served.
#[derive(Clone)]
pub(super) struct Target {
    pub url: Url,
    pub until: Time,
}

impl Remembered {
    pub fn new() -> Remembered {
        let weight = |from: &String, to: &Target| (from.len() + to.url.as_str().len() + 200) as u32;
        Remembered { targets: Cache::builder().max_capacity(REMEMBERED_BYTES_MAX).weigher(weight).build() }
    }

    pub fn get(&self, from: &Url) -> Option<Target> {
        let target = self.targets.get(from.as_str())?;
        if target.until <= clock::now() {
            self.forget(from);
            return None;
        }
        Some(target)
    }

    pub fn remember(&self, from: &Url, url: &Url, until: Time) {
        if until > clock::now() && url.as_str().len() <= LOCATION_BYTES_MAX {
            self.targets.insert(from.as_str().to_owned(), Target { url: url.clone(), until });
        }
    }

    pub fn forget(&self, from: &Url) {
        self.targets.invalidate(from.as_str());
    }

    pub fn forget_all(&self) {
        self.targets.invalidate_all();
    }
}

/// Is this a redirect that a GET follows?
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// For how long this redirect may be remembered.
pub(super) fn lifetime(status: StatusCode, headers: &HeaderMap) -> Duration {
    let permanent = matches!(status.as_u16(), 301 | 308);
    let control = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut age_max = None;
    for directive in control.flat_map(|value| value.split(',')).map(|directive| directive.trim().to_ascii_lowercase()) {
        if directive == "no-store" || directive.starts_with("no-cache") {
            return UNCACHEABLE;
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            age_max = seconds.trim_matches('"').parse().ok().map(Duration::from_secs);
        }
    }
    let expires = headers.get(EXPIRES).map(|value| {
        // "Expires: 0" and other nonsense mean "expired" (RFC 9111, 5.3).
        let at = value.to_str().ok().and_then(unix_of_http).unwrap_or(0);
        Duration::from_secs(at.saturating_sub(clock::unix_seconds()).max(0) as u64)
    });
    let default = if permanent { LIFETIME_MAX } else { TEMPORARY };
    age_max.or(expires).unwrap_or(default).clamp(UNCACHEABLE, LIFETIME_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers = &'static [(&'static str, &'static str)];

    #[test]
    fn lifetimes_follow_the_headers() {
        let table: [(u16, Headers, Duration); 8] = [
            (302, &[], TEMPORARY),
            (301, &[], LIFETIME_MAX),
            (302, &[("cache-control", "public, max-age=600")], Duration::from_secs(600)),
            (301, &[("cache-control", "max-age=60"), ("expires", "0")], Duration::from_secs(60)),
            (302, &[("cache-control", "max-age=999999999")], LIFETIME_MAX),
            (302, &[("cache-control", "private, no-store")], UNCACHEABLE),
            (307, &[("expires", "Sun, 06 Nov 1994 08:49:37 GMT")], UNCACHEABLE),
            (308, &[("cache-control", "max-age=0")], UNCACHEABLE),
        ];
        for (status, headers, wanted) in table {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            assert_eq!(lifetime(StatusCode::from_u16(status).unwrap(), &headers), wanted, "{status} {headers:?}");
        }
    }

    #[test]
    fn a_target_is_forgotten_when_its_time_is_over() {
        let remembered = Remembered::new();
        let (from, to) = (Url::parse("http://a/x").unwrap(), Url::parse("http://b/x").unwrap());
        remembered.remember(&from, &to, clock::now() + Duration::from_secs(60));
        assert_eq!(remembered.get(&from).unwrap().url, to);
        remembered.forget(&from);
        assert!(remembered.get(&from).is_none());
        remembered.remember(&from, &to, clock::now());
        assert!(remembered.get(&from).is_none());
    }
}
