//! Compose, run, end in order.
//!
//! [`Mount::start`] puts the modules together from a plan; [`run`] waits for signals and ends them in
//! reverse: no new reads (unmount), no new bytes (engine), everything durable (disk), no lock.

mod background;
mod cache_folder;
mod config_watch;
mod doors;
mod experiment;
mod handed_in;
mod jobs;
mod keeping;
mod kept_jobs;
mod log;
pub mod mount_helper;
pub mod mountpoint;
mod notify;
mod otlp;
mod reload;
mod reports;
mod signals;
mod supervision;

pub use background::{Readiness, go_to_background};
pub use cache_folder::{DISK_BYTES_MIN, FREE_FLOOR_BYTES};
pub use log::{log_failure, log_to_stderr, start_log};

use crate::cache::disk::{self, Disk};
use crate::cache::pool::Pool;
use crate::config::defaults::Surroundings;
use crate::config::ideas::Ideas;
use crate::config::plan::{MirrorPlan, MountPlan};
use crate::config::supervisor::Supervisor;
use crate::control::busy;
use crate::control::http::HttpDoor;
use crate::control::mountinfo::{self, Device};
use crate::control::place::Places;
use crate::control::scrape::serve_metrics;
use crate::control::server::Server;
use crate::control::unmount::unmount;
use crate::control::web::WebDoor;
use crate::fetch::{self, Engine, FirstLook, Parts};
use crate::metrics::Metrics;
use crate::mount::handed_in::HandedIn;
use crate::mount::otlp::{Exporter, Exporting};
use crate::mount::signals::Signals;
use crate::mount::supervision::{AsksKernel, Supervision};
use crate::namespace::{self, Namespace};
use crate::scheduler::{self, Scheduler};
use crate::sources::{self, BadSource, Source};
use crate::{clock, fs};
use anyhow::{Context, bail};
use reload::Configuration;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// After the mount was taken out of the tree, whoever still has a file open is served for so long at
/// most: long enough to end a copy, short enough for a system that shuts down.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How often the end of the kernel's side is looked for then.
const DRAIN_PERIOD: Duration = Duration::from_millis(50);

/// A mount that is being served.
pub struct Mount {
    engine: Arc<Engine>,
    mounted: fs::Mounted,
    /// Of the mount; none where somebody else has made it where we cannot see it, and the kernel does not say.
    device: Option<Device>,
    /// Made by us, and to be taken away by us.
    is_ours: bool,
    stop: watch::Sender<Stop>,
    control: Option<tokio::task::JoinHandle<()>>,
    signals: Signals,
    configuration: Arc<Configuration>,
    /// Who is told how it stands.
    supervision: Option<Supervision>,
    /// Who is told of slow reads.
    exporting: Option<Exporting>,
    asks_kernel: AsksKernel,
}

/// What listens before there is a mount to tell of.
struct Ports {
    metrics: Option<HttpDoor>,
    web: Option<HttpDoor>,
}

/// What the mount was told about its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing.
    No,
    /// It is unmounted or detached: end when its last user is gone.
    Ended,
}

impl Mount {
    /// Everything from the plan, in the order in which later parts need earlier ones. Nothing is left
    /// behind where it fails.
    pub fn start(plan: &MountPlan, around: &Surroundings) -> anyhow::Result<Mount> {
        plan.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let handed_in = plan.fuse_fd.map(|number| HandedIn::take(number, &plan.mountpoint)).transpose()?;
        let mountpoint = match &handed_in {
            Some(handed_in) => handed_in.mountpoint.clone(),
            None => mountpoint::prepare(&plan.mountpoint)?,
        };
        let ports = Ports {
            metrics: plan.metrics.map(|address| HttpDoor::bind(address, "--metrics")).transpose()?,
            web: plan.web.map(|address| HttpDoor::bind(address, "--web")).transpose()?,
        };
        let exporter = Exporter::of(plan, &mountpoint)?;
        let metrics = Arc::new(Metrics::default());
        let disk = cache_folder::open(plan, &mountpoint, &metrics)?;
        let engine = start_engine(plan, disk, metrics)?;
        look_first(&engine)?;
        let signals = Signals::take(engine.runtime()).context("cannot listen to signals")?;
        let fuse = fuse_settings(plan);
        fuse.validate().map_err(anyhow::Error::msg)?;
        // Before there is anything to read: a read that has begun before is never told of.
        let exporting = exporter.and_then(|exporter| exporter.start(&engine));
        let is_ours = handed_in.is_none();
        let (mounted, device) = match handed_in {
            Some(handed_in) => serve(&engine, &fuse, handed_in)?,
            None => mount_at(&engine, &fuse, &mountpoint)?,
        };
        let (stop, stopped) = watch::channel(Stop::No);
        let configuration = Arc::new(Configuration::new(&engine, plan, around, mounted.mountpoint()));
        if let Some(file) = plan.config_file.clone() {
            engine.runtime().spawn(config_watch::follow(configuration.clone(), file, plan.config_digest));
        }
        let (supervision, asks_kernel) = (None, Arc::new(parking_lot::Mutex::new(true)));
        let mut mount = Mount {
            engine,
            mounted,
            device,
            is_ours,
            stop,
            control: None,
            signals,
            configuration,
            supervision,
            exporting,
            asks_kernel,
        };
        mount.control = mount.open_doors(plan, around, stopped, ports)?;
        Ok(mount)
    }

    /// The control socket, and the ports that are asked for.
    fn open_doors(
        &self,
        plan: &MountPlan,
        around: &Surroundings,
        stopped: watch::Receiver<Stop>,
        ports: Ports,
    ) -> anyhow::Result<Option<tokio::task::JoinHandle<()>>> {
        let places = Places::of_user(around.uid, around.xdg_runtime_dir.as_deref());
        let doors = doors::doors(
            &self.engine,
            plan,
            self.mounted.mountpoint(),
            self.stop.clone(),
            &self.configuration,
            self.asks_kernel.clone(),
        );
        if let Some(door) = ports.metrics {
            self.engine.runtime().spawn(serve_metrics(door, doors.status.clone()));
        }
        let Some(device) = self.device else {
            tracing::warn!("the mount cannot be seen from here: `braidfs status` and its like do not find it");
            return Ok(None);
        };
        let _inside = self.engine.runtime().enter();
        let server = Server::bind(&places, device, doors.clone())?;
        let page = ports.web.map(|port| WebDoor::open(port, server.path())).transpose()?;
        let at_the_end = |mut stopped: watch::Receiver<Stop>| async move {
            // An error is the end of the sender, which is the end of the mount too.
            let _ = stopped.wait_for(|stop| *stop == Stop::Ended).await;
        };
        let (commands, end) = (server.run(at_the_end(stopped.clone())), at_the_end(stopped));
        let mountpoint = self.mounted.mountpoint().display();
        if let Some(page) = &page {
            tracing::info!("page at http://{}/; `braidfs web {mountpoint}` prints its token too", page.address());
        }
        let page = async move {
            if let Some(page) = page {
                page.run(doors, end).await;
            }
        };
        Ok(Some(self.engine.runtime().spawn(async {
            tokio::join!(commands, page);
        })))
    }

    /// Its engine, for who shows what it does.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Where.
    pub fn mountpoint(&self) -> &Path {
        self.mounted.mountpoint()
    }

    /// Until a signal comes, or the mount is gone by another hand (`umount`, `braidfs umount`) and nobody
    /// uses it any more.
    pub fn wait_for_the_end(&mut self) {
        let Mount { engine, mounted, signals, configuration, .. } = self;
        engine.runtime().block_on(async {
            loop {
                let look_again = pause(DRAIN_PERIOD * 4);
                tokio::select! {
                    _ = signals.interrupt.recv() => return,
                    _ = signals.terminate.recv() => return,
                    _ = signals.hang_up.recv() => {
                        if signals.is_terminal_gone() {
                            return;
                        }
                        let configuration = configuration.clone();
                        // What is wrong with it is in the log and in `status`.
                        engine.runtime().spawn(async move { drop(configuration.reload("SIGHUP").await) });
                    }
                    () = look_again => if mounted.is_over() { return },
                }
            }
        });
    }

    /// Tell whoever supervises this process that the mount can be used, and from then on that it answers.
    pub fn supervise(&mut self, supervisor: &Supervisor) {
        match Supervision::start(
            supervisor,
            &self.engine,
            self.mounted.mountpoint(),
            self.device,
            self.asks_kernel.clone(),
        ) {
            Ok(supervision) => self.supervision = supervision,
            Err(error) => {
                tracing::error!(%error, "no thread can be had that tells the supervisor that the mount answers")
            }
        }
    }

    /// Unmount, say by whom it is busy where it is, and end everything in order.
    pub fn end(mut self) -> anyhow::Result<()> {
        if let Some(supervision) = &self.supervision {
            supervision.stopping();
        }
        let still_there = self.is_ours && !self.mounted.is_over() && *self.stop.borrow() == Stop::No;
        if still_there {
            self.take_out()?;
        }
        let drained = self.engine.runtime().block_on(async {
            let until = clock::now() + DRAIN_MAX;
            while self.is_ours && !self.mounted.is_over() && clock::now() < until {
                pause(DRAIN_PERIOD).await;
            }
            self.mounted.is_over()
        });
        if !drained && !self.is_ours {
            tracing::info!("served no more; whoever handed the mount in has it to unmount");
        } else if !drained {
            tracing::warn!("files are still open after {DRAIN_MAX:?}: their readers get an error now");
        }
        self.stop.send_replace(Stop::Ended);
        if let Some(control) = self.control.take() {
            let _ = self.engine.runtime().block_on(control);
        }
        self.engine.end();
        if let Some(exporting) = self.exporting.take() {
            exporting.finish(self.engine.runtime());
        }
        if drained {
            self.mounted.join().context("the FUSE session ended with an error")?;
        }
        Ok(())
    }

    /// Take the mount out of the tree, whoever uses it. Another hand may have done that meanwhile.
    fn take_out(&self) -> anyhow::Result<()> {
        let mountpoint = self.mounted.mountpoint();
        if let Err(why) = unmount(mountpoint, false)
            && let Some(mount) = self.in_the_tree()
        {
            self.say_who_is_busy(&mount, &why.to_string());
            if let Err(why) = unmount(mountpoint, true)
                && self.in_the_tree().is_some()
            {
                return Err(why).context("cannot unmount");
            }
        }
        Ok(())
    }

    fn in_the_tree(&self) -> Option<mountinfo::Mount> {
        let mounts = mountinfo::read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
        let here = mountinfo::mount_of(&mounts, self.mounted.mountpoint());
        here.filter(|mount| mount.is_braidfs() && mount.mountpoint == self.mounted.mountpoint()).cloned()
    }

    fn say_who_is_busy(&self, mount: &mountinfo::Mount, why: &str) {
        let (mountpoint, users) = (self.mounted.mountpoint(), busy::users_of(mount));
        let names: Vec<_> = users.iter().map(ToString::to_string).collect();
        let by = if names.is_empty() { "somebody".to_owned() } else { names.join(", ") };
        tracing::warn!(mountpoint = %mountpoint.display(), why, "busy, in use by {by}: detached, ends when they let go");
    }
}

/// The whole life of a mount: `ready` once it can be used, back when it has ended.
pub fn run(plan: &MountPlan, around: &Surroundings, ready: impl FnOnce()) -> anyhow::Result<()> {
    let mut mount = Mount::start(plan, around)?;
    let offline = if mount.engine.is_offline() { " (offline: what is cached is served)" } else { "" };
    tracing::info!(mountpoint = %mount.mountpoint().display(), "mounted{offline}");
    ready();
    mount.supervise(&around.supervisor);
    mount.wait_for_the_end();
    mount.end()
}

/// How the mount of this plan looks to the system.
pub fn fuse_settings(plan: &MountPlan) -> fs::Settings {
    fs::Settings {
        allow_other: plan.allow_other,
        uid: Some(plan.uid),
        gid: Some(plan.gid),
        umask: u32::from(plan.umask),
        fsname: plan.fsname.clone(),
        noexec: plan.noexec,
        passthrough: plan.passthrough && !plan.ideas.without_pool && plan.cache.path().is_some(),
        stack_depth: if plan.cache.path().is_some_and(disk::lies_on_overlay) { 2 } else { 1 },
        ..fs::Settings::default()
    }
}

fn mount_at(
    engine: &Arc<Engine>,
    fuse: &fs::Settings,
    mountpoint: &Path,
) -> anyhow::Result<(fs::Mounted, Option<Device>)> {
    let mounted = fs::mount(engine.clone(), fuse, mountpoint)
        .with_context(|| format!("cannot mount at {}", mountpoint.display()))?;
    let mounts = mountinfo::read(Path::new("/proc/self/mountinfo")).context("cannot read /proc/self/mountinfo")?;
    let here = mountinfo::mount_of(&mounts, mountpoint).context("the mount is not in /proc/self/mountinfo")?;
    Ok((mounted, Some(here.device)))
}

/// What somebody else has mounted.
fn serve(
    engine: &Arc<Engine>,
    fuse: &fs::Settings,
    handed_in: HandedIn,
) -> anyhow::Result<(fs::Mounted, Option<Device>)> {
    let HandedIn { descriptor, mountpoint, device } = handed_in;
    let number = device.map(|device| (device.major, device.minor));
    let mounted = fs::serve(engine.clone(), fuse, descriptor, &mountpoint, number);
    let mounted =
        mounted.context("the descriptor of /dev/fuse cannot be served: is it mounted, and served by nobody else?")?;
    Ok((mounted, device))
}

fn start_engine(plan: &MountPlan, disk: Option<Disk>, metrics: Arc<Metrics>) -> anyhow::Result<Arc<Engine>> {
    let settings = fetch::Settings {
        quorum: plan.verify == scheduler::Verify::Quorum,
        passthrough: plan.passthrough && !plan.ideas.without_pool,
        fresh_buffers: plan.ideas.without_pool,
        one_runtime: plan.ideas.without_data_plane,
        read_timeout: plan.read_timeout,
        read_deadline: plan.read_deadline,
        ..fetch::Settings::default()
    };
    settings.validate().map_err(anyhow::Error::msg)?;
    let client = |mirror: &MirrorPlan| Source::new(source_settings(mirror, plan.ideas)?, metrics.clone()).map(Arc::new);
    let sources = plan.mirrors.iter().map(client).collect::<Result<Vec<_>, _>>()?;
    let index_sources = plan.mirrors.iter().map(client).collect::<Result<Vec<_>, _>>()?;
    let pool = Pool::new(plan.memory, metrics.clone()).context("the memory of --memory cannot be had")?;
    pool.touch_ahead().context("cannot start the thread that touches memory")?;
    let tree = namespace::Settings {
        entry_lifetime: plan.entry_lifetime,
        negative_lifetime: plan.entry_lifetime,
        ..namespace::Settings::default()
    };
    tree.validate().map_err(anyhow::Error::msg)?;
    let labels = sources.iter().map(|source| fetch::label(source.url().as_str())).collect();
    let decisions = decisions(pool.limit_bytes(), plan);
    let time = clock::now();
    // The seed only spreads retries and equal mirrors: that it differs between starts is the point of it.
    let mut scheduler = Scheduler::new(decisions, sources.len(), time.0, time);
    let mirrors = plan.mirrors.iter().map(reload::configured).collect();
    scheduler.handle(time, scheduler::Event::MirrorsChanged { mirrors });
    let parts = Parts { settings, rules: plan.rules.clone(), metrics, pool, disk, sources, index_sources };
    Engine::start(parts, Namespace::new(tree, labels), scheduler).context("cannot start the engine's threads")
}

/// A small memory carries fewer connections at a time: each has its buffers beside the pool.
fn decisions(pool_bytes: u64, plan: &MountPlan) -> scheduler::Settings {
    let built_in = scheduler::Settings::default();
    let mebibytes = (pool_bytes >> 20) as usize;
    scheduler::Settings {
        strategy: plan.strategy,
        verify: plan.verify,
        hedging: plan.hedging,
        rate_limit: plan.rate_limit,
        pool_bytes,
        demand_fetches_max: (mebibytes / 8).clamp(4, built_in.demand_fetches_max),
        background_fetches_max: (mebibytes / 16).clamp(2, built_in.background_fetches_max),
        small_fetches_max: (mebibytes / 4).min(built_in.small_fetches_max),
        ..built_in
    }
}

/// How a mirror of the plan is reached.
///
/// # Errors
/// An address that is none.
pub fn source_settings(mirror: &MirrorPlan, ideas: Ideas) -> Result<sources::Settings, BadSource> {
    let mut settings = sources::Settings::parse(mirror.url.0.as_str())?;
    settings.keeps_connections = !ideas.without_kept_connections;
    settings.resumes_tls = !ideas.without_tls_resumption;
    settings.headers = mirror.headers.0.clone().into_iter().collect();
    settings.user_agent = mirror.user_agent.clone();
    settings.ca_file = mirror.ca_file.clone();
    settings.http2 = mirror.http2;
    if let Some(connect_timeout) = mirror.connect_timeout {
        settings.connect_timeout = connect_timeout;
    }
    Ok(settings)
}

/// Is there anybody, or a cache that can serve? Else nothing is mounted, and each mirror's reason is said.
fn look_first(engine: &Arc<Engine>) -> anyhow::Result<()> {
    let (seen, failures) = engine.first_look();
    let lines: Vec<_> = failures.iter().map(|(url, why)| format!("  {url}: {why}")).collect();
    let why = lines.join("\n");
    match seen {
        FirstLook::Online => Ok(()),
        FirstLook::Cached => {
            tracing::warn!("offline: no mirror answers, what is cached is served:\n{why}");
            Ok(())
        }
        FirstLook::Nobody => bail!("no mirror lists the dataset, and nothing is cached, so nothing is mounted:\n{why}"),
    }
}

async fn pause(length: Duration) {
    #[allow(clippy::disallowed_methods, reason = "waiting for the kernel to hang up, which rings no bell")]
    tokio::time::sleep(length).await;
}
