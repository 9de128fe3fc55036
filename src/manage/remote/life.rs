//! The life of a bundle, decided: what is remembered after each thing that happens.
//!
//! Every function takes what is remembered and gives what must be on the disk next. Whoever calls writes that down first and
//! acts on it afterwards, so that a fall at any moment leaves the old or the new configuration, never neither.
//!
//! Must not: do I/O, read a clock, or know what a configuration is.

use super::Error;
use super::signature::Trust;
use super::state::{Base, Entry, Probation, State, Stored, What};
use crate::event::UtcMicros;
use crate::manage::config::RemoteConfig;

/// The start at which a configuration on probation is taken back: a machine that starts again and again has shown enough.
pub const STARTS: u32 = 3;

/// A part that can't be judged, as nothing has passed through it, is waited for so many probation times; then the bundle is
/// kept and the history says that nothing was proven.
pub const PATIENCE: u32 = 10;

/// A bundle that may be consumed.
#[derive(Debug, Clone)]
pub struct Consumption<'a> {
    /// The bundle.
    pub stored: Stored,
    /// Its `not_before`.
    pub not_before: UtcMicros,
    /// Who signed it, for people.
    pub who: String,
    /// Whom we believed, and believe from now on.
    pub trust: (&'a Trust, &'a Trust),
    /// What the local file says.
    pub config: &'a RemoteConfig,
    /// By this machine's clock.
    pub now: UtcMicros,
}

/// What a bundle changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Parts that are another than before.
    pub changed: Vec<String>,
    /// Those of them that are well now.
    pub healthy: Vec<String>,
}

/// A bundle is consumed. `change`: it is tried; `None`: it says what runs already.
pub fn consume(state: &State, consumption: &Consumption<'_>, change: Option<Change>) -> State {
    let Consumption { stored, not_before, who, trust, config, now } = consumption;
    let mut next = state.clone();
    next.consumed = stored.revision;
    next.newest = next.newest.max(not_before.0);
    next.believe(trust.1, trust.0, config);
    next.current = Base::Bundle(stored.clone());
    let what = match change {
        None => What::Unchanged,
        Some(change) => {
            // What is being tried has proven nothing: the way back leads past it.
            let probation = match state.probation.clone() {
                Some(earlier) => Probation {
                    changed: union(&earlier.changed, &change.changed),
                    healthy: union(
                        &earlier.healthy,
                        &change.healthy.iter().filter(|p| !earlier.changed.contains(p)).cloned().collect::<Vec<_>>(),
                    ),
                    since: now.0,
                    starts: 0,
                    ..earlier
                },
                None => Probation {
                    since: now.0,
                    starts: 0,
                    back_to: state.current.clone(),
                    before: state.previous.clone(),
                    changed: change.changed,
                    healthy: change.healthy,
                },
            };
            next.previous = Some(probation.back_to.clone());
            next.probation = Some(probation);
            What::Accepted
        }
    };
    next.note(entry(*now, Some(stored.revision), what, who, ""));
    next
}

/// A rightly signed bundle is refused: it is not consumed, the same may be good later. `None`: that is known already.
pub fn refuse(state: &State, revision: u64, who: &str, reason: &str, now: UtcMicros) -> Option<State> {
    let mut next = state.clone();
    next.note(entry(now, Some(revision), What::Refused, who, reason));
    let last = state.history.last();
    let known = last.is_some_and(|last| last.what == What::Refused && last.revision == Some(revision));
    // A reason that changes each time must not wear the card out.
    (!known).then_some(next)
}

/// The gateway starts. `Some`: this must be written down before anything else.
pub fn start(state: &State, now: UtcMicros) -> Option<State> {
    let probation = state.probation.as_ref()?;
    let starts = probation.starts.saturating_add(1);
    if starts >= STARTS {
        let reason = format!("the gateway started {starts} times while it was on probation");
        return Some(give_back(state, &reason, now));
    }
    let mut next = state.clone();
    next.probation = Some(Probation { starts, ..probation.clone() });
    Some(next)
}

/// How a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It has worked since the change.
    Well,
    /// It doesn't work, and why.
    Sick(String),
    /// Nothing has passed through it since the change.
    Unproven,
}

/// What becomes of a configuration on probation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is too early to say.
    Wait,
    /// It stays; a word about what was not proven.
    Commit(String),
    /// It goes, and why.
    Return(String),
}

/// Judges at the end of a probation time; `round` counts them from 1. Parts that were sick before, or did not change,
/// don't count.
pub fn judge(probation: &Probation, health: impl Fn(&str) -> Health, round: u32) -> Verdict {
    let counted = || probation.changed.iter().filter(|part| probation.healthy.contains(part));
    let sick: Vec<String> = counted()
        .filter_map(|part| match health(part) {
            Health::Sick(why) => Some(format!("{part}: {why}")),
            _ => None,
        })
        .collect();
    if !sick.is_empty() {
        return Verdict::Return(sick.join("; "));
    }
    let unproven: Vec<&str> = counted().filter(|part| health(part) == Health::Unproven).map(String::as_str).collect();
    if !unproven.is_empty() && round < PATIENCE {
        return Verdict::Wait;
    }
    let new: Vec<String> = probation
        .changed
        .iter()
        .filter(|part| !probation.healthy.contains(part))
        .filter_map(|part| match health(part) {
            Health::Sick(why) => Some(format!("{part}: {why}")),
            _ => None,
        })
        .collect();
    let mut words = Vec::new();
    if !unproven.is_empty() {
        words.push(format!("nothing has passed through {}", unproven.join(", ")));
    }
    if !new.is_empty() {
        words.push(format!("not well, and not before either: {}", new.join("; ")));
    }
    Verdict::Commit(words.join("; "))
}

/// It stays.
pub fn commit(state: &State, words: &str, now: UtcMicros) -> State {
    let mut next = state.clone();
    if next.probation.take().is_some() {
        next.note(entry(now, state.current.revision(), What::Committed, "the gateway", words));
    }
    next
}

/// It goes; its revision stays consumed.
pub fn give_back(state: &State, reason: &str, now: UtcMicros) -> State {
    let mut next = state.clone();
    if let Some(probation) = next.probation.take() {
        next.note(entry(now, state.current.revision(), What::Returned, "the gateway", reason));
        next.current = probation.back_to;
        next.previous = probation.before;
    }
    next
}

/// A person takes back what is in force.
pub fn roll_back(state: &State, who: &str, reason: &str, now: UtcMicros) -> Result<State, Error> {
    let mut next = state.clone();
    let (to, previous) = match (next.probation.take(), next.previous.take()) {
        (Some(probation), _) => (probation.back_to, probation.before),
        (None, Some(previous)) if previous != state.current => (previous, None),
        (None, _) if state.current != Base::Local => (Base::Local, None),
        _ => return Err(Error::NothingBefore),
    };
    next.note(entry(now, state.current.revision(), What::RolledBack, who, reason));
    next.current = to;
    next.previous = previous;
    Ok(next)
}

fn entry(now: UtcMicros, revision: Option<u64>, what: What, who: &str, reason: &str) -> Entry {
    Entry { at: now.0, revision, what, who: who.to_owned(), reason: reason.to_owned(), times: 1 }
}

fn union(a: &[String], b: &[String]) -> Vec<String> {
    let mut all = a.to_vec();
    all.extend(b.iter().filter(|part| !a.contains(part)).cloned());
    all
}

#[cfg(test)]
mod tests;
