//! Arrays of objects: nginx with `autoindex_format json`, and Caddy when it is asked for JSON.
//! One object is held at a time.

use super::gather::Gather;
use super::links::{Here, Link};
use super::{Modified, Precision, Size, row};
use crate::sources::names::{RefusedName, check_name};
use crate::sources::validator::unix_of_http;
use serde::Deserialize;
use std::fmt;

/// A name of 255 bytes, each escaped, twice, and the rest: 5 KB. More is no entry.
const OBJECT_BYTES_MAX: usize = 64 << 10;

/// Reads one page.
pub struct JsonReader {
    here: Here,
    gather: Gather,
    state: Position,
    object: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Position {
    /// Nothing but white space so far.
    Before,
    /// So many letters of `null` (Caddy's empty folder).
    Null(usize),
    /// Inside the array, outside the objects.
    Array,
    /// Inside an object, so deep.
    Object { depth: usize },
    /// Inside a string of an object.
    Text { depth: usize, escaped: bool },
    /// After the end.
    After,
}

impl JsonReader {
    pub fn new(here: Here, gather: Gather) -> JsonReader {
        JsonReader { here, gather, state: Position::Before, object: Vec::new() }
    }

    /// Bytes of the page, cut anywhere.
    ///
    /// # Errors
    /// What is wrong with it, if it is not a listing.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        for &byte in bytes {
            self.state = self.step(byte)?;
        }
        Ok(())
    }

    /// Found more than a folder may have?
    pub fn is_too_large(&self) -> bool {
        self.gather.is_too_large()
    }

    /// The page has ended: what was found, and was it whole?
    pub fn finish(self) -> (Gather, bool) {
        let is_whole = matches!(self.state, Position::After | Position::Null(4));
        (self.gather, is_whole)
    }

    fn step(&mut self, byte: u8) -> Result<Position, String> {
        use Position::*;
        Ok(match (self.state, byte) {
            (Before | Array | After | Null(4), b' ' | b'\t' | b'\r' | b'\n') => self.state,
            (Before, b'[') => Array,
            (Before, b'n') => Null(1),
            (Null(at), byte) if b"null".get(at) == Some(&byte) => Null(at + 1),
            (Array, b',') => Array,
            (Array, b']') => After,
            (Array, b'{') => {
                self.object.clear();
                self.object.push(byte);
                Object { depth: 1 }
            }
            (Object { depth: 1 }, b'}' | b']') => {
                self.object.push(byte);
                self.entry()?;
                Array
            }
            (Object { .. } | Text { .. }, _) => self.inside(byte)?,
            _ => return Err("is JSON, but not a list of files".into()),
        })
    }

    fn inside(&mut self, byte: u8) -> Result<Position, String> {
        use Position::*;
        if self.object.len() >= OBJECT_BYTES_MAX {
            return Err(format!("has an entry of more than {OBJECT_BYTES_MAX} bytes"));
        }
        self.object.push(byte);
        Ok(match (self.state, byte) {
            (Object { depth }, b'"') => Text { depth, escaped: false },
            (Object { depth }, b'{' | b'[') => Object { depth: depth + 1 },
            (Object { depth }, b'}' | b']') => Object { depth: depth - 1 },
            (Text { depth, escaped: true }, _) => Text { depth, escaped: false },
            (Text { depth, .. }, b'\\') => Text { depth, escaped: true },
            (Text { depth, .. }, b'"') => Object { depth },
            (state, _) => state,
        })
    }

    fn entry(&mut self) -> Result<(), String> {
        let item: Item = serde_json::from_slice(&self.object)
            .map_err(|error| format!("is JSON, but not a list of files ({error})"))?;
        let folder = match (item.kind.as_deref(), item.is_dir) {
            (Some("directory"), _) | (None, Some(true)) => true,
            (Some("file"), _) | (None, Some(false)) => false,
            // A socket or device: nothing to read.
            (Some(_), _) => return Ok(()),
            (None, None) => {
                return Err("is JSON, but not a list of files (an entry has neither type nor is_dir)".into());
            }
        };
        let mut size = item.size.map_or(Size::Unknown, Size::Exact);
        let mut modified = item.modified();
        if item.is_symlink {
            // Older Caddys give size and date of the link instead of what it leads to.
            (size, modified) = (Size::Unknown, None);
        }
        // Where there is a URL, its name is exact; JSON cannot hold bytes that are not UTF-8.
        let link = match &item.url {
            Some(url) => self.here.resolve(&url.0),
            None => plain(&item.name.0, folder),
        };
        let link = match link {
            Link::Entry { name, .. } => Link::Entry { name, folder },
            Link::Parent | Link::Here | Link::Sort => Link::Hostile(RefusedName::Dots),
            other => other,
        };
        self.gather.row(link, &item.name.0, true, size, modified);
        Ok(())
    }
}

/// A name that is not encoded.
fn plain(name: &[u8], folder: bool) -> Link {
    let name = if folder { name.strip_suffix(b"/").unwrap_or(name) } else { name };
    match check_name(name) {
        Ok(()) => Link::Entry { name: name.to_vec(), folder },
        Err(why) => Link::Hostile(why),
    }
}

#[derive(Deserialize)]
struct Item {
    name: Bytes,
    size: Option<u64>,
    // nginx
    #[serde(rename = "type")]
    kind: Option<String>,
    mtime: Option<String>,
    // Caddy
    url: Option<Bytes>,
    mod_time: Option<String>,
    is_dir: Option<bool>,
    #[serde(default)]
    is_symlink: bool,
}

impl Item {
    fn modified(&self) -> Option<Modified> {
        let http = |text: &String| Some(Modified { unix_s: unix_of_http(text)?, precision: Precision::Second });
        self.mtime.as_ref().and_then(http).or_else(|| row::timestamp(self.mod_time.as_deref()?))
    }
}

/// A JSON string as bytes: nginx writes names as they are, UTF-8 or not.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Bytes, E> {
                Ok(Bytes(text.as_bytes().to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}
