//! One answer of a simulated mirror, on its way.

use crate::chunk::{Class, FetchId, PAGE_BYTES, Pages};
use crate::clock::Time;
use crate::scheduler::{Event, Failure};
use std::time::Duration;

/// Less than a byte is no byte: what rounding leaves.
const NOTHING: f64 = 1e-3;

/// How an answer is going to end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    /// As it should.
    Ends,
    /// It breaks off after so many bytes.
    BreaksAt(f64),
    /// Nothing comes after so many bytes, for ever.
    StallsAt(f64),
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    Asked,
    Connected,
    /// Its first byte is here and was not told yet.
    Begun,
    Body,
}

/// One answer on its way.
#[derive(Debug)]
pub struct Flow {
    /// For which fetch.
    pub fetch: FetchId,
    /// Which pages it brings.
    pub pages: Pages,
    pub(super) class: Class,
    pub(super) stage: Stage,
    pub(super) connected_at: Time,
    pub(super) first_byte_at: Time,
    /// What its connection gets of a link, beside others.
    pub(super) weight: f64,
    length_bytes: u64,
    sent_bytes: f64,
    connected_told: bool,
    told_bytes: u64,
    told_pages: u64,
    fate: Fate,
}

impl Flow {
    pub(super) fn new(
        fetch: FetchId,
        pages: Pages,
        class: Class,
        length_bytes: u64,
        fate: Fate,
        connected_at: Time,
        first_byte_at: Time,
    ) -> Flow {
        Flow {
            fetch,
            pages,
            class,
            stage: Stage::Asked,
            connected_at: connected_at.min(first_byte_at),
            first_byte_at,
            weight: 1.0,
            length_bytes,
            sent_bytes: 0.0,
            connected_told: false,
            told_bytes: 0,
            told_pages: 0,
            fate,
        }
    }

    /// Its first byte is here.
    pub(super) fn begin(&mut self) {
        if matches!(self.stage, Stage::Asked | Stage::Connected) {
            self.stage = Stage::Begun;
        }
    }

    fn in_body(&self) -> bool {
        matches!(self.stage, Stage::Begun | Stage::Body)
    }

    fn end_bytes(&self) -> f64 {
        match self.fate {
            Fate::Ends => self.length_bytes as f64,
            Fate::BreaksAt(bytes) | Fate::StallsAt(bytes) => bytes,
        }
    }

    fn left_bytes(&self) -> f64 {
        self.end_bytes() - self.sent_bytes
    }

    /// Would it take more bytes now?
    pub(super) fn hungry(&self) -> bool {
        self.in_body() && self.left_bytes() > NOTHING
    }

    /// Give it so many bytes at most. Returns what it took.
    pub(super) fn take(&mut self, bytes: f64) -> f64 {
        let taken = if self.in_body() { bytes.min(self.left_bytes()).max(0.0) } else { 0.0 };
        self.sent_bytes += taken;
        taken
    }

    /// When it has something to say, if it gets `rate` from `updated_at` on.
    pub(super) fn next_moment(&self, updated_at: Time, grain: Duration, rate: f64) -> Time {
        match self.stage {
            Stage::Asked => self.connected_at,
            Stage::Connected => self.first_byte_at,
            Stage::Begun => updated_at,
            Stage::Body if self.left_bytes() <= NOTHING => match self.fate {
                Fate::StallsAt(_) => Time::NEVER,
                _ => updated_at,
            },
            Stage::Body if rate <= 0.0 => Time::NEVER,
            Stage::Body => {
                // Reports of all links fall on one grid, so that many mirrors make few batches.
                let grain_ns = grain.as_nanos() as u64;
                let grid = Time((updated_at.0 / grain_ns + 1) * grain_ns);
                let end_ns = (self.left_bytes() / rate * 1e9).ceil() as u64;
                grid.min(Time(updated_at.0.saturating_add(end_ns.max(1))))
            }
        }
    }

    /// Say what has come of it by `now`. Returns whether it goes on.
    pub(super) fn tell(&mut self, now: Time, lies: bool, events: &mut Vec<Event>) -> bool {
        let fetch = self.fetch;
        if !self.connected_told && self.connected_at <= now {
            self.connected_told = true;
            events.push(Event::Connected { fetch });
            self.stage = if self.stage == Stage::Asked { Stage::Connected } else { self.stage };
        }
        if !self.in_body() {
            return true;
        }
        if lies {
            events.push(Event::Failed { fetch, failure: Failure::Corrupt });
            return false;
        }
        if self.stage == Stage::Begun {
            self.stage = Stage::Body;
            events.push(Event::FirstByte { fetch });
        }
        let ended = self.left_bytes() <= NOTHING;
        let done = ended && self.fate == Fate::Ends;
        let pages = if done { self.pages.count() } else { (self.sent_bytes + NOTHING) as u64 / PAGE_BYTES };
        let total_bytes = (self.sent_bytes + NOTHING) as u64;
        if pages > self.told_pages {
            let run = Pages::new(self.pages.start + self.told_pages, self.pages.start + pages);
            self.told_pages = pages;
            events.push(Event::Arrived { fetch, pages: run });
        } else if total_bytes > self.told_bytes {
            events.push(Event::Progress { fetch, total_bytes });
        }
        self.told_bytes = total_bytes;
        if done {
            events.push(Event::Finished { fetch });
        } else if ended && matches!(self.fate, Fate::BreaksAt(_)) {
            events.push(Event::Failed { fetch, failure: Failure::Unreachable });
            return false;
        }
        !done
    }
}
