//! What one decision costs: from the event that pages are wanted to the last action that follows.
//!
//! Criterion gives the mean and how it varies; what is promised are the median and the 99th percentile of single
//! decisions, so those are timed one by one and printed as lines that begin with `decision`. A reading of the clock
//! (some 25 ns) is part of each.

use braidfs::clock;
use braidfs::scheduler::Strategy;
use braidfs::simulate::cost::{Bench, measure};
use criterion::Criterion;
use std::time::Duration;

/// The 99th percentile is the 200th of them.
const DECISIONS: usize = 20_000;
const MIRRORS: [usize; 5] = [4, 16, 64, 256, 1000];
const IN_FLIGHT: [usize; 4] = [16, 64, 256, 1000];
/// The setting that is promised for.
const PROMISED: (usize, usize) = (64, 64);

fn one_by_one(strategy: Strategy, setting: (usize, usize)) -> u64 {
    let cost = measure(strategy, setting, DECISIONS, &mut || clock::now().0);
    let (mirrors, in_flight, p50_ns, p99_ns) = (cost.mirrors, cost.in_flight, cost.p50_ns, cost.p99_ns);
    println!(
        "decision {strategy} {mirrors} mirrors, {in_flight} fetches in flight: median {p50_ns} ns, P99 {p99_ns} ns"
    );
    p50_ns
}

fn growth(strategy: Strategy, of: &str, medians: &[u64], from: usize, to: usize) {
    if let [first, .., last] = medians {
        let times = *last as f64 / (*first).max(1) as f64;
        println!("decision {strategy} growth from {from} to {to} {of}: {times:.1} times");
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .configure_from_args();
    for strategy in Strategy::ALL {
        let by_mirrors = MIRRORS.map(|mirrors| one_by_one(strategy, (mirrors, PROMISED.1)));
        growth(strategy, "mirrors", &by_mirrors, MIRRORS[0], MIRRORS[MIRRORS.len() - 1]);
        let by_fetches = IN_FLIGHT.map(|in_flight| one_by_one(strategy, (PROMISED.0, in_flight)));
        growth(strategy, "fetches in flight", &by_fetches, IN_FLIGHT[0], IN_FLIGHT[IN_FLIGHT.len() - 1]);
        let mut bench = Bench::new(strategy, PROMISED.0, PROMISED.1);
        criterion.bench_function(&format!("decision {strategy} {} mirrors, mean", PROMISED.0), |bencher| {
            bencher.iter_custom(|count| {
                let mut spent_ns = 0;
                for _ in 0..count {
                    let before = clock::now();
                    bench.decide();
                    spent_ns += clock::now().0 - before.0;
                    bench.go_on();
                }
                Duration::from_nanos(spent_ns)
            });
        });
    }
    criterion.final_summary();
}
