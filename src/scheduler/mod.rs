//! Every decision: order, dedupe, mirror, window, readahead. Pure: no I/O, no locks, no clock.
//!
//! Events go in with the time, actions come out: [`Scheduler::handle`] each event, then
//! [`Scheduler::poll_action`] until there is none, then sleep until [`Scheduler::poll_timeout`] or the
//! next event. The same seed and the same events give the same actions.
//!
//! | file | one idea |
//! |---|---|
//! | `event` `action` | the seam |
//! | `table` `files` `opening` `blamed` | each page's state; what is known of a file, from when until when, and after that |
//! | `wants` `queueing` `streak` `readahead` | who wants what, and what of it is queued; who reads in order, and what readers will want soon |
//! | `sampling` `window` `average` `meter` | how often progress is sampled, what came of late, and the rate that comes of it |
//! | `probing` | a byte from those who have nothing to do |
//! | `mirror` `breaker` `connections` | what is known of a mirror, whether it is asked, and how many fetches at a time |
//! | `configured` `history` | what is given of it, and what an earlier mount measured |
//! | `mirrors` `marks` `lanes` `figures` | which mirrors changed; sets of them; what a choice and what a strategy sees of each |
//! | `strategy` `pick` `plan` | the strategies; who gets a range; what to start now |
//! | `predictor` | by what completions have shown the adaptive prediction to be off |
//! | `experiment` `slicing` | slices of time for arms, and what each brought; whose settings are in force |
//! | `weight` `trouble` `stability` `drift` | how load and failures count against a mirror; is it still what it was |
//! | `class_weight` `rule` | what a class counts on a mirror; what a path rule says of a file |
//! | `tier` `rate_cap` | who is asked last; how much is asked for in a second |
//! | `distribution` `tail` | latencies of late; when the background yields to demand |
//! | `agreement` `comparing` `dispute` | whose bytes may be in one file together; how that is found out; what comes of it |
//! | `headroom` `hedge` | what prefetch leaves free; a second fetch for a late one |
//! | `explain` `origins` | why it was decided so; who brought which pages |
//! | `fetches` `arrive` | what is in flight, and what comes of it |
//! | `stall` `failing` | silence, lateness, failures, being offline |
//! | `settings` `snapshot` `invariants` | what can be set, seen, and relied on |
//!
//! Invariant: each page of a file is absent, queued, in flight or held, and is in flight exactly while one
//! live fetch owns it.

pub mod action;
mod agreement;
mod arrive;
mod average;
mod blamed;
mod breaker;
mod class_weight;
mod comparing;
mod configured;
mod connections;
mod dispute;
mod distribution;
mod drift;
pub mod event;
pub mod experiment;
pub mod explain;
mod failing;
mod fetches;
mod figures;
mod files;
mod fresh;
mod headroom;
mod hedge;
mod history;
mod invariants;
mod lanes;
mod marks;
mod meter;
mod mirror;
mod mirrors;
mod opening;
pub mod origins;
mod pick;
mod plan;
mod predictor;
mod probing;
mod queueing;
pub mod rate_cap;
mod readahead;
mod rule;
mod sampling;
mod settings;
mod slicing;
mod snapshot;
mod stability;
mod stall;
pub mod strategy;
pub mod streak;
mod table;
mod tail;
mod tier;
mod trouble;
mod wants;
mod weight;
mod window;

pub use action::{Action, ComparisonId, Hopeless};
pub use agreement::{BadVerify, Standing, Verify};
pub use breaker::{BreakerState, Reason};
pub use configured::Configured;
pub use event::{Event, Failure, Verdict};
pub use history::{Aged, FirstByte, History, Supposition};
pub use mirror::Failures;
pub use rule::FileRule;
pub use settings::{Settings, SettingsError};
pub use snapshot::{ConnectionStability, HedgeCounts, Learned, Live, MirrorSnapshot, Snapshot};
pub use strategy::Strategy;
pub use tail::TailSettings;
pub use tier::TIER_MAX;
pub use weight::Decay;

use crate::chunk::{FetchId, Inode, MIRRORS_MAX, MirrorId, Pages, ReaderId};
use crate::clock::Time;
use blamed::Blamed;
use comparing::Comparing;
use experiment::Experiment;
use explain::{Decided, Ring};
use fetches::Fetches;
use files::File;
use headroom::Headroom;
use hedge::Hedges;
use lanes::Lanes;
use mirror::Mirror;
use mirrors::Mirrors;
use origins::{Origin, Origins};
use plan::Decision;
use probing::Probing;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rate_cap::Bucket;
use readahead::Stream;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use table::State;
use tail::Tail;
use wants::Wants;

/// How often running fetches are looked at for silence and lateness: a tenth of the least stall.
const TICK: Duration = Duration::from_millis(25);
/// Woken this much too late, we do not blame the mirrors for our own silence.
const OVERSLEPT: Duration = Duration::from_millis(40);
/// Events that wait for us after that are given so long to be told.
const GRACE: Duration = Duration::from_millis(60);
/// A want for what is held already stays so long, in case what was held is being dropped just now.
const SETTLING: Duration = Duration::from_millis(100);
/// Breakers go on probing so long after somebody last wanted anything; an idle mount is quiet.
const INTEREST: Duration = Duration::from_secs(60);

/// The state machine that decides everything.
#[derive(Debug)]
pub struct Scheduler {
    /// What it goes by: the same as what was given, but while an experiment runs.
    settings: Settings,
    given: Settings,
    experiment: Option<Box<Experiment>>,
    /// What configuration gives the mirrors for weights does not count just now.
    even_weights: bool,
    rng: StdRng,
    mirrors: Mirrors,
    lanes: Lanes,
    files: BTreeMap<Inode, File>,
    blamed: Blamed,
    wants: Wants,
    streams: BTreeMap<ReaderId, Stream>,
    fetches: Fetches,
    out: VecDeque<Action>,
    /// What the pass has decided on, kept empty between passes for its memory.
    decided: Vec<Decision>,
    /// Something changed that a planning pass may act on.
    dirty: bool,
    /// Memory that background fetches may still take, in bytes.
    budget_bytes: u64,
    /// Bytes given to readahead and to prefetch, over their weights.
    served: [f64; 2],
    /// The last decisions.
    ring: Ring,
    /// Who brought the last pages.
    origins: Origins,
    /// What was drawn for the next one, where lots are drawn.
    lot: f64,
    tail: Tail,
    hedges: Hedges,
    headroom: Headroom,
    probing: Probing,
    comparing: Comparing,
    /// When the first fetch is late enough for a hedge.
    hedge_due: Option<Time>,
    /// The largest weight that configuration gives a mirror.
    base_weight_max: f64,
    /// Equal mirrors are taken in an order that begins here.
    rotation: usize,
    next_tick: Time,
    /// Before this, silence is ours and not the mirrors'.
    blameless_until: Time,
    /// What the cap on all mirrors together leaves.
    bucket: Bucket,
    /// When a cap lets something go on that waits.
    cap_due: Option<Time>,
    /// Fetches that a reader waits for and that hardly move: their mirrors start nothing of the background.
    crowded_out: Vec<FetchId>,
    /// Not all mirrors are of one tier.
    tiered: bool,
    demand_paused_until: Option<Time>,
    background_paused_until: Option<Time>,
    wanted_at: Option<Time>,
    /// Since when no mirror may be asked.
    down_since: Option<Time>,
    /// When to look whether that is being offline.
    offline_due: Option<Time>,
    /// When the first mirror that is rested for a file may be asked again.
    rest_due: Option<Time>,
    offline_since: Option<Time>,
    /// Somebody waits for a mirror whose breaker is open.
    hurried: bool,
    /// A fetch was launched.
    begun: bool,
    alerts: u64,
}

impl Scheduler {
    /// A scheduler of `mirrors` mirrors, all unknown. At most [`MIRRORS_MAX`] are used.
    pub fn new(settings: Settings, mirrors: usize, seed: u64, now: Time) -> Scheduler {
        let mut rng = StdRng::seed_from_u64(seed);
        let mirrors: Vec<Mirror> = (0..mirrors.min(MIRRORS_MAX)).map(|_| Mirror::new(now)).collect();
        let rotation = rng.random_range(0..mirrors.len().max(1));
        let mut bucket = Bucket::default();
        bucket.set(now, settings.rate_limit.map(|limit| limit as f64));
        let comparing = Comparing::new(mirrors.len());
        Scheduler {
            budget_bytes: settings.pool_bytes / 2,
            tail: Tail::new(settings.tail),
            given: settings.clone(),
            settings,
            experiment: None,
            even_weights: false,
            rng,
            mirrors: Mirrors::new(mirrors),
            lanes: Lanes::default(),
            files: BTreeMap::new(),
            blamed: Blamed::default(),
            wants: Wants::default(),
            streams: BTreeMap::new(),
            fetches: Fetches::default(),
            out: VecDeque::new(),
            decided: Vec::new(),
            dirty: false,
            served: [0.0; 2],
            ring: Ring::new(),
            origins: Origins::new(),
            lot: 0.5,
            hedges: Hedges::new(),
            headroom: Headroom::default(),
            probing: Probing::new(now),
            comparing,
            hedge_due: None,
            base_weight_max: 1.0,
            rotation,
            next_tick: now,
            blameless_until: now,
            bucket,
            cap_due: None,
            crowded_out: Vec::new(),
            tiered: false,
            demand_paused_until: None,
            background_paused_until: None,
            wanted_at: None,
            down_since: None,
            offline_due: None,
            rest_due: None,
            offline_since: None,
            hurried: false,
            begun: false,
            alerts: 0,
        }
    }

    /// Take note of something that happened. Events about unknown files, fetches and mirrors are ignored:
    /// they were on their way when what they speak of ended.
    pub fn handle(&mut self, now: Time, event: Event) {
        self.turn_slice(now);
        match event {
            Event::Opened { file, size_bytes, mirrors, held, rule } => {
                self.on_opened(file, size_bytes, mirrors, &held, rule);
            }
            Event::Agreed { file, mirrors, confirmed } => self.on_agreed(file, &mirrors, confirmed),
            Event::Compared { comparison, result } => self.on_compared(now, comparison, result),
            Event::Served { file, mirrors, awaited } => self.on_served(file, mirrors, awaited),
            Event::Forgotten { file } => self.on_forgotten(now, file),
            Event::Wanted { file, pages, class, reader, deadline } => {
                self.on_wanted(now, file, pages, class, reader, deadline);
            }
            Event::Streak { reader, file, position, length_pages } => {
                self.on_streak(now, reader, file, position, length_pages);
            }
            Event::Closed { reader } => self.on_closed(now, reader),
            Event::Connected { fetch } => self.on_connected(now, fetch),
            Event::FirstByte { fetch } => self.on_first_byte(now, fetch),
            Event::Progress { fetch, total_bytes } => self.on_progress(now, fetch, total_bytes),
            Event::Arrived { fetch, pages } => self.on_arrived(now, fetch, pages),
            Event::Finished { fetch } => self.on_finished(now, fetch),
            Event::Failed { fetch, failure } => self.on_failed(now, fetch, failure),
            Event::Dropped { file, pages } => self.on_dropped(now, file, pages),
            Event::ProbeDone { mirror, result } => self.on_probe_done(now, mirror, result),
            Event::MirrorSeen { mirror, result } => self.on_mirror_seen(now, mirror, result),
            Event::Blamed { mirror, file } => self.blame(now, mirror, Some(file), Failure::Corrupt),
            Event::NobodyAnswers => self.on_nobody_answers(now),
            Event::BudgetChanged { background_bytes } => {
                self.dirty |= background_bytes > self.budget_bytes;
                self.budget_bytes = background_bytes;
            }
            Event::SettingsChanged { settings } => self.on_settings(now, *settings),
            Event::MirrorsChanged { mirrors } => self.on_mirrors(now, &mirrors),
            Event::ExperimentStarted { plan } => self.on_experiment_started(now, plan),
            Event::ExperimentStopped => self.on_experiment_stopped(now),
            Event::Tick => {}
        }
    }

    /// The next thing to do. Ask until there is none.
    pub fn poll_action(&mut self, now: Time) -> Option<Action> {
        if self.out.is_empty() {
            if self.poll_timeout().is_some_and(|due| due <= now) {
                self.on_time(now);
            }
            if std::mem::take(&mut self.dirty) {
                self.plan(now);
                self.hurry(now);
            }
        }
        self.out.pop_front()
    }

    /// When to send [`Event::Tick`] if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Time> {
        let mut due = Time::NEVER;
        let mut at = |time: Option<Time>| due = due.min(time.unwrap_or(Time::NEVER));
        // What it was for may have been served.
        at(self.wants.expiry.filter(|_| !self.wants.is_empty()));
        at(self.demand_paused_until);
        at(self.background_paused_until);
        at(self.rest_due);
        at(self.hedge_due);
        at(self.headroom.due);
        at(self.cap_due);
        at(self.probing.due);
        at(self.comparing.due);
        if self.fetches.live > 0 {
            at(Some(self.next_tick));
        }
        if self.interested() {
            self.each_timed(|mirror| at(mirror.breaker.timeout(&self.settings)));
        }
        if self.offline_since.is_none() {
            at(self.offline_due);
        }
        (due < Time::NEVER).then_some(due)
    }

    /// What was given to go by; while an experiment runs, that is one arm's.
    #[expect(clippy::misnamed_getters, reason = "who asks changes what was given, not what an arm makes of it")]
    pub fn settings(&self) -> &Settings {
        &self.given
    }

    /// The last decisions, oldest first.
    pub fn decisions(&self) -> impl Iterator<Item = &Decided> {
        self.ring.iter()
    }

    /// How many decisions there were, those too that are not kept any more.
    pub fn decisions_made(&self) -> u64 {
        self.ring.made
    }

    /// How each mirror of an open file stands to what is held of it.
    pub fn standings(&self, file: Inode) -> Vec<(MirrorId, Standing)> {
        let Some(known) = self.files.get(&file) else { return Vec::new() };
        known.mirrors.iter().map(|mirror| (mirror, known.agreement.standing(mirror))).collect()
    }

    /// Is this page on its way?
    pub fn is_coming(&self, file: Inode, page: u64) -> bool {
        let one = Pages::new(page, page + 1);
        self.files.get(&file).is_some_and(|known| known.table.count(one, State::InFlight) > 0)
    }

    /// Bytes that were asked for only to be compared, so far.
    pub fn compared_bytes(&self) -> u64 {
        self.comparing.bytes
    }

    /// Who brought this page last, where that is still known.
    pub fn origin(&self, file: Inode, page: u64) -> Option<Origin> {
        self.origins.of(file, page)
    }

    /// Who brought which pages of a file, the newest first, as far as that is still known.
    pub fn origins_of(&self, file: Inode) -> Vec<Origin> {
        self.origins.of_file(file)
    }

    /// Is this fetch on its way still?
    pub fn is_in_flight(&self, fetch: FetchId) -> bool {
        self.fetches.all.get(&fetch).is_some_and(|fetch| !fetch.cancelled)
    }

    /// Is it known that no mirror answers?
    pub fn offline(&self) -> bool {
        self.offline_since.is_some()
    }

    /// Somebody wants something, or did a minute ago, or is told that we are offline: breakers are probed.
    fn interested(&self) -> bool {
        self.offline_since.is_some() || !self.wants.is_empty() || self.fetches.live > 0 || self.wanted_at.is_some()
    }

    fn alert(&mut self, mirror: Option<MirrorId>, file: Option<Inode>, what: String) {
        self.alerts += 1;
        self.out.push_back(Action::Alert { mirror, file, what });
    }
}
