//! `[manage] status_topic` and `status_broker`: where the gateway says how it is, retained.
//!
//! Must not: let it be said where something else is said already.

use super::reader::Reader;
use super::tree::Place;
use super::{ManageConfig, StatusConfig};
use crate::terminal::{BrokerConfig, Endpoint};

const TOPIC: &str = "a topic without wildcards, for example \"site/gateway/state\"";

const BROKER: &str = "the name of a [[broker]] with url";

/// Longest topic, bytes (MQTT 3.1.1 §1.5.3).
const MOST: usize = 65_535;

/// The two keys; `None` without them.
pub(super) fn status(reader: &Reader<'_>) -> Option<StatusConfig> {
    let (topic, broker) = (reader.text("status_topic", TOPIC), reader.text("status_broker", BROKER));
    match (reader.get("status_topic"), reader.get("status_broker")) {
        (None, None) => return None,
        (Some(_), None) => reader.missing("status_broker", &format!("{BROKER} beside status_topic")),
        (None, Some(_)) => reader.missing("status_topic", &format!("{TOPIC}, beside status_broker")),
        (Some(_), Some(_)) => {}
    }
    let (topic, broker) = (topic?, broker?);
    if topic.is_empty() || topic.len() > MOST || topic.contains(['#', '+', '\0']) {
        reader.wrong("status_topic", reader.get("status_topic")?, TOPIC);
        return None;
    }
    Some(StatusConfig { broker: broker.to_owned(), topic: topic.to_owned() })
}

/// Whether there is such a broker, and the topic is free there.
pub(super) fn fits(reader: &Reader<'_>, manage: &ManageConfig, brokers: &[(String, Place, Option<BrokerConfig>)]) {
    let (Some(status), Some(topic), Some(broker)) =
        (&manage.status, reader.get("status_topic"), reader.get("status_broker"))
    else {
        return;
    };
    let found = brokers.iter().filter_map(|(_, _, broker)| broker.as_ref()).find(|b| b.name == status.broker);
    match found.map(|broker| &broker.endpoint) {
        Some(Endpoint::Connect(connect)) if connect.status_topic.as_deref() == Some(&status.topic) => {
            let expected = "another topic: the broker's own status_topic says a single word there";
            reader.wrong("status_topic", topic, expected);
        }
        Some(Endpoint::Connect(_)) => {}
        // A broker with mistakes of its own is there, too.
        None if brokers.iter().any(|(_, _, broker)| broker.is_none()) => {}
        Some(Endpoint::Listen(_)) | None => reader.wrong("status_broker", broker, BROKER),
    }
}
