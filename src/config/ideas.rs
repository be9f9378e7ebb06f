//! Ideas that this program is built on, each with a hidden option that switches it off, so that what it is worth can be
//! measured (`tests/bench/compare ideas`). Nobody else needs them: they stand in no file and in no help.

use clap::Args;

/// What is switched off.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ideas {
    /// A read of what is cached on disk takes a fresh buffer, reads the pages into it and answers from there; and nothing
    /// is passed through.
    #[arg(long, hide = true)]
    pub without_pool: bool,
    /// Control, listings and the log share a thread and a runtime with the data.
    #[arg(long, hide = true)]
    pub without_data_plane: bool,
    /// Each request has a connection of its own.
    #[arg(long, hide = true)]
    pub without_kept_connections: bool,
    /// Each TLS connection begins with a full handshake.
    #[arg(long, hide = true)]
    pub without_tls_resumption: bool,
}
