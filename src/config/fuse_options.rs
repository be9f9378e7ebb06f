//! What stands after `-o`, as `/etc/fstab`, mount(8) and systemd write it: `k=v,k=v`.
//!
//! Every option of the command line is understood here too, with `-` or `_` in its name. Words that
//! concern mount(8) alone are let pass; unknown ones are refused by name.

use super::file::nearest;
use super::options::Given;
use clap::{Args, FromArgMatches};
use std::path::PathBuf;

/// Words that another program acts on, or that say what is so anyway. Nothing in the mount is
/// setuid or a device (modes are made here, never taken from a mirror), and no access times are
/// kept, so `suid`, `dev` and `atime`, which mount.fuse3 adds by itself, change nothing.
const LET_PASS: &[&str] = &[
    "ro",
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "async",
    "sync",
    "dirsync",
    "silent",
    "loud",
];

/// What `-o` gives.
#[derive(Clone, Default, Debug)]
pub struct FuseOptions {
    /// The options of the mount among them.
    pub given: Given,
    /// `config=FILE`.
    pub config: Option<PathBuf>,
}

/// An option after `-o` that is refused: its name, and the way out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadFuseOption {
    /// `rw`.
    #[error("-o rw: a braidfs mount is read-only; leave `rw` out, or write `ro`")]
    ReadWrite,
    /// Not one of ours, nor of mount(8).
    #[error("-o {name}: unknown option{nearest} (known: {known}, and those of mount(8))")]
    Unknown {
        /// As written.
        name: String,
        /// `, did you mean …?`, or nothing.
        nearest: String,
        /// Every name, comma between.
        known: String,
    },
    /// Its value is wrong or missing.
    #[error("-o {option}: {why}")]
    Value {
        /// As written.
        option: String,
        /// What is wrong.
        why: String,
    },
}

impl FuseOptions {
    /// Read the values of all `-o` in their order; of an option given twice the last counts, as with
    /// mount(8). `by_mount`: the command was written by mount(8), which adds `rw` by itself wherever
    /// `ro` is not given, so there it is let pass.
    pub fn read<'a>(lists: impl IntoIterator<Item = &'a str>, by_mount: bool) -> Result<FuseOptions, BadFuseOption> {
        let mut options = FuseOptions::default();
        for option in lists.into_iter().flat_map(split_list) {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option.as_str(), None),
            };
            if name == "rw" && !by_mount {
                return Err(BadFuseOption::ReadWrite);
            }
            // `user=NAME` and `comment=TEXT` are notes of mount(8).
            let is_note = name.starts_with("x-") || name.starts_with("X-") || matches!(name, "comment" | "user");
            if name == "exec" {
                options.given.noexec = Some(false);
            }
            if is_note || name == "rw" || value.is_none() && LET_PASS.contains(&name) {
                continue;
            }
            options = options.with(&option, &name.replace('_', "-"), value)?;
        }
        Ok(options)
    }

    fn with(mut self, option: &str, name: &str, value: Option<&str>) -> Result<FuseOptions, BadFuseOption> {
        let bad = |why: String| BadFuseOption::Value { option: option.to_owned(), why };
        if name == "config" {
            let file = value.filter(|file| !file.is_empty()).ok_or_else(|| bad("give a file: config=FILE".into()))?;
            self.config = Some(file.into());
            return Ok(self);
        }
        let Some(given) = one_option(name, value) else {
            let names = option_names();
            let names: Vec<&str> = names.iter().map(String::as_str).chain(["config", "ro"]).collect();
            let nearest = nearest(name, names.iter().copied());
            return Err(BadFuseOption::Unknown {
                name: option.split('=').next().unwrap_or_default().to_owned(),
                nearest: nearest.map_or(String::new(), |name| format!(", did you mean {name:?}?")),
                known: names.join(", "),
            });
        };
        self.given = given.map_err(bad)?.over(self.given);
        Ok(self)
    }
}

fn definition() -> clap::Command {
    Given::augment_args(clap::Command::new("-o").no_binary_name(true).disable_help_flag(true))
}

/// The options of a mount by their names.
pub(super) fn option_names() -> Vec<String> {
    definition().get_arguments().filter_map(clap::Arg::get_long).map(str::to_owned).collect()
}

/// What one option gives, or what is wrong with its value; nothing where there is no such option.
pub(super) fn one_option(name: &str, value: Option<&str>) -> Option<Result<Given, String>> {
    let table = definition();
    let takes_none = table
        .get_arguments()
        .find(|argument| argument.get_long() == Some(name))
        .map(|known| known.get_num_args().is_some_and(|count| count.min_values() == 0))?;
    let word = match value {
        Some(value) => format!("--{name}={value}"),
        None if takes_none => format!("--{name}"),
        None => return Some(Err(format!("give a value: {name}=…"))),
    };
    let matches = table.try_get_matches_from([word]);
    Some(matches.and_then(|matches| Given::from_arg_matches(&matches)).map_err(|error| reason(&error)))
}

/// The parser's own sentence, without clap's frame around it.
fn reason(error: &clap::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

/// Cut at commas; `\,` is a comma in a value and `\\` a backslash, as in libfuse.
pub(super) fn split_list(list: &str) -> Vec<String> {
    let mut options = vec![String::new()];
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        let last = options.last_mut().expect("there is always one");
        match letter {
            ',' => options.push(String::new()),
            '\\' => last.push(letters.next().unwrap_or('\\')),
            other => last.push(other),
        }
    }
    options.retain(|option| !option.is_empty());
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::{CacheDirGiven, Umask};
    use crate::config::size::Size;

    fn read(list: &str) -> Result<FuseOptions, BadFuseOption> {
        FuseOptions::read([list], false)
    }

    #[test]
    fn options_of_the_mount_are_read_with_either_dash() {
        let options = read(
            "allow_other,uid=1000,gid=100,umask=027,fsname=data,cache_dir=/var/c,cache-size=1G,read-timeout=5s,\
              strategy=round-robin,verify=quorum",
        )
        .unwrap();
        let given = options.given;
        assert_eq!(given.allow_other, Some(true));
        assert_eq!((given.uid, given.gid, given.umask), (Some(1000), Some(100), Some(Umask(0o027))));
        assert_eq!(given.cache_dir, Some(CacheDirGiven::At("/var/c".into())));
        assert_eq!(given.cache_size, Some(Size(1 << 30)));
        assert_eq!(given.strategy, Some(crate::scheduler::Strategy::RoundRobin));
        assert_eq!(given.verify, Some(crate::scheduler::Verify::Quorum));
        assert_eq!(given.fsname.as_deref(), Some("data"));
        assert_eq!(read("config=/etc/b.toml,noexec").unwrap().config, Some("/etc/b.toml".into()));
        assert_eq!(read("allow_other=false").unwrap().given.allow_other, Some(false));
    }

    #[test]
    fn words_of_mount_are_let_pass_and_the_last_of_two_counts() {
        let list = "defaults,ro,noauto,_netdev,nofail,user,user=joe,nosuid,suid,nodev,dev,noexec,exec,noatime,\
                    x-systemd.automount,x-systemd.requires=a.service,comment=hello,,umask=022,umask=077";
        let given = read(list).unwrap().given;
        assert_eq!(given.umask, Some(Umask(0o077)));
        assert_eq!(given.noexec, Some(false), "exec came after noexec");
        assert_eq!(read("exec,noexec").unwrap().given.noexec, Some(true));
    }

    #[test]
    fn rw_is_refused_where_a_person_wrote_it() {
        assert_eq!(read("rw").unwrap_err(), BadFuseOption::ReadWrite);
        assert!(FuseOptions::read(["rw,dev,suid"], true).is_ok());
    }

    #[test]
    fn bad_options_are_named() {
        for (list, said) in [
            ("allow_ohter", "-o allow_ohter: unknown option, did you mean \"allow-other\"? (known: name, cache-dir"),
            ("ro,zzz=1", "-o zzz: unknown option (known: "),
            ("memory=lots", "-o memory=lots: \"lots\" is not a size: it does not start with a number"),
            ("memory", "-o memory: give a value: memory=…"),
            ("strategy=fastest", "-o strategy=fastest: \"fastest\" is not a strategy: give round-robin"),
            ("verify=most", "-o verify=most: \"most\" is not a way to verify: give first or quorum"),
            ("umask=9", "-o umask=9: \"9\" is not a umask"),
            ("uid=joe", "-o uid=joe: invalid digit"),
            ("allow_other=perhaps", "-o allow_other=perhaps: "),
            ("config", "-o config: give a file"),
            ("mountpoint=/x", "-o mountpoint: unknown option"),
            ("ro=1", "-o ro: unknown option"),
        ] {
            let error = read(list).expect_err(list).to_string();
            assert!(error.starts_with(said), "{list}: {error}");
        }
    }

    #[test]
    fn commas_and_backslashes_in_values_are_escaped() {
        let given = read(r"fsname=a\,b\\c,ro").unwrap().given;
        assert_eq!(given.fsname.as_deref(), Some(r"a,b\c"));
    }
}
