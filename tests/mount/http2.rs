//! HTTP/2, where a mirror's table asks for it.

use crate::support::dataset;
use crate::support::mounted::Place;
use crate::support::nginx::{Nginx, Setup};
use crate::support::reading::big;
use crate::support::wait;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// An nginx that has a second door, over TLS, where it answers HTTP/1.1 with an error.
fn nginx(place: &Place) -> (Nginx, SocketAddr) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (place.path("cert.pem"), place.path("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    wait::for_some("nginx on two free ports", || {
        let free = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [plain, tls] = free.each_ref().map(|listener| listener.local_addr().unwrap());
        drop(free);
        let more = format!(
            "listen {tls} ssl http2; ssl_certificate {}; ssl_certificate_key {};
             set $old \"$https$server_protocol\"; if ($old = onHTTP/1.1) {{ return 505; }}",
            certificate.display(),
            key.display()
        );
        let setup = Setup { more, ..Setup::default() };
        Some((Nginx::start_at(&dataset::root(), &setup, plain, Vec::new())?, tls))
    })
}

#[test]
fn a_mirror_that_is_to_be_asked_by_http_2_is() {
    let place = Place::new();
    let (nginx, address) = nginx(&place);
    let table = |more| format!("[[mirror]]\nurl = \"https://{address}/\"\nca-file = \"cert.pem\"\n{more}\n");
    let file = place.path("mirrors.toml");
    std::fs::write(&file, table("http2 = true")).unwrap();
    let mount = place.mount(&[file.to_str().unwrap()], &[]);
    big(&mount.path("big/a.bin"), "big/a.bin");
    mount.umount();
    let ranges = nginx.requests().iter().filter(|request| request.status == 206).count();
    assert!(ranges > 3, "{ranges} ranges");
    // As it is without being asked for.
    std::fs::write(&file, table("")).unwrap();
    let words = [Path::new("mount"), &file, &place.mountpoint(), Path::new("--cache-dir"), Path::new("none")];
    let refused = place.braidfs(words);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("505"), "HTTP/1.1 is refused here: {said}");
}
