//! Run the scheduler's actions; wake the readers. The only place with tasks and channels, and no
//! decision of its own.
//!
//! In the order of a read: [`engine`] is what `fs` and `control` call · [`handle`] which version, which
//! streak · [`waiting`] reads that wait · [`inbox`] to the driver · [`driver`] owns the scheduler ·
//! [`transfer`] one fetch · `probe` a byte, `compare` one comparison, `sameness` what comes of them · [`keeper`] pool to disk · [`from_disk`] disk to pool · [`tree`] what exists · [`listing`] asking the mirrors for it ·
//! `hashes` what a file must hash to · `sums` SHA256SUMS and its kin · `checking` `repair` whether it does, and who sent what does not ·
//! [`prefetch`] jobs · `named` `pattern` what paths name · `pace` how fast a job may ask · `ahead` the next names of who goes through a folder · [`survey`] what of it is there · [`recorder`] what is read, for a later job · [`keeping`] pins, eviction and verification by hand · [`rules`] what parts of the tree are given · [`roster`] who the mirrors are · [`published`] what everybody may read, and
//! `publisher` that writes it · [`handoff`] how long answers take · [`report`] what `status` shows, [`reading`] of the files that are read · [`stat`] what is known of a file, [`held`] and what is held of it · [`slow`] reads that took long and why · [`experiment`] slices of time for arms · [`asking`] what
//! `mirrors` and `explain` ask the scheduler · [`history`] what the next mount is to know of the
//! mirrors · [`changing`] other mirrors and settings while it runs.

mod ahead;
pub mod asking;
pub mod changing;
pub mod engine;
pub mod error;
pub mod experiment;
pub mod handle;
pub mod handoff;
pub mod held;
pub mod keeping;
pub mod opened;
pub mod prefetch;
pub mod published;
pub mod reading;
pub mod recorder;
pub mod report;
pub mod rules;
pub mod settings;
pub mod stat;
pub mod survey;
pub mod tree;
pub mod waiting;
mod whole;

mod checking;
mod compare;
mod driver;
mod from_disk;
mod hashes;
mod history;
mod in_use;
mod inbox;
mod keeper;
mod listing;
pub mod named;
mod pace;
mod pattern;
mod plane;
mod probe;
mod publisher;
mod repair;
mod room;
pub mod roster;
mod sameness;
pub mod slow;
mod sums;
mod transfer;
mod translate;
mod validators;

/// What [`published`] is made of; in its model, loom's.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}
#[cfg(test)]
mod published_tests;
#[cfg(test)]
mod unlocked_tests;

pub use engine::{Engine, Parts};
pub use error::Trouble;
pub use handle::Handle;
pub use listing::FirstLook;
pub use opened::label;
pub use settings::Settings;
pub use whole::{LentStanding, Whole};
