//! Digests that a source gives with its answers: of the bytes of one answer, or of the whole file.
//!
//! `Content-Digest` (RFC 9530) covers exactly the bytes of the answer; `Repr-Digest` and the older `Digest` (RFC 3230)
//! cover the whole file whatever range was asked for. `Content-MD5` (RFC 2616) covers the answer by the letter of the
//! RFC, but servers that keep it beside an object (Aliyun's and others that speak S3) send the object's with every
//! range of it: see [`Part::unsure`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{HeaderMap, HeaderName};
use sha2::Digest as _;
use std::fmt;
use std::ops::Range;

/// How a digest is made. The earlier one counts where several are given: all of them show accidents, SHA-256 is what
/// the processor has instructions for, and MD5 does not show intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// MD5.
    Md5,
}

const ALGORITHMS: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Sha512, Algorithm::Md5];

impl Algorithm {
    /// Its name in the registry of RFC 9530.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha-256",
            Algorithm::Sha512 => "sha-512",
            Algorithm::Md5 => "md5",
        }
    }

    /// The length of its digests, in bytes.
    pub fn digest_bytes(self) -> usize {
        match self {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
            Algorithm::Md5 => 16,
        }
    }

    fn named(name: &str) -> Option<Algorithm> {
        ALGORITHMS.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }
}

/// What bytes hash to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: Box<[u8]>,
}

impl Digest {
    /// Of these bytes.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// How it was made.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// From hex digits, the algorithm by their number.
    pub fn of_hex(hex: &[u8]) -> Option<Digest> {
        let algorithm = ALGORITHMS.into_iter().find(|algorithm| 2 * algorithm.digest_bytes() == hex.len())?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let pair = |pair: &[u8]| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8);
        Some(Digest { algorithm, bytes: hex.chunks(2).map(pair).collect::<Option<_>>()? })
    }

    /// What its [`fmt::Display`] wrote; `None` if it is something else.
    pub fn parse(text: &str) -> Option<Digest> {
        let (name, hex) = text.split_once(':')?;
        Digest::of_hex(hex.as_bytes()).filter(|digest| digest.algorithm.name() == name)
    }

    fn of_base64(algorithm: Algorithm, text: &str) -> Option<Digest> {
        let bytes = BASE64.decode(text.trim()).ok()?;
        (bytes.len() == algorithm.digest_bytes()).then(|| Digest { algorithm, bytes: bytes.into() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.algorithm.name())?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Makes a digest of bytes that come one after the other.
pub struct Hasher(Inner);

// Boxed, since they are of quite different sizes and each lives for megabytes.
enum Inner {
    Sha256(Box<sha2::Sha256>),
    Sha512(Box<sha2::Sha512>),
    Md5(Box<md5::Md5>),
}

impl Hasher {
    /// Of nothing yet.
    pub fn new(algorithm: Algorithm) -> Hasher {
        Hasher(match algorithm {
            Algorithm::Sha256 => Inner::Sha256(Box::default()),
            Algorithm::Sha512 => Inner::Sha512(Box::default()),
            Algorithm::Md5 => Inner::Md5(Box::default()),
        })
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Inner::Sha256(hasher) => hasher.update(bytes),
            Inner::Sha512(hasher) => hasher.update(bytes),
            Inner::Md5(hasher) => hasher.update(bytes),
        }
    }

    /// Of all of them.
    pub fn finish(self) -> Digest {
        let (algorithm, bytes): (_, Box<[u8]>) = match self.0 {
            Inner::Sha256(hasher) => (Algorithm::Sha256, (*hasher.finalize()).into()),
            Inner::Sha512(hasher) => (Algorithm::Sha512, (*hasher.finalize()).into()),
            Inner::Md5(hasher) => (Algorithm::Md5, (*hasher.finalize()).into()),
        };
        Digest { algorithm, bytes }
    }
}

/// What the bytes of one answer must hash to before any of them is believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// To this.
    pub digest: Digest,
    /// It is the Content-MD5 of a range, which may be meant for the whole file: where it does not match,
    /// [`crate::sources::Source::sends_md5_of_whole`] tells whether the mirror is to blame.
    pub unsure: bool,
}

/// All that the headers of an answer say of hashes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    pub part: Option<Part>,
    /// Of the whole file, the best one first.
    pub whole: Vec<Digest>,
    pub md5: Option<Digest>,
}

/// Of an answer with `bytes` of a file of `size_bytes`. `md5_of_whole`: this mirror is known to mean the whole file.
pub(super) fn of_headers(headers: &HeaderMap, bytes: &Range<u64>, size_bytes: u64, md5_of_whole: bool) -> Said {
    let is_whole = *bytes == (0..size_bytes);
    let content = dictionary(headers, "content-digest").into_iter().min();
    let md5 = values(headers, "content-md5").next_back().and_then(|text| Digest::of_base64(Algorithm::Md5, text));
    let mut whole = dictionary(headers, "repr-digest");
    whole.extend(older(headers));
    if is_whole {
        whole.extend(content.clone());
    }
    if is_whole || md5_of_whole {
        whole.extend(md5.clone());
    }
    whole.sort();
    whole.dedup();
    let of_part = match is_whole {
        true => whole.first(),
        false => content.as_ref(),
    };
    let sure = of_part.map(|digest| Part { digest: digest.clone(), unsure: false });
    let unsure = || md5.clone().filter(|_| !md5_of_whole).map(|digest| Part { digest, unsure: true });
    Said { part: sure.or_else(unsure), whole, md5 }
}

/// `sha-256=:…:, sha-512=:…:`, the byte sequences of RFC 8941. What is of no use here is left out.
fn dictionary(headers: &HeaderMap, name: &str) -> Vec<Digest> {
    let one = |member: &str| {
        let (key, value) = member.split_once('=')?;
        let value = value.split(';').next()?.trim().strip_prefix(':')?.strip_suffix(':')?;
        Digest::of_base64(Algorithm::named(key.trim())?, value)
    };
    values(headers, name).flat_map(|text| text.split(',')).filter_map(one).collect()
}

/// `SHA-256=…,MD5=…` of RFC 3230.
fn older(headers: &HeaderMap) -> Vec<Digest> {
    let one = |member: &str| {
        let (key, value) = member.split_once('=')?;
        Digest::of_base64(Algorithm::named(key.trim())?, value)
    };
    values(headers, "digest").flat_map(|text| text.split(',')).filter_map(one).collect()
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl DoubleEndedIterator<Item = &'a str> {
    let name = HeaderName::from_bytes(name.as_bytes()).expect("a name of a header");
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Of "hello world\n", by sha256sum, sha512sum and md5sum; in base64 by `openssl dgst -binary | base64`.
    const SHA256: &str = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447";
    const SHA256_64: &str = "qUiQTy8PR5uPgZdpSzAYSw0u0cHNKh7A+4XSmaGSpEc=";
    const MD5: &str = "6f5902ac237024bdd0c176cb93063dc4";
    const MD5_64: &str = "b1kCrCNwJL3QwXbLkwY9xA==";

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn hex(text: &str) -> Digest {
        Digest::of_hex(text.as_bytes()).unwrap()
    }

    #[test]
    fn digests_are_those_of_other_programs_and_survive_their_text() {
        for (algorithm, wanted) in [(Algorithm::Sha256, SHA256), (Algorithm::Md5, MD5)] {
            let digest = Digest::of(algorithm, b"hello world\n");
            assert_eq!(digest, hex(wanted));
            assert_eq!(digest.to_string(), format!("{}:{wanted}", algorithm.name()));
            assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        }
        let long = Digest::of(Algorithm::Sha512, b"");
        assert!(
            long.to_string().starts_with("sha-512:cf83e1357eefb8bd") && Digest::parse(&long.to_string()) == Some(long)
        );
        assert_eq!((Digest::parse("md5:00"), Digest::of_hex(&[b'g'; 64])), (None, None));
        assert_eq!(Digest::parse(&format!("md5:{SHA256}")), None);
    }

    #[test]
    fn each_header_speaks_of_the_part_or_of_the_whole() {
        let (part, whole) = (100..112, 0..12);
        let dictionary = format!("sha-256=:{SHA256_64}:");
        let sure = |text| Some(Part { digest: hex(text), unsure: false });
        let unsure = |text| Some(Part { digest: hex(text), unsure: true });
        type Row<'a> = (&'a str, &'a str, Option<Part>, Vec<Digest>, Option<Part>);
        let both = format!("md5=:{MD5_64}:, sha-256=:{SHA256_64}:;x=1, unixsum=:AA==:");
        let old = format!("SHA-256={SHA256_64},unixsum=30637");
        let table: Vec<Row<'_>> = vec![
            ("Content-Digest", &dictionary, sure(SHA256), vec![], sure(SHA256)),
            ("Content-Digest", &both, sure(SHA256), vec![], sure(SHA256)),
            ("Repr-Digest", &dictionary, None, vec![hex(SHA256)], sure(SHA256)),
            ("Digest", &old, None, vec![hex(SHA256)], sure(SHA256)),
            ("Content-MD5", MD5_64, unsure(MD5), vec![], sure(MD5)),
            ("Repr-Digest", &both, None, vec![hex(SHA256), hex(MD5)], sure(SHA256)),
            ("Repr-Digest", "sha-256=qUiQTy8P", None, vec![], None),
            ("Content-MD5", "b1kCrCNwJL3QwXbLkwY9", None, vec![], None),
            ("Content-Digest", "sha-256=:not base64:", None, vec![], None),
        ];
        for (name, value, of_part, of_whole, part_of_whole) in table {
            let said = of_headers(&headers(&[(name, value)]), &part, 1000, false);
            assert_eq!((said.part, said.whole), (of_part, of_whole), "{name}: {value}");
            let said = of_headers(&headers(&[(name, value)]), &whole, 12, false);
            assert_eq!(said.part, part_of_whole, "{name}: {value} of the whole");
        }
        let said = of_headers(&headers(&[("content-md5", MD5_64)]), &part, 1000, true);
        assert_eq!((said.part, said.whole), (None, vec![hex(MD5)]), "known to be of the whole");
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(name in prop::sample::select(vec!["content-digest", "repr-digest", "digest", "content-md5"]), value in "[ -~]{0,120}") {
            let said = of_headers(&headers(&[(name, &value)]), &(0..5), 10, false);
            for digest in said.whole {
                prop_assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
            }
        }
    }
}
