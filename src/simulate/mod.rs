//! Plays the other end of each protocol: for people, the demo and tests.
//!
//! Must not: be used by the gateway itself.
