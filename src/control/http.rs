//! What is served over HTTP to who asks for it: metrics, to be read only.

use super::exposition::{CONTENT_TYPE, exposition};
use super::server::{STATUS_WITHIN, StatusDoor};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connections at once: a few scrapers, and browsers.
const CONNECTIONS_MAX: usize = 16;
/// A client sends its request at once; one that does not is stuck.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// After the system refused a connection.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A port that listens.
pub struct HttpDoor {
    listener: std::net::TcpListener,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}; give another with --metrics")]
pub struct CannotListen {
    address: SocketAddr,
    error: std::io::Error,
}

impl HttpDoor {
    /// Listen, before there is anything to tell: a port that is taken is known before the mount.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(address: SocketAddr) -> Result<HttpDoor, CannotListen> {
        let listen = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(HttpDoor { listener })
        };
        listen().map_err(|error| CannotListen { address, error })
    }

    /// Serve for ever. Call it inside a runtime.
    pub async fn run(self, status: StatusDoor) {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "metrics are not served"),
        };
        if let Ok(address) = listener.local_addr() {
            tracing::info!("metrics at http://{address}/metrics");
        }
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // Never closed. Who comes when all are taken waits in the kernel's queue.
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let status = status.clone();
                    tokio::spawn(async move {
                        serve(stream, status).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a scraper could not connect");
                    #[allow(
                        clippy::disallowed_methods,
                        reason = "out of descriptors: there is no use in trying at once"
                    )]
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, status: StatusDoor) {
    let service = service_fn(|request| answer(request, status.clone()));
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a scraper's connection broke");
    }
}

async fn answer(request: Request<Incoming>, status: StatusDoor) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            // On a thread of its own: should it ever wait for a lock, nothing else does.
            let page = tokio::task::spawn_blocking(move || exposition(status()));
            match timeout(STATUS_WITHIN, page).await {
                Ok(Ok(page)) => text(StatusCode::OK, CONTENT_TYPE, page),
                Ok(Err(error)) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics failed: {error}\n")),
                Err(_) => {
                    plain(StatusCode::SERVICE_UNAVAILABLE, "the daemon did not say in time; see its log\n".into())
                }
            }
        }
        (_, "/metrics") => plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into()),
        _ => plain(StatusCode::NOT_FOUND, "there is /metrics, and nothing else\n".into()),
    })
}

fn plain(code: StatusCode, body: String) -> Response<Full<Bytes>> {
    text(code, "text/plain; charset=utf-8", body)
}

fn text(code: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
