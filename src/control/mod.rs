//! The operator's door: commands over a unix socket.
