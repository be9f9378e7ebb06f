//! What goes over the socket: one request, then replies, each a line of JSON.
//!
//! Request: `{"v":1,"command":"status","args":{"path":null}}`. Replies: any number of `"alive"`,
//! `{"progress":…}`, `{"failed":…}`, `{"damaged":…}`, `{"access":…}` and `{"decision":…}`, then one `{"result":…}` or `{"error":…}`, which is the last.

use super::experiment::{AbReport, ExperimentAsked};
use super::file_report::FileReport;
use super::reloaded::ReloadReport;
use super::report::{AccessReport, CheckReport, DamagedRange, DecisionReport, EvictReport, ExplainReport, FailedFile};
use super::report::{JobReport, MirrorsReport, PinReport, PrefetchReport, Progress, RecordReport};
use super::report::{StatusReport, VerifyReport};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The version of the protocol. A daemon of another one refuses.
pub const VERSION: u64 = 1;
/// A request at most, in bytes: more than a hundred thousand paths.
pub const REQUEST_BYTES_MAX: u64 = 16 << 20;
/// A reply at most, in bytes: the status of 1,024 mirrors with all they did wrong.
pub const REPLY_BYTES_MAX: u64 = 16 << 20;

/// What a client asks for.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(tag = "command", content = "args", rename_all = "lowercase")]
pub enum Command {
    /// Are you there?
    Ping,
    /// The mount's state, or with a path that file's.
    Status {
        /// Relative to the mountpoint.
        path: Option<PathText>,
    },
    /// Every mirror, and how they are chosen.
    Mirrors {
        /// Choose them so from now on.
        strategy: Option<String>,
        /// Use one otherwise from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        change: Option<MirrorChange>,
    },
    /// Why mirrors were chosen.
    Explain {
        /// `FILE` or `FILE:OFFSET`, relative to the mountpoint; none: all files.
        target: Option<PathText>,
        /// At most so many decisions, the newest; none: 10, or with an offset those back to the one that brought
        /// the page.
        last: Option<u64>,
    },
    /// Fetch these ahead of their use.
    Prefetch {
        /// Relative to the mountpoint; folders with all that is below them.
        paths: Vec<PathText>,
        /// Reply when it is durable, rather than when it has begun.
        wait: bool,
        /// Where there are any: nothing but these ranges, and the paths are those of files.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ranges: Vec<AskedRange>,
        /// Ask for no more than so many bytes in any second.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rate: Option<u64>,
    },
    /// Say what is read, until this client says no more.
    Record {
        /// Relative to the mountpoint: this file, or what is below this folder.
        path: PathText,
    },
    /// How much of these is durable on disk?
    Check {
        /// As those of a prefetch.
        paths: Vec<PathText>,
    },
    /// End a prefetch.
    Cancel {
        /// Its number.
        job: u64,
    },
    /// Keep what is cached of these, now or later.
    Pin {
        /// Relative to the mountpoint; folders with all that is or comes below them.
        paths: Vec<PathText>,
    },
    /// Let eviction have these again.
    Unpin {
        /// As they were pinned.
        paths: Vec<PathText>,
    },
    /// Let go of what is cached of these.
    Evict {
        /// Relative to the mountpoint; folders with all that is below them.
        paths: Vec<PathText>,
    },
    /// Read what is cached of these back from the disk.
    Verify {
        /// Relative to the mountpoint; folders with all that is below them.
        paths: Vec<PathText>,
    },
    /// Read the configuration file anew and go by it.
    Reload,
    /// The experiment that runs.
    Ab {
        /// Start one first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start: Option<ExperimentAsked>,
        /// End it after that.
        #[serde(default)]
        stop: bool,
    },
    /// End the mount.
    Umount {
        /// Even if it is busy.
        lazy: bool,
    },
}

/// How one mirror is to be used, until the mount ends or its configuration file says otherwise.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct MirrorChange {
    /// Which: its URL, without credentials.
    pub url: String,
    /// How much beside the others, 0.1 to 100; none: as it is.
    pub weight: Option<f64>,
    /// Not at all, or again; none: as it is.
    pub in_use: Option<bool>,
}

/// A part of a file: which of the paths, where it begins and how long it is, in bytes.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub struct AskedRange(pub u32, pub u64, pub u64);

/// The names of the commands, for the error about others.
const COMMANDS: &str =
    "ping, status, mirrors, explain, prefetch, record, check, cancel, pin, unpin, evict, verify, reload, ab, umount";

#[derive(Serialize)]
struct Request<'a> {
    v: u64,
    #[serde(flatten)]
    command: &'a Command,
}

/// One line from the daemon.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// Still at it. Comes where nothing else does, so that silence means trouble.
    Alive,
    /// How far it is.
    Progress(Progress),
    /// One file was given up.
    Failed(FailedFile),
    /// Cached bytes did not match their checksums.
    Damaged(DamagedRange),
    /// Something was read.
    Access(AccessReport),
    /// Why a mirror was chosen.
    Decision(Box<DecisionReport>),
    /// Done; the last line.
    Result(Answer),
    /// Not done; the last line.
    Error(Refusal),
}

/// What a command gives when it is done.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// To `ping`: the daemon's process.
    Pong(u32),
    /// To `status`.
    Status(Box<StatusReport>),
    /// To `status` of a file.
    File(Box<FileReport>),
    /// To `mirrors`.
    Mirrors(Box<MirrorsReport>),
    /// To `explain`, after its decisions.
    Explain(Box<ExplainReport>),
    /// To `prefetch`.
    Prefetch(PrefetchReport),
    /// To `record`.
    Recorded(RecordReport),
    /// To `check`.
    Checked(CheckReport),
    /// To `cancel`: the job as it ended.
    Cancelled(JobReport),
    /// To `pin`.
    Pinned(PinReport),
    /// To `unpin`.
    Unpinned(PinReport),
    /// To `evict`.
    Evicted(EvictReport),
    /// To `verify`.
    Verified(VerifyReport),
    /// To `reload`.
    Reloaded(ReloadReport),
    /// To `ab`.
    Ab(Box<AbReport>),
    /// To `umount`: the mount is gone or going, and soon the daemon's process too.
    Unmounted(u32),
}

/// Why a command was not done.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What a program would look at.
    pub kind: RefusalKind,
    /// What a person would read: names the input and the way out.
    pub message: String,
}

/// Kinds of refusals.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The client speaks another version of the protocol.
    Version,
    /// The request is no such thing, or too long.
    Request,
    /// The client's user may not.
    Forbidden,
    /// Too many clients at once, or the mount is in use.
    Busy,
    /// There is no such file.
    Missing,
    /// It took too long.
    Timeout,
    /// It was tried and failed.
    Failed,
    /// A kind of a later version.
    #[serde(other)]
    Other,
}

impl Refusal {
    /// Of this kind, with these words.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Refusal {
        Refusal { kind, message: message.into() }
    }
}

/// A request as a line, its end included.
pub fn request_line(command: &Command) -> Vec<u8> {
    line(&Request { v: VERSION, command })
}

/// A reply as a line, its end included.
pub fn reply_line(reply: &Reply) -> Vec<u8> {
    line(reply)
}

/// Read a request.
///
/// # Errors
/// What to reply to one that cannot be understood.
pub fn parse_request(line: &[u8]) -> Result<Command, Refusal> {
    let refuse = |kind, message: String| Err(Refusal::new(kind, message));
    let mut value: serde_json::Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(error) => return refuse(RefusalKind::Request, format!("the request is not a line of JSON: {error}")),
    };
    match value.get("v").and_then(serde_json::Value::as_u64) {
        Some(VERSION) => {}
        Some(other) => {
            let message = format!(
                "this daemon speaks version {VERSION} of the protocol, and the command version {other}: \
                 use the braidfs that the mount was made with, or mount again"
            );
            return refuse(RefusalKind::Version, message);
        }
        None => return refuse(RefusalKind::Version, format!("the request has no \"v\": {VERSION}")),
    }
    if let Some(object) = value.as_object_mut() {
        object.remove("v");
    }
    serde_json::from_value(value).or_else(|error| {
        refuse(RefusalKind::Request, format!("the request is none of {COMMANDS}, or lacks an argument: {error}"))
    })
}

/// Bytes of a path as text, without loss: UTF-8 stays as it is, but `%`, control characters and
/// bytes that are no UTF-8 are written `%XX`.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct PathText(pub Vec<u8>);

impl PathText {
    /// As it goes over the socket.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(self.0.len());
        for valid in self.0.utf8_chunks() {
            for letter in valid.valid().chars() {
                match letter {
                    '%' => text.push_str("%25"),
                    letter if letter.is_control() => escape(&mut text, letter.encode_utf8(&mut [0; 4]).as_bytes()),
                    letter => text.push(letter),
                }
            }
            escape(&mut text, valid.invalid());
        }
        text
    }

    /// Back from what [`encode`](Self::encode) made.
    pub fn decode(text: &str) -> PathText {
        PathText(percent_encoding::percent_decode_str(text).collect())
    }
}

impl Serialize for PathText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for PathText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PathText, D::Error> {
        let path = PathText::decode(&String::deserialize(deserializer)?);
        if path.0.contains(&0) {
            return Err(de::Error::custom("a path has no NUL in it"));
        }
        Ok(path)
    }
}

fn escape(text: &mut String, bytes: &[u8]) {
    bytes.iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("every key is text, and every number finite or written as null");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_looks_like_this() {
        let status = Command::Status { path: None };
        assert_eq!(request_line(&status), b"{\"v\":1,\"command\":\"status\",\"args\":{\"path\":null}}\n");
        assert_eq!(request_line(&Command::Ping), b"{\"v\":1,\"command\":\"ping\"}\n");
        assert_eq!(reply_line(&Reply::Alive), b"\"alive\"\n");
        let mirrors = Command::Mirrors { strategy: Some("adaptive".into()), change: None };
        let line = b"{\"v\":1,\"command\":\"mirrors\",\"args\":{\"strategy\":\"adaptive\"}}\n";
        assert_eq!(request_line(&mirrors), line);
        let explain = Command::Explain { target: Some(PathText(b"a:5".into())), last: None };
        let line = b"{\"v\":1,\"command\":\"explain\",\"args\":{\"target\":\"a:5\",\"last\":null}}\n";
        assert_eq!(request_line(&explain), line);
        for command in [status, mirrors, explain, Command::Ping, Command::Umount { lazy: true }] {
            assert_eq!(parse_request(&request_line(&command)), Ok(command));
        }
    }

    #[test]
    fn requests_that_are_none_are_refused() {
        for (line, kind, said) in [
            ("", RefusalKind::Request, "not a line of JSON"),
            ("[]", RefusalKind::Version, "has no \"v\""),
            ("{\"v\":\"1\"}", RefusalKind::Version, "has no \"v\""),
            ("{\"v\":2,\"command\":\"ping\"}", RefusalKind::Version, "and the command version 2"),
            ("{\"v\":1}", RefusalKind::Request, "none of ping, status"),
            ("{\"v\":1,\"command\":\"format\"}", RefusalKind::Request, "unknown variant `format`"),
            ("{\"v\":1,\"command\":\"umount\"}", RefusalKind::Request, "none of ping"),
            ("{\"v\":1,\"command\":\"status\",\"args\":{\"path\":\"a%00\"}}", RefusalKind::Request, "no NUL"),
        ] {
            let refusal = parse_request(line.as_bytes()).expect_err(line);
            assert_eq!(refusal.kind, kind, "{line}: {refusal}");
            assert!(refusal.message.contains(said), "{line}: {refusal}");
        }
    }

    #[test]
    fn readable_paths_stay_readable() {
        assert_eq!(PathText("dir/é 1.bin".into()).encode(), "dir/é 1.bin");
        assert_eq!(PathText(b"100%\n\xff".to_vec()).encode(), "100%25%0A%FF");
    }

    #[test]
    fn kinds_of_later_versions_are_read() {
        let refusal: Refusal = serde_json::from_str("{\"kind\":\"moonphase\",\"message\":\"no\"}").unwrap();
        assert_eq!(refusal.kind, RefusalKind::Other);
    }

    proptest! {
        #[test]
        fn every_path_comes_back_as_it_was(bytes in proptest::collection::vec(1u8.., 0..40)) {
            let path = PathText(bytes);
            prop_assert_eq!(&PathText::decode(&path.encode()), &path);
            let json = serde_json::to_string(&path).unwrap();
            prop_assert_eq!(serde_json::from_str::<PathText>(&json).unwrap(), path);
        }

        #[test]
        fn no_line_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse_request(&bytes);
        }
    }
}
