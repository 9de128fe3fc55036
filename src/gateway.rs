//! Wires everything and runs it; the only place that starts long-lived tasks; the shutdown order.
//!
//! Start: the journal first, before anything that could be confirmed; then sinks and their relays, then the links. None
//! of these waits for a network, a broker, a database or a correct clock (I8). Stop: the links (nothing new comes in,
//! what was read is committed), then the relays (the request under way ends, or is given up: the same bytes go again),
//! then the journal.
//!
//! Must not: decide what a part does, or let the end of one part end another, the journal's excepted.

mod beat;

mod credentials;

mod house;

mod page;

mod start;

mod supervise;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::deliver::directory::Directory;
use crate::deliver::{self, StatusBoard, relay};
use crate::journal::{self, Journal};
use crate::manage::config::{Config, Loaded, Problems};
use crate::manage::file::{ConfigFile, Read};
use crate::manage::status::Gateway;
use crate::manage::{control, service};
use crate::terminal::{self, Board};

/// Time kept back at the end of a shutdown for closing the journal.
const CLOSING: Duration = Duration::from_secs(2);

/// Why the gateway can't run, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal can't be opened or used.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// A sink's settings can't work, whatever the network does.
    #[error("sink '{name}': {source}")]
    Sink {
        /// Its name.
        name: String,
        /// Why.
        source: deliver::Error,
    },
    /// The settings of the worker directory can't work, whatever the network does.
    #[error("[directory]: {0}")]
    Directory(deliver::Error),
    /// The journal's writer has ended while the gateway ran: nothing can be confirmed any more.
    #[error("the journal's writer has stopped; look above for the disk's error, then start again")]
    JournalLost,
    /// The system gives us no signals.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// In order.
    Stopped,
    /// At once, because somebody asked a second time.
    Forced,
}

/// What everybody shares.
pub(crate) struct Parts {
    config: Config,
    clock: Clock,
    journal: Journal,
    directory: Directory,
    gateway: Gateway,
    /// Stops the links, the control socket and the housekeeping.
    inflow: CancellationToken,
    /// Stops the relays.
    outflow: CancellationToken,
}

/// Runs the gateway until a signal says stop. `reread` reads and checks the configuration file once more (SIGHUP).
pub async fn run(config: Config, reread: impl Fn() -> Result<Loaded, Problems>) -> Result<Ended, Error> {
    // First of all: a signal that comes during the start must not kill a process with an open journal.
    let mut signals = Signals::listen().map_err(Error::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    let clock = Clock::new(config.clock.clone());
    // Before the journal, whose recovery may take minutes in which somebody edits the file.
    let file = ConfigFile::new(config.file.clone(), clock.now().wall);
    let journal = Journal::open(&config.journal, clock.clone())?;
    let people = if config.directory.is_some() { Some(Directory::load(&journal).await?) } else { None };
    let gateway = Gateway {
        directory: people.clone(),
        identity: Arc::new(config.identity.clone()),
        started: clock.now(),
        clock: clock.clone(),
        links: Board::default(),
        relays: StatusBoard::default(),
        file,
    };
    let (inflow, outflow) = (CancellationToken::new(), CancellationToken::new());
    let directory = people.unwrap_or_default();
    let parts = Arc::new(Parts { config, clock, journal, directory, gateway, inflow, outflow });
    let mut relays = JoinSet::new();
    let mut links = JoinSet::new();
    let mut keepers = JoinSet::new();
    start::relays(&parts, &mut relays).await?;
    open_control(&parts, &mut keepers).await;
    page::open(&parts, &mut keepers);
    start::links(&parts, &mut links);
    beat::hearts(&parts, &mut keepers);
    keepers.spawn(house::watch_clock(Arc::clone(&parts)));
    keepers.spawn(house::prune(Arc::clone(&parts)));
    let shared = Arc::clone(&parts);
    keepers.spawn(supervise::keep(parts.inflow.clone(), move || {
        let shared = Arc::clone(&shared);
        async move { Some(credentials::watch(shared)) }
    }));
    start::directory(&parts, &mut keepers)?;
    keepers.spawn(house::prove_life(Arc::clone(&parts)));
    tracing::info!(count = parts.config.terminals.len(), "gateway started");
    service::ready();

    let reason = loop {
        tokio::select! {
            signal = signals.next() => break Ok(signal),
            _ = hangup.recv() => judge(&parts, reread()),
            () = parts.journal.ended() => break Err(Error::JournalLost),
        }
    };
    let seconds = parts.config.manage.shutdown_seconds;
    service::stopping(Duration::from_secs(seconds) + CLOSING);
    match &reason {
        Ok(signal) => tracing::info!(reason = signal, "gateway stops"),
        Err(error) => tracing::error!(%error, "gateway stops"),
    }
    let stop = stop(&parts, links, relays, keepers, Duration::from_secs(seconds));
    tokio::select! {
        () = stop => reason.map(|_| Ended::Stopped),
        _ = signals.next() => {
            tracing::warn!("gateway forced to stop at once");
            Ok(Ended::Forced)
        }
    }
}

/// Says what a restart would make of the configuration file as it is now. The running configuration stays either way
/// (I6): only a start takes another one.
fn judge(parts: &Parts, read: Result<Loaded, Problems>) {
    let note = |read| parts.gateway.file.note(read, parts.clock.now().wall);
    match read {
        Ok(loaded) if loaded.config == parts.config => {
            note(Read::Running);
            tracing::info!("configuration file says what is running");
        }
        Ok(_) => {
            note(Read::Differs);
            tracing::info!("configuration file is sound and differs; restart the gateway to use it");
        }
        Err(problems) => {
            note(Read::Refused(problems.errors.iter().map(ToString::to_string).collect()));
            for problem in &problems.errors {
                tracing::error!(reason = %problem, "configuration file is refused, the running configuration stays");
            }
        }
    }
}

async fn open_control(parts: &Arc<Parts>, keepers: &mut JoinSet<()>) {
    let socket = &parts.config.manage.socket;
    match control::bind(socket).await {
        Ok(listener) => {
            let (gateway, journal) = (parts.gateway.clone(), parts.journal.clone());
            keepers.spawn(control::serve(listener, gateway, journal, parts.inflow.clone()));
        }
        // A gateway that can't be asked still does its work.
        Err(error) => tracing::warn!(%error, "no control socket"),
    }
}

/// The order of the end. Whatever isn't done in its share of the time is dropped: everything that was confirmed is on
/// disk already, and everything that wasn't comes again.
async fn stop(
    parts: &Parts,
    mut links: JoinSet<()>,
    mut relays: JoinSet<()>,
    mut keepers: JoinSet<()>,
    within: Duration,
) {
    let begin = Instant::now();
    parts.inflow.cancel();
    if timeout_at(begin + within / 3, drained(&mut links)).await.is_err() {
        tracing::warn!(count = links.len(), "links did not stop in time");
        links.shutdown().await;
    }
    parts.outflow.cancel();
    if timeout_at(begin + within, drained(&mut relays)).await.is_err() {
        tracing::warn!(count = relays.len(), "relays did not stop in time");
        relays.shutdown().await;
    }
    keepers.shutdown().await;
    match timeout_at(Instant::now() + CLOSING.max(within), parts.journal.close()).await {
        Ok(Ok(()) | Err(journal::Error::Closed)) => tracing::info!("gateway stopped"),
        Ok(Err(error)) => tracing::error!(%error, "journal not closed in order; it recovers at the next start"),
        Err(_) => tracing::error!("journal did not close in time; it recovers at the next start"),
    }
}

async fn drained(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

impl Parts {
    fn terminal_context(&self) -> terminal::Context {
        terminal::Context {
            identity: Arc::clone(&self.gateway.identity),
            journal: self.journal.clone(),
            clock: self.clock.clone(),
            shutdown: self.inflow.clone(),
            board: self.gateway.links.clone(),
        }
    }

    fn relay_context(&self) -> relay::Context {
        relay::Context {
            journal: self.journal.clone(),
            clock: self.clock.clone(),
            shutdown: self.outflow.clone(),
            // Half of the time: the links had a third, and the verdict must still be settled.
            grace: Duration::from_secs(self.config.manage.shutdown_seconds) / 2,
            board: self.gateway.relays.clone(),
            pace: relay::Pace::default(),
            directory: self.directory.clone(),
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
