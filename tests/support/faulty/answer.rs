//! The answer to a request: the honest one as nginx gives it, then what the script makes of it.

use super::gzip;
use super::log::Request;
use super::script::{Fault, Hashed, Plan};
use super::tree::{Content, Entry, Found, Tree, percent_encode};
use sha2::Digest;
use std::io;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

/// Status, headers and body, ready to be sent.
pub struct Answer {
    pub status: u16,
    headers: Vec<(&'static str, String)>,
    pub body: Body,
    /// The connection cannot be used again: the length was a lie.
    pub closes: bool,
}

/// What follows the headers.
pub enum Body {
    /// These bytes.
    Bytes(Vec<u8>),
    /// This range of a file, each byte XOR `mask`, and the one at `flipped` another one.
    File { content: Content, range: Range<u64>, mask: u8, flipped: Option<u64> },
}

impl Body {
    pub fn len(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File { range, .. } => range.end - range.start,
        }
    }

    pub fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Body::Bytes(bytes) => out.copy_from_slice(&bytes[offset as usize..offset as usize + out.len()]),
            Body::File { content, range, mask, flipped } => {
                content.read(range.start + offset, out)?;
                out.iter_mut().for_each(|byte| *byte ^= mask);
                let at = flipped.and_then(|at| at.checked_sub(range.start + offset));
                if let Some(byte) = at.and_then(|at| out.get_mut(at as usize)) {
                    *byte ^= 1;
                }
            }
        }
        Ok(())
    }

    fn whole(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len() as usize];
        self.read(0, &mut bytes).expect("the files of a test can be read");
        bytes
    }
}

impl Answer {
    /// To `request`, from `tree`, as `plan` has it.
    pub fn to(request: &Request, tree: &Tree, plan: &Plan) -> Answer {
        let mut answer = match tree.find(&request.path) {
            Found::Missing => Answer::error(404),
            Found::Folder if request.is_index() => Answer::page(200, tree.index_page(&request.path)),
            Found::Folder => {
                let mut answer = Answer::error(301);
                answer.set("Location", format!("/{}/", percent_encode(&request.path)));
                answer
            }
            Found::File(entry) => Answer::file(request, entry),
        };
        if let Found::File(entry) = tree.find(&request.path) {
            for lie in &plan.lies {
                answer.file_lie(lie, request, entry);
            }
        }
        for lie in &plan.lies {
            answer.lie(lie, request);
        }
        if request.method == "HEAD" || matches!(answer.status, 304) {
            answer.set("Content-Length", answer.body.len().to_string());
            answer.body = Body::Bytes(Vec::new());
        }
        answer
    }

    /// The status line and the headers.
    pub fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        if !self.headers.iter().any(|(name, _)| *name == "Content-Length") {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        self.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head + "Server: nginx/1.22.1\r\n\r\n"
    }

    fn page(status: u16, page: Vec<u8>) -> Answer {
        let headers = vec![("Content-Type", "text/html".to_owned())];
        Answer { status, headers, body: Body::Bytes(page), closes: false }
    }

    fn error(status: u16) -> Answer {
        let title = format!("{status} {}", reason(status));
        let page = format!("<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\r\n");
        Answer::page(status, page.into_bytes())
    }

    fn file(request: &Request, entry: &Entry) -> Answer {
        let size = entry.content.len();
        let (etag, date) = (entry.etag(), http_date(entry.mtime));
        let headers = vec![
            ("Content-Type", "application/octet-stream".to_owned()),
            ("Last-Modified", date.clone()),
            ("ETag", etag.clone()),
            ("Accept-Ranges", "bytes".to_owned()),
        ];
        if request.header("if-match").is_some_and(|wanted| wanted != "*" && !wanted.contains(&etag))
            || request.header("if-unmodified-since").and_then(seconds).is_some_and(|since| entry.mtime > since)
        {
            return Answer::error(412);
        }
        let not_modified = match request.header("if-none-match") {
            Some(known) => known == "*" || known.contains(&etag),
            None => request.header("if-modified-since").and_then(seconds).is_some_and(|since| entry.mtime <= since),
        };
        let whole = Body::File { content: entry.content.clone(), range: 0..size, mask: 0, flipped: None };
        if not_modified {
            return Answer { status: 304, headers, body: whole, closes: false };
        }
        let still_same = request.header("if-range").is_none_or(|wanted| wanted == etag || wanted == date);
        let mut answer = Answer { status: 200, headers, body: whole, closes: false };
        let Some((first, last)) = request.range().filter(|_| still_same) else { return answer };
        if first >= size || last.is_some_and(|last| last < first) {
            let mut refused = Answer::error(416);
            refused.set("Content-Range", format!("bytes */{size}"));
            return refused;
        }
        let end = last.map_or(size, |last| last.saturating_add(1).min(size));
        answer.status = 206;
        answer.set("Content-Range", format!("bytes {first}-{}/{size}", end - 1));
        answer.body = Body::File { content: entry.content.clone(), range: first..end, mask: 0, flipped: None };
        answer
    }

    /// Lies that need the file.
    fn file_lie(&mut self, lie: &Fault, request: &Request, entry: &Entry) {
        let size = entry.content.len();
        match (lie, &mut self.body) {
            (Fault::WholeForRange | Fault::NoRanges, Body::File { range, .. }) => {
                *range = 0..size;
                self.status = 200;
                self.unset("Content-Range");
                if matches!(lie, Fault::NoRanges) {
                    self.unset("Accept-Ranges");
                    self.unset("ETag");
                }
            }
            (Fault::ShiftedBytes(by), Body::File { range, .. }) if self.status == 206 => {
                let length = range.end - range.start;
                let start = range.start.saturating_add_signed(*by).min(size - length);
                *range = start..start + length;
            }
            (Fault::ContentRange { start, end, total }, Body::File { range, .. }) if self.status == 206 => {
                let said = |value: u64, by: i64| value.saturating_add_signed(by);
                let (first, last) = (said(range.start, *start), said(range.end - 1, *end));
                self.set("Content-Range", format!("bytes {first}-{last}/{}", said(size, *total)));
            }
            (Fault::Corrupt, Body::File { mask, .. }) => *mask = 0x55,
            (Fault::FlipByte(at), Body::File { flipped, .. }) => *flipped = Some(*at),
            (Fault::Hashed(kind), Body::File { range, .. }) => {
                let range = range.clone();
                let (name, value) = hashed(*kind, &entry.content, range);
                self.set(name, value);
            }
            (Fault::FlipEtag, _) => self.set("ETag", format!("\"flip-{}\"", request.number)),
            (Fault::Multipart, Body::File { range, .. }) if self.status == 206 => {
                let about = format!("Content-Range: bytes {}-{}/{size}\r\n\r\n", range.start, range.end - 1);
                let mut body = b"\r\n--frontier\r\nContent-Type: application/octet-stream\r\n".to_vec();
                body.extend(about.as_bytes());
                body.extend(self.body.whole());
                body.extend(b"\r\n--frontier--\r\n");
                self.body = Body::Bytes(body);
                self.unset("Content-Range");
                self.set("Content-Type", "multipart/byteranges; boundary=frontier".to_owned());
            }
            _ => {}
        }
    }

    fn lie(&mut self, lie: &Fault, request: &Request) {
        match lie {
            Fault::Gzip => {
                self.body = Body::Bytes(gzip::stored(&self.body.whole()));
                self.set("Content-Encoding", "gzip".to_owned());
            }
            Fault::HtmlPage { status } => {
                let range = self.headers.iter().find(|(name, _)| *name == "Content-Range").cloned();
                *self = Answer::page(*status, b"<html><body>Please log in</body></html>\r\n".to_vec());
                // A proxy that swaps the body and lets the rest of the headers stand.
                self.headers.extend(range.filter(|_| *status == 206));
            }
            Fault::Page(page) => *self = Answer::page(200, page.clone().into_bytes()),
            Fault::NoValidators => {
                self.unset("ETag");
                self.unset("Last-Modified");
            }
            Fault::ContentLength(by) => {
                let said = self.body.len().saturating_add_signed(*by);
                self.set("Content-Length", said.to_string());
                self.closes = true;
            }
            Fault::Status { code, retry_after_s } => {
                let total = self.headers.iter().find(|(name, _)| *name == "Content-Range");
                let total = total.and_then(|(_, range)| Some(range.rsplit_once('/')?.1.to_owned()));
                *self = Answer::error(*code);
                if let (416, Some(total)) = (*code, total) {
                    self.set("Content-Range", format!("bytes */{total}"));
                }
                if let Some(seconds) = retry_after_s {
                    self.set("Retry-After", seconds.to_string());
                }
            }
            Fault::Redirect { base, query } => {
                let mut to = format!("{}/{}", base.trim_end_matches('/'), percent_encode(&request.path));
                if !query.is_empty() {
                    to = format!("{to}?{query}");
                }
                *self = Answer::error(302);
                self.set("Location", to);
            }
            _ => {}
        }
    }

    fn set(&mut self, name: &'static str, value: String) {
        self.unset(name);
        self.headers.push((name, value));
    }

    fn unset(&mut self, name: &str) {
        self.headers.retain(|(have, _)| *have != name);
    }
}

/// The header, of the bytes as they should be.
fn hashed(kind: Hashed, content: &Content, range: Range<u64>) -> (&'static str, String) {
    use base64::Engine;
    let of = |range: Range<u64>, algorithm| {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        content.read(range.start, &mut bytes).expect("the files of a test can be read");
        let bytes: Vec<u8> = match algorithm {
            "md5" => md5::Md5::digest(&bytes).to_vec(),
            _ => sha2::Sha256::digest(&bytes).to_vec(),
        };
        base64::engine::general_purpose::STANDARD.encode(bytes)
    };
    match kind {
        Hashed::ContentMd5 => ("Content-MD5", of(range, "md5")),
        Hashed::ObjectMd5 => ("Content-MD5", of(0..content.len(), "md5")),
        Hashed::ContentDigest => ("Content-Digest", format!("sha-256=:{}:", of(range, "sha-256"))),
        Hashed::ReprDigest => ("Repr-Digest", format!("sha-256=:{}:", of(0..content.len(), "sha-256"))),
    }
}

fn http_date(mtime: i64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(mtime.max(0) as u64))
}

fn seconds(date: &str) -> Option<i64> {
    let since = httpdate::parse_http_date(date).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs() as i64)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        412 => "Precondition Failed",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Something Else",
    }
}
