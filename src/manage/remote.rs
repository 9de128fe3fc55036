//! Configuration from afar: signed bundles, judged, staged, tried for a while, kept or given back.
//!
//! The life of a bundle, in reading order: its signature is verified (`signature`), its `[bundle]` table is judged against
//! who we are, what was consumed and what time it can be (`bundle`, `floor`), it is resolved over the local file
//! ([`super::config`]), staged on the disk (`store`), applied, watched and committed or given back (`life` decides, without
//! I/O; `state` is what it decides about). `start` finds what a start runs on. `fetch` asks an address for bundles.
//!
//! Must not: apply anything (the gateway does), accept a revision twice, open trust to a clock that may be wrong, or keep a
//! gateway from starting.

pub mod agent;

pub mod board;

pub mod bundle;

mod error;

pub mod fetch;

pub mod floor;

pub mod life;

pub mod message;

#[cfg(any(test, feature = "sign"))]
pub mod sign;

pub mod signature;

pub mod start;

pub mod state;

pub mod store;

pub use error::Error;
