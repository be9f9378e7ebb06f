//! Embedded mirrors and a generated dataset, mounted: the first thing a user runs.
