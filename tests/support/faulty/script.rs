//! What goes wrong, where and when: rules, and what they make of one answer.

use super::log::Request;
use braidfs::clock::Time;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One way of being wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Wait before the headers.
    Delay(Duration),
    /// This many bytes a second, shared by all answers under the rule.
    Shape { bytes_per_second: u64 },
    /// One byte each 100 ms.
    Trickle,
    /// After this many body bytes send nothing more, and keep the connection.
    StallAfter(u64),
    /// After this many body bytes reset the connection (RST).
    ResetAfter(u64),
    /// After this many body bytes close in the middle of the promised length (FIN).
    TruncateAfter(u64),
    /// Read the request and never answer.
    Silent,
    /// Read the request and close without a word.
    Hangup,
    /// 206 whose Content-Range is off by these amounts (the bytes are the right ones).
    ContentRange { start: i64, end: i64, total: i64 },
    /// 206 with the right headers and the bytes from this far off: what only a second look finds.
    ShiftedBytes(i64),
    /// The byte at this place of the file is another: what only a hash finds.
    FlipByte(u64),
    /// This header says what the honest bytes hash to: those of the answer, or of the whole file.
    Hashed(Hashed),
    /// 200 with the whole file for a range.
    WholeForRange,
    /// No ranges at all: 200, the whole file, no Accept-Ranges, as `python -m http.server`.
    NoRanges,
    /// Content-Encoding: gzip, and the body is.
    Gzip,
    /// An HTML page for a file, with this status (200: a login page; 206: a broken proxy).
    HtmlPage { status: u16 },
    /// This page of HTML, with 200, for anything.
    Page(String),
    /// Another ETag in each answer.
    FlipEtag,
    /// No ETag, no Last-Modified.
    NoValidators,
    /// Each body byte XOR 0x55, right headers.
    Corrupt,
    /// Content-Length off by this much (the body keeps its true length; the connection closes after it).
    ContentLength(i64),
    /// 206 as multipart/byteranges.
    Multipart,
    /// A bare error status, with Retry-After in seconds if given.
    Status { code: u16, retry_after_s: Option<u64> },
    /// 302 to the same path below `base`, with `?query` if not empty (a signed address, say).
    Redirect { base: String, query: String },
}

/// A header with a hash.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hashed {
    /// Content-MD5 of the bytes sent.
    ContentMd5,
    /// Content-MD5 of the whole file, also with a range of it, as some object stores send it.
    ObjectMd5,
    /// Content-Digest: SHA-256 of the bytes sent.
    ContentDigest,
    /// Repr-Digest: SHA-256 of the whole file.
    ReprDigest,
}

type Condition = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

/// A fault with the requests that it strikes: those under a path prefix that pass the condition,
/// from the `from`-th of them (0 is the first), `times` of them.
#[derive(Clone)]
pub struct Rule {
    fault: Fault,
    prefix: Vec<u8>,
    from: u64,
    times: u64,
    when: Option<Condition>,
    index_pages: bool,
    pace: Arc<Mutex<Time>>,
    seen: Arc<AtomicU64>,
    struck: Arc<AtomicU64>,
}

impl Rule {
    /// For every request of a file's bytes; index pages stay honest.
    pub fn new(fault: Fault) -> Rule {
        let (pace, seen, struck) = Default::default();
        Rule { fault, prefix: Vec::new(), from: 0, times: u64::MAX, when: None, index_pages: false, pace, seen, struck }
    }

    /// For index pages too.
    pub fn everywhere(fault: Fault) -> Rule {
        Rule { index_pages: true, ..Rule::new(fault) }
    }

    /// Only paths that begin so (no `/` in front).
    pub fn under(self, prefix: impl AsRef<[u8]>) -> Rule {
        Rule { prefix: prefix.as_ref().to_vec(), ..self }
    }

    /// Not before this many requests have passed.
    pub fn from(self, from: u64) -> Rule {
        Rule { from, ..self }
    }

    /// So many requests and no more.
    pub fn times(self, times: u64) -> Rule {
        Rule { times, ..self }
    }

    /// Only requests for which this holds; others do not count.
    pub fn when(self, condition: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Rule {
        Rule { when: Some(Arc::new(condition)), ..self }
    }

    /// How many requests it has struck so far. Clones count together.
    pub fn struck(&self) -> u64 {
        self.struck.load(Ordering::SeqCst)
    }

    fn strikes(&self, request: &Request) -> bool {
        let is_index = request.path.is_empty() || request.path.ends_with(b"/");
        let meant = request.path.starts_with(&self.prefix)
            && (self.index_pages || !is_index)
            && self.when.as_ref().is_none_or(|when| when(request));
        if !meant {
            return false;
        }
        let number = self.seen.fetch_add(1, Ordering::SeqCst);
        let strikes = number >= self.from && number - self.from < self.times;
        self.struck.fetch_add(u64::from(strikes), Ordering::SeqCst);
        strikes
    }
}

/// How a body ends before its end.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum End {
    Stall,
    Reset,
    Close,
}

/// What all the rules that strike make of one answer.
#[derive(Default)]
pub struct Plan {
    pub delay: Duration,
    /// Bytes a second, and when the next byte may go: shared by all answers under the rule.
    pub shape: Option<(u64, Arc<Mutex<Time>>)>,
    pub end: Option<(u64, End)>,
    /// Everything that changes what is said rather than how fast: the last rule wins per field.
    pub lies: Vec<Fault>,
}

impl Plan {
    /// What `rules` make of the answer to `request`.
    pub fn of(rules: &[Rule], request: &Request) -> Plan {
        let mut plan = Plan::default();
        for rule in rules.iter().filter(|rule| rule.strikes(request)) {
            match rule.fault.clone() {
                Fault::Delay(delay) => plan.delay += delay,
                Fault::Shape { bytes_per_second } => plan.shape = Some((bytes_per_second, rule.pace.clone())),
                Fault::Trickle => plan.shape = Some((10, Arc::default())),
                Fault::StallAfter(bytes) => plan.end = Some((bytes, End::Stall)),
                Fault::ResetAfter(bytes) => plan.end = Some((bytes, End::Reset)),
                Fault::TruncateAfter(bytes) => plan.end = Some((bytes, End::Close)),
                lie => plan.lies.push(lie),
            }
        }
        plan
    }
}
