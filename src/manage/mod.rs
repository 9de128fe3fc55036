//! Run by someone far away: configuration, health, systemd, the control socket, the status page, and the doctor who looks at it all.
//!
//! Must not: import more of the floors below than their `Config` and status types, their probes, and the journal's handle.

mod bounded;

pub mod config;

pub mod control;

pub mod doctor;

pub mod file;

pub mod remote;

pub mod page;

pub mod reload;

pub mod running;

pub mod service;

pub mod status;
