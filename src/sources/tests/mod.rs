//! A source against a mirror on loopback that answers as it is told, to the byte.

mod mirror;
mod redirects;
mod tls;

use super::*;
use crate::metrics::Metrics;
use mirror::{FILE, ask, file, kind, mirror, mirror_at, raw, read, say};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;

#[tokio::test]
async fn ranges_of_a_good_mirror_come_over_one_connection() {
    let mirror =
        mirror(|asked| file(asked, FILE, &["ETag: \"v1\"", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"])).await;
    let source = mirror.source();
    for range in [0..5, 5..20, 19..20] {
        let wanted = &FILE[range.start as usize..range.end as usize];
        assert_eq!(read(&source, &ask(range)).await.unwrap(), wanted);
    }
    let stat = source.stat(b"dir/a file").await.unwrap();
    assert_eq!((stat.size_bytes, stat.ranges, stat.folder), (20, Some(true), false));
    assert_eq!(stat.modified_unix_s, Some(784_111_777));
    let expected = RangeAsk { validator: Some(&stat.validator), ..ask(0..1) };
    assert_eq!(read(&source, &expected).await.unwrap(), b"0");
    source.probe(Some(b"dir/a file")).await.unwrap();
    let asked = mirror.asked();
    assert!(asked.iter().all(|asked| asked.target == "/data/dir/a%20file"));
    assert!(asked.iter().all(|asked| asked.header("accept-encoding") == Some("identity")));
    assert_eq!(asked[0].header("user-agent"), Some(concat!("braidfs/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(asked[0].header("range"), Some("bytes=0-4"));
    assert_eq!(asked[4].header("if-match"), Some("\"v1\""));
    assert_eq!(mirror.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn lies_in_the_headers_are_named_and_nothing_is_read() {
    use FailureKind::*;
    let table = [
        ("HTTP/1.1 206 P\r\nContent-Range: bytes 1-5/20\r\nContent-Length: 5\r\n\r\n12345", Corrupt, "sends bytes 1-5"),
        (
            "HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/99\r\nContent-Length: 5\r\n\r\n01234",
            Changed,
            "99 bytes instead of 20",
        ),
        (
            "HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/20\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x0b234",
            Corrupt,
            "gzip",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", Corrupt, "HTML page"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0123456789abcdefghij", NoRanges, "whole files only"),
        ("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", Refused, "403 Forbidden"),
        (
            "HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
            Throttled { retry_after: Some(std::time::Duration::from_secs(7)) },
            "7 s",
        ),
        ("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", Unreachable, "500"),
        ("nonsense\r\n\r\n", Unreachable, "cannot be reached"),
    ];
    for (said, kind, word) in table {
        let mirror = mirror(move |_| raw(said)).await;
        let failure = mirror.source().open(&ask(0..5)).await.map(|_| ()).unwrap_err();
        assert_eq!(failure.kind, kind, "{said}: {failure}");
        let address = format!("http://{}/data/dir/a%20file ", mirror.address);
        assert!(failure.why.starts_with(&address) && failure.why.contains(word), "{said}: {failure}");
    }
}

#[tokio::test]
async fn bodies_that_are_not_as_long_as_promised_are_noticed() {
    use FailureKind::*;
    let head = "HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/20\r\n";
    let table = [
        ("Content-Length: 5\r\n\r\n012", Unreachable, "after 3 of 5"),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\n012\r\n0\r\n\r\n", Corrupt, "ended after 3 of 5"),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\n012\r\n", Unreachable, "after 3 of 5"),
        ("Transfer-Encoding: chunked\r\n\r\n7\r\n0123456\r\n0\r\n\r\n", Corrupt, "more than the 5"),
        ("Connection: close\r\n\r\n012", Unreachable, "after 3 of 5"),
        ("Connection: close\r\n\r\n0123456", Corrupt, "more than the 5"),
    ];
    for (rest, kind, word) in table {
        let said = format!("{head}{rest}");
        let mirror = mirror(move |_| raw(&said)).await;
        let failure = read(&mirror.source(), &ask(0..5)).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{rest}: {failure}");
        assert!(failure.why.contains(word), "{rest}: {failure}");
    }
    for rest in ["Connection: close\r\n\r\n01234", "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n\r\n"] {
        let said = format!("{head}{rest}");
        let mirror = mirror(move |_| raw(&said)).await;
        assert_eq!(read(&mirror.source(), &ask(0..5)).await.unwrap(), b"01234");
    }
}

#[tokio::test]
async fn a_mirror_without_ranges_serves_whole_files() {
    let mirror = mirror(|_| say("200 OK", &[], FILE)).await;
    let source = mirror.source();
    assert_eq!(source.stat(b"x").await.unwrap().ranges, Some(false));
    assert_eq!(kind(source.open(&ask(0..5)).await), FailureKind::NoRanges);
    assert_eq!(read(&source, &ask(0..20)).await.unwrap(), FILE);
    assert_eq!(read(&source, &RangeAsk { whole: true, ..ask(0..5) }).await.unwrap(), FILE);
    assert_eq!(mirror.asked().last().unwrap().header("range"), None);
}

#[tokio::test]
async fn an_empty_file_has_a_size() {
    let mirror = mirror(|asked| file(asked, b"", &["ETag: \"e\""])).await;
    let stat = mirror.source().stat(b"empty").await.unwrap();
    assert_eq!((stat.size_bytes, stat.ranges, stat.validator.etag.as_deref()), (0, None, Some("\"e\"")));
    let nothing = RangeAsk { path: b"empty", bytes: 0..0, size_bytes: 0, validator: None, whole: false };
    assert_eq!(read(&mirror.source(), &nothing).await.unwrap(), b"");
}

#[tokio::test]
async fn what_is_no_file_has_no_stat() {
    let mirror = mirror(|asked| match asked.target.as_str() {
        "/data/dir" => say("301 Moved", &["Location: /data/dir/"], b"<html>moved</html>"),
        "/data/dir/" => say("200 OK", &["Content-Type: text/html"], b"<html>index</html>"),
        "/data/page.html" => say("200 OK", &["Content-Type: text/html"], b"<html>page</html>"),
        "/data/login" => say("200 OK", &["Content-Type: text/html"], b"<html>login</html>"),
        "/data/unknown" => raw("HTTP/1.1 200 OK\r\n\r\nwho knows how long"),
        _ => say("404 Not Found", &[], b""),
    })
    .await;
    let source = mirror.source();
    assert!(source.stat(b"dir").await.unwrap().folder);
    assert_eq!(kind(source.open(&RangeAsk { path: b"dir", ..ask(0..1) }).await), FailureKind::Changed);
    assert_eq!(source.stat(b"page.html").await.unwrap().size_bytes, 17);
    assert_eq!(kind(source.stat(b"login").await), FailureKind::Corrupt);
    assert_eq!(kind(source.stat(b"unknown").await), FailureKind::Corrupt);
    assert_eq!(kind(source.stat(b"x").await), FailureKind::Missing);
    assert_eq!(kind(source.stat(b"../etc/passwd").await), FailureKind::Missing);
    assert!(!mirror.targets().iter().any(|target| target.contains("passwd")));
}

#[tokio::test]
async fn folders_are_listed_behind_redirects_and_by_their_failures() {
    const INDEX: &[u8] = b"<html><title>Index of /</title><pre><a href=\"../\">../</a>\n\
        <a href=\"/moved/sub/x%ff\">x</a> 02-Jan-2024 03:04 7\n<a href=\"a%2Fb\">b</a> 02-Jan-2024 03:04 7\n</pre></html>";
    let mirror = mirror(|asked| match asked.target.as_str() {
        "/data/" => say("200 OK", &["Content-Type: application/json"], b"[\n]"),
        "/data/sub/" => say("301 Moved", &["Location: /moved/sub/"], b""),
        "/moved/sub/" => say("200 OK", &["Content-Type: text/html"], INDEX),
        "/data/gzip/" => say("200 OK", &["Content-Type: text/html", "Content-Encoding: gzip"], INDEX),
        "/data/cut/" => ([b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n", &INDEX[..80]].concat(), true),
        "/data/short/" => ([b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", &INDEX[..80]].concat(), true),
        "/data/login/" => say("200 OK", &["Content-Type: text/html"], b"<html><input type=password></html>"),
        "/data/locked/" => say("401 Unauthorized", &[], b""),
        _ => say("404 Not Found", &[], b""),
    })
    .await;
    let metrics = Arc::new(Metrics::default());
    let settings = Settings::parse(&format!("http://{}/data", mirror.address)).unwrap();
    let source = Source::new(settings, metrics.clone()).unwrap();
    assert_eq!(source.list(b"").await.unwrap().entries, []);
    let listing = source.list(b"sub").await.unwrap();
    assert_eq!(listing.entries.len(), 1);
    assert_eq!((listing.entries[0].name.as_slice(), listing.entries[0].size), (&b"x\xff"[..], Size::Exact(7)));
    use FailureKind::*;
    let table = [
        ("gzip", Corrupt),
        ("cut", Unreachable),
        ("short", Unreachable),
        ("login", Corrupt),
        ("locked", Refused),
        ("x", Missing),
    ];
    for (folder, wanted) in table {
        assert_eq!(kind(source.list(folder.as_bytes()).await), wanted, "{folder}");
    }
    assert_eq!((metrics.listings.get(), metrics.listing_failures.get(), metrics.refused_names.get()), (2, 6, 1));
    assert!(mirror.asked()[0].header("accept").unwrap().starts_with("application/json"));
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let source = Source::new(Settings::parse(&format!("http://{closed}/")).unwrap(), Arc::default()).unwrap();
    let failure = source.probe(None).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert!(failure.why.contains("refused"), "{failure}");
    let source = Source::new(Settings::parse("http://no-such-host.invalid/").unwrap(), Arc::default()).unwrap();
    assert_eq!(kind(source.list(b"").await), FailureKind::Unreachable);
}

#[tokio::test]
async fn ipv6_addresses_work() {
    let Ok(probe) = TcpListener::bind("[::1]:0").await else { return };
    drop(probe);
    let mirror = mirror_at("[::1]:0", |asked| file(asked, FILE, &[])).await;
    assert_eq!(read(&mirror.source(), &ask(3..6)).await.unwrap(), b"345");
}
