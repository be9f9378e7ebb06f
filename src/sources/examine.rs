//! What an answer and a connection show of the mirror itself: for who looks for trouble. No byte of a file goes this way.

use super::client;
use super::failure::{Failure, redacted};
use super::request::{Get, Reply, drain};
use super::settings::{Proxy, Settings};
use super::source::Source;
use super::validator::{Validator, unix_of_http};
use hyper_util::client::legacy::connect::HttpInfo;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{ACCEPT_RANGES, CONTENT_ENCODING, DATE, HeaderMap, HeaderName, SERVER};
use reqwest::{Url, Version};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ProtocolVersion};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// What the answer to a request for one byte shows, besides the byte.
#[derive(Clone, Debug, PartialEq)]
pub struct Examined {
    /// 200, 206 or 416.
    pub status: u16,
    /// `HTTP/1.1`, `HTTP/2`.
    pub version: &'static str,
    /// Where redirects led, without credentials and query; `None` where there were none.
    pub led_to: Option<String>,
    /// Our end of the connection that it came by: the same as before where that was kept. `None` where it is not known.
    pub connection: Option<SocketAddr>,
    /// From the request to the headers of the answer, redirects included.
    pub first_byte: Duration,
    /// Its own clock (Date), in seconds since 1970.
    pub date_unix_s: Option<i64>,
    /// What it calls itself (Server).
    pub server: Option<String>,
    /// What it calls this version of the file.
    pub validator: Validator,
    /// Content-Encoding, where it is another than `identity`.
    pub encoding: Option<String>,
    /// What it says of ranges (Accept-Ranges).
    pub accept_ranges: Option<String>,
}

/// What a TLS connection to a mirror agrees on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// `TLS 1.3`.
    pub version: &'static str,
    /// The protocol that it chose of those offered: `h2`, `http/1.1`.
    pub protocol: Option<String>,
    /// How long it took, from the connected socket on.
    pub took: Duration,
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The certificate is not believed.
    #[error("{0}")]
    Certificate(String),
    /// No TLS at all, none in common, or the connection broke.
    #[error("{0}")]
    Other(String),
}

impl Source {
    /// One byte of `path` (of the mirror's folder with an empty one), and what its answer shows.
    ///
    /// # Errors
    /// What a request for it meets; statuses that are failures.
    pub async fn examine(&self, path: &[u8]) -> Result<Examined, Failure> {
        let url = self.url_of(path)?;
        let reply = self.get(&Get { url: url.clone(), range: Some(0..1), validator: None, accept: None }).await?;
        let Reply { response, url: answered, host, first_byte, .. } = reply;
        let headers = response.headers();
        let text = |name: HeaderName| text_of(headers, name);
        let examined = Examined {
            status: response.status().as_u16(),
            version: named(response.version()),
            led_to: (answered != url).then(|| redacted(&answered)),
            connection: response.extensions().get::<HttpInfo>().map(HttpInfo::local_addr),
            first_byte,
            date_unix_s: text(DATE).and_then(|date| unix_of_http(&date)),
            server: text(SERVER),
            validator: Validator::of_headers(headers, host.as_deref()),
            encoding: text(CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity")),
            accept_ranges: text(ACCEPT_RANGES),
        };
        drain(response).await;
        Ok(examined)
    }

    /// Host and port of the mirror, a literal IPv6 address without its brackets.
    pub fn place(&self) -> (String, u16) {
        let host = self.url().host_str().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (host.to_owned(), self.url().port_or_known_default().unwrap_or(0))
    }

    /// The proxy that requests to the mirror go through, as `host:port`.
    pub fn proxy(&self) -> Option<String> {
        let shown = |host: Option<&str>, port: Option<u16>| {
            Some(format!("{}{}", host?, port.map(|port| format!(":{port}")).unwrap_or_default()))
        };
        match &self.settings.proxy {
            Proxy::Off => None,
            Proxy::Through(proxy) => shown(proxy.host_str(), proxy.port()),
            Proxy::Environment if client::is_loopback(self.url()) => None,
            Proxy::Environment => {
                let through = Matcher::from_system().intercept(&self.url().as_str().parse().ok()?)?;
                shown(through.uri().host(), through.uri().port_u16())
            }
        }
    }

    /// Make a TLS connection to the mirror at `address`, and close it. Blocks, for twice `patience` or so where the
    /// mirror falls silent.
    ///
    /// # Errors
    /// There is none: why.
    pub fn handshake(&self, address: SocketAddr, patience: Duration) -> Result<Handshake, HandshakeError> {
        shake_hands(&self.settings, self.url(), address, patience)
    }
}

fn shake_hands(
    settings: &Settings,
    url: &Url,
    address: SocketAddr,
    patience: Duration,
) -> Result<Handshake, HandshakeError> {
    let other = |error: &dyn std::fmt::Display| HandshakeError::Other(error.to_string());
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(|error| other(&error))?;
    let tls = Arc::new(client::tls(settings).map_err(|error| other(&error))?);
    let mut session = ClientConnection::new(tls, name).map_err(|error| other(&error))?;
    let mut stream = TcpStream::connect_timeout(&address, patience).map_err(|error| other(&error))?;
    let limits = stream.set_read_timeout(Some(patience)).and_then(|()| stream.set_write_timeout(Some(patience)));
    limits.map_err(|error| other(&error))?;
    let start = crate::clock::now();
    while session.is_handshaking() {
        session.complete_io(&mut stream).map_err(|error| refused(&error))?;
        if crate::clock::now().since(start) > patience {
            return Err(HandshakeError::Other(format!("it is not done after {} s", patience.as_secs())));
        }
    }
    let protocol = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS",
    };
    let took = crate::clock::now().since(start);
    session.send_close_notify();
    // Who hangs up first is not waited for.
    let _ = session.write_tls(&mut stream);
    Ok(Handshake { version, protocol, took })
}

fn refused(error: &io::Error) -> HandshakeError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_)) => HandshakeError::Certificate(error.to_string()),
        _ if error.kind() == io::ErrorKind::WouldBlock => HandshakeError::Other("it fell silent".into()),
        _ => HandshakeError::Other(error.to_string()),
    }
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let text = String::from_utf8_lossy(headers.get(name)?.as_bytes()).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn named(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/3",
    }
}
