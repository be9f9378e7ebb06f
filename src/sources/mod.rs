//! Speak HTTP to one mirror; read listings; classify every failure.
