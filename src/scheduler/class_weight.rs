//! What a class counts on a mirror (spec 3.1): `weight = base * max(0, 1 - min(latency_ms / 1000, 1))`.
//!
//! The latency is that of the mirror considered, so on each mirror readahead and prefetch stand to each other as
//! their bases do: that is how they share what demand leaves. A mirror on which a class has no weight is not for
//! it while another can do the work.

use crate::chunk::Class;

/// From here on a mirror is too far away for what nobody waits for.
const LATENCY_SECONDS_MAX: f64 = 1.0;

/// The weight of a class on a mirror at once.
pub(super) const fn base(class: Class) -> f64 {
    match class {
        Class::Demand => 100.0,
        Class::Readahead => 30.0,
        Class::Prefetch => 5.0,
    }
}

/// The weight of a class on a mirror whose first byte takes so long. 0: not for it.
pub(super) fn class_weight(class: Class, latency_seconds: f64) -> f64 {
    base(class) * (1.0 - (latency_seconds / LATENCY_SECONDS_MAX).min(1.0)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousandth_is_left_at_999_ms_and_nothing_from_1000_ms_on() {
        for (class, base) in [(Class::Demand, 100.0), (Class::Readahead, 30.0), (Class::Prefetch, 5.0)] {
            assert_eq!(class_weight(class, 0.0), base);
            assert!((class_weight(class, 0.25) - 0.75 * base).abs() < 1e-9);
            assert!((class_weight(class, 0.999) - 0.001 * base).abs() < 1e-9);
            assert_eq!((class_weight(class, 1.0), class_weight(class, 7.0)), (0.0, 0.0));
        }
    }

    #[test]
    fn readahead_gets_six_times_what_prefetch_gets_on_every_mirror() {
        for latency_seconds in [0.0, 0.05, 0.5, 0.99] {
            let [readahead, prefetch] =
                [Class::Readahead, Class::Prefetch].map(|class| class_weight(class, latency_seconds));
            assert!((readahead / prefetch - 6.0).abs() < 1e-9);
        }
    }
}
