//! The gate before DONE: a file whose hash is known is complete only when its bytes were checked as a whole.
//!
//! Who checks is not of the disk's business; it closes the gate, reads the pages and says what it found. Until then the
//! file stays COMMITTING, also over a restart. Pages that come after a check make it void.

use super::DiskFile;
use super::record::fill;
use super::state::State;
use crate::chunk::Pages;
use std::sync::Arc;

impl DiskFile {
    /// `true`: from now on it does not become DONE before [`DiskFile::checked`]. `false`: nobody will check it.
    pub fn gate(self: &Arc<DiskFile>, closed: bool) {
        let was = std::mem::replace(&mut self.content.lock().gated, closed);
        if was && !closed {
            self.end_if_complete();
        }
    }

    /// Grows whenever pages are taken away.
    pub fn epoch(&self) -> u64 {
        self.content.lock().epoch
    }

    /// All of its bytes are right, as they were held since `epoch`: it may become DONE. False where pages were taken
    /// away meanwhile, or not all are durable yet.
    pub fn checked(self: &Arc<DiskFile>, epoch: u64) -> bool {
        let mut content = self.content.lock();
        if content.epoch != epoch || content.durable.len() != self.key().page_count() {
            return false;
        }
        content.checked = true;
        drop(content);
        self.end_if_complete();
        true
    }

    /// Has nothing come since it was checked, or became DONE?
    pub fn is_checked(&self) -> bool {
        let content = self.content.lock();
        content.checked || content.record.as_ref().is_some_and(|record| record.state == State::Done)
    }

    /// These pages are wrong, whatever their checksums say: they are held no more. They can be written anew at once.
    pub fn drop_pages(self: &Arc<DiskFile>, runs: &[Pages]) {
        let mut content = self.content.lock();
        runs.iter().for_each(|&run| fill(&mut content.written, run, false));
        content.epoch += 1;
        content.checked = false;
        if let Some(place) = content.place {
            self.shared.drop_damaged(self.clone(), place, runs);
        }
    }

    fn end_if_complete(self: &Arc<DiskFile>) {
        let content = self.content.lock();
        let record = content.record.as_ref().filter(|record| record.state == State::Committing);
        let packed = record.map(|record| record.place.packed);
        drop(content);
        match packed {
            // Its length is in its record: only the state is to change.
            Some(true) => self.shared.commits.put_finished(self.clone()),
            Some(false) => self.shared.commits.put_complete(self.clone(), false),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MIB, check, key, open, put};
    use super::*;
    use crate::chunk::PAGE_BYTES;
    use crate::clock::now;
    use std::time::Duration;

    fn settled(disk: &super::super::Disk, file: &DiskFile) -> State {
        // Bits, then the state, each with a commit of its own.
        (0..3).for_each(|_| assert!(disk.sync(now() + Duration::from_secs(60))));
        file.state().0
    }

    #[test]
    fn a_gated_file_is_done_only_when_it_was_checked() {
        let dir = tempfile::tempdir().unwrap();
        let disk = open(dir.path(), 64 * MIB);
        for size in [MIB + 1, 3 * PAGE_BYTES] {
            let file = disk.file(&key(&format!("f{size}"), size));
            let all = Pages::of_file(size);
            file.gate(true);
            put(&disk, &file, all).unwrap();
            assert_eq!(settled(&disk, &file), State::Committing);
            file.set_note(b"a note is no end".to_vec());
            assert_eq!(settled(&disk, &file), State::Committing);
            assert!(!file.is_checked() && file.checked(file.epoch()) && file.is_checked());
            assert_eq!(settled(&disk, &file), State::Done);
            // A page is found wrong after all, and comes anew.
            let epoch = file.epoch();
            file.drop_pages(&[Pages::new(1, 2)]);
            assert_eq!((settled(&disk, &file), file.missing(all)), (State::Transferring, vec![Pages::new(1, 2)]));
            assert!(!file.checked(epoch) && !file.checked(file.epoch()));
            put(&disk, &file, Pages::new(1, 2)).unwrap();
            assert_eq!(settled(&disk, &file), State::Committing, "the old check says nothing of it");
            assert!(!file.checked(epoch), "what was checked was taken away");
            file.gate(false);
            assert_eq!((settled(&disk, &file), check(&file)), (State::Done, all.count()));
        }
    }

    #[test]
    fn a_page_may_be_written_anew_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let disk = open(dir.path(), 64 * MIB);
        let file = disk.file(&key("f", MIB));
        file.gate(true);
        put(&disk, &file, Pages::new(0, 256)).unwrap();
        for _ in 0..20 {
            file.drop_pages(&[Pages::new(7, 9)]);
            put(&disk, &file, Pages::new(7, 9)).unwrap();
        }
        assert_eq!((settled(&disk, &file), check(&file)), (State::Committing, 256));
        assert!(file.checked(file.epoch()) && settled(&disk, &file) == State::Done);
    }

    #[test]
    fn what_was_not_checked_before_a_restart_waits_for_it_still() {
        let dir = tempfile::tempdir().unwrap();
        let key = key("f", MIB + 1);
        {
            let disk = open(dir.path(), 64 * MIB);
            let file = disk.file(&key);
            file.gate(true);
            put(&disk, &file, Pages::of_file(MIB + 1)).unwrap();
            assert_eq!(settled(&disk, &file), State::Committing);
            disk.close();
        }
        let disk = open(dir.path(), 64 * MIB);
        let file = disk.file(&key);
        file.gate(true);
        let held = Pages::of_file(MIB + 1);
        assert!(file.durable(held) && file.state().0 != State::Preparing);
        file.gate(false);
        assert_eq!(settled(&disk, &file), State::Done);
    }
}
