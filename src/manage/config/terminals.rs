//! `[[terminal]]`: its protocol, its link, and the keys that belong to the protocol.
//!
//! Must not: open a device, or compare terminals with each other (`load` does).

use std::path::PathBuf;

use super::fields::{self, Form};
use super::plain;
use super::reader::{Reader, as_text, one_of};
use super::tree::Place;
use crate::decode::fields::Field;
use crate::decode::serial_lines::{Encoding, Layout};
use crate::decode::{self, LinkKind, Protocol, mqtt_face, mqtt_json, rdm6300, serial_lines};
use crate::terminal::{self, Flow, Link, MqttLink, Parity, Rs485, SerialConfig};

/// A terminal as read, with what a comparison with the others needs even where something else of it is wrong.
pub(super) struct Terminal {
    /// `terminal[2]`.
    pub(super) path: String,
    pub(super) name: Option<(String, Place)>,
    pub(super) device: Option<(PathBuf, Place)>,
    pub(super) mqtt: Option<MqttUse>,
    pub(super) config: Option<terminal::Config>,
}

/// What a terminal takes from a broker.
pub(super) struct MqttUse {
    pub(super) broker: String,
    pub(super) broker_place: Place,
    pub(super) filters: Vec<String>,
    pub(super) filters_place: Place,
    /// Only messages of this device count, whatever the topics: told apart by the message itself.
    pub(super) only_device: Option<String>,
    pub(super) max_payload: usize,
    pub(super) payload_place: Place,
}

/// Keys that belong to one protocol only, for a message that says so.
const OWNED: &[(&str, &[Protocol])] = &[
    ("confirm_frames", &[Protocol::Rdm6300]),
    ("presence_gap_ms", &[Protocol::Rdm6300, Protocol::SerialLines]),
    ("delimiter", &[Protocol::SerialLines]),
    ("max_length", &[Protocol::SerialLines]),
    ("encoding", &[Protocol::SerialLines]),
    ("layout", &[Protocol::SerialLines]),
    ("separator", &[Protocol::SerialLines]),
    ("records", &[Protocol::MqttJson]),
    ("fields", &[Protocol::SerialLines, Protocol::MqttJson]),
    ("identity", &[Protocol::SerialLines, Protocol::MqttJson]),
];

/// One `[[terminal]]`.
pub(super) fn terminal(reader: Reader<'_>) -> Terminal {
    let path = reader.path.clone();
    let name = plain::name(&reader, "name", "a name for this terminal, for example \"gate-1\"");
    let name_place = reader.get("name").map_or_else(|| reader.place.clone(), |n| n.place.clone());
    let zone = plain::zone(&reader);
    let zone_fails = reader.get("zone").is_some() && zone.is_none();
    let protocol = protocol(&reader);
    let link = link(&reader, protocol);
    let decoder = protocol.and_then(|p| decoder(&reader, p, link.as_ref().and_then(|l| l.device_id())));
    match protocol {
        Some(protocol) => {
            let owners: Vec<(&str, String)> = OWNED
                .iter()
                .filter(|(_, protocols)| !protocols.contains(&protocol))
                .map(|(key, protocols)| {
                    let names: Vec<&str> = protocols.iter().map(|p| p.name()).collect();
                    (*key, format!("protocol {}, this terminal's is {}", names.join(" or "), protocol.name()))
                })
                .collect();
            let owners: Vec<(&str, &str)> = owners.iter().map(|(key, owner)| (*key, owner.as_str())).collect();
            reader.finish(&owners);
        }
        // Without a protocol nobody can say which of these are right; a key that no protocol has is wrong anyhow.
        None => {
            for (key, _) in OWNED {
                let _ = reader.get(key);
            }
            reader.finish(&[]);
        }
    }
    let (mut device, mut mqtt) = (None, None);
    let link = link.map(|read| {
        match (&read.link, &decoder) {
            (Link::Serial(serial), _) => device = Some((serial.device.clone(), read.place.clone())),
            (Link::Mqtt(link), Some(decoder)) => {
                let filters = link.topic.clone().map_or_else(|| decoder.filters(), |topic| vec![topic]);
                let face = decoder.protocol() == Protocol::MqttFace;
                mqtt = Some(MqttUse {
                    broker: link.broker.clone(),
                    broker_place: read.place.clone(),
                    filters,
                    filters_place: read.topic_place.clone(),
                    only_device: link.device_id.clone().filter(|_| face),
                    max_payload: link.max_payload_bytes,
                    payload_place: read.payload_place.clone(),
                });
            }
            (Link::Mqtt(_), None) => {}
        }
        read.link
    });
    let config = (|| {
        let (name, decoder, link) = (name.clone()?, decoder?, link?);
        (!zone_fails).then_some(terminal::Config { name, decoder, link, zone })
    })();
    Terminal { path, name: name.map(|n| (n, name_place)), device, mqtt, config }
}

fn protocol(reader: &Reader<'_>) -> Option<Protocol> {
    let names = Protocol::ALL.iter().map(|p| p.name());
    let text = reader.need_text("protocol", &one_of(names.clone()))?;
    let protocol = Protocol::from_name(text);
    if protocol.is_none()
        && let Some(node) = reader.get("protocol")
    {
        reader.wrong_word("protocol", node, &one_of(names.clone()), names);
    }
    protocol
}

/// A link and the places that later messages point at.
struct ReadLink {
    link: Link,
    /// Of `device` or `broker`.
    place: Place,
    topic_place: Place,
    payload_place: Place,
}

impl ReadLink {
    fn device_id(&self) -> Option<&str> {
        match &self.link {
            Link::Mqtt(link) => link.device_id.as_deref(),
            Link::Serial(_) => None,
        }
    }
}

fn link(terminal: &Reader<'_>, protocol: Option<Protocol>) -> Option<ReadLink> {
    const SERIAL: &str = "link = { type = \"serial\", device = \"/dev/serial/by-id/…\" }";
    const MQTT: &str = "link = { type = \"mqtt\", broker = \"NAME\", topic = \"…\" }";
    let expected = match protocol.map(Protocol::link) {
        Some(LinkKind::Serial) => SERIAL.to_owned(),
        Some(LinkKind::Mqtt) => MQTT.to_owned(),
        None => format!("{SERIAL} or {MQTT}"),
    };
    if terminal.get("link").is_none() {
        terminal.missing("link", &expected);
        return None;
    }
    let reader = terminal.child("link", &expected)?;
    if reader.get("type").is_none() {
        reader.missing("type", &expected);
        return None;
    }
    let kind = reader.word("type", &[("serial", LinkKind::Serial), ("mqtt", LinkKind::Mqtt)])?;
    if let (Some(protocol), Some(node)) = (protocol, reader.get("type"))
        && protocol.link() != kind
    {
        let word = if protocol.link() == LinkKind::Serial { "serial" } else { "mqtt" };
        reader.wrong("type", node, &format!("\"{word}\" for protocol {}: {expected}", protocol.name()));
        return None;
    }
    match kind {
        LinkKind::Serial => serial(reader),
        LinkKind::Mqtt => mqtt(reader, protocol),
    }
}

fn serial(reader: Reader<'_>) -> Option<ReadLink> {
    const DEVICE: &str = "the path of a serial device, for example \"/dev/serial/by-id/usb-reader\"";
    if reader.get("device").is_none() {
        reader.missing("device", DEVICE);
    }
    let device = reader.path_to("device", DEVICE);
    let place = reader.get("device").map_or_else(|| reader.place.clone(), |n| n.place.clone());
    if device.as_deref().is_some_and(|d| !d.exists()) {
        let expected =
            "a device that is plugged in (the gateway waits for it); ls /dev/serial/by-id lists what is there";
        reader.doubt("device", &place, "a device that is not there now", expected);
    }
    let baud = reader.number("baud", 50..=4_000_000, "a whole number of bits per second, for example 9600");
    let parity = reader.word("parity", &[("none", Parity::None), ("odd", Parity::Odd), ("even", Parity::Even)]);
    let flow = reader.word("flow", &[("none", Flow::None), ("software", Flow::Software), ("hardware", Flow::Hardware)]);
    let data_bits = reader.number("data_bits", 5..=8, "a whole number of bits, usually 8");
    let stop_bits = reader.number("stop_bits", 1..=2, "1 or 2");
    let rs485 = reader.child("rs485", "a table such as { rts_on_send = true }").map(|rs485| {
        let delay = |key| rs485.number(key, 0..=1000, "a whole number of milliseconds");
        let read = Rs485 {
            rts_on_send: rs485.boolean("rts_on_send").unwrap_or(true),
            rts_after_send: rs485.boolean("rts_after_send").unwrap_or(false),
            delay_before_ms: delay("delay_before_ms").and_then(|d| u32::try_from(d).ok()).unwrap_or(0),
            delay_after_ms: delay("delay_after_ms").and_then(|d| u32::try_from(d).ok()).unwrap_or(0),
            rx_during_tx: rs485.boolean("rx_during_tx").unwrap_or(false),
        };
        rs485.finish(&[]);
        read
    });
    let payload_place = reader.place.clone();
    reader.finish(&[("broker", "link type mqtt"), ("topic", "link type mqtt"), ("device_id", "link type mqtt")]);
    let link = Link::Serial(SerialConfig {
        device: device?,
        baud: baud.and_then(|b| u32::try_from(b).ok()).unwrap_or(9600),
        data_bits: data_bits.and_then(|b| u8::try_from(b).ok()).unwrap_or(8),
        parity: parity.unwrap_or_default(),
        stop_bits: stop_bits.and_then(|b| u8::try_from(b).ok()).unwrap_or(1),
        flow: flow.unwrap_or_default(),
        rs485,
    });
    Some(ReadLink { link, place, topic_place: payload_place.clone(), payload_place })
}

fn mqtt(reader: Reader<'_>, protocol: Option<Protocol>) -> Option<ReadLink> {
    let broker = reader.need_text("broker", "the name of a [[broker]]").map(str::to_owned);
    let topic_expected = "a topic filter, for example \"site/yard/+/events\"";
    let mut topic = reader.text("topic", topic_expected).map(str::to_owned);
    match (&topic, reader.get("topic"), protocol) {
        (Some(text), Some(node), _) if !super::topics::is_valid(text) => {
            reader.wrong(
                "topic",
                node,
                &format!("{topic_expected}; '+' stands for a whole level, '#' for all the rest"),
            );
            topic = None;
        }
        (None, None, Some(Protocol::MqttJson)) => reader.missing("topic", topic_expected),
        _ => {}
    }
    let topic_fails = topic.is_none() && (reader.get("topic").is_some() || protocol == Some(Protocol::MqttJson));
    let id_expected = "the device's id, for example \"1026700\"";
    let device_id = reader.text("device_id", id_expected).map(str::to_owned);
    let id_fails = reader.get("device_id").is_some_and(|n| as_text(n).is_none_or(str::is_empty));
    let default = if protocol == Some(Protocol::MqttFace) { 6 << 20 } else { 1 << 20 };
    let payload = reader.number("max_payload_bytes", 256..=268_435_455, "a whole number of bytes, for example 1048576");
    let place_of = |key| reader.get(key).map_or_else(|| reader.place.clone(), |n| n.place.clone());
    let (place, topic_place, payload_place) = (place_of("broker"), place_of("topic"), place_of("max_payload_bytes"));
    reader.finish(&[("device", "link type serial"), ("baud", "link type serial")]);
    if topic_fails || id_fails {
        return None;
    }
    let max_payload_bytes = usize::try_from(payload.unwrap_or(default)).ok()?;
    let link = Link::Mqtt(MqttLink { broker: broker?, topic, device_id, max_payload_bytes });
    Some(ReadLink { link, place, topic_place, payload_place })
}

fn decoder(reader: &Reader<'_>, protocol: Protocol, device_id: Option<&str>) -> Option<decode::Config> {
    let gap_us = || {
        let gap = reader.number("presence_gap_ms", 50..=60_000, "a whole number of milliseconds, for example 500");
        gap.map(|ms| ms * 1000)
    };
    Some(match protocol {
        Protocol::Rdm6300 => {
            let mut config = rdm6300::Config::default();
            let frames = reader.number("confirm_frames", 1..=10, "a whole number of equal frames, for example 2");
            config.confirm_frames = frames.and_then(|f| u8::try_from(f).ok()).unwrap_or(config.confirm_frames);
            config.presence_gap_us = gap_us().unwrap_or(config.presence_gap_us);
            decode::Config::Rdm6300(config)
        }
        Protocol::SerialLines => decode::Config::SerialLines(serial_lines(reader, gap_us())),
        Protocol::MqttJson => {
            let fields = fields::rules(reader, Form::Pointer);
            if fields.is_empty() && reader.get("fields").is_none() {
                reader.missing("fields", "where the values stand, for example fields.person = \"/pin\"");
            }
            let records = reader.text("records", "a JSON pointer to an array, for example \"/records\"");
            if let (Some(text), Some(node)) = (records, reader.get("records"))
                && !text.starts_with('/')
            {
                reader.wrong("records", node, "a JSON pointer to an array, for example \"/records\"");
            }
            let identity = fields::identity(reader);
            let dated = fields.iter().any(|r| matches!(r.field, Field::DeviceTime | Field::NativeSeq));
            if !dated && reader.get("identity").is_none() && !fields.is_empty() {
                let expected = "fields.device_time or fields.native_seq (or identity = […]): without them a message that \
                                is published twice is two events";
                reader.doubt("fields", &reader.place, "nothing that tells one record from another", expected);
            }
            decode::Config::MqttJson(mqtt_json::Config { fields, records: records.map(str::to_owned), identity })
        }
        Protocol::MqttFace => decode::Config::MqttFace(mqtt_face::Config { device_id: device_id.map(str::to_owned) }),
    })
}

fn serial_lines(reader: &Reader<'_>, gap_us: Option<u64>) -> serial_lines::Config {
    let mut config = serial_lines::Config::default();
    let delimiter = "1 to 8 bytes that end a line, for example \"\\r\\n\"";
    if let Some(text) = reader.text("delimiter", delimiter) {
        match reader.get("delimiter") {
            Some(node) if text.len() > 8 => reader.wrong("delimiter", node, delimiter),
            _ => config.delimiter = text.as_bytes().to_vec(),
        }
    }
    let length = reader.number("max_length", 1..=65_536, "a whole number of bytes, for example 4096");
    config.max_length = length.and_then(|l| usize::try_from(l).ok()).unwrap_or(config.max_length);
    let encodings = [
        ("utf-8", Encoding::Utf8),
        ("utf8", Encoding::Utf8),
        ("latin1", Encoding::Latin1),
        ("iso-8859-1", Encoding::Latin1),
    ];
    config.encoding = reader.word("encoding", &encodings).unwrap_or_default();
    let layouts = [("columns", 0), ("pairs", 1), ("json", 2)];
    config.layout = match reader.word("layout", &layouts) {
        Some(1) => Layout::Pairs,
        Some(2) => Layout::Json,
        _ => Layout::Columns,
    };
    if let Some(text) = reader.text("separator", "the text between columns or pairs, for example \",\"") {
        text.clone_into(&mut config.separator);
    }
    config.fields = fields::rules(reader, Form::of(&config.layout));
    if config.fields.is_empty() && reader.get("fields").is_none() {
        reader.missing("fields", "where the values stand, for example fields.person = 2");
    }
    config.identity = fields::identity(reader);
    config.presence_gap_us = gap_us.unwrap_or(config.presence_gap_us);
    config
}
