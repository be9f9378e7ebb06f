//! What was at risk in a run. One in which little could go wrong has proved little, and does not pass.

use super::run::Keeping;
use std::collections::BTreeMap;

/// How often something happened that could go wrong.
#[derive(Default)]
pub struct Risk(BTreeMap<&'static str, u64>);

/// What must have happened in 5,000 steps: a half to a tenth of what does.
const LEAST: &[(&str, u64)] = &[
    ("reads", 1_500),
    ("changes seen by an open", 10),
    ("reads of a version that was replaced", 40),
    ("reads that ended with ESTALE", 2),
    ("replaced while reads were under way", 3),
    ("clean restarts", 1),
    ("kills", 1),
    ("offline spells", 1),
    ("reads of cached pages while offline", 5),
    ("reads through a memory map", 10),
];
const IN_MEMORY: &[(&str, u64)] = &[("requests struck by a fault", 60), ("bytes evicted from memory", 20 << 20)];
const ANSWERED: &[(&str, u64)] = &[
    ("requests struck by a fault", 60),
    ("bytes evicted from memory", 20 << 20),
    ("bytes evicted from disk", 5 << 20),
];
/// What the kernel has taken over comes to nobody's memory, and asks no mirror.
const PASSED_THROUGH: &[(&str, u64)] = &[
    ("requests struck by a fault", 40),
    ("bytes evicted from memory", 1 << 20),
    ("bytes evicted from disk", 5 << 20),
    ("files passed through", 20),
];
const STEPS: u64 = 5_000;

impl Risk {
    /// It happened so often more.
    pub fn add(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    /// All that happened in another mount.
    pub fn add_all(&mut self, other: &Risk) {
        other.0.iter().for_each(|(what, &count)| self.add(what, count));
    }

    /// A line for each thing.
    pub fn table(&self) -> String {
        self.0.iter().map(|(what, count)| format!("{count:>14} {what}\n")).collect()
    }

    /// Panics where too little was at risk in so many steps.
    pub fn enough(&self, steps: u64, keeping: Keeping) {
        if steps < STEPS {
            return;
        }
        let also = match keeping {
            Keeping::Memory => IN_MEMORY,
            Keeping::Answered => ANSWERED,
            Keeping::PassedThrough => PASSED_THROUGH,
        };
        for &(what, least) in LEAST.iter().chain(also) {
            let (least, have) = (least * steps / STEPS, self.0.get(what).copied().unwrap_or(0));
            assert!(
                have >= least,
                "too little was at risk: {have} {what} in {steps} steps, wanted {least}\n{}",
                self.table()
            );
        }
    }
}
