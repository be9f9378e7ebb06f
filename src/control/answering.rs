//! What each command comes to: the work behind it, whichever way the command came.

use super::experiment::AbAsked;
use super::protocol::{Answer, Command, PathText, Refusal, RefusalKind, Reply};
use super::report::StatusReport;
use super::server::{
    Doors, ExplainRequest, Explained, KeepRequest, Keeping, PrefetchRequest, ProgressSender, ReadingDoor, StatusDoor,
};
use futures_util::future::BoxFuture;
use std::future::Future;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// A status is put together from memory. What takes longer is a fault worth seeing as one.
pub(super) const STATUS_WITHIN: Duration = Duration::from_secs(5);
/// The state of a file may need a listing, which has its own deadline below this.
const FILE_WITHIN: Duration = Duration::from_secs(60);

/// It ends with the last word. Dropping it ends what is not to go on without its client.
pub(super) type Work = BoxFuture<'static, Result<Answer, Refusal>>;

/// Begin a command; what it says on the way goes to `sender`. What goes on until it is told to end comes with a way to
/// tell it.
pub(super) fn begin(
    command: Command,
    doors: &Doors,
    sender: mpsc::Sender<Reply>,
) -> (Work, Option<oneshot::Sender<()>>) {
    let bytes = |paths: Vec<PathText>| paths.into_iter().map(|path| path.0).collect();
    let work: Work = match command {
        Command::Ping => Box::pin(async { Ok(Answer::Pong(std::process::id())) }),
        Command::Status { path: None } => Box::pin(status(doors.status.clone(), doors.reading.clone())),
        Command::Status { path: Some(path) } => {
            let report = (doors.file)(path.0);
            Box::pin(async { within(FILE_WITHIN, report).await?.map(|report| Answer::File(Box::new(report))) })
        }
        Command::Mirrors { strategy, change } => {
            let report = (doors.mirrors)(strategy, change);
            Box::pin(async { within(FILE_WITHIN, report).await?.map(|report| Answer::Mirrors(Box::new(report))) })
        }
        Command::Explain { target, last } => {
            let target = target.map(|target| target.0).unwrap_or_default();
            Box::pin(explain((doors.explain)(ExplainRequest { target, last }), sender))
        }
        Command::Prefetch { paths, wait, ranges, rate } => {
            let request = PrefetchRequest { paths: bytes(paths), wait, ranges, rate };
            let outcome = (doors.prefetch)(request, ProgressSender::new(sender));
            Box::pin(async { outcome.await.map(Answer::Prefetch) })
        }
        Command::Check { paths } => {
            let report = (doors.check)(bytes(paths), ProgressSender::new(sender));
            Box::pin(async { report.await.map(Answer::Checked) })
        }
        Command::Cancel { job } => Box::pin(std::future::ready((doors.cancel)(job).map(Answer::Cancelled))),
        Command::Pin { paths } => keep(doors, Keeping::Pin, bytes(paths), sender),
        Command::Unpin { paths } => keep(doors, Keeping::Unpin, bytes(paths), sender),
        Command::Evict { paths } => keep(doors, Keeping::Evict, bytes(paths), sender),
        Command::Verify { paths } => keep(doors, Keeping::Verify, bytes(paths), sender),
        Command::Ab { start, stop } => {
            let report = (doors.ab)(AbAsked { start, stop });
            begun("the experiment", report, |report| Answer::Ab(Box::new(report)))
        }
        Command::Reload => begun("reading the file", (doors.reload)(), Answer::Reloaded),
        Command::Umount { lazy } => {
            begun("unmounting", (doors.umount)(lazy), |()| Answer::Unmounted(std::process::id()))
        }
        Command::Record { path } => {
            let (stop, stopped) = oneshot::channel();
            let report = (doors.record)(path.0, stopped, ProgressSender::new(sender));
            return (Box::pin(async { report.await.map(Answer::Recorded) }), Some(stop));
        }
    };
    (work, None)
}

/// Begun is begun: it goes on where its client is gone.
fn begun<T: Send + 'static>(
    what: &'static str,
    work: BoxFuture<'static, Result<T, Refusal>>,
    answer: fn(T) -> Answer,
) -> Work {
    let done = tokio::spawn(work);
    Box::pin(async move {
        match done.await {
            Ok(done) => done.map(answer),
            Err(error) => Err(Refusal::new(RefusalKind::Failed, format!("{what} failed: {error}"))),
        }
    })
}

fn keep(doors: &Doors, what: Keeping, paths: Vec<Vec<u8>>, sender: mpsc::Sender<Reply>) -> Work {
    (doors.keep)(KeepRequest { what, paths }, ProgressSender::new(sender))
}

async fn status(door: StatusDoor, reading: ReadingDoor) -> Result<Answer, Refusal> {
    // On a thread of its own: should it ever wait for a lock, the other commands do not.
    match within(STATUS_WITHIN, tokio::task::spawn_blocking(move || StatusReport { files: reading(), ..door() }))
        .await?
    {
        Ok(report) => Ok(Answer::Status(Box::new(report))),
        Err(error) => Err(Refusal::new(RefusalKind::Failed, format!("the status could not be put together: {error}"))),
    }
}

async fn explain(
    work: BoxFuture<'static, Result<Explained, Refusal>>,
    replies: mpsc::Sender<Reply>,
) -> Result<Answer, Refusal> {
    let Explained { decisions, report } = within(FILE_WITHIN, work).await??;
    for decision in decisions {
        // Waits for a slow client. One that is gone ends this from outside.
        let _ = replies.send(Reply::Decision(Box::new(decision))).await;
    }
    Ok(Answer::Explain(Box::new(report)))
}

async fn within<T>(length: Duration, work: impl Future<Output = T>) -> Result<T, Refusal> {
    timeout(length, work).await.map_err(|_| {
        Refusal::new(
            RefusalKind::Timeout,
            format!("the daemon did not find the answer within {} s; see its log", length.as_secs()),
        )
    })
}
