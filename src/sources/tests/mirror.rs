//! A mirror on loopback that answers as it is told, to the byte.

use crate::metrics::Metrics;
use crate::sources::{Failure, FailureKind, RangeAsk, Settings, Source};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

#[derive(Clone, Debug)]
pub struct Asked {
    pub target: String,
    headers: BTreeMap<String, String>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// The bytes of an answer, and whether the connection ends behind it.
pub type Said = (Vec<u8>, bool);

pub struct Mirror {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    pub connections: Arc<AtomicUsize>,
}

/// Read one request; `None` when the other side is done.
pub async fn request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let target = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Some(Asked { target, headers })
}

pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    asked: &Mutex<Vec<Asked>>,
    answer: &(dyn Fn(&Asked) -> Said + Send + Sync),
) {
    while let Some(request) = request(&mut stream).await {
        let (bytes, ends) = answer(&request);
        asked.lock().push(request);
        if stream.write_all(&bytes).await.is_err() || ends {
            break;
        }
    }
    let _ = stream.shutdown().await;
}

pub async fn mirror_at(address: &str, answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Mirror {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let connections = Arc::new(AtomicUsize::new(0));
    let (log, count, answer) = (asked.clone(), connections.clone(), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let (log, answer) = (log.clone(), answer.clone());
            tokio::spawn(async move { serve(stream, &log, &*answer).await });
        }
    });
    Mirror { address, asked, connections }
}

pub async fn mirror(answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Mirror {
    mirror_at("127.0.0.1:0", answer).await
}

impl Mirror {
    pub fn source(&self) -> Source {
        self.source_with(|_| {})
    }

    pub fn source_with(&self, change: impl FnOnce(&mut Settings)) -> Source {
        let mut settings = Settings::parse(&format!("http://{}/data", self.address)).unwrap();
        change(&mut settings);
        Source::new(settings, Arc::new(Metrics::default())).unwrap()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    pub fn targets(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.target).collect()
    }
}

pub fn say(status: &str, headers: &[&str], body: &[u8]) -> Said {
    let length = format!("Content-Length: {}", body.len());
    let headers: String = headers.iter().chain([&length.as_str()]).map(|line| format!("{line}\r\n")).collect();
    ([format!("HTTP/1.1 {status}\r\n{headers}\r\n").as_bytes(), body].concat(), false)
}

pub fn raw(text: &str) -> Said {
    (text.as_bytes().to_vec(), true)
}

pub const FILE: &[u8] = b"0123456789abcdefghij";

/// As a good mirror answers for a file of these bytes.
pub fn file(asked: &Asked, bytes: &[u8], headers: &[&str]) -> Said {
    let Some(range) = asked.header("range").and_then(|range| range.strip_prefix("bytes=")) else {
        return say("200 OK", headers, bytes);
    };
    let (first, last) = range.split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    if first >= bytes.len() {
        return say("416 Range Not Satisfiable", &[&format!("Content-Range: bytes */{}", bytes.len())], b"");
    }
    let range = format!("Content-Range: bytes {first}-{last}/{}", bytes.len());
    say("206 Partial Content", &[headers, &[&range]].concat(), &bytes[first..=last])
}

pub fn ask(bytes: std::ops::Range<u64>) -> RangeAsk<'static> {
    RangeAsk { path: b"dir/a file", bytes, size_bytes: FILE.len() as u64, validator: None, whole: false }
}

pub async fn read(source: &Source, ask: &RangeAsk<'_>) -> Result<Vec<u8>, Failure> {
    let mut body = source.open(ask).await?.body;
    let mut read = Vec::new();
    while let Some(bytes) = body.next().await? {
        read.extend_from_slice(&bytes);
        assert_eq!(body.offset(), body.bytes().start + read.len() as u64);
    }
    assert_eq!(body.next().await, Ok(None));
    Ok(read)
}

pub fn kind<T>(result: Result<T, Failure>) -> FailureKind {
    result.map(|_| ()).unwrap_err().kind
}
