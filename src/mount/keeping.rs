//! Pins, eviction and verification by hand, between the engine and the control command.

use crate::cache::disk::PinError;
use crate::clock::{Time, now};
use crate::control::human::bytes;
use crate::control::protocol::{Answer, PathText, Refusal, RefusalKind};
use crate::control::report::{AccessReport, CheckReport, DamagedRange, EvictReport, PinReport, Progress};
use crate::control::report::{RecordReport, VerifyReport};
use crate::control::server::{KeepRequest, Keeping, ProgressSender};
use crate::fetch::keeping::{Count, Heard, Hearer, NotDone};
use crate::fetch::recorder::{Access, Recorded};
use crate::fetch::{Engine, Trouble};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// What is said by the work and not passed on yet.
const HEARD_MAX: usize = 64;

/// Do it, and pass on what is said on the way.
pub async fn keep(
    engine: Arc<Engine>,
    mountpoint: PathBuf,
    request: KeepRequest,
    sender: ProgressSender,
) -> Result<Answer, Refusal> {
    let begun = now();
    let (hearer, heard) = mpsc::channel(HEARD_MAX);
    let work = async {
        let done = work(&engine, request, &hearer, begun).await;
        drop(hearer);
        done
    };
    let (done, ()) = tokio::join!(work, pass_on(heard, &sender, begun));
    done.map_err(|why| refusal(&mountpoint, &why))
}

/// Say how much of these paths is durable on disk, and pass on what is said on the way.
pub async fn check(
    engine: Arc<Engine>,
    mountpoint: PathBuf,
    paths: Vec<Vec<u8>>,
    sender: ProgressSender,
) -> Result<CheckReport, Refusal> {
    let (hearer, heard) = mpsc::channel(HEARD_MAX);
    let work = async {
        let seen = engine.survey(paths, &hearer).await;
        drop(hearer);
        seen
    };
    let (seen, ()) = tokio::join!(work, pass_on(heard, &sender, now()));
    let seen = seen.map_err(|why| refusal(&mountpoint, &why))?;
    Ok(CheckReport {
        files_total: seen.complete + seen.in_part + seen.missing,
        files_complete: seen.complete,
        files_in_part: seen.in_part,
        files_missing: seen.missing,
        bytes_durable: seen.durable_bytes,
        bytes_total: seen.bytes,
        failed: seen.failed,
    })
}

/// Say what is read at `path` and below it until `stopped`.
pub async fn record(
    engine: Arc<Engine>,
    path: Vec<u8>,
    stopped: oneshot::Receiver<()>,
    sender: ProgressSender,
) -> Result<RecordReport, Refusal> {
    let (accesses, mut heard) = mpsc::channel(HEARD_MAX);
    let work = engine.record(&path, accesses, || sender.begun(), stopped);
    let pass_on = async {
        while let Some(Access { path, offset_bytes, bytes }) = heard.recv().await {
            sender.accessed(AccessReport { path: PathText(path), offset: offset_bytes, bytes }).await;
        }
    };
    let (recorded, ()) = tokio::join!(work, pass_on);
    let Some(recorded) = recorded else {
        let what = "somebody records this mount already; wait until that has ended";
        return Err(Refusal::new(RefusalKind::Busy, what));
    };
    let Recorded { files, ranges, bytes, lost_reads, is_full } = recorded;
    Ok(RecordReport { files, ranges, bytes, lost_reads, full: is_full })
}

async fn work(
    engine: &Arc<Engine>,
    KeepRequest { what, paths }: KeepRequest,
    hearer: &Hearer,
    begun: Time,
) -> Result<Answer, NotDone> {
    let number = paths.len() as u64;
    let pin_report = |count: Count| {
        let (_, pinned_bytes, pinnable_bytes) = engine.pins();
        PinReport { paths: number, files: count.files, bytes: count.bytes, pinned_bytes, pinnable_bytes }
    };
    Ok(match what {
        Keeping::Pin => Answer::Pinned(pin_report(engine.pin(paths).await?)),
        Keeping::Unpin => {
            engine.unpin(paths).await?;
            Answer::Unpinned(pin_report(Count::default()))
        }
        Keeping::Evict => {
            let Count { files, bytes, memory_bytes, failed, .. } = engine.evict(paths, hearer).await?;
            Answer::Evicted(EvictReport { files, disk_bytes: bytes, memory_bytes, failed })
        }
        Keeping::Verify => {
            let Count { files, bytes, damaged_bytes, failed, .. } = engine.verify(paths, hearer).await?;
            let elapsed_ms = now().since(begun).as_millis() as u64;
            Answer::Verified(VerifyReport { files, bytes, damaged_bytes, failed, elapsed_ms })
        }
    })
}

async fn pass_on(mut heard: mpsc::Receiver<Heard>, sender: &ProgressSender, begun: Time) {
    while let Some(heard) = heard.recv().await {
        match heard {
            Heard::Progress(count) => sender.progress(Progress {
                bytes_done: count.bytes,
                bytes_total: count.bytes,
                files_done: count.files,
                files_total: count.files,
                files_failed: count.failed,
                // How much there will be is not known before the end.
                listing: true,
                elapsed_ms: now().since(begun).as_millis() as u64,
                ..Progress::default()
            }),
            Heard::Failed(path, why) => sender.failed(path, why).await,
            Heard::Damaged { path, offset_bytes, bytes } => {
                sender.damaged(DamagedRange { path: PathText(path), offset_bytes, bytes }).await;
            }
        }
    }
}

fn refusal(mountpoint: &Path, why: &NotDone) -> Refusal {
    let whole = |path: &[u8]| mountpoint.join(OsStr::from_bytes(path)).display().to_string();
    let (kind, message) = match why {
        NotDone::NoDisk => {
            (RefusalKind::Failed, format!("{why}, so there is nothing to pin or verify; mount it with --cache-dir DIR"))
        }
        NotDone::Path(path, Trouble::Absent | Trouble::NotAFolder) => {
            (RefusalKind::Missing, format!("{}: no mirror has a file of this name; `ls` shows the names", whole(path)))
        }
        NotDone::Path(path, trouble) => {
            (RefusalKind::Failed, format!("{}: it cannot be looked up: {trouble}", whole(path)))
        }
        NotDone::NotPinned(path, None) => {
            (RefusalKind::Missing, format!("{}: {why}; `braidfs status --json` lists the pins", whole(path)))
        }
        NotDone::NotPinned(path, Some(over)) => {
            let (path, over) = (whole(path), whole(over));
            (RefusalKind::Missing, format!("{path}: {why} by itself: unpin {over}, in which it lies"))
        }
        NotDone::Pin(PinError::NoRoom { asked_bytes, pinned_bytes, usable_bytes }) => (
            RefusalKind::Failed,
            format!(
                "{} do not fit beside the {} that are pinned: {} can be pinned in all; unpin something, or mount with a larger --cache-size",
                bytes(*asked_bytes),
                bytes(*pinned_bytes),
                bytes(*usable_bytes)
            ),
        ),
        NotDone::Pin(_) | NotDone::Disk(_) => (RefusalKind::Failed, why.to_string()),
    };
    Refusal::new(kind, message)
}
