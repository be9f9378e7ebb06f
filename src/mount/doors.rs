//! What the control command may do.

use crate::config::plan::MountPlan;
use crate::control::experiment::{AbDoor, AbReport};
use crate::control::protocol::{Refusal, RefusalKind};
use crate::control::report::MirrorsReport;
use crate::control::server::{Doors, ExplainRequest, Explained, MirrorsDoor, StatusDoor, UmountDoor};
use crate::control::unmount;
use crate::fetch::asking::{NotExplained, WhyAsked};
use crate::fetch::{Engine, Trouble};
use crate::mount::experiment::Experiments;
use crate::mount::jobs::Jobs;
use crate::mount::reload::Configuration;
use crate::mount::supervision::{AsksKernel, without_beats};
use crate::mount::{Stop, keeping, reports};
use crate::scheduler::Strategy;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// The doors of one mount.
pub fn doors(
    engine: &Arc<Engine>,
    plan: &MountPlan,
    mountpoint: &Path,
    stop: watch::Sender<Stop>,
    configuration: &Arc<Configuration>,
    asks_kernel: AsksKernel,
) -> Doors {
    let jobs = Arc::new(Jobs::new(stop.subscribe()));
    jobs.resume(engine);
    let cancel_jobs = jobs.clone();
    let [reading_engine, file_engine, explain_engine, prefetch_engine, record_engine, check_engine, keep_engine] =
        std::array::from_fn(|_| engine.clone());
    let experiments = Arc::new(Experiments::new(engine));
    let reload_configuration = configuration.clone();
    let [explain_mountpoint, check_mountpoint, keep_mountpoint] = std::array::from_fn(|_| mountpoint.to_owned());
    Doors {
        status: status_door(
            (engine.clone(), jobs.clone(), experiments.clone()),
            plan,
            mountpoint,
            configuration.clone(),
        ),
        reading: Arc::new(move || reading_engine.reading().into_iter().map(reports::reading).collect()),
        file: Arc::new(move |path| {
            let engine = file_engine.clone();
            Box::pin(async move {
                let found = engine.file_report(&path).await;
                found.map(|found| reports::file(&path, found)).map_err(|trouble| refusal(&path, trouble))
            })
        }),
        mirrors: mirrors_door(engine.clone(), plan, mountpoint, configuration.clone()),
        explain: Arc::new(move |request| {
            Box::pin(explain(explain_engine.clone(), explain_mountpoint.clone(), request))
        }),
        prefetch: Arc::new(move |request, sender| Box::pin(jobs.clone().run(prefetch_engine.clone(), request, sender))),
        record: Arc::new(move |path, stopped, sender| {
            Box::pin(keeping::record(record_engine.clone(), path, stopped, sender))
        }),
        check: Arc::new(move |paths, sender| {
            Box::pin(keeping::check(check_engine.clone(), check_mountpoint.clone(), paths, sender))
        }),
        cancel: Arc::new(move |job| cancel_jobs.cancel(job)),
        keep: Arc::new(move |request, sender| {
            Box::pin(keeping::keep(keep_engine.clone(), keep_mountpoint.clone(), request, sender))
        }),
        reload: Arc::new(move || {
            let configuration = reload_configuration.clone();
            Box::pin(async move { configuration.reload("asked to").await })
        }),
        ab: ab_door(experiments, plan, mountpoint),
        umount: umount_door(plan, mountpoint, stop, asks_kernel),
    }
}

fn status_door(
    (engine, jobs, experiments): (Arc<Engine>, Arc<Jobs>, Arc<Experiments>),
    plan: &MountPlan,
    mountpoint: &Path,
    configuration: Arc<Configuration>,
) -> StatusDoor {
    let (name, place) = (plan.name.clone(), mountpoint.display().to_string());
    let cache_dir = plan.cache.path().map(|dir| dir.display().to_string());
    let config_file = plan.config_file.clone();
    Arc::new(move || {
        let mut status = reports::status(engine.report());
        status.mountpoint = place.clone();
        status.name = name.clone();
        status.cache_dir = cache_dir.clone();
        status.jobs = jobs.reports();
        status.experiment = experiments.status();
        status.configuration = configuration.report(config_file.as_deref());
        status
    })
}

fn mirrors_door(
    engine: Arc<Engine>,
    plan: &MountPlan,
    mountpoint: &Path,
    configuration: Arc<Configuration>,
) -> MirrorsDoor {
    let (name, place) = (plan.name.clone(), mountpoint.display().to_string());
    Arc::new(move |strategy, change| {
        let (engine, mountpoint, name) = (engine.clone(), place.clone(), name.clone());
        let configuration = configuration.clone();
        Box::pin(async move {
            if let Some(change) = change {
                configuration.change_mirror(change).await?;
            }
            let report = mirrors(&engine, strategy).await?;
            let taken_out = configuration.taken_out();
            Ok(MirrorsReport { mountpoint, name, taken_out, ..report })
        })
    })
}

fn ab_door(experiments: Arc<Experiments>, plan: &MountPlan, mountpoint: &Path) -> AbDoor {
    let (name, place) = (plan.name.clone(), mountpoint.display().to_string());
    Arc::new(move |asked| {
        let (experiments, mountpoint, name) = (experiments.clone(), place.clone(), name.clone());
        Box::pin(async move { Ok(AbReport { mountpoint, name, ..experiments.ab(asked).await? }) })
    })
}

fn umount_door(plan: &MountPlan, mountpoint: &Path, stop: watch::Sender<Stop>, asks_kernel: AsksKernel) -> UmountDoor {
    let (is_handed_in, mountpoint) = (plan.fuse_fd.is_some(), mountpoint.to_owned());
    Arc::new(move |lazy| {
        if is_handed_in {
            let what = "whoever started braidfs has made this mount, and has to unmount it; then the daemon ends too";
            return Box::pin(async move { Err(Refusal::new(RefusalKind::Failed, what)) });
        }
        let (mountpoint, stop, asks_kernel) = (mountpoint.clone(), stop.clone(), asks_kernel.clone());
        Box::pin(async move {
            let unmount = move || {
                let _without_beats = without_beats(&asks_kernel);
                unmount::unmount(&mountpoint, lazy)
            };
            let done = tokio::task::spawn_blocking(unmount).await;
            let done = done.map_err(|error| Refusal::new(RefusalKind::Failed, error.to_string()))?;
            done.map_err(|error| Refusal::new(RefusalKind::Failed, error.to_string()))?;
            stop.send_replace(Stop::Ended);
            Ok(())
        })
    })
}

async fn mirrors(engine: &Engine, strategy: Option<String>) -> Result<MirrorsReport, Refusal> {
    let strategy: Option<Strategy> = strategy
        .map(|name| name.parse())
        .transpose()
        .map_err(|error| Refusal::new(RefusalKind::Request, format!("{error}")))?;
    let seen = engine.mirrors(strategy).await;
    seen.map(reports::mirrors).map_err(|trouble| Refusal::new(RefusalKind::Failed, trouble.to_string()))
}

async fn explain(engine: Arc<Engine>, mountpoint: PathBuf, request: ExplainRequest) -> Result<Explained, Refusal> {
    let ExplainRequest { target, last } = request;
    let last = last.map(|last| usize::try_from(last).unwrap_or(usize::MAX));
    let seen = engine.explain(WhyAsked { target: target.clone(), last }).await;
    let (decisions, report) = reports::explanation(seen.map_err(|why| not_explained(&mountpoint, &target, &why))?);
    Ok(Explained { decisions: Box::new(decisions), report })
}

fn not_explained(mountpoint: &Path, target: &[u8], why: &NotExplained) -> Refusal {
    let kind = match why {
        NotExplained::Absent | NotExplained::NoOffset => RefusalKind::Missing,
        NotExplained::Folder | NotExplained::PastTheEnd { .. } => RefusalKind::Request,
        NotExplained::Trouble(_) => RefusalKind::Failed,
    };
    // Whole: it names what was typed, from whatever folder.
    let path = mountpoint.join(std::ffi::OsStr::from_bytes(target));
    Refusal::new(kind, format!("{}: {why}", path.display()))
}

fn refusal(path: &[u8], trouble: Trouble) -> Refusal {
    let path = String::from_utf8_lossy(path);
    let kind = match trouble {
        Trouble::Absent | Trouble::NotAFolder => RefusalKind::Missing,
        _ => RefusalKind::Failed,
    };
    Refusal::new(kind, format!("{path}: {trouble}"))
}
