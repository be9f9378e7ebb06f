//! The true scheduler in virtual time, against simulated mirrors and readers.
//!
//! Nothing here waits or reads a clock, so every figure that a test asserts is exact and the same on
//! every machine.
//!
//! Of many seeds a third are run each time, and all of them with `BRAIDFS_SIM_THOROUGH=1`: without optimization they would take as
//! long as all tests of mounts. (`cargo test --release` with it takes some seconds.)

mod caps;
mod crowded;
mod desk;
mod experiment;
mod hedging;
mod history;
mod measuring;
mod opening;
mod policies;
mod properties;
mod sameness;
mod scenarios;
mod storm;
mod thresholds;

/// The first third of so many seeds, or all.
fn seeds(count: u64) -> std::ops::Range<u64> {
    0..if std::env::var_os("BRAIDFS_SIM_THOROUGH").is_some() { count } else { count.div_ceil(3) }
}
