//! Makes a running gateway run another configuration: only what differs is ended and started, the journal never (I6).
//!
//! Must not: begin before everything that can be judged without the network was judged, or end a part twice.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::plan::{self, Difference, Key, Plan, Prints};
use super::remote::Taken;
use super::team::Team;
use super::{Error, Parts, start};
use crate::journal;
use crate::manage::config::{Config, Problems};
use crate::manage::reload::{Report, Reports, RollBack};
use crate::manage::remote::bundle::Signed;

/// Most orders that wait.
const ORDERS: usize = 8;

/// How long the parts that end may take when the gateway itself goes on: more than a request under way is given by default (half
/// of `shutdown_seconds`), and less than whoever asked waits for the answer (20 s).
const HANDOVER: Duration = Duration::from_secs(15);

/// What is asked of the running gateway.
pub(crate) enum Order {
    /// Read the configuration file again, and run what it says.
    Reload(oneshot::Sender<Report>),
    /// Look into a bundle from afar, and run what it says.
    Bundle(Box<Signed>, oneshot::Sender<Taken>),
    /// Take back what came from afar.
    RollBack(RollBack, oneshot::Sender<Report>),
}

/// Where orders are given; cheap to clone.
#[derive(Clone)]
pub(crate) struct Orders(mpsc::Sender<Order>);

impl Orders {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(ORDERS);
        (Self(sender), receiver)
    }

    /// `None`: the gateway is about to stop.
    pub(super) async fn give(&self, order: Order) -> Option<()> {
        self.0.send(order).await.ok()
    }
}

impl Reports for Orders {
    /// `None`: the gateway is about to stop.
    async fn reload(&self) -> Option<Report> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Order::Reload(answer)).await.ok()?;
        answered.await.ok()
    }

    async fn roll_back(&self, wish: RollBack) -> Option<Report> {
        let (answer, answered) = oneshot::channel();
        self.give(Order::RollBack(wish, answer)).await?;
        answered.await.ok()
    }
}

/// Why a configuration can't be run.
pub(crate) enum Refusal {
    /// In words.
    Problems(Vec<String>),
    /// Sinks that it no longer has and for which events wait: their names and how many.
    Owing(Vec<(String, u64)>),
}

impl Refusal {
    pub(super) fn words(self) -> Vec<String> {
        match self {
            Self::Problems(problems) => problems,
            Self::Owing(sinks) => sinks.iter().map(|(name, pending)| waiting(name, *pending)).collect(),
        }
    }
}

/// A change that was judged and can be made.
pub(crate) struct Change {
    config: Config,
    plan: Plan,
    difference: Difference,
    /// Tables that only a start takes.
    needs_restart: Vec<&'static str>,
}

impl Change {
    /// What it would do.
    pub(crate) fn report(&self) -> Report {
        let told = |keys: &[Key]| keys.iter().filter(|key| key.is_told()).map(ToString::to_string).collect();
        Report {
            problems: Vec::new(),
            started: told(&self.difference.added),
            restarted: told(&self.difference.changed),
            stopped: told(&self.difference.removed),
            needs_restart: self.needs_restart.iter().map(|&table| table.to_owned()).collect(),
        }
    }

    /// Whether what runs would be the same; what only a start takes is none of that.
    pub(super) fn is_nothing(&self, running: &Config) -> bool {
        let difference = &self.difference;
        let parts = [&difference.added, &difference.changed, &difference.removed];
        parts.iter().all(|keys| keys.is_empty()) && self.config == *running
    }
}

/// Judges a configuration against what runs; only the sinks in `abandon` may go although events wait for them. Opens and
/// changes nothing.
pub(crate) async fn judge(
    parts: &Parts,
    team: &Team,
    prints: &Prints,
    config: Config,
    abandon: &[String],
) -> Result<Change, Refusal> {
    let running = parts.gateway.running.get();
    let needs_restart = plan::only_at_start(&running, &config);
    let config = plan::as_far_as_it_goes(&running, config);
    let plan = plan::parts(&config, prints);
    let difference = Difference::between(&team.plan(), &plan);
    start::check(parts, &plan).map_err(|error| Refusal::Problems(vec![error.to_string()]))?;
    let goes = |name: &String| difference.removed.contains(&Key::Relay(name.clone())) && !abandon.contains(name);
    if running.sinks.iter().any(|sink| goes(&sink.name)) {
        // Of all their commits: what is settled lazily may still be on its way.
        let stats = parts.journal.stats().await.map_err(|error| Refusal::Problems(vec![error.to_string()]))?;
        let owing = stats.sinks.into_iter().filter(|sink| sink.pending > 0 && goes(&sink.name));
        let owing: Vec<(String, u64)> = owing.map(|sink| (sink.name, sink.pending)).collect();
        if !owing.is_empty() {
            return Err(Refusal::Owing(owing));
        }
    }
    Ok(Change { config, plan, difference, needs_restart })
}

fn waiting(name: &str, pending: u64) -> String {
    format!(
        "sink '{name}' is not in the new configuration and {pending} events wait for it; leave it in until they are \
         delivered, or restart the gateway to give them up"
    )
}

/// Makes a change: ends what is gone or another, then starts what is new or another.
pub(crate) async fn make(parts: &Arc<Parts>, team: &mut Team, change: Change) -> Report {
    let report = change.report();
    let Change { config, mut plan, difference, .. } = change;
    // All before anything is started: a device, an address or a name may pass from one to another.
    team.stop(difference.removed.iter().chain(&difference.changed), HANDOVER).await;
    let had_directory = parts.gateway.running.get().directory.is_some();
    match (had_directory, config.directory.is_some()) {
        (false, true) => complain(parts.gateway.directory.recall(&parts.journal).await),
        (true, false) => parts.gateway.directory.clear().await,
        _ => {}
    }
    forget(parts, &config, &difference);
    crate::telemetry::refilter(&config.log.level);
    parts.gateway.running.set(config);
    // A sink that starts now must have its place before anybody is told that it is there.
    let running = parts.gateway.running.get();
    for sink in running.sinks.iter().filter(|sink| difference.added.contains(&Key::Relay(sink.name.clone()))) {
        complain(parts.journal.sink(&sink.name, sink.start).await);
    }
    introduce(parts, &running);
    for key in difference.changed.iter().chain(&difference.added) {
        if let Some(spec) = plan.remove(key) {
            team.start(parts, key.clone(), spec);
        }
    }
    report
}

/// A journal that refuses, on a full disk say, must not end a gateway whose configuration changes, nor leave its parts stopped
/// (I6): each of them asks again for what it needs.
fn complain<T>(done: Result<T, journal::Error>) {
    if let Err(error) = done {
        tracing::warn!(%error, "the journal did not take a change of the configuration; its parts try again");
    }
}

/// Puts every terminal on the board, so that whoever is told first, the centre say, hears of those too whose link is only
/// being started.
pub(crate) fn introduce(parts: &Parts, config: &Config) {
    for terminal in &config.terminals {
        parts.gateway.links.update(&terminal.name, terminal.decoder.protocol().name(), |_| {});
    }
}

/// Takes from the boards what nobody will write on any more, and what was said of another part of the same name.
fn forget(parts: &Parts, config: &Config, difference: &Difference) {
    let sink = |name: &str| config.sinks.iter().any(|sink| sink.name == name);
    let changed = |name: &str| difference.changed.contains(&Key::Relay(name.to_owned()));
    parts.gateway.relays.retain(|name| sink(name) && !changed(name));
    parts.gateway.links.retain(|name, protocol| {
        let terminal = |t: &crate::terminal::Config| t.name == name && t.decoder.protocol().name() == protocol;
        config.terminals.iter().any(terminal) || config.brokers.iter().any(|broker| broker.name == name)
    });
}

/// What came of reading the file again, made if it can be.
pub(crate) async fn reload(
    parts: &Arc<Parts>,
    team: &mut Team,
    prints: &Prints,
    read: Result<Config, Problems>,
    on_probation: bool,
) -> Result<Report, Error> {
    let judged = match read {
        Ok(config) => judge(parts, team, prints, config, &[]).await.map_err(Refusal::words),
        Err(problems) => Err(problems.errors.iter().map(ToString::to_string).collect()),
    };
    let report = match judged {
        Ok(change) => {
            let report = make(parts, team, change).await;
            // Only what has nothing left to get was removed; and while a configuration is being tried, what it has taken away
            // may come back.
            if !on_probation {
                retain(parts).await?;
            }
            report
        }
        Err(problems) => Report { problems, ..Report::default() },
    };
    parts.gateway.file.note(report.read(), parts.clock.now().wall);
    say(&report);
    Ok(report)
}

/// Lets go of the places of sinks that the running configuration does not have.
pub(super) async fn retain(parts: &Parts) -> Result<(), journal::Error> {
    let names = parts.gateway.running.get().sinks.iter().map(|sink| sink.name.clone()).collect();
    parts.journal.retain_sinks(names).await
}

pub(super) fn say(report: &Report) {
    for reason in &report.problems {
        tracing::error!(reason, "configuration file is refused, the running configuration stays");
    }
    for (words, parts) in [
        ("stopped, it is no longer configured", &report.stopped),
        ("started again, its configuration is another", &report.restarted),
        ("started, it is new in the configuration", &report.started),
        ("not taken before the gateway starts again", &report.needs_restart),
    ] {
        for part in parts {
            tracing::info!(reason = part, "{words}");
        }
    }
    if report.is_nothing() {
        tracing::info!("configuration file says what is running");
    }
}
