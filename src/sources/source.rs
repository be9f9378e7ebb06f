//! The client of one mirror: list, stat, open, probe.

use super::body::Body;
use super::client;
use super::digest::{self, Digest, Part};
use super::failure::{Failure, FailureKind, named, of_status, redacted};
use super::listing::{Here, Listing, ReadPage, read_page};
use super::names::encode_path;
use super::range::{RangeAsk, content_length, content_range, content_type, identity_encoding, is_html, judge};
use super::request::{Get, Reply, Requests, drain};
use super::settings::{BadSource, Settings};
use super::validator::Validator;
use crate::metrics::Metrics;
use arc_swap::ArcSwap;
use reqwest::header::{HeaderMap, HeaderValue, TRANSFER_ENCODING};
use reqwest::{Client, StatusCode, Url, Version};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Caddy answers with JSON when it is asked for; every other kind ignores this or has only one.
const ACCEPT_INDEX: &str = "application/json, text/html;q=0.9, */*;q=0.1";
/// A probe reads at most this much of an answer that is larger than the byte it asked for.
const PROBE_BYTES_MAX: usize = 64 << 10;

/// Our client for one mirror. Has no runtime of its own: connections live on the runtime that
/// first used them.
pub struct Source {
    pub(super) settings: Settings,
    client: ArcSwap<Client>,
    requests: Requests,
    metrics: Arc<Metrics>,
    /// Its Content-MD5 is of the whole file, also with a range of it.
    md5_of_whole: AtomicBool,
}

/// What a mirror says about one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Stat {
    /// How many bytes; 0 for a folder.
    pub size_bytes: u64,
    /// Last-Modified.
    pub modified_unix_s: Option<i64>,
    /// What this mirror calls this version.
    pub validator: Validator,
    /// Does it serve ranges? `None` where the answer does not tell (an empty file).
    pub ranges: Option<bool>,
    /// It is a folder: the mirror put a slash behind its path.
    pub folder: bool,
    /// From the request to the headers of the answer.
    pub first_byte: Duration,
}

/// An accepted answer, whose bytes follow.
pub struct Answer {
    /// The size of the file.
    pub total_bytes: u64,
    /// What this mirror calls this version now.
    pub validator: Validator,
    /// From the request to the headers of the answer, redirects included.
    pub first_byte: Duration,
    /// Who sent it, where no proxy is between.
    pub remote: Option<SocketAddr>,
    /// What the bytes must hash to, where the mirror says: none of them is to be believed before that is seen.
    pub part: Option<Part>,
    /// What the mirror says that the whole file hashes to, the best first.
    pub whole: Vec<Digest>,
    md5: Option<Digest>,
    /// The bytes.
    pub body: Body,
}

impl Source {
    /// Set up the client; nothing is asked yet. Reads `ca_file`.
    ///
    /// # Errors
    /// Settings that do not [`Settings::validate`], a `ca_file` that is none.
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Result<Source, BadSource> {
        let requests = Requests::new(&settings)?;
        let client = ArcSwap::from_pointee(client::build(&settings)?);
        Ok(Source { settings, client, requests, metrics, md5_of_whole: AtomicBool::new(false) })
    }

    /// The mirror's folder, without credentials.
    pub fn url(&self) -> &Url {
        self.requests.base()
    }

    /// The mirror's folder as it may be shown: without credentials and query.
    pub fn redacted_url(&self) -> String {
        redacted(self.requests.base())
    }

    /// Close idle connections, leave those in use to their users, and ask redirects anew: after
    /// sleep or a change of networks, when kept connections lead nowhere.
    ///
    /// # Errors
    /// As [`Source::new`]; the old connections stay then.
    pub fn reconnect(&self) -> Result<(), BadSource> {
        self.client.store(Arc::new(client::build(&self.settings)?));
        self.requests.forget_redirects();
        Ok(())
    }

    /// The index page of a folder: `/`-joined raw bytes below the mirror's folder, "" for the
    /// folder itself. Must run on a tokio runtime (pages are parsed on its blocking threads).
    ///
    /// # Errors
    /// `Missing`, `Refused`, `Corrupt` where the page is no index, and so on. Never half a
    /// listing: a page that is cut off is a failure.
    pub async fn list(&self, folder: &[u8]) -> Result<Listing, Failure> {
        let result = self.read_listing(folder).await;
        match &result {
            Ok(listing) => {
                self.metrics.listings.add(1);
                self.metrics.refused_names.add(listing.refused_count);
            }
            Err(_) => self.metrics.listing_failures.add(1),
        }
        result
    }

    async fn read_listing(&self, folder: &[u8]) -> Result<Listing, Failure> {
        let mut url = self.url_of(folder)?;
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        let accept = Some(HeaderValue::from_static(ACCEPT_INDEX));
        let reply = self.get(&Get { url, range: None, validator: None, accept }).await?;
        let Reply { response, url, first_byte, .. } = reply;
        if response.status() != StatusCode::OK {
            let what = format!("answered {} where an index page was asked for", named(response.status()));
            return Err(Failure::new(FailureKind::Corrupt, &url, what));
        }
        identity_encoding(response.headers()).map_err(|(kind, what)| Failure::new(kind, &url, what))?;
        let framed = is_framed(response.version(), response.headers());
        let media = content_type(response.headers());
        read_page(ReadPage { response, here: Here::of(&url), url, media, framed, first_byte }).await
    }

    /// Size, date and validator of a file, by a request for its first byte: HEAD is refused by
    /// some and answered without a size by others.
    ///
    /// # Errors
    /// `Corrupt` where the answer does not tell the size or is an HTML page for a path that is
    /// not one; the others as usual.
    pub async fn stat(&self, path: &[u8]) -> Result<Stat, Failure> {
        let url = self.url_of(path)?;
        let first_byte = Some(0..1);
        let reply = self.get(&Get { url: url.clone(), range: first_byte, validator: None, accept: None }).await?;
        if reply.response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            // An empty file has no first byte. Its headers come with a plain request.
            drain(reply.response).await;
            let reply = self.get(&Get { url, range: None, validator: None, accept: None }).await?;
            return stat_of(path, reply, true).await;
        }
        stat_of(path, reply, false).await
    }

    /// Ask for bytes of a file.
    ///
    /// # Errors
    /// Every answer that is not exactly what was asked for (spec 7.1). Nothing of its body is read.
    pub async fn open(&self, ask: &RangeAsk<'_>) -> Result<Answer, Failure> {
        let url = self.url_of(ask.path)?;
        // No range names zero bytes; only an empty file may be asked for so.
        let whole = ask.whole || (ask.size_bytes == 0 && ask.bytes.is_empty());
        if !whole && (ask.bytes.is_empty() || ask.bytes.end > ask.size_bytes) {
            let what = format!("was not asked for bytes {:?} of {}", ask.bytes, ask.size_bytes);
            return Err(Failure::new(FailureKind::Missing, &url, what));
        }
        let ask = RangeAsk { whole, ..ask.clone() };
        let range = (!whole).then(|| ask.bytes.clone());
        let client = self.client.load_full();
        let get = Get { url, range, validator: ask.validator, accept: None };
        let Reply { response, url, host, first_byte, folder } = self.requests.get(&client, &get).await?;
        if folder && response.status().is_success() {
            return Err(Failure::new(FailureKind::Changed, &url, "is a folder where the file was"));
        }
        match judge(&ask, response.status(), response.headers(), host.as_deref()) {
            Ok(accepted) => {
                let framed = is_framed(response.version(), response.headers());
                let remote = response.remote_addr();
                let md5_of_whole = self.md5_of_whole.load(Ordering::Relaxed);
                let said = digest::of_headers(response.headers(), &accepted.bytes, ask.size_bytes, md5_of_whole);
                let digest::Said { part, whole, md5 } = said;
                let body = Body::new(response, url, accepted.bytes, framed);
                let (total_bytes, validator) = (ask.size_bytes, accepted.validator);
                Ok(Answer { total_bytes, validator, first_byte, remote, part, whole, md5, body })
            }
            Err((kind, what)) => {
                if kind != FailureKind::NoRanges {
                    drain(response).await;
                }
                Err(Failure::new(kind, &url, what))
            }
        }
    }

    /// The Content-MD5 of the answer to `ask` does not match its bytes: is it that of the whole file? By RFC 2616 it
    /// would be of the bytes sent, but object stores that keep the header beside the object send it with every range,
    /// and a mirror must not be blamed for that. So it is asked for another range: two ranges have one MD5 only where
    /// it is of neither. Asked once per mirror; from then on its Content-MD5 is taken for the whole file's.
    pub async fn sends_md5_of_whole(&self, ask: &RangeAsk<'_>, md5: &Digest) -> bool {
        let bytes = if ask.bytes == (0..1) { ask.size_bytes.saturating_sub(1)..ask.size_bytes } else { 0..1 };
        if bytes == ask.bytes {
            return false;
        }
        let Ok(mut answer) = self.open(&RangeAsk { bytes, ..ask.clone() }).await else { return false };
        let same = answer.md5.as_ref() == Some(md5);
        while let Ok(Some(_)) = answer.body.next().await {}
        if same {
            self.md5_of_whole.store(true, Ordering::Relaxed);
        }
        same
    }

    /// The whole of a small file, whatever version of it is there now.
    ///
    /// # Errors
    /// `Corrupt` where it has more than `bytes_max` or an HTML page comes instead; the others as usual.
    pub async fn read_small(&self, path: &[u8], bytes_max: u64) -> Result<Vec<u8>, Failure> {
        let url = self.url_of(path)?;
        let Reply { mut response, url, .. } =
            self.get(&Get { url, range: None, validator: None, accept: None }).await?;
        let corrupt = |what: String| Failure::new(FailureKind::Corrupt, &url, what);
        identity_encoding(response.headers()).map_err(|(kind, what)| Failure::new(kind, &url, what))?;
        if response.status() != StatusCode::OK || is_html(response.headers()) {
            return Err(corrupt(format!("answered {} with no plain file", named(response.status()))));
        }
        let mut bytes = Vec::new();
        while let Some(more) = response.chunk().await.map_err(|error| Failure::of_transport(&url, error))? {
            if (bytes.len() + more.len()) as u64 > bytes_max {
                return Err(corrupt(format!("sends more than {bytes_max} bytes, which is too long to be read")));
            }
            bytes.extend_from_slice(&more);
        }
        Ok(bytes)
    }

    /// One byte of `path` (of the mirror's folder without): the time to its first byte.
    ///
    /// # Errors
    /// What a request for it meets. An answer of another version or size is life all the same.
    pub async fn probe(&self, path: Option<&[u8]>) -> Result<Duration, Failure> {
        let url = self.url_of(path.unwrap_or_default())?;
        let reply = self.get(&Get { url, range: Some(0..1), validator: None, accept: None }).await?;
        let mut response = reply.response;
        let mut read = 0;
        while let Ok(Some(bytes)) = response.chunk().await {
            read += bytes.len();
            if read > PROBE_BYTES_MAX {
                break;
            }
        }
        Ok(reply.first_byte)
    }

    pub(super) fn url_of(&self, path: &[u8]) -> Result<Url, Failure> {
        let mut url = self.requests.base().clone();
        let encoded = encode_path(path).map_err(|refused| {
            let what = format!("has no {:?}: a name in it {}", String::from_utf8_lossy(path), refused.why());
            Failure::new(FailureKind::Missing, &url, what)
        })?;
        let joined = format!("{}{encoded}", url.path());
        url.set_path(&joined);
        Ok(url)
    }

    /// A GET whose failing statuses are failures.
    pub(super) async fn get(&self, get: &Get<'_>) -> Result<Reply, Failure> {
        let client = self.client.load_full();
        let reply = self.requests.get(&client, get).await?;
        match of_status(reply.response.status(), reply.response.headers()) {
            None => Ok(reply),
            Some((kind, what)) => {
                let failure = Failure::new(kind, &reply.url, what);
                drain(reply.response).await;
                Err(failure)
            }
        }
    }
}

async fn stat_of(path: &[u8], reply: Reply, was_empty: bool) -> Result<Stat, Failure> {
    let Reply { response, url, host, first_byte, folder } = reply;
    let corrupt = |what: String| Failure::new(FailureKind::Corrupt, &url, what);
    let (status, headers) = (response.status(), response.headers());
    let validator = Validator::of_headers(headers, host.as_deref());
    let mut stat =
        Stat { size_bytes: 0, modified_unix_s: validator.last_modified, validator, ranges: None, folder, first_byte };
    if folder {
        return Ok(stat);
    }
    identity_encoding(headers).map_err(|(kind, what)| Failure::new(kind, &url, what))?;
    match status {
        StatusCode::PARTIAL_CONTENT if !was_empty => {
            let range = content_range(headers).filter(|range| range.bytes == Some((0, 0)));
            let total = range.and_then(|range| range.total);
            stat.size_bytes =
                total.ok_or_else(|| corrupt("answered 206 without saying how large the file is".into()))?;
            stat.ranges = Some(true);
            drain(response).await;
        }
        StatusCode::OK => {
            if is_html(headers) && !may_be_html(path) {
                return Err(corrupt("sends an HTML page instead of the file (a login or error page?)".into()));
            }
            let length = content_length(headers);
            stat.size_bytes = length.ok_or_else(|| corrupt("does not say how large the file is".into()))?;
            stat.ranges = (!was_empty && stat.size_bytes > 0).then_some(false);
        }
        status => return Err(corrupt(format!("answered {} to a request for one byte", named(status)))),
    }
    Ok(stat)
}

/// Does the protocol mark the end of this body? Without it, a broken connection looks like the end.
fn is_framed(version: Version, headers: &HeaderMap) -> bool {
    version >= Version::HTTP_2 || content_length(headers).is_some() || headers.contains_key(TRANSFER_ENCODING)
}

/// Would a static mirror call a file of this name HTML?
fn may_be_html(path: &[u8]) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default().to_ascii_lowercase();
    [&b".html"[..], b".htm", b".xhtml", b".xht", b".shtml"].iter().any(|ending| name.ends_with(ending))
}
