//! TLS: authorities, resumed sessions, no way back to plain HTTP.

use super::mirror::{Asked, FILE, ask, file, read, say, serve};
use crate::sources::{FailureKind, Settings, Source};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

/// A mirror that speaks TLS by `name`'s certificate; gives the authority's PEM.
async fn tls_mirror(asked: Arc<Mutex<Vec<Asked>>>, resumed: Arc<AtomicUsize>) -> (u16, String) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = key.cert.pem();
    let certificate = key.cert.der().clone();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], private)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, asked, resumed) = (acceptor.clone(), asked.clone(), resumed.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                if stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
                    resumed.fetch_add(1, Ordering::Relaxed);
                }
                let answer = |asked: &Asked| match asked.target.as_str() {
                    "/data/down" => say("302 Found", &["Location: http://localhost/x"], b""),
                    _ => (file(asked, FILE, &["Connection: close"]).0, true),
                };
                serve(stream, &asked, &answer).await;
            });
        }
    });
    (port, pem)
}

#[tokio::test]
async fn tls_needs_a_known_authority_resumes_sessions_and_is_never_left() {
    let (asked, resumed) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
    let (port, pem) = tls_mirror(asked, resumed.clone()).await;
    let mut settings = Settings::parse(&format!("https://localhost:{port}/data")).unwrap();
    let stranger = Source::new(settings.clone(), Arc::default()).unwrap();
    let failure = stranger.stat(b"x").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert!(failure.why.contains("ca_file"), "{failure}");

    let folder = tempfile::tempdir().unwrap();
    let path: &Path = folder.path();
    std::fs::write(path.join("ca.pem"), pem).unwrap();
    settings.ca_file = Some(path.join("ca.pem"));
    let source = Source::new(settings, Arc::default()).unwrap();
    for _ in 0..3 {
        assert_eq!(read(&source, &ask(0..5)).await.unwrap(), b"01234");
    }
    assert_eq!(resumed.load(Ordering::Relaxed), 2, "the second connection needs no full handshake");
    let failure = source.stat(b"down").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.why.contains("from https to http://localhost/x"), "{failure}");
}
