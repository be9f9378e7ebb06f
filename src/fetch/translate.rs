//! From a source's words into the namespace's: the two never import each other.

use crate::namespace::{Claim, Kind, Modified, NotListed};
use crate::sources::{FailureKind, Listing, Precision, Size};

/// A listing as claims.
pub fn claims(listing: Listing) -> Vec<Claim> {
    let claim = |entry: crate::sources::Entry| Claim {
        kind: if entry.folder { Kind::Folder } else { Kind::File },
        size_bytes: match entry.size {
            Size::Exact(size_bytes) => Some(size_bytes),
            Size::Rounded | Size::Unknown => None,
        },
        modified: entry
            .modified
            .map(|modified| Modified { unix_s: modified.unix_s, precise: modified.precision == Precision::Second }),
        name: entry.name,
    };
    listing.entries.into_iter().map(claim).collect()
}

/// Why there is no listing.
pub fn not_listed(kind: FailureKind) -> NotListed {
    match kind {
        FailureKind::Missing => NotListed::Missing,
        FailureKind::Refused | FailureKind::Corrupt => NotListed::Refused,
        _ => NotListed::Unreachable,
    }
}

/// A date from an answer's header: to the second.
pub fn exact(unix_s: Option<i64>) -> Option<Modified> {
    unix_s.map(|unix_s| Modified { unix_s, precise: true })
}

/// The path of a name in a folder.
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match folder.is_empty() {
        true => name.to_vec(),
        false => [folder, b"/", name].concat(),
    }
}
