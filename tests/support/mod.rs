//! What the tests stand on: mirrors honest and faulty, a dataset, a mounted braidfs, and waiting.

pub mod dataset;
pub mod faulty;
pub mod mounted;
pub mod netns;
pub mod nginx;
pub mod over;
pub mod process;
pub mod raw;
pub mod reading;
pub mod receiver;
pub mod state;
pub mod wait;

#[cfg(test)]
mod tests;
