//! Where a daemon's socket is: in a folder of its user that no one else can write, under a name
//! made from the device number of the mount. So every path on the mount leads to it, bind mounts
//! too, and nothing has to be asked of the mount itself.

use super::mountinfo::Device;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The folders in which the sockets of one user's daemons may be, best first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    folders: Vec<PathBuf>,
    owner_uid: u32,
}

/// Why no folder will do.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Somebody else could reach what is in it.
    #[error("the socket's folder {} {why}: remove it, or set XDG_RUNTIME_DIR to a folder of your own", folder.display())]
    Unsafe {
        /// Which.
        folder: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It cannot be made.
    #[error("cannot make the socket's folder {}: {error}; set XDG_RUNTIME_DIR to a folder of your own", folder.display())]
    Io {
        /// Which.
        folder: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

impl Places {
    /// Those of the user `owner_uid`. `xdg_runtime_dir`: what the environment says.
    pub fn of_user(owner_uid: u32, xdg_runtime_dir: Option<&Path>) -> Places {
        let mut folders = Vec::new();
        if owner_uid == 0 {
            folders.push(PathBuf::from("/run/braidfs"));
        } else {
            // Without the variable (cron, ssh without a session) the usual folder may be there all the same.
            let usual = PathBuf::from(format!("/run/user/{owner_uid}"));
            let given = xdg_runtime_dir.map(Path::to_owned).filter(|given| *given != usual);
            folders.extend(given.into_iter().chain([usual]).map(|folder| folder.join("braidfs")));
        }
        folders.push(PathBuf::from(format!("/tmp/braidfs-{owner_uid}")));
        Places { folders, owner_uid }
    }

    /// These folders, best first, which must belong to `owner_uid`.
    pub fn in_folders(folders: Vec<PathBuf>, owner_uid: u32) -> Places {
        Places { folders, owner_uid }
    }

    /// Whose they are.
    pub fn owner_uid(&self) -> u32 {
        self.owner_uid
    }

    /// For the daemon: the first folder that exists or can be made, mode 0700, checked.
    ///
    /// # Errors
    /// The last folder's, where none will do.
    pub fn make_folder(&self) -> Result<PathBuf, PlaceError> {
        let mut tried = self.folders.iter().map(|folder| make(folder, self.owner_uid).map(|()| folder.clone()));
        let last = tried.next_back().expect("there is always a folder");
        tried.find_map(Result::ok).map_or(last, Ok)
    }

    /// The folder that [`make_folder`](Self::make_folder) would give, without making it.
    ///
    /// # Errors
    /// As there.
    pub fn would_be(&self) -> Result<PathBuf, PlaceError> {
        let mut tried = self.folders.iter().map(|folder| could_make(folder, self.owner_uid).map(|()| folder.clone()));
        let last = tried.next_back().expect("there is always a folder");
        tried.find_map(Result::ok).map_or(last, Ok)
    }

    /// For the client: the socket of the mount `device`, where one is.
    pub fn find_socket(&self, device: Device) -> Option<PathBuf> {
        let safe = self.folders.iter().filter(|folder| check(folder, self.owner_uid).is_ok());
        let mut sockets = safe.map(|folder| folder.join(socket_name(device)));
        sockets.find(|path| std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()))
    }
}

/// The file name of the socket of the mount `device`.
pub fn socket_name(device: Device) -> String {
    format!("{}-{}.sock", device.major, device.minor)
}

fn make(folder: &Path, owner_uid: u32) -> Result<(), PlaceError> {
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => check(folder, owner_uid),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => check(folder, owner_uid),
        Err(error) => Err(PlaceError::Io { folder: folder.to_owned(), error }),
    }
}

fn could_make(folder: &Path, owner_uid: u32) -> Result<(), PlaceError> {
    use rustix::fs::Access;
    let parent = folder.parent().unwrap_or(Path::new("/"));
    match std::fs::symlink_metadata(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            rustix::fs::access(parent, Access::WRITE_OK | Access::EXEC_OK)
                .map_err(|error| PlaceError::Io { folder: folder.to_owned(), error: error.into() })
        }
        _ => check(folder, owner_uid),
    }
}

/// Anybody may make a folder or a link of that name in `/tmp` before us.
fn check(folder: &Path, owner_uid: u32) -> Result<(), PlaceError> {
    let found = std::fs::symlink_metadata(folder);
    let found = found.map_err(|error| PlaceError::Io { folder: folder.to_owned(), error })?;
    let why = if !found.is_dir() {
        "is no folder"
    } else if found.uid() != owner_uid {
        "belongs to another user"
    } else if found.mode() & 0o077 != 0 {
        "is open to others (its mode is not 0700)"
    } else {
        return Ok(());
    };
    Err(PlaceError::Unsafe { folder: folder.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn each_user_has_places_of_its_own() {
        let folders = |uid, xdg: Option<&str>| Places::of_user(uid, xdg.map(Path::new)).folders;
        assert_eq!(folders(0, Some("/run/user/7")), [Path::new("/run/braidfs"), Path::new("/tmp/braidfs-0")]);
        assert_eq!(folders(7, None), [Path::new("/run/user/7/braidfs"), Path::new("/tmp/braidfs-7")]);
        assert_eq!(
            folders(7, Some("/x")),
            [Path::new("/x/braidfs"), Path::new("/run/user/7/braidfs"), Path::new("/tmp/braidfs-7")]
        );
        assert_eq!(folders(7, Some("/run/user/7")).len(), 2);
    }

    #[test]
    fn the_first_folder_that_can_be_made_is_taken() {
        let base = tempfile::tempdir().unwrap();
        let places = Places::in_folders(vec![base.path().join("none/x"), base.path().join("y")], me());
        assert_eq!(places.would_be().unwrap(), base.path().join("y"));
        assert!(!base.path().join("y").exists(), "it was only looked at");
        let folder = places.make_folder().unwrap();
        assert_eq!(folder, base.path().join("y"));
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(places.make_folder().unwrap(), folder, "again");
        let device = Device { major: 0, minor: 5 };
        assert_eq!(places.find_socket(device), None);
        std::fs::write(folder.join(socket_name(Device { major: 0, minor: 6 })), "no socket").unwrap();
        assert_eq!(places.find_socket(Device { major: 0, minor: 6 }), None);
        let _listener = UnixListener::bind(folder.join("0-5.sock")).unwrap();
        assert_eq!(places.find_socket(device), Some(folder.join("0-5.sock")));
    }

    #[test]
    fn folders_that_others_could_reach_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let refusal = |name: &str, uid| {
            let places = Places::in_folders(vec![base.path().join(name)], uid);
            assert_eq!(places.find_socket(Device { major: 0, minor: 1 }), None);
            assert!(places.would_be().is_err());
            places.make_folder().unwrap_err().to_string()
        };
        std::fs::create_dir(base.path().join("open")).unwrap();
        std::fs::set_permissions(base.path().join("open"), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(refusal("open", me()).contains("is open to others"));
        std::fs::DirBuilder::new().mode(0o700).create(base.path().join("mine")).unwrap();
        symlink("mine", base.path().join("link")).unwrap();
        assert!(refusal("link", me()).contains("is no folder"));
        assert!(refusal("mine", me() + 1).contains("belongs to another user"));
        assert!(refusal("no/where", me()).contains("cannot make the socket's folder"));
    }
}
