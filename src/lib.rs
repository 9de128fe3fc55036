//! Portero: terminal events over serial lines and MQTT, journalled in SQLite, delivered once to a vendor API and a
//! central PostgreSQL.
//!
//! ```text
//!  terminal ──bytes──▶ decode ──Reading──▶ stamp ──Event──▶ journal ──batch──▶ deliver ──▶ vendor API
//!  (serial, MQTT)       ◀───── acknowledged after commit ─────  │ SQLite           └────▶ PostgreSQL
//!                                                               └── read by: command line, audit
//! ```
//!
//! # Floors
//!
//! Imports only point down, never sideways; `tests/tidy.rs` holds the table as data.
//!
//! | Floor | Module | May import |
//! |---|---|---|
//! | 0 | [`event`], [`clock`], [`backoff`], [`progress`], [`secret`], [`tls`], [`telemetry`] | nothing of ours (clock may use event) |
//! | 1 | [`decode`] | event |
//! | 1 | [`journal`] | event, clock |
//! | 2 | [`terminal`] | event, clock, backoff, progress, secret, tls, decode, journal |
//! | 2 | [`deliver`] | event, clock, backoff, progress, secret, tls, journal |
//! | 2 | [`simulate`] | event, clock, decode |
//! | 3 | [`manage`] | floors 0–2: their `Config` and status types |
//! | 4 | [`gateway`] | all below |
//! | 5 | [`cli`], `main` | every lower floor |
//!
//! # Invariants
//!
//! - **I1** Nothing upstream is confirmed before it is on disk: `append` returns only after the commit is synced (WAL,
//!   `synchronous=FULL`). A disk error stops confirming; it never falls back to memory.
//! - **I2** A sink's position moves in the same transaction as the verdicts that moved it.
//! - **I3** Same record, same id; every sink is idempotent on it. Two swipes on a reader without records are two events,
//!   one card held to it is one.
//! - **I4** For each sink, always: appended since its start = delivered + pending + quarantined + dropped by a person +
//!   filtered.
//! - **I5** A decoder never fails: a bad frame is a fault, the next good frame still decodes.
//! - **I6** A pushed configuration cannot stop a running gateway. (So far: configuration is read at start and checked
//!   whole before anything is opened.)
//! - **I7** No biometric template, image or PIN enters the journal; identifiers of people and secrets never reach a log
//!   line.
//! - **I8** The gateway starts and journals with no network, no broker, no database, no correct clock.
//! - **I9** One sink never waits for another, and one poisoned event never holds its batch.
//! - **I10** Bounded everything: memory, channels, disk, connections, request sizes.

pub mod event;

pub mod clock;

pub mod backoff;

pub mod progress;

pub mod secret;

pub mod tls;

pub mod telemetry;

pub mod decode;

pub mod journal;

pub mod terminal;

pub mod deliver;

pub mod simulate;

pub mod manage;

pub mod gateway;

pub mod cli;
