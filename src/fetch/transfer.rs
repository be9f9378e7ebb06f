//! One fetch: a request to one mirror, its body into the pool, its pages to whoever waits.

use crate::cache::pool::{Filler, Reservation};
use crate::chunk::{Class, FetchId, MirrorId, MirrorSet, PAGE_BYTES, Pages};
use crate::fetch::hashes;
use crate::fetch::keeper::Keeper;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::{Doubt, Plane};
use crate::fetch::room;
use crate::fetch::slow::{self, Bringer, Outcome, Wait};
use crate::scheduler::{self, Event};
use crate::sources::{Answer, Body, Failure, FailureKind, Hasher, Part, RangeAsk};
use bytes::Bytes;
use std::cell::Cell;
use std::sync::Arc;
use std::task::Poll;

/// A whole body takes memory in stretches of this many pages (256 KiB): few reservations, and little is
/// held before its bytes come.
const WHOLE_STRETCH_PAGES: u64 = 64;

/// What a fetch is.
pub struct Transfer {
    /// Its id.
    pub fetch: FetchId,
    /// Who is asked.
    pub mirror: MirrorId,
    /// For which file version.
    pub file: Arc<OpenFile>,
    /// For which pages.
    pub pages: Pages,
    /// For what.
    pub class: Class,
    /// Without a range.
    pub whole: bool,
    /// Whether its bytes may be used: not known before the first page, and then for good.
    pub admitted: Cell<Option<bool>>,
    /// Another fetch for the same was late. Looked up only where somebody wants to know of slow reads.
    pub is_hedge: bool,
    /// What is noted of it for slow reads, once it runs.
    pub wait: Option<Arc<Wait>>,
}

/// The mirrors of this mount whose bytes may be in a file.
pub fn believed_mirrors(plane: &Plane, file: &OpenFile) -> MirrorSet {
    let believed = file.believed();
    let mirrors = plane.mirrors.all();
    let labels = mirrors.iter().enumerate();
    labels.filter(|(_, mirror)| believed.contains(&mirror.label)).map(|(at, _)| MirrorId(at as u16)).collect()
}

/// Says how the fetch ended, exactly once, even when its task is dropped in the middle.
struct Ending {
    plane: Arc<Plane>,
    file: Arc<OpenFile>,
    fetch: FetchId,
    event: Option<Event>,
    wait: Option<Arc<Wait>>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.plane.metrics.fetches_in_flight.sub(1);
        self.file.usage.ended(self.fetch);
        if let Some(wait) = &self.wait {
            wait.ended(Outcome::Cancelled);
        }
        let cancelled = Event::Failed { fetch: self.fetch, failure: scheduler::Failure::Cancelled };
        self.plane.inbox.tell(self.event.take().unwrap_or(cancelled));
        // Who waits for pages without reading them looks again.
        self.file.changed.notify_waiters();
    }
}

impl Transfer {
    /// Run it to its end. `memory` is reserved for its pages, or for none where the body is a whole file.
    pub async fn run(mut self, plane: Arc<Plane>, memory: Option<Reservation>) {
        plane.metrics.fetches.add(1);
        plane.metrics.fetches_in_flight.add(1);
        self.file.usage.begins(self.fetch, self.pages);
        self.wait = slow::begins(&plane, &self.file, self.pages, || self.bringer(&plane));
        let (file, wait) = (self.file.clone(), self.wait.clone());
        let mut ending = Ending { plane: plane.clone(), file, fetch: self.fetch, event: None, wait };
        let result = self.bring(&plane, memory).await;
        self.note_end(&result);
        ending.event = Some(match result {
            Ok(()) => {
                plane.served(self.mirror, &self.file);
                Event::Finished { fetch: self.fetch }
            }
            Err(_) if self.admitted.get() == Some(false) => {
                // Others were first, and it was not compared with them. Who they are is news to who sent it.
                let mirrors = believed_mirrors(&plane, &self.file);
                let confirmed = mirrors.len() >= 2;
                plane.inbox.tell(Event::Agreed { file: self.file.inode, mirrors, confirmed });
                Event::Failed { fetch: self.fetch, failure: scheduler::Failure::Cancelled }
            }
            Err(failure) => {
                plane.metrics.fetch_failures.add(1);
                doubt(&plane, &self.file, self.mirror, &failure);
                tracing::debug!(mirror = self.mirror.0, pages = ?self.pages, why = failure.why, "a fetch failed");
                Event::Failed { fetch: self.fetch, failure: plane.failed(self.mirror, &failure) }
            }
        });
    }

    fn bringer(&self, plane: &Plane) -> Bringer {
        let mirror = plane.mirrors.of(self.mirror).url();
        Bringer::Fetch { fetch: self.fetch, mirror, class: self.class, is_hedge: self.is_hedge }
    }

    fn note_end(&self, result: &Result<(), Failure>) {
        if let Some(wait) = &self.wait {
            wait.ended(match result {
                Ok(()) => Outcome::Done,
                Err(failure) => Outcome::Failed(failure.why.clone()),
            });
        }
    }

    /// Body bytes have come, whatever becomes of them.
    fn brought(&self, plane: &Plane, bytes: u64) {
        plane.brought(self.mirror, bytes);
        if let Some(wait) = &self.wait {
            wait.brought(bytes);
        }
    }

    async fn bring(&self, plane: &Arc<Plane>, memory: Option<Reservation>) -> Result<(), Failure> {
        let member = plane.mirrors.of(self.mirror);
        let (source, label) = (&member.source, member.label);
        let validator = self.file.validator(label);
        let bytes = if self.whole { 0..self.file.size_bytes } else { self.pages.bytes(self.file.size_bytes) };
        let ask = RangeAsk {
            path: &self.file.path,
            bytes,
            size_bytes: self.file.size_bytes,
            validator: validator.as_ref(),
            whole: self.whole,
        };
        plane.inbox.tell(Event::Connected { fetch: self.fetch });
        let answer = source.open(&ask).await?;
        plane.answered();
        if let Some(wait) = &self.wait {
            wait.answered();
        }
        accept(plane, &self.file, self.mirror, &answer)?;
        plane.inbox.tell(Event::FirstByte { fetch: self.fetch });
        match memory {
            Some(memory) => self.pour(plane, &ask, answer, &memory).await,
            None => self.pour_whole(plane, answer).await,
        }
    }

    /// The body of a range into the memory that is reserved for it. Where the mirror says what it hashes to, nobody
    /// sees any of it before that is found to be so.
    async fn pour(
        &self,
        plane: &Arc<Plane>,
        ask: &RangeAsk<'_>,
        mut answer: Answer,
        memory: &Reservation,
    ) -> Result<(), Failure> {
        let mut keeper = Keeper::new(plane.clone(), self.file.clone(), self.class);
        let mut filler = memory.filler(self.pages, self.file.size_bytes);
        let mut check = answer.part.take().map(|part| (Hasher::new(part.digest.algorithm()), part));
        if check.is_some() {
            filler.hold_back();
        }
        let mut total_bytes = 0;
        while let Some(body) = next_of(&mut keeper, &mut answer.body, &mut filler).await? {
            total_bytes += body.len() as u64;
            self.brought(plane, body.len() as u64);
            if let Some((hasher, _)) = &mut check {
                hasher.update(&body);
            }
            self.admit(plane, &filler, body.len())?;
            self.take_in(plane, &mut filler, &body, total_bytes, &mut keeper).await;
        }
        if let Some((hasher, part)) = check {
            self.check(plane, ask, &answer, hasher, &part).await?;
            let mut arrived = Vec::new();
            filler.publish(|pages| arrived.push(pages));
            self.tell(plane, arrived, self.pages.end, &mut keeper).await;
        }
        keeper.finish().await;
        Ok(())
    }

    /// Does the body hash to what its mirror said?
    async fn check(
        &self,
        plane: &Plane,
        ask: &RangeAsk<'_>,
        answer: &Answer,
        hasher: Hasher,
        part: &Part,
    ) -> Result<(), Failure> {
        let found = hasher.finish();
        if found == part.digest {
            return Ok(());
        }
        let source = &plane.mirrors.of(self.mirror).source;
        if part.unsure && source.sends_md5_of_whole(ask, &part.digest).await {
            return Ok(());
        }
        Err(answer.body.contradicted(&part.digest, &found))
    }

    /// The body of a whole file: memory is reserved as it comes, and waited for where there is none,
    /// so that a file larger than the memory streams at the pace of its reader. What lies before a
    /// read that waits further on and finds no memory is let go.
    async fn pour_whole(&self, plane: &Arc<Plane>, mut answer: Answer) -> Result<(), Failure> {
        let mut keeper = Keeper::new(plane.clone(), self.file.clone(), self.class);
        let stretches = Pages::of_file(self.file.size_bytes).split(WHOLE_STRETCH_PAGES);
        let (mut total_bytes, mut rest) = (0, bytes::Bytes::new());
        for stretch in stretches {
            let memory = room::wait_for(plane, &self.file, stretch).await;
            let mut filler = memory.as_ref().map(|memory| memory.filler(stretch, self.file.size_bytes));
            let mut left = stretch.len_bytes(self.file.size_bytes) as usize;
            while left > 0 {
                if rest.is_empty() {
                    let next = match &mut filler {
                        Some(filler) => next_of(&mut keeper, &mut answer.body, filler).await?,
                        None => keeper.next_of(&mut answer.body).await?,
                    };
                    let Some(body) = next else { return Ok(()) };
                    self.brought(plane, body.len() as u64);
                    total_bytes += body.len() as u64;
                    rest = body;
                }
                let part = rest.split_to(left.min(rest.len()));
                left -= part.len();
                let Some(filler) = &mut filler else {
                    plane.metrics.wasted_bytes.add(part.len() as u64);
                    continue;
                };
                self.admit(plane, filler, part.len())?;
                self.take_in(plane, filler, &part, total_bytes, &mut keeper).await;
            }
            keeper.hand_over().await;
        }
        // The body ends here or lies about its length: one more look finds out.
        answer.body.next().await?;
        keeper.finish().await;
        Ok(())
    }

    /// Before the first page is whole: may it be used? Whoever is first may; others only if they serve the same.
    fn admit(&self, plane: &Plane, filler: &Filler, length: usize) -> Result<(), Failure> {
        let end = filler.position() + length as u64;
        let completes = end / PAGE_BYTES > filler.position() / PAGE_BYTES || end >= self.file.size_bytes;
        if self.admitted.get().is_none() && completes {
            self.admitted.set(Some(self.file.admits(plane.mirrors.of(self.mirror).label)));
        }
        match self.admitted.get() {
            Some(false) => {
                let why = "another mirror was first, and this one was not compared with it".into();
                Err(Failure { kind: FailureKind::Unreachable, why })
            }
            _ => Ok(()),
        }
    }

    /// Body bytes into memory, and word of them to whom it concerns.
    async fn take_in(
        &self,
        plane: &Arc<Plane>,
        filler: &mut Filler,
        bytes: &[u8],
        total_bytes: u64,
        keeper: &mut Keeper,
    ) {
        let skipped = filler.skipped_bytes();
        // Nearly always one run; a vector allocates only where there is any.
        let mut arrived = Vec::new();
        filler.fill(bytes, |pages| arrived.push(pages));
        let skipped = filler.skipped_bytes() - skipped;
        plane.metrics.wasted_bytes.add(skipped);
        let reached = filler.position() / PAGE_BYTES;
        // Pages that arrive tell of progress themselves, and are as good a sign of life; bytes that were let go do not
        // count among them. The scheduler samples what it is told as often as the bandwidth says (spec 2.4).
        if arrived.is_empty() || self.whole || filler.skipped_bytes() > 0 {
            plane.inbox.tell(Event::Progress { fetch: self.fetch, total_bytes });
        }
        // Bytes that were let go, because another fetch is at their page, are no progress for who waits.
        if arrived.is_empty() && skipped == 0 {
            let none = Pages::new(reached, reached);
            plane.waiting.published(self.file.inode, none, reached, &plane.pool, &plane.metrics);
        }
        self.tell(plane, arrived, reached, keeper).await;
    }

    /// These pages are held now.
    async fn tell(&self, plane: &Arc<Plane>, arrived: Vec<Pages>, reached: u64, keeper: &mut Keeper) {
        for pages in arrived {
            plane.waiting.published(self.file.inode, pages, reached, &plane.pool, &plane.metrics);
            self.file.watched.came(self.file.inode, self.file.size_bytes, pages, &plane.pool);
            plane.inbox.tell(Event::Arrived { fetch: self.fetch, pages });
            keeper.add(pages).await;
        }
        if self.file.disk.is_none() {
            hashes::consider(plane, &self.file);
        }
    }
}

/// The next bytes of a body. While there are none, others may bring the page that it stopped in.
async fn next_of(keeper: &mut Keeper, body: &mut Body, filler: &mut Filler) -> Result<Option<Bytes>, Failure> {
    let mut next = std::pin::pin!(keeper.next_of(body));
    let here = std::future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
    if let Poll::Ready(body) = here {
        return body;
    }
    filler.set_aside();
    next.await
}

/// Is this an answer about the version of `file`? Then what it says of it is remembered. Of a mirror that was never asked for
/// it, the date is all there is to tell by.
pub fn accept(plane: &Plane, file: &OpenFile, mirror: MirrorId, answer: &Answer) -> Result<(), Failure> {
    let label = plane.mirrors.of(mirror).label;
    if file.validator(label).is_none() && file.is_otherwise_dated(mirror, &answer.validator) {
        let url = plane.mirrors.of(mirror).url();
        let why = format!("{url} has a file of another date than it listed");
        let unix_s = answer.validator.last_modified.unwrap_or_default();
        return Err(Failure { kind: FailureKind::Redated { unix_s }, why });
    }
    file.confirmed(label, answer.validator.clone());
    file.hash_said(label, &answer.whole);
    Ok(())
}

/// The mirror has another version, or none: the listing is to be asked for again.
pub fn doubt(plane: &Plane, file: &OpenFile, mirror: MirrorId, failure: &Failure) {
    let unknown = file.validator(plane.mirrors.of(mirror).label).is_none();
    if unknown && matches!(failure.kind, FailureKind::Changed | FailureKind::Redated { .. }) {
        // Its own index says otherwise, and it has never served this version.
        plane.lied(mirror, &failure.why);
    }
    let file = file.inode;
    let doubt = match failure.kind {
        FailureKind::Missing => Doubt::Missing { file, mirror },
        FailureKind::Changed => Doubt::Changed { file, mirror },
        FailureKind::Redated { unix_s } => Doubt::Redated { file, mirror, unix_s },
        _ => return,
    };
    // The receiver lives as long as the mount; at its end nobody needs to know.
    let _ = plane.doubts.send(doubt);
}
