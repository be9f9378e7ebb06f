//! Prefetch jobs that have not ended, written down so that the next mount goes on with them.

use super::shared::Shared;
use super::store::{JOBS, StoreError, from_redb};
use redb::ReadableTable;

/// Write down what a job is, or with nothing that it has ended. Durable when it returns.
pub(super) fn put(shared: &Shared, number: u64, bytes: Option<&[u8]>) -> Result<(), StoreError> {
    let _operation = shared.condition.operation();
    shared.store.write(|transaction| {
        let mut table = transaction.open_table(JOBS).map_err(from_redb)?;
        match bytes {
            Some(bytes) => table.insert(number, bytes).map_err(from_redb)?,
            None => table.remove(number).map_err(from_redb)?,
        };
        Ok(())
    })
}

/// All that are written down, by number.
pub(super) fn all(shared: &Shared) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let _operation = shared.condition.operation();
    shared.store.read(|transaction| {
        let table = transaction.open_table(JOBS).map_err(from_redb)?;
        let rows = table.iter().map_err(from_redb)?;
        rows.map(|row| row.map(|(number, bytes)| (number.value(), bytes.value().to_vec())).map_err(from_redb)).collect()
    })
}
