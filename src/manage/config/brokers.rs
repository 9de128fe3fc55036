//! `[[broker]]`: a broker to connect to (`url`), or the terminals' own (`listen`).
//!
//! Must not: open a connection.

use super::address::{self, is_loopback};
use super::plain::name;
use super::reader::Reader;
use super::secrets;
use crate::terminal::{BrokerConfig, ConnectConfig, Endpoint, ListenConfig};
use crate::tls::TlsMode;

/// Largest packet on the wire by default, bytes: above every payload limit, so that an oversized payload is a counted
/// fault and no endless reconnect.
pub(super) const MAX_PACKET_BYTES: u64 = 8 << 20;

/// Largest packet that MQTT knows, bytes (MQTT 3.1.1 §2.2.3).
const PACKET_LIMIT: u64 = 268_435_455;

const CONNECT_KEYS: &[&str] =
    &["client_id", "user", "password", "keep_alive_seconds", "status_topic", "ca_file", "tls"];
const LISTEN_KEYS: &[&str] = &["users", "anonymous", "max_clients", "max_inflight"];

/// One `[[broker]]`.
pub(super) fn broker(reader: Reader<'_>, gateway_id: Option<&str>) -> Option<BrokerConfig> {
    let name = name(&reader, "name", "a name for terminals to refer to, for example \"site\"");
    let packet = reader.number("max_packet_bytes", 1024..=PACKET_LIMIT, "a whole number of bytes");
    let max_packet_bytes = usize::try_from(packet.unwrap_or(MAX_PACKET_BYTES)).ok()?;
    let endpoint = match (reader.get("url"), reader.get("listen")) {
        (Some(_), Some(node)) => {
            reader.wrong(
                "listen",
                node,
                "either url (connect to a broker) or listen (be the terminals' broker), not both",
            );
            connect(&reader, gateway_id);
            listen(&reader);
            None
        }
        (Some(_), None) => connect(&reader, gateway_id).map(Endpoint::Connect),
        (None, Some(_)) => listen(&reader).map(Endpoint::Listen),
        (None, None) => {
            reader.missing(
                "url",
                "url = \"mqtt://HOST:1883\" to connect to a broker, or listen = \"127.0.0.1:1883\" to be one",
            );
            connect(&reader, gateway_id);
            listen(&reader);
            None
        }
    };
    let (mine, others, owner) = if reader.get("listen").is_some() {
        (LISTEN_KEYS, CONNECT_KEYS, "a broker with url")
    } else {
        (CONNECT_KEYS, LISTEN_KEYS, "a broker with listen")
    };
    let elsewhere: Vec<_> = others.iter().filter(|k| !mine.contains(k)).map(|k| (*k, owner)).collect();
    reader.finish(&elsewhere);
    Some(BrokerConfig { name: name?, endpoint: endpoint?, max_packet_bytes })
}

fn connect(reader: &Reader<'_>, gateway_id: Option<&str>) -> Option<ConnectConfig> {
    let client_id = match reader.get("client_id") {
        Some(_) => name(reader, "client_id", "an MQTT client id that nobody else uses at this broker"),
        None => Some(gateway_id.unwrap_or("portero").to_owned()),
    };
    let user = reader.text("user", "a user name");
    let password = secrets::source(reader, "password");
    let credentials = match (user, password, reader.get("password").is_some()) {
        (Some(user), Some(password), _) => Some((user.to_owned(), password)),
        (Some(_), None, false) => {
            reader.missing("password", "password = { credential = \"NAME\" } beside user");
            None
        }
        (None, Some(_), _) => {
            reader.missing("user", "user = \"NAME\" beside password");
            None
        }
        _ => None,
    };
    let seconds = reader.number("keep_alive_seconds", 5..=1200, "a whole number of seconds, for example 20");
    let keep_alive_seconds = seconds.and_then(|s| u16::try_from(s).ok()).unwrap_or(20);
    let status_topic = reader.text("status_topic", "a topic, for example \"site/gateway/status\"");
    if let (Some(topic), Some(node)) = (status_topic, reader.get("status_topic"))
        && topic.contains(['#', '+'])
    {
        reader.wrong("status_topic", node, "a topic without wildcards, for example \"site/gateway/status\"");
    }
    let ca_file = reader.path_to("ca_file", "the path of a PEM file with CA certificates");
    missing_file(reader, "ca_file", ca_file.as_deref());
    let tls = reader.word("tls", super::TLS_WORDS);
    let expected = "\"mqtt://HOST:1883\" or \"mqtts://HOST:8883\"";
    let text = reader.text("url", expected)?;
    let node = reader.get("url")?;
    let url = match address::parse(text) {
        Some(url) if url.user.is_some() || url.has_password => {
            reader.refuse(
                "url",
                &node.place,
                "a URL with a login (not shown)",
                "user = … and password = { credential = \"NAME\" }",
            );
            return None;
        }
        Some(url) if !url.host.is_empty() && (url.path.is_empty() || url.path == "/") && url.query.is_none() => url,
        _ => {
            reader.wrong("url", node, expected);
            return None;
        }
    };
    let (default_port, tls) = match (url.scheme, tls) {
        ("mqtt", None | Some(TlsMode::Disable)) => (1883, TlsMode::Disable),
        ("mqtts", None | Some(TlsMode::Require)) => (8883, TlsMode::Require),
        ("mqtts", Some(TlsMode::Insecure)) => (8883, TlsMode::Insecure),
        ("mqtt" | "mqtts", Some(_)) => {
            if let Some(tls) = reader.get("tls") {
                reader.wrong("tls", tls, "what the url says: mqtts:// for encrypted, mqtt:// for plain");
            }
            return None;
        }
        (other, _) => {
            reader.wrong_word("url", node, expected, ["mqtt", "mqtts"].into_iter().filter(|s| *s != other));
            return None;
        }
    };
    if url.scheme == "mqtt" && !is_loopback(url.host) {
        reader.doubt(
            "url",
            &node.place,
            "an unencrypted connection over the network",
            "mqtts:// wherever the broker can do it",
        );
    }
    Some(ConnectConfig {
        host: url.host.to_owned(),
        port: url.port.unwrap_or(default_port),
        tls,
        ca_file,
        client_id: client_id?,
        credentials,
        keep_alive_seconds,
        status_topic: status_topic.map(str::to_owned),
    })
}

fn listen(reader: &Reader<'_>) -> Option<ListenConfig> {
    let mut users = Vec::new();
    for user in reader.children("users", "a list of { user = \"NAME\", password = { credential = \"NAME\" } }") {
        let name = user.need_text("user", "a user name");
        let password = secrets::needed(&user, "password");
        user.finish(&[]);
        if let (Some(name), Some(password)) = (name, password) {
            users.push((name.to_owned(), password));
        }
    }
    let wants_users = reader.get("users").is_some();
    let anonymous = reader.boolean("anonymous");
    let clients = reader.number("max_clients", 1..=10_000, "a whole number of clients, for example 256");
    let inflight = reader.number("max_inflight", 1..=65_535, "a whole number of messages, for example 1024");
    let expected = "an address and port to listen on, for example \"127.0.0.1:1883\" or \"0.0.0.0:1883\"";
    let text = reader.text("listen", expected)?;
    let node = reader.get("listen")?;
    let Ok(address) = text.parse::<std::net::SocketAddr>() else {
        reader.wrong("listen", node, expected);
        return None;
    };
    let open = address.ip().is_loopback();
    if !open {
        if !wants_users && anonymous.is_none() {
            reader.missing(
                "users",
                "users = [{ user = \"NAME\", password = { credential = \"NAME\" } }], or anonymous = true to let everybody in",
            );
        }
        let found = "an unencrypted listener on the network";
        reader.doubt("listen", &node.place, found, "a network that only terminals are on");
    }
    Some(ListenConfig {
        address,
        users,
        anonymous: anonymous.unwrap_or(open && !wants_users),
        max_clients: usize::try_from(clients.unwrap_or(256)).ok()?,
        max_inflight: usize::try_from(inflight.unwrap_or(1024)).ok()?,
    })
}

/// Reports a file that isn't there.
pub(super) fn missing_file(reader: &Reader<'_>, key: &'static str, path: Option<&std::path::Path>) {
    if let (Some(path), Some(node)) = (path, reader.get(key))
        && !path.is_file()
    {
        reader.wrong(key, node, "the path of a file that exists");
    }
}
