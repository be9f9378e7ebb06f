//! A real kernel mount over real and faulty mirrors, read with ordinary tools.

mod ahead;
mod amplification;
mod changed;
mod concurrency;
mod disk_trouble;
mod errors;
mod examples;
mod experiment;
mod explain;
mod hashes;
mod history;
mod http2;
mod jobs;
mod lies;
mod listing;
mod memory;
mod metrics;
mod mirror_lost;
mod offline;
mod otlp;
mod passthrough;
mod pins;
mod prefetch;
mod prefetch_check;
mod prefetch_lists;
mod prefetch_patterns;
mod prefetch_profile;
mod prefetch_rate;
mod prefetch_schema;
mod read_only;
mod readme;
mod redirects;
mod reload;
mod restart;
mod sameness;
mod stat;
mod status;
mod tools;
mod web;
mod whole_tree;
mod without_ranges;
mod xattr;

use crate::support::dataset;
use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::nginx::{Nginx, Setup};

/// So many nginx of the dataset.
fn nginxes(count: usize, setup: &Setup) -> Vec<Nginx> {
    (0..count).map(|_| Nginx::start(&dataset::root(), setup)).collect()
}

fn urls(mirrors: &[Nginx]) -> Vec<String> {
    mirrors.iter().map(Nginx::url).collect()
}

/// So many honest mirrors of one tree.
fn mirrors(count: usize, tree: &Tree) -> Vec<FaultyMirror> {
    (0..count).map(|_| FaultyMirror::start(tree.clone())).collect()
}

fn faulty_urls(mirrors: &[FaultyMirror]) -> Vec<String> {
    mirrors.iter().map(FaultyMirror::url).collect()
}

fn data_bytes(mirrors: &[FaultyMirror]) -> u64 {
    mirrors.iter().map(FaultyMirror::data_bytes).sum()
}
