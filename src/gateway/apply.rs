//! Makes a running gateway run another configuration: only what differs is ended and started, the journal never (I6).
//!
//! Must not: begin before everything that can be judged without the network was judged, or end a part twice.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::plan::{self, Difference, Key, Plan, Prints};
use super::team::Team;
use super::{Parts, start};
use crate::journal;
use crate::manage::config::{Config, Loaded, Problems};
use crate::manage::reload::{Report, Reports};

/// Most orders that wait.
const ORDERS: usize = 8;

/// How long the parts that end may take, when the gateway itself goes on. Whoever asked waits twice as long.
const HANDOVER: Duration = Duration::from_secs(10);

/// What is asked of the running gateway.
pub(crate) enum Order {
    /// Read the configuration file again, and run what it says.
    Reload(oneshot::Sender<Report>),
    /// Say what this configuration would do, and do nothing.
    Try(Wanted, oneshot::Sender<Report>),
    /// Run this configuration. Sinks that it no longer has keep their places until [`Order::Settle`].
    Take(Wanted, oneshot::Sender<Report>),
    /// What was taken stays: sinks that are gone hold nothing back any more.
    Settle(Farewell, oneshot::Sender<Result<u64, journal::Error>>),
}

/// A configuration from elsewhere than the file.
pub(crate) struct Wanted {
    /// Whole, as it is to run.
    pub(crate) config: Box<Config>,
    /// Sinks that may go although events wait for them.
    pub(crate) abandon: Vec<String>,
}

/// The last word on sinks that are gone.
pub(crate) struct Farewell {
    /// Those whose waiting events are dropped.
    pub(crate) abandon: Vec<String>,
    /// Why, for the record.
    pub(crate) why: String,
    /// Who says so, for the record.
    pub(crate) who: String,
}

/// Where orders are given; cheap to clone.
#[derive(Clone)]
pub(crate) struct Orders(mpsc::Sender<Order>);

impl Orders {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(ORDERS);
        (Self(sender), receiver)
    }

    /// Gives an order and waits for the answer; `None`: the gateway is about to stop, or could not do it.
    pub(crate) async fn give<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.0.send(order(answer)).await.ok()?;
        answered.await.ok()
    }
}

impl Reports for Orders {
    async fn reload(&self) -> Option<Report> {
        self.give(Order::Reload).await
    }
}

/// A change that was judged and can be made.
struct Change {
    config: Config,
    plan: Plan,
    difference: Difference,
    /// Tables that only a start takes.
    needs_restart: Vec<&'static str>,
}

impl Change {
    /// What it would do.
    fn report(&self) -> Report {
        let told = |keys: &[Key]| keys.iter().filter(|key| key.is_told()).map(ToString::to_string).collect();
        Report {
            problems: Vec::new(),
            started: told(&self.difference.added),
            restarted: told(&self.difference.changed),
            stopped: told(&self.difference.removed),
            needs_restart: self.needs_restart.iter().map(|&table| table.to_owned()).collect(),
        }
    }
}

/// Judges a configuration against what runs; for sinks in `abandon` events may wait. Opens and changes nothing.
async fn judge(
    parts: &Parts,
    team: &Team,
    prints: &Prints,
    config: Config,
    abandon: &[String],
) -> Result<Change, Vec<String>> {
    let running = parts.gateway.running.get();
    let needs_restart = plan::only_at_start(&running, &config);
    let config = plan::as_far_as_it_goes(&running, config);
    let plan = plan::parts(&config, prints);
    let difference = Difference::between(&team.plan(), &plan);
    start::check(parts, &plan).map_err(|error| vec![error.to_string()])?;
    let removed = running
        .sinks
        .iter()
        .map(|sink| &sink.name)
        .filter(|name| !abandon.contains(name) && difference.removed.contains(&Key::Relay((*name).clone())));
    let removed: Vec<&String> = removed.collect();
    if !removed.is_empty() {
        // Of all their commits: what is settled lazily may still be on its way.
        let stats = parts.journal.stats().await.map_err(|error| vec![error.to_string()])?;
        let pending = stats.sinks.iter().filter(|sink| sink.pending > 0 && removed.contains(&&sink.name));
        let refused: Vec<String> = pending.map(|sink| waiting(&sink.name, sink.pending)).collect();
        if !refused.is_empty() {
            return Err(refused);
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
async fn make(parts: &Arc<Parts>, team: &mut Team, change: Change) -> Report {
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
    for key in difference.changed.iter().chain(&difference.added) {
        if let Some(spec) = plan.remove(key) {
            team.start(parts, key.clone(), spec);
        }
    }
    report
}

/// A journal that refuses, on a full disk say, must not end a gateway whose configuration changes (I6): every part asks again
/// for what it needs.
fn complain<T>(done: Result<T, journal::Error>) {
    if let Err(error) = done {
        tracing::warn!(%error, "the journal did not take a change of the configuration; its parts try again");
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
async fn reload(parts: &Arc<Parts>, team: &mut Team, prints: &Prints, read: Result<Config, Problems>) -> Report {
    let judged = match read {
        Ok(config) => judge(parts, team, prints, config, &[]).await,
        Err(problems) => Err(problems.errors.iter().map(ToString::to_string).collect()),
    };
    let report = match judged {
        Ok(change) => {
            let report = make(parts, team, change).await;
            // Only what has nothing left to get was removed.
            complain(retain(parts).await);
            report
        }
        Err(problems) => refused(problems),
    };
    parts.gateway.file.note(report.read(), parts.clock.now().wall);
    say(&report);
    report
}

/// Does what is asked, and answers whoever asks.
pub(crate) async fn obey(
    parts: &Arc<Parts>,
    team: &mut Team,
    prints: &Prints,
    order: Order,
    reread: &impl Fn() -> Result<Loaded, Problems>,
) {
    // Whoever asked may be gone.
    match order {
        Order::Reload(answer) => {
            let read = reread().map(|loaded| loaded.config);
            let _ = answer.send(reload(parts, team, prints, read).await);
        }
        Order::Try(wanted, answer) => {
            let judged = judge(parts, team, prints, *wanted.config, &wanted.abandon).await;
            let _ = answer.send(judged.map_or_else(refused, |change| change.report()));
        }
        Order::Take(wanted, answer) => {
            let report = match judge(parts, team, prints, *wanted.config, &wanted.abandon).await {
                Ok(change) => {
                    leave_open(parts, &change);
                    make(parts, team, change).await
                }
                Err(problems) => refused(problems),
            };
            let _ = answer.send(report);
        }
        Order::Settle(farewell, answer) => {
            let _ = answer.send(settle(parts, farewell).await);
        }
    }
}

/// Drops what waits for the sinks that are given up, then lets go of every place that nobody has any more.
async fn settle(parts: &Parts, farewell: Farewell) -> Result<u64, journal::Error> {
    let Farewell { abandon, why, who } = farewell;
    let (running, mut dropped) = (parts.gateway.running.get(), 0);
    // One that is back is no longer meant.
    for name in abandon.into_iter().filter(|name| running.sinks.iter().all(|sink| sink.name != *name)) {
        match parts.journal.abandon_sink(name, why.clone(), who.clone()).await {
            Ok(count) => dropped += count,
            // It never had a place.
            Err(journal::Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    parts.leaving.lock().unwrap_or_else(PoisonError::into_inner).clear();
    retain(parts).await?;
    Ok(dropped)
}

const fn refused(problems: Vec<String>) -> Report {
    Report { problems, started: Vec::new(), restarted: Vec::new(), stopped: Vec::new(), needs_restart: Vec::new() }
}

/// Notes which sinks go and may come back.
fn leave_open(parts: &Parts, change: &Change) {
    let mut leaving = parts.leaving.lock().unwrap_or_else(PoisonError::into_inner);
    let gone = change.difference.removed.iter().filter_map(|key| match key {
        Key::Relay(name) => Some(name.clone()),
        _ => None,
    });
    leaving.extend(gone);
}

/// Lets go of the places of sinks that nobody has any more, but for those that may come back.
pub(super) async fn retain(parts: &Parts) -> Result<(), journal::Error> {
    let mut names: Vec<String> = parts.gateway.running.get().sinks.iter().map(|sink| sink.name.clone()).collect();
    names.extend(parts.leaving.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
    parts.journal.retain_sinks(names).await
}

fn say(report: &Report) {
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
