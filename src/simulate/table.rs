//! Outcomes as tables in Markdown.

use super::outcome::Outcome;
use std::fmt::Write;

/// Scenarios by strategies: a row each.
pub(super) fn scenarios(rows: &[Outcome]) -> String {
    let mut text = String::from(
        "| scenario | strategy | share of the ideal | of the best alone | longest wait ms | waits over 300 ms | \
         P50 / P99 ms | waste % | requests | probes |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for outcome in rows {
        // It was not run on when it took four times as long.
        let best = match outcome.share_of_best_alone {
            share if share > 3.99 => "> 4".to_owned(),
            share => format!("{share:.3}"),
        };
        let trouble = match (outcome.finished, outcome.errors) {
            (false, _) => " not finished",
            (true, 0) => "",
            (true, _) => " with errors",
        };
        let _ = writeln!(
            text,
            "| {} | {} | {:.3}{trouble} | {best} | {:.0} | {} | {:.1} / {:.1} | {:.2} | {} | {} |",
            outcome.scenario,
            outcome.strategy,
            outcome.share_of_ideal,
            outcome.longest_wait_ms,
            outcome.pauses,
            outcome.wait_p50_ms,
            outcome.wait_p99_ms,
            outcome.waste * 100.0,
            outcome.requests,
            outcome.probes
        );
    }
    text
}

/// One line of Markdown, or of plain text with the same cells.
pub(super) fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// A head of Markdown.
pub(super) fn head(names: &[&str]) -> String {
    format!("| {} |\n|{}\n", names.join(" | "), "---|".repeat(names.len()))
}
