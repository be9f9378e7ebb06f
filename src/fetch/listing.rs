//! Listings under way: each folder is asked for once however many wait, merged as mirrors answer, and
//! saved for the next start.

use crate::chunk::{Inode, MirrorId, MirrorSet};
use crate::clock::{Time, now};
use crate::fetch::checking;
use crate::fetch::plane::Doubt;
use crate::fetch::translate;
use crate::fetch::tree::Tree;
use crate::namespace::{Found, Namespace, ROOT, Version};
use crate::scheduler::Event;
use crate::sources::{Failure, FailureKind, Listing, Source};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// Mirrors that say nothing of a folder are asked for it again after this, while its files are read.
const DOUBT_PERIOD: Duration = Duration::from_secs(2);
/// Folders whose doubt is remembered. Forgetting some costs a request each.
const DOUBTED_MAX: usize = 4096;
/// When mirrors that say nothing of a folder were asked for it last.
#[derive(Default)]
pub struct Doubted(HashMap<Inode, Time>);

impl Doubted {
    fn may_ask(&mut self, folder: Inode, now: Time) -> bool {
        if self.0.get(&folder).is_some_and(|&at| now.since(at) < DOUBT_PERIOD) {
            return false;
        }
        if self.0.len() >= DOUBTED_MAX {
            self.0.clear();
        }
        self.0.insert(folder, now);
        true
    }
}

/// What the first look at the mirrors showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstLook {
    /// A mirror lists the dataset.
    Online,
    /// None does now, but the last run saved what it saw.
    Cached,
    /// None does, and nothing is saved.
    Nobody,
}

/// How far the listing of a folder has come.
#[derive(Clone, Copy, Default, Debug)]
pub struct Flight {
    /// Some mirror's listing, or a saved one, is in.
    pub usable: bool,
    /// Some mirror's listing is in.
    pub listed: bool,
    /// Some mirror has answered, be it that it lists no such folder.
    pub answered: bool,
    /// Every mirror has answered or failed.
    pub over: bool,
}

impl Tree {
    /// The listing of `folder` that is under way; begun here where there is none.
    pub(super) fn fly(self: &Arc<Self>, folder: Inode) -> watch::Receiver<Flight> {
        self.fly_among(folder, None)
    }

    /// The same, asking only some mirrors where there is no other under way.
    pub(super) fn fly_among(self: &Arc<Self>, folder: Inode, only: Option<MirrorSet>) -> watch::Receiver<Flight> {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&folder) {
            return flight.clone();
        }
        let (progress, flight) = watch::channel(Flight::default());
        flights.insert(folder, flight.clone());
        let tree = self.clone();
        self.runtime.spawn(async move {
            tree.list_all(folder, only, &progress).await;
            tree.landed(folder);
            progress.send_modify(|flight| flight.over = true);
        });
        flight
    }

    /// A listing has come to its end. Whoever opens a file of the folder meanwhile has told before of the mirrors that
    /// were awaited, or sees that none are.
    fn landed(&self, folder: Inode) {
        let namespace = self.namespace.write();
        self.flights.lock().remove(&folder);
        drop(namespace);
        self.refresh_opened();
    }

    async fn list_all(self: &Arc<Self>, folder: Inode, only: Option<MirrorSet>, progress: &watch::Sender<Flight>) {
        let Some(path) = self.namespace.read().path(folder) else { return };
        let _permit = self.permits.acquire().await;
        if self.restore(folder, &path).await {
            progress.send_modify(|flight| flight.usable = true);
        }
        let mut asked = tokio::task::JoinSet::new();
        for (mirror, member) in self.plane.mirrors.in_use() {
            if only.as_ref().is_some_and(|only| !only.contains(mirror)) {
                continue;
            }
            let path = path.clone();
            let patience = self.plane.settings().read_timeout;
            asked.spawn(async move {
                let source = &member.index_source;
                let listed = tokio::time::timeout(patience, source.list(&path)).await;
                (mirror, listed.unwrap_or_else(|_| Err(silent(source, patience))))
            });
        }
        let mut any = false;
        while let Some(Ok((mirror, result))) = asked.join_next().await {
            let listed = result.is_ok();
            let answered = !matches!(&result, Err(failure) if failure.kind == FailureKind::Unreachable);
            self.heard(folder, mirror, result);
            any |= listed;
            progress.send_modify(|flight| {
                flight.usable |= listed;
                flight.listed |= listed;
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
                let mut namespace = self.namespace.write();
                namespace.listed(folder, mirror, claims, now());
                self.plane.names_bytes.store(namespace.memory_bytes(), Ordering::Relaxed);
                drop(namespace);
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
    pub(super) fn refresh_opened(&self) {
        let namespace = self.namespace.read();
        for file in self.plane.opened.all() {
            if let Some(version) = namespace.version(file.inode) {
                let awaited = self.awaited(&namespace, file.inode, &version);
                file.served_as(&version);
                self.plane.inbox.tell(Event::Served { file: file.inode, mirrors: version.mirrors, awaited });
            }
        }
    }

    /// May more mirrors be heard of that serve it? Its folder is being listed, and not all have spoken.
    pub(in crate::fetch) fn awaited(&self, namespace: &Namespace, inode: Inode, version: &Version) -> bool {
        let folder = namespace.name(inode).map(|(folder, _)| folder);
        !version.silent.is_empty() && folder.is_some_and(|folder| self.flights.lock().contains_key(&folder))
    }

    /// [`Self::restore`] of a folder by its inode.
    pub(super) async fn restore_now(&self, folder: Inode) -> bool {
        let path = self.namespace.read().path(folder);
        match path {
            Some(path) => self.restore(folder, &path).await,
            None => false,
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

    /// The data plane saw something that the tree does not know.
    pub fn doubted(self: &Arc<Self>, doubt: &Doubt) {
        let mut namespace = self.namespace.write();
        let mut silent = None;
        let file = match *doubt {
            Doubt::Complete { file } => return checking::begin(self, file),
            Doubt::Missing { file, mirror } => {
                if let Some((folder, name)) = namespace.name(file) {
                    namespace.absent(folder, &name, mirror);
                }
                file
            }
            Doubt::Changed { file, mirror } => {
                namespace.changed(file, Some(mirror), now());
                file
            }
            Doubt::Redated { file, mirror, unix_s } => {
                // That is known exactly, and leaves those who list the old date with the old version.
                let size_bytes = namespace.version(file).map(|version| version.size_bytes);
                if let (Some((folder, name)), Some(size_bytes)) = (namespace.name(file), size_bytes) {
                    let found = Found::File { size_bytes, modified: translate::exact(Some(unix_s)) };
                    namespace.learned(folder, &name, mirror, found, now());
                }
                file
            }
            Doubt::Waiting { file } => {
                silent = namespace.version(file).map(|version| version.silent);
                file
            }
        };
        let folder = namespace.name(file).map(|(folder, _)| folder);
        drop(namespace);
        match (folder, silent) {
            (Some(folder), None) => self.relist_behind(folder),
            (Some(folder), Some(silent)) if !silent.is_empty() => self.ask_silent(folder, silent),
            _ => {}
        }
    }

    /// A mirror that never lists must not cost a request for each file that is opened.
    fn ask_silent(self: &Arc<Self>, folder: Inode, silent: MirrorSet) {
        if !self.plane.is_offline() && self.doubts.lock().may_ask(folder, now()) {
            self.fly_among(folder, Some(silent));
        }
    }

    /// List the root for the first time. What the last run saved is not enough yet, unless nobody comes.
    pub async fn first_look(self: &Arc<Self>, patience: Duration) -> FirstLook {
        let mut flight = self.fly(ROOT);
        let heard = flight.wait_for(|flight| flight.listed || flight.over);
        let heard = tokio::time::timeout(patience, heard).await;
        let seen = heard.ok().and_then(Result::ok).map(|seen| *seen).unwrap_or_default();
        if seen.listed {
            return FirstLook::Online;
        }
        let cached = flight.borrow().usable;
        if seen.over && !seen.answered && cached {
            self.plane.inbox.tell(Event::NobodyAnswers);
            self.plane.offline.store(true, Ordering::Relaxed);
        }
        if cached { FirstLook::Cached } else { FirstLook::Nobody }
    }
}

/// A mirror that took a request and says nothing.
fn silent(source: &Source, patience: Duration) -> Failure {
    let why = format!("{} did not list the folder within {patience:?}", source.redacted_url());
    Failure { kind: FailureKind::Unreachable, why }
}
