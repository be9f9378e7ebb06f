//! The true scheduler in virtual time, against simulated mirrors and readers.
//!
//! Nothing here waits or reads a clock, so every figure that a test asserts is exact and the same on
//! every machine.

mod hedging;
mod measuring;
mod properties;
mod scenarios;
mod storm;
