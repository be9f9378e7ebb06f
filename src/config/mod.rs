//! Command line and file into each module's own settings.
//!
//! What was typed (`command_line`, `fuse_options`, `file`) becomes [`Given`](options::Given), one
//! struct whatever it was written in; `plan` lays the layers over each other (command line over
//! environment over file over built-in) and gives the [`MountPlan`](plan::MountPlan). Nothing else in the program
//! reads the environment or files of settings.

pub mod ab_command;
pub mod cgroup;
pub mod command_line;
mod deadlines;
pub mod defaults;
pub mod difference;
pub mod duration;
pub mod environment;
pub mod file;
mod fuse_fd;
pub mod fuse_options;
pub mod generate;
pub mod ideas;
pub mod logging;
pub mod mount_helper;
pub mod options;
pub mod origin;
pub mod otlp;
pub mod plan;
pub mod plan_error;
pub mod rate;
pub mod rule;
pub mod scenario;
pub mod show;
pub mod simulate_command;
pub mod size;
pub mod source;
pub mod supervisor;
pub mod unplaced;
pub mod web_address;
