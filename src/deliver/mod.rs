//! Journal to outside: one relay loop, one file per sink.
//!
//! Must not: know a terminal, touch SQLite, let one sink wait for another (I9), or take anything for success that was
//! not declared as success.

pub mod api;

pub mod postgres;

pub mod relay;

use std::time::Duration;

use crate::journal::{Record, Start};

/// `[[sink]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// Where it starts when it is new.
    pub start: Start,
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

/// Where events go. Native async, generic relay, no `dyn`.
pub trait Sink: Send {
    /// The configured name.
    fn name(&self) -> &str;

    /// Most events a batch, and most bytes of journal body.
    fn limits(&self) -> (usize, usize);

    /// The idempotency key and the body for these events, for sinks that are idempotent by key: the relay keeps it on
    /// disk before the first byte leaves, and hands the same bytes to every try. `None`: the sink is idempotent by event.
    fn map(&self, records: &[Record], corrections: bool) -> Option<(String, Vec<u8>)>;

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
pub struct StatusBoard(std::sync::Arc<std::sync::Mutex<std::collections::BTreeMap<String, RelayStatus>>>);

impl StatusBoard {
    /// Everything, by name.
    pub fn read(&self) -> Vec<RelayStatus> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).values().cloned().collect()
    }
}
