//! Questions after the answer: a 202 that is polled, and whether the sink has an event.
//!
//! Must not: leave the configured origin, or ask without end.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::Instant;

use super::answers::{Finding, Rule, Rules, Sent, text_of};
use super::exchange::{Answer, Draft, same_origin};
use super::template::{Subject, Template};
use super::{Api, answers};
use crate::deliver::{Outcome, Presence};
use crate::event::json;
use crate::journal::Record;

/// Polls of one answer at most, whatever interval and deadline say (I10).
const MOST_POLLS: u32 = 1000;

/// A value in the query of an address that is shorter than this is no key, bytes.
const HOOK: usize = 6;

/// `[sink.poll]`: how an answer that is still pending is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// Where, with `{id}` for the pending answer's `remote_id`; the answer's `Location` if `None`.
    pub path: Option<Template>,
    /// How often.
    pub interval: Duration,
    /// How long; after it the answer is lost.
    pub deadline: Duration,
    /// What it is told; what fits no rule is still pending.
    pub answers: Vec<Rule>,
}

/// `[sink.lookup]`: how the sink is asked whether it has an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// `GET` or `POST`.
    pub method: String,
    /// Path and query, with `{/pointer}` for what was sent.
    pub path: Template,
    /// A JSON body with the same places.
    pub body: Option<Template>,
    /// Pointer to the array of what was found.
    pub at: String,
    /// Pointers into a found item, and texts of what was sent that must stand there (`true`: it is enough that the found
    /// text holds it). What was not sent is not compared, but something must be.
    pub matches: Vec<(String, Template, bool)>,
    /// Pointer into the found item to what the sink calls it.
    pub remote_id: Option<String>,
    /// Statuses that say that there is none.
    pub absent: Vec<(u16, u16)>,
}

impl Api {
    /// Asks for a pending answer until it is there or the deadline is over.
    pub(super) async fn poll(
        &mut self,
        draft: &Draft,
        sent: Sent<'_>,
        id: Option<String>,
        location: Option<String>,
        first: Option<Duration>,
    ) -> Finding {
        let blocked = |reason: &str| Finding::Outcome(Outcome::Blocked { reason: reason.to_owned() });
        let Some(poll) = self.config.poll.clone() else {
            return blocked("the answer is pending, and the sink has no [sink.poll] that says where to ask");
        };
        let id = id.map(Value::from);
        let path = match &poll.path {
            Some(path) => path.address(Subject { item: &Value::Null, event: &Value::Null, id: id.as_ref() }),
            None => location,
        };
        let url = path.and_then(|path| draft.url.join(&path).ok());
        let Some(url) = url else {
            return blocked("the answer is pending and says not where to ask; check the sink's poll");
        };
        if !same_origin(&url, &self.url) {
            return blocked("the answer is pending and points to another host, where no credential goes");
        }
        let rules = Rules { answers: poll.answers.clone(), items: None, counts: None, ..self.config.answers.clone() };
        let until = Instant::now() + poll.deadline;
        let mut wait = first.unwrap_or(poll.interval);
        for _ in 0..MOST_POLLS {
            let wake = Instant::now() + wait.clamp(Duration::from_millis(10), poll.deadline);
            if wake > until {
                break;
            }
            self.gate.wait(wake.saturating_duration_since(Instant::now())).await;
            let question =
                Draft { method: reqwest::Method::GET, url: url.clone(), body: Bytes::new(), ..draft.clone() };
            wait = poll.interval;
            // The event was taken: no trouble of the question is a verdict on it, only a rule for polls is.
            let Ok(reply) = self.inquire(question, sent.count).await else { continue };
            if !poll.answers.iter().any(|rule| answers::covers(&rule.status, reply.status)) {
                continue;
            }
            match self.judge(&rules, &reply, sent) {
                Finding::Outcome(Outcome::Retry { after, .. }) => wait = after.unwrap_or(poll.interval),
                // Of a lone event every rule says a verdict; this is what no rule says.
                Finding::Outcome(Outcome::Refused { .. }) if sent.count == 1 => {}
                found @ (Finding::Outcome(Outcome::Settled(_) | Outcome::Refused { .. } | Outcome::Gone { .. })
                | Finding::Short { .. }
                | Finding::Lookup { .. }) => return found,
                _ => {}
            }
        }
        let reason = format!("still pending after {} seconds", poll.deadline.as_secs());
        Finding::Unreadable { reason, foreign: false }
    }

    /// Asks whether the sink has an item as it was sent.
    pub(super) async fn presence(&mut self, draft: &Draft, item: Option<&Value>, record: Option<&Record>) -> Presence {
        let unknown = |reason: String| Presence::Unknown(Outcome::Blocked { reason });
        let own = self.exit(record, false).and_then(|exit| exit.open.lookup.clone());
        let (Some(lookup), Some(item), Some(record)) = (own.or_else(|| self.config.lookup.clone()), item, record)
        else {
            return unknown("the sink cannot be asked whether it has an event; check the sink's lookup".to_owned());
        };
        let question = match self.question(&lookup, draft, item, record) {
            Ok(question) => question,
            Err(outcome) => return Presence::Unknown(outcome),
        };
        let reply = match self.inquire(question, 1).await {
            Ok(reply) => reply,
            Err(fault) => return Presence::Unknown(fault.outcome),
        };
        match found(&lookup, &reply, item) {
            Some(presence) => presence,
            // A look-up that says nothing settles nothing.
            None => {
                let ordinary = super::rules::judge(&reply, self.wire.clock.now().wall, &[]);
                Presence::Unknown(match ordinary {
                    outcome @ (Outcome::Retry { .. } | Outcome::Blocked { .. }) => outcome,
                    _ => {
                        let reason = format!("the look-up was answered {} and proves nothing", reply.status);
                        Outcome::Blocked { reason }
                    }
                })
            }
        }
    }

    /// A question about an item. It carries no idempotency key: the key is that of what was sent.
    pub(super) fn question(
        &self,
        lookup: &Lookup,
        draft: &Draft,
        item: &Value,
        record: &Record,
    ) -> Result<Draft, Outcome> {
        let blocked = |reason: &str| Outcome::Blocked { reason: reason.to_owned() };
        let mut event = Vec::new();
        json::write(&record.event, &mut event);
        let event: Value = serde_json::from_slice(&event).unwrap_or_default();
        let subject = Subject { item, event: &event, id: None };
        let url = lookup.path.address(subject).and_then(|path| self.url.join(&path).ok());
        let body = match &lookup.body {
            Some(body) => body.json(subject),
            None => Some(String::new()),
        };
        let (Some(url), Some(body)) = (url, body) else {
            return Err(blocked("a field that lookup names was not in what was sent; check the sink's lookup"));
        };
        if !same_origin(&url, &self.url) {
            return Err(blocked("lookup leads to another host, where no credential goes; give a path"));
        }
        let method = if lookup.method == "POST" { reqwest::Method::POST } else { reqwest::Method::GET };
        let mut question = Draft { method, url, body: body.into(), ..draft.clone() };
        question.headers.remove(HeaderName::from_static("idempotency-key"));
        if !question.body.is_empty() {
            question.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(question)
    }

    /// Judges with the secrets of this sink at hand.
    pub(super) fn judge(&self, rules: &Rules, reply: &Answer, sent: Sent<'_>) -> Finding {
        let hooks: Vec<String> = self.url.query_pairs().map(|(_, value)| value.into_owned()).collect();
        let mut secrets = self.authority.secrets();
        secrets.extend(self.proxy_password.iter().map(ExposeSecret::expose_secret));
        // An address may be a secret itself: hooks have a key in their query.
        secrets.extend(hooks.iter().map(String::as_str).filter(|value| value.len() >= HOOK));
        answers::judge(rules, reply, sent, self.wire.clock.now().wall, &secrets)
    }
}

/// What a look-up's answer says; `None` if nothing.
fn found(lookup: &Lookup, reply: &Answer, sent: &Value) -> Option<Presence> {
    Some(match hits(lookup, reply, sent)?.first() {
        Some(item) => {
            Presence::Found { remote_id: lookup.remote_id.as_ref().and_then(|pointer| text_of(item.pointer(pointer)?)) }
        }
        None => Presence::Absent,
    })
}

/// What a look-up found that is what was asked for; `None` if its answer says nothing.
pub(super) fn hits(lookup: &Lookup, reply: &Answer, sent: &Value) -> Option<Vec<Value>> {
    if lookup.absent.iter().any(|(from, to)| (*from..=*to).contains(&reply.status)) {
        return Some(Vec::new());
    }
    if !(200..300).contains(&reply.status) || !reply.complete {
        return None;
    }
    let document: Value = serde_json::from_slice(&reply.body).ok()?;
    let items = document.pointer(&lookup.at)?.as_array()?;
    let same = |found: &Value| {
        let compared = lookup.matches.iter().filter_map(|(theirs, ours, loosely)| {
            let ours = ours.text(Subject { item: sent, event: &Value::Null, id: None })?;
            let theirs = found.pointer(theirs).and_then(text_of);
            Some(theirs.is_some_and(|theirs| if *loosely { theirs.contains(&ours) } else { theirs == ours }))
        });
        let compared: Vec<bool> = compared.collect();
        compared.iter().all(|same| *same) && (lookup.matches.is_empty() || !compared.is_empty())
    };
    Some(items.iter().filter(|item| same(item)).cloned().collect())
}
