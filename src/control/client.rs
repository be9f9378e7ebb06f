//! The user's side: from a path to the daemon of its mount, and one command to it.

use super::mountinfo::{self, Mount, braidfs_of};
use super::place::Places;
use super::protocol::{Answer, Command, REPLY_BYTES_MAX, Refusal, Reply, request_line};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The daemon says something every 2 s while it works; after so much silence it is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Mounts that an error lists.
const SHOWN_MOUNTS_MAX: usize = 20;

/// Where a command is run from.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The working folder.
    pub cwd: PathBuf,
    /// `/proc/self/mountinfo`, but for tests.
    pub mountinfo: PathBuf,
    /// `$XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// Look for sockets here rather than in the usual places.
    pub folder: Option<PathBuf>,
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// mountinfo cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Mounts {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The path is on no mount of ours.
    #[error("{} is under no braidfs mount; {mounts}", path.display())]
    NotOurs {
        /// As given.
        path: PathBuf,
        /// Those that there are, in a sentence.
        mounts: String,
    },
    /// No path was given, and there is not exactly one mount.
    #[error("no PATH was given, and {0}")]
    NoPath(String),
    /// A file of the user's, or what stands in it, is of no use.
    #[error("{name}: {why}")]
    Input {
        /// The file, perhaps with a line.
        name: String,
        /// What is wrong with it, and the way out.
        why: String,
    },
    /// A path of a list.
    #[error("{place}: {error}")]
    Listed {
        /// The list and the line.
        place: String,
        /// What is wrong with the path.
        error: Box<ClientError>,
    },
    /// The paths are on different mounts.
    #[error("{} and {} are on different mounts; use a command for each", .0.display(), .1.display())]
    TwoMounts(PathBuf, PathBuf),
    /// The mount is there, and nobody behind it.
    #[error("the daemon of {0} is gone, and left its mount behind: `braidfs umount {0}` cleans up", mountpoint.display())]
    Gone {
        /// Which mount.
        mountpoint: PathBuf,
    },
    /// The socket cannot be used.
    #[error("cannot reach the daemon of {}: {error}", mountpoint.display())]
    Unreachable {
        /// Which mount.
        mountpoint: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It fell silent.
    #[error("the daemon of {} has said nothing for {} s: it is stuck; `braidfs umount --lazy` detaches the mount", mountpoint.display(), SILENCE_MAX.as_secs())]
    Silent {
        /// Which mount.
        mountpoint: PathBuf,
    },
    /// It ended in the middle of a command.
    #[error("the daemon of {} went away before it was done", mountpoint.display())]
    Lost {
        /// Which mount.
        mountpoint: PathBuf,
    },
    /// It said what nobody understands.
    #[error("the daemon of {} said what this braidfs does not understand ({error}); use the one that it was mounted with", mountpoint.display())]
    Nonsense {
        /// Which mount.
        mountpoint: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// It has none.
    #[error("the mount at {} serves no page: mount it with --web 127.0.0.1:0", mountpoint.display())]
    NoPage {
        /// Which mount.
        mountpoint: PathBuf,
    },
    /// It refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl ClientError {
    /// The exit code: 1 where the input was at fault or refused, 2 where the daemon was.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::NotOurs { .. }
            | ClientError::NoPath(_)
            | ClientError::Input { .. }
            | ClientError::TwoMounts(..)
            | ClientError::NoPage { .. }
            | ClientError::Refused(_) => 1,
            ClientError::Listed { error, .. } => error.exit_code(),
            _ => 2,
        }
    }
}

/// A path on a mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The mount.
    pub mount: Mount,
    /// The path, relative to the root of the file system; empty for the root itself.
    pub relative: Vec<u8>,
}

impl Desk {
    /// The ordinary one.
    pub fn new(cwd: PathBuf, xdg_runtime_dir: Option<PathBuf>) -> Desk {
        Desk { cwd, mountinfo: "/proc/self/mountinfo".into(), xdg_runtime_dir, folder: None }
    }

    /// The mounts that there are.
    ///
    /// # Errors
    /// mountinfo cannot be read.
    pub fn mounts(&self) -> Result<Vec<Mount>, ClientError> {
        mountinfo::read(&self.mountinfo).map_err(|error| ClientError::Mounts { path: self.mountinfo.clone(), error })
    }

    /// The mount that `path` is on.
    ///
    /// # Errors
    /// It is on none of ours: lists those that there are.
    pub fn find(&self, path: &Path) -> Result<Target, ClientError> {
        self.finder()?.find(path)
    }

    /// Finds the mounts of many paths; the system is asked for the mounts once.
    ///
    /// # Errors
    /// mountinfo cannot be read.
    pub fn finder(&self) -> Result<Finder<'_>, ClientError> {
        Ok(Finder { cwd: &self.cwd, mounts: self.mounts()? })
    }

    /// The mount that the working folder is on, else the only one of ours.
    ///
    /// # Errors
    /// It is on none of ours, and there is none, or there are several.
    pub fn here(&self) -> Result<Target, ClientError> {
        let mounts = self.mounts()?;
        match braidfs_of(&mounts, &self.cwd, &self.cwd) {
            Some((mount, _)) => Ok(Target { mount: mount.clone(), relative: Vec::new() }),
            None => self.only(),
        }
    }

    /// The mount that `path` is on; without one [`here`](Self::here).
    ///
    /// # Errors
    /// As those of [`find`](Self::find) and [`here`](Self::here).
    pub fn find_or_here(&self, path: Option<&Path>) -> Result<Target, ClientError> {
        path.map_or_else(|| self.here(), |path| self.find(path))
    }

    /// The only mount of ours.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn only(&self) -> Result<Target, ClientError> {
        let mounts = self.mounts()?;
        let mut ours = mounts.iter().filter(|mount| mount.is_braidfs());
        let first = ours.next();
        // A bind mount of it is no other mount.
        let is_only = ours.all(|other| first.is_some_and(|first| first.device == other.device));
        match first.filter(|_| is_only) {
            Some(mount) => Ok(Target { mount: mount.clone(), relative: Vec::new() }),
            _ => Err(ClientError::NoPath(in_a_sentence(&mounts))),
        }
    }

    /// A connection to the daemon of `mount`. Who it is needs no check: nobody but the mount's user and
    /// root can put a socket into a folder that passed [`Places`]' own.
    ///
    /// # Errors
    /// It is gone, or its socket cannot be used.
    pub fn connect(&self, mount: &Mount) -> Result<Connection, ClientError> {
        let mountpoint = mount.mountpoint.clone();
        let socket = self.socket(mount)?;
        let unreachable = |error| ClientError::Unreachable { mountpoint: mountpoint.clone(), error };
        let stream = match UnixStream::connect(&socket) {
            Ok(stream) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                return Err(ClientError::Gone { mountpoint });
            }
            Err(error) => return Err(unreachable(error)),
        };
        stream.set_read_timeout(Some(SILENCE_MAX)).map_err(unreachable)?;
        stream.set_write_timeout(Some(SILENCE_MAX)).map_err(unreachable)?;
        Ok(Connection { stream: BufReader::new(stream), mountpoint })
    }

    /// Where the daemon of `mount` listens.
    ///
    /// # Errors
    /// It is gone, or another user's.
    pub fn socket(&self, mount: &Mount) -> Result<PathBuf, ClientError> {
        let owner_uid = mount.owner_uid.unwrap_or(0);
        let socket_of = |uid| match &self.folder {
            Some(folder) => Places::in_folders(vec![folder.clone()], uid).find_socket(mount.device),
            None => Places::of_user(uid, self.xdg_runtime_dir.as_deref()).find_socket(mount.device),
        };
        // One of us may serve what another user has mounted.
        let socket = socket_of(owner_uid).or_else(|| socket_of(rustix::process::geteuid().as_raw()));
        socket.ok_or_else(|| self.not_found(mount, owner_uid))
    }

    /// A folder that one may not look into hides a socket as well as there being none.
    fn not_found(&self, mount: &Mount, owner_uid: u32) -> ClientError {
        let own_uid = rustix::process::geteuid().as_raw();
        let mountpoint = mount.mountpoint.clone();
        if own_uid == owner_uid || own_uid == 0 {
            return ClientError::Gone { mountpoint };
        }
        let words = format!("this mount belongs to user {owner_uid}, and you are user {own_uid}");
        let error = std::io::Error::new(std::io::ErrorKind::PermissionDenied, words);
        ClientError::Unreachable { mountpoint, error }
    }
}

/// The mounts that there are, to find many paths in.
#[derive(Debug)]
pub struct Finder<'a> {
    cwd: &'a Path,
    mounts: Vec<Mount>,
}

impl Finder<'_> {
    /// The mount that `path` is on.
    ///
    /// # Errors
    /// It is on none of ours: lists those that there are.
    pub fn find(&self, path: &Path) -> Result<Target, ClientError> {
        match braidfs_of(&self.mounts, self.cwd, path) {
            Some((mount, path)) => Ok(Target { mount: mount.clone(), relative: mount.relative(&path) }),
            None => Err(ClientError::NotOurs { path: path.to_owned(), mounts: in_a_sentence(&self.mounts) }),
        }
    }
}

/// A connection on which one command can be given.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
    mountpoint: PathBuf,
}

/// Tells a daemon that its client has nothing to say any more.
#[derive(Debug)]
pub struct Ender(UnixStream);

impl Ender {
    /// Do. Where the daemon is gone there is nobody to tell.
    pub fn end(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }
}

impl Connection {
    /// To end, from another thread, what goes on until it is told to.
    ///
    /// # Errors
    /// What the system says.
    pub fn ender(&self) -> Result<Ender, ClientError> {
        let unreachable = |error| ClientError::Unreachable { mountpoint: self.mountpoint.clone(), error };
        self.stream.get_ref().try_clone().map(Ender).map_err(unreachable)
    }

    /// Give the command, pass each line before the last one to `heard`, and return the last.
    ///
    /// # Errors
    /// The daemon refused, fell silent, or went away.
    pub fn run(mut self, command: &Command, mut heard: impl FnMut(Reply)) -> Result<Answer, ClientError> {
        // A daemon that refuses at once may have closed its side by now; its reason is still to be read.
        let written = self.stream.get_mut().write_all(&request_line(command));
        loop {
            match self.reply() {
                Ok(Reply::Result(answer)) => return Ok(answer),
                Ok(Reply::Error(refusal)) => return Err(refusal.into()),
                Ok(other) => heard(other),
                Err(error) => {
                    return Err(match written {
                        Err(error) if is_timeout(&error) => ClientError::Silent { mountpoint: self.mountpoint },
                        _ => error,
                    });
                }
            }
        }
    }

    fn reply(&mut self) -> Result<Reply, ClientError> {
        let mountpoint = self.mountpoint.clone();
        let mut line = Vec::new();
        match (&mut self.stream).take(REPLY_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(_) if line.last() == Some(&b'\n') => serde_json::from_slice(&line)
                .map_err(|error| ClientError::Nonsense { mountpoint, error: error.to_string() }),
            Ok(_) if line.len() as u64 >= REPLY_BYTES_MAX => {
                Err(ClientError::Nonsense { mountpoint, error: "a line of more than 16 MiB".into() })
            }
            Ok(_) => Err(ClientError::Lost { mountpoint }),
            Err(error) if is_timeout(&error) => Err(ClientError::Silent { mountpoint }),
            Err(_) => Err(ClientError::Lost { mountpoint }),
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn in_a_sentence(mounts: &[Mount]) -> String {
    let ours: Vec<String> = mounts
        .iter()
        .filter(|mount| mount.is_braidfs())
        .map(|mount| mount.mountpoint.display().to_string())
        .take(SHOWN_MOUNTS_MAX)
        .collect();
    match ours.as_slice() {
        [] => "there is none at all: `braidfs mount` makes one".to_owned(),
        _ => format!("there are: {}", ours.join(", ")),
    }
}
