//! Metrics over HTTP, to be read only, by whoever reaches the port.

use super::answering::STATUS_WITHIN;
use super::exposition::{CONTENT_TYPE, exposition};
use super::http::{Answered, HttpDoor, plain, text};
use super::server::StatusDoor;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use tokio::time::timeout;

/// Serve them for ever. Call it inside a runtime.
pub async fn serve_metrics(door: HttpDoor, status: StatusDoor) {
    tracing::info!("metrics at http://{}/metrics", door.address());
    door.serve("the metrics", move |request| answer(request, status.clone())).await;
}

async fn answer(request: Request<Incoming>, status: StatusDoor) -> Answered {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            // On a thread of its own: should it ever wait for a lock, nothing else does.
            let page = tokio::task::spawn_blocking(move || exposition(status()));
            match timeout(STATUS_WITHIN, page).await {
                Ok(Ok(page)) => text(StatusCode::OK, CONTENT_TYPE, page),
                Ok(Err(error)) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics failed: {error}\n")),
                Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the daemon did not say in time; see its log\n"),
            }
        }
        (_, "/metrics") => plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n"),
        _ => plain(StatusCode::NOT_FOUND, "there is /metrics, and nothing else\n"),
    }
}
