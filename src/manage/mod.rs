//! Run by someone far away: configuration, health, systemd, the control socket.
//!
//! Must not: import more of the floors below than their `Config` and status types.

pub mod config;
