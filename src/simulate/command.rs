//! `braidfs simulate`: what is asked for, run and told. Reading files and printing is the caller's.

use super::outcome::Outcome;
use super::scenario::Scenario;
use super::{cost, detection, random, report, table};
use crate::scheduler::Strategy;
use serde::Serialize;
use std::time::Duration;

/// What is simulated.
#[derive(Clone, Debug)]
pub enum What {
    /// These scenarios.
    Scenarios(Vec<Scenario>),
    /// So many random ones.
    Random(u64),
    /// So many faults and healthy hours of this length.
    Detection(u64, Duration),
    /// What decisions cost.
    Cost,
}

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    Text,
    /// One JSON value a line.
    Json,
    /// Markdown.
    Table,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// What.
    pub what: What,
    /// By which strategies; none: by all.
    pub strategies: Vec<Strategy>,
    /// Where chance comes from; nothing: from the scenario, or 1.
    pub seed: Option<u64>,
    /// How.
    pub format: Format,
}

/// Run it. `now_ns` is a clock for what decisions cost; `out` is told line by line.
pub fn run(request: &Request, now_ns: &mut dyn FnMut() -> u64, out: &mut dyn FnMut(&str)) {
    let mut strategies = request.strategies.clone();
    if strategies.is_empty() {
        strategies = Strategy::ALL.to_vec();
    }
    let seed = request.seed.unwrap_or(1);
    match &request.what {
        What::Scenarios(scenarios) => run_scenarios(request, scenarios, &strategies, out),
        What::Random(count) => {
            let summaries: Vec<_> = strategies.iter().flat_map(|&strategy| summaries(strategy, *count, seed)).collect();
            tell(request.format, &summaries, random::table, out);
        }
        What::Detection(count, hour) => {
            let judged: Vec<_> =
                strategies.iter().flat_map(|&strategy| detection::judge(strategy, *count, seed, *hour)).collect();
            tell(request.format, &judged, detection::table, out);
        }
        What::Cost => {
            let mut costs = Vec::new();
            for &strategy in &strategies {
                costs.extend(cost::measure_all(strategy, now_ns));
            }
            tell(request.format, &costs, cost::table, out);
        }
    }
}

fn run_scenarios(request: &Request, scenarios: &[Scenario], strategies: &[Strategy], out: &mut dyn FnMut(&str)) {
    let mut rows = Vec::new();
    for scenario in scenarios {
        let seed = request.seed.unwrap_or(scenario.seed);
        for &strategy in strategies {
            let outcome = Outcome::beside_alone(scenario, strategy, seed);
            match request.format {
                Format::Text => out(&report::text(&outcome)),
                Format::Json => out(&json(&outcome)),
                Format::Table => rows.push(outcome),
            }
        }
    }
    if request.format == Format::Table {
        out(&table::scenarios(&rows));
    }
}

fn summaries(strategy: Strategy, count: u64, seed: u64) -> Vec<random::Summary> {
    let (mut streams, mut others) = (Vec::new(), Vec::new());
    for at in 0..count {
        let scenario = random::scenario(seed + at);
        let outcome = Outcome::beside_alone(&scenario, strategy, scenario.seed);
        if random::streams(&scenario) { &mut streams } else { &mut others }.push(outcome);
    }
    let all = [("streams", streams), ("single reads", others)];
    all.iter().map(|(kind, outcomes)| random::summary(strategy, kind, outcomes)).collect()
}

fn tell<T: Serialize>(format: Format, all: &[T], table: fn(&[T]) -> String, out: &mut dyn FnMut(&str)) {
    match format {
        Format::Json => all.iter().for_each(|one| out(&json(one))),
        Format::Text | Format::Table => out(&table(all)),
    }
}

fn json<T: Serialize>(value: &T) -> String {
    // Plain data with names for keys: it cannot fail; and if it did, the text says why.
    serde_json::to_string(value).unwrap_or_else(|error| error.to_string()) + "\n"
}
