//! Why a mirror lost, in words: the terms in which it differs most from the winner.

use crate::control::human::plain;
use crate::control::report::RatedReport;
use std::collections::BTreeSet;

/// Terms that are named one by one; what the others count together is said too, so that it adds up.
const NAMED_MAX: usize = 3;

/// In which terms `loser` differs from `winner` and by how much, the most first. They add up to the difference
/// of the scores.
pub(super) fn differences<'a>(winner: &'a RatedReport, loser: &'a RatedReport) -> Vec<(&'a str, f64)> {
    let names: BTreeSet<&str> = winner.terms.keys().chain(loser.terms.keys()).map(String::as_str).collect();
    let of = |rated: &RatedReport, name: &str| rated.terms.get(name).copied().unwrap_or(0.0);
    let mut differences: Vec<_> = names.into_iter().map(|name| (name, of(loser, name) - of(winner, name))).collect();
    differences.sort_by(|(_, one), (_, other)| other.abs().total_cmp(&one.abs()));
    differences
}

/// `20 ms more queue, 5 ms less latency: 15 ms later`.
pub(super) fn why(winner: &RatedReport, loser: &RatedReport, unit: &str) -> String {
    let behind = loser.score - winner.score;
    if loser.terms.get("tier").is_some_and(|tier| *tier > 0.0) {
        return "tier: it is of a higher one, for what no mirror of a lower tier can do".to_owned();
    }
    match unit {
        "places" => format!("its turn comes {behind:.0} places later"),
        "lots" => format!("the lot fell {:.0} % of all weights away from it", behind * 100.0),
        _ => in_time(&differences(winner, loser), behind),
    }
}

fn in_time(differences: &[(&str, f64)], behind: f64) -> String {
    let shown: Vec<_> = differences.iter().filter(|(_, by)| !is_nothing(*by)).collect();
    let (named, rest) = shown.split_at(shown.len().min(NAMED_MAX));
    let mut parts: Vec<String> = named.iter().map(|(name, by)| format!("{} {}", more(*by), noun(name))).collect();
    let rest: f64 = rest.iter().map(|(_, by)| by).sum();
    if !is_nothing(rest) {
        parts.push(format!("{} in the rest", more(rest)));
    }
    let parts = parts.join(", ");
    match (parts.is_empty(), is_nothing(behind)) {
        (true, _) => "as good: equal mirrors have an order of their own in each mount".to_owned(),
        (false, true) => format!("{parts}: as good together"),
        (false, false) => format!("{parts}: {} later", millis(behind)),
    }
}

fn more(by: f64) -> String {
    format!("{} {}", millis(by.abs()), if by > 0.0 { "more" } else { "less" })
}

/// What a term is in a sentence.
fn noun(term: &str) -> String {
    match term {
        "doubt" => "doubt (little is known of it)".to_owned(),
        "trouble" => "for its failures of late".to_owned(),
        "weight" => "for its weight".to_owned(),
        "turn" => "for a first byte past the deadline".to_owned(),
        other => plain(other),
    }
}

/// Less than what is shown.
fn is_nothing(millis: f64) -> bool {
    millis.abs() < 0.05
}

/// `15 ms`, `2.4 ms`, `1000.2 s`.
pub(super) fn millis(millis: f64) -> String {
    match millis {
        10_000.0.. => format!("{:.1} s", millis / 1e3),
        100.0.. => format!("{millis:.0} ms"),
        _ => format!("{millis:.1} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rated(terms: &[(&str, f64)]) -> RatedReport {
        RatedReport {
            score: terms.iter().map(|(_, by)| by).sum(),
            terms: terms.iter().map(|(name, by)| ((*name).to_owned(), *by)).collect(),
            ..RatedReport::default()
        }
    }

    #[test]
    fn a_higher_tier_is_the_reason_whatever_the_unit() {
        let (free, paid) = (rated(&[("latency", 15.0)]), rated(&[("latency", 1.0), ("tier", 1e8)]));
        for unit in ["ms", "places", "lots"] {
            assert!(why(&free, &paid, unit).starts_with("tier: "));
            assert!(!why(&paid, &free, unit).contains("tier: "));
        }
    }

    #[test]
    fn the_terms_that_differ_most_come_first() {
        let winner = rated(&[("latency", 15.0), ("queue", 0.0), ("transfer", 8.0)]);
        let loser = rated(&[("latency", 10.0), ("queue", 20.0), ("transfer", 8.0)]);
        assert_eq!(why(&winner, &loser, "ms"), "20.0 ms more queue, 5.0 ms less latency: 15.0 ms later");
        assert!(why(&winner, &winner, "ms").starts_with("as good"));
        let even = rated(&[("latency", 10.0), ("queue", 5.0), ("transfer", 8.0)]);
        assert_eq!(why(&winner, &even, "ms"), "5.0 ms less latency, 5.0 ms more queue: as good together");
    }

    #[test]
    fn what_is_not_named_is_in_the_rest() {
        let winner = rated(&[("latency", 1.0)]);
        let loser =
            rated(&[("latency", 2.0), ("queue", 40.0), ("transfer", 30.0), ("silence", 500.0), ("trouble", 2.0)]);
        assert_eq!(
            why(&winner, &loser, "ms"),
            "500 ms more silence, 40.0 ms more queue, 30.0 ms more transfer, 3.0 ms more in the rest: 573 ms later"
        );
        let late = rated(&[("latency", 1.0), ("turn", 1e6)]);
        assert_eq!(why(&winner, &late, "ms"), "1000.0 s more for a first byte past the deadline: 1000.0 s later");
    }

    #[test]
    fn turns_and_lots_are_no_times() {
        let at = |score| RatedReport { score, ..rated(&[("turn", score)]) };
        assert_eq!(why(&at(0.0), &at(2.0), "places"), "its turn comes 2 places later");
        assert_eq!(why(&at(0.0), &at(0.25), "lots"), "the lot fell 25 % of all weights away from it");
    }

    /// The numbers of a sentence in ms, those of what is less below 0.
    fn numbers(sentence: &str) -> Vec<f64> {
        let words: Vec<&str> = sentence.split_whitespace().collect();
        let number = |at: usize| {
            let number: f64 = words[at].parse().ok()?;
            let unit = if words[at + 1] == "s" { 1e3 } else { 1.0 };
            Some(number * unit * if words[at + 2] == "less" { -1.0 } else { 1.0 })
        };
        (0..words.len().saturating_sub(2)).filter_map(number).collect()
    }

    proptest! {
        #[test]
        fn the_terms_add_up_to_the_difference_of_the_scores(
            winner in proptest::array::uniform8(0.0..2000.0f64), loser in proptest::array::uniform8(0.0..2000.0f64),
        ) {
            let names = ["latency", "queue", "transfer", "silence", "trouble", "doubt", "weight", "turn"];
            let terms = |values: [f64; 8]| names.into_iter().zip(values).collect::<Vec<_>>();
            let (winner, loser) = (rated(&terms(winner)), rated(&terms(loser)));
            let sum: f64 = differences(&winner, &loser).iter().map(|(_, by)| by).sum();
            prop_assert!((sum - (loser.score - winner.score)).abs() < 1e-6);
            // And so do those of the sentence, as far as they are rounded.
            let sentence = why(&winner, &loser, "ms");
            let said = numbers(&sentence);
            let (total, parts) = said.split_last().unwrap();
            prop_assert!((parts.iter().sum::<f64>() - total).abs() < 250.0, "{}", sentence);
        }
    }
}
