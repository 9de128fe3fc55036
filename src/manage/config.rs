//! Configuration: one TOML file, every problem reported at once, each with file, line, key and remedy.
//!
//! The file becomes a tree in which every value knows its place (`tree`), the environment is laid over it
//! (`environment`) and presets under it (`presets`), then each table is read key by key (`plain`, `directory`, `brokers`,
//! `terminals`, `fields`, `sinks`, `filters`, `request`, `mapping`, `auth`, `answers`, `page`, `secrets`) and at last the tables
//! are compared with each other (`load`).
//!
//! Must not: contain a secret, stop at the first error, or accept a key that it doesn't know.

mod address;
mod answers;
mod auth;
mod brokers;
mod database;
mod directory;
mod environment;
mod fields;
mod filters;
mod load;
mod mapping;
mod page;
mod places;
mod plain;
mod presets;
mod problem;
mod proxy;
mod questions;
mod reader;
mod request;
mod secrets;
mod sinks;
mod suggest;
mod terminals;
mod topics;
mod tree;

use std::path::PathBuf;

pub use load::{Loaded, Options, load, load_text};
pub use places::{Places, Spot};
pub use problem::{Problem, Problems};
pub use secrets::Secrets;

use crate::clock::SyncSource;
use crate::tls::TlsMode;
use crate::{deliver, journal, terminal};

/// The words of `tls = …`.
const TLS_WORDS: &[(&str, TlsMode)] =
    &[("require", TlsMode::Require), ("disable", TlsMode::Disable), ("insecure", TlsMode::Insecure)];

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
    /// `[directory]`
    pub directory: Option<deliver::directory::Config>,
    /// Secrets of which somebody has said until when they are good.
    pub expiring: Vec<Expiring>,
    /// `[manage]`
    pub manage: ManageConfig,
    /// `[log]`
    pub log: LogConfig,
}

/// `{ credential = "…", expires = "2027-01-31" }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiring {
    /// The sink that it belongs to; `None`: a broker's, or the directory's.
    pub sink: Option<String>,
    /// Its key, for example `sink[1].auth.token`.
    pub key: String,
    /// The last day on which it is good, by UTC.
    pub last_day: jiff::civil::Date,
}

/// `[manage]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManageConfig {
    /// The control socket.
    pub socket: PathBuf,
    /// Where the status page is served; `None`: nowhere.
    pub page: Option<PageConfig>,
    /// How long shutdown may take before it is forced, seconds.
    pub shutdown_seconds: u64,
}

/// `[manage] listen` and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageConfig {
    /// Where to listen.
    pub address: std::net::SocketAddr,
    /// What a caller must know; never `None` where the address is not loopback.
    pub token: Option<crate::secret::SecretSource>,
    /// Names, beside this machine's own, under which it may be called.
    pub hosts: Vec<String>,
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
