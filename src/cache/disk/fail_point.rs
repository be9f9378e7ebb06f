//! Named points at which a test can have the process killed. A release build has none of it.
//!
//! `BRAIDFS_FAIL_POINT=NAME:COUNT` kills by SIGKILL where the point is reached for the COUNTth time, in builds
//! with debug assertions.

/// A moment whose interruption has to do no harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FailPoint {
    /// Pages are written and not synced.
    Written,
    /// They are synced, their bits not committed.
    Synced,
    /// The bits are committed, nobody was told.
    Committed,
    /// Bits were taken away, their room not given back yet.
    Evicting,
    /// A complete file has its exact length, and is not done.
    Finishing,
    /// The data of a damaged state is out of the way, the state is not.
    SettingAside,
}

/// Die here, where that was asked for.
#[cfg(debug_assertions)]
pub(super) fn reached(point: FailPoint) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static ASKED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static TIMES: AtomicU64 = AtomicU64::new(0);
    let asked = ASKED.get_or_init(|| {
        let text = std::env::var("BRAIDFS_FAIL_POINT").ok()?;
        let (name, count) = text.split_once(':')?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    let Some((name, count)) = asked else { return };
    if *name != format!("{point:?}") || TIMES.fetch_add(1, Ordering::Relaxed) + 1 != *count {
        return;
    }
    eprintln!("killed at the fail point {name}:{count}");
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(super) fn reached(_: FailPoint) {}
