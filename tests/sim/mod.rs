//! The true scheduler in virtual time, against simulated mirrors and readers.
//!
//! Nothing here waits or reads a clock, so every figure that a test asserts is exact and the same on
//! every machine.

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
