//! Every decision: order, dedupe, mirror, window, readahead. Pure: no I/O, no locks, no clock.

pub mod action;
pub mod event;

pub use action::{Action, Hopeless};
pub use event::{Event, Failure};
