//! Input to steps: what a terminal's bytes mean. Pure.
//!
//! Must not: touch tokio, files, sockets or clocks (time comes in as an argument), fail or panic whatever the bytes are
//! (I5), grow without bound, or let a template, an image or a PIN through (I7).

pub(crate) mod cutter;

pub mod fields;

mod json;

pub mod mqtt_face;

pub mod mqtt_json;

mod presence;

pub mod rdm6300;

pub mod scrub;

pub mod serial_lines;

pub mod written_time;

use crate::event::{BootTime, Fault, Reading};

/// One piece of input.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// The next bytes of a stream, cut anywhere.
    Bytes(&'a [u8]),
    /// One message of a message-oriented link.
    Message {
        /// The full topic.
        topic: &'a str,
        /// The payload.
        payload: &'a [u8],
    },
}

/// Names what is to be confirmed to the terminal once it is durable. Opaque to the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt(pub String);

/// Where bytes for the terminal go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The stream that the input came from.
    Stream,
    /// A topic of the broker that the input came through.
    Topic(String),
}

/// Something that the terminal says of itself; shown by `status`, not journalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It is alive.
    Heartbeat,
    /// It came.
    Online,
    /// It went (last will).
    Offline,
}

/// One frame as the sniffer shows it (`portero decode --frames`).
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Whether framing and checksum held.
    pub valid: bool,
    /// Byte offset in the stream, or the message's number.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// What was wrong.
    pub error: Option<String>,
    /// The protocol's header fields by name.
    pub fields: Vec<(&'static str, serde_json::Value)>,
}

/// What a decoder wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Journal these; once all of them are durable, give the receipt back through [`Decoder::committed`].
    Events(Vec<Reading>, Option<Receipt>),
    /// Send this to the terminal.
    Send(Vec<u8>, Destination),
    /// Count and journal this.
    Fault(Fault),
    /// Show this, for the device with this key (`None`: the terminal itself).
    Status(Option<String>, Status),
    /// Only when tracing is on.
    Frame(Frame),
}

/// A protocol, as a value that is fed. The same bytes give the same steps however they are cut.
pub trait Decoder: Send {
    /// Takes input heard at `at`.
    fn feed(&mut self, at: BootTime, input: Input<'_>, out: &mut Vec<Step>);

    /// Time passes: for protocols that poll or time out.
    fn tick(&mut self, _at: BootTime, _out: &mut Vec<Step>) {}

    /// Everything under `receipt` is durable: the only place where "you may clear it" is produced (I1).
    fn committed(&mut self, _receipt: &Receipt, _out: &mut Vec<Step>) {}

    /// The stream broke off: whatever is half-read becomes a fault.
    fn interrupted(&mut self, _at: BootTime, _out: &mut Vec<Step>) {}

    /// The last presence that was journalled in this boot, so that a card held through a restart stays one event.
    fn seed(&mut self, _credential: &str, _at: BootTime) {}

    /// Asks for a [`Step::Frame`] for every frame, good or bad.
    fn trace(&mut self) {}
}

/// Which decoder, with its options.
#[derive(Debug, Clone, PartialEq)]
pub enum Config {
    /// RDM6300 / ID-12 125 kHz readers.
    Rdm6300(rdm6300::Config),
    /// Lines of text over a stream.
    SerialLines(serial_lines::Config),
    /// Any JSON over MQTT.
    MqttJson(mqtt_json::Config),
    /// The `mqtt/face` family of face terminals.
    MqttFace(mqtt_face::Config),
}

/// What kind of link a protocol needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A byte stream.
    Serial,
    /// A broker.
    Mqtt,
}

/// The closed set of protocols; the compiler points at every place that a new one touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `rdm6300`
    Rdm6300,
    /// `serial-lines`
    SerialLines,
    /// `mqtt-json`
    MqttJson,
    /// `mqtt-face`
    MqttFace,
}

impl Protocol {
    /// All of them, in the order of the documentation.
    pub const ALL: &'static [Self] = &[Self::Rdm6300, Self::SerialLines, Self::MqttJson, Self::MqttFace];

    /// The name in configuration, events and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rdm6300 => "rdm6300",
            Self::SerialLines => "serial-lines",
            Self::MqttJson => "mqtt-json",
            Self::MqttFace => "mqtt-face",
        }
    }

    /// The inverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|p| p.name() == name)
    }

    /// The link that it needs.
    pub const fn link(self) -> LinkKind {
        match self {
            Self::Rdm6300 | Self::SerialLines => LinkKind::Serial,
            Self::MqttJson | Self::MqttFace => LinkKind::Mqtt,
        }
    }

    /// Whether a device of this protocol is a reader without records of its own (its presence state is seeded).
    pub const fn is_reader(self) -> bool {
        matches!(self, Self::Rdm6300)
    }

    /// The decoder with its default options, as `portero decode --protocol` uses it. `serial-lines` and `mqtt-json`
    /// then know no fields: they need a terminal of the configuration.
    pub fn defaults(self) -> Config {
        match self {
            Self::Rdm6300 => Config::Rdm6300(rdm6300::Config::default()),
            Self::SerialLines => Config::SerialLines(serial_lines::Config::default()),
            Self::MqttJson => Config::MqttJson(mqtt_json::Config::default()),
            Self::MqttFace => Config::MqttFace(mqtt_face::Config::default()),
        }
    }
}

impl Config {
    /// The protocol that these are options of.
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Rdm6300(_) => Protocol::Rdm6300,
            Self::SerialLines(_) => Protocol::SerialLines,
            Self::MqttJson(_) => Protocol::MqttJson,
            Self::MqttFace(_) => Protocol::MqttFace,
        }
    }

    /// The topic filters that a message-oriented protocol needs when configuration names none; empty for streams and for
    /// protocols without topics of their own.
    pub fn filters(&self) -> Vec<String> {
        match self {
            Self::MqttFace(config) => mqtt_face::filters(config.device_id.as_deref()),
            Self::Rdm6300(_) | Self::SerialLines(_) | Self::MqttJson(_) => Vec::new(),
        }
    }

    /// Builds the decoder.
    pub fn build(&self) -> Box<dyn Decoder> {
        match self {
            Self::Rdm6300(config) => Box::new(rdm6300::Rdm6300::new(config)),
            Self::SerialLines(config) => Box::new(serial_lines::SerialLines::new(config)),
            Self::MqttJson(config) => Box::new(mqtt_json::MqttJson::new(config)),
            Self::MqttFace(config) => Box::new(mqtt_face::MqttFace::new(config)),
        }
    }
}
