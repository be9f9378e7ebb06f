//! The namespace, kept true: listings asked for once however many wait, merged as they come, saved
//! for the next start, and never waited for on a FUSE thread.

use crate::chunk::{Inode, MirrorId};
use crate::clock::now;
use crate::fetch::error::Trouble;
use crate::fetch::plane::{Plane, Suspect};
use crate::fetch::translate;
use crate::namespace::{Attributes, Entries, Found, Freshness, Lookup, Namespace, NoFolder, Snapshot};
use crate::scheduler::Event;
use crate::sources::{Failure, FailureKind, Listing, Stat};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

/// Folders listed at a time: enough to hide a round trip each, few enough to be polite.
const LISTINGS_AT_ONCE: usize = 16;
/// Listing, asking and looking again ends after so many rounds: mirrors that change faster than we
/// can look must not hold a lookup for ever.
const ROUNDS_MAX: usize = 4;

/// The tree of one mount.
pub struct Tree {
    /// What exists.
    pub namespace: RwLock<Namespace>,
    plane: Arc<Plane>,
    runtime: Handle,
    flights: Mutex<HashMap<Inode, watch::Receiver<Flight>>>,
    permits: Semaphore,
}

/// How far the listing of a folder has come.
#[derive(Clone, Copy, Default, Debug)]
struct Flight {
    /// Some mirror's listing, or a saved one, is in.
    usable: bool,
    /// Some mirror has answered, be it that it lists no such folder.
    answered: bool,
    /// Every mirror has answered or failed.
    over: bool,
}

impl Tree {
    /// Of `plane`'s mirrors, its listings asked for on `runtime`.
    pub fn new(namespace: Namespace, plane: Arc<Plane>, runtime: Handle) -> Arc<Tree> {
        let (flights, permits) = (Mutex::default(), Semaphore::new(LISTINGS_AT_ONCE));
        Arc::new(Tree { namespace: RwLock::new(namespace), plane, runtime, flights, permits })
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
            false => self.list(folder).await?,
        }
        match self.namespace.write().entries(folder, now())? {
            Entries::Known { entries, .. } => Ok(entries),
            Entries::NeedsListing => Err(Trouble::Offline),
        }
    }

    fn is_listed(&self, folder: Inode) -> Result<bool, NoFolder> {
        Ok(matches!(self.namespace.write().entries(folder, now())?, Entries::Known { .. }))
    }

    /// List a folder that is not known at all. Returns as soon as it can be used.
    pub async fn list(self: &Arc<Self>, folder: Inode) -> Result<(), Trouble> {
        let mut flight = self.fly(folder);
        let usable = flight.wait_for(|flight| flight.usable || flight.over).await;
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
    async fn relist(self: &Arc<Self>, folder: Inode) {
        let mut flight = self.fly(folder);
        let answered = flight.wait_for(|flight| flight.usable || flight.over);
        #[allow(clippy::disallowed_methods, reason = "fetch waits for time")]
        let patience = tokio::time::sleep(self.plane.settings.relist_patience);
        tokio::select! { _ = answered => {}, () = patience => {} }
    }

    /// Until every mirror has listed a folder or failed to, but no longer than is decent.
    async fn all_heard(self: &Arc<Self>, folder: Inode) {
        let Some(mut flight) = self.flights.lock().get(&folder).cloned() else { return };
        let over = flight.wait_for(|flight| flight.over);
        #[allow(clippy::disallowed_methods, reason = "fetch waits for time")]
        let patience = tokio::time::sleep(self.plane.settings.relist_patience);
        tokio::select! { _ = over => {}, () = patience => {} }
    }

    fn relist_behind(self: &Arc<Self>, folder: Inode) {
        if !self.plane.is_offline() {
            self.fly(folder);
        }
    }

    /// The listing of `folder` that is under way; begun here where there is none.
    fn fly(self: &Arc<Self>, folder: Inode) -> watch::Receiver<Flight> {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&folder) {
            return flight.clone();
        }
        let (progress, flight) = watch::channel(Flight::default());
        flights.insert(folder, flight.clone());
        let tree = self.clone();
        self.runtime.spawn(async move {
            tree.list_all(folder, &progress).await;
            tree.flights.lock().remove(&folder);
            progress.send_modify(|flight| flight.over = true);
        });
        flight
    }

    async fn list_all(self: &Arc<Self>, folder: Inode, progress: &watch::Sender<Flight>) {
        let Some(path) = self.namespace.read().path(folder) else { return };
        let _permit = self.permits.acquire().await;
        if self.restore(folder, &path).await {
            progress.send_modify(|flight| flight.usable = true);
        }
        let mut asked = tokio::task::JoinSet::new();
        for (at, source) in self.plane.index_sources.iter().cloned().enumerate() {
            let path = path.clone();
            asked.spawn(async move { (MirrorId(at as u16), source.list(&path).await) });
        }
        let mut any = false;
        while let Some(Ok((mirror, result))) = asked.join_next().await {
            let listed = result.is_ok();
            let answered = !matches!(&result, Err(failure) if failure.kind == FailureKind::Unreachable);
            self.heard(folder, mirror, result);
            any |= listed;
            progress.send_modify(|flight| {
                flight.usable |= listed;
                flight.answered |= answered;
            });
        }
        if any {
            self.save(folder, path);
        }
    }

    /// One mirror's listing, or why there is none.
    fn heard(&self, folder: Inode, mirror: MirrorId, result: Result<Listing, Failure>) {
        let seen = match result {
            Ok(listing) => {
                self.plane.answered();
                let first_byte = listing.first_byte;
                let claims = translate::claims(listing);
                self.namespace.write().listed(folder, mirror, claims, now());
                self.refresh_opened();
                Ok(first_byte)
            }
            Err(failure) => {
                tracing::debug!(mirror = mirror.0, why = failure.why, "a listing failed");
                self.namespace.write().not_listed(folder, mirror, translate::not_listed(failure.kind), now());
                Err(self.plane.failed(mirror, &failure))
            }
        };
        self.plane.inbox.tell(Event::MirrorSeen { mirror, result: seen });
    }

    /// More mirrors may serve what is open now.
    fn refresh_opened(&self) {
        let namespace = self.namespace.read();
        for file in self.plane.opened.all() {
            if let Some(version) = namespace.version(file.inode) {
                let (file, size_bytes, mirrors) = (file.inode, file.size_bytes, version.mirrors);
                self.plane.inbox.tell(Event::Opened { file, size_bytes, mirrors, held: Vec::new() });
            }
        }
    }

    /// What the last run saved of a folder that this one has not seen yet. True where there was something.
    async fn restore(&self, folder: Inode, path: &[u8]) -> bool {
        let Some(disk) = self.plane.disk.clone() else { return false };
        if self.is_listed(folder).unwrap_or(true) {
            return false;
        }
        let wanted = path.to_vec();
        let saved = tokio::task::spawn_blocking(move || disk.listing(&wanted)).await;
        let Ok(Some(saved)) = saved else { return false };
        match self.namespace.write().restored(folder, &saved, now()) {
            Ok(_) => true,
            Err(bad) => {
                tracing::warn!(folder = %String::from_utf8_lossy(path), %bad, "a saved listing is damaged: asking the mirrors");
                false
            }
        }
    }

    fn save(&self, folder: Inode, path: Vec<u8>) {
        let Some(disk) = self.plane.disk.clone() else { return };
        if let Some(saved) = self.namespace.read().save(folder) {
            self.runtime.spawn_blocking(move || disk.put_listing(&path, saved));
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
        for (at, source) in self.plane.index_sources.iter().cloned().enumerate() {
            let path = path.clone();
            asked.spawn(async move { (MirrorId(at as u16), source.stat(&path).await) });
        }
        let mut any = false;
        while let Some(Ok((mirror, result))) = asked.join_next().await {
            any |= self.told(folder, name, mirror, result);
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

    /// A mirror turned out to have another version of an open file, or none.
    pub fn suspected(self: &Arc<Self>, suspect: &Suspect) {
        let mut namespace = self.namespace.write();
        if suspect.missing {
            if let Some((folder, name)) = namespace.name(suspect.file) {
                namespace.absent(folder, &name, suspect.mirror);
            }
        } else {
            namespace.changed(suspect.file, Some(suspect.mirror), now());
        }
        let folder = namespace.name(suspect.file).map(|(folder, _)| folder);
        drop(namespace);
        if let Some(folder) = folder {
            self.relist_behind(folder);
        }
    }
}
