//! One outcome as text for a person: the figures, and who brought how much over time.

use super::outcome::Outcome;
use std::fmt::Write;

/// Columns of the chart at most; a longer run has several seconds in each.
const COLUMNS_MAX: usize = 60;
/// Rows of the chart at most: the mirrors that brought the most.
const ROWS_MAX: usize = 16;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The figures of a run.
pub(super) fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    let end = if outcome.finished { "" } else { " (NOT FINISHED)" };
    line(&mut text, &format!("{} · {} · seed {}{end}", outcome.scenario, outcome.strategy, outcome.seed), "");
    let (seconds, ideal) = (outcome.seconds, outcome.ideal_seconds);
    line(
        &mut text,
        "  share of the ideal",
        &format!("{:.3}  ({seconds:.2} s, ideal {ideal:.2} s)", outcome.share_of_ideal),
    );
    let best = format!(
        "{:.3}  (mirror {} takes {:.2} s)",
        outcome.share_of_best_alone, outcome.best_mirror, outcome.best_alone_seconds
    );
    line(&mut text, "  of the best mirror alone", &best);
    let waits = format!(
        "longest {:.0} ms, {} over 300 ms; P50 {:.1} ms, P99 {:.1} ms of {} waits in {} reads",
        outcome.longest_wait_ms, outcome.pauses, outcome.wait_p50_ms, outcome.wait_p99_ms, outcome.waits, outcome.reads
    );
    line(&mut text, "  pauses", &waits);
    let bytes = format!(
        "{:.2} %  ({:.1} MB received, {:.1} MB wanted)",
        outcome.waste * 100.0,
        outcome.wire_bytes as f64 / 1e6,
        outcome.wanted_bytes as f64 / 1e6
    );
    line(&mut text, "  waste", &bytes);
    let requests = format!("{}, probes {}, alerts {}", outcome.requests, outcome.probes, outcome.alerts);
    line(&mut text, "  requests", &requests);
    if outcome.errors > 0 {
        line(&mut text, "  READS THAT FAILED", &outcome.errors.to_string());
    }
    line(&mut text, "  trace", &outcome.trace);
    chart(&mut text, &outcome.bytes_by_second);
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = if value.is_empty() { writeln!(text, "{name}") } else { writeln!(text, "{name:26} {value}") };
}

/// A row for each mirror: its share of all bytes, column by column.
fn chart(text: &mut String, by_second: &[Vec<f64>]) {
    let seconds = by_second.iter().map(Vec::len).max().unwrap_or(0);
    let width = seconds.div_ceil(COLUMNS_MAX).max(1);
    let column = |row: &[f64], at: usize| -> f64 { row.iter().skip(at * width).take(width).sum() };
    let columns = seconds.div_ceil(width);
    let totals: Vec<f64> = (0..columns).map(|at| by_second.iter().map(|row| column(row, at)).sum()).collect();
    let all: f64 = totals.iter().sum();
    let mut order: Vec<usize> = (0..by_second.len()).collect();
    order.sort_by(|&one, &other| by_second[other].iter().sum::<f64>().total_cmp(&by_second[one].iter().sum()));
    let hidden = order.len().saturating_sub(ROWS_MAX);
    order.truncate(ROWS_MAX);
    order.sort_unstable();
    let _ = writeln!(text, "  share per mirror, {width} s a column");
    for mirror in order {
        let row = &by_second[mirror];
        let cells: String = (0..columns)
            .map(|at| match column(row, at) / totals[at].max(1.0) {
                share if share <= 0.001 => '·',
                share => LEVELS[((share * 8.0) as usize).min(7)],
            })
            .collect();
        let share = row.iter().fold(0.0, |sum, bytes| sum + bytes) / all.max(1.0);
        let _ = writeln!(text, "  {mirror:>5} {:>5.1} %  {cells}", share * 100.0);
    }
    if hidden > 0 {
        let _ = writeln!(text, "  and {hidden} more that brought less");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_has_a_row_for_each_mirror_and_a_column_for_each_second() {
        let mut text = String::new();
        chart(&mut text, &[vec![1.0, 0.0, 0.0], vec![0.0, 3.0, 4.0]]);
        assert!(text.contains("    0  12.5 %  █··\n") && text.contains("    1  87.5 %  ·██\n"), "{text}");
        let mut many = String::new();
        chart(&mut many, &vec![vec![1.0; 200]; 20]);
        assert!(many.contains("4 s a column") && many.contains("and 4 more"), "{many}");
        chart(&mut many, &[]);
    }
}
