//! Configuration from afar, wired: bundles come in, are judged like a reload, staged, applied, watched, kept or given back.
//!
//! Must not: decide what becomes of a bundle (`manage::remote` does), apply before it is on the disk, or hold up anything
//! else while it waits for somebody afar.

mod bring;

mod health;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::apply::{self, Change, Gone};
use super::plan::Prints;
use super::team::Team;
use super::{Error, Parts};
use crate::clock::Now;
use crate::manage::config::{Config, Loaded, Problems};
use crate::manage::reload::Report;
use crate::manage::remote::agent::{Agent, owing};
use crate::manage::remote::bundle::Signed;
use crate::manage::remote::life::{self, Health, Verdict};
use crate::manage::remote::start::Start;
use crate::manage::remote::{self, agent};

/// How often the time is saved while the clock is right.
const SAVE_CLOCK: Duration = Duration::from_secs(3600);

pub(super) use bring::bundles;
use health::health;

/// What a start has found, without the configuration.
pub struct Found {
    agent: Option<Agent>,
    notes: Vec<String>,
    refused: Option<Problems>,
}

impl Found {
    /// Of a start.
    pub fn of(start: Start) -> (Loaded, Self) {
        (start.loaded, Self { agent: start.agent, notes: start.notes, refused: start.refused })
    }
}

/// What the gateway keeps of it.
pub(super) struct Remote {
    agent: Option<Agent>,
    /// When the probation time ends, and how many have ended before.
    due: Option<(Instant, u32)>,
    /// When the time is saved next.
    save_at: Instant,
}

/// What the time has come for.
pub(super) enum Due {
    /// A probation time has ended.
    Judge,
    /// What time it is must be saved.
    SaveClock,
}

impl Remote {
    pub(super) fn new(parts: &Parts, found: Found) -> Self {
        let Found { agent, notes, refused } = found;
        for reason in &notes {
            tracing::error!(reason, "configuration is not as it should be");
        }
        parts.gateway.remote.notes(&notes);
        if let Some(problems) = &refused {
            let words = problems.errors.iter().map(ToString::to_string).collect();
            parts.gateway.file.note(crate::manage::file::Read::Refused(words), parts.clock.now().wall);
        }
        let mut remote = Self { agent, due: None, save_at: Instant::now() + SAVE_CLOCK };
        remote.rest(parts);
        remote
    }

    /// The gateway is ready: what it runs on worked once.
    pub(super) fn ready(&mut self, parts: &Parts) {
        if let Some(agent) = &mut self.agent {
            let local = agent.local().to_owned();
            // While something is tried, what is on the disk has not shown that it works.
            if agent.state().probation.is_none() {
                note(on_disk(|| agent.good(&local)));
            }
        }
        self.rest(parts);
    }

    /// Whether sinks that are no longer configured must keep their place.
    pub(super) fn on_probation(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.state().probation.is_some())
    }

    /// The local file read again, with the bundle in force over it.
    pub(super) fn reread(
        &self,
        otherwise: impl Fn() -> Result<Loaded, Problems>,
    ) -> (Result<Loaded, Problems>, Option<String>) {
        match &self.agent {
            Some(agent) => match agent.reread() {
                Ok((loaded, text)) => (Ok(loaded), Some(text)),
                Err(problems) => (Err(problems), None),
            },
            None => (otherwise(), None),
        }
    }

    /// What was read again runs.
    pub(super) fn reloaded(&mut self, parts: &Parts, text: Option<&str>, report: &Report) {
        if let (Some(agent), Some(text), true) = (&mut self.agent, text, report.problems.is_empty()) {
            note(on_disk(|| agent.reloaded(text)));
            parts.gateway.remote.notes(&[]);
        }
        self.show(parts);
    }

    /// A bundle has come.
    pub(super) async fn take(
        &mut self,
        parts: &Arc<Parts>,
        team: &mut Team,
        prints: &Prints,
        signed: &Signed,
    ) -> Result<Taken, Error> {
        let Some(agent) = &mut self.agent else {
            let words = "what is remembered of bundles can't be written; see the log of the start".to_owned();
            return Ok(Taken::Refused(remote::Error::Fetch(words)));
        };
        let now = parts.clock.now();
        let running = parts.gateway.running.get();
        let judged = consider(parts, team, prints, agent, signed, &running, now).await?;
        let (considered, change, given_up) = match judged {
            Ok(judged) => judged,
            Err(error) => {
                on_disk(|| agent.refused(signed, &error, &running, now.wall));
                self.show(parts);
                return Ok(Taken::Refused(error));
            }
        };
        let report = change.report();
        // What only a start takes is a change, too: the history must not call it the same.
        let same = change.is_nothing(&running) && report.needs_restart.is_empty();
        let well = |part: &String| matches!(health(parts, part), Some(Health::Well | Health::Unproven));
        let changed: Vec<String> = report.started.iter().chain(&report.restarted).cloned().collect();
        let healthy = changed.iter().filter(|part| !report.started.contains(part) && well(part)).cloned().collect();
        let staged = (!same).then_some(life::Change { changed, healthy, abandon: given_up });
        // On the disk before anything else: from here on it is the old one or the new one, and never this revision again.
        if let Err(error) = on_disk(|| agent.stage(signed, &considered, staged, now.wall)) {
            return Ok(Taken::Refused(error));
        }
        let revision = considered.revision();
        if same {
            tracing::debug!(count = revision, "bundle says what is running");
        } else {
            apply::make(parts, team, change).await;
            tracing::info!(count = revision, "configuration from afar applied, on probation");
            apply::say(&report);
        }
        // The same again must not put off the end of a probation that runs.
        if same {
            self.show(parts);
        } else {
            self.rest(parts);
        }
        Ok(Taken::Applied)
    }

    /// Waits for the end of the probation time, or for the time to be saved.
    pub(super) async fn due(&self) -> Due {
        match self.due {
            Some((at, _)) if at < self.save_at => {
                sleep_until(at).await;
                Due::Judge
            }
            _ => {
                sleep_until(self.save_at).await;
                Due::SaveClock
            }
        }
    }

    /// A probation time has ended.
    pub(super) async fn judge(&mut self, parts: &Arc<Parts>, team: &mut Team, prints: &Prints) -> Result<(), Error> {
        let (Some(agent), Some((_, round))) = (&mut self.agent, self.due) else { return Ok(()) };
        let round = round + 1;
        let now = parts.clock.now();
        let revision = agent.state().consumed;
        match agent.judge(|part| health(parts, part).unwrap_or(Health::Well), round) {
            Some(Verdict::Wait) => {
                self.due = Some((Instant::now() + probation(parts), round));
                return Ok(());
            }
            Some(Verdict::Commit(words)) => match on_disk(|| agent.commit(&words, now.wall)) {
                Ok(abandon) => {
                    tracing::info!(count = revision, reason = words, "configuration from afar is kept");
                    // One that runs again, by a later bundle or the local file, is no longer meant.
                    let running = parts.gateway.running.get();
                    let runs = |sink: &String| running.sinks.iter().any(|other| other.name == *sink);
                    for sink in abandon.into_iter().filter(|sink| !runs(sink)) {
                        give_up(parts, sink, "its bundle says abandon", &format!("bundle {revision}")).await;
                    }
                    let names = parts.gateway.running.get().sinks.iter().map(|sink| sink.name.clone()).collect();
                    parts.journal.retain_sinks(names).await?;
                    let local = agent.local().to_owned();
                    note(on_disk(|| agent.good(&local)));
                }
                Err(error) => {
                    note(Err(error));
                    self.due = Some((Instant::now() + probation(parts), round));
                    return Ok(());
                }
            },
            Some(Verdict::Return(reason)) => {
                tracing::error!(count = revision, reason, "configuration from afar is taken back");
                match on_disk(|| agent.give_back(&reason, now.wall)) {
                    Ok(loaded) => drop(back(parts, team, prints, loaded, ("the gateway", &reason)).await?),
                    Err(error) => tracing::error!(%error, "there is nothing to go back to"),
                }
            }
            None => {}
        }
        self.rest(parts);
        Ok(())
    }

    /// A person takes back what is in force.
    pub(super) async fn roll_back(
        &mut self,
        parts: &Arc<Parts>,
        team: &mut Team,
        prints: &Prints,
        who: &str,
        why: &str,
    ) -> Result<Report, Error> {
        let refused = |reason: String| Report { problems: vec![reason], ..Report::default() };
        let Some(agent) = &mut self.agent else {
            return Ok(refused("nothing from afar is remembered".to_owned()));
        };
        let report = match on_disk(|| agent.roll_back(who, why, parts.clock.now().wall)) {
            Ok(loaded) => {
                tracing::warn!(reason = why, "configuration from afar is taken back by a person");
                back(parts, team, prints, loaded, (who, why)).await?
            }
            Err(error) => return Ok(refused(error.to_string())),
        };
        self.rest(parts);
        Ok(report)
    }

    /// After every change: the time of the probation, and what is shown.
    fn rest(&mut self, parts: &Parts) {
        self.due = self.on_probation().then(|| (Instant::now() + probation(parts), 0));
        self.show(parts);
    }

    fn show(&self, parts: &Parts) {
        if let Some(agent) = &self.agent
            && (parts.gateway.running.get().manage.remote.is_some() || agent.state().consumed > 0)
        {
            parts.gateway.remote.agent(agent.status(parts.clock.now()));
        }
    }

    /// Saves the time, now and then.
    pub(super) fn save_clock(&mut self, parts: &Parts) {
        self.save_at = Instant::now() + SAVE_CLOCK;
        if let Some(agent) = &self.agent
            && parts.gateway.running.get().manage.remote.is_some()
        {
            note(on_disk(|| agent.save_clock(parts.clock.now())));
        }
    }
}

type Judged = Result<(agent::Considered, Change, Vec<String>), remote::Error>;

/// Everything that can be said before anything is done.
async fn consider(
    parts: &Parts,
    team: &Team,
    prints: &Prints,
    agent: &Agent,
    signed: &Signed,
    running: &Config,
    now: Now,
) -> Result<Judged, Error> {
    let considered = match agent.consider(signed, running, now) {
        Ok(considered) => considered,
        Err(error) => return Ok(Err(error)),
    };
    let stats = parts.journal.stats().await?;
    let pending: Vec<(String, u64)> = stats.sinks.iter().map(|sink| (sink.name.clone(), sink.pending)).collect();
    let config = considered.loaded.config.clone();
    let given_up = match owing(running, &config, &pending, considered.abandon()) {
        Ok(given_up) => given_up,
        Err(error) => return Ok(Err(error)),
    };
    match apply::judge(parts, team, prints, config, Gone::Only(&given_up)).await {
        Ok(change) => Ok(Ok((considered, change, given_up))),
        Err(reasons) => Ok(Err(remote::Error::Refused(reasons))),
    }
}

/// Runs what ran before. Sinks that only the other configuration had are given up, with what waits for them; a sink of both
/// has kept its place.
async fn back(
    parts: &Arc<Parts>,
    team: &mut Team,
    prints: &Prints,
    loaded: Loaded,
    (who, why): (&str, &str),
) -> Result<Report, Error> {
    let before: Vec<String> = parts.gateway.running.get().sinks.iter().map(|sink| sink.name.clone()).collect();
    match apply::judge(parts, team, prints, loaded.config, Gone::Only(&before)).await {
        Ok(change) => {
            let report = apply::make(parts, team, change).await;
            apply::say(&report);
            let now: Vec<String> = parts.gateway.running.get().sinks.iter().map(|sink| sink.name.clone()).collect();
            for sink in before.into_iter().filter(|sink| !now.contains(sink)) {
                give_up(parts, sink, why, who).await;
            }
            parts.journal.retain_sinks(now).await?;
            Ok(report)
        }
        Err(problems) => {
            for reason in &problems {
                tracing::error!(reason, "the earlier configuration can't be used any more; restart the gateway");
            }
            Ok(Report { problems, ..Report::default() })
        }
    }
}

async fn give_up(parts: &Parts, sink: String, why: &str, who: &str) {
    match parts.journal.abandon_sink(sink.clone(), why.to_owned(), who.to_owned()).await {
        Ok(count) => tracing::warn!(sink, count, "sink given up, with the events that waited for it"),
        Err(error) => tracing::error!(sink, %error, "sink could not be given up"),
    }
}

fn probation(parts: &Parts) -> Duration {
    let running = parts.gateway.running.get();
    Duration::from_secs(running.manage.remote.as_ref().map_or(1, |remote| remote.probation_seconds))
}

/// Small files, seldom; the other tasks of this thread go elsewhere meanwhile.
fn on_disk<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

fn note(result: Result<(), remote::Error>) {
    if let Err(error) = result {
        tracing::error!(%error, "what is remembered of configurations could not be written");
    }
}

/// What came of a bundle.
pub(crate) enum Taken {
    /// It is in force.
    Applied,
    /// It isn't, and why.
    Refused(remote::Error),
}
