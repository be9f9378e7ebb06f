//! The pure modules of braidfs as they stand in `src/`, compiled once more, optimized. `Cargo.toml` says why.

// The unit tests, and what only the rest of the crate uses, are looked at there.
#![allow(dead_code)]

#[path = "../../src/chunk.rs"]
pub mod chunk;
#[path = "../../src/clock.rs"]
pub mod clock;
#[path = "../../src/scheduler/mod.rs"]
pub mod scheduler;
#[path = "../../src/simulate/mod.rs"]
pub mod simulate;
