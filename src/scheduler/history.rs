//! What an earlier mount measured of a mirror: where a new scheduler begins, instead of knowing nothing.
//!
//! It is a supposition and no more. It counts the less the older it is, each figure only until the same thing
//! is measured, and none of them after a first fetch that disappoints: who has become slow is unknown then.

use super::Scheduler;
use super::connections::CONNECTIONS_MIN;
use super::mirror::{FIRST_FETCH_BYTES, Mirror, SUPPOSED_LATENCY_SECONDS, SUPPOSED_RATE};
use crate::chunk::MirrorId;
use crate::clock::Time;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A figure counts half after so long: the load of a public mirror has the rhythm of a day.
const HALF_LIFE: Duration = DAY;
/// And not at all after so long, when a billionth of it is left.
const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// That a mirror has no ranges is only found wrong by asking it for one, which a mount that believes it does not
/// do: after so long it is asked. A wrong belief costs whole files, a wrong doubt one request.
const NO_RANGES_MAX: Duration = DAY;
/// As one that was measured (see `meter`), a slow rate is doubted once others were used for so long …
const DOUBT_AFTER_SECONDS: f64 = 10.0;
/// … and two thirds of it after this much longer, or a mirror that was slow once would not be tried again.
const DOUBT_SECONDS: f64 = 30.0;

/// A figure, and how long ago it was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aged<T> {
    /// What was measured.
    pub value: T,
    /// How long ago, on a clock that goes on between mounts.
    pub age: Duration,
}

/// The usual time from request to first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstByte {
    /// The usual.
    pub usual: Duration,
    /// How much it varies: the mean deviation.
    pub deviation: Duration,
}

/// What was measured of one mirror: told by [`Scheduler::history`], taken up by [`Scheduler::suppose`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct History {
    /// Bytes per second while it was busy.
    pub bytes_per_second: Option<Aged<f64>>,
    /// From request to first byte.
    pub first_byte: Option<Aged<FirstByte>>,
    /// Background fetches at a time that fill its link, where more or fewer were tried.
    pub connections: Option<Aged<usize>>,
    /// It serves ranges.
    pub ranges: Option<Aged<bool>>,
}

/// What is still supposed of a mirror, for `mirrors`: the figures as they were measured then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Supposition {
    /// Bytes per second.
    pub bytes_per_second: Option<f64>,
    /// From request to first byte.
    pub first_byte: Option<Duration>,
    /// Background fetches at a time.
    pub connections: Option<usize>,
    /// It had no ranges.
    pub no_ranges: bool,
    /// The age of the youngest of these.
    pub age: Duration,
    /// How much that counts, 0 to 1.
    pub trust: f64,
}

/// How much a figure of this age counts, 0 to 1.
fn trust(age: Duration) -> f64 {
    match age > AGE_MAX {
        true => 0.0,
        false => 0.5f64.powf(age.as_secs_f64() / HALF_LIFE.as_secs_f64()),
    }
}

/// From `nothing_known` to `measured`, in equal factors: rates and latencies differ by factors.
fn between(nothing_known: f64, measured: f64, trust: f64) -> f64 {
    nothing_known.powf(1.0 - trust) * measured.powf(trust)
}

/// Figures that a link can have: others were written by somebody else. The least time to first byte keeps a mirror
/// from looking free.
fn sound(history: History) -> History {
    let rates = 1.0..=1e12;
    let times = Duration::from_micros(100)..=Duration::from_secs(3600);
    let connections = CONNECTIONS_MIN + 1..=1024;
    History {
        bytes_per_second: history.bytes_per_second.filter(|it| trust(it.age) > 0.0 && rates.contains(&it.value)),
        first_byte: history.first_byte.filter(|it| trust(it.age) > 0.0 && times.contains(&it.value.usual)),
        connections: history.connections.filter(|it| trust(it.age) > 0.0 && connections.contains(&it.value)),
        ranges: history.ranges.filter(|it| it.age <= NO_RANGES_MAX),
    }
}

/// What one mirror's history is worth to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    history: History,
    given_at: Time,
    /// Since when another mirror could have been used in its place.
    since: Option<Time>,
}

impl Before {
    fn rate_trust(&self) -> f64 {
        self.history.bytes_per_second.map_or(0.0, |rate| trust(rate.age))
    }

    /// How much its rate counts by now, 0 to 1.
    fn trust(&self, now: Time) -> f64 {
        let slow = self.history.bytes_per_second.is_some_and(|rate| rate.value < SUPPOSED_RATE);
        let passed = self.since.map_or(0.0, |since| now.seconds_since(since)) - DOUBT_AFTER_SECONDS;
        let left = if slow && passed > 0.0 { (-passed / DOUBT_SECONDS).exp() } else { 1.0 };
        self.rate_trust() * left
    }

    /// What is supposed of its rate before any of its bytes has come.
    pub(super) fn rate(&self, now: Time) -> f64 {
        let rate = self.history.bytes_per_second;
        rate.map_or(SUPPOSED_RATE, |rate| between(SUPPOSED_RATE, rate.value, self.trust(now)))
    }

    /// What is supposed of its time to first byte, in seconds, before its first answer.
    pub(super) fn latency_seconds(&self) -> f64 {
        let nothing_known = SUPPOSED_LATENCY_SECONDS;
        let before = self.history.first_byte;
        before.map_or(nothing_known, |it| between(nothing_known, it.value.usual.as_secs_f64(), trust(it.age)))
    }

    /// Its first answer may take so long, in seconds: twice the usual, as for all on trial, or what is still usual.
    pub(super) fn answer_seconds(&self) -> f64 {
        self.history.first_byte.map_or(0.0, |it| {
            let (usual, deviation) = (it.value.usual.as_secs_f64(), it.value.deviation.as_secs_f64());
            trust(it.age) * (2.0 * usual).max(usual + 4.0 * deviation)
        })
    }

    /// The longest first fetch, between that of an unknown mirror and that of a known one.
    pub(super) fn fetch_bytes_max(&self, known: u64) -> u64 {
        between(FIRST_FETCH_BYTES as f64, known as f64, self.rate_trust()).round() as u64
    }
}

impl Mirror {
    fn suppose(&mut self, now: Time, history: History) {
        self.before = Before { history: sound(history), given_at: now, since: None };
        self.meter.suppose(self.before.rate(now));
        let history = &self.before.history;
        if let Some(found) = history.connections {
            let more = (found.value - CONNECTIONS_MIN) as f64 * trust(found.age);
            self.connections.suppose(CONNECTIONS_MIN + more.round() as usize);
        }
        self.ranges &= history.ranges.is_none_or(|ranges| ranges.value);
    }

    /// How much of its rate is a guess, 0 (measured) to 1 (nothing is known).
    pub(super) fn doubt(&self, now: Time) -> f64 {
        if self.meter.known() { 0.0 } else { 1.0 - self.before.trust(now) }
    }

    /// A fetch of it failed, stalled, or came too late. Where nothing was measured yet, that is all that is known.
    pub(super) fn disappoint(&mut self) {
        self.served = 0;
        if !self.meter.known() {
            let history = &mut self.before.history;
            (history.bytes_per_second, history.first_byte) = (None, None);
            if history.connections.take().is_some() {
                self.connections.suppose(CONNECTIONS_MIN);
            }
            self.meter.suppose(SUPPOSED_RATE);
        }
    }

    /// It was supposed to have no ranges, and so was never asked for one.
    fn ranges_untried(&self) -> bool {
        !self.ranges && self.before.history.ranges.is_some_and(|ranges| !ranges.value)
    }

    /// What this mount measured of it.
    fn history(&self, now: Time) -> History {
        let known = self.meter.known();
        let sign_age = now.since(self.sign_at);
        let usual = self.latency.seconds().zip(self.latency.unusual_seconds()).zip(self.latency.at);
        History {
            // As of its last sign of life: neither the silence nor the doubt that came since is a measurement.
            bytes_per_second: known
                .then(|| Aged { value: self.meter.rate(self.sign_at, SUPPOSED_RATE), age: sign_age }),
            first_byte: usual.map(|((usual, unusual), at)| {
                let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
                // What is unusual begins four deviations above the usual.
                let value = FirstByte { usual: seconds(usual), deviation: seconds((unusual - usual) / 4.0) };
                Aged { value, age: now.since(at) }
            }),
            connections: self.connections.found().map(|value| Aged { value, age: sign_age }),
            ranges: ((known || !self.ranges) && !self.ranges_untried())
                .then_some(Aged { value: self.ranges, age: sign_age }),
        }
    }

    /// What is still supposed and not measured, where anything is.
    pub(super) fn supposition(&self, now: Time) -> Option<Supposition> {
        let History { bytes_per_second, first_byte, connections, ranges } = self.before.history;
        let unknown = !self.meter.known();
        let rate = bytes_per_second.filter(|_| unknown);
        let first_byte = first_byte.filter(|_| self.latency.seconds().is_none());
        let connections = connections.filter(|_| unknown);
        let no_ranges = ranges.filter(|_| self.ranges_untried());
        let ages = [rate.map(|it| it.age), first_byte.map(|it| it.age), no_ranges.map(|it| it.age)];
        let age = ages.into_iter().flatten().min()?;
        Some(Supposition {
            bytes_per_second: rate.map(|it| it.value),
            first_byte: first_byte.map(|it| it.value.usual),
            connections: connections.map(|it| it.value),
            no_ranges: no_ranges.is_some(),
            age: age + now.since(self.before.given_at),
            trust: trust(age),
        })
    }
}

impl Scheduler {
    /// Take up what an earlier mount measured of a mirror. It counts until the same is measured, or the mirror's
    /// first fetch disappoints; the older it is, the less. Its age is taken as of now: give it before the first read.
    pub fn suppose(&mut self, now: Time, mirror: MirrorId, history: History) {
        if let Some(mirror) = self.mirrors.get_mut(usize::from(mirror.0)) {
            mirror.suppose(now, history);
            self.dirty = true;
        }
    }

    /// What was measured of each mirror since the start, by its id: nothing of what was only supposed.
    pub fn history(&self, now: Time) -> Vec<History> {
        self.mirrors.iter().map(|mirror| mirror.history(now)).collect()
    }

    /// Somebody fetches: from here on a mirror that is not used could have been.
    pub(super) fn begin_doubt(&mut self, now: Time) {
        if !std::mem::replace(&mut self.begun, true) {
            self.mirrors.iter_mut().for_each(|mirror| mirror.before.since = Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Scheduler, Settings};
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: Time = Time(500_000_000_000_000);

    fn aged<T>(value: T, age: Duration) -> Option<Aged<T>> {
        Some(Aged { value, age })
    }

    fn rate(bytes_per_second: f64, age: Duration) -> History {
        History { bytes_per_second: aged(bytes_per_second, age), ..History::default() }
    }

    fn mirror(history: History) -> Mirror {
        let mut mirror = Mirror::new(NOW);
        mirror.suppose(NOW, history);
        mirror
    }

    #[test]
    fn a_figure_counts_half_after_a_day_and_not_at_all_after_thirty() {
        let rated = |age| mirror(rate(40e6, age)).rate(NOW) / 1e6;
        assert!((rated(Duration::ZERO) - 40.0).abs() < 1e-6, "{}", rated(Duration::ZERO));
        // Half way from 10 to 40 in factors.
        assert!((rated(DAY) - 20.0).abs() < 1e-6, "{}", rated(DAY));
        assert!(rated(DAY - HOUR) > 20.0 && rated(DAY + HOUR) < 20.0);
        assert!(mirror(rate(40e6, AGE_MAX)).supposition(NOW).is_some());
        assert!(mirror(rate(40e6, AGE_MAX + Duration::from_secs(1))).supposition(NOW).is_none());
        let first_byte = FirstByte { usual: Duration::from_millis(80), deviation: Duration::from_millis(10) };
        let waits = |age| mirror(History { first_byte: aged(first_byte, age), ..History::default() }).latency_seconds();
        assert!((waits(Duration::ZERO) - 0.08).abs() < 1e-9 && (waits(DAY) - 0.04).abs() < 1e-9);
    }

    #[test]
    fn no_ranges_are_believed_for_a_day() {
        let ranges = |value, age| mirror(History { ranges: aged(value, age), ..History::default() });
        assert!(!ranges(false, DAY).ranges && ranges(false, DAY).supposition(NOW).is_some());
        assert!(ranges(false, DAY + Duration::from_secs(1)).ranges);
        assert!(ranges(true, Duration::ZERO).ranges);
        assert_eq!(ranges(false, HOUR).history(NOW).ranges, None, "what was only supposed is not learned anew");
        let mut asked = Mirror::new(NOW);
        asked.ranges = false;
        assert_eq!(asked.history(NOW).ranges, aged(false, Duration::ZERO));
    }

    #[test]
    fn connections_are_taken_up_by_their_age_and_told_once_they_were_tried() {
        let connections = |value, age| mirror(History { connections: aged(value, age), ..History::default() });
        let limit = |value, age| connections(value, age).connections.limit(8);
        assert_eq!((limit(6, Duration::ZERO), limit(6, DAY), limit(6, 20 * DAY)), (6, 4, 2));
        assert_eq!((limit(1, Duration::ZERO), limit(1024, Duration::ZERO), limit(1025, Duration::ZERO)), (2, 8, 2));
        assert_eq!(connections(6, Duration::ZERO).history(NOW).connections, None);
    }

    #[test]
    fn figures_that_no_link_has_are_none() {
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e13] {
            assert_eq!(mirror(rate(wrong, HOUR)).rate(NOW), SUPPOSED_RATE, "{wrong}");
        }
        for usual in [Duration::ZERO, Duration::MAX] {
            let first_byte = aged(FirstByte { usual, deviation: Duration::MAX }, HOUR);
            let mirror = mirror(History { first_byte, ..History::default() });
            assert_eq!((mirror.latency_seconds(), mirror.before.answer_seconds()), (SUPPOSED_LATENCY_SECONDS, 0.0));
        }
    }

    #[test]
    fn it_ends_with_the_first_measurement_or_the_first_disappointment() {
        let mut measured = mirror(rate(100e6, HOUR));
        assert!(measured.fetch_bytes(100e6, &Settings::default()) > 4 << 20, "no small first fetch");
        measured.meter.start(NOW);
        // It brings a megabyte a second now: as much as the first fetch of an unknown one is enough to see it.
        for millisecond in 1..=140 {
            measured.meter.came(NOW + Duration::from_millis(millisecond), 1000);
            measured.meter.sample(NOW + Duration::from_millis(millisecond));
        }
        let then = NOW + Duration::from_millis(140);
        assert!(measured.meter.known() && measured.rate(then) < 4e6, "{}", measured.rate(then));
        assert_eq!((measured.supposition(then), measured.doubt(then)), (None, 0.0));
        let mut late = mirror(rate(100e6, HOUR));
        late.disappoint();
        assert_eq!((late.rate(NOW), late.doubt(NOW), late.supposition(NOW)), (SUPPOSED_RATE, 1.0, None));
        assert_eq!(late.fetch_bytes(100e6, &Settings::default()), FIRST_FETCH_BYTES);
    }

    #[test]
    fn one_that_was_slow_is_tried_again_but_not_because_nobody_reads() {
        let mut scheduler = Scheduler::new(Settings::default(), 2, 1, NOW);
        scheduler.suppose(NOW, MirrorId(0), rate(1e6, Duration::ZERO));
        scheduler.suppose(NOW, MirrorId(9), rate(1e6, Duration::ZERO));
        let later = |from: Time, seconds| from + Duration::from_secs(seconds);
        assert!(scheduler.mirrors[0].rate(later(NOW, 100_000)) < 1.001e6);
        let begun = later(NOW, 100_000);
        scheduler.begin_doubt(begun);
        scheduler.begin_doubt(later(begun, 9));
        assert!(scheduler.mirrors[0].rate(later(begun, 10)) < 1.001e6);
        assert!(scheduler.mirrors[0].rate(later(begun, 70)) > 5e6);
        assert!(scheduler.mirrors[0].doubt(later(begun, 70)) > 0.8);
        assert!(
            mirror(rate(100e6, Duration::ZERO)).rate(later(NOW, 1000)) > 99e6,
            "a fast one shows what it is itself"
        );
    }

    #[test]
    fn what_is_told_is_what_was_measured_when_it_was() {
        let mut measured = Mirror::new(NOW);
        assert_eq!(measured.history(NOW), History::default());
        measured.latency.add(NOW, Duration::from_millis(40), false);
        measured.meter.start(NOW);
        for millisecond in 1..=1000 {
            measured.sign_at = NOW + Duration::from_millis(millisecond);
            measured.meter.came(measured.sign_at, 2000);
            measured.meter.sample(measured.sign_at);
        }
        measured.meter.stop(measured.sign_at);
        let history = measured.history(NOW + Duration::from_secs(601));
        let told = history.bytes_per_second.unwrap();
        assert!((told.value - 2e6).abs() < 1e4, "the doubt of ten minutes is no measurement: {told:?}");
        assert_eq!((told.age, history.ranges), (Duration::from_secs(600), aged(true, Duration::from_secs(600))));
        let first_byte = FirstByte { usual: Duration::from_millis(40), deviation: Duration::from_millis(20) };
        assert_eq!(history.first_byte, aged(first_byte, Duration::from_secs(601)));
    }
}
