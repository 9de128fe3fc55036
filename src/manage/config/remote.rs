//! `[manage.remote]`: where bundles come from and who may sign them.
//!
//! Must not: ask anybody, or let a bundle in without a key.

use super::address::{self, is_loopback};
use super::brokers::missing_file;
use super::reader::{Reader, Report};
use super::tree::{self, Node, Place, Value};
use super::{RemoteConfig, bundle};
use crate::terminal::{BrokerConfig, Endpoint};

/// How often an address is asked by default, seconds.
const POLL: u64 = 300;

/// How long a new configuration is on probation by default, seconds.
const PROBATION: u64 = 120;

const URL: &str =
    "an address such as \"https://config.example/gw-01.toml\"; the signature is at the same with .minisig";

/// The table, if it is there.
pub(super) fn remote(reader: Reader<'_>) -> Option<RemoteConfig> {
    let url = url(&reader);
    let ca_file = reader.path_to("ca_file", "the path of a PEM file with CA certificates");
    missing_file(&reader, "ca_file", ca_file.as_deref());
    let topic = reader.text("topic", "a topic, for example \"portero/config/gw-01\"");
    if let (Some(topic), Some(node)) = (topic, reader.get("topic"))
        && (topic.contains(['#', '+']) || topic.len() > 1024)
    {
        reader.wrong("topic", node, "one topic, without wildcards, for example \"portero/config/gw-01\"");
    }
    let broker = reader.text("broker", "the name of the [[broker]] that the topic is at");
    let topic = match (topic, broker, reader.get("topic").is_some(), reader.get("broker").is_some()) {
        (Some(topic), Some(broker), ..) => Some((broker.to_owned(), topic.to_owned())),
        (_, _, true, false) => {
            reader.missing("broker", "broker = \"NAME\" of the [[broker]] that the topic is at");
            None
        }
        (_, _, false, true) => {
            reader.missing("topic", "topic = \"…\" beside broker");
            None
        }
        _ => None,
    };
    if ["url", "topic", "broker"].iter().all(|key| reader.get(key).is_none()) {
        reader.missing("url", &format!("url = … or topic = …: {URL}"));
    }
    let seconds = |key, least, default| {
        reader.number(key, least..=86_400, "a whole number of seconds, for example 300").unwrap_or(default)
    };
    let poll_seconds = seconds("poll_seconds", 5, POLL);
    let probation_seconds = seconds("probation_seconds", 1, PROBATION);
    if reader.get("active_key").is_none() {
        reader.missing("active_key", "the public key that signs bundles, from `portero config keygen`");
    }
    let active_key = bundle::key(&reader, "active_key");
    let recovery_key = bundle::key(&reader, "recovery_key");
    if let (Some(active), Some(recovery), Some(node)) = (&active_key, &recovery_key, reader.get("recovery_key"))
        && active == recovery
    {
        reader.wrong("recovery_key", node, "another key than active_key, whose secret lies elsewhere");
    }
    reader.finish(&[]);
    Some(RemoteConfig {
        url: url.map(str::to_owned),
        ca_file,
        topic,
        poll_seconds,
        probation_seconds,
        active_key: active_key?,
        recovery_key,
    })
}

fn url<'a>(reader: &Reader<'a>) -> Option<&'a str> {
    let text = reader.text("url", URL)?;
    let node = reader.get("url")?;
    match address::parse(text) {
        Some(url) if url.user.is_some() || url.has_password || url.query.is_some() || text.contains('#') => {
            // What stands there may be a login.
            let found = "an address with a login or a query (not shown)";
            reader.refuse("url", &node.place, found, "an address without: the signature protects what it serves");
            None
        }
        Some(url) if url.scheme == "https" && !url.host.is_empty() => Some(text),
        Some(url) if url.scheme == "http" && is_loopback(url.host) && !url.host.is_empty() => Some(text),
        Some(url) if url.scheme == "http" => {
            reader.wrong("url", node, "https://: an unencrypted address is allowed on this machine (loopback) only");
            None
        }
        _ => {
            reader.wrong("url", node, URL);
            None
        }
    }
}

/// Where `broker` of the table stands.
pub(super) fn place(root: &Reader<'_>) -> Place {
    let table = |node: &Node, key: &str| match &node.value {
        Value::Table(table) => table.get(key).cloned(),
        _ => None,
    };
    let broker =
        root.get("manage").and_then(|manage| table(manage, "remote")).and_then(|remote| table(&remote, "broker"));
    broker.map_or(Place::File(0..0), |node| node.place)
}

/// The broker of the topic is there, and one to connect to.
pub(super) fn broker(
    report: &Report<'_>,
    place: &Place,
    remote: Option<&RemoteConfig>,
    brokers: &[(String, Place, Option<BrokerConfig>)],
) {
    let Some((name, _)) = remote.and_then(|remote| remote.topic.as_ref()) else { return };
    // A broker that is wrong has its own message already.
    if brokers.iter().any(|(_, _, broker)| broker.is_none()) {
        return;
    }
    let found = brokers.iter().filter_map(|(_, _, broker)| broker.as_ref()).find(|broker| broker.name == *name);
    let expected = match found.map(|broker| &broker.endpoint) {
        Some(Endpoint::Connect(_)) => return,
        Some(Endpoint::Listen(_)) => "a [[broker]] with url: nobody afar reaches the one of this gateway",
        None => "the name of a [[broker]] with url",
    };
    report.error(report.problem(place, "manage.remote.broker", &tree::quoted(name), expected));
}
