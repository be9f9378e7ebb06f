//! Connections to one mirror: TLS, proxies, and how long idle ones are kept.

use super::failure::redacted;
use super::settings::{BadSource, Proxy, Settings};
use reqwest::{Client, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use url::{Host, Url};

/// Less than the 65 to 75 s after which nginx and most others hang up: a request never meets a
/// connection that is being closed.
const IDLE_KEPT: Duration = Duration::from_secs(55);
/// Enough for a mirror's whole window of 256 KiB ranges; what is idle beyond it costs memory.
const IDLE_CONNECTIONS_MAX: usize = 32;
/// A line that went away (a laptop that changed networks) is noticed within 15 s even where no
/// fetch waits: the system's own default would take 2 hours.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// So much of one HTTP/2 answer may be under way: 2 MiB fill 100 MB/s over 20 ms.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// All answers of an HTTP/2 connection together. It bounds what we must hold for slow readers.
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// Connections to one mirror and to where it redirects. No redirect is followed, nothing is
/// decompressed, nothing is retried.
///
/// # Errors
/// Of the settings, what is wrong with their certificates or their proxy.
pub fn build(settings: &Settings) -> Result<Client, BadSource> {
    let url = redacted(&settings.url);
    let bad = |error: reqwest::Error| BadSource::Client { url: url.clone(), why: error.to_string() };
    let agent = settings.user_agent.clone();
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls(settings)?)
        .redirect(redirect::Policy::none())
        .referer(false)
        .user_agent(agent.unwrap_or_else(|| concat!("braidfs/", env!("CARGO_PKG_VERSION")).into()))
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(IDLE_KEPT)
        .pool_max_idle_per_host(if settings.keeps_connections { IDLE_CONNECTIONS_MAX } else { 0 })
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE);
    builder = match settings.http2 {
        true => builder
            .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES),
        false => builder.http1_only(),
    };
    builder = match &settings.proxy {
        Proxy::Environment if !is_loopback(&settings.url) => builder,
        Proxy::Environment | Proxy::Off => builder.no_proxy(),
        Proxy::Through(proxy) => builder.no_proxy().proxy(reqwest::Proxy::all(proxy.clone()).map_err(bad)?),
    };
    builder.build().map_err(bad)
}

/// No proxy can reach this machine's own loopback.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// One configuration per mirror, so that its TLS sessions are resumed.
pub(super) fn tls(settings: &Settings) -> Result<ClientConfig, BadSource> {
    let mut roots = machine_roots();
    if let Some(path) = &settings.ca_file {
        let bad = |why: String| BadSource::CaFile { url: redacted(&settings.url), path: path.clone(), why };
        let own = CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?;
        let mut own_count = 0;
        for certificate in own {
            let certificate = certificate.map_err(|error| bad(error.to_string()))?;
            Arc::make_mut(&mut roots).add(certificate).map_err(|error| bad(error.to_string()))?;
            own_count += 1;
        }
        if own_count == 0 {
            return Err(bad("holds no certificate (it must be PEM)".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| BadSource::Client { url: redacted(&settings.url), why: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = match settings.http2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    if !settings.resumes_tls {
        tls.resumption = rustls::client::Resumption::disabled();
    }
    Ok(tls)
}

/// The certificate authorities of this machine, read once and shared: with a thousand mirrors,
/// a copy each would be 200 MB. A machine without any still reaches `http://` mirrors.
fn machine_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a certificate authority of this machine cannot be read");
        }
        let (added, ignored) = roots.add_parsable_certificates(found.certs);
        tracing::debug!(added, ignored, "certificate authorities of this machine");
        Arc::new(roots)
    };
    ROOTS.get_or_init(read).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_is_none_is_named() {
        let mut settings = Settings::parse("https://h/").unwrap();
        settings.ca_file = Some("/nonexistent/ca.pem".into());
        assert!(build(&settings).unwrap_err().to_string().contains("/nonexistent/ca.pem"));
        let file = tempfile::NamedTempFile::new().unwrap();
        settings.ca_file = Some(file.path().into());
        assert!(build(&settings).unwrap_err().to_string().contains("must be PEM"));
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for (address, wanted) in [("http://127.0.0.2/", true), ("http://[::1]/", true), ("http://localhost/", true)] {
            assert_eq!(is_loopback(&Url::parse(address).unwrap()), wanted, "{address}");
        }
        for address in ["http://mirror.example/", "http://10.0.0.1/", "http://[2001:db8::1]/"] {
            assert!(!is_loopback(&Url::parse(address).unwrap()), "{address}");
        }
    }
}
