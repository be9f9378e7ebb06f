//! What was measured of each mirror, kept in the disk cache, so that the next mount starts well.
//!
//! A record has a mirror's figures and when each was learned, by the wall clock: the only one that goes on
//! between mounts. It is found by a hash of the mirror's URL without credentials and query, so mirrors that differ
//! in these alone share one. Read before the first read; written from the meta runtime now and then, and at the end.

use crate::cache::disk::Disk;
use crate::chunk::MirrorId;
use crate::clock::{now, unix_seconds};
use crate::fetch::asking::put;
use crate::fetch::opened::label;
use crate::fetch::plane::Plane;
use crate::fetch::roster::Member;
use crate::scheduler::{Aged, FirstByte, History, Scheduler};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often it is written while mounted: what a crash loses of it is less than a day's difference makes.
const WRITE_PERIOD: Duration = Duration::from_secs(30);
/// Records that are kept, the youngest of those of all mirrors that ever were: some 100 KiB.
const KEPT_MAX: usize = 1024;
/// After so long a record is forgotten; the scheduler has stopped believing it by then.
const KEPT_SECONDS: u64 = 30 * 24 * 60 * 60;
/// By so much two clocks that count whole seconds may differ.
const CLOCKS_SECONDS: u64 = 2;
/// The form of a record.
const FORM: u8 = 1;

/// A figure, and when it was learned, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Dated<T> {
    value: T,
    unix_s: i64,
}

impl<T> Dated<T> {
    fn of(aged: Aged<T>, now_unix_s: i64) -> Dated<T> {
        Dated { value: aged.value, unix_s: now_unix_s.saturating_sub_unsigned(aged.age.as_secs()) }
    }

    /// A date in the future is as doubtful as one so long ago: one of the two clocks was wrong.
    fn aged(self, now_unix_s: i64) -> Aged<T> {
        Aged { value: self.value, age: Duration::from_secs(now_unix_s.abs_diff(self.unix_s)) }
    }
}

/// What is kept of one mirror.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Record {
    bytes_per_second: Option<Dated<f64>>,
    first_byte: Option<Dated<FirstByte>>,
    connections: Option<Dated<usize>>,
    ranges: Option<Dated<bool>>,
}

impl Record {
    /// With what was learned since in place of what was known before.
    fn with(self, learned: &History, now_unix_s: i64) -> Record {
        fn newer<T: PartialEq>(
            learned: Option<Aged<T>>,
            before: Option<Dated<T>>,
            now_unix_s: i64,
        ) -> Option<Dated<T>> {
            let Some(learned) = learned.map(|aged| Dated::of(aged, now_unix_s)) else { return before };
            // Of an idle mirror the same is told again, and is no reason to write.
            let same =
                |it: &Dated<T>| it.value == learned.value && it.unix_s.abs_diff(learned.unix_s) <= CLOCKS_SECONDS;
            Some(before.filter(same).unwrap_or(learned))
        }
        Record {
            bytes_per_second: newer(learned.bytes_per_second, self.bytes_per_second, now_unix_s),
            first_byte: newer(learned.first_byte, self.first_byte, now_unix_s),
            connections: newer(learned.connections, self.connections, now_unix_s),
            ranges: newer(learned.ranges, self.ranges, now_unix_s),
        }
    }

    fn history(self, now_unix_s: i64) -> History {
        History {
            bytes_per_second: self.bytes_per_second.map(|it| it.aged(now_unix_s)),
            first_byte: self.first_byte.map(|it| it.aged(now_unix_s)),
            connections: self.connections.map(|it| it.aged(now_unix_s)),
            ranges: self.ranges.map(|it| it.aged(now_unix_s)),
        }
    }

    /// The age of its youngest figure, in seconds.
    fn age_seconds(&self, now_unix_s: i64) -> Option<u64> {
        let dates = [
            self.bytes_per_second.map(|it| it.unix_s),
            self.first_byte.map(|it| it.unix_s),
            self.connections.map(|it| it.unix_s),
            self.ranges.map(|it| it.unix_s),
        ];
        dates.into_iter().flatten().map(|unix_s| now_unix_s.abs_diff(unix_s)).min()
    }

    /// The form, then four figures of a byte (1: it is known), a date and one or two numbers of eight bytes each,
    /// then a checksum of four over all that. Little-endian.
    fn encode(&self) -> Vec<u8> {
        let nanos = |length: Duration| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let mut bytes = vec![FORM];
        let mut put = |unix_s: Option<i64>, numbers: &[u64]| {
            bytes.push(u8::from(unix_s.is_some()));
            bytes.extend_from_slice(&unix_s.unwrap_or(0).to_le_bytes());
            numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        };
        let rate = self.bytes_per_second;
        put(rate.map(|it| it.unix_s), &[rate.map_or(0, |it| it.value.to_bits())]);
        let first = self.first_byte.map_or([0; 2], |it| [nanos(it.value.usual), nanos(it.value.deviation)]);
        put(self.first_byte.map(|it| it.unix_s), &first);
        put(self.connections.map(|it| it.unix_s), &[self.connections.map_or(0, |it| it.value as u64)]);
        put(self.ranges.map(|it| it.unix_s), &[self.ranges.map_or(0, |it| u64::from(it.value))]);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// None of what is damaged, or of a form that is not ours: it costs a mirror its history, and nothing else.
    fn decode(bytes: &[u8]) -> Option<Record> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        let (&form, mut rest) = body.split_first()?;
        if u32::from_le_bytes(*sum) != crc32c::crc32c(body) || form != FORM {
            return None;
        }
        let rate = take::<1>(&mut rest)?;
        let first_byte = take::<2>(&mut rest)?;
        let connections = take::<1>(&mut rest)?;
        let ranges = take::<1>(&mut rest)?;
        let nanos = Duration::from_nanos;
        rest.is_empty().then_some(Record {
            bytes_per_second: dated(rate, |[bits]| f64::from_bits(bits)),
            first_byte: dated(first_byte, |[usual, deviation]| FirstByte {
                usual: nanos(usual),
                deviation: nanos(deviation),
            }),
            connections: dated(connections, |[number]| usize::try_from(number).unwrap_or(usize::MAX)),
            ranges: dated(ranges, |[yes]| yes == 1),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<(Option<i64>, [u64; N])> {
    let (known, after) = rest.split_first()?;
    let (unix_s, mut after) = after.split_first_chunk::<8>()?;
    let mut numbers = [0; N];
    for number in &mut numbers {
        let (bytes, left) = after.split_first_chunk::<8>()?;
        (*number, after) = (u64::from_le_bytes(*bytes), left);
    }
    *rest = after;
    Some(((*known == 1).then_some(i64::from_le_bytes(*unix_s)), numbers))
}

fn dated<T, const N: usize>(
    (unix_s, numbers): (Option<i64>, [u64; N]),
    value: impl FnOnce([u64; N]) -> T,
) -> Option<Dated<T>> {
    unix_s.map(|unix_s| Dated { value: value(numbers), unix_s })
}

/// The histories of one mount's mirrors.
#[derive(Default)]
pub struct Histories {
    /// By mirror: its label, and its record as it was last written.
    written: Mutex<Vec<(u64, Record)>>,
    at_end: Mutex<Option<Vec<History>>>,
}

impl Histories {
    /// The driver's last word. It is on the thread that never touches the disk.
    pub fn ended(&self, learned: Vec<History>) {
        *self.at_end.lock() = Some(learned);
    }
}

/// Give `scheduler` what earlier mounts measured. Waits for the disk.
pub fn recall(plane: &Plane, scheduler: &mut Scheduler) {
    let Some(disk) = &plane.disk else { return };
    let unix_s = unix_seconds();
    let records = read(disk, unix_s);
    let of = |member: &Arc<Member>| {
        let label = label(&member.url());
        (label, records.get(&label).copied().unwrap_or_default())
    };
    let written: Vec<(u64, Record)> = plane.mirrors.all().iter().map(of).collect();
    for (at, (_, record)) in written.iter().enumerate() {
        scheduler.suppose(now(), MirrorId(at as u16), record.history(unix_s));
    }
    *plane.histories.written.lock() = written;
}

/// The same of mirrors that were added since, from the one with the id `from` on. Waits for the disk.
pub fn of_new(plane: &Plane, from: usize) -> Vec<(MirrorId, History)> {
    let Some(disk) = &plane.disk else { return Vec::new() };
    let unix_s = unix_seconds();
    let records = read(disk, unix_s);
    let mut written = plane.histories.written.lock();
    let mut found = Vec::new();
    for (at, member) in plane.mirrors.all().iter().enumerate().skip(written.len().max(from)) {
        let label = label(&member.url());
        let record = records.get(&label).copied().unwrap_or_default();
        written.push((label, record));
        found.push((MirrorId(at as u16), record.history(unix_s)));
    }
    found
}

/// All that can be read and is young enough; the others are forgotten.
fn read(disk: &Disk, unix_s: i64) -> BTreeMap<u64, Record> {
    let mut young: Vec<(u64, u64, Record)> = Vec::new();
    for (label, bytes) in disk.mirrors() {
        let record = Record::decode(&bytes);
        match record.and_then(|record| Some((record.age_seconds(unix_s)?, record))) {
            Some((age, record)) if age <= KEPT_SECONDS => young.push((age, label, record)),
            _ => disk.put_mirror(label, None),
        }
    }
    young.sort_by_key(|&(age, ..)| age);
    young.iter().skip(KEPT_MAX).for_each(|&(_, label, _)| disk.put_mirror(label, None));
    young.into_iter().take(KEPT_MAX).map(|(_, label, record)| (label, record)).collect()
}

/// Write what changed, by mirror.
fn write(plane: &Plane, learned: &[History]) {
    let Some(disk) = &plane.disk else { return };
    let unix_s = unix_seconds();
    for ((label, record), learned) in plane.histories.written.lock().iter_mut().zip(learned) {
        let newer = record.with(learned, unix_s);
        if newer != *record {
            disk.put_mirror(*label, Some(newer.encode()));
            *record = newer;
        }
    }
}

/// Write it now and then, until the mount is gone.
pub async fn keep(plane: Weak<Plane>) {
    loop {
        #[allow(clippy::disallowed_methods, reason = "fetch waits for time: figures change all the time")]
        tokio::time::sleep(WRITE_PERIOD).await;
        // The plane is not held while we wait: the disk cache closes with it.
        let Some(asked) = plane.upgrade().map(|plane| put(&plane.inbox, |time, scheduler| scheduler.history(time)))
        else {
            return;
        };
        let (Ok(learned), Some(plane)) = (asked.await, plane.upgrade()) else { return };
        write(&plane, &learned);
    }
}

/// Write it for the last time, once the driver has ended.
pub fn write_last(plane: &Plane) {
    let learned = plane.histories.at_end.lock().take();
    write(plane, &learned.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn record() -> Record {
        let first_byte = FirstByte { usual: Duration::from_micros(12_345), deviation: Duration::from_millis(2) };
        Record {
            bytes_per_second: Some(Dated { value: 12.5e6, unix_s: NOW - 60 }),
            first_byte: Some(Dated { value: first_byte, unix_s: NOW - 3 }),
            connections: Some(Dated { value: 6, unix_s: -1 }),
            ranges: Some(Dated { value: false, unix_s: NOW }),
        }
    }

    #[test]
    fn records_survive_their_encoding() {
        for record in [record(), Record::default(), Record { first_byte: None, ..record() }] {
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }

    #[test]
    fn a_damaged_or_unknown_record_is_none() {
        let bytes = record().encode();
        for at in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..at]), None, "{at} bytes of it");
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(Record::decode(&damaged), None, "bit {bit} of byte {at}");
            }
        }
        let mut newer = bytes[..bytes.len() - 4].to_vec();
        newer[0] = FORM + 1;
        newer.extend_from_slice(&crc32c::crc32c(&newer).to_le_bytes());
        assert_eq!(Record::decode(&newer), None);
        assert_eq!(Record::decode(&[bytes, vec![0]].concat()), None);
    }

    proptest::proptest! {
        /// Also where the checksum fits: what made it may have been wrong.
        #[test]
        fn any_bytes_give_a_record_or_none(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..120), now: i64) {
            let _ = Record::decode(&bytes);
            bytes.resize(record().encode().len() - 4, 0);
            bytes[0] = FORM;
            bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
            let decoded = Record::decode(&bytes).expect("its checksum fits");
            let _ = (decoded.history(now), decoded.age_seconds(now), Record::decode(&decoded.encode()));
        }
    }

    #[test]
    fn what_is_learned_replaces_and_what_is_not_stays_with_its_age() {
        let aged = |value, seconds| Some(Aged { value, age: Duration::from_secs(seconds) });
        let learned = History { bytes_per_second: aged(3e6, 5), ..History::default() };
        let newer = record().with(&learned, NOW + 100);
        assert_eq!(newer.bytes_per_second, Some(Dated { value: 3e6, unix_s: NOW + 95 }));
        assert_eq!(Record { bytes_per_second: record().bytes_per_second, ..newer }, record());
        let history = newer.history(NOW + 200);
        assert_eq!(history.bytes_per_second, aged(3e6, 105));
        assert_eq!(history.first_byte.map(|it| it.age), Some(Duration::from_secs(203)));
        // The same figure told again a moment later, with both clocks between two seconds.
        let again = History { bytes_per_second: aged(3e6, 34), ..History::default() };
        assert_eq!(newer.with(&again, NOW + 130), newer);
    }

    #[test]
    fn ages_count_both_ways_and_the_youngest_is_the_records() {
        let dated = |unix_s| Dated { value: true, unix_s };
        assert_eq!(dated(NOW - 9).aged(NOW).age, Duration::from_secs(9));
        assert_eq!(dated(NOW + 9).aged(NOW).age, Duration::from_secs(9));
        assert_eq!(dated(i64::MIN).aged(i64::MAX).age, Duration::from_secs(u64::MAX));
        assert_eq!((record().age_seconds(NOW + 50), Record::default().age_seconds(NOW)), (Some(50), None));
    }
}
