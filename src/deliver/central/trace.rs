//! What the centre holds of an event, or of a person on a day.
//!
//! Must not: change anything, need an administrator's rights (a login that may read `portero.event`, `portero.correction`,
//! `portero.conflict` and `portero.gateway` is enough), or say more of other sinks than the gateway itself has said.

use std::time::Duration;

use jiff::civil::{Date, Time};
use serde_json::Value;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::{Admin, refused};
use crate::clock::Zone;
use crate::deliver::Error;
use crate::event::{EventId, UtcMicros, json};

/// A day of any zone lies within so many hours of the day in UTC (UTC−12 to UTC+14).
const ANYWHERE: i64 = 14 * 3_600_000_000;

const DAY: i64 = 86_400_000_000;

/// Most events of one answer: a person has a handful a day.
const MOST: i64 = 10_000;

/// Limits of the session: a question must not hold up what the gateways write.
const LIMITS: &str = "SET statement_timeout = '30s'; SET lock_timeout = '5s'; SET default_transaction_read_only = on";

/// One event as JSON, with what else the centre knows of it.
macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT jsonb_build_object('event', e.body, 'journal_id', e.journal_id, 'seq', e.seq,
                'corrections', (SELECT coalesce(jsonb_agg(c.body ORDER BY c.received_time, c.event_id), '[]')
                    FROM portero.correction c WHERE c.tenant = e.tenant AND c.corrects = e.event_id),
                'conflicts', (SELECT count(*) FROM portero.conflict f
                    WHERE f.tenant = e.tenant AND f.event_id = e.event_id),
                'gateway', (SELECT jsonb_build_object('gateway_id', g.gateway_id,
                    'seen_at', to_char(g.seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
                    'sinks', g.status -> 'sinks', 'journal_id', g.journal_id, 'anchor_problem', g.anchor_problem)
                    FROM portero.gateway g WHERE g.tenant = e.tenant AND g.gateway_id = e.gateway_id))::text
             FROM portero.event e WHERE e.tenant = $1 AND ",
            $condition
        )
    };
}

const BY_ID: &str = select!("e.event_id = $2");

/// By the time in the id, which is the device's own, or by the time of receipt, where the device's clock was wrong, or by a
/// correction.
const BY_PERSON: &str = select!(
    "e.event_id IN (
        SELECT a.event_id FROM portero.event a WHERE a.tenant = $1 AND a.event_id >= $3 AND a.event_id < $4
            AND $2 IN (a.person, a.body #>> '{person,terminal_person_id}', a.body #>> '{credential,card_number}')
        UNION SELECT b.event_id FROM portero.event b WHERE b.tenant = $1 AND b.received_time >= $5::text::timestamptz
            AND b.received_time < $6::text::timestamptz
            AND $2 IN (b.person, b.body #>> '{person,terminal_person_id}', b.body #>> '{credential,card_number}')
        UNION SELECT c.corrects FROM portero.correction c WHERE c.tenant = $1 AND c.event_time >= $5::text::timestamptz
            AND c.event_time < $6::text::timestamptz)
     AND $2 IN (e.person, e.body #>> '{person,terminal_person_id}', e.body #>> '{credential,card_number}')
     ORDER BY e.event_time, e.event_id LIMIT $7"
);

/// Gateways of which something may still be to come: those with events pending, and those not heard of for five minutes.
const BEHIND: &str = "SELECT jsonb_build_object('gateway_id', g.gateway_id,
        'seen_at', to_char(g.seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
        'silent_seconds', extract(epoch FROM now() - g.seen_at)::bigint,
        'pending', s.pending, 'appended', g.status -> 'appended')::text
     FROM portero.gateway g
     LEFT JOIN LATERAL (SELECT (e ->> 'pending')::bigint AS pending
        FROM jsonb_array_elements(CASE jsonb_typeof(g.status -> 'sinks') WHEN 'array' THEN g.status -> 'sinks' ELSE '[]' END) e
        WHERE e ->> 'name' = g.status ->> 'sink' LIMIT 1) s ON true
     WHERE g.tenant = $1 AND (s.pending > 0 OR g.seen_at < now() - interval '5 minutes')
     ORDER BY s.pending DESC NULLS LAST, g.seen_at LIMIT 100";

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub enum Question<'a> {
    /// One event.
    Event(EventId),
    /// The events of a person or card on a day at the terminal.
    Person {
        /// External number, the terminal's own number, or card number.
        number: &'a str,
        /// The day.
        date: Date,
        /// Within half an hour of this time.
        time: Option<Time>,
    },
}

/// What the centre says.
#[derive(Debug, Default)]
pub struct Answer {
    /// Objects with `event`, `journal_id`, `seq`, `corrections`, `conflicts`, `gateway`; by time.
    pub events: Vec<Value>,
    /// Gateways of which something may still be to come, the one with most pending first.
    pub behind: Vec<Value>,
}

/// Asks the centre.
pub async fn trace(admin: &Admin<'_>, tenant: &str, question: Question<'_>, near: Duration) -> Result<Answer, Error> {
    let link = admin.connect().await?;
    link.client.batch_execute(LIMITS).await.map_err(|error| refused(&error))?;
    let ask = async |sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]| -> Result<Vec<Value>, Error> {
        let rows = link.client.query_typed(sql, parameters).await.map_err(|error| refused(&error))?;
        let objects = rows.iter().map(|row| row.try_get::<_, String>(0).map_err(|error| refused(&error)));
        objects.map(|text| serde_json::from_str(&text?).map_err(|e| Error::Refused(e.to_string()))).collect()
    };
    let mut answer = Answer::default();
    match question {
        Question::Event(id) => {
            answer.events = ask(BY_ID, &[(&tenant, Type::TEXT), (&Uuid::from_bytes(id.0), Type::UUID)]).await?;
        }
        Question::Person { number, date, time } => {
            let midnight = Zone::utc()
                .start_of_day(date)
                .ok_or_else(|| Error::Refused("this day is beyond the calendar".to_owned()))?;
            let (from, until) = (midnight.0.saturating_sub(ANYWHERE), midnight.0.saturating_add(DAY + ANYWHERE));
            let id = |micros: i64| Uuid::from_u128(u128::from(u64::try_from(micros / 1000).unwrap_or(0)) << 80);
            let text = |micros: i64| json::rfc3339(UtcMicros(micros)).as_str().to_owned();
            answer.events = ask(
                BY_PERSON,
                &[
                    (&tenant, Type::TEXT),
                    (&number, Type::TEXT),
                    (&id(from), Type::UUID),
                    (&id(until), Type::UUID),
                    (&text(from), Type::TEXT),
                    (&text(until), Type::TEXT),
                    (&MOST, Type::INT8),
                ],
            )
            .await?;
            answer.events.retain(|found| happened(found, date, time, near));
        }
    }
    answer.behind = ask(BEHIND, &[(&tenant, Type::TEXT)]).await?;
    Ok(answer)
}

/// The best knowledge of an event: its last correction, else what came first.
pub fn latest(found: &Value) -> &Value {
    found["corrections"].as_array().and_then(|all| all.last()).unwrap_or(&found["event"])
}

/// When an event happened where its terminal stands.
pub fn local(event: &Value) -> Option<jiff::civil::DateTime> {
    let at: jiff::Timestamp = event["event_time"].as_str()?.parse().ok()?;
    let zone = event["zone"].as_str().and_then(|name| Zone::named(name).ok()).unwrap_or_else(Zone::utc);
    zone.local(UtcMicros(at.as_microsecond()))
}

fn happened(found: &Value, date: Date, time: Option<Time>, near: Duration) -> bool {
    let Some(local) = local(latest(found)) else { return false };
    match time {
        Some(time) => local.duration_since(date.to_datetime(time)).unsigned_abs() <= near,
        None => local.date() == date,
    }
}
