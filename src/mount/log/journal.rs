//! `--log journal`: entries of systemd's journal, by its own protocol (systemd.io, "Native Journal Protocol").
//!
//! Not by a library: those put fields beside the message only, where `journalctl` does not show them, and wait where
//! the journal is behind, which threads that answer reads must not.

use super::record::Record;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// journald refuses longer names.
const NAME_BYTES_MAX: usize = 64;

/// Sends entries to journald.
pub struct Journal {
    socket: UnixDatagram,
    place: PathBuf,
    /// Entries that it had no room for since the last one that it took.
    lost: AtomicU64,
}

impl Journal {
    /// At `place`, where somebody has to listen.
    ///
    /// # Errors
    /// Nobody does.
    pub fn open(place: &Path) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(place)?;
        // Each entry names the place anew: a journald that was started again has another socket there.
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Journal { socket, place: place.to_owned(), lost: AtomicU64::new(0) })
    }

    fn send(&self, record: &Record) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let note = Record {
                level: Level::WARN,
                target: module_path!().to_owned(),
                message: "the journal was behind, and entries of this log are lost".into(),
                fields: vec![("lost", lost.into())],
                place: None,
            };
            if self.send_entry(&entry(&note)).is_err() {
                self.lost.fetch_add(lost + 1, Ordering::Relaxed);
                return;
            }
        }
        if self.send_entry(&entry(record)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send_entry(&self, entry: &[u8]) -> io::Result<()> {
        match self.socket.send_to(entry, &self.place) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
                self.send_long(entry)
            }
            sent => sent.map(drop),
        }
    }

    /// What is too long for a datagram goes as a sealed file in memory.
    fn send_long(&self, entry: &[u8]) -> io::Result<()> {
        let memory = memfd_create("journal-entry", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut memory = File::from(memory);
        memory.write_all(entry)?;
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        let files = [memory.as_fd()];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut room);
        beside.push(SendAncillaryMessage::ScmRights(&files));
        let place = SocketAddrUnix::new(self.place.as_path())?;
        sendmsg_addr(&self.socket, &place, &[IoSlice::new(&[])], &mut beside, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.send(&Record::of(event));
    }
}

/// The journal has its own time of each entry.
fn entry(record: &Record) -> Vec<u8> {
    let mut entry = Vec::new();
    put(&mut entry, "MESSAGE", &record.text());
    put(&mut entry, "PRIORITY", priority(record.level));
    put(&mut entry, "SYSLOG_IDENTIFIER", "braidfs");
    put(&mut entry, "TARGET", &record.target);
    if let Some((file, line)) = record.place {
        put(&mut entry, "CODE_FILE", file);
        put(&mut entry, "CODE_LINE", &line.to_string());
    }
    for (name, value) in &record.fields {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        put(&mut entry, &field_name(name), &value);
    }
    entry
}

/// As in syslog.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// `BRAIDFS_MIRROR` of `mirror`: what others put into the journal is called otherwise.
fn field_name(name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    let mut name = format!("BRAIDFS_{}", name.chars().map(plain).collect::<String>());
    name.truncate(NAME_BYTES_MAX);
    name
}

fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    match value.contains('\n') {
        false => entry.push(b'='),
        true => {
            entry.push(b'\n');
            entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        }
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::os::unix::fs::FileExt;
    use tracing_subscriber::layer::SubscriberExt;

    struct Journald {
        folder: tempfile::TempDir,
        socket: UnixDatagram,
    }

    impl Journald {
        fn start() -> Journald {
            let folder = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(folder.path().join("socket")).unwrap();
            Journald { folder, socket }
        }

        fn log(&self, work: impl FnOnce()) {
            let journal = Journal::open(&self.folder.path().join("socket")).unwrap();
            tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), work);
        }

        fn entry(&self) -> String {
            let mut bytes = vec![0; 1 << 20];
            let length = self.socket.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        }
    }

    #[test]
    fn entries_have_priorities_and_fields_and_no_time() {
        let journald = Journald::start();
        journald.log(|| {
            tracing::error!(path = "a b", mirror = 3, "gone");
            tracing::warn!("w");
            tracing::info!("i");
            tracing::debug!("d");
        });
        let entry = journald.entry();
        for line in ["MESSAGE=gone path=\"a b\" mirror=3", "PRIORITY=3", "BRAIDFS_PATH=a b", "BRAIDFS_MIRROR=3"] {
            assert!(entry.lines().any(|have| have == line), "{line} in {entry}");
        }
        assert!(entry.contains("SYSLOG_IDENTIFIER=braidfs\n") && entry.contains("CODE_LINE="), "{entry}");
        for priority in ["4", "6", "7"] {
            let entry = journald.entry();
            assert!(entry.contains(&format!("\nPRIORITY={priority}\n")), "{entry}");
        }
    }

    #[test]
    fn lines_in_a_value_stay_in_it() {
        let journald = Journald::start();
        journald.log(|| tracing::info!("one\nPRIORITY=0"));
        let entry = journald.entry();
        let wanted = [b"MESSAGE\n".as_slice(), &14u64.to_le_bytes(), b"one\nPRIORITY=0\nPRIORITY=6\n"].concat();
        assert!(entry.as_bytes().starts_with(&wanted), "{entry}");
    }

    #[test]
    fn what_is_too_long_for_a_datagram_comes_as_a_file() {
        let journald = Journald::start();
        let long = "x".repeat(4 << 20);
        journald.log(|| tracing::info!(long, "much"));
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut room);
        recvmsg(&journald.socket, &mut [], &mut beside, RecvFlags::CMSG_CLOEXEC).unwrap();
        let Some(RecvAncillaryMessage::ScmRights(mut files)) = beside.drain().next() else { panic!("no file came") };
        let file = File::from(files.next().unwrap());
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(&format!("BRAIDFS_LONG={long}\n")) && text.starts_with("MESSAGE=much"));
        assert!(rustix::fs::fcntl_get_seals(&file).unwrap().contains(SealFlags::WRITE | SealFlags::SEAL));
    }

    #[test]
    fn a_journal_that_is_behind_is_not_waited_for_and_says_what_was_lost() {
        let journald = Journald::start();
        let mut sent = 0;
        journald.log(|| {
            // The kernel keeps a bounded number of datagrams for a reader that does not read.
            for _ in 0..20_000 {
                tracing::info!("one of many");
            }
            let mut bytes = [0; 4096];
            journald.socket.set_nonblocking(true).unwrap();
            while journald.socket.recv(&mut bytes).is_ok() {
                sent += 1;
            }
            tracing::info!("after");
        });
        assert!(sent < 20_000, "nothing was lost");
        let entry = journald.entry();
        assert!(entry.contains(&format!("\nBRAIDFS_LOST={}\n", 20_000 - sent)), "{entry}");
        assert!(journald.entry().starts_with("MESSAGE=after\n"));
    }

    #[test]
    fn nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Journal::open(&folder.path().join("socket")).is_err());
    }
}
