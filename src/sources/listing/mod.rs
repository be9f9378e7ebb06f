//! Index pages of the usual kinds, read as they arrive.
//!
//! | file | one idea |
//! |---|---|
//! | `page` | from the network to a reader on a blocking thread, within bounds |
//! | `html` | links and what stands beside them, by a streaming tokenizer |
//! | `json` | arrays of objects (nginx, Caddy), one object at a time |
//! | `links` | what a link means, seen from the folder |
//! | `row` | dates and sizes as index pages write them |
//! | `gather` | what was found: names checked, duplicates dropped, bounded |

mod gather;
mod html;
mod json;
mod links;
mod page;
mod row;

#[cfg(test)]
mod tests;

pub(super) use links::Here;
pub(super) use page::{ReadPage, read_page};

use super::names::RefusedName;
use std::time::Duration;

/// One folder, as a mirror's index page shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// In the order of the page; no name twice.
    pub entries: Vec<Entry>,
    /// The first of the names that were refused, as the page wrote them (shortened), and why.
    pub refused: Vec<(String, RefusedName)>,
    /// How many were refused in all.
    pub refused_count: u64,
    /// From the request to the headers of the answer.
    pub first_byte: Duration,
    /// What kind of page it was.
    pub kind: ListingKind,
}

/// What kind of page a listing was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingKind {
    /// A page for people.
    Html,
    /// `autoindex_format json` of nginx, or Caddy asked for JSON.
    Json,
}

/// A file or folder in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Raw bytes; passes [`super::check_name`].
    pub name: Vec<u8>,
    /// A folder?
    pub folder: bool,
    /// How many bytes, as far as the page tells. [`Size::Unknown`] for folders.
    pub size: Size,
    /// When it was last modified, as far as the page tells.
    pub modified: Option<Modified>,
}

/// What an index page tells of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// So many bytes.
    Exact(u64),
    /// Something like `1.2M`: the exact size has to be asked for.
    Rounded,
    /// Nothing.
    Unknown,
}

/// What an index page tells of a date. Pages name no zone: UTC is what nearly all of them mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modified {
    /// Seconds since 1970 UTC.
    pub unix_s: i64,
    /// How exact that is.
    pub precision: Precision,
}

/// How exact a date is. The true one lies within so much after the one that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// nginx and Apache show no seconds.
    Minute,
    /// To the second.
    Second,
}
