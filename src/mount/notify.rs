//! What a supervisor such as systemd is told, by the protocol of sd_notify(3): a datagram of `NAME=value` lines.
//!
//! Not by a library: those read the environment themselves, which `config` does here, and the rest is this.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A line to the supervisor.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
}

impl Notifier {
    /// To the socket that `$NOTIFY_SOCKET` names: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn open(place: &OsStr) -> io::Result<Notifier> {
        let address = match place.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(place)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        Ok(Notifier { socket })
    }

    /// The mount can be used, and this is how it stands.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// How it stands.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}", one_line(status)));
    }

    /// It ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=unmounting");
    }

    /// It answers.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, lines: &str) {
        if let Err(error) = self.socket.send(lines.as_bytes()) {
            tracing::warn!(%error, "the supervisor at NOTIFY_SOCKET does not take what it is told");
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1000];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn paths_and_abstract_names_are_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        Notifier::open(path.as_os_str()).unwrap().ready("online\nSTOPPING=1");
        assert_eq!(heard(&at_path), "READY=1\nSTATUS=online STOPPING=1");
        let name = format!("braidfs-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let without_path = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::open(OsStr::new(&format!("@{name}"))).unwrap().alive();
        assert_eq!(heard(&without_path), "WATCHDOG=1");
        assert!(Notifier::open(OsStr::new("/nowhere/at/all")).is_err());
    }
}
