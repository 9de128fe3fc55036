//! A token while it is good: how old it may get, and how often another one may be asked for.
//!
//! Must not: do I/O.

use std::collections::VecDeque;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::login::Life;
use crate::deliver::Outcome;
use crate::deliver::exchange::{self, Answer, Fault};
use crate::event::UtcMicros;

/// A token that is good for longer is as good as one for ever.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Tokens that are asked for within [`WINDOW`] at most: vendors count logins (Personio: 60 a minute, then a minute's
/// silence), and a token that is refused at once must not become a storm.
const MOST: usize = 5;

const WINDOW: Duration = Duration::from_secs(60);

/// A token is renewed after this part of its life, so that none expires on the way.
const RENEW_AT: f64 = 0.8;

/// A token, and until when.
struct Held {
    value: SecretString,
    renew_at: Option<Instant>,
    until: Option<Instant>,
}

/// What is to be done about the token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    None,
    /// Another one would be good, this one still is.
    Soon,
    /// There is none that is good.
    Now,
}

/// The token in use.
#[derive(Default)]
pub(super) struct Keeper {
    held: Option<Held>,
    asked: VecDeque<Instant>,
}

impl Keeper {
    pub(super) fn need(&self, now: Instant) -> Need {
        match &self.held {
            Some(held) if held.until.is_some_and(|until| until <= now) => Need::Now,
            Some(held) if held.renew_at.is_some_and(|at| at <= now) => Need::Soon,
            Some(_) => Need::None,
            None => Need::Now,
        }
    }

    /// Whether a token may be asked for now; counts it if so.
    pub(super) fn may_ask(&mut self, now: Instant) -> Result<(), Outcome> {
        while self.asked.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            self.asked.pop_front();
        }
        if let (true, Some(first)) = (self.asked.len() >= MOST, self.asked.front()) {
            let after = Some(WINDOW.saturating_sub(now.duration_since(*first)));
            let reason = format!("{MOST} logins within a minute and none lasted; waiting before the next");
            return Err(Outcome::Retry { reason, after });
        }
        self.asked.push_back(now);
        Ok(())
    }

    pub(super) fn keep(&mut self, value: SecretString, life: Option<Duration>, now: Instant) {
        let life = life.map(|life| life.min(LONGEST_LIFE));
        self.held = Some(Held {
            value,
            renew_at: life.map(|life| now + life.mul_f64(RENEW_AT)),
            until: life.map(|life| now + life),
        });
    }

    pub(super) fn drop_token(&mut self) {
        self.held = None;
    }

    pub(super) fn value(&self) -> Option<&str> {
        self.held.as_ref().map(|held| held.value.expose_secret())
    }
}

/// What a token endpoint's trouble means. An endpoint that can't be reached has not harmed any event.
pub(super) fn unreachable(fault: Fault) -> Outcome {
    match fault.outcome {
        Outcome::Retry { reason, after } => {
            Outcome::Retry { reason: format!("the login got no answer: {reason}"), after }
        }
        other => other,
    }
}

/// A token endpoint's answer that is no success.
pub(super) fn refused(reply: &Answer, now: UtcMicros) -> Option<Outcome> {
    let status = reply.status;
    let blocked = |what: &str| Outcome::Blocked { reason: format!("the login was answered {status}: {what}") };
    match status {
        200..=299 => None,
        400 | 401 | 403 | 422 => {
            Some(blocked("it does not accept the credential; renew the one that the sink's auth names"))
        }
        404 | 405 => Some(blocked("there is no login at this address; check the url in the sink's auth")),
        300..=399 => Some(blocked("a redirect; give the final address in the url of the sink's auth")),
        _ => {
            let reason = format!("the login was answered {status}");
            Some(Outcome::Retry { reason, after: exchange::wish(reply, now) })
        }
    }
}

/// A success that holds no token is none.
pub(super) fn without_token(reply: &Answer, place: &str) -> Outcome {
    let reason = format!(
        "the login was answered {} without a token at {place}; check the token in the sink's auth",
        reply.status
    );
    Outcome::Blocked { reason }
}

/// How long a token lives, by what the answer says of it.
pub(super) fn life(life: &Life, document: &Value, reply: &Answer, now: UtcMicros) -> Option<Duration> {
    match life {
        Life::Unlimited => None,
        Life::Fixed(life) => Some(*life),
        Life::Relative(pointer) => seconds(document.pointer(pointer)?).map(Duration::from_secs_f64),
        Life::Absolute(pointer) => {
            let now = reply.date.as_deref().and_then(exchange::http_date).unwrap_or(now.0);
            let until = match document.pointer(pointer)? {
                Value::String(text) if text.contains(['-', ':']) => {
                    text.trim().parse::<jiff::Timestamp>().ok()?.as_microsecond()
                }
                // Later than the year 5000 in seconds: those are milliseconds.
                number => match seconds(number)? {
                    ms if ms > 1e11 => (ms * 1e3) as i64,
                    s => (s * 1e6) as i64,
                },
            };
            Some(Duration::from_micros(u64::try_from(until.saturating_sub(now)).unwrap_or(0)))
        }
    }
}

/// A number of seconds, also in a text; bounded, so that no arithmetic of ours overflows.
fn seconds(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (number.is_finite() && number >= 0.0).then(|| number.min(4e12))
}
