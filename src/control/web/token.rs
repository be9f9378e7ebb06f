//! The secret by which the mount's user is known, and the file that tells it.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// As many as nobody guesses.
const TOKEN_BYTES: usize = 32;
/// The end of the name of the file; its start is that of the socket beside it.
pub const ADDRESS_FILE_END: &str = "web";

/// A secret of one mount, in hexadecimal digits.
pub struct Token(String);

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No random bytes.
    #[error("cannot read /dev/urandom, of which the page's token is made: {0}")]
    Chance(std::io::Error),
    /// No file.
    #[error("cannot write the address of the page to {}: {error}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

impl Token {
    /// Another one each time.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> Result<Token, TokenError> {
        let mut bytes = [0; TOKEN_BYTES];
        File::open("/dev/urandom").and_then(|mut chance| chance.read_exact(&mut bytes)).map_err(TokenError::Chance)?;
        Ok(Token(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Is it this one? Takes as long for any text of its length, so that it cannot be guessed letter by letter.
    pub fn is(&self, given: &str) -> bool {
        let (own, given) = (self.0.as_bytes(), given.as_bytes());
        let differ = own.iter().zip(given).fold(0, |differ, (own, given)| black_box(differ | (own ^ given)));
        own.len() == given.len() && differ == 0
    }

    /// For a browser. What stands after `#` is not sent to anybody.
    pub(super) fn address_of_page(&self, at: SocketAddr) -> String {
        format!("http://{at}/#token={}", self.0)
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// The file with the address of the page, token and all: mode 0600, in the folder of the socket, which nobody else can
/// enter. Removed with us unless another daemon has put its own there.
pub(super) struct AddressFile {
    path: PathBuf,
    /// Open, so that no other file gets its number.
    file: File,
}

impl AddressFile {
    /// Beside `socket`.
    pub(super) fn write(socket: &Path, address: &str) -> Result<AddressFile, TokenError> {
        let path = socket.with_extension(ADDRESS_FILE_END);
        let write = || {
            // The last one of this name was killed, as with the socket. Never written into: somebody may have it open.
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            writeln!(file, "{address}")?;
            Ok(file)
        };
        match write() {
            Ok(file) => Ok(AddressFile { path, file }),
            Err(error) => Err(TokenError::Write { path, error }),
        }
    }
}

impl Drop for AddressFile {
    fn drop(&mut self) {
        let number = |about: std::fs::Metadata| (about.dev(), about.ino());
        let (found, ours) = (std::fs::symlink_metadata(&self.path).map(number), self.file.metadata().map(number));
        if found.ok().zip(ours.ok()).is_some_and(|(found, ours)| found == ours) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn each_token_is_another_and_knows_itself() {
        let (one, other) = (Token::new().unwrap(), Token::new().unwrap());
        assert_eq!(one.text().len(), 2 * TOKEN_BYTES);
        assert!(one.is(one.text()) && !one.is(other.text()) && !one.is("") && !one.is(&format!("{}0", one.text())));
    }

    #[test]
    fn the_file_is_ours_alone_and_goes_with_us() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, path) = (folder.path().join("0-5.sock"), folder.path().join("0-5.web"));
        std::fs::write(&path, "of one that was killed").unwrap();
        let file = AddressFile::write(&socket, "http://127.0.0.1:1/#token=ab").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "http://127.0.0.1:1/#token=ab\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let newer = AddressFile::write(&socket, "another's").unwrap();
        drop(file);
        assert!(path.exists(), "it is another's");
        drop(newer);
        assert!(!path.exists());
    }
}
