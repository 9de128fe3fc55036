//! Listens to one topic on a connection of its own, for what is no event: a configuration from afar.
//!
//! Must not: share the session of a link (its acknowledgements are the journal's), or hold more than one message.

use bytes::Bytes;
use rumqttc::{AsyncClient, Event, Incoming, QoS, SubscribeReasonCode};
use tokio::sync::mpsc;

use super::session;
use crate::terminal::ConnectConfig;

/// Largest packet, bytes: a bundle of a mebibyte as a JSON text, in which a byte may take six.
const MAX_PACKET: usize = 8 << 20;

/// Connects, and hands over each message of the topic, the retained one first. Ends with the reason when the connection does,
/// or when nobody takes what it hands over.
pub async fn watch(connect: &ConnectConfig, topic: &str, messages: &mpsc::Sender<Bytes>) -> String {
    let own = ConnectConfig {
        client_id: format!("{}-config", connect.client_id),
        // Being there or not is the link's to say.
        status_topic: None,
        ..connect.clone()
    };
    let mut options = match session::options(&own, MAX_PACKET) {
        Ok(options) => options,
        Err(error) => return error.to_string(),
    };
    // What was missed is retained.
    options.set_clean_session(true).set_manual_acks(false);
    let (client, mut events) = AsyncClient::new(options, 2);
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                if client.try_subscribe(topic, QoS::AtLeastOnce).is_err() {
                    return "the subscription could not be asked for".to_owned();
                }
            }
            Ok(Event::Incoming(Incoming::SubAck(answer))) => {
                if answer.return_codes.iter().any(|code| matches!(code, SubscribeReasonCode::Failure)) {
                    return "the broker refuses the topic of [manage.remote]; let this user read it".to_owned();
                }
            }
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                if publish.topic == topic && messages.send(publish.payload).await.is_err() {
                    return "nobody listens any more".to_owned();
                }
            }
            Ok(_) => {}
            Err(error) => return session::explain(&error),
        }
    }
}
