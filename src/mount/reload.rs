//! The configuration file, read anew while the mount goes on: by the command, by SIGHUP, or because it changed.
//!
//! A new one is checked as a whole, the clients of its mirrors are made, and only then is anything changed. One that is
//! wrong changes nothing: the last good one stays in force, and `status` says why.

use super::source_settings;
use crate::clock::{Time, now};
use crate::config::defaults::Surroundings;
use crate::config::defaults::WEIGHTS;
use crate::config::difference::{Difference, differences};
use crate::config::plan::{MirrorPlan, MountPlan, plan_mount};
use crate::control::protocol::{MirrorChange, Refusal, RefusalKind};
use crate::control::reloaded::{ChangeReport, ConfigurationReport, ReloadReport};
use crate::fetch::Engine;
use crate::fetch::changing::{Live, Wanted};
use crate::fetch::roster::Clients;
use crate::scheduler::Configured;
use crate::sources::Source;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why it is read anew where nobody asked for it: often only because somebody who did was quicker.
pub const FILE_CHANGED: &str = "the file changed";

/// The configuration of one mount.
pub struct Configuration {
    engine: Arc<Engine>,
    around: Surroundings,
    mountpoint: PathBuf,
    /// One reload at a time: each is compared with the one before.
    current: tokio::sync::Mutex<Current>,
    report: Mutex<Shown>,
}

/// What is in force.
struct Current {
    plan: MountPlan,
    version: u64,
    /// Mirrors that were taken out by hand.
    taken_out: Vec<MirrorPlan>,
}

/// What `status` shows of it.
struct Shown {
    version: u64,
    since: Time,
    trouble: Option<String>,
    waits_for_mount: Vec<String>,
    taken_out: Vec<String>,
}

impl Configuration {
    /// Of a mount that was made from `plan`.
    pub fn new(engine: &Arc<Engine>, plan: &MountPlan, around: &Surroundings, mountpoint: &Path) -> Configuration {
        Configuration {
            engine: engine.clone(),
            around: around.clone(),
            mountpoint: mountpoint.to_owned(),
            current: tokio::sync::Mutex::new(Current { plan: plan.clone(), version: 1, taken_out: Vec::new() }),
            report: Mutex::new(Shown {
                version: 1,
                since: now(),
                trouble: None,
                waits_for_mount: Vec::new(),
                taken_out: Vec::new(),
            }),
        }
    }

    /// For `status`; none where the mount has no file. Never waits for a reload.
    pub fn report(&self, file: Option<&Path>) -> Option<ConfigurationReport> {
        let shown = self.report.lock();
        Some(ConfigurationReport {
            file: file?.display().to_string(),
            version: shown.version,
            age_s: now().seconds_since(shown.since),
            trouble: shown.trouble.clone(),
            waits_for_mount: shown.waits_for_mount.clone(),
        })
    }

    /// Read the file anew, and go by it. `why` is for the log.
    ///
    /// # Errors
    /// There is none, or something in it is wrong: then nothing was changed.
    pub async fn reload(&self, why: &'static str) -> Result<ReloadReport, Refusal> {
        let mut current = self.current.lock().await;
        let Some(file) = current.plan.config_file.clone() else {
            let message = "this mount has no configuration file, so there is nothing to read anew: mount with one \
                           (`braidfs mount FILE MOUNTPOINT`)";
            return Err(Refusal::new(RefusalKind::Request, message));
        };
        match self.take_up(&mut current, &file, why).await {
            Ok(report) => {
                self.report.lock().trouble = None;
                Ok(report)
            }
            Err(trouble) => {
                let version = current.version;
                tracing::error!(why, version, "the configuration was not reloaded, the last good one stays: {trouble}");
                self.report.lock().trouble = Some(trouble.clone());
                let message = format!("{trouble}\nnothing was changed: version {version} stays in force");
                Err(Refusal::new(RefusalKind::Failed, message))
            }
        }
    }

    async fn take_up(&self, current: &mut Current, file: &Path, why: &'static str) -> Result<ReloadReport, String> {
        let plan = self.plan_anew(&current.plan).await?;
        let (live, fixed): (Vec<_>, Vec<_>) =
            differences(&current.plan, &plan).into_iter().partition(|difference| difference.is_live);
        if !live.is_empty() || !current.taken_out.is_empty() {
            self.apply(&current.plan, &plan).await?;
            current.version += u64::from(!live.is_empty());
            // The file says which there are.
            current.taken_out.clear();
            self.report.lock().taken_out.clear();
            let changes: Vec<String> = live.iter().map(|change| changed(change).text()).collect();
            tracing::info!(why, version = current.version, ?changes, "the configuration was reloaded");
        } else if why != FILE_CHANGED {
            tracing::info!(why, version = current.version, "the configuration was read anew: nothing to change");
        }
        let waits: Vec<String> = fixed.iter().map(|difference| difference.name.clone()).collect();
        if !waits.is_empty() {
            tracing::warn!(?waits, "the configuration has what only another mount takes up");
        }
        let mut shown = self.report.lock();
        if shown.version != current.version {
            (shown.version, shown.since) = (current.version, now());
        }
        shown.waits_for_mount = waits;
        drop(shown);
        let report = ReloadReport {
            mountpoint: self.mountpoint.display().to_string(),
            file: file.display().to_string(),
            version: current.version,
            changed: live.iter().map(changed).collect(),
            waits_for_mount: fixed.iter().map(changed).collect(),
            warnings: plan.warnings.clone(),
        };
        take_over(&mut current.plan, plan);
        Ok(report)
    }

    /// Use one mirror otherwise, until the mount ends or the file, read anew, says which there are and how.
    ///
    /// # Errors
    /// There is no such mirror, it is the only one, or its weight is out of bounds: then nothing was changed.
    pub async fn change_mirror(&self, change: MirrorChange) -> Result<(), Refusal> {
        let refuse = |message: String| Err(Refusal::new(RefusalKind::Request, message));
        let mut current = self.current.lock().await;
        let is_it = |mirror: &MirrorPlan| mirror.url.shown().trim_end_matches('/') == change.url.trim_end_matches('/');
        let mut plan = current.plan.clone();
        let mut taken_out = current.taken_out.clone();
        if change.in_use == Some(true)
            && let Some(at) = taken_out.iter().position(is_it)
        {
            plan.mirrors.push(taken_out.remove(at));
        }
        let Some(at) = plan.mirrors.iter().position(is_it) else {
            let known: Vec<String> = plan.mirrors.iter().chain(&taken_out).map(|mirror| mirror.url.shown()).collect();
            return refuse(format!("{} is no mirror of this mount; those are {}", change.url, known.join(", ")));
        };
        if let Some(weight) = change.weight {
            if !WEIGHTS.contains(&weight) {
                let (least, most) = (WEIGHTS.start(), WEIGHTS.end());
                return refuse(format!("weight {weight} is not from {least} to {most}"));
            }
            plan.mirrors[at].weight = weight;
        }
        if change.in_use == Some(false) {
            if plan.mirrors.len() == 1 {
                return refuse(format!("{} is the only mirror: `braidfs umount` ends the mount", change.url));
            }
            taken_out.push(plan.mirrors.remove(at));
        }
        self.apply(&current.plan, &plan).await.map_err(|why| Refusal::new(RefusalKind::Failed, why))?;
        tracing::info!(mirror = change.url, weight = change.weight, in_use = change.in_use, "changed by hand");
        self.report.lock().taken_out = taken_out.iter().map(|mirror| mirror.url.shown()).collect();
        current.plan.mirrors = plan.mirrors;
        current.taken_out = taken_out;
        Ok(())
    }

    /// Mirrors that were taken out by hand, by URL.
    pub fn taken_out(&self) -> Vec<String> {
        self.report.lock().taken_out.clone()
    }

    /// As it would be mounted now. The file is read on a thread that may wait for it.
    async fn plan_anew(&self, plan: &MountPlan) -> Result<MountPlan, String> {
        let (command, around) = (plan.command.clone(), self.around.clone());
        let command = command.ok_or("this mount was not made by a command line")?;
        let planned = tokio::task::spawn_blocking(move || plan_mount(&command, &around)).await;
        planned.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    async fn apply(&self, before: &MountPlan, after: &MountPlan) -> Result<(), String> {
        let mut wanted = Vec::with_capacity(after.mirrors.len());
        for mirror in &after.mirrors {
            let known = before.mirrors.iter().find(|known| known.url == mirror.url);
            let clients = match known.is_some_and(|known| asks_alike(known, mirror)) {
                true => None,
                false => Some(self.clients(mirror, after)?),
            };
            wanted.push(Wanted { url: mirror.url.0.as_str().to_owned(), clients, configured: configured(mirror) });
        }
        // What can fail comes first.
        self.engine.set_mirrors(wanted).await.map_err(|why| why.to_string())?;
        if before.rules != after.rules {
            self.engine.set_rules(after.rules.clone());
        }
        let live = Live {
            // Who switched it by hand keeps that, until the file says something else than before.
            strategy: (before.strategy != after.strategy).then_some(after.strategy),
            hedging: after.hedging,
            rate_limit: after.rate_limit,
            read_timeout: after.read_timeout,
            read_deadline: after.read_deadline,
            entry_lifetime: after.entry_lifetime,
        };
        self.engine.set_live(live).await.map_err(|trouble| trouble.to_string())
    }

    fn clients(&self, mirror: &MirrorPlan, plan: &MountPlan) -> Result<Clients, String> {
        let metrics = self.engine.metrics();
        let client = || {
            let settings = source_settings(mirror, plan.ideas).map_err(|error| error.to_string())?;
            Source::new(settings, metrics.clone()).map(Arc::new).map_err(|error| error.to_string())
        };
        Ok(Clients { source: client()?, index_source: client()? })
    }
}

/// What only another mount takes up stays what it is, so that it is told again until then.
fn take_over(current: &mut MountPlan, new: MountPlan) {
    current.mirrors = new.mirrors;
    current.rules = new.rules;
    (current.strategy, current.hedging, current.rate_limit) = (new.strategy, new.hedging, new.rate_limit);
    (current.read_timeout, current.read_deadline) = (new.read_timeout, new.read_deadline);
    current.entry_lifetime = new.entry_lifetime;
}

/// Do requests to it look the same, so that its connections may be kept?
fn asks_alike(one: &MirrorPlan, other: &MirrorPlan) -> bool {
    let of_scheduler = |mirror: &MirrorPlan| MirrorPlan { weight: 1.0, tier: 0, rate_limit: None, ..mirror.clone() };
    of_scheduler(one) == of_scheduler(other)
}

/// What the scheduler is told of a mirror.
pub fn configured(mirror: &MirrorPlan) -> Configured {
    Configured { in_use: true, weight: mirror.weight, tier: mirror.tier, rate_limit: mirror.rate_limit }
}

fn changed(difference: &Difference) -> ChangeReport {
    let Difference { name, before, after, .. } = difference.clone();
    ChangeReport { name, before, after }
}
