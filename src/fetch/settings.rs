//! What the data plane can be told.

use std::time::Duration;

/// Limits of waiting. Plain data; `config` fills it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Nothing of a file is delivered before two mirrors agree on a page of it.
    pub quorum: bool,
    /// Complete files on disk may be read by the kernel past us.
    pub passthrough: bool,
    /// Reads of what is on disk take a buffer of their own. To measure what the pool is worth.
    pub fresh_buffers: bool,
    /// Everything shares the data's thread and runtime. To measure what their being apart is worth.
    pub one_runtime: bool,
    /// A read that has received no byte for so long fails. Each byte that arrives for it, from any
    /// mirror, starts it anew.
    pub read_timeout: Duration,
    /// A read fails after so long, whatever arrives.
    pub read_deadline: Duration,
    /// A listing that is past its lifetime is asked for again, and what is known is served when no
    /// mirror has answered within this: `ls` of what is known must not hang on a dead network.
    pub relist_patience: Duration,
    /// Prefetch asks for at most so many bytes ahead of what is durable, so that it cannot fill the
    /// memory that readers need.
    pub prefetch_window_bytes: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            quorum: false,
            passthrough: true,
            fresh_buffers: false,
            one_runtime: false,
            read_timeout: Duration::from_secs(30),
            read_deadline: Duration::from_secs(600),
            relist_patience: Duration::from_secs(1),
            prefetch_window_bytes: 32 << 20,
        }
    }
}

impl Settings {
    /// Errors name the setting and what would be right.
    pub fn validate(&self) -> Result<(), String> {
        if self.read_timeout < Duration::from_millis(100) {
            return Err("read-timeout is below 100ms: no mirror could keep it; give 1s or more".into());
        }
        if self.read_deadline < self.read_timeout {
            return Err(format!(
                "read-deadline ({:?}) is below read-timeout ({:?}): give at least as much",
                self.read_deadline, self.read_timeout
            ));
        }
        Ok(())
    }
}
