//! The faulty mirror is what the other tests believe in, so it is tested by itself.

use super::*;
use crate::support::{raw, wait};
use std::io::ErrorKind;

const SIZE: u64 = 300_000;

fn content() -> Vec<u8> {
    let mut bytes = vec![0; SIZE as usize];
    generate(7, 0, &mut bytes);
    bytes
}

fn mirror() -> FaultyMirror {
    FaultyMirror::start(Tree::new().with_generated("data/a.bin", 7, SIZE).with("data/odd name %#?.txt", *b"odd"))
}

fn range(mirror: &FaultyMirror, range: &str) -> raw::Raw {
    raw::get(mirror.address(), "/data/a.bin", range, "").unwrap()
}

#[test]
fn an_honest_mirror_answers_as_nginx_does() {
    let mirror = mirror();
    let whole = range(&mirror, "");
    assert_eq!((whole.status, whole.body == content()), (200, true));
    let part = range(&mirror, "1000-70000");
    assert_eq!((part.status, part.header("content-range")), (206, "bytes 1000-70000/300000"));
    assert_eq!(part.body, content()[1000..=70_000]);
    assert_eq!(range(&mirror, "299999-").body, content()[299_999..]);
    let beyond = range(&mirror, "300000-300001");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */300000"));
    assert_eq!(raw::get(mirror.address(), "/nothing", "", "").unwrap().status, 404);
    assert_eq!(raw::get(mirror.address(), "/data", "", "").unwrap().header("location"), "/data/");
    assert_eq!(raw::get(mirror.address(), "/data/odd%20name%20%25%23%3f.txt", "", "").unwrap().body, b"odd");
}

#[test]
fn an_index_page_names_every_entry_with_size_and_date() {
    let mirror = mirror();
    let page = String::from_utf8(raw::get(mirror.address(), "/data/", "", "").unwrap().body).unwrap();
    assert!(page.contains("<a href=\"a.bin\">a.bin</a>"), "{page}");
    assert!(page.contains("06-May-2024 07:08              300000"), "{page}");
    assert!(page.contains("<a href=\"odd%20name%20%25%23%3F.txt\">odd name %#?.txt</a>"), "{page}");
    let root = String::from_utf8(raw::get(mirror.address(), "/", "", "").unwrap().body).unwrap();
    assert!(root.contains("<a href=\"data/\">data/</a>"), "{root}");
    assert!(mirror.requests().iter().all(|request| request.is_index() && request.status == 200));
}

#[test]
fn validators_are_honoured() {
    let mirror = mirror();
    let etag = range(&mirror, "0-0").header("etag").to_owned();
    let asked = |more: &str| raw::get(mirror.address(), "/data/a.bin", "0-9", more).unwrap().status;
    assert_eq!(asked(&format!("If-Match: {etag}\r\n")), 206);
    assert_eq!(asked(&format!("If-Range: {etag}\r\n")), 206);
    assert_eq!(asked("If-Unmodified-Since: Mon, 06 May 2024 07:08:00 GMT\r\n"), 206);
    mirror.put("data/a.bin", Content::Generated { seed: 8, size_bytes: SIZE });
    assert_eq!(asked(&format!("If-Match: {etag}\r\n")), 412);
    assert_eq!(asked(&format!("If-Range: {etag}\r\n")), 200);
    assert_eq!(asked("If-Unmodified-Since: Mon, 06 May 2024 07:08:00 GMT\r\n"), 412);
    mirror.remove("data/a.bin");
    assert_eq!(asked(""), 404);
}

#[test]
fn bodies_end_where_the_script_says() {
    let mirror = mirror();
    for (fault, kind) in [
        (Fault::TruncateAfter(5000), ErrorKind::UnexpectedEof),
        (Fault::ResetAfter(5000), ErrorKind::ConnectionReset),
        (Fault::StallAfter(5000), ErrorKind::TimedOut),
    ] {
        mirror.honest();
        mirror.always(fault.clone());
        let answer = range(&mirror, "100-99999");
        assert_eq!((answer.status, answer.broken), (206, Some(kind)), "{fault:?}");
        assert_eq!(answer.body, content()[100..5100], "{fault:?}");
    }
    assert_eq!(mirror.data_bytes_of("data/a.bin"), 15_000);
}

#[test]
fn a_stall_ends_when_the_rules_are_lifted() {
    let mirror = mirror();
    mirror.always(Fault::StallAfter(5000));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| range(&mirror, "0-99999"));
        wait::until("the stall is reached", || mirror.data_bytes() == 5000);
        mirror.honest();
        assert_eq!(reader.join().unwrap().body, content()[..100_000]);
    });
}

#[test]
fn silence_and_hangup_give_no_answer() {
    let mirror = mirror();
    mirror.always(Fault::Silent);
    let silence = raw::get(mirror.address(), "/data/a.bin", "", "").unwrap_err();
    assert_eq!(silence.kind(), ErrorKind::WouldBlock);
    mirror.honest();
    mirror.always(Fault::Hangup);
    let hangup = raw::get(mirror.address(), "/data/a.bin", "", "").unwrap_err();
    assert!(matches!(hangup.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{hangup}");
}

#[test]
fn each_lie_is_told() {
    let told = |fault: Fault| {
        let mirror = mirror();
        mirror.always(fault);
        range(&mirror, "1000-1999")
    };
    let shifted = told(Fault::ContentRange { start: 4096, end: 4096, total: 0 });
    assert_eq!((shifted.header("content-range"), shifted.body.len()), ("bytes 5096-6095/300000", 1000));
    assert_eq!(
        told(Fault::ContentRange { start: 0, end: 0, total: 1 }).header("content-range"),
        "bytes 1000-1999/300001"
    );
    assert_eq!(told(Fault::ShiftedBytes(1)).body, content()[1001..2001]);
    let whole = told(Fault::WholeForRange);
    assert_eq!((whole.status, whole.body == content(), whole.header("content-range")), (200, true, ""));
    assert_eq!(told(Fault::NoRanges).header("accept-ranges"), "");
    let gzip = told(Fault::Gzip);
    assert_eq!((gzip.header("content-encoding"), &gzip.body[..2]), ("gzip", &[0x1f, 0x8b][..]));
    let page = told(Fault::HtmlPage { status: 206 });
    assert_eq!((page.status, page.header("content-range")), (206, "bytes 1000-1999/300000"));
    assert!(page.body.starts_with(b"<html>") && page.header("content-type") == "text/html");
    assert_eq!(told(Fault::HtmlPage { status: 200 }).status, 200);
    assert_eq!(told(Fault::Corrupt).body[0], content()[1000] ^ 0x55);
    let mut flipped = content()[1000..2000].to_vec();
    flipped[5] ^= 1;
    assert!(told(Fault::FlipByte(1005)).body == flipped && told(Fault::FlipByte(2000)).body == content()[1000..2000]);
    // Of "a range of 1000 bytes" there is one MD5, 16 bytes in base64; of the file another.
    let (part, whole) = (told(Fault::Hashed(Hashed::ContentMd5)), told(Fault::Hashed(Hashed::ObjectMd5)));
    assert!(part.header("content-md5").len() == 24 && part.header("content-md5") != whole.header("content-md5"));
    let long = told(Fault::ContentLength(10));
    assert_eq!((long.header("content-length"), long.broken), ("1010", Some(ErrorKind::UnexpectedEof)));
    assert_eq!(told(Fault::ContentLength(-10)).body, content()[1000..1990]);
    let multipart = told(Fault::Multipart);
    assert_eq!((multipart.status, multipart.header("content-range")), (206, ""));
    let throttled = told(Fault::Status { code: 503, retry_after_s: Some(7) });
    assert_eq!((throttled.status, throttled.header("retry-after")), (503, "7"));
    let moved = told(Fault::Redirect { base: "http://127.0.0.1:9/x".into(), query: "signature=1".into() });
    assert_eq!(moved.header("location"), "http://127.0.0.1:9/x/data/a.bin?signature=1");
}

#[test]
fn gzip_answers_are_real_gzip() {
    // The checksum of "123456789" is the standard's own check value.
    let packed = gzip::stored(b"123456789");
    assert_eq!(packed[packed.len() - 8..][..4], 0xcbf4_3926_u32.to_le_bytes());
}

#[test]
fn etags_flip_from_answer_to_answer() {
    let mirror = mirror();
    mirror.always(Fault::FlipEtag);
    assert_ne!(range(&mirror, "0-9").header("etag"), range(&mirror, "0-9").header("etag"));
}

#[test]
fn rules_strike_by_number_prefix_and_condition() {
    let mirror = mirror();
    let late = Rule::new(Fault::Status { code: 503, retry_after_s: None }).under("data/a").from(1).times(2);
    let only_end = Rule::new(Fault::Status { code: 404, retry_after_s: None })
        .when(|request| request.range().is_some_and(|(first, _)| first == 500));
    mirror.add(late.clone());
    mirror.add(only_end.clone());
    let seen: Vec<u16> = (0..4).map(|_| range(&mirror, "0-9").status).collect();
    assert_eq!(seen, [206, 503, 503, 206]);
    assert_eq!(range(&mirror, "500-600").status, 404);
    assert_eq!((late.struck(), only_end.struck()), (2, 1));
    assert_eq!(mirror.data_requests().len(), 5);
    assert_eq!(mirror.requests()[4].range(), Some((500, Some(600))));
}

#[test]
fn a_frozen_mirror_goes_on_where_it_was() {
    let mirror = mirror();
    mirror.freeze();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| range(&mirror, ""));
        assert!(!wait::within(Duration::from_millis(200), || reader.is_finished()));
        mirror.thaw();
        assert_eq!(reader.join().unwrap().body, content());
    });
}

#[test]
fn down_refuses_and_up_serves_on_the_same_port() {
    let mut mirror = mirror();
    mirror.down();
    assert_eq!(TcpStream::connect(mirror.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    mirror.up();
    assert_eq!(range(&mirror, "0-9").body, content()[..10]);
    mirror.close_at_accept();
    assert!(raw::get(mirror.address(), "/data/a.bin", "", "").is_err());
}

#[test]
fn a_black_hole_takes_no_connection() {
    let hole = BlackHole::open();
    let address: SocketAddr = hole.url()["http://".len()..].trim_end_matches('/').parse().unwrap();
    let refused = TcpStream::connect_timeout(&address, Duration::from_millis(300)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TimedOut);
}

#[test]
fn tls_serves_the_same_bytes() {
    let mirror = FaultyMirror::start_tls(Tree::new().with_generated("a.bin", 7, SIZE));
    assert!(mirror.url().starts_with("https://"));
    let mut roots = rustls::RootCertStore::empty();
    let pem = mirror.certificate_pem().as_bytes();
    let certificate = rustls::pki_types::pem::PemObject::from_pem_slice(pem).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let stream = rustls::StreamOwned::new(session, TcpStream::connect(mirror.address()).unwrap());
    assert_eq!(raw::exchange(stream, "/a.bin", "5-99", "").unwrap().body, content()[5..100]);
}

#[test]
fn a_kept_connection_serves_one_answer_after_the_other() {
    let mirror = mirror();
    let stream = TcpStream::connect(mirror.address()).unwrap();
    for at in [0_usize, 5, 77] {
        let answer =
            raw::get_over(stream.try_clone().unwrap(), "/data/a.bin", &format!("{at}-{}", at + 9), "").unwrap();
        assert_eq!(answer.body, content()[at..at + 10]);
    }
    assert_eq!(mirror.connections_made(), 1);
}
