//! A mirror inside the demo's own process: real HTTP/1.1 on loopback, at a rate of its own, flaky if asked.

use super::dataset::{Dataset, Entry, MODIFIED_UNIX_SECONDS};
use super::pace::Pace;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{
    ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Every this many answers a flaky mirror breaks one off in the middle. Prime, as the next: the two seldom meet.
const FLAKY_BREAK_EVERY: u64 = 5;
/// Every this many answers a flaky mirror falls silent in one.
const FLAKY_STALL_EVERY: u64 = 7;
/// How long it is silent: longer than any healthy answer pauses, so that it is noticed and the work goes elsewhere.
const FLAKY_STALL: Duration = Duration::from_secs(4);
/// Long enough for a write to loopback, too short to be seen.
const FLUSH: Duration = Duration::from_millis(5);
/// Bytes handed to the socket at a time: a sixth of a second at 100 kB/s, so that even slow mirrors flow.
const FRAME_BYTES: u64 = 16 * 1024;

/// How fast a mirror is, and how reliable.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Body bytes a second over all its connections; nothing is as fast as the machine.
    pub bytes_per_second: Option<u64>,
    /// Breaks some answers off in the middle and falls silent in others.
    pub flaky: bool,
}

/// A running mirror; dropping it ends it.
pub struct Mirror {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counters {
    bytes: AtomicU64,
    answers: AtomicU64,
    faults: AtomicU64,
}

/// What the answers share.
struct Served {
    dataset: Arc<Dataset>,
    flaky: bool,
    pace: Pace,
    counters: Arc<Counters>,
}

impl Mirror {
    /// Serve `dataset` on a free port of 127.0.0.1, from a thread of its own.
    /// Fails where the loopback interface or a thread cannot be had.
    pub fn start(dataset: Arc<Dataset>, shape: Shape) -> io::Result<Mirror> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let counters = Arc::new(Counters::default());
        let pace = Pace::new(shape.bytes_per_second);
        let served = Arc::new(Served { dataset, flaky: shape.flaky, pace, counters: counters.clone() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("demo-mirror".to_owned()).spawn(move || {
            // Ending the runtime ends every connection with it.
            runtime.block_on(async {
                tokio::select! { _ = stopped => {}, () = accept(listener, served) => {} }
            });
        })?;
        Ok(Mirror { address, counters, stop: Some(stop), thread: Some(thread) })
    }

    /// Its base URL, ending in `/`.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Body bytes of files sent so far.
    pub fn bytes_served(&self) -> u64 {
        self.counters.bytes.load(Ordering::Relaxed)
    }

    /// Answers that it broke off or fell silent in, so far.
    pub fn faults_made(&self) -> u64 {
        self.counters.faults.load(Ordering::Relaxed)
    }

    /// End it now.
    pub fn stop(self) {}
}

impl Drop for Mirror {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Nobody to hear it means that the thread has ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: std::net::TcpListener, served: Arc<Served>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // Out of descriptors, most likely: the next connection may find one.
            tokio::task::yield_now().await;
            continue;
        };
        let served = served.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let answered = answer(&served, &request);
                async move { Ok::<_, Infallible>(answered) }
            });
            // A client that goes away, or an answer that was to break off: both are daily life here.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), answer).await;
        });
    }
}

type Answer = Response<Either<Full<Bytes>, FileBody>>;

fn answer(served: &Arc<Served>, request: &Request<Incoming>) -> Answer {
    let path = percent_encoding::percent_decode_str(request.uri().path().trim_start_matches('/'));
    let path = path.decode_utf8_lossy().into_owned();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return page(StatusCode::METHOD_NOT_ALLOWED, "405 Not Allowed".to_owned());
    }
    if path.is_empty() || path.ends_with('/') {
        return match served.dataset.folder(&path) {
            Some(entries) => page(StatusCode::OK, index_page(&path, &entries)),
            None => page(StatusCode::NOT_FOUND, "404 Not Found".to_owned()),
        };
    }
    match served.dataset.size_bytes(&path) {
        Some(size_bytes) => file(served, request, path, size_bytes),
        None if served.dataset.folder(&format!("{path}/")).is_some() => {
            let mut moved = page(StatusCode::MOVED_PERMANENTLY, "301 Moved Permanently".to_owned());
            let to = format!("{}/", request.uri().path()).parse().expect("a path that came in a header fits into one");
            moved.headers_mut().insert(LOCATION, to);
            moved
        }
        None => page(StatusCode::NOT_FOUND, "404 Not Found".to_owned()),
    }
}

fn file(served: &Arc<Served>, request: &Request<Incoming>, path: String, size_bytes: u64) -> Answer {
    let etag = format!("\"{MODIFIED_UNIX_SECONDS:x}-{size_bytes:x}\"");
    let modified = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(MODIFIED_UNIX_SECONDS as u64));
    let header = |name| request.headers().get(name).and_then(|value: &hyper::header::HeaderValue| value.to_str().ok());
    if header(IF_MATCH).is_some_and(|wanted| wanted != "*" && !wanted.contains(&etag)) {
        return page(StatusCode::PRECONDITION_FAILED, "412 Precondition Failed".to_owned());
    }
    let same = header(IF_RANGE).is_none_or(|wanted| wanted == etag || wanted == modified);
    let asked = header(RANGE).filter(|_| same).map(|range| parse_range(range, size_bytes));
    let (status, range) = match asked {
        Some(Asked::Part(range)) => (StatusCode::PARTIAL_CONTENT, range),
        Some(Asked::Beyond) => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
        Some(Asked::Other) | None => (StatusCode::OK, 0..size_bytes),
    };
    let content_range = match status {
        StatusCode::PARTIAL_CONTENT => Some(format!("bytes {}-{}/{size_bytes}", range.start, range.end - 1)),
        StatusCode::RANGE_NOT_SATISFIABLE => Some(format!("bytes */{size_bytes}")),
        _ => None,
    };
    let mut answer = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(LAST_MODIFIED, modified)
        .header(ETAG, etag)
        .header(ACCEPT_RANGES, "bytes");
    if let Some(content_range) = content_range {
        answer = answer.header(CONTENT_RANGE, content_range);
    }
    let body = FileBody::new(served.clone(), path, range);
    answer.body(Either::Right(body)).expect("every header above is made of plain text")
}

enum Asked {
    Part(Range<u64>),
    Beyond,
    /// Nothing that we do in parts: the whole file is a right answer to it.
    Other,
}

/// `bytes=FIRST-LAST` or `bytes=FIRST-`.
fn parse_range(text: &str, size_bytes: u64) -> Asked {
    let parsed = text.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let Some((Ok(first), last)) = parsed.map(|(first, last)| (first.parse::<u64>(), last)) else { return Asked::Other };
    let end = match last.parse::<u64>() {
        Ok(last) if last >= first => last.saturating_add(1).min(size_bytes),
        Err(_) if last.is_empty() => size_bytes,
        _ => return Asked::Other,
    };
    if first >= size_bytes { Asked::Beyond } else { Asked::Part(first..end) }
}

fn page(status: StatusCode, text: String) -> Answer {
    let answer = Response::builder().status(status).header(CONTENT_TYPE, "text/html");
    answer.body(Either::Left(Full::new(text.into()))).expect("every header above is made of plain text")
}

/// As nginx writes it.
fn index_page(folder: &str, entries: &[Entry]) -> String {
    let date = jiff::Timestamp::from_second(MODIFIED_UNIX_SECONDS).expect("a date of this century");
    let date = date.strftime("%d-%b-%Y %H:%M");
    let mut page = format!("<html>\r\n<head><title>Index of /{folder}</title></head>\r\n<body>\r\n");
    page += &format!("<h1>Index of /{folder}</h1><hr><pre><a href=\"../\">../</a>\r\n");
    for entry in entries {
        let (name, size) = match entry {
            Entry::Folder(name) => (format!("{name}/"), "-".to_owned()),
            Entry::File(name, size_bytes) => (name.clone(), size_bytes.to_string()),
        };
        let gap = " ".repeat(51_usize.saturating_sub(name.len()));
        page += &format!("<a href=\"{name}\">{name}</a>{gap}{date} {size:>19}\r\n");
    }
    page + "</pre><hr></body>\r\n</html>\r\n"
}

/// What goes wrong in one answer of a flaky mirror, half way through it.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    FlushAndBreakOff,
    BreakOff,
    Stall,
}

/// A range of a file, at the mirror's pace.
struct FileBody {
    served: Arc<Served>,
    path: String,
    range: Range<u64>,
    /// At this position the fault strikes.
    fault: Option<(u64, Fault)>,
    /// The next frame's length, once its turn has been taken.
    turn_bytes: u64,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl FileBody {
    fn new(served: Arc<Served>, path: String, range: Range<u64>) -> FileBody {
        let number = served.counters.answers.fetch_add(1, Ordering::Relaxed) + 1;
        let kind = match number {
            _ if !served.flaky => None,
            _ if number.is_multiple_of(FLAKY_BREAK_EVERY) => Some(Fault::FlushAndBreakOff),
            _ if number.is_multiple_of(FLAKY_STALL_EVERY) => Some(Fault::Stall),
            _ => None,
        };
        let fault = kind.map(|kind| (range.start + (range.end - range.start) / 2, kind));
        FileBody { served, path, range, fault, turn_bytes: 0, wait: None }
    }

    #[allow(clippy::disallowed_methods, reason = "a mirror's pace and its silences are waits for time themselves")]
    fn wait_for(&mut self, length: Duration) {
        self.wait = (!length.is_zero()).then(|| Box::pin(tokio::time::sleep(length)));
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        loop {
            if let Some(wait) = &mut this.wait {
                std::task::ready!(wait.as_mut().poll(context));
                this.wait = None;
            }
            if let Some((_, fault)) = this.fault.take_if(|(at, _)| *at <= this.range.start) {
                match fault {
                    Fault::Stall => {
                        this.served.counters.faults.fetch_add(1, Ordering::Relaxed);
                        this.wait_for(FLAKY_STALL);
                    }
                    // hyper sends what it holds when we make it wait; an error now would throw that away.
                    Fault::FlushAndBreakOff => {
                        this.fault = Some((this.range.start, Fault::BreakOff));
                        this.wait_for(FLUSH);
                    }
                    Fault::BreakOff => {
                        this.served.counters.faults.fetch_add(1, Ordering::Relaxed);
                        return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
                    }
                }
                continue;
            }
            if this.range.is_empty() {
                return Poll::Ready(None);
            }
            if this.turn_bytes == 0 {
                this.turn_bytes = FRAME_BYTES.min(this.range.end - this.range.start);
                let wait = this.served.pace.turn(this.turn_bytes, crate::clock::now());
                this.wait_for(wait);
                continue;
            }
            let length = std::mem::take(&mut this.turn_bytes);
            let mut bytes = vec![0; length as usize];
            if !this.served.dataset.read(&this.path, this.range.start, &mut bytes) {
                return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
            }
            this.range.start += length;
            this.served.counters.bytes.fetch_add(length, Ordering::Relaxed);
            return Poll::Ready(Some(Ok(Frame::data(bytes.into()))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.range.is_empty() && self.fault.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.range.end - self.range.start)
    }
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
