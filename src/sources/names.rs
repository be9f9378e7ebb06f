//! Which names may exist below the mount, and how a path of raw bytes is written in a URL.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// The longest name that the kernel takes (NAME_MAX), in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Everything but letters, digits and `-._~` (RFC 3986, "unreserved") is percent-encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a name in an index page was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusedName {
    /// Nothing at all.
    Empty,
    /// `.` or `..`.
    Dots,
    /// It holds a `/` that was encoded.
    Slash,
    /// It holds a NUL.
    Nul,
    /// Over 255 bytes.
    TooLong,
    /// A row of the index whose link leads elsewhere: another host, or outside the folder.
    Foreign,
    /// A row of the index whose link leads into a deeper folder.
    Deeper,
}

impl RefusedName {
    /// What is wrong with it, to follow the name in a sentence.
    pub fn why(self) -> &'static str {
        match self {
            RefusedName::Empty => "is empty",
            RefusedName::Dots => "names this folder or the one above",
            RefusedName::Slash => "holds a slash",
            RefusedName::Nul => "holds a NUL byte",
            RefusedName::TooLong => "is longer than 255 bytes",
            RefusedName::Foreign => "leads out of the folder",
            RefusedName::Deeper => "leads into a deeper folder",
        }
    }
}

/// May a file or folder be called this?
pub fn check_name(name: &[u8]) -> Result<(), RefusedName> {
    match name {
        [] => Err(RefusedName::Empty),
        b"." | b".." => Err(RefusedName::Dots),
        _ if name.contains(&b'/') => Err(RefusedName::Slash),
        _ if name.contains(&0) => Err(RefusedName::Nul),
        _ if name.len() > NAME_BYTES_MAX => Err(RefusedName::TooLong),
        _ => Ok(()),
    }
}

/// A `/`-joined path of raw bytes as the path of a URL, without a leading slash. Every name in
/// it must be one that may exist; "" is the folder itself.
pub(super) fn encode_path(path: &[u8]) -> Result<String, RefusedName> {
    let mut encoded = String::with_capacity(path.len() + 16);
    if path.is_empty() {
        return Ok(encoded);
    }
    for (at, name) in path.split(|&byte| byte == b'/').enumerate() {
        check_name(name)?;
        if at > 0 {
            encoded.push('/');
        }
        encoded.extend(percent_encode(name, ENCODED));
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::Url;

    #[test]
    fn hostile_names_are_refused() {
        let long = vec![b'x'; 256];
        let table: [(&[u8], RefusedName); 6] = [
            (b"", RefusedName::Empty),
            (b".", RefusedName::Dots),
            (b"..", RefusedName::Dots),
            (b"a/b", RefusedName::Slash),
            (b"a\0", RefusedName::Nul),
            (&long, RefusedName::TooLong),
        ];
        for (name, why) in table {
            assert_eq!(check_name(name), Err(why));
        }
        for name in [&b"..."[..], b"a b", b"\xff\xfe", b"%2e", b" ", &long[..255]] {
            assert_eq!(check_name(name), Ok(()));
        }
        assert_eq!(encode_path(b"a/../b"), Err(RefusedName::Dots));
        assert_eq!(encode_path(b"/a"), Err(RefusedName::Empty));
        assert_eq!(encode_path(b"a/"), Err(RefusedName::Empty));
    }

    proptest! {
        #[test]
        fn every_name_survives_the_way_through_a_url(names in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..4)) {
            let path = names.join(&b'/');
            if let Ok(encoded) = encode_path(&path) {
                let mut url = Url::parse("http://h/base/").unwrap();
                url.set_path(&format!("{}{encoded}", url.path()));
                let raw = url.path().strip_prefix("/base/").unwrap();
                let back: Vec<Vec<u8>> = raw.split('/').map(|name| percent_encoding::percent_decode_str(name).collect()).collect();
                prop_assert_eq!(back.join(&b'/'), path);
            }
        }
    }
}
