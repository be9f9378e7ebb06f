//! A filler writes what arrives into reserved memory.

use super::memory::Claim;
use super::reservation::Ties;
use super::run::Owner;
use crate::chunk::{PAGE_BYTES, Pages};
use std::io;

/// Writes bytes of a file into memory that is reserved for them, and makes page after page held.
///
/// A page is claimed before a byte of it is written. Where it is claimed by another filler, held
/// already, or not reserved, its bytes are skipped and counted. A page that was skipped because
/// another filler was at it becomes held by that one, or by nobody where that one ends early: what
/// did not arrive is asked for again by whoever reckons up the fetches.
pub struct Filler {
    // Dropped before the ties: a claim is written to only while its run is reserved.
    open: Option<Claim<Owner>>,
    /// Whole runs that nobody may see yet, with their first pages; `None`: each is seen at once.
    held_back: Option<Vec<(u64, Claim<Owner>)>>,
    /// The first bytes of the page at which the position is, while it is claimed by nobody here.
    aside: Vec<u8>,
    ties: Ties,
    pages: Pages,
    size_bytes: u64,
    position: u64,
    skipped_bytes: u64,
}

impl Filler {
    pub(super) fn new(ties: Ties, pages: Pages, size_bytes: u64) -> Filler {
        let position = pages.start * PAGE_BYTES;
        Filler { open: None, held_back: None, aside: Vec::new(), ties, pages, size_bytes, position, skipped_bytes: 0 }
    }

    /// From now on pages that [`Filler::fill`] completes are not held before [`Filler::publish`]; dropped without it,
    /// they never are. For bodies that are checked as a whole.
    pub fn hold_back(&mut self) {
        self.held_back.get_or_insert_default();
    }

    /// The bytes are right: what was held back becomes held. Calls `arrived` for each run of pages, in order.
    pub fn publish(&mut self, mut arrived: impl FnMut(Pages)) {
        for (first, claim) in self.held_back.take().into_iter().flatten() {
            let count = claim.len_pages();
            claim.publish(count);
            arrived(Pages::new(first, first + count as u64));
        }
    }

    /// Where in the file the next byte goes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes that were taken in and written nowhere.
    pub fn skipped_bytes(&self) -> u64 {
        self.skipped_bytes
    }

    /// Takes the next bytes of the body, of any length. Calls `arrived` for each run of pages that
    /// became held by this call, in order. The last page of the file is padded with zeros.
    pub fn fill(&mut self, mut bytes: &[u8], mut arrived: impl FnMut(Pages)) {
        let mut whole = Pages::new(0, 0);
        while !bytes.is_empty() {
            let (taken, done) = self.step(bytes);
            bytes = &bytes[taken..];
            self.position += taken as u64;
            if done.start == whole.end {
                whole = Pages::new(if whole.is_empty() { done.start } else { whole.start }, done.end);
            } else if !done.is_empty() {
                if !whole.is_empty() {
                    arrived(whole);
                }
                whole = done;
            }
        }
        if !whole.is_empty() {
            arrived(whole);
        }
    }

    /// The next bytes are waited for: a page that is partly here is given back, so that another filler may bring it
    /// meanwhile, and claimed again when they come. Who waits for a page whose mirror fell silent in the middle of it
    /// would else wait until that fetch ends, whoever else was asked for it.
    pub fn set_aside(&mut self) {
        if let Some(mut claim) = self.open.take_if(|claim| claim.len_pages() == 1) {
            let here = (self.position % PAGE_BYTES) as usize;
            self.aside.extend_from_slice(&claim.bytes_mut()[..here]);
        }
    }

    /// The page that was set aside, its first bytes in place. `None` where another is at it, or was.
    fn take_up(&mut self, page: u64) -> Option<Claim<Owner>> {
        let mut claim = self.ties.run_of(page).and_then(|run| run.claim(run.place(page), 1));
        match &mut claim {
            Some(claim) => claim.bytes_mut()[..self.aside.len()].copy_from_slice(&self.aside),
            None => self.skipped_bytes += self.aside.len() as u64,
        }
        self.aside.clear();
        claim
    }

    /// Lets `read` bring `pages` (of those given to this filler; the position does not matter and
    /// does not move): it is called with each run of pages that can be written and their memory,
    /// whole pages, and answers how many bytes from the front are right. Full pages of these, and the
    /// file's last one where they reach its end, become held, and `arrived` is called. Bytes behind
    /// the end of the file are zeroed.
    ///
    /// Errors: those of `read`. What it brought before stays held.
    pub fn fill_with(
        &mut self,
        pages: Pages,
        mut read: impl FnMut(Pages, &mut [u8]) -> io::Result<usize>,
        mut arrived: impl FnMut(Pages),
    ) -> io::Result<()> {
        let mut at = pages.intersect(self.pages).start;
        let end = pages.intersect(self.pages).end;
        while at < end {
            let claim = self.ties.run_of(at).and_then(|run| run.claim(run.place(at), (end - at) as usize));
            let Some(mut claim) = claim else {
                at += 1;
                continue;
            };
            let span = Pages::new(at, at + claim.len_pages() as u64);
            let right = read(span, claim.bytes_mut())?.min(claim.bytes_mut().len());
            let count = self.whole_pages(span.start, right).min(span.count());
            self.pad(&mut claim, span.start);
            claim.publish(count as usize);
            if count > 0 {
                arrived(Pages::new(at, at + count));
            }
            at = span.end;
        }
        Ok(())
    }

    /// Takes some of `bytes`: how many, and which pages are held by that.
    fn step(&mut self, bytes: &[u8]) -> (usize, Pages) {
        let (page, offset) = (self.position / PAGE_BYTES, (self.position % PAGE_BYTES) as usize);
        let none = Pages::new(page, page);
        if self.position >= self.size_bytes || !self.pages.contains(page) {
            self.skipped_bytes += bytes.len() as u64;
            return (bytes.len(), none);
        }
        let page_left = ((page + 1) * PAGE_BYTES).min(self.size_bytes) - self.position;
        if self.open.is_none() && offset == 0 {
            let wanted = self.whole_pages(page, bytes.len()).max(1).min(self.pages.end - page);
            self.open = self.ties.run_of(page).and_then(|run| run.claim(run.place(page), wanted as usize));
        }
        if self.open.is_none() && !self.aside.is_empty() {
            self.open = self.take_up(page);
        }
        let Some(mut claim) = self.open.take() else {
            let taken = bytes.len().min(page_left as usize);
            self.skipped_bytes += taken as u64;
            return (taken, none);
        };
        let end = page + claim.len_pages() as u64;
        let left = (end * PAGE_BYTES).min(self.size_bytes) - self.position;
        let taken = bytes.len().min(left as usize);
        claim.bytes_mut()[offset..offset + taken].copy_from_slice(&bytes[..taken]);
        if (taken as u64) < left {
            self.open = Some(claim);
            return (taken, none);
        }
        self.pad(&mut claim, page);
        if let Some(held_back) = &mut self.held_back {
            held_back.push((end - claim.len_pages() as u64, claim));
            return (taken, none);
        }
        let count = claim.len_pages();
        claim.publish(count);
        (taken, Pages::new(page, end))
    }

    /// How many pages from `page` on are whole with `length` bytes.
    fn whole_pages(&self, page: u64, length: usize) -> u64 {
        let end = page * PAGE_BYTES + length as u64;
        match end >= self.size_bytes {
            true => self.size_bytes.div_ceil(PAGE_BYTES).saturating_sub(page),
            false => end / PAGE_BYTES - page,
        }
    }

    /// Zeros what a claim that begins with `page` has behind the end of the file.
    fn pad(&self, claim: &mut Claim<Owner>, page: u64) {
        let bytes = claim.bytes_mut();
        let file_bytes = self.size_bytes.saturating_sub(page * PAGE_BYTES).min(bytes.len() as u64);
        bytes[file_bytes as usize..].fill(0);
    }
}
