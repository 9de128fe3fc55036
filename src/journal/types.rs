//! The words of the journal's interface: plain data, no behaviour.
//!
//! Must not: touch SQLite or do I/O.

use std::path::PathBuf;
use std::time::Duration;

use super::Prepared;
use crate::clock::Now;
use crate::event::{Event, Fault, UtcMicros};

/// `[journal]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The database file; `-wal`, `-shm` and `.lock` stand beside it.
    pub path: PathBuf,
    /// How long an event stays readable after every sink has settled it, days.
    pub retention_days: u32,
    /// How long its stub (sequence number, id, digest) stays after that, days: a terminal that re-sends its whole log
    /// within this time doubles nothing.
    pub dedup_days: u32,
    /// The file never grows past this, bytes; at the bound nothing more is confirmed.
    pub max_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { path: "/var/lib/portero/journal.db".into(), retention_days: 30, dedup_days: 400, max_bytes: 8 << 30 }
    }
}

/// The position of an event in the journal: 1, 2, 3 …, never reused, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

/// A terminal's entry in the journal's table of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(pub u32);

/// A sink's entry in the journal's table of sinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SinkId(pub u32);

/// An MQTT delivery by which a message without identity is recognised when the transport repeats it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redelivery {
    /// Which session: broker name and client id.
    pub session: String,
    /// The packet id of the PUBLISH.
    pub packet_id: u16,
    /// First 16 bytes of SHA-256 of topic and payload.
    pub digest: [u8; 16],
    /// The DUP flag: only a DUP may match an earlier delivery.
    pub dup: bool,
}

/// Something to append.
#[derive(Debug, Clone)]
pub enum Entry {
    /// An event, encoded by [`Prepared::new`] on the caller's thread.
    Event(Prepared),
    /// A fault.
    Fault {
        /// The terminal, if one claims it.
        source: Option<SourceId>,
        /// The device, as far as known.
        device_key: String,
        /// What was wrong.
        fault: Fault,
        /// When.
        at: Now,
    },
    /// An interval in which a terminal could not be heard.
    Blind {
        /// The terminal.
        source: SourceId,
        /// From when.
        from: Now,
        /// Until when.
        until: Now,
        /// Why, in words for a person.
        reason: String,
    },
}

/// What became of an appended entry, in the order of the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is on disk under this number.
    New(Seq),
    /// The same record was there already.
    Duplicate(Seq),
    /// A record with the same id was there, and person, device time, direction or outcome differ: recorded and raised.
    Conflict(Seq),
    /// A fault or blind interval: on disk, without a number.
    Noted,
}

/// An event as read back, its times corrected if its boot has been anchored since.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its number.
    pub seq: Seq,
    /// The event.
    pub event: Event,
    /// The gateway's clock was not right when this was heard and still isn't: the times may yet change.
    pub provisional: bool,
    /// What happened to it at this sink before: only of an event that was released from quarantine.
    pub again: Option<Box<Again>>,
}

/// An event that a sink refused goes out once more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Again {
    /// Requests that carried it and were refused, altogether.
    pub attempts: u32,
    /// What a person had put in the place of what would go out: target and value, as JSON.
    pub edits: Vec<(String, String)>,
}

/// Where a new sink starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With what comes from now on.
    Now,
    /// With the oldest event in the journal.
    #[default]
    All,
}

/// A batch whose first byte may have left: kept until its verdict is, so that the same key always carries the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flight {
    /// The idempotency key.
    pub key: String,
    /// The events in it, ascending.
    pub seqs: Vec<Seq>,
    /// The mapped body.
    pub body: Vec<u8>,
}

/// What the journal knows of a sink when it is opened.
#[derive(Debug, Clone)]
pub struct SinkState {
    /// Its id.
    pub id: SinkId,
    /// Everything up to here is settled, but for held events.
    pub position: Seq,
    /// The batch in flight at the last stop.
    pub flight: Option<Flight>,
    /// Events after `position` up to here may have left without a settlement that we know of: they were there when the
    /// sink was last served.
    pub doubt_to: Seq,
    /// How it was failing when it was last served.
    pub setback: Setback,
    /// Events settled ahead of the position.
    pub ahead: u64,
}

/// How a sink is failing, as far as a restart must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Setback {
    /// Failures in a row.
    pub attempts: u32,
    /// They are called an outage.
    pub open: bool,
    /// How long the next try still has to wait.
    pub wait: Duration,
    /// New events went ahead of a backlog.
    pub live_first: bool,
}

/// What became of an event at a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It arrived.
    Delivered,
    /// It arrived, and the sink has a name of its own for it.
    Confirmed {
        /// What the sink calls it.
        remote_id: String,
    },
    /// The sink's declared filter leaves it out.
    Filtered,
    /// Proven unacceptable.
    Quarantined {
        /// Why, in a stable word or short sentence.
        reason: String,
        /// The sink's own words, capped and scrubbed.
        answer: String,
        /// How many times it was sent.
        attempts: u32,
    },
}

/// When a settlement must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// With the next append, or after a second: losing it only re-sends.
    Lazy,
    /// Before the answer.
    Now,
}

/// A quarantined event.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// The sink's name.
    pub sink: String,
    /// The event.
    pub record: Record,
    /// Why.
    pub reason: String,
    /// The sink's own words.
    pub answer: String,
    /// How many times it was sent.
    pub attempts: u32,
    /// When it was quarantined.
    pub at: UtcMicros,
}

/// Which events a person asks for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only after this number.
    pub after: Option<Seq>,
    /// Only of this terminal (configured name, serial or device key).
    pub terminal: Option<String>,
    /// Only of this person (either id) or card number.
    pub person: Option<String>,
    /// Only with an event time at or after this.
    pub since: Option<UtcMicros>,
    /// At most so many; the newest ones, printed oldest first.
    pub limit: usize,
    /// The oldest ones after `after` instead: for whoever follows and must not leave any out.
    pub forward: bool,
}

/// The conservation ledger (I4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Events appended in all.
    pub appended: u64,
    /// Events whose bodies were pruned by retention.
    pub pruned: u64,
    /// Faults recorded.
    pub faults: u64,
    /// Blind intervals recorded.
    pub blind: u64,
    /// Conflicts recorded.
    pub conflicts: u64,
    /// Size of database and WAL, bytes.
    pub bytes: u64,
    /// One line per sink.
    pub sinks: Vec<SinkStats>,
}

/// One sink's side of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkStats {
    /// Its name.
    pub name: String,
    /// Events appended since it started.
    pub appended: u64,
    /// Arrived.
    pub delivered: u64,
    /// Neither settled nor set aside; counted on its own, not as a difference.
    pub pending: u64,
    /// Set aside with a reason.
    pub quarantined: u64,
    /// Dropped by a person.
    pub dropped: u64,
    /// Left out by the sink's filter.
    pub filtered: u64,
    /// Corrections still to be sent.
    pub corrections_pending: u64,
    /// When the oldest pending event was heard; `None` where none is pending.
    pub oldest_pending: Option<UtcMicros>,
}

impl SinkStats {
    /// Whether the ledger of this sink balances.
    pub const fn balances(&self) -> bool {
        self.appended == self.delivered + self.pending + self.quarantined + self.dropped + self.filtered
    }
}

/// A point of the chain that the centre has seen: `ID:SEQ:HEX` on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The journal's id, hex.
    pub journal_id: String,
    /// The row.
    pub seq: Seq,
    /// The row's hash.
    pub head: [u8; 16],
}

impl Anchor {
    /// The row's hash in lower-case hex, as `portero journal verify --anchor` takes it.
    pub fn head_hex(&self) -> String {
        super::chain::hex(&self.head)
    }
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Nothing wrong was found.
    pub ok: bool,
    /// The journal's id, hex.
    pub journal_id: String,
    /// Last row.
    pub seq: Seq,
    /// Hash of the last row, hex.
    pub head: String,
    /// Whether an anchor from outside vouches for the chain, and up to which row.
    pub anchored: Option<Seq>,
    /// What was wrong, row by row, at most 100.
    pub problems: Vec<String>,
}

/// A client of the gateway's own broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSession {
    /// MQTT client id.
    pub client_id: String,
    /// Topic filters and their maximum QoS.
    pub subscriptions: Vec<(String, u8)>,
}

/// What is known of one device behind a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// The terminal.
    pub source: SourceId,
    /// The device key.
    pub device_key: String,
    /// Last heard.
    pub last_heard: UtcMicros,
    /// The last native sequence that was a number.
    pub last_native_seq: Option<u64>,
    /// How often that sequence went backwards.
    pub epoch: u32,
    /// Records missing, by the native sequence.
    pub gaps: u64,
}

/// An event, and what became of it.
#[derive(Debug, Clone)]
pub struct Traced {
    /// The event.
    pub record: Record,
    /// Each sink that is not removed, in order of registration.
    pub fates: Vec<(String, Fate)>,
    /// What people changed of what goes out, by sink.
    pub edits: Vec<Edit>,
}

/// What a person put in the place of what would go out of an event at one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The sink's name.
    pub sink: String,
    /// Targets and values, one JSON object.
    pub fields: String,
    /// Why.
    pub why: String,
    /// Who said so.
    pub who: String,
    /// When.
    pub at: UtcMicros,
}

/// What became of an event at one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It waits.
    Pending,
    /// A person released it from quarantine; it waits.
    Released,
    /// It was delivered, or left out by the sink's filter.
    Settled {
        /// When and how; not known of filtered events, of the last minute's, and of the minute before a crash.
        delivery: Option<Delivery>,
        /// It left with a provisional time, and the right one is on its way.
        correction_pending: bool,
    },
    /// The sink refused it for good.
    Quarantined {
        /// Why.
        reason: String,
        /// The sink's own words.
        answer: String,
        /// How many times it was sent.
        attempts: u32,
        /// Since when.
        at: UtcMicros,
    },
    /// A person gave it up.
    Dropped {
        /// Why.
        why: String,
        /// Who said so.
        who: String,
        /// When.
        at: UtcMicros,
        /// Why it had been quarantined.
        reason: String,
    },
    /// It was there before the sink was, which was not asked to catch up (`start = "now"`).
    BeforeItsStart,
}

/// What is known of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Not before then …
    pub from: UtcMicros,
    /// … and not after then: the times of the first and the last of a run of deliveries, at most a minute apart.
    pub until: UtcMicros,
    /// Revision of the sink's mapping and answer rules; empty for a plain sink.
    pub revision: String,
    /// What the sink calls the event.
    pub remote_id: Option<String>,
}

/// An entry of the worker directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The number by which terminals know the person, or the number of a card.
    pub key: String,
    /// What the platform calls the person.
    pub external_id: String,
    /// The name, only if it is configured.
    pub name: Option<String>,
}
