//! The daemon's side: a unix socket, mode 0600 in a folder of mode 0700, that lets in the daemon's own
//! user and root, and passes their commands to the doors that `mount` hands in.

use super::answering::begin;
use super::experiment::AbDoor;
use super::file_report::FileReport;
use super::mountinfo::Device;
use super::place::{PlaceError, Places, socket_name};
use super::protocol::{Answer, AskedRange, Command, MirrorChange, PathText, Refusal, RefusalKind, Reply};
use super::protocol::{REQUEST_BYTES_MAX, parse_request, reply_line};
use super::reading::ReadingReport;
use super::reloaded::ReloadReport;
use super::report::{AccessReport, CheckReport, DamagedRange, DecisionReport, ExplainReport, FailedFile};
use super::report::{JobReport, MirrorsReport, PrefetchReport, Progress, RecordReport, StatusReport};
use futures_util::future::BoxFuture;
use std::future::Future;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Clients at once; people have few terminals.
const CONNECTIONS_MAX: usize = 16;
/// Each may send a request of so many bytes, and one at a time a longer one: read and understood, that takes a few times
/// its length.
const REQUEST_BYTES_EACH: u64 = 1 << 20;
/// A client sends its one line at once; one that does not is stuck.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// A client that takes no line for so long is stopped or stuck; its command is dropped.
const REPLY_WITHIN: Duration = Duration::from_secs(60);
/// A line goes out at least so often, so that a client can tell work from silence.
const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// After the system refused a connection; a command that waits so long is not noticed.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Replies that wait for a slow client. Progress beyond that is left out, failures wait.
pub(super) const REPLIES_QUEUED_MAX: usize = 64;
/// For clients that still read their last line when the daemon ends.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// Makes the report of the whole mount. Quick, and never waits for network or disk.
pub type StatusDoor = Arc<dyn Fn() -> StatusReport + Send + Sync>;
/// Tells of the files that are open. Quick too, but more than what is scraped every few seconds needs.
pub type ReadingDoor = Arc<dyn Fn() -> Vec<ReadingReport> + Send + Sync>;
/// Makes the report of one file (bytes of its path, relative to the mountpoint).
pub type FileDoor = Arc<dyn Fn(Vec<u8>) -> BoxFuture<'static, Result<FileReport, Refusal>> + Send + Sync>;
/// Shows the mirrors, after switching to the strategy of this name, or using one of them otherwise, where that is asked
/// for.
pub type MirrorsDoor = Arc<
    dyn Fn(Option<String>, Option<MirrorChange>) -> BoxFuture<'static, Result<MirrorsReport, Refusal>> + Send + Sync,
>;
/// Explains decisions.
pub type ExplainDoor = Arc<dyn Fn(ExplainRequest) -> BoxFuture<'static, Result<Explained, Refusal>> + Send + Sync>;
/// Runs a prefetch. With `wait`, the future ends when everything is durable or given up, and dropping
/// it (the client went away) ends the job; without, it ends when the job has begun.
pub type PrefetchDoor =
    Arc<dyn Fn(PrefetchRequest, ProgressSender) -> BoxFuture<'static, Result<PrefetchReport, Refusal>> + Send + Sync>;
/// Says what is read at a path and below it, until told to stop.
pub type RecordDoor = Arc<
    dyn Fn(Vec<u8>, oneshot::Receiver<()>, ProgressSender) -> BoxFuture<'static, Result<RecordReport, Refusal>>
        + Send
        + Sync,
>;
/// Says how much of these paths is durable on disk.
pub type CheckDoor =
    Arc<dyn Fn(Vec<Vec<u8>>, ProgressSender) -> BoxFuture<'static, Result<CheckReport, Refusal>> + Send + Sync>;
/// Ends a prefetch by its number.
pub type CancelDoor = Arc<dyn Fn(u64) -> Result<JobReport, Refusal> + Send + Sync>;
/// Pins, unpins, evicts or verifies. Dropping the future (the client went away) ends an eviction or a verification between
/// two files.
pub type KeepDoor =
    Arc<dyn Fn(KeepRequest, ProgressSender) -> BoxFuture<'static, Result<Answer, Refusal>> + Send + Sync>;
/// Reads the configuration file anew.
pub type ReloadDoor = Arc<dyn Fn() -> BoxFuture<'static, Result<ReloadReport, Refusal>> + Send + Sync>;
/// Ends the mount; the argument says whether lazily. Done when it is unmounted or detached.
pub type UmountDoor = Arc<dyn Fn(bool) -> BoxFuture<'static, Result<(), Refusal>> + Send + Sync>;

/// What commands may do, handed in by `mount`.
#[derive(Clone)]
pub struct Doors {
    /// To `status`.
    pub status: StatusDoor,
    /// To `status` too.
    pub reading: ReadingDoor,
    /// To `status PATH`.
    pub file: FileDoor,
    /// To `mirrors`.
    pub mirrors: MirrorsDoor,
    /// To `explain`.
    pub explain: ExplainDoor,
    /// To `prefetch`.
    pub prefetch: PrefetchDoor,
    /// To `record`.
    pub record: RecordDoor,
    /// To `check`.
    pub check: CheckDoor,
    /// To `cancel`.
    pub cancel: CancelDoor,
    /// To `pin`, `unpin`, `evict` and `verify`.
    pub keep: KeepDoor,
    /// To `reload`.
    pub reload: ReloadDoor,
    /// To `ab`.
    pub ab: AbDoor,
    /// To `umount`.
    pub umount: UmountDoor,
}

/// What an explanation is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExplainRequest {
    /// `FILE` or `FILE:OFFSET`: bytes, relative to the mountpoint; empty: all files.
    pub target: Vec<u8>,
    /// At most so many decisions, the newest; none: 10, or with an offset those back to the one that brought
    /// the page.
    pub last: Option<u64>,
}

/// An explanation. Each decision is put into words when its turn comes: thousands at once would be tens of MB.
pub struct Explained {
    /// The newest first.
    pub decisions: Box<dyn Iterator<Item = DecisionReport> + Send>,
    /// What comes after them.
    pub report: ExplainReport,
}

/// What a prefetch is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrefetchRequest {
    /// Files and folders: bytes of their paths, relative to the mountpoint; empty: all there is.
    pub paths: Vec<Vec<u8>>,
    /// The client waits for the end.
    pub wait: bool,
    /// Where there are any: nothing but these ranges of the paths, which are files then.
    pub ranges: Vec<AskedRange>,
    /// No more than so many bytes in any second.
    pub rate: Option<u64>,
}

/// What is to be done to what is cached of some paths.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeepRequest {
    /// What.
    pub what: Keeping,
    /// Files and folders: bytes of their paths, relative to the mountpoint; empty: all there is.
    pub paths: Vec<Vec<u8>>,
}

/// What can be done to what is cached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keeping {
    /// Eviction leaves it alone from now on.
    Pin,
    /// Eviction may have it again.
    Unpin,
    /// It goes now.
    Evict,
    /// It is read back from the disk, and goes where it is damaged.
    Verify,
}

/// By which a prefetch tells its client how far it is.
#[derive(Clone, Debug)]
pub struct ProgressSender {
    replies: mpsc::Sender<Reply>,
}

impl ProgressSender {
    /// One whose words go to `replies`.
    pub fn new(replies: mpsc::Sender<Reply>) -> ProgressSender {
        ProgressSender { replies }
    }

    /// How far it is. Left out where the client is slower than the progress.
    pub fn progress(&self, progress: Progress) {
        let _ = self.replies.try_send(Reply::Progress(progress));
    }

    /// What was asked for goes on from now on. Left out where the client is slower: it hears of that anyway.
    pub fn begun(&self) {
        let _ = self.replies.try_send(Reply::Alive);
    }

    /// Something was read. Waits for a slow client; nothing happens where it is gone.
    pub async fn accessed(&self, access: AccessReport) {
        let _ = self.replies.send(Reply::Access(access)).await;
    }

    /// Cached bytes did not match. Waits for a slow client; nothing happens where it is gone.
    pub async fn damaged(&self, range: DamagedRange) {
        let _ = self.replies.send(Reply::Damaged(range)).await;
    }

    /// A file was given up. Waits for a slow client; nothing happens where it is gone.
    pub async fn failed(&self, path: Vec<u8>, reason: String) {
        let _ = self.replies.send(Reply::Failed(FailedFile { path: PathText(path), reason })).await;
    }
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No folder for it.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The system refuses.
    #[error("cannot listen on {}: {error}", socket.display())]
    Io {
        /// Where.
        socket: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

/// A socket that listens, and what is behind it.
pub struct Server {
    listener: UnixListener,
    socket: Socket,
    doors: Doors,
}

impl Server {
    /// Listen for commands about the mount `device`. Call it inside the runtime that will [`run`](Self::run) it.
    ///
    /// # Errors
    /// No safe folder, or what the system says.
    pub fn bind(places: &Places, device: Device, doors: Doors) -> Result<Server, ServerError> {
        let path = places.make_folder()?.join(socket_name(device));
        let io = |error| ServerError::Io { socket: path.clone(), error };
        // Device numbers are used again as soon as a mount is gone. Whoever has this name was killed, or still writes to
        // its disk after its unmount; the number is that of our mount now, and so is the name.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(io)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).map_err(io)?;
        let file = std::fs::symlink_metadata(&path).map_err(io)?.ino();
        Ok(Server { listener, socket: Socket { path, file }, doors })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.socket.path
    }

    /// Serve until `stop`. Then the socket is removed, and clients get a second to read their last line.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let long_requests = Arc::new(Semaphore::new(1));
        let mut clients = JoinSet::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let slot = slots.clone().try_acquire_owned();
                        let (doors, long_requests) = (self.doors.clone(), long_requests.clone());
                        clients.spawn(async move {
                            let full = slot.is_err().then(|| {
                                Refusal::new(RefusalKind::Busy, format!("{CONNECTIONS_MAX} commands are running already; try again when one has ended"))
                            });
                            serve(stream, doors, &long_requests, full).await;
                            drop(slot);
                        });
                    }
                    // Out of descriptors, most likely: there is no use in trying again at once.
                    Err(error) => {
                        tracing::warn!(%error, "a command could not connect");
                        pause(ACCEPT_AGAIN_AFTER).await;
                    }
                },
                Some(_) = clients.join_next() => {}
            }
        }
        drop(self.socket);
        let _ = timeout(GOODBYE_WITHIN, async { while clients.join_next().await.is_some() {} }).await;
    }
}

/// The file of the socket, removed with us unless another daemon has put its own there.
struct Socket {
    path: PathBuf,
    file: u64,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// One client, from its request to its last line.
async fn serve(stream: UnixStream, doors: Doors, long_requests: &Semaphore, full: Option<Refusal>) {
    let refusal = full.or_else(|| check_peer(&stream));
    let (reader, writer) = stream.into_split();
    let mut client = Client { reader: BufReader::new(reader), writer };
    let last = match refusal {
        Some(refusal) => Err(refusal),
        None => match client.request(long_requests).await {
            Ok(Some(command)) => match client.answer(command, &doors).await {
                Some(last) => last,
                None => return,
            },
            Ok(None) => return,
            Err(refusal) => Err(refusal),
        },
    };
    let last = last.map_or_else(Reply::Error, Reply::Result);
    if client.send(&last).await.is_ok() {
        let _ = client.writer.shutdown().await;
    }
}

fn check_peer(stream: &UnixStream) -> Option<Refusal> {
    let own_uid = rustix::process::geteuid().as_raw();
    let refuse = |message: String| Some(Refusal::new(RefusalKind::Forbidden, message));
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own_uid || peer.uid() == 0 => None,
        Ok(peer) => refuse(format!(
            "this mount belongs to user {own_uid}, and you are user {}: only its own user and root may command it",
            peer.uid()
        )),
        Err(error) => refuse(format!("cannot tell who you are: {error}")),
    }
}

struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Client {
    /// Its one line; nothing where it went without a word.
    async fn request(&mut self, long_requests: &Semaphore) -> Result<Option<Command>, Refusal> {
        let mut line = Vec::new();
        if !self.read_line(REQUEST_BYTES_EACH, &mut line).await? {
            return Ok(None);
        }
        let mut _turn = None;
        if line.last() != Some(&b'\n') && line.len() as u64 == REQUEST_BYTES_EACH {
            let Ok(turn) = timeout(REQUEST_WITHIN, long_requests.acquire()).await else {
                let what = "other requests of more than 1 MiB are being read; try again";
                return Err(Refusal::new(RefusalKind::Busy, what));
            };
            _turn = turn.ok();
            self.read_line(REQUEST_BYTES_MAX + 1 - REQUEST_BYTES_EACH, &mut line).await?;
        }
        if line.last() != Some(&b'\n') && line.len() as u64 > REQUEST_BYTES_MAX {
            let what =
                "the request is longer than 16 MiB: name folders instead of their files, or use several commands";
            return Err(Refusal::new(RefusalKind::Request, what));
        }
        parse_request(&line).map(Some)
    }

    /// More of its line, so many bytes of it at most. False where nothing came.
    async fn read_line(&mut self, bytes_max: u64, line: &mut Vec<u8>) -> Result<bool, Refusal> {
        let mut bounded = (&mut self.reader).take(bytes_max);
        match timeout(REQUEST_WITHIN, bounded.read_until(b'\n', line)).await {
            Err(_) => Err(Refusal::new(RefusalKind::Timeout, "no request came within 10 s")),
            Ok(read) => Ok(read.unwrap_or(0) > 0),
        }
    }

    /// What to say last; nothing where nobody listens any more.
    async fn answer(&mut self, command: Command, doors: &Doors) -> Option<Result<Answer, Refusal>> {
        let (sender, replies) = mpsc::channel(REPLIES_QUEUED_MAX);
        let (work, stop) = begin(command, doors, sender);
        self.follow(work, replies, stop).await
    }

    /// Pass on what the work says until it ends; where the client goes or says no more, `stop` it, else drop it.
    async fn follow(
        &mut self,
        mut work: BoxFuture<'static, Result<Answer, Refusal>>,
        mut replies: mpsc::Receiver<Reply>,
        mut stop: Option<oneshot::Sender<()>>,
    ) -> Option<Result<Answer, Refusal>> {
        let mut is_listening = true;
        loop {
            let mut unasked = [0];
            let reply = tokio::select! {
                biased;
                Some(reply) = replies.recv() => reply,
                last = &mut work => {
                    // What it said before it ended comes before its end.
                    while let Ok(reply) = replies.try_recv() {
                        self.send(&reply).await.ok()?;
                    }
                    return Some(last);
                }
                read = self.reader.read(&mut unasked), if is_listening => {
                    if !matches!(read, Ok(1)) {
                        // The last words are still to be sent; that fails soon where nobody is there.
                        is_listening = stop.take()?.send(()).is_err();
                    }
                    continue;
                }
                () = pause(ALIVE_EVERY) => Reply::Alive,
            };
            self.send(&reply).await.ok()?;
        }
    }

    async fn send(&mut self, reply: &Reply) -> Result<(), ()> {
        match timeout(REPLY_WITHIN, self.writer.write_all(&reply_line(reply))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(()),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a line at regular times tells the client that work goes on")]
async fn pause(length: Duration) {
    tokio::time::sleep(length).await;
}
