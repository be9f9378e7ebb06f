//! What is known of the mount, and what the person in front of it chose.

use crate::control::report::{MirrorDetail, MirrorsReport, StatusReport};
use std::collections::{BTreeMap, VecDeque};

/// Looks back that are kept: more than a terminal has columns.
const HISTORY_MAX: usize = 512;

/// Everything that a frame is made of.
#[derive(Default)]
pub struct Model {
    /// What was heard last, and when, in seconds.
    seen: Option<(f64, StatusReport, MirrorsReport)>,
    /// Bytes a second, the newest last.
    pub history: VecDeque<Rates>,
    /// By URL, and by path: bytes a second of late.
    pub mirror_rates: BTreeMap<String, f64>,
    pub file_rates: BTreeMap<Vec<u8>, f64>,
    /// In which order mirrors are shown.
    pub sort: Sort,
    /// The mirror that keys are about, by its URL.
    pub selected: Option<String>,
    /// What is heard is not shown.
    pub is_paused: bool,
    /// Why the last order was refused, until the next key.
    pub refused: Option<String>,
    /// Why nothing is heard.
    pub trouble: Option<String>,
}

/// What went through the mount in a second.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Rates {
    pub read: f64,
    pub fetched: f64,
}

/// Orders of mirrors.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Sort {
    /// As given in configuration.
    #[default]
    Given,
    /// The most bytes a second of late first.
    Rate,
    /// The shortest time to first byte first.
    FirstByte,
    /// The most failures first.
    Failures,
}

impl Sort {
    /// As the screen has it.
    pub fn name(self) -> &'static str {
        match self {
            Sort::Given => "as given",
            Sort::Rate => "rate",
            Sort::FirstByte => "first byte",
            Sort::Failures => "failures",
        }
    }

    /// The one after it.
    pub fn next(self) -> Sort {
        match self {
            Sort::Given => Sort::Rate,
            Sort::Rate => Sort::FirstByte,
            Sort::FirstByte => Sort::Failures,
            Sort::Failures => Sort::Given,
        }
    }
}

impl Model {
    /// The daemon said this, at so many seconds of any clock that only goes on.
    pub fn hear(&mut self, at_s: f64, status: StatusReport, mirrors: MirrorsReport) {
        self.trouble = None;
        if self.is_paused {
            return;
        }
        if let Some((before_s, before, mirrors_before)) = &self.seen
            // Another daemon counts from the start.
            && before.pid == status.pid
            && at_s > *before_s
        {
            let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / (at_s - before_s);
            self.history.push_back(Rates {
                read: per_second(status.bytes_read, before.bytes_read),
                fetched: per_second(status.bytes_fetched, before.bytes_fetched),
            });
            let old = self.history.len().saturating_sub(HISTORY_MAX);
            self.history.drain(..old);
            self.mirror_rates =
                rates(mirrors.mirrors.iter().map(fetched), mirrors_before.mirrors.iter().map(fetched), per_second);
            let read = |status: &StatusReport| -> Vec<(Vec<u8>, u64)> {
                status.files.iter().map(|file| (file.path.0.clone(), file.bytes_read)).collect()
            };
            self.file_rates = rates(read(&status).into_iter(), read(before).into_iter(), per_second);
        }
        self.seen = Some((at_s, status, mirrors));
        self.keep_selection();
    }

    /// Is there anything to show?
    pub fn seen(&self) -> Option<(&StatusReport, &MirrorsReport)> {
        self.seen.as_ref().map(|(_, status, mirrors)| (status, mirrors))
    }

    /// Was it heard twice?
    pub fn has_rates(&self) -> bool {
        !self.history.is_empty()
    }

    /// The mirrors in the order chosen, those that were taken out last.
    pub fn mirrors(&self) -> Vec<&MirrorDetail> {
        let Some((_, report)) = self.seen() else { return Vec::new() };
        let mut mirrors: Vec<&MirrorDetail> = report.mirrors.iter().collect();
        let rate = |mirror: &MirrorDetail| self.mirror_rates.get(&mirror.status.url).copied().unwrap_or(0.0);
        let first_byte = |mirror: &MirrorDetail| mirror.status.time_to_first_byte_ms.unwrap_or(f64::INFINITY);
        match self.sort {
            Sort::Given => {}
            Sort::Rate => mirrors.sort_by(|one, other| rate(other).total_cmp(&rate(one))),
            Sort::FirstByte => mirrors.sort_by(|one, other| first_byte(one).total_cmp(&first_byte(other))),
            Sort::Failures => mirrors.sort_by_key(|mirror| std::cmp::Reverse(mirror.status.failures)),
        }
        mirrors
    }

    /// All that can be selected, from top to bottom: the mirrors, and those that were taken out.
    pub fn urls(&self) -> Vec<String> {
        let out = self.seen().map(|(_, report)| report.taken_out.clone()).unwrap_or_default();
        self.mirrors().iter().map(|mirror| mirror.status.url.clone()).chain(out).collect()
    }

    /// The selected mirror, where it is in use.
    pub fn selected_mirror(&self) -> Option<&MirrorDetail> {
        let url = self.selected.as_ref()?;
        self.mirrors().into_iter().find(|mirror| mirror.status.url == *url)
    }

    /// Select the one below (or above).
    pub fn select(&mut self, below: bool) {
        let urls = self.urls();
        let Some(last) = urls.len().checked_sub(1) else { return };
        let at = self.selected.as_ref().and_then(|url| urls.iter().position(|known| known == url));
        let at = match (at, below) {
            (None, _) => 0,
            (Some(at), true) => (at + 1).min(last),
            (Some(at), false) => at.saturating_sub(1),
        };
        self.selected = urls.into_iter().nth(at);
    }

    fn keep_selection(&mut self) {
        if self.selected.as_ref().is_some_and(|url| !self.urls().contains(url)) {
            self.selected = None;
        }
    }
}

fn fetched(mirror: &MirrorDetail) -> (String, u64) {
    (mirror.status.url.clone(), mirror.status.bytes_fetched)
}

/// What each grew by in a second; nothing of those that were not there before.
fn rates<K: Ord>(
    now: impl Iterator<Item = (K, u64)>,
    before: impl Iterator<Item = (K, u64)>,
    per_second: impl Fn(u64, u64) -> f64,
) -> BTreeMap<K, f64> {
    let before: BTreeMap<K, u64> = before.collect();
    now.filter_map(|(key, count)| Some((before.get(&key).copied()?, key, count)))
        .map(|(old, key, count)| (key, per_second(count, old)))
        .collect()
}
