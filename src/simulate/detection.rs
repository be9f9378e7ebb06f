//! How well faults are noticed: on simulated faults, on healthy hours, and beside a fixed timeout.
//!
//! A fault: three mirrors and a reader that streams; after some seconds one mirror falls silent, or its rate
//! collapses to at most 3 %. An alarm about that mirror within the time allowed is a hit. A healthy hour:
//! three mirrors with jitter, wobbling rates and lost packets (silences of 200 ms), a reader at 0.5 MB/s and a random
//! read every 5 s; any alarm makes it a false one. An alarm: a fetch counted as stalled, a breaker that is not
//! closed, an alert that names the mirror, or (second row) a fetch of it that is given to another mirror.
//! The fixed timeout is computed, not run: a silent body is noticed after 5 s, a slow one never.

use super::mirror::{Change, Health};
use super::outcome::percentile;
use super::random::scaled;
use super::scenario::{MirrorPlan, Order, PlannedChange, ReaderPlan, Scenario};
use super::table::{head, row};
use super::world::World;
use crate::clock::Time;
use crate::scheduler::{BreakerState, Strategy};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use std::time::Duration;

/// What the comparison waits for.
const TIMEOUT_SECONDS: f64 = 5.0;
/// A fault has to be noticed within one of these.
const ALLOWED_SECONDS: [f64; 2] = [1.0, 10.0];
/// How often the world is looked at, in milliseconds.
const LOOK_MS: u64 = 10;
/// A healthy hour.
pub const HOUR: Duration = Duration::from_secs(3600);

/// What an alarm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Alarm {
    /// Stall, breaker or alert.
    Loud,
    /// That, or a fetch that was taken away.
    Any,
}

/// One trial: when each kind of alarm came about the faulty mirror, and whether one came about another.
#[derive(Clone, Copy, Debug, Default)]
struct Trial {
    silent: bool,
    loud: Option<f64>,
    any: Option<f64>,
    false_loud: bool,
    false_any: bool,
}

/// One detector, judged.
#[derive(Clone, Debug, Serialize)]
pub struct Quality {
    /// Which detector.
    pub detector: String,
    /// Within how many seconds.
    pub allowed_seconds: f64,
    /// Faults noticed in time.
    pub hits: usize,
    /// Faults not noticed in time.
    pub misses: usize,
    /// Healthy hours, and mirrors beside a faulty one, that raised an alarm.
    pub false_alarms: usize,
    /// Hits over all alarms.
    pub precision: f64,
    /// Hits over all faults.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// Hits over all silences.
    pub recall_of_silence: f64,
    /// Hits over all collapses.
    pub recall_of_collapse: f64,
    /// Seconds to the alarm, where there was one: median.
    pub delay_p50: f64,
    /// 99th percentile.
    pub delay_p99: f64,
}

fn mirrors(rng: &mut StdRng) -> Vec<MirrorPlan> {
    let mirror = |rng: &mut StdRng| {
        let latency = Duration::from_secs_f64(scaled(rng, (0.005, 0.1)));
        let mut plan = MirrorPlan::new(scaled(rng, (2e6, 40e6)), latency);
        plan.jitter = latency.mul_f64(rng.random_range(0.0..0.5));
        plan.wobble = rng.random_range(0.0..0.3);
        plan.losses_per_second = rng.random_range(0.0..0.1);
        plan
    };
    (0..3).map(|_| mirror(rng)).collect()
}

fn scenario(mirrors: Vec<MirrorPlan>, readers: Vec<ReaderPlan>, until: Duration, seed: u64) -> Scenario {
    let (name, prefetches) = ("detection".to_owned(), Vec::new());
    Scenario { name, mirrors, readers, prefetches, memory_bytes: 256 << 20, hedging: true, until, seed }
}

/// What was counted against each mirror so far: loud alarms, and fetches taken away.
fn alarms(world: &World) -> Vec<(u64, u64)> {
    let seen = world.scheduler.snapshot(world.now);
    let one = |(at, mirror): (usize, &crate::scheduler::MirrorSnapshot)| {
        let about = |named: &Option<crate::chunk::MirrorId>| named.is_some_and(|named| usize::from(named.0) == at);
        let alerts = world.alerts.iter().filter(|(_, named, _)| about(named)).count() as u64;
        let open = u64::from(mirror.state != BreakerState::Closed);
        (mirror.failures.stalled + alerts + open, world.mirrors[at].cancelled)
    };
    seen.mirrors.iter().enumerate().map(one).collect()
}

fn fault(strategy: Strategy, seed: u64) -> Trial {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut plans = mirrors(&mut rng);
    let faulty = rng.random_range(0..plans.len());
    let at = Duration::from_millis(rng.random_range(3000..6000));
    let silent = rng.random_bool(0.5);
    let change = match (silent, rng.random_bool(0.5)) {
        (true, true) => Change::Health(Health::BlackHole),
        (true, false) => Change::Health(Health::Bodiless),
        (false, _) => Change::Rate(plans[faulty].bandwidth * rng.random_range(0.001..0.03)),
    };
    plans[faulty].changes.push(PlannedChange { at, every: None, change });
    let total: f64 = plans.iter().map(|plan| plan.bandwidth).sum();
    let mut reader = ReaderPlan::new(Order::Sequential, 1 << 32, 128 << 10);
    reader.rate = rng.random_bool(0.5).then_some(total * 0.6);
    let until = at + Duration::from_secs_f64(ALLOWED_SECONDS[1]);
    let mut world = scenario(plans, vec![reader], until, seed).world(strategy, seed);
    let begin_ms = at.as_millis() as u64;
    world.run_until(begin_ms);
    let before = alarms(&world);
    let mut trial = Trial { silent, ..Trial::default() };
    // What was wrong before anything was.
    trial.false_loud = before.iter().any(|&(loud, _)| loud > 0);
    trial.false_any = before.iter().any(|&(loud, taken)| loud + taken > 0);
    for ms in (begin_ms..until.as_millis() as u64).step_by(LOOK_MS as usize) {
        world.run_until(ms + LOOK_MS);
        let delay = world.now.seconds_since(Time(0) + at);
        for (mirror, (now, then)) in alarms(&world).into_iter().zip(&before).enumerate() {
            let (loud, any) = (now.0 > then.0, now.0 + now.1 > then.0 + then.1);
            if mirror == faulty {
                trial.loud = trial.loud.or(loud.then_some(delay));
                trial.any = trial.any.or(any.then_some(delay));
            } else {
                trial.false_loud |= loud;
                trial.false_any |= any;
            }
        }
        if trial.loud.is_some() {
            break;
        }
    }
    trial
}

fn healthy(strategy: Strategy, seed: u64, length: Duration) -> Trial {
    let mut rng = StdRng::seed_from_u64(seed);
    let plans = mirrors(&mut rng);
    let (rate, every) = (0.5e6, 5.0);
    let stream = ReaderPlan {
        rate: Some(rate),
        ..ReaderPlan::new(Order::Sequential, (rate * length.as_secs_f64()) as u64, 128 << 10)
    };
    let reads = (length.as_secs_f64() / every) as u64;
    let here_and_there = ReaderPlan {
        arrivals_per_second: Some(1.0 / every),
        ..ReaderPlan::new(Order::Random(reads), 1 << 30, 64 << 10)
    };
    let mut world = scenario(plans, vec![stream, here_and_there], length, seed).world(strategy, seed);
    world.mirrors.iter_mut().for_each(|mirror| mirror.grain = Duration::from_millis(LOOK_MS));
    world.run_until(length.as_millis() as u64);
    let seen = alarms(&world);
    let alerts = !world.alerts.is_empty();
    Trial {
        false_loud: alerts || seen.iter().any(|&(loud, _)| loud > 0),
        false_any: alerts || seen.iter().any(|&(loud, taken)| loud + taken > 0),
        ..Trial::default()
    }
}

/// Judge a strategy on so many faults and healthy hours, and the timeout on the same.
pub(super) fn judge(strategy: Strategy, count: u64, seed: u64, hour: Duration) -> Vec<Quality> {
    let faults: Vec<Trial> = (0..count).map(|at| fault(strategy, seed + at)).collect();
    let hours: Vec<Trial> = (0..count).map(|at| healthy(strategy, seed + at, hour)).collect();
    let mut all = Vec::new();
    for allowed in ALLOWED_SECONDS {
        for (name, alarm) in [("stall, breaker, alert", Alarm::Loud), ("the same or fetch moved", Alarm::Any)] {
            let delay = |trial: &Trial| if alarm == Alarm::Loud { trial.loud } else { trial.any };
            let wrong = |trial: &&Trial| if alarm == Alarm::Loud { trial.false_loud } else { trial.false_any };
            let delays: Vec<_> = faults.iter().map(|trial| (trial.silent, delay(trial))).collect();
            let false_alarms = faults.iter().chain(&hours).filter(wrong).count();
            all.push(quality(format!("{strategy}: {name}"), allowed, &delays, false_alarms));
        }
        let timeout = |trial: &Trial| (trial.silent, trial.silent.then_some(TIMEOUT_SECONDS));
        let delays: Vec<_> = faults.iter().map(timeout).collect();
        all.push(quality("fixed timeout of 5 s".into(), allowed, &delays, 0));
    }
    all
}

/// `delays`: of each fault, whether it was a silence, and after how long the alarm came.
fn quality(detector: String, allowed_seconds: f64, delays: &[(bool, Option<f64>)], false_alarms: usize) -> Quality {
    let hit = |&&(_, delay): &&(bool, Option<f64>)| delay.is_some_and(|delay| delay <= allowed_seconds);
    let hits = delays.iter().filter(hit).count();
    let share = |hits: usize, of: usize| if of == 0 { 0.0 } else { hits as f64 / of as f64 };
    let (precision, recall) = (share(hits, hits + false_alarms), share(hits, delays.len()));
    let of_kind = |silent: bool| {
        let kind = || delays.iter().filter(move |&&(kind, _)| kind == silent);
        share(kind().filter(hit).count(), kind().count())
    };
    let f1 = if hits == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
    let mut noticed: Vec<f64> = delays.iter().filter_map(|&(_, delay)| delay).collect();
    noticed.sort_by(f64::total_cmp);
    Quality {
        detector,
        allowed_seconds,
        hits,
        misses: delays.len() - hits,
        false_alarms,
        precision,
        recall,
        f1,
        recall_of_silence: of_kind(true),
        recall_of_collapse: of_kind(false),
        delay_p50: percentile(&noticed, 0.5),
        delay_p99: percentile(&noticed, 0.99),
    }
}

/// Judgements as a table.
pub(super) fn table(all: &[Quality]) -> String {
    let mut text = head(&[
        "detector",
        "noticed within s",
        "hits",
        "misses",
        "false alarms",
        "precision",
        "recall",
        "F1",
        "recall of silence",
        "of collapse",
        "delay s: median / 99 %",
    ]);
    for quality in all {
        text += &row(&[
            quality.detector.clone(),
            format!("{:.0}", quality.allowed_seconds),
            quality.hits.to_string(),
            quality.misses.to_string(),
            quality.false_alarms.to_string(),
            format!("{:.3}", quality.precision),
            format!("{:.3}", quality.recall),
            format!("{:.3}", quality.f1),
            format!("{:.3}", quality.recall_of_silence),
            format!("{:.3}", quality.recall_of_collapse),
            format!("{:.2} / {:.2}", quality.delay_p50, quality.delay_p99),
        ]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_recall_and_f1_are_what_they_are_called() {
        let delays = [(true, Some(0.2)), (false, Some(0.4)), (true, Some(3.0)), (true, None)];
        let judged = quality("x".into(), 1.0, &delays, 1);
        assert_eq!((judged.hits, judged.misses), (2, 2));
        assert!((judged.precision - 2.0 / 3.0).abs() < 1e-9 && (judged.recall - 0.5).abs() < 1e-9);
        assert!((judged.f1 - 4.0 / 7.0).abs() < 1e-9);
        assert_eq!((judged.recall_of_silence, judged.recall_of_collapse), (1.0 / 3.0, 1.0));
        assert_eq!(quality("x".into(), 1.0, &[(true, None)], 0).f1, 0.0);
    }

    #[test]
    fn a_fault_is_noticed_sooner_than_by_a_timeout() {
        let all = judge(Strategy::Adaptive, 3, 1, Duration::from_secs(20));
        assert!(all[1].recall > all[2].recall, "{all:?}");
    }
}
