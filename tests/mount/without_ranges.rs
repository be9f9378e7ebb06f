//! Mirrors that serve whole files only are still good for whole files.

use super::{faulty_urls, mirrors};
use crate::support::dataset;
use crate::support::faulty::{Fault, Tree};
use crate::support::mounted::Place;
use crate::support::process::Process;
use crate::support::{reading, wait};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

const SIZE: u64 = 7_000_001;

#[test]
fn a_mirror_without_ranges_alone() {
    let tree = Tree::new().with_generated("data.bin", 1, SIZE).with("small", *b"small").with("empty", *b"");
    let (mirrors, place) = (mirrors(1, &tree), Place::new());
    mirrors[0].always(Fault::NoRanges);
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    assert_eq!(fs::read(mount.path("small")).unwrap(), b"small");
    assert_eq!(fs::read(mount.path("empty")).unwrap(), b"");
    reading::generated(&mount.path("data.bin"), 1, SIZE);
    // Streamed once into the cache, not once per read.
    assert!(mirrors[0].data_bytes_of("data.bin") <= 2 * SIZE, "{} bytes", mirrors[0].data_bytes_of("data.bin"));
    mount.umount();
}

#[test]
fn a_mirror_without_ranges_beside_one_with() {
    let (mirrors, place) = (mirrors(2, &Tree::new().with_generated("data.bin", 1, SIZE)), Place::new());
    mirrors[0].always(Fault::NoRanges);
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("data.bin"), 1, SIZE);
    mount.umount();
}

#[test]
fn a_read_in_the_middle_first() {
    let (mirrors, place) = (mirrors(1, &Tree::new().with_generated("data.bin", 1, SIZE)), Place::new());
    mirrors[0].always(Fault::NoRanges);
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let file = fs::File::open(mount.path("data.bin")).unwrap();
    reading::generated_at(&file, 1, SIZE - 5000, 5000).unwrap();
    reading::generated_at(&file, 1, 12_345, 5000).unwrap();
    drop(file);
    mount.umount();
}

#[test]
fn pythons_own_file_mirror() {
    let place = Place::new();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, _python) = wait::for_some("python listens", || {
        let address = free();
        let mut python = Command::new("python3");
        python.args(["-m", "http.server", "--bind", "127.0.0.1", &address.port().to_string(), "--directory"]);
        let mut process = Process::start(python.arg(dataset::root()), &place.path("python.log"));
        wait::until("it listens or ends", || process.ended().is_some() || TcpStream::connect(address).is_ok());
        process.ended().is_none().then_some((address, process))
    });
    let mount = place.mount(&[format!("http://{address}/")], &[]);
    // Its listing has no sizes: each is asked for when it is looked at.
    assert_eq!(fs::metadata(mount.path("big/d.bin")).unwrap().len(), 8 << 20);
    reading::big(&mount.path("big/c.bin"), "big/c.bin");
    for file in dataset::files(&dataset::root().join("text/3")) {
        let path = std::path::Path::new("text/3").join(file.path);
        assert_eq!(fs::read(mount.path(&path)).unwrap(), fs::read(dataset::root().join(&path)).unwrap());
    }
    mount.umount();
}
