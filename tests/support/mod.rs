//! What the tests stand on: mirrors honest and faulty, a dataset, a mounted braidfs, and waiting.

pub mod faulty;
pub mod raw;
pub mod wait;
