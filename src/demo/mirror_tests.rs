use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

const FILE: &str = "/recordings/thursday.bin";

/// Status line and headers as text, and the body as far as it came.
fn get(mirror: &Mirror, path: &str, more: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(mirror.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n").as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let mut body = Vec::new();
    let _ = stream.read_to_end(&mut body);
    (head.to_ascii_lowercase(), body)
}

fn mirror(flaky: bool) -> Mirror {
    Mirror::start(Arc::new(Dataset::generated()), Shape { bytes_per_second: None, flaky }).unwrap()
}

#[test]
fn ranges_are_exact() {
    let mirror = mirror(false);
    let (head, body) = get(&mirror, FILE, "Range: bytes=100000-299999\r\n");
    assert!(head.starts_with("http/1.1 206") && head.contains("content-range: bytes 100000-299999/8388608"), "{head}");
    assert!(head.contains("content-length: 200000") && head.contains("etag:") && head.contains("last-modified:"));
    let mut wanted = vec![0; 200_000];
    assert!(Dataset::generated().read(&FILE[1..], 100_000, &mut wanted));
    assert!(body == wanted);
    assert_eq!(mirror.bytes_served(), 200_000);
    assert!(get(&mirror, FILE, "Range: bytes=8388608-\r\n").0.starts_with("http/1.1 416"));
    assert!(get(&mirror, FILE, "If-Match: \"other\"\r\n").0.starts_with("http/1.1 412"));
    assert!(get(&mirror, "/nothing", "").0.starts_with("http/1.1 404"));
}

#[test]
fn folders_have_index_pages() {
    let mirror = mirror(false);
    let (head, body) = get(&mirror, "/recordings/", "");
    let body = String::from_utf8(body).unwrap();
    assert!(head.starts_with("http/1.1 200") && body.contains("<a href=\"monday.bin\">"), "{head}{body}");
    assert!(body.contains("05-Jan-2026 09:30            33554432"), "{body}");
    assert!(get(&mirror, "/recordings", "").0.contains("location: /recordings/\r\n"));
    assert_eq!(mirror.bytes_served(), 0, "index pages are not counted");
}

#[test]
fn a_flaky_mirror_breaks_answers_off_but_never_lies() {
    let mirror = mirror(true);
    let mut wanted = vec![0; 100_000];
    assert!(Dataset::generated().read(&FILE[1..], 0, &mut wanted));
    let lengths: Vec<usize> = (0..FLAKY_BREAK_EVERY)
        .map(|_| {
            let body = get(&mirror, FILE, "Range: bytes=0-99999\r\n").1;
            assert!(wanted.starts_with(&body));
            body.len()
        })
        .collect();
    let (last, whole) = lengths.split_last().unwrap();
    assert!(whole.iter().all(|&length| length == 100_000) && *last < 100_000, "{lengths:?}");
    assert_eq!(mirror.faults_made(), 1);
}

#[test]
fn a_stopped_mirror_refuses() {
    let mirror = mirror(false);
    let address = mirror.address;
    mirror.stop();
    assert!(TcpStream::connect(address).is_err());
}
