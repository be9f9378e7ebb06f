//! Redirects: followed, remembered, forgotten, refused.

use super::mirror::{FILE, ask, file, kind, mirror, mirror_at, read, say};
use crate::sources::{FailureKind, RangeAsk};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[tokio::test]
async fn redirects_are_followed_remembered_and_credentials_stay_at_home() {
    let cdn = mirror(|asked| match asked.target.as_str() {
        "/signed?sig=1" => file(asked, FILE, &["ETag: \"cdn\""]),
        _ => say("403 Forbidden", &[], b"expired"),
    })
    .await;
    let round = Arc::new(AtomicUsize::new(0));
    let (signature, cdn_address) = (round.clone(), cdn.address.clone());
    let redirector = mirror_at("127.0.0.1:0", move |_| {
        let signature = signature.fetch_add(1, Ordering::Relaxed) + 1;
        say("302 Found", &[&format!("Location: http://user:pw@{cdn_address}/signed?sig={signature}")], b"over there")
    })
    .await;
    let source = redirector.source_with(|settings| {
        settings.url.set_username("me").unwrap();
        settings.url.set_password(Some("secret")).unwrap();
        settings.headers = vec![("Cookie".into(), "secret".into()), ("X-Key".into(), "secret".into())];
    });
    assert!(!source.redacted_url().contains("secret") && !source.url().as_str().contains("secret"));
    assert_eq!(read(&source, &ask(0..5)).await.unwrap(), b"01234");
    assert_eq!(read(&source, &ask(5..10)).await.unwrap(), b"56789");
    assert_eq!(redirector.asked().len(), 1, "the target is remembered");
    let home = &redirector.asked()[0];
    assert_eq!(home.header("authorization"), Some("Basic bWU6c2VjcmV0"));
    assert_eq!((home.header("cookie"), home.header("x-key")), (Some("secret"), Some("secret")));
    for away in cdn.asked() {
        for name in ["authorization", "cookie", "x-key", "referer"] {
            assert_eq!(away.header(name), None, "{name} left home");
        }
    }

    // What was signed has expired: the redirector is asked once more, and no oftener.
    let expired = RangeAsk { path: b"other", ..ask(0..5) };
    let failure = source.open(&expired).await.map(|_| ()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.why.contains("/signed?… answered 403") && !failure.why.contains("sig="), "{failure}");
    round.store(0, Ordering::Relaxed);
    assert_eq!(read(&source, &expired).await.unwrap(), b"01234");
    let before = (redirector.asked().len(), cdn.asked().len());
    source.reconnect().unwrap();
    assert_eq!(kind(source.open(&expired).await), FailureKind::Refused);
    assert_eq!((redirector.asked().len(), cdn.asked().len()), (before.0 + 1, before.1 + 1));
}

#[tokio::test]
async fn a_remembered_target_that_has_expired_is_asked_for_anew_once() {
    let gone = Arc::new(AtomicUsize::new(0));
    let now_gone = gone.clone();
    let mirror = mirror(move |asked| match asked.target.as_str() {
        "/old" if now_gone.load(Ordering::Relaxed) > 0 => say("403 Forbidden", &[], b""),
        "/old" | "/new" => file(asked, FILE, &[]),
        _ if now_gone.load(Ordering::Relaxed) > 1 => say("302 Found", &["Location: /old"], b""),
        _ if now_gone.load(Ordering::Relaxed) > 0 => say("302 Found", &["Location: /new"], b""),
        _ => say("302 Found", &["Location: /old"], b""),
    })
    .await;
    let source = mirror.source();
    read(&source, &ask(0..5)).await.unwrap();
    gone.store(1, Ordering::Relaxed);
    read(&source, &ask(0..5)).await.unwrap();
    let home = "/data/dir/a%20file";
    assert_eq!(mirror.targets(), [home, "/old", "/old", home, "/new"]);
}

#[tokio::test]
async fn redirects_that_lead_nowhere_end() {
    let mirror = mirror(|asked| match asked.target.as_str() {
        "/data/ftp" => say("302 Found", &["Location: ftp://h/x"], b""),
        "/data/none" => say("302 Found", &[], b""),
        _ => say("302 Found", &["Location: /data/loop"], b""),
    })
    .await;
    let source = mirror.source();
    assert_eq!(kind(source.stat(b"loop").await), FailureKind::Refused);
    assert_eq!(mirror.targets().len(), 11);
    assert_eq!(kind(source.stat(b"ftp").await), FailureKind::Refused);
    assert_eq!(kind(source.stat(b"none").await), FailureKind::Corrupt);
}
