//! Configuration: one TOML file, every problem reported at once, each with file, line, key and remedy.
//!
//! Must not: contain a secret, stop at the first error, or accept a key that it doesn't know.

use std::path::PathBuf;

use crate::clock::SyncSource;
use crate::{deliver, journal, terminal};

/// Everything, resolved: the parts' own `Config`s.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where it was read from.
    pub file: PathBuf,
    /// `[gateway]`
    pub identity: terminal::Identity,
    /// `[gateway] clock` and `clock_sync_file`
    pub clock: SyncSource,
    /// `[journal]`
    pub journal: journal::Config,
    /// `[[broker]]`
    pub brokers: Vec<terminal::BrokerConfig>,
    /// `[[terminal]]`
    pub terminals: Vec<terminal::Config>,
    /// `[[sink]]`
    pub sinks: Vec<deliver::Config>,
    /// `[manage]`
    pub manage: ManageConfig,
    /// `[log]`
    pub log: LogConfig,
}

/// `[manage]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManageConfig {
    /// The control socket.
    pub socket: PathBuf,
    /// How long shutdown may take before it is forced, seconds.
    pub shutdown_seconds: u64,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `portero=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}
