//! Numbers and tables as people read them.

use indicatif::{BinaryBytes, HumanDuration};
use std::time::Duration;

/// `1.20 GiB`.
pub fn bytes(count: u64) -> String {
    BinaryBytes(count).to_string()
}

/// `12.3 MiB/s`.
pub fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", BinaryBytes(bytes_per_second.max(0.0) as u64))
}

/// `350 ms`, `12.5 s`, `3 minutes`.
pub fn length(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{:.1} s", millis as f64 / 1e3),
        _ => HumanDuration(Duration::from_millis(millis)).to_string(),
    }
}

/// Text that came from elsewhere, without what would steer a terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// Columns below their heads, two blanks between, none at the end of a line. Columns in `right` are
/// set to the right, as numbers are.
pub fn table<const N: usize>(head: [&str; N], right: [bool; N], rows: &[[String; N]]) -> String {
    lines(&head, &right, rows)
}

/// The same where the number of columns is found out late.
pub fn lines<R: AsRef<[String]>>(head: &[&str], right: &[bool], rows: &[R]) -> String {
    let letters = |text: &str| text.chars().count();
    let width = |at: usize| rows.iter().map(|row| letters(&row.as_ref()[at])).chain([letters(head[at])]).max();
    let widths: Vec<usize> = (0..head.len()).map(|at| width(at).unwrap_or(0)).collect();
    let line = |cell: &dyn Fn(usize) -> String| {
        let set = (0..head.len()).map(|at| match right[at] {
            true => format!("{:>1$}", cell(at), widths[at]),
            false => format!("{:<1$}", cell(at), widths[at]),
        });
        format!("{}\n", set.collect::<Vec<_>>().join("  ").trim_end())
    };
    let body = rows.iter().map(|row| line(&|at| row.as_ref()[at].clone()));
    std::iter::once(line(&|at| head[at].to_owned())).chain(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let rows = [["é".to_owned(), "1".to_owned()], ["long".to_owned(), "100".to_owned()]];
        assert_eq!(table(["A", "B"], [false, true], &rows), "A       B\né       1\nlong  100\n");
    }

    #[test]
    fn numbers_have_units() {
        assert_eq!(bytes(1 << 30), "1.00 GiB");
        assert_eq!(rate(1_048_576.0), "1.00 MiB/s");
        assert_eq!(rate(f64::NAN), "0 B/s");
        assert_eq!((length(5), length(1_500), length(180_000)), ("5 ms".into(), "1.5 s".into(), "3 minutes".into()));
        assert_eq!(plain("a\x1b[31mb"), "a\u{fffd}[31mb");
    }
}
