//! Journal to outside: one relay loop, one file per sink.
//!
//! Must not: know a terminal, touch SQLite, let one sink wait for another (I9), or take anything for success that was
//! not declared as success.

mod answer;

pub mod api;

pub mod auth;

pub mod central;

mod complaint;

#[cfg(feature = "contract")]
pub mod contract;

pub mod directory;

mod exchange;

pub mod expiry;

pub mod filter;

pub mod gate;

pub mod heartbeat;

mod plan;

mod pointer;

pub mod postgres;

pub mod probe;

pub mod relay;

mod trust;

pub use trust::certificate_words;

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
    /// What becomes of an event whose person is not in the worker directory.
    pub unknown_person: UnknownPerson,
    /// How fast, and in which order.
    pub flow: relay::Flow,
    /// What it is.
    pub kind: Kind,
}

/// `type = …`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "there is one for each sink, made once")]
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
    /// It arrived, and the sink said more about it.
    Confirmed {
        /// The sink had it already: an earlier answer was lost.
        duplicate: bool,
        /// What the sink calls it.
        remote_id: Option<String>,
    },
    /// It can never arrive as it is; proven, since it was judged on its own.
    Rejected {
        /// What kind of reason: some heal by themselves.
        cause: Cause,
        /// Why. What stands before the first `": "` is ours and may be logged; what follows are the sink's words.
        reason: String,
        /// The sink's own words, capped.
        answer: String,
    },
    /// Nothing was said of it: it stays pending.
    Keep,
}

/// Why an event was set aside, as far as a program can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cause {
    /// The sink refuses its content: a person, or another mapping, mends it.
    #[default]
    Content,
    /// The sink does not know the worker: heals once it does. The reason begins with [`UNKNOWN_WORKER`].
    UnknownWorker,
    /// The answer was lost, and nothing can tell whether the event arrived: a person releases it. The reason is
    /// [`ANSWER_LOST`].
    AnswerLost,
}

/// Where a sink's own words begin in a reason. They may name a person: what follows is shown, and not logged (I7).
pub const THEIRS: char = '«';

/// How the reason of every event begins whose worker the sink, or the directory, does not know.
pub const UNKNOWN_WORKER: &str = "unknown worker";

/// The reason of every event whose answer was lost at a sink with [`OnAmbiguous::Hold`].
pub const ANSWER_LOST: &str = "answer lost; this vendor cannot tell";

/// What a lost answer means: the request left, and nothing that can be relied on came back. A crash between sending and
/// settling is one too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnAmbiguous {
    /// The same bytes go again: the sink is idempotent.
    #[default]
    Resend,
    /// The same bytes go again, and the sink says so if it had them (a rule with the verdict `duplicate`).
    ResendExpectDuplicate,
    /// The sink is asked first whether it has the event.
    Lookup,
    /// Nothing is sent again: a person looks.
    Hold,
}

impl OnAmbiguous {
    /// Sending again could double an event: the batch in flight is on disk before its first byte leaves, even a lone
    /// event, and what is settled is on disk before the next one leaves.
    pub const fn is_careful(self) -> bool {
        matches!(self, Self::Lookup | Self::Hold)
    }
}

/// Whether a sink has an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It has it.
    Found {
        /// What the sink calls it.
        remote_id: Option<String>,
    },
    /// It does not have it.
    Absent,
    /// It could not be asked: [`Outcome::Retry`] or [`Outcome::Blocked`].
    Unknown(Outcome),
}

/// What becomes of an event whose person is not in the worker directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownPerson {
    /// It is sent with what the terminal said.
    #[default]
    Send,
    /// It is set aside until the directory knows the person.
    Quarantine,
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
    /// The request left, and no answer came that proves anything. Only from sinks that are careful
    /// ([`OnAmbiguous::is_careful`]); for others this is a [`Outcome::Retry`].
    Lost {
        /// What was seen.
        reason: String,
        /// It has been so for a while: something is to be mended.
        blocked: bool,
    },
    /// The sink is gone for good: nothing more is sent until the gateway starts again; everything is kept.
    Gone {
        /// What the sink said.
        reason: String,
    },
}

/// A batch to be sent.
#[derive(Debug, Clone, Copy)]
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

/// So many answers, each within its own time limit, a sink may need for one request that has its turn: connections, a login,
/// a second login, the request, and the answer that says it was one of the others that failed.
pub const ANSWERS: u32 = 10;

/// Where events go. Native async, generic relay, no `dyn`.
pub trait Sink: Send {
    /// The configured name.
    fn name(&self) -> &str;

    /// Most events a batch, and most bytes of journal body.
    fn limits(&self) -> (usize, usize);

    /// The idempotency key and the body for these events, for sinks that are idempotent by key. They go together by what
    /// [`Sink::fit`] has said of them.
    fn map(&self, records: &[Record], corrections: bool) -> Mapped;

    /// The same for events that leave late, behind newer ones ([`relay::Order::LiveFirst`]): a sink may say so of them.
    fn map_late(&self, records: &[Record]) -> Mapped {
        self.map(records, false)
    }

    /// Where every request has to wait for its turn. The first one of each [`Sink::send`] and [`Sink::look_up`] has had it;
    /// a sink that sends more than one asks for the others itself.
    fn gate(&mut self, gate: gate::Gate) {
        let _ = gate;
    }

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

    /// The longest that the sink may be silent between two turns at its gate, whatever the other side does: later it is stuck.
    fn patience(&self) -> Duration {
        Duration::from_secs(600) * ANSWERS
    }

    /// The revision of the mapping and answer rules, if the sink has any: with another one, what the one before refused goes
    /// out once more, and one that fits nothing stops the sink.
    fn revision(&self) -> Option<String> {
        None
    }

    /// What a lost answer means at this sink.
    fn on_ambiguous(&self) -> OnAmbiguous {
        OnAmbiguous::Resend
    }

    /// Asks the sink whether it has an event; `item` is its place in the batch. Only called at a sink with
    /// [`OnAmbiguous::Lookup`].
    fn look_up(&mut self, batch: &Batch<'_>, item: usize) -> impl Future<Output = Presence> + Send {
        let _ = (batch, item);
        let reason = "this sink cannot be asked whether it has an event".to_owned();
        std::future::ready(Presence::Unknown(Outcome::Blocked { reason }))
    }
}

/// How a relay is, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelayStatus {
    /// The sink's name.
    pub name: String,
    /// `idle`, `sending`, `waiting`, `retrying`, `open`, `blocked`, `gone`.
    pub state: &'static str,
    /// Delivered since the start.
    pub delivered: u64,
    /// Quarantined since the start.
    pub quarantined: u64,
    /// Failures in a row.
    pub attempt: u32,
    /// The last thing that went wrong, and what to do; `None` once it works again.
    pub error: Option<String>,
    /// Why nothing is sent just now although nothing is wrong.
    pub waits_for: Option<&'static str>,
    /// When the next request leaves, by this machine's clock.
    pub next_try: Option<crate::event::UtcMicros>,
    /// Last success.
    pub last_delivery: Option<crate::event::UtcMicros>,
    /// Events since the start of which the sink already held another content under the same id.
    pub conflicts: u64,
    /// When the refresh token that the sink uses ends, as its server has said.
    pub refresh_token_until: Option<crate::event::UtcMicros>,
    /// What ends first of that by which the sink knows us.
    pub expiry: Option<expiry::Expiry>,
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

    /// Forgets every relay of which `keep` says no.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| keep(name));
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
    #[error("the database refused: {0}")]
    Refused(String),
    /// A gateway, tenant or login can't have that name.
    #[error("{0} is no usable name: at most {1} bytes, no blanks, no $")]
    Name(String, usize),
}
