//! How much of what paths name is durable on disk. Nothing of any file is fetched for it; folders that are not known are listed.

use crate::cache::disk::{Disk, FileKey};
use crate::fetch::engine::Engine;
use crate::fetch::error::Trouble;
use crate::fetch::keeping::{Heard, Hearer, NotDone, blocking};
use crate::fetch::named::Named;
use std::sync::Arc;

/// File versions looked at at a time.
const BATCH: usize = 256;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Files of which all is durable.
    pub complete: u64,
    /// Files of which some is.
    pub in_part: u64,
    /// Files of which nothing is.
    pub missing: u64,
    /// Bytes of them that are durable.
    pub durable_bytes: u64,
    /// Bytes of them in all.
    pub bytes: u64,
    /// Paths that came to nothing. Each was said.
    pub failed: u64,
}

impl Survey {
    fn add(&mut self, size_bytes: u64, durable_bytes: u64) {
        self.bytes += size_bytes;
        self.durable_bytes += durable_bytes;
        match durable_bytes {
            all if all == size_bytes => self.complete += 1,
            0 => self.missing += 1,
            _ => self.in_part += 1,
        }
    }
}

impl Engine {
    /// Look at all that these paths name: files, folders with all that is below them, and patterns, relative to the mount.
    pub async fn survey(self: &Arc<Self>, paths: Vec<Vec<u8>>, hearer: &Hearer) -> Result<Survey, NotDone> {
        let mut survey = Survey::default();
        let mut batch = Vec::new();
        let mut named = Named::new(self.tree.clone(), paths);
        while let Some(found) = named.next().await {
            let failed = match found {
                Ok(file) => match self.tree.namespace.read().version(file.inode) {
                    Some(version) => {
                        batch.push(FileKey {
                            path: version.path,
                            size_bytes: version.size_bytes,
                            modified_unix_s: version.modified_unix_s,
                            generation: version.generation,
                        });
                        None
                    }
                    None => Some((file.path, Trouble::Stale.into())),
                },
                Err(failed) => Some(failed),
            };
            if let Some((path, why)) = failed {
                survey.failed += 1;
                // Waits for a slow client. One that is gone ends this from outside.
                let _ = hearer.send(Heard::Failed(path, why.to_string())).await;
            }
            if batch.len() >= BATCH {
                self.survey_batch(&mut survey, std::mem::take(&mut batch)).await?;
            }
        }
        self.survey_batch(&mut survey, batch).await?;
        Ok(survey)
    }

    async fn survey_batch(&self, survey: &mut Survey, keys: Vec<FileKey>) -> Result<(), NotDone> {
        let disk = self.plane.disk.clone();
        for (size_bytes, durable_bytes) in blocking(move || durable(disk.as_ref(), &keys)).await? {
            survey.add(size_bytes, durable_bytes);
        }
        Ok(())
    }
}

/// Of each, its bytes and those that are durable. Waits for the disk.
fn durable(disk: Option<&Disk>, keys: &[FileKey]) -> Vec<(u64, u64)> {
    let of_disk = |key: &FileKey| disk.map_or(0, |disk| disk.seen(key).durable_bytes());
    keys.iter().map(|key| (key.size_bytes, if key.size_bytes == 0 { 0 } else { of_disk(key) })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_complete() {
        let mut survey = Survey::default();
        [(0, 0), (5, 5), (5, 4), (5, 0)].into_iter().for_each(|(bytes, durable)| survey.add(bytes, durable));
        let wanted = Survey { complete: 2, in_part: 1, missing: 1, durable_bytes: 9, bytes: 15, failed: 0 };
        assert_eq!(survey, wanted);
    }
}
