//! The harness by itself: dataset, nginx, shaped links.

use super::nginx::{Nginx, Setup};
use super::{dataset, faulty, netns, process, raw};
use std::net::SocketAddr;
use std::process::Command;

fn address(url: &str) -> SocketAddr {
    url["http://".len()..].trim_end_matches('/').parse().unwrap()
}

#[test]
fn the_dataset_is_whole() {
    let files = dataset::files(&dataset::root());
    let odd = dataset::odd_names().len();
    assert_eq!(files.len(), dataset::BIG.len() + dataset::TEXTS + dataset::MANY + odd + 2);
    assert!(files.iter().all(|file| file.mtime % 60 == 0));
    let c = dataset::root().join("big/c.bin");
    assert_eq!(std::fs::read(&c).unwrap(), dataset::big_bytes("big/c.bin", 0, 3_333_333));
    let sum = process::output_of(Command::new("sha256sum").arg(&c));
    assert!(sum.starts_with(dataset::sha256(&c).unwrap().as_bytes()));
}

#[test]
fn a_faulty_mirror_serves_the_dataset_from_disk() {
    let mirror = faulty::FaultyMirror::start(faulty::Tree::of_folder(&dataset::root()).unwrap());
    let part = raw::get(mirror.address(), "/big/a.bin", "5000000-5000999", "").unwrap();
    assert_eq!(part.body, dataset::big_bytes("big/a.bin", 5_000_000, 1000));
    for name in dataset::odd_names() {
        let path = format!("/odd%20names/{}", faulty::percent_encode(name.as_encoded_bytes()));
        assert_eq!(raw::get(mirror.address(), &path, "", "").unwrap().status, 200, "{path}");
    }
}

#[test]
fn nginx_serves_counts_pauses_and_comes_back() {
    let mut nginx = Nginx::start(&dataset::root(), &Setup::default());
    let at = address(&nginx.url());
    assert_eq!(raw::get(at, "/big/d.bin", "0-999", "").unwrap().body, dataset::big_bytes("big/d.bin", 0, 1000));
    raw::get(at, "/big/", "", "").unwrap();
    let seen = nginx.requests();
    assert_eq!((seen.len(), nginx.data_bytes(), seen[0].range.as_str()), (2, 1000, "bytes=0-999"));
    assert!(seen[1].is_index() && seen[1].method == "GET" && seen[1].status == 200);
    nginx.pause();
    assert!(raw::get(at, "/big/d.bin", "0-9", "").is_err());
    nginx.resume();
    nginx.kill9();
    assert!(raw::get(at, "/big/d.bin", "0-9", "").is_err());
    nginx.restart();
    assert_eq!(raw::get(at, "/big/d.bin", "0-9", "").unwrap().status, 206);
}

#[test]
fn nginx_lists_as_json() {
    let nginx = Nginx::start(&dataset::root(), &Setup { json: true, ..Setup::default() });
    let page = raw::get(address(&nginx.url()), "/big/", "", "").unwrap().body;
    let list: serde_json::Value = serde_json::from_slice(&page).unwrap();
    assert_eq!((list[0]["name"].as_str(), list[0]["size"].as_u64()), (Some("a.bin"), Some(32 << 20)));
}

#[test]
fn a_shaped_mirror_counts_its_wire_and_vanishes() {
    if !netns::or_skip("a_shaped_mirror_counts_its_wire_and_vanishes") {
        return;
    }
    let mirror = netns::ShapedMirror::start(&dataset::root(), 40_000_000);
    let at = address(&mirror.url());
    assert_eq!(raw::get(at, "/big/c.bin", "", "").unwrap().body.len(), 3_333_333);
    let wire = mirror.wire_bytes();
    assert!((3_333_333..3_700_000).contains(&wire), "{wire} bytes for a file of 3,333,333");
    mirror.shape(80_000_000);
    let stream = std::net::TcpStream::connect(at).unwrap();
    mirror.black_hole();
    let silence = raw::get_over(stream, "/big/c.bin", "", "").unwrap_err();
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
    mirror.reachable_again();
    assert_eq!(raw::get(at, "/big/c.bin", "0-9", "").unwrap().body.len(), 10);
}
