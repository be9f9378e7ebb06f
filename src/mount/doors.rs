//! What the control command may do: the engine's reports in the words of `--json`, and its jobs.

use crate::config::plan::MountPlan;
use crate::control::protocol::{PathText, Refusal, RefusalKind};
use crate::control::report::{Dissenter, FileReport, MirrorReport, StatusReport};
use crate::control::server::Doors;
use crate::control::unmount;
use crate::fetch::{Engine, Trouble, report};
use crate::mount::Stop;
use crate::mount::jobs::Jobs;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// The doors of one mount.
pub fn doors(engine: &Arc<Engine>, plan: &MountPlan, mountpoint: &Path, stop: watch::Sender<Stop>) -> Doors {
    let jobs = Arc::new(Jobs::default());
    let (status_engine, status_jobs) = (engine.clone(), jobs.clone());
    let (name, place) = (plan.name.clone(), mountpoint.display().to_string());
    let cache_dir = plan.cache.path().map(|dir| dir.display().to_string());
    let file_engine = engine.clone();
    let prefetch_engine = engine.clone();
    let mountpoint = mountpoint.to_owned();
    Doors {
        status: Arc::new(move || {
            let mut status = status(status_engine.report());
            status.mountpoint = place.clone();
            status.name = name.clone();
            status.cache_dir = cache_dir.clone();
            status.jobs = status_jobs.reports();
            status
        }),
        file: Arc::new(move |path| {
            let engine = file_engine.clone();
            Box::pin(async move {
                let found = engine.file_report(&path).await;
                found.map(|found| file(&path, found)).map_err(|trouble| refusal(&path, trouble))
            })
        }),
        prefetch: Arc::new(move |request, sender| Box::pin(jobs.clone().run(prefetch_engine.clone(), request, sender))),
        umount: Arc::new(move |lazy| {
            let (mountpoint, stop) = (mountpoint.clone(), stop.clone());
            Box::pin(async move {
                let done = tokio::task::spawn_blocking(move || unmount::unmount(&mountpoint, lazy)).await;
                let done = done.map_err(|error| Refusal::new(RefusalKind::Failed, error.to_string()))?;
                done.map_err(|error| Refusal::new(RefusalKind::Failed, error.to_string()))?;
                stop.send_replace(Stop::Ended);
                Ok(())
            })
        }),
    }
}

fn refusal(path: &[u8], trouble: Trouble) -> Refusal {
    let path = String::from_utf8_lossy(path);
    let kind = match trouble {
        Trouble::Absent | Trouble::NotAFolder => RefusalKind::Missing,
        _ => RefusalKind::Failed,
    };
    Refusal::new(kind, format!("{path}: {trouble}"))
}

fn status(seen: report::Report) -> StatusReport {
    let count = |name: &str| seen.counters.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value);
    let (reads, bytes_read, bytes_fetched) = (count("reads"), count("read_bytes"), count("fetched_bytes"));
    let state = match (&seen.disk_trouble, seen.offline) {
        (_, true) => "offline",
        (Some(_), false) => "reading-through",
        (None, false) => "online",
    };
    let disk_state = match (&seen.disk_trouble, seen.disk_limit) {
        (_, 0) => "none",
        (Some(_), _) => "failing",
        (None, _) => "ok",
    };
    StatusReport {
        pid: std::process::id(),
        uptime_s: seen.uptime.as_secs_f64(),
        state: state.into(),
        bytes_read,
        bytes_fetched,
        read_amplification: (bytes_read > 0).then(|| bytes_fetched as f64 / bytes_read as f64),
        reads,
        read_errors: count("read_errors"),
        hit_ratio: (reads > 0).then(|| 1.0 - count("read_misses") as f64 / reads as f64),
        memory_bytes: seen.memory_bytes,
        memory_limit: seen.memory_limit,
        disk_bytes: seen.disk_bytes,
        disk_limit: seen.disk_limit,
        disk_state: disk_state.into(),
        oldest_operation_ms: seen.oldest_read.map(|age| age.as_millis() as u64),
        mirrors: seen.mirrors.into_iter().map(mirror).collect(),
        counters: seen.counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        ..StatusReport::default()
    }
}

fn mirror(seen: report::MirrorReport) -> MirrorReport {
    MirrorReport {
        url: seen.url,
        state: seen.state,
        reason: seen.reason,
        next_try_s: seen.next_try.map(|length| length.as_secs_f64()),
        bytes_fetched: seen.fetched_bytes,
        throughput_bytes_per_second: seen.bytes_per_second,
        time_to_first_byte_ms: seen.first_byte.map(|length| length.as_secs_f64() * 1e3),
        in_flight_bytes: seen.in_flight_bytes,
        failures: seen.failures,
        last_failure: seen.last_failure,
        lies: seen.lies,
    }
}

fn file(path: &[u8], seen: report::FileReport) -> FileReport {
    FileReport {
        path: PathText(path.to_vec()),
        size: seen.size_bytes,
        cached_bytes: seen.held_bytes,
        in_memory_bytes: seen.memory_bytes,
        on_disk_bytes: seen.disk_bytes,
        version: seen.version,
        mirrors: seen.mirrors,
        dissenters: seen.dissenters.into_iter().map(|(url, why)| Dissenter { url, why }).collect(),
    }
}
