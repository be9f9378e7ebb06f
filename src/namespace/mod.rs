//! What exists: the inode tree, merged listings, versions. **Pure**: no I/O, no lock, no clock.
//!
//! Each mirror *claims* names, folder by folder. The claims on a name are kept per mirror and a vote
//! over them ([`vote`]) says which version the name leads to; so the tree depends on what the mirrors
//! say and not on the order in which they say it. Whoever asks gets an answer at once or is told
//! what is missing ([`Lookup::NeedsListing`], [`Lookup::NeedsSize`]); the caller gets it from the
//! mirrors and reports back with [`Namespace::listed`], [`Namespace::learned`] and their like.
//!
//! # Rules
//!
//! - **One inode is one file version**: its number is a hash of the path, the size, the date to the
//!   minute and a generation, so it is the same after a restart. A name that gets another version
//!   gets another inode; the old one lives until the kernel forgets it.
//! - **Two claims agree** where sizes are equal and dates are in the same minute; what a claim does not
//!   say (no date, a rounded size) agrees with everything. A claim that says less votes but does not stand.
//! - **The vote**: most mirrors, then a known size, then the newest date, then the version that was
//!   there first, then the smallest mirror id. The rest are dissenters: named, and not used for that file.
//! - **Presence**: a name exists if any mirror lists it, since mirrors may serve only a part of the
//!   dataset; those that do not list it are not used for it. Only an answer takes a name away: a mirror
//!   that cannot be reached keeps what it claimed.
//! - **The date shown** is the first one learned of a version and stays. Where no mirror gives a date it
//!   is 0 (1970): a time that is made up at the mount would change with each mount.
//! - Dates are compared as listed. An index page in another time zone than the others' dissents.

mod claim;
mod folder;
mod inode;
mod merge;
mod query;
mod saved;
mod tree;
mod vote;

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use claim::{Claim, Found, Kind, Modified, same_in_some_zone};
pub use folder::{Entry, Snapshot};
pub use inode::ROOT;
pub use merge::{Changes, Learned, NotListed};
pub use query::{Attributes, Dissenter, Entries, Freshness, Lookup, NoFolder, Resolved, Version};
pub use saved::BadSaved;
pub use tree::{Counts, Namespace};

use std::time::Duration;

/// The longest path, in bytes, relative to the mount: the kernel's PATH_MAX without its NUL. It also
/// ends the descent into a mirror whose folders list themselves.
pub const PATH_BYTES_MAX: usize = 4095;
/// The longest name, in bytes, that Linux file systems hand out.
pub const NAME_BYTES_MAX: usize = 255;

/// How long answers are believed and how much is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a folder's listing is believed after a mirror gave it, and entries and attributes in
    /// the kernel with it. 60 s: the default; a dataset on mirrors changes in hours.
    pub entry_lifetime: Duration,
    /// How long a name that no mirror has is not asked for again. 60 s, as for entries.
    pub negative_lifetime: Duration,
    /// Names at most, all folders together; more are refused and counted. 4 million: at some 170 bytes each
    /// well above any listing that people walk, and still a bound.
    pub max_names: usize,
    /// Names at most that are remembered as asked for and absent. 65,536: a search path over a large
    /// tree, at some 150 bytes each.
    pub max_absent: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            entry_lifetime: Duration::from_secs(60),
            negative_lifetime: Duration::from_secs(60),
            max_names: 4_000_000,
            max_absent: 65_536,
        }
    }
}

impl Settings {
    /// A sentence on the first setting that cannot work.
    pub fn validate(&self) -> Result<(), String> {
        if self.max_names == 0 {
            return Err("max_names is 0: no file could be shown; give at least 1".to_owned());
        }
        if self.max_absent == 0 {
            return Err("max_absent is 0: each missing name would be asked for each time; give at least 1".to_owned());
        }
        // The kernel takes lifetimes as u64 seconds; a year is already for ever.
        let year = Duration::from_secs(365 * 24 * 3600);
        for (name, lifetime) in [("entry_lifetime", self.entry_lifetime), ("negative_lifetime", self.negative_lifetime)]
        {
            if lifetime > year {
                return Err(format!("{name} is {} s: give at most a year", lifetime.as_secs()));
            }
        }
        Ok(())
    }
}
