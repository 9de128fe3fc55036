//! All gateways as the centre knows them, the worst first: what their signs of life say, and which have fallen silent.
//!
//! Must not: change anything, read an event, or need more than the right to read `portero.gateway` and `portero.terminal`
//! (with `portero.login` besides, gateways that were never heard are listed, too).

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use super::{Admin, refused};
use crate::deliver::Error;
use crate::deliver::postgres::link::Link;

/// A terminal that its gateway no longer has keeps its row: only what the last sign of life touched counts.
const GATEWAYS: &str = "SELECT jsonb_strip_nulls(jsonb_build_object(
        'tenant', g.tenant, 'gateway_id', g.gateway_id, 'site_id', g.site_id, 'version', g.version,
        'seen_at', to_char(g.seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
        'silent_seconds', greatest(extract(epoch FROM now() - g.seen_at), 0)::bigint,
        'now', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
        'uptime_seconds', g.status -> 'uptime_seconds', 'configuration', g.status -> 'configuration',
        'clock_synchronised', g.status -> 'clock_synchronised', 'journal', g.status -> 'journal',
        'sinks', g.status -> 'sinks',
        'anchor_problem', g.anchor_problem, 'terminals', t.terminals, 'terminals_down', t.down
    ))::text
    FROM portero.gateway g
    LEFT JOIN (
        SELECT tenant, gateway_id, seen_at, count(*) AS terminals, count(*) FILTER (WHERE state IN ('down', 'held')) AS down
        FROM portero.terminal GROUP BY tenant, gateway_id, seen_at
    ) t ON t.tenant = g.tenant AND t.gateway_id = g.gateway_id AND t.seen_at = g.seen_at";

/// Those that have a login and have never said anything.
const NEVER: &str = "SELECT DISTINCT jsonb_build_object('tenant', l.tenant, 'gateway_id', l.gateway_id)::text
    FROM portero.login l LEFT JOIN portero.gateway g ON g.tenant = l.tenant AND g.gateway_id = l.gateway_id
    WHERE g.gateway_id IS NULL";

/// Every gateway, worst first: silent ones, journals that went back, sinks that need somebody, the oldest pending events.
///
/// `{tenant, gateway_id, site_id, version, revision, seen_at, silent_seconds, pending, oldest_pending,
/// oldest_pending_seconds, terminals, terminals_down, sinks: [{name, state, pending, quarantined, error}], wrong: [TEXT]}`.
/// A gateway that was last heard more than `stale` seconds ago is silent; an event that has waited longer is late.
pub async fn fleet(admin: &Admin<'_>, stale: u64) -> Result<Vec<Value>, Error> {
    let link = admin.connect().await?;
    let mut judged: Vec<(Severity, Value)> =
        rows(&link, GATEWAYS).await.map_err(|e| refused(&e))?.iter().map(|gateway| judge(gateway, stale)).collect();
    match rows(&link, NEVER).await {
        Ok(never) => judged.extend(never.iter().map(|gateway| judge(gateway, stale))),
        // A login that may only look at what gateways say.
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
        Err(error) => return Err(refused(&error)),
    }
    judged.sort_by_cached_key(|(severity, line)| {
        let name = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        (*severity, name("tenant"), name("gateway_id"))
    });
    Ok(judged.into_iter().map(|(_, line)| line).collect())
}

async fn rows(link: &Link, sql: &str) -> Result<Vec<Value>, tokio_postgres::Error> {
    let rows = link.client.simple_query(sql).await?;
    let text = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).and_then(|text| serde_json::from_str(text).ok()),
        _ => None,
    };
    Ok(rows.iter().filter_map(text).collect())
}

/// Kind of trouble, then how long or how much of it, the most first.
type Severity = (Rank, std::cmp::Reverse<u64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Silent,
    WentBack,
    Blocked,
    Unsound,
    Late,
    Down,
    Doubtful,
    Well,
}

fn judge(gateway: &Value, stale: u64) -> (Severity, Value) {
    let mut wrong: Vec<(Rank, String)> = Vec::new();
    let text = |key: &str| gateway[key].as_str();
    let silent = gateway["silent_seconds"].as_u64();
    match silent {
        None => wrong.push((Rank::Silent, "never heard of".to_owned())),
        Some(seconds) if seconds > stale => wrong.push((Rank::Silent, format!("silent for {}", span(seconds)))),
        Some(_) => {}
    }
    if let Some(problem) = text("anchor_problem") {
        wrong.push((Rank::WentBack, format!("{problem}; its card was restored or cloned")));
    }
    let synchronised = gateway["clock_synchronised"].as_bool() != Some(false);
    let now = text("now").and_then(|now| now.parse::<Timestamp>().ok());
    let (mut pending, mut oldest, mut age) = (None, None, 0);
    let mut sinks = Vec::new();
    for sink in gateway["sinks"].as_array().into_iter().flatten() {
        let name = sink["name"].as_str().unwrap_or("?");
        if let Some(count) = sink["pending"].as_u64() {
            pending = Some(pending.unwrap_or(0) + count);
        }
        if let Some(heard) = sink["oldest_pending"].as_str()
            && oldest.is_none_or(|oldest| heard < oldest)
        {
            oldest = Some(heard);
        }
        let state = sink["state"].as_str().unwrap_or("?");
        let error = sink["error"].as_str();
        match state {
            "blocked" | "gone" => {
                wrong.push((Rank::Blocked, format!("{name} is {state}: {}", error.unwrap_or("no reason given"))));
            }
            "open" => {
                wrong.push((Rank::Late, format!("{name} does not answer: {}", error.unwrap_or("no reason given"))));
            }
            _ => {}
        }
        let quarantined = sink["quarantined"].as_u64().unwrap_or(0);
        if quarantined > 0 {
            wrong.push((Rank::Doubtful, format!("{name} has set {quarantined} aside")));
        }
        let mut line = json!({ "name": name, "state": state, "pending": sink["pending"], "quarantined": quarantined });
        if let Some(error) = error {
            line["error"] = error.into();
        }
        sinks.push(line);
    }
    if let (Some(now), Some(heard), true) = (now, oldest.and_then(|text| text.parse::<Timestamp>().ok()), synchronised)
    {
        age = u64::try_from(now.duration_since(heard).as_secs()).unwrap_or(0);
        if age > stale {
            wrong.push((Rank::Late, format!("an event has waited for {}", span(age))));
        }
    }
    if let Some(error) = gateway["journal"]["error"].as_str() {
        wrong.push((Rank::Unsound, format!("journal: {error}")));
    }
    if gateway["configuration"]["state"] == "refused" {
        wrong.push((Rank::Unsound, "its configuration file was refused, the one before it runs".to_owned()));
    }
    let remote = &gateway["configuration"]["remote"];
    if let Some(what @ ("returned" | "refused")) = remote["last"]["what"].as_str() {
        let reason = remote["last"]["reason"].as_str().unwrap_or("no reason given");
        wrong.push((Rank::Unsound, format!("revision {} was {what}: {reason}", remote["last"]["revision"])));
    }
    for note in remote["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        wrong.push((Rank::Unsound, note.to_owned()));
    }
    if let Some(error) = remote["error"].as_str() {
        wrong.push((Rank::Doubtful, format!("configuration from afar: {error}")));
    }
    if remote["expired"] == true {
        wrong.push((Rank::Doubtful, "its bundle has expired".to_owned()));
    }
    let down = gateway["terminals_down"].as_u64().unwrap_or(0);
    if down > 0 {
        wrong.push((Rank::Down, format!("{down} terminals not reached")));
    }
    if !synchronised {
        wrong.push((Rank::Doubtful, "clock not synchronised".to_owned()));
    }
    wrong.sort_by_key(|(rank, _)| *rank);
    let rank = wrong.first().map_or(Rank::Well, |(rank, _)| *rank);
    let weight = if rank == Rank::Silent { silent.unwrap_or(u64::MAX) } else { age };
    let mut line = json!({
        "tenant": gateway["tenant"],
        "gateway_id": gateway["gateway_id"],
        "sinks": sinks,
        "wrong": wrong.into_iter().map(|(_, words)| words).collect::<Vec<_>>(),
    });
    for key in ["site_id", "version", "seen_at", "silent_seconds", "uptime_seconds", "terminals", "terminals_down"] {
        if !gateway[key].is_null() {
            line[key] = gateway[key].clone();
        }
    }
    if !remote["revision"].is_null() {
        line["revision"] = remote["revision"].clone();
    }
    if let Some(pending) = pending {
        line["pending"] = pending.into();
    }
    if let Some(oldest) = oldest {
        line["oldest_pending"] = oldest.into();
        line["oldest_pending_seconds"] = age.into();
    }
    ((rank, std::cmp::Reverse(weight)), line)
}

/// A length of time for people: `40 s`, `5 min`, `3 h`, `2 d`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_trouble_of_a_gateway_decides_where_it_stands() {
        let beat = |more: Value| {
            let mut gateway = json!({
                "tenant": "default", "gateway_id": "gw", "silent_seconds": 30, "now": "2026-11-24T12:00:00Z",
                "clock_synchronised": true, "sinks": [{ "name": "hr", "state": "idle", "pending": 0, "quarantined": 0 }],
            });
            for (key, value) in more.as_object().unwrap() {
                gateway[key] = value.clone();
            }
            judge(&gateway, 300)
        };
        let sink = |state: &str, oldest: &str| json!([{ "name": "hr", "state": state, "pending": 3, "oldest_pending": oldest }]);
        let well = beat(json!({}));
        assert_eq!((well.0.0, &well.1["wrong"], &well.1["pending"]), (Rank::Well, &json!([]), &json!(0)));
        let late = beat(json!({ "sinks": sink("sending", "2026-11-24T09:00:00.000000Z") }));
        assert_eq!((late.0.0, &late.1["oldest_pending_seconds"]), (Rank::Late, &json!(10_800)));
        assert_eq!(late.1["wrong"], json!(["an event has waited for 3 h"]));
        let fresh = beat(json!({ "sinks": sink("sending", "2026-11-24T11:59:00.000000Z") }));
        assert_eq!(fresh.0.0, Rank::Well);
        let blocked = beat(json!({ "sinks": sink("blocked", "2026-11-24T09:00:00.000000Z"), "terminals_down": 2 }));
        let silent = beat(json!({ "silent_seconds": 301, "anchor_problem": "journal went back" }));
        let back = beat(json!({ "anchor_problem": "journal went back" }));
        let clock = beat(json!({ "clock_synchronised": false, "sinks": sink("idle", "1970-01-01T00:00:09.000000Z") }));
        assert_eq!(clock.1["wrong"], json!(["clock not synchronised"]));
        assert!(silent.0 < back.0 && back.0 < blocked.0 && blocked.0 < late.0 && late.0 < clock.0 && clock.0 < well.0);
        assert_eq!(silent.1["wrong"].as_array().unwrap().len(), 2);
        let remote = |remote: Value| beat(json!({ "configuration": { "state": "running", "remote": remote } }));
        let sound = remote(json!({ "revision": 7, "last": { "what": "committed", "revision": 7, "reason": "" } }));
        assert_eq!((sound.0.0, &sound.1["revision"]), (Rank::Well, &json!(7)));
        let last = json!({ "what": "returned", "revision": 8, "reason": "sink hr is blocked" });
        let returned = remote(json!({ "revision": 7, "last": last }));
        assert_eq!(returned.1["wrong"], json!(["revision 8 was returned: sink hr is blocked"]));
        let never = judge(&json!({ "tenant": "default", "gateway_id": "new" }), 300);
        assert!(never.0 < silent.0);
    }
}
