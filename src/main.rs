//! The `braidfs` command.

fn main() {}
