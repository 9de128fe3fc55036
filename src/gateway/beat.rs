//! What the gateway says of itself at the centre, once a minute for each database.
//!
//! Must not: name people, cards or secrets, or wait for a network (the heart does).

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::start::Running;
use super::{Parts, supervise};
use crate::deliver::{heartbeat, postgres};
use crate::progress::Mark;

/// The signs of life at one database, in the name of a sink.
pub(super) fn part(
    parts: &Arc<Parts>,
    name: String,
    postgres: postgres::Config,
    mark: Mark,
    stop: CancellationToken,
) -> Running {
    let shared = Arc::clone(parts);
    let span = tracing::info_span!("heartbeat", sink = name);
    let kept = supervise::keep(stop.clone(), mark, move || {
        let (shared, name, stop) = (Arc::clone(&shared), name.clone(), stop.clone());
        // The sink of the same settings was made before us.
        let heart = heartbeat::Heart::new(&postgres, shared.clock.clone());
        async move {
            let compose = move || {
                let (shared, name) = (Arc::clone(&shared), name.clone());
                async move { compose(&shared, &name).await }
            };
            Some(heartbeat::run(heart.ok()?, heartbeat::EVERY, stop, compose))
        }
    });
    Box::pin(kept.instrument(span))
}

/// `None` where the journal does not answer: then there is worse to hear of than a missing sign of life.
async fn compose(parts: &Parts, sink: &str) -> Option<Value> {
    let stats = parts.journal.stats().await.ok()?;
    let tip = parts.journal.tip().await.ok()?;
    let mut beat = parts.gateway.status(&stats);
    let object = beat.as_object_mut()?;
    object.remove("unconfigured");
    let terminals = object.remove("links").map(|links| terminals(&links)).unwrap_or_default();
    object.insert("terminals".to_owned(), terminals.into());
    object.insert("sink".to_owned(), sink.into());
    if let Some(tip) = tip {
        object.insert("head".to_owned(), tip.head_hex().into());
        object.insert("seq".to_owned(), tip.seq.0.into());
        object.insert("journal_id".to_owned(), tip.journal_id.into());
    }
    Some(beat)
}

/// The links of a status as rows of `portero.terminal`: one per device where devices are known, else one per link.
fn terminals(links: &Value) -> Vec<Value> {
    let mut rows = Vec::new();
    // A broker's own link is no terminal.
    for link in links.as_array().into_iter().flatten().filter(|link| link["protocol"] != "broker") {
        let row = |device: &Value, heard: &Value| {
            let mut row = json!({
                "terminal_id": link["name"],
                "device_key": device["key"].as_str().unwrap_or(""),
                "protocol": link["protocol"],
                "state": link["state"],
                "last_heard": heard,
                "events": if device.is_null() { &link["events"] } else { &device["events"] },
                "faults": link["faults"],
            });
            for known in ["gaps", "clock", "drift_ms"].into_iter().filter(|known| !device[*known].is_null()) {
                row[known] = device[known].clone();
            }
            row
        };
        match link["devices"].as_array().filter(|devices| !devices.is_empty()) {
            Some(devices) => rows.extend(devices.iter().map(|device| row(device, &device["last_heard"]))),
            None => rows.push(row(&Value::Null, &link["last_heard"])),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_terminal_and_a_fleet_is_one_a_device() {
        let links = json!([
            {"name": "site", "protocol": "broker", "state": "up", "events": 0, "devices": []},
            {"name": "gate", "protocol": "rdm6300", "state": "up", "events": 3, "devices": []},
            {"name": "yard", "protocol": "mqtt-json", "state": "up", "events": 9, "devices": [
                {"key": "a", "last_heard": "2026-11-24T00:00:00Z", "events": 4},
                {"key": "b", "last_heard": "2026-11-24T00:00:01Z", "events": 5},
            ]},
        ]);
        let rows = terminals(&links);
        let seen: Vec<_> =
            rows.iter().map(|r| (r["terminal_id"].as_str(), r["device_key"].as_str(), &r["events"])).collect();
        assert_eq!(
            seen,
            [
                (Some("gate"), Some(""), &json!(3)),
                (Some("yard"), Some("a"), &json!(4)),
                (Some("yard"), Some("b"), &json!(5))
            ]
        );
        assert!(rows[0]["last_heard"].is_null());
    }
}
