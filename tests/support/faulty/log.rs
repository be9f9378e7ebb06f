//! What a faulty mirror was asked and what it sent.

/// One request, and what became of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Grows by one with each request.
    pub number: u64,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Percent-decoded, without the `/` in front.
    pub path: Vec<u8>,
    /// What stood behind `?`, or nothing.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The status that was sent; 0 while, or because, none was.
    pub status: u16,
    /// Body bytes handed to the socket so far.
    pub body_bytes: u64,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The one range that was asked for: first byte, and last byte if given.
    pub fn range(&self) -> Option<(u64, Option<u64>)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()))
    }

    /// For an index page?
    pub fn is_index(&self) -> bool {
        self.path.is_empty() || self.path.ends_with(b"/")
    }
}
