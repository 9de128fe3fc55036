//! How the centre is: what is there, what is missing, how far behind each gateway is.
//!
//! Must not: change anything, or read an event.

use jiff::civil::Date;
use serde_json::{Value, json};
use tokio_postgres::SimpleQueryMessage;

use super::{Admin, refused};
use crate::clock::Zone;
use crate::deliver::Error;
use crate::deliver::postgres::link::Link;

/// The version of `schema.sql`.
const SCHEMA_VERSION: i64 = 2;

/// What must be there, as a JSON array of what is not.
const MISSING: &str = "SELECT coalesce(jsonb_agg(what), '[]') FROM (VALUES
    ('table portero.event', to_regclass('portero.event') IS NOT NULL),
    ('table portero.event_default', to_regclass('portero.event_default') IS NOT NULL),
    ('table portero.correction', to_regclass('portero.correction') IS NOT NULL),
    ('table portero.conflict', to_regclass('portero.conflict') IS NOT NULL),
    ('table portero.gateway', to_regclass('portero.gateway') IS NOT NULL),
    ('table portero.terminal', to_regclass('portero.terminal') IS NOT NULL),
    ('table portero.anchor', to_regclass('portero.anchor') IS NOT NULL),
    ('table portero.login', to_regclass('portero.login') IS NOT NULL),
    ('table portero.schema_version', to_regclass('portero.schema_version') IS NOT NULL),
    ('view portero.own_gateway', to_regclass('portero.own_gateway') IS NOT NULL),
    ('function portero.heartbeat', to_regprocedure('portero.heartbeat(jsonb)') IS NOT NULL),
    ('function portero.record_conflicts', to_regprocedure('portero.record_conflicts(text[],uuid[],jsonb[])') IS NOT NULL),
    ('function portero.make_month', to_regprocedure('portero.make_month(date)') IS NOT NULL),
    ('row security on portero.event',
        EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('portero.event') AND relrowsecurity)),
    ('row security on portero.correction',
        EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('portero.correction') AND relrowsecurity)),
    ('policy own_login on portero.event', EXISTS (SELECT FROM pg_policies
        WHERE schemaname = 'portero' AND tablename = 'event' AND policyname = 'own_login')),
    ('policy own_login on portero.correction', EXISTS (SELECT FROM pg_policies
        WHERE schemaname = 'portero' AND tablename = 'correction' AND policyname = 'own_login')),
    ('role portero_login', EXISTS (SELECT FROM pg_roles WHERE rolname = 'portero_login'))
) AS expected (what, there) WHERE NOT there";

/// Everything else, as one JSON object; needs a complete schema.
const STATE: &str = "SELECT jsonb_build_object(
    'server', current_setting('server_version'),
    'schema_version', (SELECT max(version) FROM portero.schema_version),
    'partitions', (SELECT coalesce(jsonb_agg(c.relname ORDER BY c.relname), '[]')
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'portero.event'::regclass),
    'default_rows', (SELECT count(*) FROM portero.event_default),
    'conflicts', (SELECT count(*) FROM portero.conflict),
    'shared_logins', (SELECT coalesce(jsonb_agg(r.rolname ORDER BY r.rolname), '[]')
        FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
        WHERE m.roleid = (SELECT oid FROM pg_roles WHERE rolname = 'portero_gateway')),
    'gateways', (SELECT coalesce(jsonb_agg(line ORDER BY line -> 'tenant', line -> 'gateway_id'), '[]') FROM (
        SELECT jsonb_strip_nulls(jsonb_build_object(
            'tenant', tenant, 'gateway_id', gateway_id, 'logins', l.logins, 'site_id', g.site_id, 'version', g.version,
            'seen_at', to_char(g.seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
            'silent_seconds', extract(epoch FROM now() - g.seen_at)::bigint,
            'journal_id', g.journal_id, 'seq', g.seq, 'head', g.head,
            'sink', g.status -> 'sink', 'sinks', g.status -> 'sinks',
            'anchor_problem', g.anchor_problem,
            'anchor_problem_at', to_char(g.anchor_problem_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
            'conflicts', c.conflicts
        )) AS line
        FROM portero.gateway g
        FULL JOIN (SELECT tenant, gateway_id, jsonb_agg(login ORDER BY login) AS logins FROM portero.login
            GROUP BY tenant, gateway_id) l USING (tenant, gateway_id)
        LEFT JOIN (SELECT tenant, gateway_id, count(*) AS conflicts FROM portero.conflict
            GROUP BY tenant, gateway_id) c USING (tenant, gateway_id)
    ) AS lines))";

/// One object: `missing` (words, each with its remedy) beside what is there. A gateway's `pending` is what its sink to this
/// database still had to send at its last sign of life.
pub async fn state(admin: &Admin<'_>) -> Result<Value, Error> {
    let link = admin.connect().await?;
    let mut missing = ask(&link, MISSING).await?;
    let objects = missing.as_array_mut().map(std::mem::take).unwrap_or_default();
    if !objects.is_empty() {
        let missing: Vec<String> =
            objects.iter().filter_map(Value::as_str).map(|what| remedied(what, "init --apply")).collect();
        return Ok(json!({ "missing": missing }));
    }
    let mut state = ask(&link, STATE).await?;
    let mut missing: Vec<String> = Vec::new();
    if state["schema_version"].as_i64().is_some_and(|version| version < SCHEMA_VERSION) {
        missing.push(remedied(&format!("schema {SCHEMA_VERSION}"), "init --apply"));
    }
    let today = Zone::utc().local(admin.clock.now().wall).map_or(Date::constant(2026, 1, 1), |local| local.date());
    for first in [Some(today.first_of_month()), today.first_of_month().checked_add(jiff::Span::new().months(1)).ok()] {
        let Some(first) = first else { continue };
        let name = format!("event_{:04}_{:02}", first.year(), first.month());
        if !state["partitions"].as_array().is_some_and(|all| all.iter().any(|p| p == name.as_str())) {
            missing.push(remedied(&format!("partition portero.{name}"), "maintain"));
        }
    }
    for gateway in state["gateways"].as_array_mut().into_iter().flatten() {
        let pending = gateway["sinks"].as_array().and_then(|sinks| {
            sinks.iter().find(|sink| sink["name"] == gateway["sink"]).map(|sink| sink["pending"].clone())
        });
        if let Some(pending) = pending {
            gateway["pending"] = pending;
        }
    }
    state["missing"] = missing.into();
    Ok(state)
}

fn remedied(what: &str, command: &str) -> String {
    format!("{what}; run: portero central {command} --url URL")
}

async fn ask(link: &Link, sql: &str) -> Result<Value, Error> {
    let rows = link.client.simple_query(sql).await.map_err(|error| refused(&error))?;
    let text = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    serde_json::from_str(text.unwrap_or("null")).map_err(|error| Error::Refused(error.to_string()))
}
