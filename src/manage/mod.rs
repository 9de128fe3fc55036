//! Run by someone far away: configuration, health, systemd, the control socket, the status page.
//!
//! Must not: import more of the floors below than their `Config` and status types, and the journal's handle.

mod bounded;

pub mod config;

pub mod control;

pub mod file;

pub mod remote;

pub mod page;

pub mod reload;

pub mod running;

pub mod service;

pub mod status;
