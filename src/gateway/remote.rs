//! Configuration from afar, wired: bundles come in, are judged like a reload, staged, applied, watched, kept or given back.
//!
//! Must not: decide what becomes of a bundle (`manage::remote` does), apply before it is on the disk, or hold up anything
//! else while it waits for somebody afar.

mod bring;

mod health;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::apply::{self, Change, Refusal};
use super::plan::Prints;
use super::team::Team;
use super::{Error, Parts};
use crate::clock::Now;
use crate::manage::config::{Config, Loaded, Problems};
use crate::manage::reload::{Report, RollBack};
use crate::manage::remote::agent::Agent;
use crate::manage::remote::bundle::Signed;
use crate::manage::remote::life::{self, Health, Verdict};
use crate::manage::remote::start::Start;
use crate::manage::remote::state::Base;
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

    /// The local file read again, with the bundle in force over it; its text and what lies over it, where bundles are taken.
    pub(super) fn reread(
        &self,
        otherwise: impl Fn() -> Result<Loaded, Problems>,
    ) -> (Result<Loaded, Problems>, Option<(String, Base)>) {
        match &self.agent {
            Some(agent) => match agent.reread() {
                Ok(agent::Reread { loaded, text, base }) => (Ok(loaded), Some((text, base))),
                Err(problems) => (Err(problems), None),
            },
            None => (otherwise(), None),
        }
    }

    /// What was read again runs.
    pub(super) fn reloaded(&mut self, parts: &Parts, over: Option<(String, Base)>, report: &Report) {
        if let (Some(agent), Some((text, base)), true) = (&mut self.agent, over, report.problems.is_empty()) {
            if base == agent.state().current {
                parts.gateway.remote.notes(&[]);
            }
            parts.gateway.remote.waits(&report.needs_restart);
            note(on_disk(|| agent.reloaded(&text, base)));
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
        let judged = consider(parts, team, prints, agent, signed, &running, now).await;
        let (considered, change) = match judged {
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
        let staged = (!same).then_some(life::Change { changed, healthy });
        // On the disk before anything else: from here on it is the old one or the new one, and never this revision again.
        if let Err(error) = on_disk(|| agent.stage(signed, &considered, staged, now.wall)) {
            return Ok(Taken::Refused(error));
        }
        parts.gateway.remote.waits(&report.needs_restart);
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
            Some(Verdict::Commit(words)) => {
                // Asked before anything is written: a journal that can't answer is asked again.
                let leaving = leaving(parts).await;
                let kept = match leaving {
                    Ok(leaving) => on_disk(|| agent.commit(&words, now.wall)).map(|()| leaving),
                    Err(error) => Err(remote::Error::Fetch(error.to_string())),
                };
                match kept {
                    Ok(leaving) => {
                        tracing::info!(count = revision, reason = words, "configuration from afar is kept");
                        for sink in leaving {
                            give_up(
                                parts,
                                sink,
                                "not in the configuration that is kept",
                                &format!("bundle {revision}"),
                            )
                            .await;
                        }
                        apply::retain(parts).await?;
                        let local = agent.local().to_owned();
                        note(on_disk(|| agent.good(&local)));
                    }
                    Err(error) => {
                        note(Err(error));
                        self.due = Some((Instant::now() + probation(parts), round));
                        return Ok(());
                    }
                }
            }
            Some(Verdict::Return(reason)) => {
                tracing::error!(count = revision, reason, "configuration from afar is taken back");
                match on_disk(|| agent.give_back(&reason, now.wall)) {
                    Ok(loaded) => back(parts, team, prints, loaded, ("the gateway", &reason)).await?,
                    Err(error) => tracing::error!(%error, "there is nothing to go back to"),
                }
            }
            None => {}
        }
        self.rest(parts);
        Ok(())
    }

    /// A person takes back what is in force. Judged like a bundle, unless that is still on probation: what is only being tried
    /// may always go.
    pub(super) async fn roll_back(
        &mut self,
        parts: &Arc<Parts>,
        team: &mut Team,
        prints: &Prints,
        wish: &RollBack,
    ) -> Result<Report, Error> {
        let refused = |problems: Vec<String>| Ok(Report { problems, ..Report::default() });
        let on_probation = self.on_probation();
        let Some(agent) = &mut self.agent else {
            return refused(vec!["nothing from afar is remembered".to_owned()]);
        };
        let (next, loaded) = match agent.way_back(&wish.who, &wish.why, parts.clock.now().wall) {
            Ok(way) => way,
            Err(error) => return refused(vec![error.to_string()]),
        };
        let all = if on_probation { names(parts) } else { wish.abandon.clone() };
        let change = match apply::judge(parts, team, prints, loaded.config, &all).await {
            Ok(change) => change,
            Err(Refusal::Problems(problems)) => return refused(problems),
            Err(Refusal::Owing(sinks)) => {
                let words = |(name, pending): &(String, u64)| {
                    format!(
                        "sink '{name}' would go, and {pending} events wait for it; say --abandon {name} to drop them"
                    )
                };
                return refused(sinks.iter().map(words).collect());
            }
        };
        if let Err(error) = on_disk(|| agent.roll_back(next)) {
            return refused(vec![error.to_string()]);
        }
        tracing::warn!(reason = wish.why, "configuration from afar is taken back by a person");
        let report = run_again(parts, team, change, (&wish.who, &wish.why)).await?;
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
            parts.gateway.remote.agent(agent.status(), agent.expires());
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

type Judged = Result<(agent::Considered, Change), remote::Error>;

/// Everything that can be said before anything is done.
async fn consider(
    parts: &Parts,
    team: &Team,
    prints: &Prints,
    agent: &Agent,
    signed: &Signed,
    running: &Config,
    now: Now,
) -> Judged {
    let considered = agent.consider(signed, running, now)?;
    let config = considered.loaded.config.clone();
    match apply::judge(parts, team, prints, config, considered.abandon()).await {
        Ok(change) => Ok((considered, change)),
        Err(Refusal::Problems(reasons)) => Err(remote::Error::Refused(reasons)),
        Err(Refusal::Owing(sinks)) => {
            let names: Vec<String> = sinks.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            let pending = sinks.iter().map(|(_, pending)| pending).sum();
            Err(remote::Error::Owing { names: names.join(", "), pending })
        }
    }
}

/// Names of the sinks that run.
fn names(parts: &Parts) -> Vec<String> {
    parts.gateway.running.get().sinks.iter().map(|sink| sink.name.clone()).collect()
}

/// Sinks that have a place in the journal and are not in the running configuration. Derived, not remembered: one that a later
/// bundle or the local file has brought back is not meant.
async fn leaving(parts: &Parts) -> Result<Vec<String>, crate::journal::Error> {
    let stats = parts.journal.stats().await?;
    let running = names(parts);
    Ok(stats.sinks.into_iter().map(|sink| sink.name).filter(|name| !running.contains(name)).collect())
}

/// Runs what ran before, whatever waits for sinks that only the configuration on trial had.
async fn back(
    parts: &Arc<Parts>,
    team: &mut Team,
    prints: &Prints,
    loaded: Loaded,
    by: (&str, &str),
) -> Result<(), Error> {
    match apply::judge(parts, team, prints, loaded.config, &names(parts)).await {
        Ok(change) => run_again(parts, team, change, by).await.map(drop),
        Err(refusal) => {
            for reason in refusal.words() {
                tracing::error!(reason, "the earlier configuration can't be used any more; restart the gateway");
            }
            Ok(())
        }
    }
}

/// Sinks that are not in it are given up, with what waits for them; a sink of both has kept its place.
async fn run_again(
    parts: &Arc<Parts>,
    team: &mut Team,
    change: Change,
    (who, why): (&str, &str),
) -> Result<Report, Error> {
    let report = apply::make(parts, team, change).await;
    parts.gateway.remote.waits(&report.needs_restart);
    apply::say(&report);
    for sink in leaving(parts).await? {
        give_up(parts, sink, why, who).await;
    }
    apply::retain(parts).await?;
    Ok(report)
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
