//! Dates and sizes as index pages write them beside a link.

use super::{Modified, Precision, Size};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// What the text behind a link says: `02-Jan-2024 03:04   12345` (nginx), `2024-01-02 03:04  1.2M`
/// (Apache), `2024-Jan-02 03:04:05  1.2K` (lighttpd).
pub fn read(text: &str) -> (Option<Modified>, Size) {
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let Some(date) = date(word) else { continue };
        let Some((time, precision)) = words.peek().and_then(|word| time(word)) else { continue };
        words.next();
        let Some(unix_s) = unix_s(date.to_datetime(time)) else { continue };
        let size = words.next().map_or(Size::Unknown, |word| size(word, words.peek().copied()));
        return (Some(Modified { unix_s, precision }), size);
    }
    (None, Size::Unknown)
}

/// `2024-01-02T03:04:05Z`, as in `<time datetime>` and in Caddy's JSON.
pub fn timestamp(text: &str) -> Option<Modified> {
    let at: jiff::Timestamp = text.trim().parse().ok()?;
    let unix_s = i64::try_from(at.as_nanosecond().div_euclid(1_000_000_000)).ok()?;
    Some(Modified { unix_s, precision: Precision::Second })
}

/// `02-Jan-2024`, `2024-Jan-02` or `2024-01-02`.
fn date(word: &str) -> Option<Date> {
    let mut fields = word.split('-');
    let (first, month, last) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    let (year, day) = if first.len() == 4 { (first, last) } else { (last, first) };
    if year.len() != 4 || day.is_empty() || day.len() > 2 {
        return None;
    }
    let month = match MONTHS.iter().position(|name| month.eq_ignore_ascii_case(name)) {
        Some(at) => at as i8 + 1,
        None => month.parse().ok()?,
    };
    Date::new(year.parse().ok()?, month, day.parse().ok()?).ok()
}

/// `03:04` or `03:04:05`.
fn time(word: &str) -> Option<(Time, Precision)> {
    let mut fields = word.split(':');
    let (hour, minute) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let (second, precision) = match fields.next() {
        Some(second) => (second.parse().ok()?, Precision::Second),
        None => (0, Precision::Minute),
    };
    if fields.next().is_some() {
        return None;
    }
    Some((Time::new(hour, minute, second, 0).ok()?, precision))
}

fn unix_s(at: DateTime) -> Option<i64> {
    Some(TimeZone::UTC.to_timestamp(at).ok()?.as_second())
}

/// A number alone is exact (nginx; Apache below 1 KiB); with a unit it is rounded.
fn size(word: &str, next: Option<&str>) -> Size {
    let number_end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let (number, unit) = word.split_at(number_end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return Size::Unknown;
    }
    let unit = match (unit, next) {
        ("", Some(next)) if is_unit(next) => next,
        (unit, _) => unit,
    };
    match (unit, number.parse()) {
        ("" | "B" | "bytes", Ok(bytes)) => Size::Exact(bytes),
        (unit, _) if is_unit(unit) => Size::Rounded,
        _ => Size::Unknown,
    }
}

fn is_unit(word: &str) -> bool {
    if matches!(word, "B" | "bytes") {
        return true;
    }
    let mut letters = word.chars();
    let scale = letters.next().is_some_and(|letter| "kKMGTPE".contains(letter));
    scale && matches!(letters.as_str(), "" | "B" | "iB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_row_is_understood() {
        let minute = |unix_s| Some(Modified { unix_s, precision: Precision::Minute });
        let second = |unix_s| Some(Modified { unix_s, precision: Precision::Second });
        let table = [
            ("   02-Jan-2024 03:04             1234567", minute(1_704_164_640), Size::Exact(1_234_567)),
            (" 02-Jan-2024 03:04      1M", minute(1_704_164_640), Size::Rounded),
            (" 02-Jan-2024 03:04       -", minute(1_704_164_640), Size::Unknown),
            (" \t2024-01-02 03:04  \t1.2M\t\u{a0}", minute(1_704_164_640), Size::Rounded),
            ("2024-01-02 03:04  123   A description of 5 bytes", minute(1_704_164_640), Size::Exact(123)),
            ("\t2024-Jan-02 03:04:05\t0.0K\tapplication/x", second(1_704_164_645), Size::Rounded),
            ("\t2024-Jan-02 03:04:05\t- \u{a0}\tDirectory", second(1_704_164_645), Size::Unknown),
            ("1969-12-31 23:59 7", minute(-60), Size::Exact(7)),
            ("2024-01-02 03:04 12 KiB", minute(1_704_164_640), Size::Rounded),
            ("2024-01-02 03:04 12 B", minute(1_704_164_640), Size::Exact(12)),
            ("2024-01-02 03:04 1.5", minute(1_704_164_640), Size::Unknown),
            ("2024-01-02 03:04 99999999999999999999999", minute(1_704_164_640), Size::Unknown),
            ("2024-02-30 03:04 12", None, Size::Unknown),
            ("2024-01-02 25:04 12", None, Size::Unknown),
            ("2024-01-02", None, Size::Unknown),
            ("-", None, Size::Unknown),
            ("", None, Size::Unknown),
        ];
        for (text, modified, size) in table {
            assert_eq!(read(text), (modified, size), "{text:?}");
        }
        assert_eq!(timestamp("2024-01-02T03:04:05Z"), second(1_704_164_645));
        assert_eq!(timestamp("2024-01-02T03:04:05.999999999+00:00"), second(1_704_164_645));
        assert_eq!(timestamp("1969-12-31T23:59:59.5Z"), second(-1));
        assert_eq!(timestamp("yesterday"), None);
    }
}
