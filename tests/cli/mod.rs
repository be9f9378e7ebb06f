//! The command line: bad input gets a clear error and loses nothing; commands end as they should.

mod bad_input;
mod bad_questions;
mod bench;
mod cache_folder;
mod comparison;
mod config;
mod doctor;
mod ending;
mod handed_in;
mod logs;
mod mount_helper;
mod mountpoint;
mod options;
mod package;
mod simulate;
mod supervised;
