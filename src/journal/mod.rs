//! The durable middle: one SQLite file, one thread that owns the one write connection, one that reads.
//!
//! Must not: answer an append before its commit is synced (I1), move a sink's position outside the transaction of the
//! verdicts that moved it (I2), change a row, reuse a sequence number, or fall back to memory when the disk refuses.

use std::path::PathBuf;

use crate::clock::{Clock, Now};
use crate::event::{BootTime, Event, EventId, Fault, Source, UtcMicros};

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
#[derive(Debug)]
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

/// An event, encoded and digested, ready for the writer thread.
#[derive(Debug)]
pub struct Prepared {
    id: EventId,
    body: Vec<u8>,
    digest: [u8; 32],
    redelivery: Option<Redelivery>,
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
}

/// What became of an event at a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It arrived.
    Delivered,
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

/// Why the journal refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process owns the file.
    #[error("journal {path} is owned by process {pid}; stop it first, or ask it through the control socket")]
    Owned {
        /// The database file.
        path: PathBuf,
        /// The owner, 0 if it could not be told.
        pid: u32,
    },
    /// Written by a newer release.
    #[error(
        "journal {path} needs a reader of version {needs}, this is version {ours}; install the newer release again"
    )]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// `min_reader` in the file.
        needs: u32,
        /// What this build reads.
        ours: u32,
    },
    /// The disk or the quota is full: nothing more is confirmed until there is room.
    #[error("journal is full: {0}")]
    Full(String),
    /// The disk refused.
    #[error("journal i/o failed: {0}")]
    Io(String),
    /// The file is damaged.
    #[error("journal is damaged: {0}")]
    Corrupt(String),
    /// SQLite can't give the durability that we promise.
    #[error("journal refused: {0}")]
    Unsafe(String),
    /// The journal's thread has ended.
    #[error("journal is closed")]
    Closed,
    /// There is no such thing in it.
    #[error("{0}")]
    NotFound(String),
}

impl Prepared {
    /// Encodes and digests an event. `source` comes from [`Journal::source`].
    pub fn new(_event: &Event, _source: SourceId, _redelivery: Option<Redelivery>) -> Self {
        todo!("journal")
    }

    /// The event's id.
    pub const fn id(&self) -> EventId {
        self.id
    }
}

/// A cheap, cloneable handle.
#[derive(Clone)]
pub struct Journal {}

#[expect(unused_variables, clippy::unused_async, reason = "skeleton")]
impl Journal {
    /// Opens (or makes) the journal, takes its lock, migrates it and starts its threads.
    pub fn open(config: &Config, clock: Clock) -> Result<Self, Error> {
        todo!("journal")
    }

    /// Opens it for reading only, beside a running gateway if need be. Appends and settles answer [`Error::Closed`].
    pub fn open_read_only(config: &Config) -> Result<Self, Error> {
        todo!("journal")
    }

    /// Registers a terminal, or finds it again.
    pub async fn source(&self, source: Source) -> Result<SourceId, Error> {
        todo!("journal")
    }

    /// Appends in one commit (together with whatever else is waiting) and answers after the sync, one answer per entry.
    pub async fn append(&self, entries: Vec<Entry>) -> Result<Vec<Appended>, Error> {
        todo!("journal")
    }

    /// The last number that is on disk; changes wake the relays.
    pub fn head(&self) -> tokio::sync::watch::Receiver<Seq> {
        todo!("journal")
    }

    /// A number that changes whenever held events or corrections may have appeared for a sink.
    pub fn nudges(&self) -> tokio::sync::watch::Receiver<u64> {
        todo!("journal")
    }

    /// Registers a sink, or finds it again with its position and the batch in flight.
    pub async fn sink(&self, name: &str, start: Start) -> Result<SinkState, Error> {
        todo!("journal")
    }

    /// Marks every sink not named here as removed by a person: it no longer holds back retention.
    pub async fn retain_sinks(&self, names: Vec<String>) -> Result<(), Error> {
        todo!("journal")
    }

    /// Unsettled events after `after`, ascending, at most `rows` of them and about `bytes` of body.
    pub async fn read_after(&self, sink: SinkId, after: Seq, rows: usize, bytes: usize) -> Result<Vec<Record>, Error> {
        todo!("journal")
    }

    /// These events, ascending; pruned ones are left out.
    pub async fn read(&self, seqs: Vec<Seq>) -> Result<Vec<Record>, Error> {
        todo!("journal")
    }

    /// Events behind the sink's position that are pending again (released from quarantine).
    pub async fn held(&self, sink: SinkId, rows: usize) -> Result<Vec<Record>, Error> {
        todo!("journal")
    }

    /// Keeps the batch in flight; answers after the sync. One batch per sink; a new one replaces the old.
    pub async fn launch(&self, sink: SinkId, flight: Flight) -> Result<(), Error> {
        todo!("journal")
    }

    /// Settles events, moves the position and forgets the batch in flight, all in one transaction (I2).
    pub async fn settle(&self, sink: SinkId, verdicts: Vec<(Seq, Settlement)>, when: When) -> Result<(), Error> {
        todo!("journal")
    }

    /// Corrections that this sink still has to learn: `event.corrects` is set.
    pub async fn corrections(&self, sink: SinkId, rows: usize) -> Result<Vec<Record>, Error> {
        todo!("journal")
    }

    /// These corrections arrived (or were refused for good, which is logged by the caller).
    pub async fn settle_corrections(&self, sink: SinkId, seqs: Vec<Seq>) -> Result<(), Error> {
        todo!("journal")
    }

    /// The clock of this boot is right now: writes the anchor row, makes corrections for what had already left.
    /// Answers how many events were heard before. A second call in the same boot does nothing.
    pub async fn anchor_clock(&self, now: Now) -> Result<u64, Error> {
        todo!("journal")
    }

    /// Quarantined events, oldest first.
    pub async fn quarantined(&self, sink: Option<String>, limit: usize) -> Result<Vec<Quarantined>, Error> {
        todo!("journal")
    }

    /// Makes quarantined events pending again; all of the sink's if `seqs` is `None`. Answers how many.
    pub async fn release(&self, sink: String, seqs: Option<Vec<Seq>>) -> Result<u64, Error> {
        todo!("journal")
    }

    /// What a person asks for.
    pub async fn query(&self, query: Query) -> Result<Vec<Record>, Error> {
        todo!("journal")
    }

    /// The ledger.
    pub async fn stats(&self) -> Result<Stats, Error> {
        todo!("journal")
    }

    /// Walks the chain.
    pub async fn verify(&self, anchor: Option<Anchor>) -> Result<Verification, Error> {
        todo!("journal")
    }

    /// The card or tag of the last presence of a terminal in this boot, and when it was last seen on disk.
    pub async fn last_presence(&self, source: SourceId) -> Result<Option<(String, BootTime)>, Error> {
        todo!("journal")
    }

    /// The persistent clients of the gateway's own broker.
    pub async fn sessions(&self) -> Result<Vec<ClientSession>, Error> {
        todo!("journal")
    }

    /// Keeps a persistent client's session; `None` forgets it. Answers after the sync.
    pub async fn keep_session(&self, client_id: String, session: Option<ClientSession>) -> Result<(), Error> {
        todo!("journal")
    }

    /// Device states at the last stop.
    pub async fn devices(&self) -> Result<Vec<DeviceState>, Error> {
        todo!("journal")
    }

    /// Keeps device states; rides on the next commit.
    pub async fn keep_devices(&self, devices: Vec<DeviceState>) -> Result<(), Error> {
        todo!("journal")
    }

    /// Prunes what retention allows, in bounded steps; answers how many events went. The gateway calls it when idle.
    pub async fn prune(&self, now: Now) -> Result<u64, Error> {
        todo!("journal")
    }

    /// Commits what is waiting, checkpoints, closes and releases the lock.
    pub async fn close(&self) -> Result<(), Error> {
        todo!("journal")
    }
}
