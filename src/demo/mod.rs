//! Embedded mirrors and a generated dataset, mounted: the first thing a user runs.

pub mod dataset;
pub mod mirror;
mod pace;
