//! Run by someone far away: configuration, health, systemd, the control socket.
//!
//! Must not: import more of the floors below than their `Config` and status types, and the journal's handle.

pub mod config;

pub mod control;

pub mod service;

pub mod status;
