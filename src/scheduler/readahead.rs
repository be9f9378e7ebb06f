//! How far to fetch ahead of readers that go through a file in order.
//!
//! A window grows with what was read in order, up to a second of all mirrors, less where they are fast, and a share of the pool.
//! Who reads here and there has no streak, and gets what it asked for and nothing more.

use super::Scheduler;
use super::action::Action;
use super::mirror::FIRST_FETCH_BYTES;
use super::table::State;
use crate::chunk::{CHUNK_PAGES, Inode, PAGE_BYTES, Pages, ReaderId};
use crate::clock::Time;
use std::time::Duration;

/// A short streak is followed by twice as much again; a long one, which will probably go to the end of
/// the file, by four times.
const GROWTH: u64 = 2;
const GROWTH_LONG: u64 = 4;
const LONG_PAGES: u64 = 256;
/// The least window of a streak: one fetch to each of a few mirrors, so that they are learned.
const WINDOW_MIN_BYTES: u64 = 512 << 10;
/// And the most that two reads in order may lead to, however long the way: some only look at a file's head.
const WINDOW_FIRST_BYTES: u64 = 4 << 20;
/// The window holds so much of all mirrors' bandwidth: a mirror at a fiftieth of the sum can then bring
/// one of its fetches before the reader is there.
const WINDOW_SECONDS: f64 = 1.0;
/// And on fast links no more than gives the slowest of them so many bytes, a few of its fetches, in all windows together:
/// the rest would be memory that the kernel has to clear, which costs more time than the bytes (measured: 1,070 MB/s with a
/// window of 128 MiB, 1,450 with 32).
const WINDOW_SLOWEST_BYTES: f64 = (32 << 20) as f64;
/// But at least this, so that mirrors that are not known yet have something to show.
const WINDOW_KNOWN_BYTES: u64 = 8 << 20;
/// A position so little behind the last one is an older read that came later, not a jump: the kernel has
/// a few reads of at most 1 MiB under way.
const OVERTAKEN_PAGES: u64 = 1024;
/// A reader that has not moved for so long does not count in the sharing of the pool.
const IDLE: Duration = Duration::from_secs(5);

/// One reader that goes through a file in order.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) file: Inode,
    /// The page that it will want next, as far as we were told.
    pub(super) position: u64,
    /// Pages from its position to here are wanted.
    pub(super) window_end: u64,
    /// No queued page of its window is before this one.
    pub(super) from: u64,
    moved_at: Time,
}

impl Stream {
    pub(super) fn window(&self) -> Pages {
        Pages::new(self.position, self.window_end)
    }

    /// Has its reader moved of late?
    pub(super) fn is_read(&self, now: Time) -> bool {
        now.since(self.moved_at) < IDLE
    }
}

impl Scheduler {
    /// A reader has come to `position` after `length_pages` in order.
    pub(super) fn on_streak(&mut self, now: Time, reader: ReaderId, file: Inode, position: u64, length_pages: u64) {
        let Some(end) = self.files.get(&file).map(|known| known.table.pages().end) else { return };
        let old = self.streams.get(&reader).filter(|old| old.file == file);
        // Reads of one streak overtake each other on their way to us.
        let overtaken = old.filter(|old| (position..=position + OVERTAKEN_PAGES).contains(&old.position));
        let position = overtaken.map_or(position, |old| old.position);
        let jumped = old.is_none_or(|old| position < old.position || position > old.window_end);
        if jumped || length_pages == 0 {
            self.close_stream(now, reader);
        }
        if length_pages == 0 || position >= end {
            return;
        }
        let stream = Stream { file, position, window_end: position, from: position, moved_at: now };
        let stream = self.streams.entry(reader).or_insert(stream);
        let passed = Pages::new(std::mem::replace(&mut stream.position, position), position);
        stream.moved_at = now;
        self.unwant(file, passed);
        let window = self.window_pages(now, file, length_pages);
        let Some(stream) = self.streams.get_mut(&reader) else { return };
        let grown = Pages::new(stream.window_end.max(position), position.saturating_add(window).min(end));
        stream.window_end = stream.window_end.max(grown.end);
        if stream.window_end < end {
            let page = position + (window / 4).max(CHUNK_PAGES);
            self.out.push_back(Action::Mark { reader, file, page });
        }
        // Only what is new in the window: what was fetched before and let go unread is left to demand.
        if let Some(known) = self.files.get_mut(&file)
            && !grown.is_empty()
            && self.offline_since.is_none()
        {
            known.table.turn(grown, State::Absent, State::Queued);
            self.dirty = true;
        }
    }

    /// A demand read says where its reader is, between two marks.
    pub(super) fn moved(&mut self, now: Time, reader: ReaderId, file: Inode, page: u64) {
        if let Some(stream) = self.streams.get_mut(&reader)
            && stream.file == file
            && stream.window().contains(page)
        {
            let passed = Pages::new(std::mem::replace(&mut stream.position, page), page);
            stream.moved_at = now;
            self.unwant(file, passed);
        }
    }

    /// What was queued for this stream alone is not wanted any more; what is in flight goes on, unless it
    /// costs more than a connection.
    pub(super) fn close_stream(&mut self, now: Time, reader: ReaderId) {
        let Some(stream) = self.streams.remove(&reader) else { return };
        self.unwant(stream.file, stream.window());
        let unneeded: Vec<_> = self
            .fetches
            .of_file(stream.file)
            .filter(|(_, fetch)| !fetch.whole && !fetch.owned.iter().any(|&run| self.wanted(stream.file, run)))
            .filter(|(_, fetch)| {
                let mirror = &self.mirrors[usize::from(fetch.mirror.0)];
                let connection = mirror.rate(now) * 4.0 * mirror.latency_seconds();
                fetch.remaining_bytes() as f64 > connection.max(self.settings.whole_bytes_max as f64)
            })
            .map(|(id, _)| id)
            .collect();
        unneeded.into_iter().for_each(|id| self.cancel(now, id, false));
    }

    fn window_pages(&self, now: Time, file: Inode, length_pages: u64) -> u64 {
        let growth = if length_pages >= LONG_PAGES { GROWTH_LONG } else { GROWTH };
        let grown = length_pages.saturating_mul(growth * PAGE_BYTES);
        let active = self.streams.values().filter(|stream| now <= stream.moved_at + IDLE).count().max(1);
        let share = (self.settings.pool_bytes / 2 / active as u64).min(self.settings.readahead_bytes_max());
        let (mut rate, mut slowest, mut latency, mut trip_bytes) = (0.0, f64::INFINITY, 0.0f64, 0.0);
        if let Some(file) = self.files.get(&file) {
            for mirror in file.mirrors.iter().filter(|&mirror| file.serves(mirror, now)) {
                let Some(mirror) = self.mirrors.get(usize::from(mirror.0)) else { continue };
                if mirror.breaker.usable(now) {
                    rate += mirror.rate(now);
                    slowest = slowest.min(mirror.rate(now));
                    latency = latency.max(mirror.latency_seconds());
                    let trip = mirror.rate(now) * mirror.latency_seconds();
                    let unknown = FIRST_FETCH_BYTES as f64;
                    trip_bytes +=
                        if mirror.meter.known() { trip } else { unknown.max(trip * (1.0 - mirror.doubt(now))) };
                }
            }
        }
        // Less than a round trip holds would leave the link idle from the first reads on, and unknown mirrors unknown.
        let trip = (trip_bytes as u64).clamp(WINDOW_MIN_BYTES, WINDOW_FIRST_BYTES);
        let grown = grown.max(trip);
        let seconds = WINDOW_SECONDS.min(WINDOW_SLOWEST_BYTES / active as f64 / slowest);
        let useful = ((rate * (seconds + 2.0 * latency)) as u64).max(WINDOW_KNOWN_BYTES);
        let bytes = grown.min(useful).min(share);
        // A share under a chunk would be all request and no bytes; nothing ahead is better.
        if bytes < crate::chunk::CHUNK_BYTES { 0 } else { bytes / PAGE_BYTES }
    }
}
