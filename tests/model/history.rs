//! What was done last, said when something goes wrong, and how to do it again.

use std::collections::VecDeque;

/// So many of the last steps and remarks explain nearly every failure.
const LAST: usize = 100;

/// The steps of a run.
pub struct History {
    seed: u64,
    number: u64,
    last: VecDeque<String>,
}

impl History {
    pub fn of(seed: u64) -> History {
        History { seed, number: 0, last: VecDeque::new() }
    }

    /// This is about to be done.
    pub fn note(&mut self, number: u64, what: String) {
        self.number = number;
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(format!("{number}: {what}"));
    }

    /// Something else that helps to understand, beside the steps.
    pub fn remark(&mut self, what: &str) {
        self.note(self.number, format!("  {what}"));
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, steps) = (self.seed, self.number + 1);
            eprintln!("--- the last steps of seed {seed}");
            self.last.iter().for_each(|step| eprintln!("{step}"));
            eprintln!("--- again: BRAIDFS_MODEL_SEED={seed} BRAIDFS_MODEL_STEPS={steps} tests/run model::given");
        }
    }
}
