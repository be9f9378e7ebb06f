//! Other mirrors and settings, while readers read.
//!
//! Mirrors that are new are listed before those that go are taken out, so that a file that both have stays what it is
//! to who reads it.

use crate::chunk::{MIRRORS_MAX, MirrorId, MirrorSet};
use crate::clock::now;
use crate::fetch::engine::Engine;
use crate::fetch::error::Trouble;
use crate::fetch::history;
use crate::fetch::opened::label;
use crate::fetch::roster::{Clients, Member};
use crate::fetch::rules::Rules;
use crate::namespace::ROOT;
use crate::scheduler::{self, Configured, Event};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A mirror as configuration gives it.
pub struct Wanted {
    /// Its base URL, credentials included: two that differ in these are two mirrors.
    pub url: String,
    /// Our clients for it; none where those that there are may stay.
    pub clients: Option<Clients>,
    /// What the scheduler is told of it.
    pub configured: Configured,
}

/// What changed of the mirrors, as their URLs without credentials.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MirrorsChanged {
    /// New, or back.
    pub added: Vec<String>,
    /// Taken out.
    pub removed: Vec<String>,
}

/// Why mirrors were not changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotChanged {
    /// Those that were taken out count too: what is known of bytes is kept by their numbers.
    #[error(
        "this mount has had {MIRRORS_MAX} different mirrors since it began, and has no number left for another: mount again"
    )]
    TooMany,
    /// The mount is ending, or cannot be asked.
    #[error("{0}")]
    Trouble(Trouble),
}

/// What else can change of a mount that goes on.
#[derive(Clone, PartialEq, Debug)]
pub struct Live {
    /// How mirrors are chosen; none: as it is now, which somebody may have switched.
    pub strategy: Option<scheduler::Strategy>,
    /// Late demand is asked of a second mirror too.
    pub hedging: bool,
    /// What all mirrors together are asked for at most, in bytes per second.
    pub rate_limit: Option<u64>,
    /// A read fails after this long without a byte.
    pub read_timeout: Duration,
    /// A read fails after this long in any case; not shorter than `read_timeout`.
    pub read_deadline: Duration,
    /// How long names and attributes are believed.
    pub entry_lifetime: Duration,
}

impl Engine {
    /// Have these mirrors from here on, in any order. Whoever is not among them is taken out: what is under way from it
    /// goes to the others. One at a time.
    ///
    /// # Errors
    /// Then nothing was changed.
    pub async fn set_mirrors(self: &Arc<Self>, wanted: Vec<Wanted>) -> Result<MirrorsChanged, NotChanged> {
        let before = self.plane.mirrors.all();
        let mut members: Vec<Arc<Member>> = before.to_vec();
        let mut configured = vec![None; members.len()];
        let mut changed = MirrorsChanged::default();
        let mut to_list = MirrorSet::new();
        for Wanted { url, clients, configured: given } in wanted {
            let label = label(&url);
            let at = members.iter().position(|member| member.label == label);
            let is_back = at.is_none_or(|at| !members[at].in_use);
            let has_news = is_back || clients.is_some();
            let at = match (at, clients) {
                (Some(at), clients) => {
                    members[at] = Arc::new(members[at].with(clients));
                    at
                }
                (None, Some(clients)) => {
                    members.push(Arc::new(Member::new(clients)));
                    configured.push(None);
                    members.len() - 1
                }
                (None, None) => unreachable!("a mirror that was never there comes with its clients"),
            };
            configured[at] = Some(given);
            if has_news {
                to_list.insert(MirrorId(at as u16));
            }
            if is_back {
                changed.added.push(members[at].url());
            }
        }
        if members.len() > MIRRORS_MAX {
            return Err(NotChanged::TooMany);
        }
        let goes = |at: usize| configured[at].is_none() && members[at].in_use;
        let going: Vec<usize> = (0..members.len()).filter(|&at| goes(at)).collect();
        changed.removed = going.iter().map(|&at| members[at].url()).collect();
        let stays = self.ask(|_, scheduler| scheduler.configured()).await.map_err(NotChanged::Trouble)?;
        let removed = Configured { in_use: false, weight: 1.0, tier: 0, rate_limit: None };
        let mut told: Vec<Configured> =
            (0..members.len()).map(|at| configured[at].or_else(|| stays.get(at).copied()).unwrap_or(removed)).collect();
        let others = !changed.added.is_empty() || !to_list.is_empty();
        self.tell_mirrors(&members, &told, others, before.len()).await.map_err(NotChanged::Trouble)?;
        if !to_list.is_empty() {
            self.tree.list_what_is_open(&to_list).await;
        }
        if !going.is_empty() {
            for at in going {
                members[at] = Arc::new(members[at].out_of_use());
                told[at] = removed;
            }
            self.tell_mirrors(&members, &told, true, members.len()).await.map_err(NotChanged::Trouble)?;
        }
        Ok(changed)
    }

    /// To everyone who goes by them, in the order in which they use each other. Those from `new_from` on are new.
    async fn tell_mirrors(
        self: &Arc<Self>,
        members: &[Arc<Member>],
        told: &[Configured],
        others: bool,
        new_from: usize,
    ) -> Result<(), Trouble> {
        self.plane.mirrors.set(members.to_vec());
        let histories = match new_from < members.len() {
            true => {
                let plane = self.plane.clone();
                let read = self.runtime().spawn_blocking(move || history::of_new(&plane, new_from));
                read.await.unwrap_or_default()
            }
            false => Vec::new(),
        };
        let mirrors = told.to_vec();
        self.ask(move |time, scheduler| {
            scheduler.handle(time, Event::MirrorsChanged { mirrors });
            histories.into_iter().for_each(|(mirror, history)| scheduler.suppose(time, mirror, history));
        })
        .await?;
        if others {
            let in_use = (0..members.len()).filter(|&at| members[at].in_use).map(|at| MirrorId(at as u16)).collect();
            let labels = members.iter().map(|member| member.label).collect();
            self.tree.namespace.write().mirrors_changed(labels, in_use, now());
            self.tree.refresh_opened();
        }
        Ok(())
    }

    /// Go by these from here on. What waits already is held to them too.
    pub async fn set_live(&self, live: Live) -> Result<(), Trouble> {
        let settings = crate::fetch::Settings {
            read_timeout: live.read_timeout,
            read_deadline: live.read_deadline,
            ..self.plane.settings()
        };
        self.plane.set_settings(settings);
        self.tree.namespace.write().set_lifetime(live.entry_lifetime);
        self.ask(move |time, scheduler| {
            let now = scheduler.settings().clone();
            let strategy = live.strategy.unwrap_or(now.strategy);
            let (hedging, rate_limit) = (live.hedging, live.rate_limit);
            let settings = Box::new(scheduler::Settings { strategy, hedging, rate_limit, ..now });
            scheduler.handle(time, Event::SettingsChanged { settings });
        })
        .await
    }

    /// Other rules for parts of the tree, for the files that are opened after this.
    pub fn set_rules(&self, rules: Rules) {
        self.plane.set_rules(rules);
    }
}

impl crate::fetch::tree::Tree {
    /// The folders of all that is open, and the root, as `mirrors` list them, so that their files are known to be theirs.
    /// No longer than is decent.
    async fn list_what_is_open(self: &Arc<Self>, mirrors: &MirrorSet) {
        let folders: BTreeSet<_> = {
            let namespace = self.namespace.read();
            let open = self.plane.opened.all();
            open.iter().filter_map(|file| namespace.name(file.inode)).map(|(folder, _)| folder).chain([ROOT]).collect()
        };
        let all = async {
            let mut flights: Vec<_> = Vec::with_capacity(folders.len());
            for folder in folders {
                // One that began before knows nothing of them.
                self.heard_within(folder, self.plane.settings().relist_patience).await;
                flights.push(self.fly_among(folder, Some(mirrors.clone())));
            }
            for flight in &mut flights {
                let _ = flight.wait_for(|flight| flight.over).await;
            }
        };
        let _ = tokio::time::timeout(self.plane.settings().relist_patience, all).await;
    }
}
