//! Journal to outside: one relay loop, one file per sink.
//!
//! Must not: know a terminal, touch SQLite, let one sink wait for another (I9), or take anything for success that was
//! not declared as success.

mod answer;

pub mod api;

pub mod central;

mod complaint;

#[cfg(feature = "contract")]
pub mod contract;

pub mod filter;

mod plan;

pub mod postgres;

pub mod relay;

mod trust;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::journal::{Record, Start};

/// `[[sink]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// Where it starts when it is new.
    pub start: Start,
    /// Which events it takes.
    pub filter: filter::Filter,
    /// What it is.
    pub kind: Kind,
}

/// `type = …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `api`: a vendor's REST API.
    Api(api::Config),
    /// `postgres`: the central database.
    Postgres(postgres::Config),
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It arrived.
    Delivered,
    /// It can never arrive as it is; proven, since it was judged on its own.
    Rejected {
        /// Why.
        reason: String,
        /// The sink's own words, capped.
        answer: String,
    },
    /// Nothing was said of it: it stays pending.
    Keep,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A verdict for each event, in the order sent.
    Settled(Vec<Verdict>),
    /// The batch as a whole was refused because of some event in it (400, 413, 422, SQLSTATE class 22 or 23). The relay
    /// splits it until the guilty event stands alone; for a batch of one this is the proof.
    Refused {
        /// Why.
        reason: String,
        /// The sink's own words, capped.
        answer: String,
    },
    /// The sink's fault: try again.
    Retry {
        /// Why.
        reason: String,
        /// What the sink asked for (`Retry-After`).
        after: Option<Duration>,
    },
    /// Our fault: keep everything, probe slowly, say what to mend.
    Blocked {
        /// What to mend.
        reason: String,
    },
}

/// A batch to be sent.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The events, or the corrections, ascending.
    pub records: &'a [Record],
    /// These are corrections of earlier events, not events.
    pub corrections: bool,
    /// Idempotency key and mapped body, where [`Sink::map`] gave one.
    pub flight: Option<&'a crate::journal::Flight>,
}

/// What a sink makes of a batch before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapped {
    /// The sink is idempotent by event: a resend may be composed anew, and nothing has to be kept.
    ByEvent,
    /// What is sent: the same bytes under the same key at every try, kept on disk before the first byte leaves.
    Flight {
        /// The idempotency key.
        key: String,
        /// The body.
        body: Vec<u8>,
        /// Composed anew it might be another one (an event's age decides where it goes): then even a lone event is kept.
        keep: bool,
    },
    /// One of the events can't be mapped: it is quarantined and not sent, the others go on without it.
    Unmappable {
        /// Which, counted from 0.
        index: usize,
        /// Why, naming target and source.
        reason: String,
    },
    /// The sink takes no corrections.
    NotApplicable,
}

/// Where events go. Native async, generic relay, no `dyn`.
pub trait Sink: Send {
    /// The configured name.
    fn name(&self) -> &str;

    /// Most events a batch, and most bytes of journal body.
    fn limits(&self) -> (usize, usize);

    /// The idempotency key and the body for these events, for sinks that are idempotent by key. They go together by what
    /// [`Sink::fit`] has said of them.
    fn map(&self, records: &[Record], corrections: bool) -> Mapped;

    /// How many of the leading events go into one request: at least one, all of them unless something in the events
    /// decides where they go or bounds the request.
    fn fit(&self, records: &[Record], corrections: bool) -> usize {
        let _ = corrections;
        records.len()
    }

    /// Whether the sink's declared filter lets this event through; one that it leaves out is settled as filtered (I4).
    fn takes(&self, record: &Record) -> bool {
        let _ = record;
        true
    }

    /// Sends a batch and waits for the answer, within the sink's own time limits.
    fn send(&mut self, batch: &Batch<'_>) -> impl Future<Output = Outcome> + Send;
}

/// How a relay is, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelayStatus {
    /// The sink's name.
    pub name: String,
    /// `idle`, `sending`, `retrying`, `blocked`.
    pub state: &'static str,
    /// Delivered since the start.
    pub delivered: u64,
    /// Quarantined since the start.
    pub quarantined: u64,
    /// Failures in a row.
    pub attempt: u32,
    /// The last thing that went wrong, and what to do; `None` once it works again.
    pub error: Option<String>,
    /// Last success.
    pub last_delivery: Option<crate::event::UtcMicros>,
}

/// A shared board on which relays write how they are and from which `status` reads.
#[derive(Clone, Default)]
pub struct StatusBoard(Arc<Mutex<BTreeMap<String, RelayStatus>>>);

impl StatusBoard {
    /// Changes the status of one relay, making it if it is new. Called once per batch or change, never once per event.
    pub fn update(&self, name: &str, change: impl FnOnce(&mut RelayStatus)) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let status = board.entry(name.to_owned()).or_insert_with(|| RelayStatus {
            name: name.to_owned(),
            state: "idle",
            ..RelayStatus::default()
        });
        change(status);
    }

    /// Everything, by name.
    pub fn read(&self) -> Vec<RelayStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Why a sink can't be made, or the central schema not applied. What goes wrong while sending is an [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL or the method is unusable.
    #[error("{0}")]
    Address(String),
    /// Plain text to another machine.
    #[error(
        "tls = \"disable\" is for loopback and unix sockets only; set tls = \"require\" (and ca_file for an own CA)"
    )]
    Plain,
    /// No TLS configuration.
    #[error(transparent)]
    Tls(#[from] crate::tls::Error),
    /// `[sink.map]` or `[sink.request]` can't be used.
    #[error("the mapping cannot be used: {0}")]
    Mapping(String),
    /// A header can't be sent.
    #[error("header '{0}' cannot be sent: letters, digits and hyphens in the name, visible ASCII in the value")]
    Header(String),
    /// The HTTP client can't be built.
    #[error("cannot build the HTTP client: {0}")]
    Http(String),
    /// A secret can't be read.
    #[error(transparent)]
    Secret(#[from] crate::secret::Error),
    /// The database can't be reached, or it refused the login.
    #[error("cannot connect to the database: {0}")]
    Connect(String),
    /// The database refused the schema.
    #[error("the database refused the schema: {0}")]
    Refused(String),
}
