//! The operator's door: commands over a unix socket, and over HTTP (`http`) metrics (`scrape`, whose text is
//! `exposition`) and a page (`web`).
//!
//! The daemon's side is `server`, which holds nothing but the [`Doors`](server::Doors) that it is
//! handed; `answering` is what each command comes to, from the socket and from the page alike. The user's side is `client` with its `commands`. Between them: `protocol` (lines of JSON)
//! and `report`, `reloaded`, `experiment` and `file_report` (what they say). `mountinfo` and `place` find the daemon of a path without
//! touching the mount, which may hang; `busy` and `unmount` end it.

mod answering;
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
pub mod scrape;
pub mod server;
pub mod unmount;
pub mod web;

#[cfg(test)]
mod tests;
