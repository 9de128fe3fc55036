//! What a connection to a broker is made with, and its errors in words that help.
//!
//! Must not: hold a connection.

use std::time::Duration;

use rumqttc::{
    ConnectReturnCode, ConnectionError, LastWill, MqttOptions, Packet, Publish, QoS, SubscribeFilter, TlsConfiguration,
    Transport,
};
use secrecy::ExposeSecret as _;

use crate::terminal::hub::Hub;
use crate::terminal::{ConnectConfig, Error};
use crate::tls::TlsMode;

/// Our own publishes under way; they are few and QoS 0, and the default of 100 only costs memory.
const OUTGOING_INFLIGHT: u16 = 8;

/// Options of the persistent session. Reads the password anew, so that a changed one is found at the next start.
pub(in crate::terminal) fn options(connect: &ConnectConfig, max_packet: usize) -> Result<MqttOptions, Error> {
    let mut options = MqttOptions::new(&connect.client_id, &connect.host, connect.port);
    options
        .set_keep_alive(Duration::from_secs(u64::from(connect.keep_alive_seconds.max(5))))
        .set_clean_session(connect.client_id.is_empty())
        .set_max_packet_size(max_packet, max_packet)
        .set_manual_acks(true)
        .set_inflight(OUTGOING_INFLIGHT);
    if let Some((user, secret)) = &connect.credentials {
        options.set_credentials(user, secret.read()?.expose_secret());
    }
    if connect.tls != TlsMode::Disable {
        let tls = crate::tls::client_config(connect.tls, connect.ca_file.as_deref())?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    }
    if let Some(topic) = &connect.status_topic {
        options.set_last_will(LastWill::new(topic, "offline", QoS::AtLeastOnce, true));
    }
    Ok(options)
}

/// The retained status message.
pub(super) fn status(topic: String, word: &str) -> Packet {
    let mut publish = Publish::new(topic, QoS::AtMostOnce, word);
    publish.retain = true;
    Packet::Publish(publish)
}

/// Every filter of every terminal, once.
pub(super) fn filters(hub: &Hub) -> Vec<SubscribeFilter> {
    let mut texts: Vec<_> = hub.terminals.iter().flat_map(|t| &t.filters).map(|f| f.as_str().to_owned()).collect();
    texts.sort_unstable();
    texts.dedup();
    texts.into_iter().map(|text| SubscribeFilter::new(text, QoS::AtLeastOnce)).collect()
}

/// Why there is no connection, and what to do about it.
pub(in crate::terminal) fn explain(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                "the broker refuses user or password; correct user and password of this broker".to_owned()
            }
            ConnectReturnCode::BadClientId => "the broker refuses client_id; choose another one".to_owned(),
            ConnectReturnCode::RefusedProtocolVersion => "the broker does not speak MQTT 3.1.1".to_owned(),
            ConnectReturnCode::ServiceUnavailable => "the broker says that it is not available".to_owned(),
            ConnectReturnCode::Success => "the broker refused without a reason".to_owned(),
        },
        ConnectionError::MqttState(rumqttc::StateError::ConnectionAborted) => {
            "the broker closed the connection; if this repeats, another client may use the same client_id".to_owned()
        }
        ConnectionError::MqttState(rumqttc::StateError::AwaitPingResp) => "the broker no longer answers".to_owned(),
        ConnectionError::MqttState(rumqttc::StateError::Deserialization(
            rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded(bytes),
        )) => format!("the broker sent a packet of {bytes} bytes; raise max_packet_bytes of this broker"),
        ConnectionError::NetworkTimeout => "the broker did not answer in time".to_owned(),
        ConnectionError::FlushTimeout => "the broker no longer takes what we send".to_owned(),
        ConnectionError::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
