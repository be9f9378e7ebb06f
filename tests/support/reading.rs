//! Reading through a mount, and comparing with what should come.

use super::dataset;
use super::faulty::generate;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// As much as a stream reads at a time.
const STEP_BYTES: usize = 256 * 1024;

/// Read a large file of the dataset front to back and compare every byte; when `at_bytes` have been
/// read, make `trouble`.
pub fn big_with_trouble(path: &Path, name: &str, at_bytes: u64, trouble: impl FnOnce()) {
    let wanted = |offset, length| dataset::big_bytes(name, offset, length);
    let size = dataset::BIG.iter().find(|(have, _)| *have == name).expect("a large file's name").1;
    stream(path, size, wanted, at_bytes, trouble);
}

/// Read a large file of the dataset front to back and compare every byte.
pub fn big(path: &Path, name: &str) {
    big_with_trouble(path, name, u64::MAX, || ());
}

/// Read a file generated from `seed` front to back, `STEP_BYTES` at a time, and compare every byte.
pub fn generated(path: &Path, seed: u64, size_bytes: u64) {
    let wanted = |offset, length| {
        let mut bytes = vec![0; length];
        generate(seed, offset, &mut bytes);
        bytes
    };
    stream(path, size_bytes, wanted, u64::MAX, || ());
}

/// Read at an offset and compare with the file generated from `seed`.
pub fn generated_at(file: &File, seed: u64, offset: u64, length: usize) -> io::Result<()> {
    let (mut got, mut wanted) = (vec![0; length], vec![0; length]);
    file.read_exact_at(&mut got, offset)?;
    generate(seed, offset, &mut wanted);
    assert!(got == wanted, "wrong bytes at {offset}: {}", difference(&got, &wanted));
    Ok(())
}

/// Let the kernel forget what it holds of a file, so that the next read asks the daemon.
pub fn forget_kernel_pages(path: &Path) {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fadvise(&file, 0, None, Advice::DontNeed).expect("advice about a regular file is taken");
}

fn stream(path: &Path, size: u64, wanted: impl Fn(u64, usize) -> Vec<u8>, at_bytes: u64, trouble: impl FnOnce()) {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(file.metadata().expect("an open file has a size").len(), size, "{}", path.display());
    let mut trouble = Some(trouble);
    let mut got = vec![0; STEP_BYTES];
    let mut at = 0;
    while at < size {
        if at >= at_bytes {
            trouble.take().into_iter().for_each(|trouble| trouble());
        }
        let length = STEP_BYTES.min((size - at) as usize);
        file.read_exact_at(&mut got[..length], at)
            .unwrap_or_else(|error| panic!("{} at {at}: {error}", path.display()));
        let wanted = wanted(at, length);
        assert!(got[..length] == wanted, "{} at {at}: {}", path.display(), difference(&got[..length], &wanted));
        at += length as u64;
    }
    assert_eq!(file.read_at(&mut got, size).expect("a read at the end gives nothing"), 0);
    assert!(at_bytes == u64::MAX || trouble.is_none(), "the trouble was never made");
}

/// Where two runs of bytes part.
fn difference(got: &[u8], wanted: &[u8]) -> String {
    let at = got.iter().zip(wanted).position(|(a, b)| a != b).unwrap_or(got.len().min(wanted.len()));
    let count = got.iter().zip(wanted).filter(|(a, b)| a != b).count();
    format!("{count} bytes differ, the first at {at} of {}", wanted.len())
}
