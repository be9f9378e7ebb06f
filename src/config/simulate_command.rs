//! The command line of `braidfs simulate`, and what it asks for.

use crate::scheduler::Strategy;
use crate::simulate::command::{Format, Request, What};
use crate::simulate::{detection, random};
use clap::Args;
use std::path::PathBuf;

/// `braidfs simulate`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "A scenario is a TOML file with [[mirror]] and [[reader]] tables; docs/scheduler.md says \
                        what they take.\nExit codes: 0 simulated, 1 a file is wrong, 2 wrong usage.")]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false))]
pub struct SimulateCommand {
    /// Files that describe mirrors, what happens to them, and readers
    #[arg(value_name = "SCENARIO.toml", group = "what")]
    pub scenarios: Vec<PathBuf>,
    /// So many random scenarios instead, from the seed on
    #[arg(long, value_name = "COUNT", group = "what")]
    pub random: Option<u64>,
    /// The random scenario of the seed instead, by itself
    #[arg(long, group = "what")]
    pub one_random: bool,
    /// How well faults are noticed: so many faults, and as many healthy hours
    #[arg(long, value_name = "COUNT", group = "what", num_args = 0..=1, default_missing_value = "1000")]
    pub detection: Option<u64>,
    /// What a decision costs, by mirrors and fetches in flight
    #[arg(long, group = "what")]
    pub cost: bool,
    /// How mirrors are chosen: round-robin, weighted-random, response-time-first, adaptive or predicted; may be given
    /// several times [default: each of them]
    #[arg(long, value_name = "NAME")]
    pub strategy: Vec<Strategy>,
    /// Where all chance comes from [default: the scenario's, or 1]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
    /// Print tables in Markdown
    #[arg(long, conflicts_with = "json")]
    pub table: bool,
}

impl SimulateCommand {
    /// What is to be simulated.
    ///
    /// # Errors
    /// The first scenario file that is wrong.
    pub fn request(&self) -> Result<Request, super::file::FileError> {
        let what = match (self.random, self.detection) {
            (Some(count), _) => What::Random(count),
            (_, Some(count)) => What::Detection(count, detection::HOUR),
            _ if self.cost => What::Cost,
            _ if self.one_random => What::Scenarios(vec![random::scenario(self.seed.unwrap_or(1))]),
            _ => What::Scenarios(
                self.scenarios.iter().map(|path| super::scenario::read(path)).collect::<Result<_, _>>()?,
            ),
        };
        let format = match (self.json, self.table) {
            (true, _) => Format::Json,
            (_, true) => Format::Table,
            _ => Format::Text,
        };
        Ok(Request { what, strategies: self.strategy.clone(), seed: self.seed, format })
    }
}
