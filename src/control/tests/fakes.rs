//! Doors with nothing behind them.

use super::keeping::fake_keep;
use super::prefetching::{fake_check, fake_record};
use super::{Seen, Witness};
use crate::control::file_report::FileReport;
use crate::control::protocol::{Refusal, RefusalKind};
use crate::control::report::{DecisionReport, ExplainReport, JobReport, MirrorReport, MirrorsReport};
use crate::control::report::{PrefetchReport, Progress, StatusReport};
use crate::control::server::{Doors, Explained, PrefetchRequest, ProgressSender};
use std::path::PathBuf;
use std::sync::Arc;

pub(super) fn doors(seen: Arc<Seen>, mountinfo: PathBuf) -> Doors {
    let (unmounting, explaining, keeping) = (seen.clone(), seen.clone(), seen.clone());
    Doors {
        status: Arc::new(|| StatusReport {
            mountpoint: "/mnt/data".into(),
            name: "data".into(),
            state: "online".into(),
            mirrors: vec![MirrorReport { url: "https://a/".into(), state: "closed".into(), ..MirrorReport::default() }],
            ..StatusReport::default()
        }),
        reading: Arc::new(Vec::new),
        file: Arc::new(|path| {
            Box::pin(async move {
                if path != b"folder/100%\xff" {
                    return Err(Refusal::new(RefusalKind::Missing, "there is no such file"));
                }
                Ok(FileReport { path: crate::control::protocol::PathText(path), size: 5, ..FileReport::default() })
            })
        }),
        mirrors: Arc::new(|strategy, _| {
            Box::pin(async {
                let strategy_before = strategy.is_some().then(|| "adaptive".to_owned());
                let strategy = strategy.unwrap_or("adaptive".into());
                Ok(MirrorsReport { strategy, strategy_before, ..MirrorsReport::default() })
            })
        }),
        explain: Arc::new(move |request| {
            explaining.explained.lock().unwrap().push(request.clone());
            Box::pin(async move {
                let decisions_matching = request.last.unwrap_or(0);
                let numbers = (1..=decisions_matching).rev();
                let decisions = numbers.map(|number| DecisionReport { number, ..DecisionReport::default() });
                let report = ExplainReport { decisions_matching, ..ExplainReport::default() };
                Ok(Explained { decisions: Box::new(decisions), report })
            })
        }),
        prefetch: Arc::new(move |request, sender| Box::pin(fake_prefetch(seen.clone(), request, sender))),
        record: fake_record(),
        check: fake_check(),
        cancel: Arc::new(|job| match job {
            7 => Ok(JobReport { job, state: "cancelled".into(), ..JobReport::default() }),
            _ => Err(Refusal::new(RefusalKind::Missing, format!("no job has the number {job}"))),
        }),
        keep: Arc::new(move |request, sender| Box::pin(fake_keep(keeping.clone(), request, sender))),
        reload: Arc::new(|| {
            let why = "d.toml:3:1: unknown key \"hedgin\", did you mean \"hedging\"?";
            Box::pin(std::future::ready(Err(Refusal::new(RefusalKind::Failed, why))))
        }),
        ab: Arc::new(|_| {
            let why = "no experiment runs on this mount";
            Box::pin(std::future::ready(Err(Refusal::new(RefusalKind::Missing, why))))
        }),
        umount: Arc::new(move |lazy| {
            unmounting.unmounted.lock().unwrap().push(lazy);
            let mountinfo = mountinfo.clone();
            Box::pin(async move {
                std::fs::write(mountinfo, "").unwrap();
                Ok(())
            })
        }),
    }
}

/// A folder called `hang` never ends, a file called `bad` fails, and more files than the queue holds do.
async fn fake_prefetch(
    seen: Arc<Seen>,
    request: PrefetchRequest,
    sender: ProgressSender,
) -> Result<PrefetchReport, Refusal> {
    let witness = Witness(seen.clone());
    seen.prefetched.lock().unwrap().push(request.clone());
    let mut progress = Progress { bytes_total: 100, files_total: 2, listing: true, ..Progress::default() };
    sender.progress(progress.clone());
    let is_asked = |name: &str| request.paths.iter().any(|path| path.ends_with(name.as_bytes()));
    if is_asked("hang") {
        std::future::pending::<()>().await;
    }
    let failures = if is_asked("bad") { 200 } else { 0 };
    for at in 0..failures {
        sender.failed(format!("folder/bad/{at}").into_bytes(), "no mirror has it".into()).await;
    }
    progress = Progress {
        bytes_done: 100,
        files_done: 2,
        files_failed: failures,
        listing: false,
        elapsed_ms: 500,
        ..progress
    };
    sender.progress(progress.clone());
    drop(witness);
    Ok(PrefetchReport { job: 7, finished: request.wait, progress, bytes_fetched: 40 })
}
