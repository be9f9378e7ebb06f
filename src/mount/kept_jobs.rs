//! The form in which jobs are written down, so that they go on after the daemon was ended or killed.

use crate::control::protocol::PathText;
use serde::{Deserialize, Serialize};

/// A job that has not ended.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct KeptJob {
    /// Relative to the mountpoint.
    pub paths: Vec<PathText>,
}

impl KeptJob {
    /// What it takes of memory, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let path_bytes = |path: &PathText| (path.0.len() + size_of::<PathText>()) as u64;
        self.paths.iter().map(path_bytes).sum()
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers are JSON")
    }

    /// Nothing where these are of a later version.
    pub fn decode(bytes: &[u8]) -> Option<KeptJob> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_comes_back() {
        let job = KeptJob { paths: vec![PathText(b"a\xff%\n".to_vec()), PathText(Vec::new())] };
        assert_eq!(KeptJob::decode(&job.encode()), Some(job));
        assert_eq!(KeptJob::decode(b"{\"paths\":7}"), None);
    }
}
