//! Any attempt to write is EROFS.

use super::{nginxes, urls};
use crate::support::mounted::Place;
use crate::support::nginx::Setup;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};

#[test]
fn every_way_to_write_is_refused() {
    let (mirrors, place) = (nginxes(1, &Setup::default()), Place::new());
    let mount = place.mount(&urls(&mirrors), &[]);
    let (file, new) = (mount.path("big/a.bin"), mount.path("big/new"));
    let attempts: [(&str, io::Result<()>); 10] = [
        ("open to write", OpenOptions::new().write(true).open(&file).map(drop)),
        ("open to append", OpenOptions::new().append(true).open(&file).map(drop)),
        ("truncate", OpenOptions::new().write(true).truncate(true).open(&file).map(drop)),
        ("create", File::create(&new).map(drop)),
        ("mkdir", fs::create_dir(&new)),
        ("unlink", fs::remove_file(&file)),
        ("rmdir", fs::remove_dir(mount.path("deep"))),
        ("rename", fs::rename(&file, &new)),
        ("symlink", symlink(&file, &new)),
        ("chmod", fs::set_permissions(&file, fs::Permissions::from_mode(0o777))),
    ];
    for (what, outcome) in attempts {
        let error = outcome.expect_err(what);
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "{what}: {error}");
    }
    mount.umount();
}
