//! Vendors that store intervals: an exit ends the open record of its person, so that record is asked for first.
//!
//! Must not: begin a record, end one that may belong to another exit, or send anything of an exit whose record isn't known
//! for certain.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::answers::{Finding, Sent, text_of};
use super::follow::{Lookup, hits};
use super::mapping::{self, Source, Subject};
use super::request::{Ending, Mapper, Outgoing, Request};
use super::{Api, Config};
use crate::deliver::exchange::{Answer, Draft, Fault};
use crate::deliver::{Cause, Outcome, Presence, Verdict};
use crate::journal::Record;

/// An exit leaves at most so long after the answer that names its record. Nobody but the vendor knows whether somebody has
/// ended that record since, and the exit would overwrite that. It is the time that a signature and a connection take on a
/// slow line, and shorter than a person needs to look at a record and end it.
const FRESH: Duration = Duration::from_secs(5);

/// So often is it asked for anew, before the relay takes its time.
const MOST_ASKED: u32 = 3;

/// No answer is as young as an exit needs it.
const STALE: &str = "each time that the open record was found, the exit had to wait (a rate limit, a new login) and the \
                     answer got too old; nothing was written";

/// There is no record to be ended. Nothing heals it by itself: the entry may come late, from another terminal.
const NONE_OPEN: &str = "no open record: the sink has no entry that this exit could end";

/// A record of which nobody can say which one it is.
const NO_ID: &str = "the open record that was found has no usable id (see the sink's open.id)";

/// A record of which nobody can say how long it has been open.
const NO_BEGIN: &str = "the open record or the exit does not say its time as the sink's open.format has it";

/// How long a request may wait before it leaves.
#[derive(Debug, Clone, Copy)]
pub(super) enum Age {
    /// As long as it takes.
    Any,
    /// [`FRESH`] from then.
    From(Instant),
    /// It had to wait, and may not leave any more.
    Over,
}

impl Age {
    /// Something was waited for that may have taken any time.
    pub(super) const fn over(self) -> Self {
        match self {
            Self::Any => Self::Any,
            Self::From(_) | Self::Over => Self::Over,
        }
    }

    /// Whether it may leave now.
    pub(super) fn check(self) -> Result<(), Fault> {
        let late = match self {
            Self::Any => false,
            Self::From(answered) => answered.elapsed() > FRESH,
            Self::Over => true,
        };
        if late { Err(Fault { outcome: stale(), left: false }) } else { Ok(()) }
    }
}

fn stale() -> Outcome {
    Outcome::Retry { reason: STALE.to_owned(), after: None }
}

/// What left, and what came back.
pub(super) struct Carried {
    pub(super) draft: Draft,
    /// The record that it ends.
    pub(super) ended: Option<String>,
    pub(super) finding: Finding,
    pub(super) reply: Answer,
}

/// `[sink.open]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Which events are exits: each of these places holds one of these texts.
    pub when: Vec<(Source, Vec<String>)>,
    /// How the person's open record is asked for; its `remote_id` is where a found record has its id.
    pub ask: Lookup,
    /// The request of an exit, in place of `[sink.request]`.
    pub request: Box<Request>,
    /// What is different about it.
    pub ending: Ending,
    /// How the sink is asked whether it has an exit; `None`: as for every event.
    pub lookup: Option<Lookup>,
    /// How long an open record may have been open.
    pub bound: Option<Bound>,
}

/// `max_hours`, `began`, `ended`, `format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Longest time between the two.
    pub most: Duration,
    /// Where a found record says when it began, a JSON pointer.
    pub began: String,
    /// Where the exit, as it was mapped, says when it was, a JSON pointer.
    pub ended: String,
    /// How both are written (`strptime`), by the same clock.
    pub format: String,
}

/// What makes the requests of exits.
pub(super) struct Exit {
    pub(super) open: Open,
    pub(super) mapper: Mapper,
}

impl Exit {
    /// Prepares what `[sink.open]` says, if it is there.
    pub(super) fn new(config: &Config, around: &super::request::Surroundings<'_>) -> Result<Option<Self>, String> {
        let Some(open) = config.open.clone() else { return Ok(None) };
        let around = super::request::Surroundings { exit: Some(&open.ending), ..*around };
        let mapper = Mapper::new(&open.request, config.map.as_ref(), None, &around)?;
        Ok(Some(Self { open, mapper }))
    }

    /// Whether an event is an exit.
    pub(super) fn is(&self, record: &Record) -> bool {
        mapping::holds(&self.open.when, Subject::of(record, false, false))
    }
}

/// The open record, or why there is none to be ended.
enum Asked {
    /// Its id.
    Open(Value),
    /// What becomes of the exit.
    Settled(Outcome),
}

impl Api {
    /// The exits' side of this sink, for an event that is one.
    pub(super) fn exit(&self, record: Option<&Record>, corrections: bool) -> Option<&Exit> {
        self.exit.as_ref().filter(|exit| !corrections && record.is_some_and(|record| exit.is(record)))
    }

    /// Sends a request; one that ends an open record right after that was asked for, or it is asked for again.
    pub(super) async fn carry(
        &mut self,
        outgoing: &Outgoing,
        key: &str,
        sent: Sent<'_>,
        record: Option<&Record>,
    ) -> Result<Carried, Outcome> {
        if outgoing.ends.is_none() {
            let draft = self.draft(key, outgoing)?;
            let (finding, reply) =
                self.attempt(&draft, sent, Age::Any).await.map_err(|fault| self.unanswered(fault))?;
            return Ok(Carried { draft, ended: None, finding, reply });
        }
        for _ in 0..MOST_ASKED {
            // What leaves after the question waits before it, not after it.
            self.gate.pair().await;
            let (completed, ended) = self.completed(outgoing, key, sent.items.first(), record).await?;
            let answered = Instant::now();
            if !self.gate.held(answered).is_zero() {
                continue;
            }
            let draft = self.draft(key, &completed)?;
            match self.attempt(&draft, sent, Age::From(answered)).await {
                Ok((finding, reply)) => return Ok(Carried { draft, ended, finding, reply }),
                Err(fault) if !fault.left && fault.outcome == stale() => {}
                Err(fault) => return Err(self.unanswered(fault)),
            }
        }
        Err(stale())
    }

    /// A request that ends an open record, with that record's id in it, and the id as a text.
    async fn completed(
        &mut self,
        outgoing: &Outgoing,
        key: &str,
        item: Option<&Value>,
        record: Option<&Record>,
    ) -> Result<(Outgoing, Option<String>), Outcome> {
        match self.ask_open(outgoing, key, item, record).await? {
            Asked::Settled(outcome) => Err(outcome),
            Asked::Open(id) => match outgoing.ending(&id) {
                Some(ended) => Ok((ended, text_of(&id))),
                None => Err(refused(NO_ID.to_owned(), String::new())),
            },
        }
    }

    async fn ask_open(
        &mut self,
        outgoing: &Outgoing,
        key: &str,
        item: Option<&Value>,
        record: Option<&Record>,
    ) -> Result<Asked, Outcome> {
        let (Some(open), Some(item), Some(record)) = (self.exit.as_ref().map(|exit| exit.open.clone()), item, record)
        else {
            return Err(blocked("an exit was kept that ends an open record, and the sink has no [sink.open] any more"));
        };
        let draft = self.draft(key, outgoing)?;
        let question = self.question(&open.ask, &draft, item, record)?;
        let reply = self.inquire(question, 1).await.map_err(|fault| fault.outcome)?;
        let Some(found) = hits(&open.ask, &reply, item) else {
            // The exit itself never left, so no rule's verdict on it is one; only who is unknown when asked for is so when
            // written, too. Everything else is the sink's trouble, and the exit waits.
            let finding = self.judge(&self.config.answers, &reply, Sent { count: 1, items: &[] });
            let proves_nothing = || {
                let status = reply.status;
                blocked(&format!("asked for the open record, the sink answered {status}, which proves nothing"))
            };
            return Err(match finding {
                Finding::Outcome(Outcome::Settled(verdicts)) => match verdicts.as_slice() {
                    [Verdict::Rejected { cause: Cause::UnknownWorker, .. }] => Outcome::Settled(verdicts),
                    [Verdict::Rejected { reason, .. }] => troubled(reply.status, reason),
                    _ => proves_nothing(),
                },
                Finding::Lookup { reason, .. } | Finding::Outcome(Outcome::Refused { reason, .. }) => {
                    troubled(reply.status, &reason)
                }
                Finding::Outcome(outcome) => outcome,
                Finding::Doubt { reason, after } => Outcome::Retry { reason, after },
                Finding::Relogin { reason } => Outcome::Blocked { reason },
                Finding::Unreadable { reason, .. } if reply.status >= 500 => Outcome::Retry { reason, after: None },
                _ => proves_nothing(),
            });
        };
        let id = open.ask.remote_id.as_deref().unwrap_or_default();
        let [record_found] = found.as_slice() else {
            return match found.len() {
                0 => {
                    let outcome = refused(NONE_OPEN.to_owned(), String::new());
                    Ok(Asked::Settled(self.unless_there(&draft, item, record, outcome).await))
                }
                n => Ok(Asked::Settled(refused(
                    format!("{n} open records, and nothing says which one this exit ends"),
                    String::new(),
                ))),
            };
        };
        if let Some(bound) = &open.bound
            && let Some(outcome) = bound.breached(record_found, item)
        {
            // An exit that is there already may have been followed by another entry.
            return Ok(Asked::Settled(self.unless_there(&draft, item, record, outcome).await));
        }
        match record_found.pointer(id) {
            Some(id) => Ok(Asked::Open(id.clone())),
            None => Err(refused(NO_ID.to_owned(), String::new())),
        }
    }

    /// An exit that can end nothing is there already, or this becomes of it. A sink that can't be asked has not got it.
    async fn unless_there(&mut self, draft: &Draft, item: &Value, record: &Record, outcome: Outcome) -> Outcome {
        let own = self.exit.as_ref().is_some_and(|exit| exit.open.lookup.is_some());
        if !own && self.config.lookup.is_none() {
            return outcome;
        }
        match self.presence(draft, Some(item), Some(record)).await {
            Presence::Found { remote_id } => duplicate(remote_id),
            Presence::Absent => outcome,
            Presence::Unknown(unknown) => unknown,
        }
    }
}

impl Bound {
    /// What becomes of an exit whose record has been open for too long, or begins after it.
    fn breached(&self, found: &Value, item: &Value) -> Option<Outcome> {
        let at = |value: &Value, pointer: &str| {
            let text = value.pointer(pointer).and_then(text_of)?;
            jiff::civil::DateTime::strptime(&self.format, text).ok()
        };
        let (Some(began), Some(ended)) = (at(found, &self.began), at(item, &self.ended)) else {
            return Some(refused(NO_BEGIN.to_owned(), String::new()));
        };
        let open_for = ended.duration_since(began);
        if open_for.is_negative() {
            return Some(refused("the open record begins after this exit".to_owned(), String::new()));
        }
        let hours = self.most.as_secs() / 3600;
        (open_for.unsigned_abs() > self.most).then(|| {
            let reason = format!("the open record begins more than {hours} hours before this exit: an exit is missing");
            refused(reason, String::new())
        })
    }
}

/// What is declared of exits has its place in the verdict on one, too: the record that it ended.
pub(super) fn named(outcome: Outcome, ended: Option<&str>) -> Outcome {
    match outcome {
        Outcome::Settled(verdicts) if ended.is_some() => {
            let id = || ended.map(str::to_owned);
            let named = |verdict| match verdict {
                Verdict::Delivered => Verdict::Confirmed { duplicate: false, remote_id: id() },
                Verdict::Confirmed { duplicate, remote_id: None } => Verdict::Confirmed { duplicate, remote_id: id() },
                other => other,
            };
            Outcome::Settled(verdicts.into_iter().map(named).collect())
        }
        other => other,
    }
}

/// The question was answered as if it had been the exit.
fn troubled(status: u16, reason: &str) -> Outcome {
    let reason = format!("asked for the open record, the sink refused: {reason}");
    if status >= 500 { Outcome::Retry { reason, after: None } } else { Outcome::Blocked { reason } }
}

fn blocked(reason: &str) -> Outcome {
    Outcome::Blocked { reason: reason.to_owned() }
}

fn duplicate(remote_id: Option<String>) -> Outcome {
    Outcome::Settled(vec![Verdict::Confirmed { duplicate: true, remote_id }])
}

fn refused(reason: String, answer: String) -> Outcome {
    Outcome::Settled(vec![Verdict::Rejected { cause: Cause::Content, reason, answer }])
}
