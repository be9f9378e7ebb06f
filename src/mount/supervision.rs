//! Tells a supervisor how the mount stands, and that it truly answers.
//!
//! A beat is no timer: it goes through the kernel to a FUSE thread and back (statfs, which is never cached), and through
//! the runtime of the control socket to the driver's thread and back. Whichever of them hangs, the beats stop. No
//! mirror and no disk has a part in it: who merely waits for them is alive.

use crate::config::supervisor::Supervisor;
use crate::control::mountinfo;
use crate::fetch::Engine;
use crate::mount::notify::Notifier;
use crate::mount::reports;
use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How often it is looked whether there is something new to say.
const STATUS_PERIOD: Duration = Duration::from_secs(2);
/// A supervisor wants to hear of us at least this many times before it loses patience.
const BEATS_IN_PATIENCE: u32 = 2;
/// How long the end of the mount waits for a beat that is on its way through the kernel, since that makes the mount busy.
const BEAT_ENDS_WITHIN: Duration = Duration::from_secs(1);

/// Beats go through the kernel as long as this is true. Whoever holds it keeps them from making the mount busy.
pub type AsksKernel = Arc<Mutex<bool>>;

/// Keep beats out of the kernel for as long as what this gives is held. None where one hangs there: the mount is in trouble,
/// and to be unmounted all the more.
pub fn without_beats(asks_kernel: &AsksKernel) -> Option<MutexGuard<'_, bool>> {
    asks_kernel.try_lock_for(BEAT_ENDS_WITHIN)
}

/// Of one mount, until it is dropped.
pub struct Supervision {
    notifier: Arc<Notifier>,
    asks_kernel: AsksKernel,
    /// Hangs up when dropped.
    _ends: Sender<()>,
}

struct Watch {
    notifier: Arc<Notifier>,
    asks_kernel: AsksKernel,
    engine: Arc<Engine>,
    mountpoint: PathBuf,
    /// The device number of the mount.
    device: Option<mountinfo::Device>,
    beat_period: Option<Duration>,
}

impl Supervision {
    /// Say that the mount can be used, and go on from there. `None` where nobody supervises.
    ///
    /// # Errors
    /// No thread can be had. That nobody listens at the socket is only said in the log: the mount is fine.
    pub fn start(
        supervisor: &Supervisor,
        engine: &Arc<Engine>,
        mountpoint: &Path,
        device: Option<mountinfo::Device>,
        asks_kernel: AsksKernel,
    ) -> io::Result<Option<Supervision>> {
        let Some(place) = &supervisor.notify_socket else { return Ok(None) };
        let notifier = match Notifier::open(place) {
            Ok(notifier) => Arc::new(notifier),
            Err(error) => {
                tracing::warn!(%error, place = %place.display(), "nobody listens at NOTIFY_SOCKET");
                return Ok(None);
            }
        };
        let watch = Watch {
            notifier: notifier.clone(),
            asks_kernel: asks_kernel.clone(),
            engine: engine.clone(),
            mountpoint: mountpoint.to_owned(),
            device,
            beat_period: supervisor.watchdog.map(|patience| patience / BEATS_IN_PATIENCE),
        };
        let (ends, ended) = channel();
        let said = watch.status();
        notifier.ready(&said);
        // Not waited for at the end: in a beat that never ends it would hold that up too.
        std::thread::Builder::new().name("braidfs-beat".into()).spawn(move || watch.run(said, &ended))?;
        Ok(Some(Supervision { notifier, asks_kernel, _ends: ends }))
    }

    /// The mount is about to be taken out of the tree. Beats do without the kernel from here on.
    pub fn stopping(&self) {
        self.notifier.stopping();
        if let Some(mut asks_kernel) = without_beats(&self.asks_kernel) {
            *asks_kernel = false;
        }
    }
}

impl Watch {
    fn run(&self, mut said: String, ended: &Receiver<()>) {
        let period = self.beat_period.unwrap_or(STATUS_PERIOD).min(STATUS_PERIOD);
        let ticks_in_beat = self.beat_period.map(|beat| (beat.as_nanos() / period.as_nanos().max(1)).max(1));
        let mut ticks: u128 = 0;
        loop {
            if ticks_in_beat.is_some_and(|in_beat| ticks.is_multiple_of(in_beat)) && self.answers() {
                self.notifier.alive();
            }
            ticks += 1;
            if ended.recv_timeout(period) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let status = self.status();
            if status != said && *self.asks_kernel.lock() {
                self.notifier.status(&status);
                said = status;
            }
        }
    }

    /// Once through everything that a read needs, but for mirrors and disk. Does not come back where that hangs.
    fn answers(&self) -> bool {
        self.kernel_is_answered() && self.driver_answers()
    }

    fn kernel_is_answered(&self) -> bool {
        let asks_kernel = self.asks_kernel.lock();
        if !*asks_kernel || !self.is_in_the_tree() {
            return true;
        }
        match rustix::fs::statfs(&self.mountpoint) {
            Ok(_) => true,
            // The kernel's own word: somebody else mounted it, and it is not for us to look at.
            Err(rustix::io::Errno::ACCESS) => true,
            Err(error) => {
                tracing::warn!(%error, "the mount does not answer its own daemon");
                false
            }
        }
    }

    /// Below a mount that was taken out is a folder which does not tell anything about us.
    fn is_in_the_tree(&self) -> bool {
        let mounts = mountinfo::read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
        let here = mountinfo::mount_of(&mounts, &self.mountpoint);
        here.is_some_and(|mount| mount.mountpoint == self.mountpoint && Some(mount.device) == self.device)
    }

    fn driver_answers(&self) -> bool {
        let (reply, answer) = channel();
        let engine = self.engine.clone();
        self.engine.runtime().spawn(async move {
            let _ = reply.send(engine.answers().await);
        });
        answer.recv().unwrap_or(false)
    }

    /// In words.
    fn status(&self) -> String {
        let status = reports::status(self.engine.report());
        let in_use = status.mirrors.iter().filter(|mirror| mirror.state == "closed").count();
        let what = match status.state.as_str() {
            "offline" => "offline, what is cached is served",
            "reading-through" => "online, the cache disk is out of use",
            state => state,
        };
        format!("{what}; {in_use} of {} mirrors in use", status.mirrors.len())
    }
}
