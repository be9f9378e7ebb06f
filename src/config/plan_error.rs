//! What can be wrong with what a mount was told.

use super::file::FileError;
use super::fuse_options::BadFuseOption;
use super::source::BadSource;
use crate::chunk::MIRRORS_MAX;
use std::path::PathBuf;

/// Why there is no plan. Each message names the input and the way out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A SOURCE is neither URL nor file.
    #[error(transparent)]
    Source(#[from] BadSource),
    /// The file is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// An option after `-o` is wrong.
    #[error(transparent)]
    FuseOption(#[from] BadFuseOption),
    /// No SOURCE and no mirror in a file.
    #[error("{0}")]
    NoMirror(String),
    /// No place to mount at.
    #[error("{0}")]
    NoMountpoint(String),
    /// More than one configuration file.
    #[error("two configuration files, {} and {}: put the [[mirror]] tables into one", .0.display(), .1.display())]
    TwoFiles(PathBuf, PathBuf),
    /// More mirrors than braidfs can tell apart.
    #[error("{0} mirrors are more than the {MIRRORS_MAX} that one mount can use; leave some out")]
    TooManyMirrors(usize),
    /// The same mirror twice.
    #[error("the mirror {0} is given twice; leave one out")]
    MirrorTwice(String),
    /// A value outside its bounds, or one that does not go with another.
    #[error("{0}")]
    Value(String),
}
