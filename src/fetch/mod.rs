//! Run the scheduler's actions; wake the readers. The only place with tasks and channels, and no
//! decision of its own.
//!
//! In the order of a read: [`engine`] is what `fs` and `control` call · [`handle`] which version, which
//! streak · [`waiting`] reads that wait · [`inbox`] to the driver · [`driver`] owns the scheduler ·
//! [`transfer`] one fetch · [`keeper`] pool to disk · [`from_disk`] disk to pool · [`tree`] what exists · [`listing`] asking the mirrors for it ·
//! [`prefetch`] jobs · [`rules`] what parts of the tree are given · [`report`] what `status` shows ·
//! [`asking`] what `mirrors` and `explain` ask the scheduler · [`history`] what the next mount is to know of the mirrors.

pub mod asking;
pub mod engine;
pub mod error;
pub mod handle;
pub mod prefetch;
pub mod report;
pub mod rules;
pub mod settings;
pub mod tree;

mod driver;
mod from_disk;
mod history;
mod inbox;
mod keeper;
mod listing;
mod opened;
mod plane;
mod room;
mod transfer;
mod translate;
mod validators;
mod waiting;

pub use engine::{Engine, Parts};
pub use error::Trouble;
pub use handle::Handle;
pub use listing::FirstLook;
pub use opened::label;
pub use settings::Settings;
