//! How long an answer asks us to wait.
//!
//! Must not: bound the wish; the relay's backoff does (one second to one hour).

use std::time::Duration;

use super::{Rules, header};
use crate::deliver::api::rules;
use crate::deliver::exchange::Answer;
use crate::event::UtcMicros;

/// A header that says when to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The header's name.
    pub header: String,
    /// How it says so.
    pub unit: Unit,
    /// A header with how many requests the same window still allows: the window counts only if none.
    pub remaining: Option<String>,
}

/// How a header says when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// In so many seconds.
    Delta,
    /// At this second since 1970.
    Epoch,
    /// At this HTTP date.
    Date,
}

/// The longest of the windows that are used up; if no window says that it is, the shortest of all. `Retry-After` (RFC 9110)
/// is a window that is used up. Without configured headers the `RateLimit` headers of the IETF draft are read too.
pub(super) fn wish(rules: &Rules, reply: &Answer, now: UtcMicros) -> Option<Duration> {
    let now = header(&reply.headers, "date").and_then(rules::http_date).unwrap_or(now.0);
    let mut used_up = rules::wish(reply, UtcMicros(now));
    let mut open: Option<Duration> = None;
    let mut window = |until: Option<Duration>, remaining: Option<u64>| {
        let Some(until) = until else { return };
        if remaining == Some(0) {
            used_up = Some(used_up.map_or(until, |longest| longest.max(until)));
        } else {
            open = Some(open.map_or(until, |shortest| shortest.min(until)));
        }
    };
    let number = |name: &str| header(&reply.headers, name).and_then(leading_number);
    if rules.waits.is_empty() {
        let until = number("ratelimit-reset").map(Duration::from_secs);
        window(until, number("ratelimit-remaining"));
        // draft-ietf-httpapi-ratelimit-headers-08 and later: `RateLimit: "name";r=0;t=30`, one or several.
        for policy in header(&reply.headers, "ratelimit").unwrap_or_default().split(',') {
            window(parameter(policy, "t").map(Duration::from_secs), parameter(policy, "r"));
        }
    }
    for wait in &rules.waits {
        let until = header(&reply.headers, &wait.header).and_then(|text| told(wait.unit, text, now));
        window(until, wait.remaining.as_deref().and_then(number));
    }
    used_up.or(open)
}

/// A number of seconds that is no span of time but an instant, in seconds since 1970 (2001).
const INSTANT: u64 = 1_000_000_000;

/// The same in milliseconds since 1970.
const INSTANT_MS: u64 = 1_000_000_000_000;

/// How long the sink lets nobody in, by what an answer of any status says: the longest of the windows of which nothing is
/// left. Without `[[sink.wait]]` the headers of the IETF draft in its forms and the `X-RateLimit` headers that came before it
/// are read.
pub(in crate::deliver::api) fn used_up(rules: &Rules, reply: &Answer, now: UtcMicros) -> Option<Duration> {
    let now = header(&reply.headers, "date").and_then(rules::http_date).unwrap_or(now.0);
    let text = |name: &str| header(&reply.headers, name);
    let number = |name: &str| text(name).and_then(leading_number);
    let empty = |remaining: &str| number(remaining) == Some(0);
    if !rules.waits.is_empty() {
        let windows = rules.waits.iter().filter(|wait| wait.remaining.as_deref().is_some_and(empty));
        return windows.filter_map(|wait| told(wait.unit, text(&wait.header)?, now)).max();
    }
    let pairs = [("ratelimit-remaining", "ratelimit-reset"), ("x-ratelimit-remaining", "x-ratelimit-reset")];
    let pairs = pairs.into_iter().filter(|(remaining, _)| empty(remaining));
    let pairs = pairs.filter_map(|(_, reset)| Some(reset_in(number(reset)?, now)));
    let policies = reply.headers.get_all("ratelimit").iter().filter_map(|value| value.to_str().ok());
    let policies = policies.flat_map(|value| value.split(',')).filter(|policy| parameter(policy, "r") == Some(0));
    pairs.chain(policies.filter_map(|policy| Some(Duration::from_secs(parameter(policy, "t")?)))).max()
}

/// What `…-Reset` means: vendors write a span or an instant under the same name.
fn reset_in(reset: u64, now: i64) -> Duration {
    let micros = |at: u64, unit: i64| i64::try_from(at).unwrap_or(i64::MAX).saturating_mul(unit);
    match reset {
        ..INSTANT => Duration::from_secs(reset),
        INSTANT..INSTANT_MS => until(micros(reset, 1_000_000), now),
        INSTANT_MS.. => until(micros(reset, 1000), now),
    }
}

/// A parameter of one policy of a `RateLimit` header (draft-ietf-httpapi-ratelimit-headers-08 and later):
/// `"name";r=0;t=30`, or `limit=100, remaining=0, reset=30` of the drafts before, which has none of them.
fn parameter(policy: &str, name: &str) -> Option<u64> {
    policy.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
}

/// What a configured header says.
fn told(unit: Unit, text: &str, now: i64) -> Option<Duration> {
    match unit {
        Unit::Delta => leading_number(text).map(Duration::from_secs),
        Unit::Epoch => leading_number(text).map(|at| {
            let at = i64::try_from(at).unwrap_or(i64::MAX).saturating_mul(1_000_000);
            until(at, now)
        }),
        Unit::Date => rules::http_date(text).map(|at| until(at, now)),
    }
}

/// From `now` until `at`, both in microseconds since 1970; nothing if that is over.
fn until(at: i64, now: i64) -> Duration {
    Duration::from_micros(u64::try_from(at.saturating_sub(now)).unwrap_or(0))
}

/// The number at the beginning: `7`, `7.5`, `7, 100;w=60`. Nothing for a negative one.
fn leading_number(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let digits = text.get(..end).filter(|digits| !digits.is_empty())?;
    Some(digits.parse().unwrap_or(u64::MAX))
}
