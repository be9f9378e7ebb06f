//! From the network to a reader on a blocking thread, within bounds.
//!
//! Parsing a page of 100,000 entries takes a good part of a second: on the runtime's thread every
//! fetch would wait for it. The page itself is never held as a whole.

use super::gather::{ENTRIES_MAX, Gather};
use super::html::HtmlReader;
use super::json::JsonReader;
use super::links::Here;
use super::{Listing, ListingKind};
use crate::sources::failure::{Failure, FailureKind, cause};
use bytes::Bytes;
use reqwest::{Response, Url};
use std::time::Duration;
use tokio::sync::mpsc;

/// An index page of more bytes than this lists more than [`ENTRIES_MAX`] names, or never ends.
const PAGE_BYTES_MAX: u64 = 1 << 30;
/// Bytes that wait for the reader, at 8 to 400 KB each: enough to keep it busy.
const WAITING_MAX: usize = 8;

/// An index page that is about to arrive.
pub struct ReadPage {
    pub response: Response,
    pub url: Url,
    pub here: Here,
    /// Its media type, lower case.
    pub media: Option<String>,
    /// The protocol marks its end.
    pub framed: bool,
    pub first_byte: Duration,
}

/// Why a page is no listing.
#[derive(Debug, PartialEq)]
pub enum BadPage {
    /// It ends before its end.
    Cut,
    /// It is something else. Continues a sentence that begins with the address.
    NotAnIndex(String),
    /// More entries than a folder may have.
    TooLarge,
}

/// What was read from a page.
#[derive(Debug)]
pub struct Page {
    pub listing: Listing,
    pub is_whole: bool,
}

/// Read the page as it arrives.
///
/// # Errors
/// A connection that breaks, a page that is no index or ends early, one that is too large.
pub async fn read_page(page: ReadPage) -> Result<Listing, Failure> {
    let ReadPage { mut response, url, here, media, framed, first_byte } = page;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let reading = tokio::task::spawn_blocking(move || read_from(receiver, here, media.as_deref()));
    let mut read_bytes = 0;
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => {
                read_bytes += bytes.len() as u64;
                if read_bytes > PAGE_BYTES_MAX {
                    let what = format!("sends an index page of more than {PAGE_BYTES_MAX} bytes");
                    return Err(Failure::new(FailureKind::Corrupt, &url, what));
                }
                if sender.send(bytes).await.is_err() {
                    break; // The reader has seen enough; it says why.
                }
            }
            Ok(None) => break,
            Err(error) => {
                let what = format!("broke off after {read_bytes} bytes of its index: {}", cause(&error.without_url()));
                return Err(Failure::new(FailureKind::Unreachable, &url, what));
            }
        }
    }
    drop(sender);
    let failure = |kind, what: String| Failure::new(kind, &url, what);
    match reading.await {
        Ok(Ok(page)) if page.is_whole || framed => Ok(Listing { first_byte, ..page.listing }),
        Ok(Ok(_) | Err(BadPage::Cut)) => {
            Err(failure(FailureKind::Unreachable, format!("ended its index early, after {read_bytes} bytes")))
        }
        Ok(Err(BadPage::NotAnIndex(what))) => Err(failure(FailureKind::Corrupt, what)),
        Ok(Err(BadPage::TooLarge)) => {
            Err(failure(FailureKind::Corrupt, format!("lists more than {ENTRIES_MAX} entries in one folder")))
        }
        Err(stopped) => Err(failure(FailureKind::Unreachable, format!("was not read to its end: {stopped}"))),
    }
}

fn read_from(mut receiver: mpsc::Receiver<Bytes>, here: Here, media: Option<&str>) -> Result<Page, BadPage> {
    read(std::iter::from_fn(|| receiver.blocking_recv()), here, media, ENTRIES_MAX)
}

/// Read a page as it arrives, cut anywhere.
pub fn read<B: AsRef<[u8]>>(
    mut arrivals: impl Iterator<Item = B>,
    here: Here,
    media: Option<&str>,
    entries_max: usize,
) -> Result<Page, BadPage> {
    let gather = Gather::new(entries_max);
    // The first bytes that are more than white space tell what it is, where the headers do not.
    let Some(first) = arrivals.find(|bytes| !bytes.as_ref().trim_ascii().is_empty()) else {
        return Err(BadPage::NotAnIndex("sends an empty page instead of an index".into()));
    };
    let kind = match (media, first.as_ref().trim_ascii_start()[0]) {
        (Some("text/html" | "application/xhtml+xml"), _) => ListingKind::Html,
        (Some("application/json"), _) => ListingKind::Json,
        (_, b'<') => ListingKind::Html,
        (_, b'[') => ListingKind::Json,
        (media, _) => {
            let media = media.unwrap_or("something unnamed");
            return Err(BadPage::NotAnIndex(format!("sends {media} instead of an index page")));
        }
    };
    let arrivals = std::iter::once(first).chain(arrivals);
    match kind {
        ListingKind::Html => read_html(arrivals, HtmlReader::new(here, gather)),
        ListingKind::Json => read_json(arrivals, JsonReader::new(here, gather)),
    }
}

fn read_html<B: AsRef<[u8]>>(arrivals: impl Iterator<Item = B>, mut reader: HtmlReader) -> Result<Page, BadPage> {
    for bytes in arrivals {
        reader.push(bytes.as_ref()).map_err(BadPage::NotAnIndex)?;
        if reader.is_too_large() {
            return Err(BadPage::TooLarge);
        }
    }
    let page = reader.finish();
    if page.gather.is_too_large() {
        return Err(BadPage::TooLarge);
    }
    if page.is_login {
        return Err(BadPage::NotAnIndex("sends a login page instead of an index (are credentials missing?)".into()));
    }
    if !page.is_index {
        return Err(BadPage::NotAnIndex(
            "sends an HTML page that is not an index (is indexing switched on there, is this the folder of the dataset?)"
                .into(),
        ));
    }
    Ok(Page { listing: listing_of(page.gather, ListingKind::Html), is_whole: page.is_whole })
}

fn read_json<B: AsRef<[u8]>>(arrivals: impl Iterator<Item = B>, mut reader: JsonReader) -> Result<Page, BadPage> {
    for bytes in arrivals {
        reader.push(bytes.as_ref()).map_err(BadPage::NotAnIndex)?;
        if reader.is_too_large() {
            return Err(BadPage::TooLarge);
        }
    }
    let (gather, is_whole) = reader.finish();
    match is_whole {
        true => Ok(Page { listing: listing_of(gather, ListingKind::Json), is_whole }),
        false => Err(BadPage::Cut),
    }
}

fn listing_of(gather: Gather, kind: ListingKind) -> Listing {
    let Gather { entries, refused, refused_count, .. } = gather;
    Listing { entries, refused, refused_count, first_byte: Duration::ZERO, kind }
}
