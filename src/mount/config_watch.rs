//! Notices that the configuration file changed.
//!
//! The folders are watched, not the file: editors and deployment tools put another file in its place. Where it is a
//! link, both its own folder and its target's are.

use super::reload::{Configuration, FILE_CHANGED};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Whoever writes it in pieces is given so long of quiet to end.
const QUIET: Duration = Duration::from_millis(100);
/// A folder in which something happens all the time is looked at after so many pieces all the same.
const PIECES_MAX: usize = 20;

/// Reload whenever what is in `file` is not what was `seen` of it last: first that is what the mount was made from,
/// which may be some time ago. Ends with the runtime.
pub async fn follow(configuration: Arc<Configuration>, file: PathBuf, mut seen: Option<blake3::Hash>) {
    loop {
        // Watched anew each time: a link may lead elsewhere by now.
        let something = Arc::new(Notify::new());
        let _watcher = match watch(&file, something.clone()) {
            Ok(watcher) => watcher,
            Err(error) => {
                let file = file.display();
                tracing::warn!(%file, %error, "a change of the configuration is not noticed: use `braidfs reload`");
                return;
            }
        };
        let now = contents(&file).await;
        // One that is away for a moment is being replaced.
        if now.is_some() && now != seen {
            seen = now;
            // What is wrong with it is in the log and in `status`.
            let _ = configuration.reload(FILE_CHANGED).await;
        }
        something.notified().await;
        for _ in 0..PIECES_MAX {
            if tokio::time::timeout(QUIET, something.notified()).await.is_err() {
                break;
            }
        }
    }
}

/// A hash of what is in it; none where it cannot be read.
async fn contents(file: &Path) -> Option<blake3::Hash> {
    let file = file.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read(file)).await;
    read.ok()?.ok().map(|bytes| blake3::hash(&bytes))
}

/// Ring when something happens in the folders of `file`, until it is dropped. Reading alone is nothing.
fn watch(file: &Path, something: Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| tells_of_a_change(&event.kind)) {
            something.notify_one();
        }
    })?;
    for folder in folders(file) {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

fn tells_of_a_change(kind: &EventKind) -> bool {
    !kind.is_access() || *kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}

fn folders(file: &Path) -> BTreeSet<PathBuf> {
    let target = std::fs::canonicalize(file).ok();
    let files = [Some(file.to_owned()), target];
    files.into_iter().flatten().filter_map(|file| file.parent().map(Path::to_owned)).collect()
}
