//! What the driver does about mirrors that may not serve the same: whose bytes may come into a file, comparisons, and
//! files that are kept from their readers.

use super::world::{READ_TIMEOUT, World};
use crate::chunk::{Class, FetchId, Inode, MirrorId, PAGE_BYTES, Pages};
use crate::scheduler::{Action, ComparisonId, Event, Failure, Verdict};
use std::collections::BTreeSet;
use std::time::Duration;

/// From an answer to the event that tells of it.
const AT_ONCE: Duration = Duration::from_micros(10);

/// What is known of a file beside which pages are held.
#[derive(Debug, Default)]
pub(super) struct Sameness {
    /// Whose bytes may be in it.
    pub(super) believed: BTreeSet<MirrorId>,
    /// Which content each held page has.
    pub(super) content: Vec<u8>,
    /// Nothing of it is given to readers.
    pub(super) sealed: bool,
}

impl Sameness {
    pub(super) fn new(pages: u64) -> Sameness {
        Sameness { content: vec![0; pages as usize], ..Sameness::default() }
    }
}

/// A comparison on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct SimComparison {
    mirror: MirrorId,
    file: Inode,
    page: u64,
    /// The mirror has answered.
    answered: bool,
    /// What the page that was held has.
    held: Option<u8>,
}

impl World {
    /// What an event is by the time at which it is told, if it is told at all.
    pub(super) fn judged(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Arrived { fetch, .. } if !self.admits(fetch) => {
                let mirror = self.running.get(&fetch)?.mirror;
                self.mirrors[mirror].cancel(self.now, fetch);
                Some(Event::Failed { fetch, failure: Failure::Cancelled })
            }
            Event::Compared { comparison, result: Ok(_) } => {
                let known = self.comparisons.get_mut(&comparison)?;
                let mirror = &mut self.mirrors[usize::from(known.mirror.0)];
                if !std::mem::replace(&mut known.answered, true) {
                    mirror.wire_bytes += PAGE_BYTES as f64;
                }
                let held = known.held?;
                let content = mirror.content;
                self.comparisons.remove(&comparison);
                let other = Verdict::Other { digest: u64::from(content) };
                let result = Ok(if content == held { Verdict::Same } else { other });
                Some(Event::Compared { comparison, result })
            }
            Event::Compared { comparison, .. } => {
                self.comparisons.remove(&comparison)?;
                Some(event)
            }
            _ => Some(event),
        }
    }

    /// Whoever brings the first bytes of a file is believed; others only when they were compared.
    fn admits(&mut self, fetch: FetchId) -> bool {
        let Some(running) = self.running.get(&fetch) else { return true };
        let mirror = MirrorId(running.mirror as u16);
        let Some(file) = self.files.get_mut(&running.file) else { return true };
        let believed = &mut file.sameness.believed;
        if believed.is_empty() {
            believed.insert(mirror);
        }
        believed.contains(&mirror)
    }

    /// These pages are held now: what was asked for to be compared with them can be.
    pub(super) fn note_compared(&mut self, file: Inode, pages: Pages) {
        let Some(content) = self.files.get(&file).map(|file| &file.sameness.content) else { return };
        let mut ready = Vec::new();
        for (&comparison, known) in &mut self.comparisons {
            if known.file == file && pages.contains(known.page) && known.held.is_none() {
                known.held = Some(content[known.page as usize]);
                ready.extend(known.answered.then_some(comparison));
            }
        }
        for comparison in ready {
            self.later(AT_ONCE, Event::Compared { comparison, result: Ok(Verdict::Same) });
        }
    }

    /// Which contents the held pages of a file have, in order.
    pub fn held_contents(&self, file: Inode) -> Vec<u8> {
        let Some(sim) = self.files.get(&file) else { return Vec::new() };
        let held = sim.held.iter().zip(&sim.sameness.content).filter(|(held, _)| **held);
        let mut contents: Vec<u8> = held.map(|(_, &content)| content).collect();
        contents.sort_unstable();
        contents
    }

    /// Is nothing of this file given to readers?
    pub(super) fn is_sealed(&self, file: Inode) -> bool {
        self.files.get(&file).is_some_and(|file| file.sameness.sealed)
    }

    /// Pages were given to a reader.
    pub(super) fn note_delivered(&mut self, file: Inode, pages: Pages) {
        let Some(sim) = self.files.get(&file) else { return };
        for page in pages.iter() {
            *self.delivered.entry((file, sim.sameness.content[page as usize])).or_default() += 1;
        }
    }

    pub(super) fn act_on_sameness(&mut self, action: Action) {
        match action {
            Action::Compare { comparison, mirror, file, page, whole } => {
                self.start_comparison(comparison, mirror, file, page, whole);
            }
            Action::EndComparison { comparison } => drop(self.comparisons.remove(&comparison)),
            Action::Believe { file, mirror } => {
                if let Some(sim) = self.files.get_mut(&file) {
                    sim.sameness.believed.insert(mirror);
                }
            }
            Action::Seal { file, sealed } => {
                let Some(sim) = self.files.get_mut(&file) else { return };
                sim.sameness.sealed = sealed;
                self.ready.extend(sim.waiters.iter().copied());
            }
            Action::Discard { file } => self.discard(file),
            Action::Differ { file, mirror, .. } => self.differing.push((mirror, file)),
            _ => {}
        }
    }

    fn start_comparison(&mut self, comparison: ComparisonId, mirror: MirrorId, file: Inode, page: u64, whole: bool) {
        let known = self.files.get(&file).filter(|sim| sim.held[page as usize]);
        let held = known.map(|sim| sim.sameness.content[page as usize]);
        self.comparisons.insert(comparison, SimComparison { mirror, file, page, answered: false, held });
        let Some((after, result)) = self.mirrors[usize::from(mirror.0)].compare(self.now, whole) else { return };
        self.later(after, Event::Compared { comparison, result: result.map(|()| Verdict::Same) });
    }

    /// Nothing is held of it any more, and who waits for some of it asks again.
    fn discard(&mut self, file_id: Inode) {
        let Some(file) = self.files.get_mut(&file_id) else { return };
        file.sameness.believed.clear();
        for page in 0..file.held.len() {
            if std::mem::replace(&mut file.held[page], false) {
                file.left_pages += 1;
                self.held_bytes -= if file.asked[page] { 0 } else { PAGE_BYTES };
            }
        }
        let waiting = self.readers.iter().filter(|reader| reader.file == file_id);
        let waiting = waiting.flat_map(|reader| reader.waiting.iter().map(|&(pages, since)| (reader.id, pages, since)));
        for (reader, pages, since) in waiting.collect::<Vec<_>>() {
            let (file, class, deadline) = (file_id, Class::Demand, since + READ_TIMEOUT);
            self.later(AT_ONCE, Event::Wanted { file, pages, class, reader, deadline });
        }
    }
}
