//! The command line of `braidfs ab`.

use super::duration::Length;
use crate::control::experiment::{AbAsked, ExperimentAsked};
use crate::scheduler::experiment::{Plan, Shares};
use clap::Args;
use std::path::PathBuf;

/// `braidfs ab`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Arms: control has what is built in, live what is configured now, predictor what is built in but --strategy \
                  predicted. Each has the whole mount for its slices of time; rate caps, tiers and --verify hold for all.\n\
                  Exit codes: 0 shown, started or ended; 1 no such mount, none runs, or one runs already; 2 the daemon \
                  does not answer, or wrong usage."
)]
pub struct AbCommand {
    /// A path in a mount [default: the mount of the working folder, else the only one]
    pub path: Option<PathBuf>,
    /// Start an experiment; it runs until --stop, or until the mount ends
    #[arg(long)]
    pub start: bool,
    /// How long each arm has the mount at a time, 1s to 10min [default: 10s]
    #[arg(long, value_name = "DURATION", requires = "start", value_parser = slice)]
    pub slice: Option<Length>,
    /// How the slices are shared out, in steps of 5 [default: control=50,live=30,predictor=20]
    #[arg(long, value_name = "ARM=PERCENT,...", requires = "start")]
    pub arms: Option<Shares>,
    /// End it, and show what it has shown
    #[arg(long, conflicts_with = "start")]
    pub stop: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl AbCommand {
    /// What is asked for.
    pub fn what(&self) -> AbAsked {
        let slice = self.slice.map_or(Plan::SLICE, |slice| slice.0);
        let start = self.start.then(|| ExperimentAsked {
            slice_ms: slice.as_millis() as u64,
            arms: self.arms.unwrap_or_default().to_string(),
        });
        AbAsked { start, stop: self.stop }
    }
}

fn slice(text: &str) -> Result<Length, String> {
    let length: Length = text.parse().map_err(|error: super::duration::BadLength| error.to_string())?;
    Plan::new(length.0, Shares::default()).map_err(|error| error.to_string())?;
    Ok(length)
}
