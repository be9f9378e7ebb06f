//! A port that answers HTTP, each connection one request: bounded in number, in length and in time.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
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
/// The head of a request may have so much, or what comes at once, twice that at most; browsers' have some 1 KiB, and
/// cookies of other pages of the same host.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// A connection at most, answer and all: who does not take the answer gives its place to others.
const CONNECTION_WITHIN: Duration = Duration::from_secs(120);
/// After the system refused a connection.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// An answer, all of it.
pub type Answered = Response<Full<Bytes>>;

/// A port that listens.
pub struct HttpDoor {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}; give another with {option}")]
pub struct CannotListen {
    address: SocketAddr,
    option: &'static str,
    error: std::io::Error,
}

impl HttpDoor {
    /// Listen, before there is anything to tell: a port that is taken is known before the mount. `option`: by what
    /// the address was given.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(address: SocketAddr, option: &'static str) -> Result<HttpDoor, CannotListen> {
        let listen = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(HttpDoor { listener, address })
        };
        listen().map_err(|error| CannotListen { address, option, error })
    }

    /// Where, with the port that was picked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serve `what` for ever. Call it inside a runtime.
    pub async fn serve<A, F>(self, what: &'static str, answer: A)
    where
        A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Answered> + Send + 'static,
    {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "not served: {what}"),
        };
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // Never closed. Who comes when all are taken waits in the kernel's queue.
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let answer = answer.clone();
                    tokio::spawn(async move {
                        serve(stream, what, answer).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a client of {what} could not connect");
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

async fn serve<A, F>(stream: TcpStream, what: &'static str, answer: A)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Answered>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    // One that stays open without a request would keep others out.
    connection.keep_alive(false).max_buf_size(HEAD_BYTES_MAX);
    match timeout(CONNECTION_WITHIN, connection.serve_connection(TokioIo::new(stream), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection of {what} broke"),
        Err(_) => tracing::debug!("a connection of {what} took too long"),
    }
}

/// An answer in plain text.
pub fn plain(code: StatusCode, body: impl Into<Bytes>) -> Answered {
    text(code, "text/plain; charset=utf-8", body)
}

/// An answer of a kind.
pub fn text(code: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answered {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
