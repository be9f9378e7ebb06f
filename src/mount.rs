//! Compose, run, end in order.
