//! Speak HTTP to one mirror; read listings; classify every failure.
//!
//! # Map
//!
//! | file | one idea |
//! |---|---|
//! | [`Settings`] (`settings`) | how to reach a mirror, as plain data |
//! | [`Source`] (`source`) | the client of one mirror: list, stat, open, probe |
//! | `client` | connections, TLS and proxies, set up once per mirror |
//! | `request` | one GET, its redirects followed by hand, credentials kept at home |
//! | `redirect` | targets that are remembered, and for how long |
//! | `range` | is this answer exactly what was asked for? A pure function over status and headers |
//! | [`Body`] (`body`) | the bytes, counted against what was promised |
//! | [`Validator`] (`validator`) | what one mirror calls a version |
//! | [`Digest`] (`digest`) | hashes that come with answers, of their bytes or of the file |
//! | [`Sums`] (`sums`) | SHA256SUMS and its kin |
//! | [`Failure`] (`failure`) | why not, in a sentence and in a kind |
//! | [`Examined`], [`Handshake`] (`examine`) | what an answer and a connection show of the mirror itself, for who looks for trouble |
//! | `names` | which names may exist below the mount; paths as URLs |
//! | [`Listing`] (`listing/`) | index pages of the usual kinds, read as they arrive |
//!
//! A source decides nothing about *when*: it never retries (but for one fresh look behind a
//! remembered redirect), never waits for time to pass, and has no deadline of its own except for
//! connecting. Whoever calls it drops the future when the wait is over; that closes the connection.
//!
//! Nothing that leaves this module (failures, logs, `Debug`) shows credentials or the query of an
//! address, which may be a signature.

mod body;
mod client;
mod digest;
mod examine;
mod failure;
mod listing;
mod names;
mod range;
mod redirect;
mod request;
mod settings;
mod source;
mod sums;
mod validator;

#[cfg(test)]
mod tests;

pub use body::Body;
pub use client::build as http_client;
pub use digest::{Algorithm, Digest, Hasher, Part};
pub use examine::{Examined, Handshake, HandshakeError};
pub use failure::{Failure, FailureKind};
pub use listing::{Entry, Listing, ListingKind, Modified, Precision, Size};
pub use names::{NAME_BYTES_MAX, RefusedName, check_name};
pub use range::RangeAsk;
pub use settings::{BadSource, Proxy, Settings};
pub use source::{Answer, Source, Stat};
pub use sums::{SUMS_BYTES_MAX, SUMS_ENTRIES_MAX, SUMS_NAMES, Sums};
pub use validator::Validator;
