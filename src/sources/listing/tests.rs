//! Pages as the usual programs make them (captured, but for Caddy's), and pages that mean harm.

use super::page::{BadPage, Page, read};
use super::*;
use crate::sources::names::check_name;
use proptest::prelude::*;
use reqwest::Url;

fn read_as(page: &[u8], media: &str, piece_bytes: usize) -> Result<Page, BadPage> {
    let here = Here::of(&Url::parse("http://h:8080/tree/").unwrap());
    read(page.chunks(piece_bytes.max(1)), here, Some(media), 1000)
}

fn html(page: &[u8]) -> Listing {
    let whole = read_as(page, "text/html", page.len()).unwrap();
    assert!(whole.is_whole);
    let in_small = read_as(page, "text/html", 7).unwrap();
    assert_eq!(whole.listing, in_small.listing, "what is read must not hang on how it arrives");
    whole.listing
}

fn json(page: &[u8]) -> Listing {
    let whole = read_as(page, "application/json", page.len()).unwrap();
    assert_eq!(whole.listing, read_as(page, "application/json", 1).unwrap().listing);
    whole.listing
}

const AT: i64 = 1_704_164_640; // 2024-01-02 03:04
const OLD: i64 = 946_684_740; // 1999-12-31 23:59

fn minute(unix_s: i64) -> Option<Modified> {
    Some(Modified { unix_s, precision: Precision::Minute })
}

fn second(unix_s: i64) -> Option<Modified> {
    Some(Modified { unix_s, precision: Precision::Second })
}

/// The tree that the pages were captured from; `size` and `date` say what the kind shows of them.
fn tree(size: impl Fn(u64) -> Size, date: impl Fn(i64, i64) -> Option<Modified>) -> Vec<Entry> {
    let long = "name-that-is-so-long-that-nginx-cuts-it-off-after-fifty-characters-or-so.tar.gz";
    let files: [(&[u8], u64); 10] = [
        (b"100%41+plus#hash?query;semi.txt", 12),
        (b"a&b<c>\"q'.txt", 5000),
        (b"a:b.txt", 13),
        (b"big file.bin", 1_234_567),
        (b"empty.dat", 0),
        (b"huge.img", 3_221_225_472),
        ("käse.txt".as_bytes(), 10),
        (b"latin\xe4.txt", 11),
        (long.as_bytes(), 2048),
        (b"small.txt", 123),
    ];
    let file = |(name, bytes): (&[u8], u64)| {
        let modified = if name == b"small.txt" { date(OLD, 59) } else { date(AT, 5) };
        Entry { name: name.to_vec(), folder: false, size: size(bytes), modified }
    };
    let folder = |name: &[u8]| Entry { name: name.to_vec(), folder: true, size: Size::Unknown, modified: date(AT, 5) };
    let mut entries: Vec<_> = files.into_iter().map(file).chain([folder(b"sub"), folder(b"with space dir")]).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

#[track_caller]
fn check(listing: Listing, wanted: Vec<Entry>) {
    let mut entries = listing.entries;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for (got, wanted) in entries.iter().zip(&wanted) {
        assert_eq!(got, wanted, "{}", String::from_utf8_lossy(&wanted.name));
    }
    assert_eq!(entries.len(), wanted.len());
    assert_eq!((listing.refused_count, listing.refused), (0, vec![]));
}

fn exact(bytes: u64) -> Size {
    Size::Exact(bytes)
}

fn rounded_from(limit: u64) -> impl Fn(u64) -> Size {
    move |bytes| if bytes >= limit { Size::Rounded } else { Size::Exact(bytes) }
}

fn to_minute(at: i64, _: i64) -> Option<Modified> {
    minute(at)
}

fn to_second(at: i64, second_of: i64) -> Option<Modified> {
    second(at + second_of)
}

#[test]
fn nginx() {
    check(html(include_bytes!("fixtures/nginx.html")), tree(exact, to_minute));
    check(html(include_bytes!("fixtures/nginx-rounded.html")), tree(rounded_from(10_000), to_minute));
    check(json(include_bytes!("fixtures/nginx.json")), tree(exact, to_second));
}

#[test]
fn apache() {
    check(html(include_bytes!("fixtures/apache-plain.html")), tree(|_| Size::Unknown, |_, _| None));
    check(html(include_bytes!("fixtures/apache-pre.html")), tree(rounded_from(1000), to_minute));
    check(html(include_bytes!("fixtures/apache-table.html")), tree(rounded_from(1000), to_minute));
}

#[test]
fn lighttpd() {
    check(html(include_bytes!("fixtures/lighttpd.html")), tree(|_| Size::Rounded, to_second));
}

#[test]
fn python() {
    let mut wanted = tree(|_| Size::Unknown, |_, _| None);
    for entry in &mut wanted {
        // Python encodes what is no UTF-8 as a surrogate, and does not find it again either.
        if entry.name.starts_with(b"latin") {
            entry.name = b"latin\xed\xb3\xa4.txt".to_vec();
        }
    }
    check(html(include_bytes!("fixtures/python.html")), wanted);
}

#[test]
fn caddy() {
    let file = |name: &[u8], size, modified| Entry { name: name.to_vec(), folder: false, size, modified };
    let sub = Entry { name: b"sub".to_vec(), folder: true, size: Size::Unknown, modified: second(AT + 5) };
    let quoted = file(b"a&b<c>\"q'.txt", exact(5000), second(AT + 5));
    let latin = file(b"latin\xe4.txt", exact(11), second(AT + 5));
    check(html(include_bytes!("fixtures/caddy.html")), vec![quoted.clone(), latin.clone(), sub.clone()]);
    let link = file(b"link", Size::Unknown, None);
    let small = file(b"small.txt", exact(123), second(OLD + 59));
    check(json(include_bytes!("fixtures/caddy.json")), vec![quoted, latin, link, small, sub]);
}

#[test]
fn empty_folders_are_folders() {
    let pages: [&[u8]; 4] = [
        include_bytes!("fixtures/nginx-empty.html"),
        include_bytes!("fixtures/apache-empty.html"),
        include_bytes!("fixtures/lighttpd-empty.html"),
        include_bytes!("fixtures/python-empty.html"),
    ];
    for page in pages {
        check(html(page), vec![]);
    }
    for page in [include_bytes!("fixtures/nginx-empty.json").as_slice(), b"[]", b"null", b" [ ] \r\n"] {
        check(json(page), vec![]);
    }
}

#[test]
fn other_pages_are_no_listings() {
    let not_an_index = |page: &[u8], media: &str| match read_as(page, media, 64) {
        Err(BadPage::NotAnIndex(why)) => why,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(page)),
    };
    assert!(not_an_index(include_bytes!("fixtures/login.html"), "text/html").contains("login page"));
    let welcome = b"<html><title>Welcome to nginx!</title><p>See <a href=\"docs.html\">the docs</a>.</html>";
    assert!(not_an_index(welcome, "text/html").contains("not an index"));
    assert!(not_an_index(b"\x89PNG", "image/png").contains("image/png"));
    assert!(not_an_index(b"  ", "text/html").contains("empty"));
    for page in ["{\"error\":1}", "[1]", "[{\"name\":\"x\"}]", "[{\"name\":5,\"type\":\"file\"}]", "nil", "[] x", "[{]"]
    {
        assert!(not_an_index(page.as_bytes(), "application/json").contains("JSON"), "{page}");
    }
    let endless = [b"<a href=\"".to_vec(), vec![b'x'; 2 << 20]].concat();
    assert!(not_an_index(&endless, "text/html").contains("tag of more"));
    let endless = [b"[{\"name\":\"".to_vec(), vec![b'x'; 2 << 20]].concat();
    assert!(not_an_index(&endless, "application/json").contains("entry of more"));
}

#[test]
fn a_page_that_is_cut_off_is_noticed() {
    let page = include_bytes!("fixtures/nginx.html");
    assert!(!read_as(&page[..page.len() - 20], "text/html", 100).unwrap().is_whole);
    let page = include_bytes!("fixtures/nginx.json");
    assert_eq!(read_as(&page[..page.len() - 1], "application/json", 100).unwrap_err(), BadPage::Cut);
}

#[test]
fn more_entries_than_a_folder_may_have_are_refused() {
    let row = |at: usize| format!("<a href=\"f{at}\">f{at}</a> 02-Jan-2024 03:04 {at}\n");
    let page = |count: usize| {
        format!("<html><h1>Index of /</h1><pre>{}</pre></html>", (0..count).map(row).collect::<String>())
    };
    assert_eq!(html(page(1000).as_bytes()).entries.len(), 1000);
    assert_eq!(read_as(page(1001).as_bytes(), "text/html", 9999).unwrap_err(), BadPage::TooLarge);
}

#[test]
fn hostile_rows_are_refused_and_counted_and_the_rest_stays() {
    let page = br#"<html><title>Index of /tree/</title><pre><a href="../">../</a>
<a href="good">good</a>            02-Jan-2024 03:04   1
<a href="%2e%2e">x</a>             02-Jan-2024 03:04   1
<a href="..%2fetc%2fpasswd">x</a>  02-Jan-2024 03:04   1
<a href="nul%00">x</a>             02-Jan-2024 03:04   1
<a href="../../etc/passwd">x</a>   02-Jan-2024 03:04   1
<a href="/etc/passwd">x</a>        02-Jan-2024 03:04   1
<a href="http://evil/x">x</a>      02-Jan-2024 03:04   1
<a href="sub/deeper">x</a>         02-Jan-2024 03:04   1
<a href="good">again</a>           02-Jan-2024 03:04   2
</pre><a href="https://nginx.org/">nginx</a> <a href="/imprint">Imprint</a></html>"#;
    let listing = html(page);
    assert_eq!(
        listing.entries,
        [Entry { name: b"good".to_vec(), folder: false, size: exact(1), modified: minute(AT) }]
    );
    assert_eq!(listing.refused_count, 7);
    let reasons: Vec<_> = listing.refused.iter().map(|(_, why)| *why).collect();
    use RefusedName::*;
    assert_eq!(reasons, [Dots, Slash, Nul, Dots, Foreign, Foreign, Deeper]);

    let page = br#"[{"name":"good","type":"file","size":1},{"name":"../x","type":"file"},{"name":"..","type":"directory"},
        {"name":"n\u0000","type":"file"},{"name":"s","type":"other"},{"name":"x","is_dir":false,"url":"http://evil/x"}]"#;
    let listing = json(page);
    assert_eq!(listing.entries.len(), 1);
    assert_eq!(listing.refused_count, 4);
}

fn names_may_exist(result: Result<Page, BadPage>) {
    if let Ok(page) = result {
        for entry in page.listing.entries {
            assert_eq!(check_name(&entry.name), Ok(()));
        }
    }
}

proptest! {
    #[test]
    fn nothing_that_a_mirror_sends_breaks_a_reader(page in prop::collection::vec(any::<u8>(), 0..2000), cut in 1usize..100) {
        names_may_exist(read_as(&page, "text/html", cut));
        names_may_exist(read_as(&page, "application/json", cut));
    }

    #[test]
    fn nor_does_anything_that_looks_like_a_page(
        words in prop::collection::vec(prop::sample::select(vec![
            "<a href=\"", "\">", "</a>", "<pre>", "</pre>", "<tr>", "<td data-size=\"7\">", "<td>", "\n", " 02-Jan-2024 03:04 ", "12",
            "1.5K", "../", "%2e%2e", "%00", "/", "x", "\u{e4}", "&nbsp;", "&#228;", "<time datetime=\"2024-01-02T03:04:05Z\">", "<h1>",
            "Index of", "</h1>", "<script>", "</script>", "<!--", "-->", "<li>", "<textarea>", "<title>", "\0", "<", "&",
        ]), 0..200),
        cut in 1usize..100,
    ) {
        names_may_exist(read_as(words.concat().as_bytes(), "text/html", cut));
    }

    #[test]
    fn nor_does_anything_that_looks_like_json(
        words in prop::collection::vec(prop::sample::select(vec![
            "[", "]", "{", "}", ",", ":", "\"name\"", "\"type\"", "\"file\"", "\"is_dir\"", "true", "\"size\"", "-1", "1e9", "\"..\"",
            "\"\\u0000\"", "\"\\ud800\"", "\"url\"", "\"./x\"", "\"\\\\\"", "null", " ", "\"",
        ]), 0..100),
        cut in 1usize..50,
    ) {
        names_may_exist(read_as(format!("[{}", words.concat()).as_bytes(), "application/json", cut));
    }

    #[test]
    fn any_name_comes_back_from_a_page(names in prop::collection::hash_set(prop::collection::vec(any::<u8>(), 1..30), 1..20)) {
        let mut names: Vec<_> = names.into_iter().filter(|name| check_name(name).is_ok()).collect();
        let encoded = |name: &[u8]| percent_encoding::percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string();
        let rows: String = names.iter().map(|name| format!("<a href=\"{}\">x</a> 02-Jan-2024 03:04 5\n", encoded(name))).collect();
        let page = format!("<title>Index of /</title><pre>{rows}</pre></html>");
        let mut got: Vec<_> = html(page.as_bytes()).entries.into_iter().map(|entry| entry.name).collect();
        got.sort();
        names.sort();
        prop_assert_eq!(got, names);
    }
}
