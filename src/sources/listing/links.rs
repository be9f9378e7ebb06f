//! What a link means, seen from the folder whose index page it stands in.
//!
//! Links are taken apart as bytes: the URL standard would turn `%2e%2e` into a step up and a
//! backslash into a slash before we could refuse them.

use crate::sources::names::{RefusedName, check_name};
use reqwest::Url;

/// What a link leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Link {
    /// Into this folder.
    Entry {
        /// Decoded; may exist.
        name: Vec<u8>,
        /// A slash stands behind it.
        folder: bool,
    },
    /// To a folder above.
    Parent,
    /// To this folder in another order or view.
    Sort,
    /// To this folder itself, or to a place in the page.
    Here,
    /// Somewhere else. Most pages have such links; in a row of the index it is refused.
    Elsewhere(RefusedName),
    /// A name that must not exist.
    Hostile(RefusedName),
}

/// The folder whose page is read.
#[derive(Clone, Debug)]
pub struct Here {
    scheme: String,
    authority: String,
    /// Decoded names from the root.
    names: Vec<Vec<u8>>,
}

impl Here {
    /// The folder at `url`, after redirects.
    pub fn of(url: &Url) -> Here {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let authority = format!("{}{port}", url.host_str().unwrap_or_default()).to_ascii_lowercase();
        let mut names: Vec<_> = url.path().split('/').skip(1).map(|name| decode(name.as_bytes())).collect();
        names.pop();
        Here { scheme: url.scheme().to_owned(), authority, names }
    }

    /// What `href` leads to.
    pub fn resolve(&self, href: &[u8]) -> Link {
        let href = href.trim_ascii();
        let href = &href[..href.iter().position(|&byte| byte == b'#').unwrap_or(href.len())];
        match href {
            [] => return Link::Here,
            [b'?', ..] => return Link::Sort,
            [b'/', b'/', rest @ ..] => return self.with_authority(rest),
            [b'/', rest @ ..] => return self.absolute(rest),
            _ => {}
        }
        if let Some((scheme, rest)) = split_scheme(href) {
            return match rest.strip_prefix(b"//") {
                Some(rest) if scheme.eq_ignore_ascii_case(self.scheme.as_bytes()) => self.with_authority(rest),
                _ => Link::Elsewhere(RefusedName::Foreign),
            };
        }
        relative(href)
    }

    fn with_authority(&self, rest: &[u8]) -> Link {
        let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        match rest[..end].eq_ignore_ascii_case(self.authority.as_bytes()) {
            true => self.absolute(rest.get(end + 1..).unwrap_or_default()),
            false => Link::Elsewhere(RefusedName::Foreign),
        }
    }

    /// A path from the root, without its first slash.
    fn absolute(&self, path: &[u8]) -> Link {
        let end = path.iter().position(|&byte| byte == b'?').unwrap_or(path.len());
        let (path, has_query) = (&path[..end], end < path.len());
        let mut raw = path.split(|&byte| byte == b'/');
        let mut rest = path;
        for (depth, name) in self.names.iter().enumerate() {
            let Some(step) = raw.next() else { return Link::Parent };
            // "/" and "/pub/" are above "/pub/data/"; so is "/pub".
            if step.is_empty() && raw.clone().next().is_none() {
                return Link::Parent;
            }
            if is_dots(step) {
                return Link::Hostile(RefusedName::Dots);
            }
            if decode(step) != *name {
                return Link::Elsewhere(RefusedName::Foreign);
            }
            if step.len() == rest.len() {
                return if depth + 1 < self.names.len() { Link::Parent } else { Link::Here };
            }
            rest = &rest[step.len() + 1..];
        }
        match (rest.is_empty(), has_query) {
            (true, true) => Link::Sort,
            (true, false) => Link::Here,
            (false, true) => Link::Elsewhere(RefusedName::Foreign),
            (false, false) => relative(rest),
        }
    }
}

/// A path from this folder.
fn relative(mut path: &[u8]) -> Link {
    while let Some(rest) = path.strip_prefix(b"./") {
        path = rest;
    }
    if path.is_empty() || path == b"." {
        return Link::Here;
    }
    if path.split(|&byte| byte == b'/').all(|step| step == b".." || step.is_empty()) && path.starts_with(b"..") {
        return Link::Parent;
    }
    if path.contains(&b'?') {
        // A file's name has its question mark encoded: this is a page about it (a download button).
        return if path.starts_with(b"?") { Link::Sort } else { Link::Elsewhere(RefusedName::Foreign) };
    }
    let (path, folder) = match path.strip_suffix(b"/") {
        Some(path) => (path, true),
        None => (path, false),
    };
    let mut steps = path.split(|&byte| byte == b'/');
    if steps.any(is_dots) {
        return Link::Hostile(RefusedName::Dots);
    }
    if path.contains(&b'/') {
        return Link::Elsewhere(RefusedName::Deeper);
    }
    let name = decode(path);
    match check_name(&name) {
        Ok(()) => Link::Entry { name, folder },
        Err(why) => Link::Hostile(why),
    }
}

/// `.` or `..`, plain or encoded.
fn is_dots(step: &[u8]) -> bool {
    matches!(decode(step).as_slice(), b"." | b"..")
}

fn decode(name: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(name).collect()
}

/// `scheme:` in front of everything that could be a path.
fn split_scheme(href: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = href.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"+-.".contains(byte))?;
    (href[end] == b':' && href[0].is_ascii_alphabetic()).then(|| (&href[..end], &href[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(name: &[u8], folder: bool) -> Link {
        Link::Entry { name: name.to_vec(), folder }
    }

    #[test]
    fn links_are_seen_from_the_folder() {
        let here = Here::of(&Url::parse("http://h:8080/pub/a%20b/").unwrap());
        let foreign = Link::Elsewhere(RefusedName::Foreign);
        let table: &[(&str, Link)] = &[
            ("x", entry(b"x", false)),
            ("./x/", entry(b"x", true)),
            ("./a:b", entry(b"a:b", false)),
            ("k%C3%A4se%ff", entry(b"k\xc3\xa4se\xff", false)),
            ("100%2541+plus", entry(b"100%41+plus", false)),
            ("100%", entry(b"100%", false)),
            ("/pub/a%20b/x", entry(b"x", false)),
            ("/pub/a b/x/", entry(b"x", true)),
            ("http://H:8080/pub/a%20b/x", entry(b"x", false)),
            ("//h:8080/pub/a%20b/x", entry(b"x", false)),
            ("x#top", entry(b"x", false)),
            (" x ", entry(b"x", false)),
            ("back\\slash", entry(b"back\\slash", false)),
            ("", Link::Here),
            ("#x", Link::Here),
            ("./", Link::Here),
            ("/pub/a%20b/", Link::Here),
            ("/pub/a%20b", Link::Here),
            ("?C=N;O=D", Link::Sort),
            ("./?sort=name", Link::Sort),
            ("/pub/a%20b/?C=M", Link::Sort),
            ("../", Link::Parent),
            ("..", Link::Parent),
            ("../../", Link::Parent),
            ("/", Link::Parent),
            ("/pub", Link::Parent),
            ("/pub/", Link::Parent),
            ("/other/x", foreign.clone()),
            ("https://h:8080/pub/a%20b/x", foreign.clone()),
            ("http://h/pub/a%20b/x", foreign.clone()),
            ("http://h:8080", Link::Parent),
            ("https://nginx.org/", foreign.clone()),
            ("//evil/pub/a%20b/x", foreign.clone()),
            ("javascript:alert(1)", foreign.clone()),
            ("mailto:me", foreign.clone()),
            ("x?download=1", foreign),
            ("sub/x", Link::Elsewhere(RefusedName::Deeper)),
            ("../x", Link::Hostile(RefusedName::Dots)),
            ("../../etc/passwd", Link::Hostile(RefusedName::Dots)),
            ("%2e%2e/", Link::Hostile(RefusedName::Dots)),
            ("%2e", Link::Hostile(RefusedName::Dots)),
            ("x/../../y", Link::Hostile(RefusedName::Dots)),
            ("/pub/a%20b/../x", Link::Hostile(RefusedName::Dots)),
            ("/pub/%2e%2e/x", Link::Hostile(RefusedName::Dots)),
            ("..%2f..%2fetc%2fpasswd", Link::Hostile(RefusedName::Slash)),
            ("a%00b", Link::Hostile(RefusedName::Nul)),
        ];
        for (href, wanted) in table {
            assert_eq!(here.resolve(href.as_bytes()), *wanted, "{href}");
        }
        assert_eq!(here.resolve(&[b'x'; 256]), Link::Hostile(RefusedName::TooLong));
    }

    #[test]
    fn the_root_has_no_parent_but_itself() {
        let here = Here::of(&Url::parse("http://h/").unwrap());
        assert_eq!(here.resolve(b"/"), Link::Here);
        assert_eq!(here.resolve(b"/x"), entry(b"x", false));
        assert_eq!(here.resolve(b"//x"), Link::Elsewhere(RefusedName::Foreign));
    }

    proptest! {
        #[test]
        fn every_entry_has_a_name_that_may_exist(href in prop::collection::vec(prop::sample::select(b"ab./%2efE:?#\\ \0\xff".to_vec()), 0..24)) {
            for base in ["http://h/", "http://h/a/b/"] {
                if let Link::Entry { name, .. } = Here::of(&Url::parse(base).unwrap()).resolve(&href) {
                    prop_assert_eq!(check_name(&name), Ok(()));
                }
            }
        }
    }
}
