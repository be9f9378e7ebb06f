//! Handles, and reads through them by any number of threads.

use braidfs::clock::{Time, now};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// An open file, and which version it showed when it was opened.
pub struct Opened {
    pub file: File,
    pub name: usize,
    pub version: usize,
    pub size_bytes: u64,
    /// Just before it was opened.
    pub at: Time,
}

/// One read.
#[derive(Clone)]
pub struct Job {
    pub opened: Arc<Opened>,
    pub offset: u64,
    pub length: usize,
}

/// What came of it.
pub struct Outcome {
    pub job: Job,
    pub bytes: Vec<u8>,
    pub errno: Option<i32>,
    pub from: Time,
    pub to: Time,
}

impl Job {
    /// Until all is read, the file ends, or an error. The kernel gives what stands before a page that failed.
    pub fn run(self) -> Outcome {
        let mut bytes = vec![0; self.length];
        let (mut have, from) = (0, now());
        let errno = loop {
            if have == self.length {
                break None;
            }
            match self.opened.file.read_at(&mut bytes[have..], self.offset + have as u64) {
                Ok(0) => break None,
                Ok(more) => have += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Some(error.raw_os_error().expect("the kernel gives an errno")),
            }
        };
        bytes.truncate(have);
        Outcome { job: self, bytes, errno, from, to: now() }
    }
}

/// Each list of reads in a thread of its own, and `meanwhile` in this one.
pub fn together(lists: Vec<Vec<Job>>, meanwhile: impl FnOnce()) -> Vec<Outcome> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = lists
            .into_iter()
            .map(|jobs| scope.spawn(move || jobs.into_iter().map(Job::run).collect::<Vec<_>>()))
            .collect();
        meanwhile();
        threads.into_iter().flat_map(|thread| thread.join().expect("reading does not panic")).collect()
    })
}
