//! The durable middle: one SQLite file, one thread that owns the one write connection, one that reads.
//!
//! Must not: answer an append before its commit is synced (I1), move a sink's position outside the transaction of the
//! verdicts that moved it (I2), change a row, reuse a sequence number, or fall back to memory when the disk refuses.
//!
//! # What an event costs
//!
//! Bytes handed to the disk per event (`write_bytes` of `/proc/self/io`, closing checkpoint included), 76-byte bodies, two
//! sinks settling lazily, checkpoints at 4,096 pages of WAL, x86 and ext4; `cargo bench --bench journal -- quick bytes`.
//!
//! | Page | 1 waiting | commits per event | 100 waiting | commits per event |
//! |---|---|---|---|---|
//! | 512 | 5,755 | 1.000 | 389 | 0.0103 |
//! | 1024 | 6,738 | 1.000 | 405 | 0.0100 |
//! | 2048 | 8,831 | 1.000 | 446 | 0.0103 |
//! | 4096 | 12,997 | 1.000 | 550 | 0.0115 |
//!
//! Hence 512: 4 % less throughput at full load as own broker, 15 % less wear where events come one by one, as nearly always.

mod abandon;

mod append;

mod body;

mod browse;

mod chain;

mod clocks;

mod damage;

mod devices;

mod disk;

mod edit;

mod error;

mod hand_out;

mod heal;

mod health;

mod index;

mod ledger;

mod lock;

mod people;

mod prepared;

mod questions;

mod reader;

mod retention;

mod runs;

mod schema;

mod setback;

mod settle;

mod shared;

mod state;

mod trace;

mod types;

mod verify;

mod view;

mod writer;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

pub use error::Error;
pub use health::engine;
pub use prepared::Prepared;
use reader::Question;
use shared::{Call, Shared};
use state::{State, Tx};
use tokio::sync::{mpsc, oneshot, watch};
pub use types::{
    Again, Anchor, Appended, ClientSession, Config, Delivery, DeviceState, DirectoryEntry, Edit, Entry, Fate, Flight,
    Quarantined, Query, Record, Redelivery, Seq, Setback, Settlement, SinkId, SinkState, SinkStats, SourceId, Start,
    Stats, Traced, Verification, When,
};
use view::View;
use writer::{Command, Lazy, Writer};

use crate::clock::{Clock, Now};
use crate::event::{BootTime, Source};

/// Verdicts that may wait unwritten; beyond it a lazy settlement waits for its commit like any other (I10).
const LAZY_VERDICTS: u64 = 16_384;

/// A cheap, cloneable handle.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    writer: Option<mpsc::Sender<Command>>,
    /// Answers the relays.
    reader: mpsc::Sender<Question>,
    /// Answers people, whose questions may take long; started by the first of them.
    browser: Mutex<Option<mpsc::Sender<Question>>>,
    config: Config,
    boot_id: [u8; 16],
    shared: Arc<Shared>,
    head: watch::Receiver<Seq>,
    nudges: watch::Receiver<u64>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("path", &self.0.config.path).finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens (or makes) the journal, takes its lock, migrates it and starts its threads.
    pub fn open(config: &Config, clock: Clock) -> Result<Self, Error> {
        Self::open_tuned(config, clock, schema::Tuning::default())
    }

    /// [`Self::open`] with another page size and number of pages between checkpoints, for the benchmark that chose them.
    #[doc(hidden)]
    pub fn open_for_measuring(
        config: &Config,
        clock: Clock,
        page_size: u32,
        checkpoint_pages: u32,
    ) -> Result<Self, Error> {
        Self::open_tuned(config, clock, schema::Tuning { page_size, checkpoint_pages })
    }

    fn open_tuned(config: &Config, clock: Clock, tuning: schema::Tuning) -> Result<Self, Error> {
        make_directory(&config.path)?;
        let lock = lock::Lock::take(&config.path)?;
        let boot_id = boot_id(&clock)?;
        let (conn, state) = match open_checked(config, tuning, &clock, boot_id) {
            Err(Error::Corrupt(reason)) => {
                let aside = damage::set_aside(&config.path, &clock)?;
                tracing::error!(
                    reason,
                    error = %aside.display(),
                    "journal was damaged and is set aside in the named directory: keep it, a new one begins"
                );
                open_checked(config, tuning, &clock, boot_id)?
            }
            other => other?,
        };
        let (head_sender, head) = watch::channel(Seq(state.head));
        let (nudge_sender, nudges) = watch::channel(0);
        let shared = Arc::new(Shared::default());
        let reader = reader::start("journal-read", View::open(config.path.clone())?)?;
        let writer = Writer {
            config: config.clone(),
            tuning,
            clock,
            boot_id,
            shared: Arc::clone(&shared),
            head: head_sender,
            nudges: nudge_sender,
            ballast: disk::Ballast::new(&config.path, config.max_bytes),
            trouble: disk::Trouble::default(),
            open: Some((conn, state)),
            bound_for_appends: None,
            lazies: Vec::new(),
            lock,
        };
        let writer = writer.start()?;
        Ok(Self(Arc::new(Inner {
            writer: Some(writer),
            reader,
            browser: Mutex::new(None),
            config: config.clone(),
            boot_id,
            shared,
            head,
            nudges,
        })))
    }

    /// Opens it for reading only, beside a running gateway if need be. Appends and settles answer [`Error::Closed`].
    pub fn open_read_only(config: &Config) -> Result<Self, Error> {
        if !config.path.exists() {
            return Err(Error::NotFound(format!(
                "there is no journal at {}; check [journal] path, or start the gateway once",
                config.path.display()
            )));
        }
        let view = View::open(config.path.clone())?;
        let head = view.head()?;
        Ok(Self(Arc::new(Inner {
            writer: None,
            reader: reader::start("journal-read", view)?,
            browser: Mutex::new(None),
            config: config.clone(),
            boot_id: [0; 16],
            shared: Arc::default(),
            head: watch::channel(head).1,
            nudges: watch::channel(0).1,
        })))
    }

    /// Commits since it was opened, each one sync; for benchmarks.
    #[doc(hidden)]
    pub fn commits(&self) -> u64 {
        self.0.shared.commits.load(Ordering::Relaxed)
    }

    /// Questions and orders that are not answered yet; for simulations, in which time stands still meanwhile.
    #[doc(hidden)]
    pub fn unanswered(&self) -> usize {
        self.0.shared.asked.load(Ordering::Acquire)
    }

    fn max_bytes(&self) -> u64 {
        self.0.config.max_bytes
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        let writer = self.0.writer.as_ref().ok_or(Error::Closed)?;
        writer.send(command).await.map_err(|_| Error::Closed)
    }

    /// Runs `work` in the writer's next transaction; answers after its sync.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _asked = self.0.shared.ask();
        let (answer, answered) = oneshot::channel();
        self.send(Command::Work(Box::new(Call { run: work, result: None, answer }))).await?;
        answered.await.map_err(|_| Error::Closed)?
    }

    /// Hands something to the writer that rides with its next commit; if too much waits already, waits for the commit.
    async fn write_lazily(&self, lazy: Lazy) -> Result<(), Error> {
        let weight = Shared::lazy_weight(&lazy);
        let waiting = self.0.shared.lazy.fetch_add(weight, Ordering::AcqRel);
        if let Err(error) = self.send(Command::Lazy(lazy)).await {
            self.0.shared.lazy.fetch_sub(weight, Ordering::AcqRel);
            return Err(error);
        }
        if waiting > LAZY_VERDICTS { self.flush().await } else { Ok(()) }
    }

    /// Brings what was answered lazily to disk, so that a question sees it.
    async fn flush(&self) -> Result<(), Error> {
        if self.0.writer.is_none() || self.0.shared.lazy.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        self.write(|_| Ok(())).await
    }

    /// Puts a question to the relays' reader.
    async fn read_with<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut View) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _asked = self.0.shared.ask();
        reader::ask(&self.0.reader, question).await
    }

    /// Puts a question that may take long, so that no relay waits for a person.
    async fn browse<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut View) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let browser = {
            let mut browser = self.0.browser.lock().unwrap_or_else(PoisonError::into_inner);
            match &*browser {
                Some(browser) if !browser.is_closed() => browser.clone(),
                _ if self.0.reader.is_closed() => return Err(Error::Closed),
                _ => browser.insert(reader::start("journal-browse", View::open(self.0.config.path.clone())?)?).clone(),
            }
        };
        reader::ask(&browser, question).await
    }

    /// Registers a terminal, or finds it again.
    pub async fn source(&self, source: Source) -> Result<SourceId, Error> {
        self.write(move |tx| devices::source(tx, &source)).await
    }

    /// Appends in one commit (together with whatever else is waiting) and answers after the sync, one answer per entry.
    pub async fn append(&self, entries: Vec<Entry>) -> Result<Vec<Appended>, Error> {
        self.append_shared(Arc::new(entries)).await
    }

    /// The same for whoever may have to try again with the same entries.
    pub async fn append_shared(&self, entries: Arc<Vec<Entry>>) -> Result<Vec<Appended>, Error> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        self.send(Command::Append { entries, answer }).await?;
        answered.await.map_err(|_| Error::Closed)?
    }

    /// The last number that is on disk; changes wake the relays.
    pub fn head(&self) -> watch::Receiver<Seq> {
        self.0.head.clone()
    }

    /// A number that changes whenever held events or corrections may have appeared for a sink.
    pub fn nudges(&self) -> watch::Receiver<u64> {
        self.0.nudges.clone()
    }

    /// Registers a sink, or finds it again with its position and the batch in flight.
    pub async fn sink(&self, name: &str, start: Start) -> Result<SinkState, Error> {
        let name = name.to_owned();
        self.write(move |tx| settle::register(tx, &name, start)).await
    }

    /// Marks every sink not named here as removed by a person: it no longer holds back retention.
    pub async fn retain_sinks(&self, names: Vec<String>) -> Result<(), Error> {
        self.write(move |tx| settle::retain(tx, &names)).await
    }

    /// Keeps the batch in flight; answers after the sync. One batch per sink; a new one replaces the old.
    pub async fn launch(&self, sink: SinkId, flight: Flight) -> Result<(), Error> {
        // Compressed on the caller's thread.
        let packed = lz4_flex::block::compress_prepend_size(&flight.body);
        self.write(move |tx| settle::launch(tx, sink, &flight, &packed)).await
    }

    /// Settles events, moves the position and forgets the batch in flight, all in one transaction (I2).
    pub async fn settle(&self, sink: SinkId, verdicts: Vec<(Seq, Settlement)>, when: When) -> Result<(), Error> {
        match when {
            When::Now => self.write(move |tx| settle::settle(tx, sink, &verdicts)).await,
            When::Lazy => self.write_lazily(Lazy::Settle(sink, verdicts)).await,
        }
    }

    /// Corrections that this sink still has to learn: `event.corrects` is set.
    pub async fn corrections(&self, sink: SinkId, rows: usize) -> Result<Vec<Record>, Error> {
        self.flush().await?;
        let found = self.read_with(move |view| clocks::corrections(view, sink, rows)).await?;
        if !found.damaged.is_empty() {
            let damaged = found.damaged;
            self.write(move |tx| clocks::drop_corrections(tx, sink, &damaged)).await?;
        }
        Ok(found.records)
    }

    /// These corrections arrived (or were refused for good, which is logged by the caller); forgets the batch in flight.
    pub async fn settle_corrections(&self, sink: SinkId, seqs: Vec<Seq>) -> Result<(), Error> {
        self.write(move |tx| clocks::settle_corrections(tx, sink, &seqs)).await
    }

    /// The clock of this boot is right now: writes the anchor row, makes corrections for what had already left.
    /// Answers how many events were heard before. A second call in the same boot does nothing.
    pub async fn anchor_clock(&self, now: Now) -> Result<u64, Error> {
        self.write(move |tx| clocks::anchor(tx, now)).await
    }

    /// Quarantined events, oldest first.
    pub async fn quarantined(&self, sink: Option<String>, limit: usize) -> Result<Vec<Quarantined>, Error> {
        self.flush().await?;
        self.read_with(move |view| ledger::quarantined(view, sink.as_deref(), limit)).await
    }

    /// Makes quarantined events pending again; all of the sink's if `seqs` is `None`. Answers how many.
    pub async fn release(&self, sink: String, seqs: Option<Vec<Seq>>) -> Result<u64, Error> {
        self.write(move |tx| settle::release(tx, &sink, seqs.as_deref())).await
    }

    /// What a person asks for.
    pub async fn query(&self, query: Query) -> Result<Vec<Record>, Error> {
        self.browse(move |view| browse::query(view, &query)).await
    }

    /// Walks the chain.
    pub async fn verify(&self, anchor: Option<Anchor>) -> Result<Verification, Error> {
        self.browse(move |view| verify::verify(view, anchor)).await
    }

    /// Prunes what retention allows, in bounded steps; answers how many events went. The gateway calls it when idle.
    pub async fn prune(&self, now: Now) -> Result<u64, Error> {
        self.flush().await?;
        let mut erased = 0;
        loop {
            let config = self.0.config.clone();
            let step = self.write(move |tx| retention::step(tx, &config, now)).await?;
            erased += step.erased;
            if step.erased + step.forgotten == 0 {
                return Ok(erased);
            }
        }
    }

    /// The ledger.
    pub async fn stats(&self) -> Result<Stats, Error> {
        self.flush().await?;
        self.read_with(ledger::stats).await
    }

    /// The card or tag of the last presence of a terminal in this boot, and when it was last seen on disk.
    pub async fn last_presence(&self, source: SourceId) -> Result<Option<(String, BootTime)>, Error> {
        let boot_id = self.0.boot_id;
        self.read_with(move |view| reader::last_presence(view, source, boot_id)).await
    }

    /// Commits what is waiting, checkpoints, closes and releases the lock.
    pub async fn close(&self) -> Result<(), Error> {
        let browser = self.0.browser.lock().unwrap_or_else(PoisonError::into_inner).take();
        for reader in [Some(self.0.reader.clone()), browser].into_iter().flatten() {
            let (answer, stopped) = oneshot::channel();
            // A reader that is gone already is what we want.
            if reader.send(Question::Stop(answer)).await.is_ok() {
                let _ = stopped.await;
            }
        }
        if self.0.writer.is_none() {
            return Ok(());
        }
        let (answer, closed) = oneshot::channel();
        self.send(Command::Close(answer)).await?;
        closed.await.map_err(|_| Error::Closed)?
    }
}

/// Makes the journal's directory if only its last part is missing.
fn make_directory(path: &Path) -> Result<(), Error> {
    let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty() && !d.exists()) else { return Ok(()) };
    std::fs::create_dir(directory)
        .map_err(|error| Error::Io(format!("can't make {}: {error}; make it, owned by us", directory.display())))
}

/// Opens the file for writing; after a stop that was not orderly it is checked first.
fn open_checked(
    config: &Config,
    tuning: schema::Tuning,
    clock: &Clock,
    boot_id: [u8; 16],
) -> Result<(rusqlite::Connection, State), Error> {
    damage::sniff(&config.path)?;
    disk::make_file(&config.path)?;
    // An orderly stop leaves no WAL.
    let unclean = std::fs::metadata(lock::beside(&config.path, "-wal")).is_ok_and(|meta| meta.len() > 0);
    let mut conn = schema::open_writer(config, tuning)?;
    if unclean {
        damage::quick_check(&mut conn, clock)?;
    }
    let state = State::load(&conn, boot_id)?;
    Ok((conn, state))
}

/// The kernel's boot id; where it can't be read every start counts as a boot.
fn boot_id(clock: &Clock) -> Result<[u8; 16], Error> {
    let id = clock.boot_id();
    if id != [0; 16] {
        return Ok(id);
    }
    let random = rusqlite::Connection::open_in_memory()?;
    Ok(random.query_row("SELECT randomblob(16)", [], |row| row.get(0))?)
}
