//! Sizes as people write them: `10GiB`, `10G`, `512 MiB`, `1.5TB`, plain bytes.
//!
//! `K M G T P` alone are binary, as in coreutils (`10G` is `10GiB`); `KB MB GB TB PB` are decimal.
//! All of it in whole numbers: a parser by way of `f64` would change the bytes of large sizes.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

/// Text that is no size: the input, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{input:?} is not a size: {why}; write 10GiB, 512MiB, 1.5TB or a plain number of bytes")]
pub struct BadSize {
    input: String,
    why: &'static str,
}

/// Suffix and its bytes, as printed; the first letter alone stands for the binary one.
const UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("PiB", 1 << 50),
    ("PB", 1_000_000_000_000_000),
];

/// Digits after the point that are read. More of them cannot change a byte of any unit above.
const FRACTION_DIGITS_MAX: usize = 18;

impl FromStr for Size {
    type Err = BadSize;

    fn from_str(input: &str) -> Result<Size, BadSize> {
        let bad = |why| BadSize { input: input.to_owned(), why };
        let text = input.trim();
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if text.starts_with('-') {
            return Err(bad("it is negative"));
        }
        let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(number_end);
        let unit = unit_bytes(suffix.trim()).ok_or_else(|| match suffix.trim_start().as_bytes().first() {
            Some(b',') => bad("a comma is in it, and only a point parts the digits"),
            _ if number.is_empty() => bad("it does not start with a number"),
            _ => bad("its unit is unknown (K, M, G, T, P, KiB to PiB or KB to PB)"),
        })?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') {
            return Err(bad("it has two points"));
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(bad("it does not start with a number"));
        }
        if unit == 1 && fraction.bytes().any(|digit| digit != b'0') {
            return Err(bad("bytes come whole"));
        }
        bytes_of(whole, fraction, unit).map(Size).ok_or_else(|| bad("it is more than 16 EiB"))
    }
}

impl fmt::Display for Size {
    /// The shortest text that reads back as the same number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().filter(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes));
        match exact.min_by_key(|(_, bytes)| self.0 / bytes) {
            Some((suffix, bytes)) => write!(f, "{}{suffix}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        struct TextOrBytes;
        impl Visitor<'_> for TextOrBytes {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"10GiB\" or a number of bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes)
                    .map(Size)
                    .map_err(|_| E::custom(format!("a size is not negative, but this is {bytes}")))
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }
        }
        deserializer.deserialize_any(TextOrBytes)
    }
}

fn unit_bytes(suffix: &str) -> Option<u64> {
    if suffix.is_empty() || suffix.eq_ignore_ascii_case("b") || suffix.eq_ignore_ascii_case("bytes") {
        return Some(1);
    }
    let named = UNITS.iter().find(|(name, _)| {
        name.eq_ignore_ascii_case(suffix)
            || name.len() == 3 && suffix.len() == 1 && name[..1].eq_ignore_ascii_case(suffix)
    });
    named.map(|(_, bytes)| *bytes)
}

fn bytes_of(whole: &str, fraction: &str, unit: u64) -> Option<u64> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let parts: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let of_unit = parts * u128::from(unit) / 10u128.pow(fraction.len() as u32);
    u64::try_from(u128::from(whole) * u128::from(unit) + of_unit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("10GiB", 10 << 30),
            ("10G", 10 << 30),
            ("10 g", 10 << 30),
            ("512 MiB", 512 << 20),
            (" 64m ", 64 << 20),
            ("1.5TB", 1_500_000_000_000),
            ("1.5K", 1536),
            (".5k", 512),
            ("100kb", 100_000),
            ("7B", 7),
            ("16383PiB", 16383 << 50),
            ("9007199254740993", 9_007_199_254_740_993),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn bad_sizes_are_named_with_the_reason() {
        for (text, why) in [
            ("", "it is empty"),
            ("  ", "it is empty"),
            ("-1G", "it is negative"),
            ("lots", "it does not start with a number"),
            ("GiB", "it does not start with a number"),
            (".", "it does not start with a number"),
            ("10 Gibi", "its unit is unknown"),
            ("10X", "its unit is unknown"),
            ("1,5G", "a comma is in it"),
            ("1.2.3G", "it has two points"),
            ("1.5", "bytes come whole"),
            ("16384PiB", "it is more than 16 EiB"),
            ("99999999999999999999", "it is more than 16 EiB"),
            ("10é", "its unit is unknown"),
        ] {
            let error = text.parse::<Size>().expect_err(text).to_string();
            assert!(error.starts_with(&format!("{text:?} is not a size: {why}")), "{error}");
            assert!(error.ends_with("write 10GiB, 512MiB, 1.5TB or a plain number of bytes"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn display_reads_back_as_the_same(bytes in any::<u64>(), shift in 0u32..60) {
            let size = Size(bytes >> shift << (shift / 2));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}") {
            let _ = text.parse::<Size>();
        }
    }

    #[test]
    fn display_is_the_shortest_exact_one() {
        assert_eq!(Size(10 << 30).to_string(), "10GiB");
        assert_eq!(Size(1_500_000_000_000).to_string(), "1500GB");
        assert_eq!(Size(4097).to_string(), "4097");
        assert_eq!(Size(0).to_string(), "0");
    }
}
