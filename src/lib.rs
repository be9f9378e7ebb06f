//! braidfs mounts a remote dataset, which several mirrors hold, as a local read-only directory.
//! A read becomes prioritised range requests, spread over the mirrors by a scheduler that measures
//! them all the time; what arrives is kept in a bounded memory pool and on disk.
//!
//! # Map, in the order in which a read travels
//!
//! | module | one responsibility | may import |
//! |---|---|---|
//! | [`chunk`] [`clock`] [`metrics`] | identities and grid arithmetic; the one reading of the clock; counters | nothing |
//! | [`namespace`] | what exists: inode tree, merged listings, versions. **Pure** | chunk clock |
//! | [`scheduler`] | every decision: order, dedupe, mirror, window, readahead. **Pure** | chunk clock |
//! | [`simulate`] | the true scheduler in virtual time, against simulated mirrors and readers. **Pure** | chunk clock scheduler |
//! | [`sources`] | speak HTTP; read listings; classify every failure | chunk clock metrics |
//! | [`cache`] | keep bytes: pool, then disk; never lie about what is held | chunk clock metrics |
//! | [`fetch`] | run the scheduler's actions; wake the readers. The only place with tasks and channels | all above |
//! | [`fs`] | speak FUSE; choose errno (in one file) | chunk clock namespace fetch |
//! | [`control`] | the operator's door: commands over a unix socket, metrics and a page over HTTP | fetch namespace metrics |
//! | [`config`] | command line and file into each module's own `Settings` | all Settings |
//! | [`mount`] | compose, run, end in order | all |
//! | [`doctor`] | look at what a mount would meet, or at a live one: findings, and figures | all but demo |
//! | [`demo`] | embedded mirrors and a generated dataset, mounted: the first thing a user runs | all |
//!
//! `{chunk clock metrics} <- {namespace scheduler sources cache} <- fetch <- {fs control} <- config <- mount <- {doctor demo} <- main`;
//! siblings in a brace never import each other. `tests/architecture.rs` proves it.
//!
//! # Glossary (one word per thing)
//!
//! *dataset* what is mounted · *mirror* a place that serves all or part of it · *source* our client
//! for one mirror · *file version* size + validators; what a handle is pinned to, one inode each ·
//! *kin* the mirrors whose bytes may be in one file version together, after comparing ·
//! *page* 4 KiB of a file: the unit of what is held, of the bitmap and of its checksum · *chunk* 16
//! pages, aligned: the unit of the scheduler's table · *fetch* one request to one mirror for a run of
//! neighbouring pages · *class* demand (P0), readahead (P1), prefetch (P2) · *window* the bytes a
//! mirror may have in flight · *pool* the bounded memory · *bitmap* the pages on disk · *handle*,
//! *inode* as in FUSE · *arm* a side of an experiment · *slice* the time for which an arm has the mount.
//!
//! # Invariants
//!
//! 1. No byte reaches a reader that was not accepted as the exact answer to the exact range, and checked against the hash of
//!    that range where its mirror gave one.
//! 2. No set bit on disk without its durable bytes. A lost bit costs a fetch, never a wrong byte.
//! 3. Bytes held <= the limit, in memory and on disk, at every instant.
//! 4. Every wait has a deadline, every queue a bound, every retry a budget; at rest all gauges are zero.
//! 5. A decision is a value: printable, replayable.

pub mod chunk;
pub mod clock;
pub mod metrics;

pub mod cache;
pub mod namespace;
pub mod scheduler;
pub mod simulate;
pub mod sources;

pub mod fetch;

pub mod control;
pub mod fs;

pub mod config;
pub mod demo;
pub mod doctor;
pub mod mount;
