//! Is this answer exactly what was asked for? A pure function over status and headers.

use super::failure::{FailureKind, named, of_status};
use super::validator::Validator;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap};
use std::ops::Range;

/// Which bytes of a file to ask for.
#[derive(Clone, Debug)]
pub struct RangeAsk<'a> {
    /// The file, as `/`-joined raw bytes below the mirror's folder.
    pub path: &'a [u8],
    /// Which bytes; not empty.
    pub bytes: Range<u64>,
    /// How many bytes the file has in all.
    pub size_bytes: u64,
    /// What this mirror called this version when it was last asked.
    pub validator: Option<&'a Validator>,
    /// Ask for the whole file without a range: the mirror does none. `bytes` does not matter then.
    pub whole: bool,
}

/// An answer that may become data: these bytes of the file follow.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Accepted {
    pub bytes: Range<u64>,
    pub validator: Validator,
}

type Verdict<T> = Result<T, (FailureKind, String)>;

/// Judge an answer by spec 7.1. `host` is who answered, as in [`Validator::host`].
pub(super) fn judge(
    ask: &RangeAsk<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    host: Option<&str>,
) -> Verdict<Accepted> {
    if let Some((kind, what)) = of_status(status, headers) {
        return Err((kind, what));
    }
    identity_encoding(headers)?;
    let validator = Validator::of_headers(headers, host);
    let same = ask.validator.and_then(|expected| expected.same(&validator));
    let bytes = match (status.as_u16(), ask.whole) {
        (206, false) => partial(ask, headers, same)?,
        (200, _) => full(ask, headers, same)?,
        (416, false) => return Err(unsatisfiable(ask, headers)),
        _ => return corrupt(format!("answered {} to a request for {}", named(status), asked(ask))),
    };
    if same == Some(false) {
        return changed("has another version of the file (its ETag or its date has changed)".into());
    }
    Ok(Accepted { bytes, validator })
}

/// Bytes under another encoding than identity are not the file's.
pub(super) fn identity_encoding(headers: &HeaderMap) -> Verdict<()> {
    let encodings = headers.get_all(CONTENT_ENCODING).iter();
    for encoding in encodings.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase()) {
        if !encoding.is_empty() && encoding != "identity" {
            return corrupt(format!("sends {encoding} where plain bytes were asked for"));
        }
    }
    Ok(())
}

/// What Content-Range says: first byte, last byte, total. `None`s where it says `*`.
#[derive(Debug, PartialEq)]
pub(super) struct ContentRange {
    pub bytes: Option<(u64, u64)>,
    pub total: Option<u64>,
}

pub(super) fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?.trim();
    let (unit, rest) = text.split_once(' ')?;
    let (bytes, total) = rest.trim().split_once('/')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let bytes = match bytes.trim() {
        "*" => None,
        pair => {
            let (first, last) = pair.split_once('-')?;
            Some((digits(first)?, digits(last)?))
        }
    };
    let total = match total.trim() {
        "*" => None,
        total => Some(digits(total)?),
    };
    Some(ContentRange { bytes, total })
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    digits(headers.get(CONTENT_LENGTH)?.to_str().ok()?)
}

pub(super) fn is_html(headers: &HeaderMap) -> bool {
    content_type(headers).is_some_and(|kind| kind == "text/html" || kind == "application/xhtml+xml")
}

/// The media type, lower case, without parameters.
pub(super) fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// `parse` alone would take a plus sign.
fn digits(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn partial(ask: &RangeAsk<'_>, headers: &HeaderMap, same: Option<bool>) -> Verdict<Range<u64>> {
    if content_type(headers).is_some_and(|kind| kind == "multipart/byteranges") {
        return corrupt("answered with several ranges where one was asked for".into());
    }
    let shown = || String::from_utf8_lossy(headers.get(CONTENT_RANGE).map_or(&b""[..], |value| value.as_bytes()));
    let (first, last, total) = match content_range(headers) {
        Some(ContentRange { bytes: Some((first, last)), total: Some(total) }) => (first, last, total),
        Some(ContentRange { total: None, .. }) => {
            return corrupt(format!("does not say how large the file is (Content-Range: {:?})", shown()));
        }
        _ if headers.contains_key(CONTENT_RANGE) => {
            return corrupt(format!("sends a Content-Range that says nothing: {:?}", shown()));
        }
        _ => return corrupt("answered 206 without a Content-Range".into()),
    };
    if total != ask.size_bytes {
        return Err(other_size(ask, total, same));
    }
    if first != ask.bytes.start || last.checked_add(1) != Some(ask.bytes.end) {
        return corrupt(format!("was asked for {} and sends bytes {first}-{last}", asked(ask)));
    }
    match content_length(headers) {
        Some(length) if length != ask.bytes.end - ask.bytes.start => {
            corrupt(format!("was asked for {} and sends {length} bytes", asked(ask)))
        }
        _ => Ok(ask.bytes.clone()),
    }
}

/// 200: the whole file, or an error page in its place.
fn full(ask: &RangeAsk<'_>, headers: &HeaderMap, same: Option<bool>) -> Verdict<Range<u64>> {
    match content_length(headers) {
        Some(length) if length == ask.size_bytes => {}
        Some(length) if is_html(headers) && same != Some(true) => {
            return corrupt(format!(
                "sends an HTML page of {length} bytes instead of the file of {} bytes (a login or error page?)",
                ask.size_bytes
            ));
        }
        Some(length) => return Err(other_size(ask, length, same)),
        None if is_html(headers) && same != Some(true) => {
            return corrupt("sends an HTML page of unknown length instead of the file (a login or error page?)".into());
        }
        None => {}
    }
    if ask.whole || ask.bytes == (0..ask.size_bytes) {
        return Ok(0..ask.size_bytes);
    }
    if same == Some(false) {
        return changed("has another version of the file (its ETag or its date has changed)".into());
    }
    Err((FailureKind::NoRanges, format!("serves whole files only: it answered 200 to a request for {}", asked(ask))))
}

/// Another size is another version, unless the mirror says that it is the same version.
fn other_size(ask: &RangeAsk<'_>, total: u64, same: Option<bool>) -> (FailureKind, String) {
    let sizes = format!("{total} bytes instead of {}", ask.size_bytes);
    match same {
        Some(true) => (FailureKind::Corrupt, format!("says that the same version of the file has {sizes}")),
        _ => (FailureKind::Changed, format!("has another version of the file: {sizes}")),
    }
}

fn unsatisfiable(ask: &RangeAsk<'_>, headers: &HeaderMap) -> (FailureKind, String) {
    match content_range(headers).and_then(|range| range.total) {
        Some(total) if total == ask.size_bytes => {
            (FailureKind::Corrupt, format!("answered 416 to a request for {} of {total} bytes", asked(ask)))
        }
        Some(total) => other_size(ask, total, None),
        None => (FailureKind::Changed, format!("has no {}: another version of the file", asked(ask))),
    }
}

fn asked(ask: &RangeAsk<'_>) -> String {
    match ask.whole {
        true => "the whole file".into(),
        false => format!("bytes {}-{}", ask.bytes.start, ask.bytes.end.saturating_sub(1)),
    }
}

fn corrupt<T>(what: String) -> Verdict<T> {
    Err((FailureKind::Corrupt, what))
}

fn changed<T>(what: String) -> Verdict<T> {
    Err((FailureKind::Changed, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn verdict(ask: &RangeAsk<'_>, status: u16, pairs: &[(&str, &str)]) -> Verdict<Accepted> {
        judge(ask, StatusCode::from_u16(status).unwrap(), &headers(pairs), None)
    }

    const PLAIN: RangeAsk<'static> =
        RangeAsk { path: b"a", bytes: 100..200, size_bytes: 1000, validator: None, whole: false };

    /// `None`: accepted. Otherwise the kind, and a word of the sentence.
    type Wanted = Option<(FailureKind, &'static str)>;
    type Headers<'a> = &'a [(&'a str, &'a str)];

    fn check(ask: &RangeAsk<'_>, table: &[(u16, Headers<'_>, Wanted)]) {
        for (status, pairs, wanted) in table {
            match (verdict(ask, *status, pairs), wanted) {
                (Ok(accepted), None) => {
                    let whole = ask.whole || *status == 200;
                    assert_eq!(accepted.bytes, if whole { 0..1000 } else { ask.bytes.clone() }, "{status} {pairs:?}");
                }
                (Err((kind, why)), Some((wanted, word))) => {
                    assert_eq!(kind, *wanted, "{status} {pairs:?}: {why}");
                    assert!(why.contains(word), "{status} {pairs:?}: {why:?} lacks {word:?}");
                }
                (got, wanted) => panic!("{status} {pairs:?}: {got:?}, wanted {wanted:?}"),
            }
        }
    }

    #[test]
    fn range_answers_are_accepted_only_when_exact() {
        use FailureKind::*;
        const RIGHT: (&str, &str) = ("content-range", "bytes 100-199/1000");
        check(
            &PLAIN,
            &[
                (206, &[RIGHT], None),
                (206, &[("content-range", "Bytes 100-199/1000"), ("content-encoding", "identity")], None),
                (206, &[RIGHT, ("content-length", "100"), ("content-type", "text/html")], None),
                (206, &[RIGHT, ("content-length", "99")], Some((Corrupt, "sends 99 bytes"))),
                (206, &[RIGHT, ("content-encoding", "gzip")], Some((Corrupt, "gzip"))),
                (206, &[RIGHT, ("content-type", "multipart/byteranges; boundary=x")], Some((Corrupt, "several"))),
                (206, &[], Some((Corrupt, "without a Content-Range"))),
                (206, &[("content-range", "bytes 100-199/*")], Some((Corrupt, "how large"))),
                (206, &[("content-range", "bytes */1000")], Some((Corrupt, "nothing"))),
                (206, &[("content-range", "pages 100-199/1000")], Some((Corrupt, "nothing"))),
                (206, &[("content-range", "bytes +100-199/1000")], Some((Corrupt, "nothing"))),
                (206, &[("content-range", "bytes 99999999999999999999-1/1000")], Some((Corrupt, "nothing"))),
                (206, &[("content-range", "bytes 0-99/1000")], Some((Corrupt, "sends bytes 0-99"))),
                (206, &[("content-range", "bytes 100-198/1000")], Some((Corrupt, "sends bytes 100-198"))),
                (206, &[("content-range", "bytes 100-200/1000")], Some((Corrupt, "sends bytes 100-200"))),
                (206, &[("content-range", "bytes 100-199/1001")], Some((Changed, "1001 bytes instead of 1000"))),
                (416, &[("content-range", "bytes */50")], Some((Changed, "50 bytes instead of 1000"))),
                (416, &[("content-range", "bytes */1000")], Some((Corrupt, "416"))),
                (416, &[], Some((Changed, "bytes 100-199"))),
                (200, &[("content-length", "1000")], Some((NoRanges, "whole files only"))),
                (200, &[], Some((NoRanges, "whole files only"))),
                (200, &[("content-length", "52"), ("content-type", "text/html")], Some((Corrupt, "login"))),
                (200, &[("content-type", "text/html; charset=utf-8")], Some((Corrupt, "login"))),
                (200, &[("content-length", "999")], Some((Changed, "999 bytes instead of 1000"))),
                (204, &[], Some((Corrupt, "204"))),
                (304, &[], Some((Corrupt, "304"))),
                (404, &[], Some((Missing, "404 Not Found"))),
                (503, &[], Some((Throttled { retry_after: None }, "503"))),
                (412, &[], Some((Changed, "412"))),
            ],
        );
    }

    #[test]
    fn the_version_must_be_the_expected_one() {
        use FailureKind::*;
        let expected =
            Validator { etag: Some("\"v1\"".into()), last_modified: Some(784_111_777), ..Validator::default() };
        const RIGHT: (&str, &str) = ("content-range", "bytes 100-199/1000");
        const OTHER_TOTAL: (&str, &str) = ("content-range", "bytes 100-199/1001");
        check(
            &RangeAsk { validator: Some(&expected), ..PLAIN },
            &[
                (206, &[RIGHT, ("etag", "\"v1\"")], None),
                (206, &[RIGHT], None),
                (206, &[RIGHT, ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], None),
                (206, &[RIGHT, ("etag", "\"v2\"")], Some((Changed, "another version"))),
                (206, &[RIGHT, ("last-modified", "Sun, 06 Nov 1994 08:49:38 GMT")], Some((Changed, "another version"))),
                (206, &[OTHER_TOTAL, ("etag", "\"v1\"")], Some((Corrupt, "the same version"))),
                (206, &[OTHER_TOTAL, ("etag", "\"v2\"")], Some((Changed, "1001"))),
                (200, &[("content-length", "1000"), ("etag", "\"v2\"")], Some((Changed, "another version"))),
                (200, &[("content-length", "1000"), ("etag", "\"v1\"")], Some((NoRanges, "whole"))),
                (200, &[("content-length", "7"), ("etag", "\"v1\"")], Some((Corrupt, "the same version"))),
            ],
        );
    }

    #[test]
    fn whole_files_are_accepted_by_their_length() {
        use FailureKind::*;
        for ask in [RangeAsk { whole: true, ..PLAIN }, RangeAsk { bytes: 0..1000, ..PLAIN }] {
            check(
                &ask,
                &[
                    (200, &[("content-length", "1000")], None),
                    (200, &[("content-length", "1000"), ("content-type", "text/html")], None),
                    (200, &[], None),
                    (200, &[("content-type", "text/html")], Some((Corrupt, "HTML"))),
                    (200, &[("content-length", "1001")], Some((Changed, "1001 bytes instead of 1000"))),
                    (200, &[("content-length", "1000"), ("content-encoding", "br")], Some((Corrupt, "br"))),
                ],
            );
        }
        let whole = RangeAsk { whole: true, ..PLAIN };
        check(&whole, &[(206, &[("content-range", "bytes 0-999/1000")], Some((Corrupt, "206")))]);
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_what_was_asked(
            status in prop::sample::select(vec![200u16, 206, 416]),
            first in 0u64..300, last in 0u64..300, total in 0u64..1100, length in 0u64..1100,
        ) {
            let (range, length) = (format!("bytes {first}-{last}/{total}"), length.to_string());
            let pairs = [("content-range", range.as_str()), ("content-length", length.as_str())];
            if let Ok(accepted) = verdict(&PLAIN, status, &pairs) {
                prop_assert_eq!((first, last + 1, total), (100, 200, 1000));
                prop_assert_eq!(accepted.bytes, 100..200);
            }
        }
    }
}
