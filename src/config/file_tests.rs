use super::*;
use crate::config::size::Size;
use crate::scheduler::Strategy;

fn parse(text: &str) -> Result<ConfigFile, Wrong> {
    ConfigFile::parse(Path::new("dataset.toml"), text.to_owned())
}

#[test]
fn a_whole_file_is_read() {
    let file = parse(
        r#"
name = "genomes"
cache-dir = "none"
cache-size = "10 GiB"
memory = 67108864
read-timeout = "30s"
read-deadline = "10min"
entry-lifetime = "1h"
strategy = "weighted-random"
allow-other = true
uid = 1000
gid = 1000
umask = "027"
fsname = "genomes"
mountpoint = "/mnt/genomes"

[[mirror]]
url = "https://one.example.org/genomes"
headers = { X-Key = "secret" }
user-agent = "reader/1"
ca-file = "ca.pem"
connect-timeout = "5s"
weight = 2

[[mirror]]
url = "http://two.example.org/"
"#,
    )
    .unwrap();
    let given = &file.given;
    assert_eq!(given.memory, Some(Size(64 << 20)));
    assert_eq!(given.cache_size, Some(Size(10 << 30)));
    assert_eq!(given.umask.unwrap().0, 0o027);
    assert_eq!(given.strategy, Some(Strategy::WeightedRandom));
    assert_eq!(given.mirror.len(), 2);
    let first = &given.mirror[0];
    assert_eq!(first.url.get_ref().0.as_str(), "https://one.example.org/genomes/");
    assert_eq!(first.headers.0["x-key"], "secret");
    assert!(!format!("{:?}", given).contains("secret"), "secrets stay out of Debug");
    assert_eq!(first.ca_file.as_ref().unwrap().get_ref(), Path::new("ca.pem"));
    assert_eq!(first.connect_timeout.unwrap().0.as_secs(), 5);
    assert_eq!((*first.weight.as_ref().unwrap().get_ref(), given.mirror[1].weight.is_none()), (2.0, true));
}

/// Text, line, column, and what the message says.
const WRONG: &[(&str, usize, usize, &str)] = &[
    ("memroy = \"1G\"\n", 1, 1, "unknown key \"memroy\", did you mean \"memory\"? (known: name, cache-dir, "),
    ("cache_dir = \"/x\"\n", 1, 1, "did you mean \"cache-dir\"?"),
    ("name = \"a\"\ncolour = 1\n", 2, 1, "unknown key \"colour\" (known: "),
    ("\n  memory = \"lots\"\n", 2, 12, "\"lots\" is not a size: it does not start with a number; write 10GiB"),
    ("strategy = \"fastest\"\n", 1, 12, "\"fastest\" is not a strategy: give round-robin, weighted-random,"),
    ("strategy = 3\n", 1, 12, "invalid type: integer `3`, expected a string"),
    ("[[mirror]]\nurl = \"https://a/\"\nweight = \"much\"\n", 3, 10, "invalid type: string"),
    ("memory = true\n", 1, 10, "invalid type: boolean `true`, expected a size such as \"10GiB\""),
    ("memory = -5\n", 1, 10, "a size is not negative"),
    ("read-timeout = 30\n", 1, 16, "expected a duration with its unit, such as \"30s\""),
    ("read-timeout = \"30\"\n", 1, 16, "\"30\" is not a duration: its unit is missing"),
    ("umask = 22\n", 1, 9, "a umask is octal, so write it as text: \"022\""),
    ("umask = \"999\"\n", 1, 9, "\"999\" is not a umask"),
    ("uid = \"joe\"\n", 1, 7, "invalid type: string \"joe\", expected u32"),
    ("uid = -1\n", 1, 7, "invalid value: integer `-1`, expected u32"),
    ("allow-other = \"yes\"\n", 1, 15, "invalid type: string \"yes\", expected a boolean"),
    ("name = \"a\"\nname = \"b\"\n", 2, 1, "duplicate key"),
    ("name = \n", 1, 8, "string values must be quoted"),
    ("[[mirror]]\n", 1, 1, "missing key `url`"),
    ("[[mirror]]\nurl = \"example.org/x\"\n", 2, 7, "it has no scheme; write https://example.org/x"),
    ("[[mirror]]\nurl = \"https://a/\"\ncost = 2\n", 3, 1, "unknown key \"cost\" (known: url, headers, user-agent"),
    (
        "[[mirror]]\nurl = \"https://a/\"\nheaders = { Range = \"x\" }\n",
        3,
        11,
        "braidfs sets the header \"Range\" itself",
    ),
    ("[[mirror]]\nurl = \"https://a/\"\nheaders = { \"a b\" = \"x\" }\n", 3, 11, "\"a b\" is not the name of a header"),
    ("[[mirror]]\nurl = \"https://a/\"\nuser-agent = \"a\\nb\"\n", 3, 14, "no line breaks"),
    ("[[mirrors]]\nurl = \"https://a/\"\n", 1, 3, "did you mean \"mirror\"?"),
    ("mirror = \"https://a/\"\n", 1, 10, "invalid type: string"),
];

#[test]
fn what_is_wrong_is_shown_with_line_and_column() {
    for &(text, line, column, said) in WRONG {
        let wrong = parse(text).expect_err(text);
        assert!(wrong.message.contains(said), "{text:?} said: {}", wrong.message);
        assert_eq!((wrong.line, wrong.column), (line, column), "{text:?} said: {wrong}");
        let shown = wrong.to_string();
        assert!(shown.starts_with(&format!("dataset.toml:{line}:{column}: ")), "{shown}");
        assert!(
            shown.contains(&without_secrets(text.lines().nth(line - 1).unwrap())),
            "the faulty line is shown: {shown}"
        );
    }
}

#[test]
fn the_mark_stands_under_the_fault() {
    let shown = parse("name = \"é\"\nuid   = \"joe\"\n").unwrap_err().to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[1], " 2 | uid   = \"joe\"");
    assert_eq!(lines[2], "             ^^^^^");
    assert_eq!(lines[1].find("\"joe\""), lines[2].find('^'));
}

#[test]
fn secrets_are_in_no_error() {
    for text in [
        "[[mirror]]\nurl = \"ftp://joe:s3cret@example.org/\"\n",
        "[[mirror]]\nurl = \"https://joe:s3cret@example.org/?x\"\n",
        "[[mirror]]\nurl = \"https://joe:s3cret@example.org/\" oops\n",
        "[[mirror]]\nurl = \"https://a/\"\nheaders = \"Authorization: s3cret\"\n",
        "[[mirror]]\nurl = \"https://a/\"\nheaders = { Range = \"s3cret\" }\n",
        "[[mirror]]\nurl = \"https://a/\"\n[mirror.headers]\nAuthorization = [\"s3cret\"]\n",
        "[[mirror]]\nurl = \"https://a/\"\nheader = { X-Api-Key = 's3cret' }\n",
    ] {
        let shown = parse(text).expect_err(text).to_string();
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    assert_eq!(without_secrets("url = 'http://a:é@b/' # x"), "url = 'http://***@b/' # x");
    assert_eq!(without_secrets("memory = \"lots\""), "memory = \"lots\"");
}

#[test]
fn files_that_are_no_text_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    std::fs::write(&path, b"name = \"a\"\n\xff\xfe").unwrap();
    let error = ConfigFile::read(&path).unwrap_err().to_string();
    assert!(error.contains("x.toml:2:1: it is not UTF-8 text"), "{error}");
    std::fs::File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    assert!(matches!(ConfigFile::read(&path), Err(FileError::TooLarge(_))));
    let error = ConfigFile::read(&folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(error.contains("none.toml: No such file"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,60}", start in 0usize..80, length in 0usize..80) {
        let _ = parse(&text);
        let _ = wrong_at(Path::new("x"), &text, start..start + length, String::new()).to_string();
    }
}
