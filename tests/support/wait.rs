//! Waiting for a condition, with a deadline: the only way in which a test waits.

use braidfs::clock;
use std::time::Duration;

/// No healthy machine needs as long for anything that a test waits for; it only bounds a hang.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at: often enough that a test is not slowed, seldom enough that
/// two cores are not kept busy by looking.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Until `condition` gives something, at most [`PATIENCE`]; then panic, naming `what`.
pub fn for_some<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(clock::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        pause();
    }
}

/// Until `condition` holds, at most [`PATIENCE`]; then panic, naming `what`.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for_some(what, || condition().then_some(()));
}

/// Does `condition` come to hold within `patience`?
pub fn within(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = clock::now() + patience;
    while !condition() {
        if clock::now() >= deadline {
            return false;
        }
        pause();
    }
    true
}

#[allow(clippy::disallowed_methods, reason = "the pause between two looks at a condition; nothing is slept for luck")]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}
