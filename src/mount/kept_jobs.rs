//! The form in which jobs are written down, so that they go on after the daemon was ended or killed.

use crate::control::protocol::PathText;
use crate::control::server::PrefetchRequest;
use crate::fetch::prefetch::Work;
use serde::{Deserialize, Serialize};

/// A job that has not ended.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct KeptJob {
    /// Relative to the mountpoint.
    pub paths: Vec<PathText>,
    /// It asks for no more than so many bytes in any second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
}

impl KeptJob {
    /// Of what a client asks for.
    pub fn new(asked: PrefetchRequest) -> KeptJob {
        KeptJob { paths: asked.paths.into_iter().map(PathText).collect(), rate: asked.rate }
    }

    /// What is to be done.
    pub fn work(self) -> Work {
        Work { paths: self.paths.into_iter().map(|path| path.0).collect(), bytes_per_second: self.rate }
    }

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
        let paths = vec![PathText(b"a\xff%\n".to_vec()), PathText(Vec::new())];
        let job = KeptJob { paths, rate: Some(7) };
        assert_eq!(KeptJob::decode(&job.encode()), Some(job));
        let old = KeptJob { paths: vec![PathText(b"a".to_vec())], rate: None };
        assert_eq!(KeptJob::decode(b"{\"paths\":[\"a\"]}"), Some(old), "as an earlier braidfs wrote it");
        assert_eq!(KeptJob::decode(b"{\"paths\":7}"), None);
    }
}
