//! The options of a mount, one table whatever they are written in: on the command line, after
//! `-o`, or in a file. Everything is optional here; `plan` fills in what is built in.

use super::duration::Length;
use super::file::MirrorTable;
use super::logging::{LogFormat, LogLevel};
use super::otlp::OtlpGiven;
use super::rate::{BadRate, Rate};
use super::rule::RuleTable;
use super::size::Size;
use super::web_address::WebAddress;
use crate::scheduler::{Strategy, Verify};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// What was given in one place (command line, `-o`, or file), and nothing else.
#[derive(clap::Args, Deserialize, schemars::JsonSchema, Clone, Default, Debug)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Given {
    /// The dataset's name, which its cache folder has [default: made from the first SOURCE]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where to keep fetched bytes; `none` keeps nothing on disk [default: ~/.cache/braidfs/NAME]
    #[arg(long, value_name = "DIR")]
    #[schemars(with = "Option<String>")]
    pub cache_dir: Option<CacheDirGiven>,
    /// The most that the cache may take of the disk [default: a tenth of the disk's free space]
    #[arg(long, value_name = "SIZE")]
    #[schemars(with = "Option<String>")]
    pub cache_size: Option<Size>,
    /// How fast cached bytes are read back to find rotten ones, once a week, while the disk has nothing else to do; `none`: not at all [default: 8MiB/s]
    #[arg(long, value_name = "RATE")]
    #[schemars(with = "Option<String>")]
    pub scrub_rate: Option<ScrubRate>,
    /// The most memory that fetched bytes may take [default: 256MiB, less where the cgroup gives less]
    #[arg(long, value_name = "SIZE")]
    #[schemars(with = "Option<String>")]
    pub memory: Option<Size>,
    /// A read fails after this long without a byte arriving for it [default: 30s]
    #[arg(long, value_name = "DURATION")]
    #[schemars(with = "Option<String>")]
    pub read_timeout: Option<Length>,
    /// A read fails after this long in any case [default: 10min]
    #[arg(long, value_name = "DURATION")]
    #[schemars(with = "Option<String>")]
    pub read_deadline: Option<Length>,
    /// How long names, sizes and dates are believed before mirrors are asked again [default: 1min]
    #[arg(long, value_name = "DURATION")]
    #[schemars(with = "Option<String>")]
    pub entry_lifetime: Option<Length>,
    /// How mirrors are chosen: adaptive, predicted, round-robin, weighted-random or response-time-first [default: adaptive]
    #[arg(long, value_name = "NAME")]
    #[serde(deserialize_with = "named")]
    #[schemars(with = "Option<String>")]
    pub strategy: Option<Strategy>,
    /// When bytes are believed: first (the first mirror of a file, until another contradicts it) or quorum (nothing of a file before two mirrors agree on a page of it) [default: first]
    #[arg(long, value_name = "NAME")]
    #[serde(deserialize_with = "named")]
    #[schemars(with = "Option<String>")]
    pub verify: Option<Verify>,
    /// Ask a second mirror too where a read waits longer than it should, for a twentieth of all bytes at most [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub hedging: Option<bool>,
    /// Let the kernel read complete files in the cache by itself, where it can (root, Linux 6.9) [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub passthrough: Option<bool>,
    /// What all mirrors together are asked for at most, such as 20MB/s [default: no limit]
    #[arg(long, value_name = "RATE")]
    #[schemars(with = "Option<String>")]
    pub rate_limit: Option<Rate>,
    /// Serve metrics for Prometheus at http://ADDRESS/metrics, such as 127.0.0.1:9190, to whoever reaches that [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    #[schemars(with = "Option<String>")]
    pub metrics: Option<ListenAddress>,
    /// Send a span of each slow read, and of what it waited for, to an OpenTelemetry receiver, such as http://HOST:4318; `env`: to the one of OTEL_EXPORTER_OTLP_ENDPOINT [default: nowhere]
    #[arg(long, value_name = "URL")]
    #[schemars(with = "Option<String>")]
    pub otlp: Option<OtlpGiven>,
    /// A read that takes longer than this is slow [default: 200ms]
    #[arg(long, value_name = "DURATION")]
    #[schemars(with = "Option<String>")]
    pub otlp_slow: Option<Length>,
    /// Serve a page at http://ADDRESS/, such as 127.0.0.1:9191, that shows what the mount does and gives it commands; port 0 picks one, `braidfs web` prints where it is [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    #[schemars(with = "Option<String>")]
    pub web: Option<WebAddress>,
    /// Let other users read the mount (needs user_allow_other in /etc/fuse.conf unless root)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub allow_other: Option<bool>,
    /// The user who owns everything in the mount [default: you]
    #[arg(long, value_name = "UID")]
    pub uid: Option<u32>,
    /// The group that owns everything in the mount [default: yours]
    #[arg(long, value_name = "GID")]
    pub gid: Option<u32>,
    /// Permission bits to take away, in octal [default: 022]
    #[arg(long, value_name = "OCTAL")]
    #[schemars(with = "Option<String>")]
    pub umask: Option<Umask>,
    /// What `df` and /proc/mounts show as the source [default: braidfs]
    #[arg(long, value_name = "TEXT")]
    pub fsname: Option<String>,
    /// Refuse to run programs from the mount
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub noexec: Option<bool>,
    /// Go to the background once the mount can be used
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub background: Option<bool>,
    /// Write the log here instead of to stderr
    #[arg(long, value_name = "FILE")]
    #[schemars(with = "Option<String>")]
    pub log_file: Option<PathBuf>,
    /// How the log is written: text, json (an object a line) or journal (entries of systemd's) [default: journal where stderr is the journal, else text]
    #[arg(long, value_name = "FORMAT")]
    #[schemars(with = "Option<String>")]
    pub log: Option<LogFormat>,
    /// How much is logged: error, warn, info, debug or trace; -v is debug, and -vv trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    #[schemars(with = "Option<String>")]
    pub log_level: Option<LogLevel>,
    /// Serve this descriptor of /dev/fuse, which whoever starts braidfs has opened and mounted, instead of mounting; MOUNTPOINT may be /dev/fd/N for it
    #[arg(long, value_name = "N")]
    pub fuse_fd: Option<u32>,
    /// Where to mount (in a file; on the command line it is the last argument).
    #[arg(skip)]
    #[schemars(with = "Option<String>")]
    pub mountpoint: Option<PathBuf>,
    /// The mirrors (in a file; on the command line they are the SOURCEs).
    #[arg(skip)]
    pub mirror: Vec<MirrorTable>,
    /// Parts of the tree with a class, an objective or hours of their own (in a file).
    #[arg(skip)]
    pub rule: Vec<RuleTable>,
}

/// What has to be said of each option, but for its definition above.
macro_rules! options {
    ($($name:ident)*) => {
        impl Given {
            /// What is given here, and from `below` what is not. Mirrors and rules are not laid over each
            /// other: they stay as they are here.
            pub fn over(self, below: Given) -> Given {
                Given { $($name: self.$name.or(below.$name),)* mirror: self.mirror, rule: self.rule }
            }

            /// The names of the options that are given here, as a file has them.
            pub fn names(&self) -> impl Iterator<Item = String> {
                let all = [$((stringify!($name), self.$name.is_some())),*];
                all.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name.replace('_', "-"))
            }
        }
    };
}

options! {
    name cache_dir cache_size scrub_rate memory read_timeout read_deadline entry_lifetime strategy verify hedging passthrough
    rate_limit metrics otlp otlp_slow web allow_other uid gid umask fsname noexec background log_file log log_level fuse_fd mountpoint
}

/// What stands after `--metrics`: an IP address and a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenAddress(pub SocketAddr);

impl FromStr for ListenAddress {
    type Err = BadListenAddress;

    fn from_str(text: &str) -> Result<ListenAddress, BadListenAddress> {
        text.parse().map(ListenAddress).map_err(|_| BadListenAddress(text.to_owned()))
    }
}

/// Text that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no address to listen on: give an IP address and a port, as 127.0.0.1:9190 or [::1]:9190")]
pub struct BadListenAddress(String);

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ListenAddress, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The scheduler knows its strategies by name and nothing of files.
fn named<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let name = String::deserialize(deserializer)?;
    name.parse().map(Some).map_err(de::Error::custom)
}

/// What stands after `--scrub-rate`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScrubRate {
    /// `none`: read nothing back.
    None,
    /// So fast.
    At(Rate),
}

impl FromStr for ScrubRate {
    type Err = BadScrubRate;

    fn from_str(text: &str) -> Result<ScrubRate, BadScrubRate> {
        match text {
            "none" => Ok(ScrubRate::None),
            rate => rate.parse().map(ScrubRate::At).map_err(BadScrubRate),
        }
    }
}

/// Text that is neither.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}; `none` turns it off")]
pub struct BadScrubRate(BadRate);

impl<'de> Deserialize<'de> for ScrubRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ScrubRate, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What stands after `--cache-dir`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CacheDirGiven {
    /// `none`: keep nothing on disk.
    None,
    /// This folder.
    At(PathBuf),
}

impl FromStr for CacheDirGiven {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<CacheDirGiven, Infallible> {
        Ok(match text {
            "none" => CacheDirGiven::None,
            path => CacheDirGiven::At(path.into()),
        })
    }
}

impl<'de> Deserialize<'de> for CacheDirGiven {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CacheDirGiven, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|never: Infallible| match never {})
    }
}

/// Permission bits that are taken away, `0` to `0o777`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Umask(pub u16);

/// Text that is no umask.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a umask; write octal digits from 000 to 777, such as 022")]
pub struct BadUmask(String);

impl FromStr for Umask {
    type Err = BadUmask;

    fn from_str(text: &str) -> Result<Umask, BadUmask> {
        let is_octal = !text.is_empty() && text.len() <= 4 && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        match u16::from_str_radix(text, 8) {
            Ok(bits) if is_octal && bits <= 0o777 => Ok(Umask(bits)),
            _ => Err(BadUmask(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for Umask {
    /// Text only: the number `22` in TOML would be decimal, and mean another mask than it shows.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Umask, D::Error> {
        let text = String::deserialize(deserializer)
            .map_err(|error| de::Error::custom(format!("{error}; a umask is octal, so write it as text: \"022\"")))?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn umasks_are_octal() {
        assert_eq!("022".parse(), Ok(Umask(0o022)));
        assert_eq!("0077".parse(), Ok(Umask(0o077)));
        for text in ["", "088", "1000", "-1", "+7", "u=rwx", "00000"] {
            let error = text.parse::<Umask>().expect_err(text).to_string();
            assert_eq!(error, format!("{text:?} is not a umask; write octal digits from 000 to 777, such as 022"));
        }
    }

    #[test]
    fn what_is_above_wins_and_gaps_show_what_is_below() {
        let above = Given { memory: Some(Size(1)), ..Given::default() };
        let below = Given { memory: Some(Size(2)), uid: Some(7), ..Given::default() };
        let both = above.over(below);
        assert_eq!((both.memory, both.uid, both.gid), (Some(Size(1)), Some(7), None));
    }
}
