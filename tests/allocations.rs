//! A decision allocates nothing in the steady state: counted by the allocator, not believed.
//!
//! A test binary of its own, because it counts what all of its code allocates.

use braidfs::scheduler::Strategy;
use braidfs::simulate::cost::Bench;

const DECISIONS: u64 = 2000;

#[test]
fn a_decision_allocates_nothing() {
    for strategy in Strategy::ALL {
        for (mirrors, in_flight) in [(4, 16), (64, 16), (64, 256)] {
            let mut bench = Bench::new(strategy, mirrors, in_flight);
            let (mut allocations, before) = (0, bench.started);
            for _ in 0..DECISIONS {
                allocations += allocation_counter::measure(|| bench.decide()).count_total;
                bench.go_on();
            }
            assert!(bench.started - before >= DECISIONS, "{strategy}: every one started a fetch");
            assert_eq!(allocations, 0, "{strategy}, {mirrors} mirrors, {in_flight} fetches in flight");
        }
    }
}
