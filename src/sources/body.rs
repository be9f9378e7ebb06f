//! The bytes of an accepted answer, counted against what was promised.

use super::digest::Digest;
use super::failure::{Failure, FailureKind, cause};
use bytes::Bytes;
use reqwest::{Response, Url};
use std::ops::Range;

/// The bytes of an accepted answer, as they arrive. Dropping it before its end closes its
/// connection (HTTP/1.1) or resets its stream (HTTP/2).
pub struct Body {
    response: Response,
    url: Url,
    bytes: Range<u64>,
    offset: u64,
    /// The end of the body is marked by the protocol: one that ends early and cleanly is a lie.
    framed: bool,
    ended: bool,
}

impl Body {
    pub(super) fn new(response: Response, url: Url, bytes: Range<u64>, framed: bool) -> Body {
        Body { offset: bytes.start, response, url, bytes, framed, ended: false }
    }

    /// Where in the file the next bytes belong.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Which bytes of the file it will yield in all.
    pub fn bytes(&self) -> Range<u64> {
        self.bytes.clone()
    }

    /// The next bytes, never empty; `None` after the last one that was promised. Read on until
    /// `None` or an error: only then is the connection free for another request.
    ///
    /// # Errors
    /// `Unreachable` when the connection broke, `Corrupt` when there are fewer bytes than promised
    /// or more. What was yielded before stays good.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let result = self.read().await;
        self.ended = !matches!(result, Ok(Some(_)));
        result
    }

    /// Its bytes hash to `found` where the mirror itself says `said`.
    pub fn contradicted(&self, said: &Digest, found: &Digest) -> Failure {
        let (first, last) = (self.bytes.start, self.bytes.end.saturating_sub(1));
        let what = format!("sends bytes {first}-{last} with the hash {said}, but they have {found}");
        Failure::new(FailureKind::Corrupt, &self.url, what)
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Failure> {
        let promised = self.bytes.end - self.bytes.start;
        loop {
            let arrived = self.offset - self.bytes.start;
            match self.response.chunk().await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) if bytes.len() as u64 > self.bytes.end - self.offset => {
                    let what = format!("sends more than the {promised} bytes that it promised");
                    return Err(Failure::new(FailureKind::Corrupt, &self.url, what));
                }
                Ok(Some(bytes)) => {
                    self.offset += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Ok(None) if self.offset == self.bytes.end => return Ok(None),
                Ok(None) => {
                    let kind = if self.framed { FailureKind::Corrupt } else { FailureKind::Unreachable };
                    return Err(Failure::new(kind, &self.url, format!("ended after {arrived} of {promised} bytes")));
                }
                Err(error) => {
                    let why = cause(&error.without_url());
                    let what = format!("broke off after {arrived} of {promised} bytes: {why}");
                    return Err(Failure::new(FailureKind::Unreachable, &self.url, what));
                }
            }
        }
    }
}
