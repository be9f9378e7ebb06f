//! A page that shows what a mount does, and gives it commands.
//!
//! Its three files hold nothing of the mount and are served to whoever asks. All that it shows and does goes through
//! `POST /command`, whose body is a request of the control socket and whose answer are the lines that would come over
//! that: there is one model. `gate` says who may: names of files are private, and every user of the machine reaches a
//! port, so nothing is told without the `token`, which only the mount's user and root can read.

mod gate;
mod token;

pub use token::{ADDRESS_FILE_END, Token, TokenError};

use super::answering::begin;
use super::http::{Answered, HttpDoor, plain, text};
use super::protocol::{Command, Refusal, RefusalKind, Reply, parse_request, reply_line};
use super::server::{Doors, REPLIES_QUEUED_MAX};
use bytes::Bytes;
use gate::Refused;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use token::AddressFile;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A request names a few paths.
const BODY_BYTES_MAX: usize = 64 << 10;
/// It comes at once.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Who waits longer had better use the command, which says how far it is. Below what a connection may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(100);
/// Decisions in one answer at most: more than the page shows, and some 200 KB.
const DECISIONS_MAX: u64 = 100;

/// For every answer. Nothing comes from elsewhere, nothing runs that is not in our own files, nobody frames it, and
/// nothing of it stays in a cache or in another page's referrer.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// A page that can be served, and is not yet.
pub struct WebDoor {
    http: HttpDoor,
    token: Token,
    file: AddressFile,
}

impl WebDoor {
    /// A token of its own, in a file beside `socket` with the page's address.
    ///
    /// # Errors
    /// The system gives no chance, or the file cannot be written.
    pub fn open(http: HttpDoor, socket: &Path) -> Result<WebDoor, TokenError> {
        let token = Token::new()?;
        let file = AddressFile::write(socket, &token.address_of_page(http.address()))?;
        Ok(WebDoor { http, token, file })
    }

    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Serve until `stop`; then its file goes too. Call it inside a runtime.
    pub async fn run(self, doors: Doors, stop: impl Future<Output = ()>) {
        let WebDoor { http, token, file } = self;
        let token = Arc::new(token);
        let serving = http.serve("the page", move |request| {
            let (doors, token) = (doors.clone(), token.clone());
            async move { guarded(answer(request, &doors, &token).await) }
        });
        tokio::select! {
            () = serving => {}
            () = stop => {}
        }
        drop(file);
    }
}

fn guarded(mut answer: Answered) -> Answered {
    for (name, value) in HEADERS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

async fn answer(request: Request<Incoming>, doors: &Doors, token: &Token) -> Answered {
    if let Err(Refused { code, why }) = gate::host(request.headers()) {
        return plain(code, why);
    }
    match (request.uri().path(), request.method()) {
        ("/command", &Method::POST) => match gate::command(request.headers(), token) {
            Ok(()) => command(request, doors).await,
            Err(Refused { code, why }) => plain(code, why),
        },
        ("/command", _) => only("POST"),
        (path, &Method::GET | &Method::HEAD) => match file(path) {
            Some((kind, body)) => text(StatusCode::OK, kind, body),
            None => plain(StatusCode::NOT_FOUND, "there is / and nothing else\n"),
        },
        (path, _) if file(path).is_some() => only("GET, HEAD"),
        _ => plain(StatusCode::NOT_FOUND, "there is / and nothing else\n"),
    }
}

/// It came by another method than those.
fn only(those: &'static str) -> Answered {
    let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, format!("{those} only\n"));
    refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static(those));
    refused
}

fn file(path: &str) -> Option<(&'static str, &'static str)> {
    match path {
        "/" => Some(("text/html; charset=utf-8", include_str!("page.html"))),
        "/page.css" => Some(("text/css; charset=utf-8", include_str!("page.css"))),
        "/page.js" => Some(("text/javascript; charset=utf-8", include_str!("page.js"))),
        "/charts.js" => Some(("text/javascript; charset=utf-8", include_str!("charts.js"))),
        _ => None,
    }
}

/// Do what the body asks for, and answer with the lines that the control socket would have.
async fn command(request: Request<Incoming>, doors: &Doors) -> Answered {
    let body = match timeout(BODY_WITHIN, Limited::new(request.into_body(), BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "more than 64 KiB, or broken off\n"),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the request did not come within 10 s\n"),
    };
    let mut lines = Vec::new();
    let last = match parse_request(&body).and_then(allowed) {
        Ok(command) => done(command, doors, &mut lines).await,
        Err(refusal) => Reply::Error(refusal),
    };
    let code = match &last {
        Reply::Error(refusal) => status_code(refusal.kind),
        _ => StatusCode::OK,
    };
    lines.extend(reply_line(&last));
    text(code, "application/x-ndjson", Bytes::from(lines))
}

/// What the page has buttons for, and what it shows. The rest of the commands would let a page that was left open end
/// the mount, or take a connection for as long as somebody reads.
fn allowed(command: Command) -> Result<Command, Refusal> {
    match command {
        Command::Status { .. }
        | Command::Mirrors { strategy: None, change: None }
        | Command::Prefetch { wait: false, .. }
        | Command::Cancel { .. }
        | Command::Pin { .. }
        | Command::Unpin { .. }
        | Command::Evict { .. } => Ok(command),
        Command::Explain { target, last } => {
            let last = Some(last.unwrap_or(DECISIONS_MAX).min(DECISIONS_MAX));
            Ok(Command::Explain { target, last })
        }
        _ => {
            let what = "the page does not do this: it has status, mirrors (to look at), explain, prefetch (without \
                        waiting), cancel, pin, unpin and evict; `braidfs --help` shows the commands";
            Err(Refusal::new(RefusalKind::Forbidden, what))
        }
    }
}

async fn done(command: Command, doors: &Doors, lines: &mut Vec<u8>) -> Reply {
    let (sender, mut replies) = mpsc::channel(REPLIES_QUEUED_MAX);
    // Nothing that is allowed goes on until it is told to stop.
    let (work, _) = begin(command, doors, sender);
    let hear = async {
        while let Some(reply) = replies.recv().await {
            // How far it is comes too late to be of use.
            if !matches!(reply, Reply::Alive | Reply::Progress(_)) {
                lines.extend(reply_line(&reply));
            }
        }
    };
    let both = async { tokio::join!(work, hear).0 };
    match timeout(ANSWER_WITHIN, both).await {
        Ok(last) => last.map_or_else(Reply::Error, Reply::Result),
        Err(_) => {
            let what = "not done within 100 s, and given up; the command of the same name waits longer";
            Reply::Error(Refusal::new(RefusalKind::Timeout, what))
        }
    }
}

fn status_code(kind: RefusalKind) -> StatusCode {
    match kind {
        RefusalKind::Version | RefusalKind::Request => StatusCode::BAD_REQUEST,
        RefusalKind::Forbidden => StatusCode::FORBIDDEN,
        RefusalKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
        RefusalKind::Missing => StatusCode::NOT_FOUND,
        RefusalKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        RefusalKind::Failed | RefusalKind::Other => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
