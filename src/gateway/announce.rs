//! What is said of the gateway at a broker, retained.
//!
//! Must not: name people, cards, secrets or what a server said in its own words; the message lies open at the broker.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::start::Running;
use super::{Parts, supervise};
use crate::event::json::rfc3339;
use crate::manage::status::Gateway;
use crate::progress::Mark;
use crate::terminal::announce::{self, Said};
use crate::terminal::{ConnectConfig, Identity};

/// Said at a broker until `stop`.
pub(super) fn part(
    parts: &Arc<Parts>,
    connect: ConnectConfig,
    topic: String,
    mark: Mark,
    stop: CancellationToken,
) -> Running {
    let shared = Arc::clone(parts);
    let offline = who(&shared.gateway.identity, "offline").to_string();
    let config = announce::Config { connect, topic, offline };
    let kept = supervise::keep(stop.clone(), mark, move || {
        let (shared, config, stop) = (Arc::clone(&shared), config.clone(), stop.clone());
        async move {
            let clock = shared.clock.clone();
            let compose = move || {
                let shared = Arc::clone(&shared);
                async move { compose(&shared).await }
            };
            Some(announce::run(config, clock, stop, compose))
        }
    });
    Box::pin(kept.instrument(tracing::info_span!("announce")))
}

fn who(identity: &Identity, state: &str) -> Value {
    json!({
        "tenant": identity.tenant,
        "site_id": identity.site_id,
        "gateway_id": identity.gateway_id,
        "version": env!("CARGO_PKG_VERSION"),
        "state": state,
    })
}

async fn compose(parts: &Parts) -> Option<Said> {
    let stats = parts.journal.stats_at_leisure().await.ok()?;
    let status = parts.gateway.status(&stats);
    Some(said(&parts.gateway, &status))
}

fn said(gateway: &Gateway, status: &Value) -> Said {
    let mut object = who(&gateway.identity, "online");
    let pick = |from: &Value, keys: &[&str]| {
        let found = keys.iter().filter(|key| !from[**key].is_null());
        found.map(|key| ((*key).to_owned(), from[*key].clone())).collect::<serde_json::Map<_, _>>()
    };
    let sinks = status["sinks"].as_array().into_iter().flatten();
    let sinks: Vec<Value> = sinks
        .map(|sink| Value::Object(pick(sink, &["name", "state", "pending", "quarantined", "oldest_pending"])))
        .collect();
    let links = status["links"].as_array().into_iter().flatten();
    let links: Vec<Value> =
        links.map(|link| Value::Object(pick(link, &["name", "protocol", "state", "last_heard"]))).collect();
    // What people act on: states, not numbers that change with every event.
    let states = |list: &[Value]| list.iter().map(|one| one["state"].to_string()).collect::<Vec<_>>().join(" ");
    let mut configuration = pick(&status["configuration"], &["state"]);
    configuration.extend(pick(&status["configuration"]["remote"], &["revision"]));
    let news = format!("{} {} {:?} {}", states(&sinks), states(&links), configuration, status["clock_synchronised"]);
    object["sinks"] = sinks.into();
    object["links"] = links.into();
    object["configuration"] = configuration.into();
    object["clock_synchronised"] = status["clock_synchronised"].clone();
    object["uptime_seconds"] = status["uptime_seconds"].clone();
    object["journal"] = Value::Object(pick(&status["journal"], &["bytes", "appended", "faults"]));
    object["time"] = rfc3339(gateway.clock.now().wall).as_str().into();
    Said { message: object.to_string(), news }
}
