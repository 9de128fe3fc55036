//! Wires everything and runs it; the only place that starts long-lived tasks; the shutdown order.
//!
//! Start: the journal first, before anything that could be confirmed; then sinks and their relays, then the links. None
//! of these waits for a network, a broker, a database or a correct clock (I8). Stop: the links (nothing new comes in,
//! what was read is committed), then the relays (the request under way ends, or is given up: the same bytes go again),
//! then the journal.
//!
//! Must not: decide what a part does, or let the end of one part end another, the journal's excepted.

mod announce;

mod apply;

mod beat;

mod credentials;

mod house;

mod page;

mod plan;

pub mod remote;

mod start;

mod supervise;

mod team;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::deliver::directory::Directory;
use crate::deliver::{self, StatusBoard, relay};
use crate::journal::{self, Journal};
use crate::manage::config::{Config, Loaded, Problems};
use crate::manage::file::ConfigFile;
use crate::manage::reload::{Report, RollBack};
use crate::manage::remote::board::Board;
use crate::manage::remote::bundle::Signed;
use crate::manage::running::Running;
use crate::manage::status::Gateway;
use crate::manage::{control, service};
use crate::progress::{LONGEST_ANSWER, LONGEST_STEP, Mark, Roll};
use crate::terminal;
use apply::{Order, Orders};
use plan::{Prints, Side};
use remote::{Due, Found, Remote, Taken};
use team::Team;

/// How long a change of the configuration may take: parts hand over, and the journal answers a few times.
const LONGEST_CHANGE: Duration = LONGEST_ANSWER.saturating_mul(2);

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
    clock: Clock,
    journal: Journal,
    journal_id: String,
    /// How it is, and the configuration that runs.
    gateway: Gateway,
    /// Stops the links, the control socket and the housekeeping.
    inflow: CancellationToken,
    /// Stops the relays.
    outflow: CancellationToken,
}

/// Runs the gateway until a signal says stop. `reread` reads and checks the configuration file once more (SIGHUP, or
/// `portero config reload`); `found` is what a start has found of configurations from afar.
pub async fn run(config: Config, found: Found, reread: impl Fn() -> Result<Loaded, Problems>) -> Result<Ended, Error> {
    // First of all: a signal that comes during the start must not kill a process with an open journal.
    let mut signals = Signals::listen().map_err(Error::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    let clock = Clock::new(config.clock.clone());
    // Before the journal, whose recovery may take minutes in which somebody edits the file.
    let file = ConfigFile::new(config.file.clone(), clock.now().wall);
    let journal = Journal::open(&config.journal, clock.clone())?;
    let directory = if config.directory.is_some() { Directory::load(&journal).await? } else { Directory::default() };
    let gateway = Gateway {
        directory,
        identity: Arc::new(config.identity.clone()),
        started: clock.now(),
        clock: clock.clone(),
        links: terminal::Board::default(),
        relays: StatusBoard::default(),
        running: Running::new(config),
        file,
        remote: Board::default(),
        parts: Roll::new(service::watchdog().map_or(LONGEST_STEP, |within| within.min(LONGEST_STEP))),
    };
    let (inflow, outflow) = (CancellationToken::new(), CancellationToken::new());
    let journal_id = journal.id().await?;
    let parts = Arc::new(Parts { clock, journal, journal_id, gateway, inflow, outflow });
    let prints = Prints::new();
    let (orders, mut ordered) = Orders::new();
    let mut keepers = JoinSet::new();
    let mut remote = Remote::new(&parts, found);
    let mut team = first_team(&parts, &prints, remote.on_probation()).await?;
    open_control(&parts, orders.clone(), &mut keepers).await;
    remote::bundles(&parts, &orders, &mut keepers);
    let roll = parts.gateway.parts.clone();
    keepers.spawn(roll.part("clock").watch(house::watch_clock(Arc::clone(&parts))));
    keepers.spawn(roll.part("retention").watch(house::prune(Arc::clone(&parts))));
    let changes = roll.patient_part("configuration", LONGEST_ANSWER);
    changes.idle("waiting for changes");
    let shared = Arc::clone(&parts);
    keepers.spawn(supervise::keep(parts.inflow.clone(), roll.part("expiry of credentials"), move || {
        let shared = Arc::clone(&shared);
        async move { Some(credentials::watch(shared)) }
    }));
    keepers.spawn(house::tick(parts.gateway.parts.clone()));
    tracing::info!(count = parts.gateway.running.get().terminals.len(), "gateway started");
    service::ready();
    let _watch = house::Watch::begin(&parts);
    remote.ready(&parts);

    let reason = loop {
        let next = tokio::select! {
            signal = signals.next() => break Ok(signal),
            _ = hangup.recv() => Next::Reload(None),
            Some(order) = ordered.recv() => Next::of(order),
            due = remote.due() => Next::Due(due),
            () = parts.journal.ended() => break Err(Error::JournalLost),
        };
        changes.within("changing what runs", LONGEST_CHANGE);
        let mut change = std::pin::pin!(changes.watch(next.make(&parts, &mut team, &prints, &mut remote, &reread)));
        let (made, asked) = tokio::select! {
            made = &mut change => (made, None),
            // What is being ended and started ends at once, and with it the change.
            signal = signals.next() => {
                parts.inflow.cancel();
                parts.outflow.cancel();
                tokio::select! {
                    made = change => (made, Some(signal)),
                    _ = signals.next() => {
                        tracing::warn!("gateway forced to stop at once");
                        return Ok(Ended::Forced);
                    }
                }
            }
        };
        changes.idle("waiting for changes");
        match (made, asked) {
            (_, Some(signal)) => break Ok(signal),
            (Err(Error::Journal(journal::Error::Closed)), None) => break Err(Error::JournalLost),
            // A full disk, say: what runs runs on (I6).
            (Err(error), None) => tracing::error!(%error, "a change of the configuration was not taken in full"),
            (Ok(()), None) => {}
        }
    };
    let seconds = parts.gateway.running.get().manage.shutdown_seconds;
    service::stopping(Duration::from_secs(seconds) + CLOSING);
    match &reason {
        Ok(signal) => tracing::info!(reason = signal, "gateway stops"),
        Err(error) => tracing::error!(%error, "gateway stops"),
    }
    let stop = stop(&parts, team, keepers, Duration::from_secs(seconds));
    tokio::select! {
        () = stop => reason.map(|_| Ended::Stopped),
        _ = signals.next() => {
            tracing::warn!("gateway forced to stop at once");
            Ok(Ended::Forced)
        }
    }
}

/// What a running gateway does next, beside running. Whoever asked for it may be gone when it is done.
enum Next {
    Reload(Option<oneshot::Sender<Report>>),
    Bundle(Box<Signed>, oneshot::Sender<Taken>),
    RollBack(RollBack, oneshot::Sender<Report>),
    Due(Due),
}

impl Next {
    fn of(order: Order) -> Self {
        match order {
            Order::Reload(answer) => Self::Reload(Some(answer)),
            Order::Bundle(signed, answer) => Self::Bundle(signed, answer),
            Order::RollBack(wish, answer) => Self::RollBack(wish, answer),
        }
    }

    async fn make(
        self,
        parts: &Arc<Parts>,
        team: &mut Team,
        prints: &Prints,
        remote: &mut Remote,
        reread: &impl Fn() -> Result<Loaded, Problems>,
    ) -> Result<(), Error> {
        match self {
            Self::Reload(answer) => {
                let (read, over) = remote.reread(reread);
                let read = read.map(|loaded| loaded.config);
                let report = apply::reload(parts, team, prints, read, remote.on_probation()).await?;
                remote.reloaded(parts, over, &report);
                answer.map(|answer| answer.send(report));
            }
            Self::Bundle(signed, answer) => {
                let taken = remote.take(parts, team, prints, &signed).await?;
                let _ = answer.send(taken);
            }
            Self::RollBack(wish, answer) => {
                let report = remote.roll_back(parts, team, prints, &wish).await?;
                let _ = answer.send(report);
            }
            Self::Due(Due::Judge) => remote.judge(parts, team, prints).await?,
            Self::Due(Due::SaveClock) => remote.save_clock(parts),
        }
        Ok(())
    }
}

/// Everything that the configuration names, started: sinks and their relays, then the links.
async fn first_team(parts: &Arc<Parts>, prints: &Prints, on_probation: bool) -> Result<Team, Error> {
    let config = parts.gateway.running.get();
    let plan = plan::parts(&config, prints);
    start::check(parts, &plan)?;
    apply::introduce(parts, &config);
    let mut team = Team::default();
    let (relays, others): (Vec<_>, Vec<_>) = plan.into_iter().partition(|(key, _)| key.side() == Side::Out);
    for (key, spec) in relays {
        team.start(parts, key, spec);
    }
    // Before anything comes in: a sink that starts now must have its place, and one that is configured never looks removed.
    for sink in &config.sinks {
        parts.journal.sink(&sink.name, sink.start).await?;
    }
    // While a configuration is being tried, a sink that it has taken away may come back.
    if !on_probation {
        apply::retain(parts).await?;
    }
    for (key, spec) in others {
        team.start(parts, key, spec);
    }
    Ok(team)
}

async fn open_control(parts: &Arc<Parts>, orders: Orders, keepers: &mut JoinSet<()>) {
    let config = parts.gateway.running.get();
    match control::bind(&config.manage.socket).await {
        Ok(listener) => {
            let (gateway, journal) = (parts.gateway.clone(), parts.journal.clone());
            let serve = control::serve(listener, gateway, journal, orders, parts.inflow.clone());
            keepers.spawn(parts.gateway.parts.part("control socket").watch(serve));
        }
        // A gateway that can't be asked still does its work.
        Err(error) => tracing::warn!(%error, "no control socket"),
    }
}

/// The order of the end. Whatever isn't done in its share of the time is dropped: everything that was confirmed is on
/// disk already, and everything that wasn't comes again.
async fn stop(parts: &Parts, mut team: Team, mut keepers: JoinSet<()>, within: Duration) {
    let begin = Instant::now();
    parts.inflow.cancel();
    team.stop_side(Side::In, within / 3).await;
    parts.outflow.cancel();
    team.stop_side(Side::Out, (begin + within).saturating_duration_since(Instant::now())).await;
    keepers.shutdown().await;
    drop(team);
    match timeout_at(Instant::now() + CLOSING.max(within), parts.journal.close()).await {
        Ok(Ok(()) | Err(journal::Error::Closed)) => tracing::info!("gateway stopped"),
        Ok(Err(error)) => tracing::error!(%error, "journal not closed in order; it recovers at the next start"),
        Err(_) => tracing::error!("journal did not close in time; it recovers at the next start"),
    }
}

impl Parts {
    fn terminal_context(&self, mark: Mark, shutdown: CancellationToken) -> terminal::Context {
        terminal::Context {
            identity: Arc::clone(&self.gateway.identity),
            journal: self.journal.clone(),
            clock: self.clock.clone(),
            shutdown,
            board: self.gateway.links.clone(),
            mark,
        }
    }

    fn relay_context(&self, mark: Mark, shutdown: CancellationToken) -> relay::Context {
        let seconds = self.gateway.running.get().manage.shutdown_seconds;
        relay::Context {
            journal: self.journal.clone(),
            clock: self.clock.clone(),
            shutdown,
            // Half of the time: the links had a third, and the verdict must still be settled.
            grace: Duration::from_secs(seconds) / 2,
            board: self.gateway.relays.clone(),
            pace: relay::Pace::default(),
            directory: self.gateway.directory.clone(),
            mark,
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
