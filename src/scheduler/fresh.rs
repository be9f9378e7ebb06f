//! How long what a choice sees of a mirror stays good while nothing happens to it.

use super::mirror::Mirror;
use crate::clock::Time;
use std::time::Duration;

/// The rate of a mirror that should be sending falls with each ms of silence: by a fifteenth in so long, and by less than a
/// tenth where it was measured for 100 ms only.
const FRESH_BUSY: Duration = Duration::from_millis(9);
/// That of one of which little is known, with 20 ms of a supposition behind it, falls as much in this time.
const FRESH_UNKNOWN: Duration = Duration::from_millis(2);
/// Trouble is forgiven by half in 10 s: by a 150th in so long. A rate that is doubted rises by less than a fortieth,
/// however slow it was.
const FRESH_CHANGING: Duration = Duration::from_millis(100);
/// A rate from an earlier mount is doubted within tens of seconds, and nothing else changes by itself.
const FRESH_IDLE: Duration = Duration::from_secs(1);

/// When a mirror to which nothing happens is to be looked at again.
pub(super) fn stale_at(now: Time, mirror: &Mirror) -> Time {
    let changing = mirror.trouble.part(now) > 0.0 || mirror.meter.doubted_at() <= now;
    let fresh = match (mirror.bodies > 0, changing) {
        (true, _) if !mirror.meter.known() || mirror.meter.young() => FRESH_UNKNOWN,
        (true, _) => FRESH_BUSY,
        (false, true) => FRESH_CHANGING,
        (false, false) => FRESH_IDLE,
    };
    let turns = [mirror.breaker.next_try, mirror.meter.doubted_at()];
    turns.into_iter().filter(|&turn| turn > now).fold(now + fresh, Time::min)
}
