//! The bytes of one simulated file: as a running program sees them, as they are safe, and what lies between.

use super::damage::Damage;
use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE: usize = 4096;
const PAGE_BYTES: u64 = PAGE as u64;

/// A sparse file. Pages are shared between its copies.
#[derive(Clone, Default, Debug)]
pub(super) struct Bytes {
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    length: u64,
}

impl Bytes {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn allocated(&self) -> u64 {
        self.pages.len() as u64 * PAGE_BYTES
    }

    /// How much there was up to the end.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let length = self.length.saturating_sub(offset).min(into.len() as u64) as usize;
        let mut done = 0;
        while done < length {
            let (page, within) = split(offset + done as u64);
            let some = (PAGE - within).min(length - done);
            match self.pages.get(&page) {
                Some(bytes) => into[done..done + some].copy_from_slice(&bytes[within..within + some]),
                None => into[done..done + some].fill(0),
            }
            done += some;
        }
        length
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (page, within) = split(offset + done as u64);
            let some = (PAGE - within).min(bytes.len() - done);
            let into = Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE])));
            into[within..within + some].copy_from_slice(&bytes[done..done + some]);
            done += some;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            let (page, within) = split(length);
            self.pages.split_off(&length.div_ceil(PAGE_BYTES));
            if let Some(bytes) = self.pages.get_mut(&page) {
                Arc::make_mut(bytes)[within..].fill(0);
            }
        }
        self.length = length;
    }

    pub(super) fn punch(&mut self, offset: u64, length: u64) {
        let end = offset + length;
        let (first, last) = (offset / PAGE_BYTES, end.div_ceil(PAGE_BYTES));
        let there: Vec<u64> = self.pages.range(first..last).map(|(&page, _)| page).collect();
        for page in there {
            let (start, stop) = (page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
            if offset <= start && stop <= end {
                self.pages.remove(&page);
            } else if let Some(bytes) = self.pages.get_mut(&page) {
                let (from, to) = (offset.max(start) - start, end.min(stop) - start);
                Arc::make_mut(bytes)[from as usize..to as usize].fill(0);
            }
        }
    }
}

/// Something done to a file and not synced yet.
#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
    Punch(u64, u64),
}

/// A file.
#[derive(Default, Debug)]
pub(super) struct Contents {
    live: Bytes,
    durable: Bytes,
    unsynced: Vec<Change>,
}

impl Contents {
    /// A file of which everything is safe.
    pub(super) fn settled(bytes: Bytes) -> Contents {
        Contents { live: bytes.clone(), durable: bytes, unsynced: Vec::new() }
    }

    pub(super) fn live(&self) -> &Bytes {
        &self.live
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.live.write(offset, bytes);
        self.unsynced.push(Change::Write(offset, bytes.to_vec()));
    }

    pub(super) fn set_length(&mut self, length: u64) {
        self.live.set_length(length);
        self.unsynced.push(Change::Length(length));
    }

    pub(super) fn punch(&mut self, offset: u64, length: u64) {
        self.live.punch(offset, length);
        self.unsynced.push(Change::Punch(offset, length));
    }

    pub(super) fn sync(&mut self) {
        self.durable = self.live.clone();
        self.unsynced.clear();
    }

    /// What is left of it after a power cut. Each sector of each change is there or not, whatever came after it.
    pub(super) fn survivor(&self, damage: &mut Damage) -> Bytes {
        let mut left = self.durable.clone();
        damage.next_file();
        for change in &self.unsynced {
            match change {
                Change::Write(offset, bytes) => {
                    write_parts(&mut left, *offset, bytes, damage);
                    // The length can be on the disk before what it is the length of.
                    if damage.keeps() {
                        left.length = left.length.max(offset + bytes.len() as u64);
                    }
                }
                Change::Length(length) if damage.keeps() => left.set_length(*length),
                Change::Punch(offset, length) if damage.keeps() => left.punch(*offset, *length),
                Change::Length(_) | Change::Punch(..) => {}
            }
        }
        left
    }
}

fn write_parts(left: &mut Bytes, offset: u64, bytes: &[u8], damage: &mut Damage) {
    let unit = damage.unit_bytes();
    let mut kept = 0;
    let mut done = 0;
    while done < bytes.len() {
        let at = offset + done as u64;
        let some = ((unit - at % unit) as usize).min(bytes.len() - done);
        if damage.keeps() {
            left.write(at, &bytes[done..done + some]);
            kept += some;
        }
        done += some;
    }
    damage.count_write(bytes.len(), kept);
}

fn split(offset: u64) -> (u64, usize) {
    (offset / PAGE_BYTES, (offset % PAGE_BYTES) as usize)
}
