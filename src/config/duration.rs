//! Durations as people write them: `30s`, `500ms`, `10min`, `1h30m`.
//!
//! Read and printed by jiff's "friendly" format, behind our own error texts.

use jiff::fmt::friendly::{Designator, SpanParser, SpanPrinter};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

static PARSER: SpanParser = SpanParser::new();
static PRINTER: SpanPrinter = SpanPrinter::new().designator(Designator::Compact);

/// Longer numbers overflow 64 bits of seconds; for the error text only, jiff does the check.
const LONGEST_NUMBER_DIGITS: usize = 18;

/// A length of time, to the nanosecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Length(pub Duration);

/// Text that is no duration: the input, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{input:?} is not a duration: {why}; write 30s, 500ms, 10min or 1h30m")]
pub struct BadLength {
    input: String,
    why: &'static str,
}

impl FromStr for Length {
    type Err = BadLength;

    fn from_str(input: &str) -> Result<Length, BadLength> {
        let text = input.trim();
        match PARSER.parse_unsigned_duration(text) {
            Ok(length) => Ok(Length(length)),
            Err(_) => Err(BadLength { input: input.to_owned(), why: why_not(text) }),
        }
    }
}

impl fmt::Display for Length {
    /// Reads back as the same length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&PRINTER.unsigned_duration_to_string(&self.0).replace(' ', ""))
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Length, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Length;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as \"30s\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Length, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

fn why_not(text: &str) -> &'static str {
    let is_number = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    match text.as_bytes().first() {
        None => "it is empty",
        Some(b'-') => "it is negative",
        _ if text.ends_with(" ago") => "it is negative",
        _ if is_number => "its unit is missing",
        Some(c) if !c.is_ascii_digit() => "it does not start with a number",
        _ if text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > LONGEST_NUMBER_DIGITS) => {
            "it is too long"
        }
        _ => "its unit is unknown (ms, s, min and h, of which hours are the largest)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, millis) in [
            ("30s", 30_000),
            ("500ms", 500),
            ("10min", 600_000),
            ("10m", 600_000),
            ("10 minutes", 600_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            (" 1.5s ", 1_500),
            ("0s", 0),
        ] {
            assert_eq!(text.parse(), Ok(Length(Duration::from_millis(millis))), "{text}");
        }
    }

    #[test]
    fn bad_durations_are_named_with_the_reason() {
        for (text, why) in [
            ("", "it is empty"),
            ("-5s", "it is negative"),
            ("5s ago", "it is negative"),
            ("30", "its unit is missing"),
            ("1.5", "its unit is missing"),
            ("soon", "it does not start with a number"),
            ("10 parsecs", "its unit is unknown"),
            ("3d", "its unit is unknown"),
            ("99999999999999999999s", "it is too long"),
        ] {
            let error = text.parse::<Length>().expect_err(text).to_string();
            assert!(error.starts_with(&format!("{text:?} is not a duration: {why}")), "{error}");
            assert!(error.ends_with("write 30s, 500ms, 10min or 1h30m"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn display_reads_back_as_the_same(nanos in 0u64..1 << 62) {
            let length = Length(Duration::from_nanos(nanos));
            prop_assert_eq!(length.to_string().parse(), Ok(length));
        }
    }

    #[test]
    fn display_is_what_people_write() {
        assert_eq!("90min".parse::<Length>().unwrap().to_string(), "1h30m");
        assert_eq!("1500ms".parse::<Length>().unwrap().to_string(), "1s500ms");
    }
}
