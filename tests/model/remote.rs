//! What the mirrors have, and had when: the truth that readers are judged by.

use crate::support::faulty::{Content, FaultyMirror, Rule, Tree, generate};
use braidfs::clock::{Time, now};
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;

/// How long after a change the program may still show what was there before it: the entry lifetime, and time to list
/// anew on a busy machine. Only leniency ends here; that a change is seen at all is waited for (`Run::settle`).
pub const STALE_MAX: Duration = Duration::from_secs(15);
/// A file that changed less than this before it was opened may cost its reader an error (README: open it again).
pub const MOMENT: Duration = Duration::from_secs(6);
/// What failed at a deadline may fail again so long after the trouble is over.
const AFTERMATH: Duration = Duration::from_secs(1);
/// The first version's date; whole minutes, as index pages give them.
const FIRST_DATE: i64 = 1_709_294_400;
/// Between two versions. No multiple of a quarter of an hour, which could be a time zone.
const DATE_STEP: i64 = 61 * 60;

/// The mirror that never lies and only ever goes away in trouble that is written down.
pub const STEADY: usize = 0;

/// What a file can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Habit {
    /// It is never replaced.
    Stays,
    /// It is replaced and removed.
    Changes,
    /// It is replaced, each time by one of another size.
    ChangesSize,
}

/// Name, size of the first version, habit. Together a few times what memory and cache may hold.
const FILES: &[(&str, u64, Habit)] = &[
    ("big.bin", 24 << 20, Habit::Stays),
    ("stays.bin", (3 << 20) + 1234, Habit::Stays),
    ("small.txt", 777, Habit::Stays),
    ("empty", 0, Habit::Changes),
    ("big changes.bin", 20 << 20, Habit::Changes),
    ("a.bin", (5 << 20) + 4096, Habit::Changes),
    ("folder/b.bin", (2 << 20) + 1, Habit::Changes),
    ("folder/c.bin", 700_000, Habit::Changes),
    ("folder/packed-1", 40_000, Habit::Changes),
    ("folder/packed-2", 4096, Habit::Changes),
    ("folder/packed-3", 65_536, Habit::Stays),
    ("folder/sized.bin", 1_500_000, Habit::ChangesSize),
];

/// One version of one file. Without content: it is removed.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    pub content: Option<(u64, u64)>,
    pub date: i64,
}

impl Version {
    pub fn size_bytes(&self) -> u64 {
        self.content.map_or(0, |(_, size)| size)
    }
}

/// From when to when a mirror had a version; each end lies between two times.
struct Spell {
    version: usize,
    begun: (Time, Time),
    ended: Option<(Time, Time)>,
}

/// One name, and all that ever was under it.
pub struct RemoteFile {
    pub path: &'static str,
    pub habit: Habit,
    pub versions: Vec<Version>,
    spells: Vec<Vec<Spell>>,
}

/// Since when a mirror's index pages tell the truth.
#[derive(Clone, Copy)]
struct Telling {
    well_since: Option<Time>,
    /// What was listed before this is not believed any more.
    horizon: Time,
}

/// All mirrors and their files.
pub struct Remote {
    pub mirrors: Vec<FaultyMirror>,
    pub files: Vec<RemoteFile>,
    telling: Vec<Telling>,
    steady_trouble: Vec<(Time, Option<Time>)>,
    rules: Vec<Rule>,
    struck: u64,
}

impl Remote {
    /// So many honest mirrors, which all have the first version of every file.
    pub fn start(count: usize, seed: u64) -> Remote {
        let mirrors: Vec<_> = (0..count).map(|_| FaultyMirror::start(Tree::new())).collect();
        let files = FILES.iter().enumerate().map(|(at, &(path, size, habit))| {
            let first = Version { content: Some((content_seed(seed, at, 0), size)), date: FIRST_DATE };
            RemoteFile { path, habit, versions: vec![first], spells: (0..count).map(|_| Vec::new()).collect() }
        });
        let well = Telling { well_since: Some(Time(0)), horizon: Time(0) };
        let mut remote = Remote {
            files: files.collect(),
            telling: vec![well; count],
            mirrors,
            steady_trouble: Vec::new(),
            rules: Vec::new(),
            struck: 0,
        };
        for (mirror, file) in (0..count).flat_map(|mirror| (0..FILES.len()).map(move |file| (mirror, file))) {
            remote.bring(mirror, file);
        }
        remote
    }

    /// A new version of a file, on no mirror yet.
    pub fn publish(&mut self, file: usize, seed: u64, random: &mut StdRng) {
        let at = self.files[file].versions.len();
        let known = &mut self.files[file];
        let last = known.versions[at - 1];
        let first = FILES[file].1;
        let size = match (known.habit, random.random_range(0..8)) {
            (Habit::ChangesSize, _) => first + 1000 * at as u64,
            (_, 0..4) => known.versions.iter().rev().find_map(|it| it.content).map_or(first, |(_, size)| size),
            (_, 4) => last.size_bytes() + 1,
            (_, 5) => last.size_bytes().saturating_sub(1),
            (_, 6) => (first + random.random_range(0..3) * 4096) / 4096 * 4096,
            _ => random.random_range(0..=first + first / 8),
        };
        let removed = known.habit == Habit::Changes && last.content.is_some() && random.random_bool(0.15);
        let content = (!removed).then(|| (content_seed(seed, file, at), size));
        known.versions.push(Version { content, date: FIRST_DATE + DATE_STEP * at as i64 });
    }

    /// The newest version reaches a mirror.
    pub fn bring(&mut self, mirror: usize, file: usize) {
        let known = &mut self.files[file];
        // What is there before the first mount was always there.
        let at = known.versions.len() - 1;
        let before = if at == 0 { Time(0) } else { now() };
        if known.spells[mirror].last().is_some_and(|spell| spell.version == at) {
            return;
        }
        let Version { content, date } = known.versions[at];
        match content {
            Some((seed, size_bytes)) => {
                self.mirrors[mirror].put_dated(known.path, Content::Generated { seed, size_bytes }, date);
            }
            None => self.mirrors[mirror].remove(known.path),
        }
        let moment = (before, if at == 0 { Time(0) } else { now() });
        if let Some(last) = known.spells[mirror].last_mut() {
            last.ended = Some(moment);
        }
        known.spells[mirror].push(Spell { version: at, begun: moment, ended: None });
    }

    /// Do all mirrors have the newest version?
    pub fn is_everywhere(&self, file: usize) -> bool {
        let newest = self.files[file].versions.len() - 1;
        self.files[file].spells.iter().all(|spells| spells.last().is_some_and(|spell| spell.version == newest))
    }

    /// Which version a mirror has.
    pub fn version_on(&self, mirror: usize, file: usize) -> usize {
        self.files[file].spells[mirror].last().expect("each has had the first").version
    }

    /// The version with this size and date.
    pub fn identify(&self, file: usize, size_bytes: u64, date: i64) -> Option<usize> {
        let fits = |it: &Version| it.date == date && it.content.is_some_and(|(_, size)| size == size_bytes);
        self.files[file].versions.iter().position(fits)
    }

    /// Did the mirror have the version all the time from `from` to `to`?
    pub fn had_through(&self, mirror: usize, file: usize, version: usize, from: Time, to: Time) -> bool {
        let spell = self.files[file].spells[mirror].iter().find(|spell| spell.version == version);
        spell.is_some_and(|it| it.begun.1 <= from && it.ended.is_none_or(|(early, _)| early >= to))
    }

    /// Did the mirror have some version of the file all the time?
    pub fn had_any_through(&self, mirror: usize, file: usize, from: Time, to: Time) -> bool {
        let known = &self.files[file];
        let gone = |spell: &&Spell| known.versions[spell.version].content.is_none();
        let overlaps = |it: &Spell| it.begun.0 <= to && it.ended.is_none_or(|(_, late)| late >= from);
        !known.spells[mirror].iter().filter(gone).any(overlaps)
    }

    /// Did any mirror get another version of the file in this time?
    pub fn changed_within(&self, file: usize, from: Time, to: Time) -> bool {
        let mut spells = self.files[file].spells.iter().flatten();
        spells.any(|spell| spell.begun.1 >= from && spell.begun.0 <= to)
    }

    /// May a listing that is believed between the two times show this version?
    pub fn may_be_shown(&self, file: usize, version: usize, from: Time, to: Time) -> bool {
        (0..self.mirrors.len()).any(|mirror| {
            let horizon = self.horizon(mirror, from);
            let spell = self.files[file].spells[mirror].iter().find(|spell| spell.version == version);
            spell.is_some_and(|it| it.begun.0 <= to && it.ended.is_none_or(|(_, late)| late >= horizon))
        })
    }

    /// What a mirror listed before this is not believed any more at `at`.
    pub fn horizon(&self, mirror: usize, at: Time) -> Time {
        let Telling { well_since, horizon } = self.telling[mirror];
        let well = well_since.is_some_and(|since| at.since(since) > STALE_MAX);
        if well { horizon.max(at - STALE_MAX) } else { horizon }
    }

    /// From now on a mirror's index pages fail or lie (`false`), or tell the truth.
    pub fn tells(&mut self, mirror: usize, truth: bool) {
        let time = now();
        let horizon = self.horizon(mirror, time);
        let telling = &mut self.telling[mirror];
        telling.horizon = horizon;
        telling.well_since = if truth { telling.well_since.or(Some(time)) } else { None };
    }

    /// The daemon begins anew, with what the last one saved; every folder was looked at since `seen`.
    pub fn remembers(&mut self, seen: Time) {
        let time = now();
        for mirror in 0..self.mirrors.len() {
            let horizon = self.horizon(mirror, time).min(seen - STALE_MAX);
            let telling = &mut self.telling[mirror];
            telling.horizon = horizon;
            telling.well_since = telling.well_since.map(|_| time);
        }
    }

    /// The steady mirror is in trouble from now on, or no longer.
    pub fn steady_is_in_trouble(&mut self, begins: bool) {
        match (begins, self.steady_trouble.last_mut()) {
            (true, Some((_, None))) => {}
            (true, _) => self.steady_trouble.push((now(), None)),
            (false, Some((_, end))) if end.is_none() => *end = Some(now()),
            (false, _) => {}
        }
    }

    /// Was the steady mirror well all the time?
    pub fn steady_was_well(&self, from: Time, to: Time) -> bool {
        let hurts =
            |&(begun, ended): &(Time, Option<Time>)| begun <= to && ended.is_none_or(|ended| ended + AFTERMATH >= from);
        !self.steady_trouble.iter().any(hurts)
    }

    /// A mirror does something wrong from now on.
    pub fn add(&mut self, mirror: usize, rule: Rule) {
        self.rules.push(rule.clone());
        self.mirrors[mirror].add(rule);
    }

    /// A mirror is honest and there.
    pub fn heal(&mut self, mirror: usize) {
        self.mirrors[mirror].honest();
        self.mirrors[mirror].thaw();
        self.mirrors[mirror].up();
        self.mirrors[mirror].forget();
        self.tells(mirror, true);
    }

    /// How many requests something wrong was done to, so far.
    pub fn struck(&mut self) -> u64 {
        // Rules of mirrors that were healed strike no more; there are never many.
        self.struck += self.rules.drain(..self.rules.len().saturating_sub(64)).map(|rule| rule.struck()).sum::<u64>();
        self.struck + self.rules.iter().map(Rule::struck).sum::<u64>()
    }

    /// The right bytes of a version.
    pub fn bytes(&self, file: usize, version: usize, offset: u64, length: usize) -> Vec<u8> {
        let (seed, _) = self.files[file].versions[version].content.expect("nobody opens what is removed");
        let mut bytes = vec![0; length];
        generate(seed, offset, &mut bytes);
        bytes
    }
}

fn content_seed(seed: u64, file: usize, version: usize) -> u64 {
    seed.wrapping_mul(1_000_003) ^ ((file as u64) << 32) ^ version as u64
}
