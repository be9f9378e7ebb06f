//! The operator's door: commands over a unix socket, and metrics over HTTP (`http`, whose text is `exposition`).
//!
//! The daemon's side is `server`, which holds nothing but the [`Doors`](server::Doors) that it is
//! handed. The user's side is `client` with its `commands`. Between them: `protocol` (lines of JSON)
//! and `report`, `reloaded`, `experiment` and `file_report` (what they say). `mountinfo` and `place` find the daemon of a path without
//! touching the mount, which may hang; `busy` and `unmount` end it.

pub mod busy;
pub mod client;
pub mod commands;
pub mod experiment;
pub mod exposition;
pub mod file_report;
pub mod http;
pub mod human;
pub mod mountinfo;
pub mod place;
pub mod protocol;
pub mod reading;
pub mod reloaded;
pub mod report;
pub mod schema;
pub mod server;
pub mod unmount;

#[cfg(test)]
mod tests;
