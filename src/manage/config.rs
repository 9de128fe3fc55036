//! Configuration: one TOML file, every problem reported at once, each with file, line, key and remedy.
//!
//! The file becomes a tree in which every value knows its place (`tree`), the environment is laid over it
//! (`environment`), between the two a bundle from afar (`bundle`, `layers`), and presets under it (`presets`), then each table is read key by key (`plain`, `directory`, `brokers`,
//! `terminals`, `fields`, `sinks`, `filters`, `request`, `mapping`, `auth`, `answers`, `page`, `status`, `secrets`) and at last the tables
//! are compared with each other (`load`).
//!
//! Must not: contain a secret, stop at the first error, or accept a key that it doesn't know.

mod address;
mod answers;
mod auth;
mod brokers;
mod bundle;
mod database;
mod directory;
mod environment;
mod fields;
mod filters;
mod hints;
mod layers;
mod load;
mod mapping;
mod origins;
mod page;
mod places;
mod plain;
mod presets;
mod problem;
mod proxy;
mod questions;
mod reader;
mod remote;
mod request;
mod secrets;
mod sinks;
mod status;
mod suggest;
mod terminals;
mod topics;
mod tree;

use std::path::PathBuf;

pub use bundle::{Addressee, Header, Layer, header};
pub use hints::{Hints, hints};
pub use layers::May;
pub use load::{Loaded, Options, load, load_layered, load_layered_text, load_text, text_of};
pub use origins::{From, Origin, origins};
pub use places::{Places, Spot};
pub use problem::{Problem, Problems, bundle as whole};
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
    /// `[gateway] group`
    pub group: Option<String>,
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
    /// Every secret that is named: its key, for example `sink[1].auth.token`, and where it stands.
    pub secrets: Vec<(String, crate::secret::SecretSource)>,
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
    /// Where configuration comes from afar; `None`: from nowhere.
    pub remote: Option<RemoteConfig>,
    /// Where the gateway says how it is, retained; `None`: nowhere.
    pub status: Option<StatusConfig>,
    /// How long shutdown may take before it is forced, seconds.
    pub shutdown_seconds: u64,
}

/// `[manage.remote]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteConfig {
    /// Where bundles are asked for.
    pub url: Option<String>,
    /// CA certificates in place of the system's for that address.
    pub ca_file: Option<PathBuf>,
    /// The retained topic on which bundles come, and the `[[broker]]` that it is at.
    pub topic: Option<(String, String)>,
    /// How often the address is asked, seconds, more or less.
    pub poll_seconds: u64,
    /// How long a new configuration is on probation, seconds.
    pub probation_seconds: u64,
    /// The public key that signs every day.
    pub active_key: String,
    /// The public key in the safe.
    pub recovery_key: Option<String>,
}

/// `[manage] status_broker` and `status_topic`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusConfig {
    /// `[[broker]] name`, of one that we connect to.
    pub broker: String,
    /// The topic.
    pub topic: String,
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
    /// Whether its list of events names people.
    pub people: bool,
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
