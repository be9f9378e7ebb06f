//! What people do to what is kept of a path: see it, let it go.

use super::shared::Shared;
use super::store::{FILES, StoreError, from_redb, wrong};
use super::{FileKey, evict};
use std::ops::Bound;
use std::sync::Arc;

/// Where the keys of `path` itself and of all that is below it lie in the table of files. A key is the path, then the
/// size with its highest byte first, which is 0; no path has a byte of 0.
fn ranges(path: &[u8]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let with = |last: u8| path.iter().copied().chain([last]).collect::<Vec<u8>>();
    match path {
        [] => vec![(Vec::new(), None)],
        _ => vec![(with(0), Some(with(1))), (with(b'/'), Some(with(b'/' + 1)))],
    }
}

/// At most `max` file versions that something is kept of, at `path` or below it, in the order of their keys, after
/// `after`.
pub(super) fn kept(
    shared: &Shared,
    path: &[u8],
    after: Option<&FileKey>,
    max: usize,
) -> Result<Vec<FileKey>, StoreError> {
    let after = after.map(FileKey::encode);
    let _operation = shared.condition.operation();
    shared.store.read(|transaction| {
        let table = transaction.open_table(FILES).map_err(from_redb)?;
        let mut found = Vec::new();
        for (start, end) in ranges(path) {
            let from = match &after {
                Some(after) if *after >= start => Bound::Excluded(after.as_slice()),
                _ => Bound::Included(start.as_slice()),
            };
            let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            if matches!((from, &end), (Bound::Excluded(from), Some(end)) if from >= end.as_slice()) {
                continue;
            }
            for row in table.range::<&[u8]>((from, to)).map_err(from_redb)?.take(max - found.len()) {
                let key = row.map_err(from_redb)?.0;
                found.push(FileKey::decode(key.value()).ok_or_else(|| wrong("a key"))?);
            }
        }
        Ok(found)
    })
}

/// Let go of all that is kept of these. Gone from the tables and, but for packs that others share, from the disk
/// after the next [`super::Disk::sync`]. Says how many bytes of files it was.
pub(super) fn let_go(shared: &Arc<Shared>, keys: &[FileKey]) -> u64 {
    let mut packs = Vec::new();
    let mut bytes = 0;
    for key in keys {
        let file = shared.file(key, false);
        let (held_bytes, place) = file.let_go();
        bytes += held_bytes;
        packs.extend(place.filter(|place| place.packed).map(|place| place.data_id));
    }
    packs.sort_unstable();
    packs.dedup();
    shared.commits.put_emptied(packs);
    shared.metrics.disk_evicted_bytes.add(bytes);
    bytes
}

/// Of these packs, those that have no file any more go.
pub(super) fn drop_empty(shared: &Arc<Shared>, packs: Vec<u64>) {
    if let Err(error) = evict::drop_empty(shared, &packs) {
        shared.store_failed(&error);
    }
}
