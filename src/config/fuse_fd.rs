//! `--fuse-fd N`, and its other spelling: the MOUNTPOINT `/dev/fd/N`, as in libfuse.

use super::plan_error::PlanError;
use std::path::{Path, PathBuf};

/// stdin, stdout and stderr are no mounts.
const FIRST: u32 = 3;

/// The descriptor to serve, and the place. Where only the descriptor is given it stands for the place too.
///
/// # Errors
/// It cannot be one, or two different ones are given.
pub(super) fn fuse_fd(
    given: Option<u32>,
    mountpoint: Option<PathBuf>,
) -> Result<(Option<u32>, Option<PathBuf>), PlanError> {
    let value = |why: String| Err(PlanError::Value(why));
    let spelled = mountpoint.as_deref().map(number).transpose()?.flatten();
    match (given, spelled) {
        (Some(given), Some(spelled)) if given != spelled => {
            value(format!("--fuse-fd {given} and /dev/fd/{spelled} are two descriptors; leave one out"))
        }
        (Some(number @ 0..FIRST), _) | (_, Some(number @ 0..FIRST)) => {
            value(format!("descriptor {number} is standard input or output; hand /dev/fuse in under another number"))
        }
        (Some(number), None) => Ok((Some(number), mountpoint.or_else(|| Some(format!("/dev/fd/{number}").into())))),
        (_, number) => Ok((number, mountpoint)),
    }
}

/// Of `/dev/fd/N`.
fn number(path: &Path) -> Result<Option<u32>, PlanError> {
    let Ok(name) = path.strip_prefix("/dev/fd") else { return Ok(None) };
    let number = name.to_str().and_then(|name| name.parse().ok());
    let why = || PlanError::Value(format!("{} names no descriptor; write /dev/fd/N with a number", path.display()));
    number.map(Some).ok_or_else(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_one() {
        let of =
            |given, place: Option<&str>| fuse_fd(given, place.map(PathBuf::from)).map_err(|error| error.to_string());
        let is = |number, place: &str| Ok((Some(number), Some(PathBuf::from(place))));
        assert_eq!(of(None, Some("/dev/fd/5")), is(5, "/dev/fd/5"));
        assert_eq!(of(Some(5), Some("/dev/fd/5")), is(5, "/dev/fd/5"));
        assert_eq!(of(Some(5), None), is(5, "/dev/fd/5"));
        assert_eq!(of(Some(5), Some("/mnt")), is(5, "/mnt"));
        assert_eq!(of(None, Some("/mnt")), Ok((None, Some("/mnt".into()))));
        for (given, place, said) in [
            (Some(5), Some("/dev/fd/6"), "two descriptors"),
            (Some(2), None, "standard input or output"),
            (None, Some("/dev/fd/0"), "standard input or output"),
            (None, Some("/dev/fd/x"), "/dev/fd/x names no descriptor"),
            (None, Some("/dev/fd"), "names no descriptor"),
        ] {
            let error = of(given, place).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
