//! The form in which jobs are written down, so that they go on after the daemon was ended or killed.

use crate::control::protocol::{AskedRange, PathText};
use crate::control::server::PrefetchRequest;
use crate::fetch::prefetch::{FileRange, Work};
use serde::{Deserialize, Serialize};

/// A job that has not ended.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct KeptJob {
    /// Relative to the mountpoint.
    pub paths: Vec<PathText>,
    /// Where there are any: nothing but these ranges of the paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<AskedRange>,
    /// It asks for no more than so many bytes in any second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
}

impl KeptJob {
    /// Of what a client asks for. None where a range is of no path.
    pub fn new(asked: PrefetchRequest) -> Option<KeptJob> {
        let PrefetchRequest { paths, ranges, rate, .. } = asked;
        let are_right = ranges.iter().all(|range| (range.0 as usize) < paths.len());
        are_right.then(|| KeptJob { paths: paths.into_iter().map(PathText).collect(), ranges, rate })
    }

    /// What is to be done.
    pub fn work(self) -> Work {
        let range = |AskedRange(path, offset_bytes, bytes)| FileRange { path: path as usize, offset_bytes, bytes };
        Work {
            paths: self.paths.into_iter().map(|path| path.0).collect(),
            ranges: self.ranges.into_iter().map(range).collect(),
            bytes_per_second: self.rate,
        }
    }

    /// What it takes of memory, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let path_bytes = |path: &PathText| (path.0.len() + size_of::<PathText>()) as u64;
        self.paths.iter().map(path_bytes).sum::<u64>() + size_of_val(&*self.ranges) as u64
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
        let job = KeptJob { paths, ranges: vec![AskedRange(1, 5, 6)], rate: Some(7) };
        assert_eq!(KeptJob::decode(&job.encode()), Some(job));
        let old = KeptJob { paths: vec![PathText(b"a".to_vec())], ranges: Vec::new(), rate: None };
        assert_eq!(KeptJob::decode(b"{\"paths\":[\"a\"]}"), Some(old), "as an earlier braidfs wrote it");
        assert_eq!(KeptJob::decode(b"{\"paths\":7}"), None);
    }
    #[test]
    fn a_range_of_no_path_is_no_job() {
        let asked = |path| PrefetchRequest {
            paths: vec![b"a".to_vec()],
            wait: true,
            ranges: vec![AskedRange(path, 0, 5)],
            rate: None,
        };
        let work = KeptJob::new(asked(0)).unwrap().work();
        assert_eq!(work.ranges, [FileRange { path: 0, offset_bytes: 0, bytes: 5 }]);
        assert_eq!(KeptJob::new(asked(1)), None);
    }
}
