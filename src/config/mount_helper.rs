//! The program as mount(8) calls it for `mount -t braidfs` and for fstab: `mount.braidfs SOURCE MOUNTPOINT [-sfnv] [-o OPTIONS]`.

use super::command_line::{Command, CommandLine, MountCommand};
use super::fuse_options::{BadFuseOption, FuseOptions, split_list};
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The names under which it is called so.
const NAMES: &[&str] = &["mount.braidfs", "mount.fuse.braidfs"];

/// Such a call.
#[derive(Clone, Debug)]
pub struct HelperCall {
    /// What is to be mounted, in the background.
    pub command: MountCommand,
    /// `-f`: check, and mount nothing.
    pub is_fake: bool,
    /// `-v`: say what was done.
    pub is_verbose: bool,
    /// The same for the process that serves the mount, its program's name first.
    pub words: Vec<OsString>,
}

/// A call that mount(8) would not make.
#[derive(Debug, thiserror::Error)]
pub enum BadCall {
    /// SOURCE or MOUNTPOINT is missing, or there is more.
    #[error("{0} is called by mount(8), as: {0} SOURCE MOUNTPOINT [-sfnv] [-o OPTIONS]")]
    Usage(String),
    /// A letter that mount(8) has not.
    #[error("-{letter} is no option of {name}; those are -s, -f, -n, -v and -o OPTIONS")]
    Option {
        /// What was written.
        letter: String,
        /// What was called.
        name: String,
    },
    /// What stands after `-o`, or the places.
    #[error("{0}")]
    Words(String),
}

/// Is `program`, the first word of a command line, a name of the helper? Gives the name.
pub fn helper_name(program: &OsStr) -> Option<&'static str> {
    let name = Path::new(program).file_name()?;
    NAMES.iter().copied().find(|known| name == *known)
}

impl HelperCall {
    /// Read the words that come after the program's name, `name`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(name: &str, words: &[OsString]) -> Result<HelperCall, BadCall> {
        let mut call = Letters { name: name.to_owned(), ..Letters::default() };
        call.read(words)?;
        let [source, mountpoint] = &call.places[..] else { return Err(BadCall::Usage(call.name)) };
        let options = if call.is_sloppy { without_unknown(&call.options) } else { call.options.clone() };
        let mut all: Vec<OsString> = ["braidfs", "mount", "--by-mount", "--background"].map(OsString::from).into();
        if !options.is_empty() {
            all.extend(["-o".into(), options.join(",").into()]);
        }
        all.extend(["--".into(), source.clone(), mountpoint.clone()]);
        let line =
            CommandLine::read(all.clone()).map_err(|error| BadCall::Words(error.to_string().trim_end().to_owned()))?;
        match line.command {
            Command::Mount(command) => {
                Ok(HelperCall { command: *command, is_fake: call.is_fake, is_verbose: call.is_verbose, words: all })
            }
            _ => Err(BadCall::Usage(call.name)),
        }
    }
}

/// What getopt(3) makes of the words.
#[derive(Default)]
struct Letters {
    name: String,
    places: Vec<OsString>,
    options: Vec<String>,
    is_sloppy: bool,
    is_fake: bool,
    is_verbose: bool,
}

impl Letters {
    fn read(&mut self, words: &[OsString]) -> Result<(), BadCall> {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let text = word.to_string_lossy();
            match text.strip_prefix('-').filter(|letters| !letters.is_empty()) {
                Some(letters) => self.letters(letters, &mut words)?,
                None => self.places.push(word.clone()),
            }
        }
        Ok(())
    }

    fn letters<'a>(&mut self, letters: &str, words: &mut impl Iterator<Item = &'a OsString>) -> Result<(), BadCall> {
        for (at, letter) in letters.char_indices() {
            match letter {
                's' => self.is_sloppy = true,
                'f' => self.is_fake = true,
                // There is no table to leave out.
                'n' => {}
                'v' => self.is_verbose = true,
                'o' | 't' | 'N' => {
                    let rest = &letters[at + 1..];
                    let mut next = || words.next().map(|word| word.to_string_lossy().into_owned());
                    let value = if rest.is_empty() { next() } else { Some(rest.to_owned()) };
                    let value = value.ok_or_else(|| BadCall::Usage(self.name.clone()))?;
                    // The type is in the name of the program, and mount(8) has entered the namespace.
                    if letter == 'o' {
                        self.options.push(value);
                    }
                    return Ok(());
                }
                _ => return Err(BadCall::Option { letter: letter.into(), name: self.name.clone() }),
            }
        }
        Ok(())
    }
}

/// `-s` asks to go without what is not known.
fn without_unknown(lists: &[String]) -> Vec<String> {
    let escape = |option: String| option.replace('\\', "\\\\").replace(',', "\\,");
    let options = lists.iter().flat_map(|list| split_list(list)).map(escape);
    let is_known =
        |option: &String| !matches!(FuseOptions::read([option.as_str()], true), Err(BadFuseOption::Unknown { .. }));
    options.filter(is_known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<HelperCall, BadCall> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        HelperCall::read("mount.braidfs", &words)
    }

    #[test]
    fn both_names_are_the_helper_and_no_other() {
        assert_eq!(helper_name(OsStr::new("/sbin/mount.braidfs")), Some("mount.braidfs"));
        assert_eq!(helper_name(OsStr::new("mount.fuse.braidfs")), Some("mount.fuse.braidfs"));
        for other in ["braidfs", "/mount.braidfs/braidfs", "umount.braidfs", ""] {
            assert_eq!(helper_name(OsStr::new(other)), None);
        }
    }

    #[test]
    fn what_mount_writes_is_a_mount_in_the_background() {
        let call =
            read("https://a/ /mnt -sn -v -t fuse.braidfs -o rw,nofail,_netdev,x-systemd.automount -o uid=5").unwrap();
        assert_eq!(call.command.places, ["https://a/", "/mnt"]);
        assert!(call.command.by_mount && call.is_verbose && !call.is_fake);
        assert_eq!(call.command.given.background, Some(true));
        assert_eq!(call.command.after_o().unwrap().given.uid, Some(5));
        assert!(read("-f https://a/ /mnt").unwrap().is_fake);
        assert_eq!(read("https://a/ /mnt -ouid=7").unwrap().command.after_o().unwrap().given.uid, Some(7));
    }

    #[test]
    fn sloppy_goes_without_what_is_not_known_and_keeps_the_rest() {
        let call = read(r"https://a/ /mnt -s -o zzz=1,fsname=a\,b,uid=5,allow_ohter").unwrap();
        let given = call.command.after_o().unwrap().given;
        assert_eq!((given.uid, given.fsname.as_deref()), (Some(5), Some("a,b")));
        // Known and wrong is wrong all the same.
        assert!(read("https://a/ /mnt -s -o uid=joe").unwrap().command.after_o().is_err());
        assert!(read("https://a/ /mnt -o zzz=1").unwrap().command.after_o().is_err());
    }

    #[test]
    fn other_calls_are_refused_with_the_right_one() {
        for (line, said) in [
            ("", "mount.braidfs SOURCE MOUNTPOINT [-sfnv] [-o OPTIONS]"),
            ("https://a/", "mount.braidfs SOURCE MOUNTPOINT"),
            ("https://a/ https://b/ /mnt", "mount.braidfs SOURCE MOUNTPOINT"),
            ("https://a/ /mnt -o", "mount.braidfs SOURCE MOUNTPOINT"),
            ("https://a/ /mnt -x", "-x is no option of mount.braidfs"),
            ("https://a/ /mnt --help", "-- is no option"),
        ] {
            let error = read(line).expect_err(line).to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
