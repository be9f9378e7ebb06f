//! The whole program against a model: a real mount over our own mirrors, random steps, and byte arrays of every version of
//! every file that ever was on any mirror.
//!
//! 20,000 steps run each time, over four seeds. For more, fresh ones each time:
//! `BRAIDFS_MODEL_STEPS=1000000 BRAIDFS_MODEL_SEED=$RANDOM tests/run model::given`; a run is made of mounts of 5,000
//! steps each, and each of those has a seed of its own, which a failure prints. (What is random follows from the seed; what the
//! machine makes of it does not: threads race.) `BRAIDFS_MODEL_VERBOSE=1`: the daemons log all they can.
//!
//! [`remote`] what the mirrors have and had · [`faults`] what goes wrong with them · [`reading`] handles and reads · [`maps`]
//! readers by mmap · [`oracle`] what a reader may see · [`run`] one mount · [`steps`] what is done with it · [`spells`]
//! what seldom happens · [`risk`] was enough at risk? · [`history`] what to say of a failure.

mod faults;
mod history;
mod maps;
mod oracle;
mod reading;
mod remote;
mod risk;
mod run;
mod spells;
mod steps;

use risk::Risk;
use run::Keeping;
use std::collections::BTreeMap;

/// Steps of one mount and its mirrors.
const STEPS: u64 = 5_000;

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// One mount, with enough at risk.
fn mount_of(seed: u64) {
    let (keeping, risk) = run::run(seed, STEPS);
    risk.enough(STEPS, keeping);
}

#[test]
fn seed_1() {
    mount_of(1);
}

#[test]
fn seed_2() {
    mount_of(2);
}

#[test]
fn seed_3() {
    mount_of(3);
}

#[test]
fn seed_4() {
    mount_of(4);
}

/// What the environment asks for; nothing where it asks for nothing.
#[test]
fn given() {
    let Some(seed) = environment("BRAIDFS_MODEL_SEED") else { return };
    let mut left = environment("BRAIDFS_MODEL_STEPS").unwrap_or(STEPS);
    // Over all mounts of a kind: in one of them something may not come about.
    let mut all: BTreeMap<Keeping, (u64, Risk)> = BTreeMap::new();
    for seed in seed.. {
        if left == 0 {
            break;
        }
        let steps = left.min(STEPS);
        let (keeping, risk) = run::run(seed, steps);
        println!("seed {seed}, {left} steps left\n{}", risk.table());
        let (done, total) = all.entry(keeping).or_default();
        *done += steps;
        total.add_all(&risk);
        left -= steps;
    }
    for (keeping, (steps, risk)) in all {
        risk.enough(steps, keeping);
    }
}
