//! The namespace, asked: what is known is answered at once, what is not is listed or asked for first
//! ([`super::listing`]), never on a FUSE thread.

use crate::chunk::{Inode, MirrorId};
use crate::clock::{Time, now};
use crate::fetch::error::Trouble;
use crate::fetch::listing::{Doubted, Flight};
use crate::fetch::plane::Plane;
use crate::fetch::translate;
use crate::namespace::{Attributes, Entries, Found, Freshness, Lookup, Namespace, NoFolder, Snapshot};
use crate::sources::{Failure, FailureKind, Source, Stat};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

/// Folders listed at a time: enough to hide a round trip each, few enough to be polite.
const LISTINGS_AT_ONCE: usize = 16;
/// After waiting for a listing in vain, what is known is served without waiting for so long.
const VAIN_PERIOD: Duration = Duration::from_secs(2);
/// While some mirror lists nothing, new folders wait for all mirrors for so long at most, and longer once in a while.
const SILENT_PATIENCE: Duration = Duration::from_millis(50);
const SILENT_PERIOD: Duration = Duration::from_secs(30);
/// How often a wait for a first listing looks whether it is offline by now.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Listing, asking and looking again ends after so many rounds: mirrors that change faster than we
/// can look must not hold a lookup for ever.
const ROUNDS_MAX: usize = 4;

/// The tree of one mount.
pub struct Tree {
    /// What exists.
    pub namespace: RwLock<Namespace>,
    pub(super) plane: Arc<Plane>,
    pub(super) runtime: Handle,
    pub(super) flights: Mutex<HashMap<Inode, watch::Receiver<Flight>>>,
    pub(super) permits: Semaphore,
    pub(super) doubts: Mutex<Doubted>,
    waited_in_vain: AtomicU64,
    not_all_heard: AtomicU64,
}

impl Tree {
    /// Of `plane`'s mirrors, its listings asked for on `runtime`.
    pub fn new(namespace: Namespace, plane: Arc<Plane>, runtime: Handle) -> Arc<Tree> {
        let (flights, permits, doubts) = (Mutex::default(), Semaphore::new(LISTINGS_AT_ONCE), Mutex::default());
        Arc::new(Tree {
            namespace: RwLock::new(namespace),
            plane,
            runtime,
            flights,
            permits,
            doubts,
            waited_in_vain: AtomicU64::new(0),
            not_all_heard: AtomicU64::new(0),
        })
    }

    /// The answer to a lookup that needs nobody's help; None where somebody must be asked first.
    /// `remember`: the kernel is told of it, in the same breath as it was found.
    pub fn lookup_now(
        self: &Arc<Self>,
        folder: Inode,
        name: &[u8],
        remember: bool,
    ) -> Option<Result<Attributes, Trouble>> {
        let mut namespace = self.namespace.write();
        let found = match namespace.lookup(folder, name, now()) {
            Err(trouble) => return Some(Err(trouble.into())),
            Ok(Lookup::Known { attributes, freshness: Freshness::Fresh }) => attributes,
            Ok(Lookup::Known { attributes, freshness: Freshness::Restored }) => {
                self.relist_behind(folder);
                attributes
            }
            Ok(Lookup::Known { attributes, .. }) if self.plane.is_offline() => attributes,
            Ok(Lookup::Absent { freshness: Freshness::Fresh, ask: false, .. }) => return Some(Err(Trouble::Absent)),
            Ok(Lookup::Absent { .. }) if self.plane.is_offline() => return Some(Err(Trouble::Absent)),
            Ok(_) => return None,
        };
        if remember {
            namespace.remember(found.inode, 1);
        }
        Some(Ok(found))
    }

    /// A lookup, asking whom it needs.
    pub async fn lookup(self: &Arc<Self>, folder: Inode, name: &[u8], remember: bool) -> Result<Attributes, Trouble> {
        let (mut relisted, mut asked) = (false, false);
        for _ in 0..ROUNDS_MAX {
            if let Some(answer) = self.lookup_now(folder, name, remember) {
                return answer;
            }
            let looked = self.namespace.read().lookup(folder, name, now())?;
            match looked {
                Lookup::NeedsListing => self.list(folder).await?,
                Lookup::NeedsSize { .. } if asked => return Err(Trouble::Stalled),
                Lookup::NeedsSize { .. } => {
                    self.ask_for(folder, name).await?;
                    asked = true;
                }
                Lookup::Known { freshness: Freshness::AskAgain, .. } if !asked => {
                    // Nobody there now: what was learned before serves.
                    let _ = self.ask_for(folder, name).await;
                    asked = true;
                }
                Lookup::Known { .. } | Lookup::Absent { freshness: Freshness::Expired, .. } if !relisted => {
                    self.relist(folder).await;
                    relisted = true;
                }
                Lookup::Known { attributes, .. } => {
                    if remember {
                        self.namespace.write().remember(attributes.inode, 1);
                    }
                    return Ok(attributes);
                }
                Lookup::Absent { unheard, .. } if !unheard.is_empty() && !relisted => {
                    self.all_heard(folder).await;
                    relisted = true;
                }
                Lookup::Absent { ask: true, .. } if !asked => {
                    self.ask_for(folder, name).await?;
                    asked = true;
                }
                Lookup::Absent { .. } => return Err(Trouble::Absent),
            }
        }
        // Mirrors that list nothing and say nothing: whatever was asked for did not come.
        Err(Trouble::TimedOut)
    }

    /// Is this inode what its name leads to? An open of an old one is to be looked up again.
    pub fn is_current(&self, inode: Inode) -> bool {
        let namespace = self.namespace.read();
        let Some((folder, name)) = namespace.name(inode) else { return false };
        let looked = namespace.lookup(folder, &name, now());
        matches!(looked, Ok(Lookup::Known { attributes, .. }) if attributes.inode == inode)
    }

    /// The names in a folder, where nobody must be asked for them.
    pub fn entries_now(self: &Arc<Self>, folder: Inode) -> Option<Result<Arc<Snapshot>, Trouble>> {
        // Sorting is done once per listing, under the write lock.
        let entries = self.namespace.write().entries(folder, now());
        match entries {
            Err(trouble) => Some(Err(trouble.into())),
            Ok(Entries::NeedsListing) => None,
            Ok(Entries::Known { entries, freshness, .. }) => match freshness {
                Freshness::Fresh | Freshness::AskAgain => Some(Ok(entries)),
                Freshness::Restored => {
                    self.relist_behind(folder);
                    Some(Ok(entries))
                }
                Freshness::Expired => self.plane.is_offline().then_some(Ok(entries)),
            },
        }
    }

    /// The names in a folder, asking whom it needs.
    pub async fn entries(self: &Arc<Self>, folder: Inode) -> Result<Arc<Snapshot>, Trouble> {
        if let Some(answer) = self.entries_now(folder) {
            return answer;
        }
        match self.is_listed(folder)? {
            true => self.relist(folder).await,
            false => {
                self.list(folder).await?;
                self.most_heard(folder).await;
            }
        }
        match self.namespace.write().entries(folder, now())? {
            Entries::Known { entries, .. } => Ok(entries),
            Entries::NeedsListing => Err(Trouble::Offline),
        }
    }

    pub(super) fn is_listed(&self, folder: Inode) -> Result<bool, NoFolder> {
        Ok(matches!(self.namespace.write().entries(folder, now())?, Entries::Known { .. }))
    }

    /// List a folder that is not known at all. Returns as soon as it can be used.
    pub async fn list(self: &Arc<Self>, folder: Inode) -> Result<(), Trouble> {
        if self.plane.is_offline() {
            return if self.restore_now(folder).await { Ok(()) } else { Err(Trouble::Offline) };
        }
        let mut flight = self.fly(folder);
        let usable = loop {
            let usable = flight.wait_for(|flight| flight.usable || flight.over);
            #[allow(clippy::disallowed_methods, reason = "fetch waits for time: offline rings no bell")]
            let look_again = tokio::time::sleep(LOOK_AGAIN);
            tokio::select! {
                usable = usable => break usable.map(|flight| *flight),
                () = look_again => if self.plane.is_offline() { return Err(Trouble::Offline) },
            }
        };
        if usable.is_ok_and(|flight| flight.usable) {
            return Ok(());
        }
        if self.is_listed(folder)? {
            return Ok(());
        }
        let answered = flight.borrow().answered;
        match answered {
            // Somebody is there and lists nothing: names can only be asked for one by one.
            true => Ok(()),
            false if self.plane.is_offline() => Err(Trouble::Offline),
            false => Err(Trouble::TimedOut),
        }
    }

    /// List a known folder again, but do not wait for mirrors longer than is decent: what is known serves.
    /// Where nobody came in time, nobody is waited for again for a while, in any folder.
    async fn relist(self: &Arc<Self>, folder: Inode) {
        if self.nobody_came() {
            return;
        }
        let mut flight = self.fly(folder);
        let heard = flight.wait_for(|flight| flight.usable || flight.over);
        let heard = tokio::time::timeout(self.plane.settings().relist_patience, heard).await;
        if !heard.is_ok_and(|heard| heard.is_ok_and(|flight| flight.answered)) {
            self.waited_in_vain.store(now().0, Ordering::Relaxed);
        }
    }

    /// Was a mirror waited for in vain a moment ago, and none has answered since?
    fn nobody_came(&self) -> bool {
        let vain = Time(self.waited_in_vain.load(Ordering::Relaxed));
        vain > Time(0) && now().since(vain) < VAIN_PERIOD && self.plane.last_answer() < vain
    }

    /// Until every mirror has listed a folder or failed to, but no longer than is decent.
    async fn all_heard(self: &Arc<Self>, folder: Inode) {
        self.heard_within(folder, self.plane.settings().relist_patience).await;
    }

    /// False where it took longer.
    pub(super) async fn heard_within(self: &Arc<Self>, folder: Inode, patience: Duration) -> bool {
        let Some(mut flight) = self.flights.lock().get(&folder).cloned() else { return true };
        tokio::time::timeout(patience, flight.wait_for(|flight| flight.over)).await.is_ok()
    }

    /// Who copies a folder that is listed for the first time is not to miss what the quickest mirror lacks. A mirror
    /// that says nothing is waited for once in a while only, or a walk through a tree would wait for it in each folder.
    async fn most_heard(self: &Arc<Self>, folder: Inode) {
        let vain = Time(self.not_all_heard.load(Ordering::Relaxed));
        let lately = vain > Time(0) && now().since(vain) < SILENT_PERIOD;
        let patience = if lately { SILENT_PATIENCE } else { self.plane.settings().relist_patience };
        if !self.heard_within(folder, patience).await {
            self.not_all_heard.store(now().0, Ordering::Relaxed);
        }
    }

    pub(super) fn relist_behind(self: &Arc<Self>, folder: Inode) {
        if !self.plane.is_offline() {
            self.fly(folder);
        }
    }

    /// Ask every mirror for one name: its exact size, or whether it is there although no listing shows it.
    async fn ask_for(self: &Arc<Self>, folder: Inode, name: &[u8]) -> Result<(), Trouble> {
        if self.plane.is_offline() {
            return Err(Trouble::Offline);
        }
        let path = {
            let namespace = self.namespace.read();
            let folder_path = namespace.path(folder).ok_or(Trouble::Absent)?;
            translate::join(&folder_path, name)
        };
        let mut asked = tokio::task::JoinSet::new();
        for (mirror, member) in self.plane.mirrors.in_use() {
            let path = path.clone();
            let patience = self.plane.settings().relist_patience;
            asked.spawn(async move { (mirror, stat_twice(&member.index_source, &path, patience).await) });
        }
        let (mut any, mut until) = (false, Time::NEVER);
        // Once somebody has said what it is, mirrors that say nothing are not waited for longer than is decent.
        while let Ok(Some(Ok((mirror, result)))) = tokio::time::timeout(until.since(now()), asked.join_next()).await {
            if self.told(folder, name, mirror, result) {
                any = true;
                until = until.min(now() + self.plane.settings().relist_patience);
            }
        }
        self.namespace.write().asked(folder, name, now());
        match any {
            true => Ok(()),
            false if self.plane.is_offline() => Err(Trouble::Offline),
            false => Err(Trouble::TimedOut),
        }
    }

    /// One mirror's word on one name. False where it said nothing of use.
    fn told(&self, folder: Inode, name: &[u8], mirror: MirrorId, result: Result<Stat, Failure>) -> bool {
        let mut namespace = self.namespace.write();
        match result {
            Ok(stat) => {
                self.plane.answered();
                let modified = translate::exact(stat.modified_unix_s);
                let file = Found::File { size_bytes: stat.size_bytes, modified };
                let found = if stat.folder { Found::Folder } else { file };
                namespace.learned(folder, name, mirror, found, now());
                true
            }
            Err(failure) if failure.kind == FailureKind::Missing => {
                namespace.absent(folder, name, mirror);
                self.plane.answered();
                true
            }
            Err(failure) => {
                drop(namespace);
                self.plane.failed(mirror, &failure);
                false
            }
        }
    }
}

/// Ask a mirror about a name, and once more where it hung up at once: a connection that was kept from before may be dead
/// without anybody knowing, and nobody else may have the name.
async fn stat_twice(source: &Source, path: &[u8], patience: Duration) -> Result<Stat, Failure> {
    let began = now();
    match source.stat(path).await {
        Err(failure) if failure.kind == FailureKind::Unreachable && now().since(began) < patience => {
            source.stat(path).await
        }
        result => result,
    }
}
