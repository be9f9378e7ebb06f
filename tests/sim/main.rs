//! The test binary of the simulation. Its tests are named as they would be among the others: `sim::…`.

extern crate pure as braidfs;

#[path = "mod.rs"]
mod sim;
