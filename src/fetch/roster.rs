//! Who the mirrors of a mount are, by their ids, and our clients for them. They change while it runs: a mirror that
//! is added gets the next id, one that is taken out keeps its own in case it comes back, and no id ever means another.

use crate::chunk::MirrorId;
use crate::fetch::opened::{OpenFile, label};
use crate::sources::Source;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::sync::Arc;

/// Lies of one mirror that are kept for `status`. The newest are enough to see what it does.
const LIES_KEPT: usize = 8;

/// One mirror.
pub struct Member {
    /// Our client, for file data.
    pub source: Arc<Source>,
    /// The same for listings: connections stay on the runtime that opened them.
    pub index_source: Arc<Source>,
    /// Its name in notes on disk, the same in every mount.
    pub label: u64,
    /// False once it was taken out.
    pub in_use: bool,
    words: Arc<Mutex<Words>>,
}

/// What a mirror did wrong, in words.
#[derive(Clone, Default)]
pub struct Words {
    /// The last failure of any kind.
    pub last_failure: Option<String>,
    /// Answers that were not what was asked for, newest last.
    pub lies: Vec<String>,
    /// Failures in all.
    pub failures: u64,
    /// A file that it has served: a probe for another might hang for the file's own reasons.
    pub served: Option<Arc<OpenFile>>,
}

/// Our clients for one mirror.
#[derive(Clone)]
pub struct Clients {
    /// For file data.
    pub source: Arc<Source>,
    /// For listings.
    pub index_source: Arc<Source>,
}

impl Member {
    /// One of which nothing is known.
    pub fn new(clients: Clients) -> Member {
        let label = label(clients.source.url().as_str());
        let Clients { source, index_source } = clients;
        Member { source, index_source, label, in_use: true, words: Arc::default() }
    }

    /// The same in use, with other clients where some are given.
    pub fn with(&self, clients: Option<Clients>) -> Member {
        let kept = Clients { source: self.source.clone(), index_source: self.index_source.clone() };
        Member { words: self.words.clone(), ..Member::new(clients.unwrap_or(kept)) }
    }

    /// The same, taken out.
    pub fn out_of_use(&self) -> Member {
        Member { in_use: false, ..self.with(None) }
    }

    /// Its URL without credentials.
    pub fn url(&self) -> String {
        self.source.redacted_url()
    }

    /// What is known of it in words.
    pub fn words(&self) -> Words {
        self.words.lock().clone()
    }

    /// It failed. A mirror without ranges is not at fault, so that is not one to be told here.
    pub(super) fn failed(&self, why: &str) {
        let mut words = self.words.lock();
        words.failures += 1;
        words.last_failure = Some(why.to_owned());
    }

    /// It said something that cannot be true. Each kind of it is kept once.
    pub(super) fn lied(&self, why: &str) {
        let mut words = self.words.lock();
        if !words.lies.iter().any(|lie| lie == why) {
            if words.lies.len() == LIES_KEPT {
                words.lies.remove(0);
            }
            words.lies.push(why.to_owned());
        }
    }

    /// It served a range of `file` to its end.
    pub(super) fn served(&self, file: &Arc<OpenFile>) {
        self.words.lock().served = Some(file.clone());
    }
}

/// All of them.
pub struct Roster {
    members: ArcSwap<Vec<Arc<Member>>>,
}

impl Roster {
    /// With these clients for file data and for listings, in the same order.
    pub fn new(sources: Vec<Arc<Source>>, index_sources: Vec<Arc<Source>>) -> Roster {
        let clients = sources.into_iter().zip(index_sources);
        let clients = clients.map(|(source, index_source)| Clients { source, index_source });
        let members = clients.map(|clients| Arc::new(Member::new(clients))).collect();
        Roster { members: ArcSwap::from_pointee(members) }
    }

    /// One. Ids come from here, so it is there.
    pub fn of(&self, mirror: MirrorId) -> Arc<Member> {
        self.members.load()[usize::from(mirror.0)].clone()
    }

    /// These from here on: no fewer than there were, and each where it was.
    pub(super) fn set(&self, members: Vec<Arc<Member>>) {
        self.members.store(Arc::new(members));
    }

    /// Everyone that there ever was, by id.
    pub fn all(&self) -> Arc<Vec<Arc<Member>>> {
        self.members.load_full()
    }

    /// Those that are not taken out.
    pub fn in_use(&self) -> impl Iterator<Item = (MirrorId, Arc<Member>)> + use<> {
        let all = self.all();
        (0..all.len()).map(move |at| (MirrorId(at as u16), all[at].clone())).filter(|(_, member)| member.in_use)
    }
}
