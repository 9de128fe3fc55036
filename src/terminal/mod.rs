//! Outside to journal: links that carry bytes, stamp what was decoded, and confirm only after commit (I1).
//!
//! Must not: know a protocol (decoders do) or a sink, spawn long-lived tasks (the gateway does), or confirm anything
//! before `append` returned.

pub mod stamp;

mod topic;

mod device;

mod quiet;

mod hub;

mod ingest;

mod pipeline;

pub mod serial;

pub mod mqtt;

pub mod broker;

pub mod announce;

pub mod probe;

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::decode;
use crate::journal::Journal;
use crate::progress::Mark;
use crate::secret::SecretSource;
use crate::tls::TlsMode;

/// Why a link can't be used. Every one of them is tried again: a link never ends before the gateway does.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("there is no device {device}; plug it in, or correct link.device (see ls /dev/serial/by-id)")]
    NoDevice {
        /// The path.
        device: PathBuf,
    },
    /// Somebody else has it.
    #[error("device {device} is held by process {pid} ({program}); stop it, or name another device")]
    Held {
        /// The path.
        device: PathBuf,
        /// The process.
        pid: u32,
        /// Its name.
        program: String,
    },
    /// The driver or the system refused.
    #[error("cannot open {device}: {reason}")]
    Open {
        /// The path.
        device: PathBuf,
        /// Why.
        reason: String,
    },
    /// The driver can't do RS-485.
    #[error("{device} refuses RS-485 mode: {source}; leave rs485 out if the adapter switches by itself")]
    Rs485 {
        /// The path.
        device: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A name or password is not available.
    #[error(transparent)]
    Secret(#[from] crate::secret::Error),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] crate::tls::Error),
    /// Nothing can listen there.
    #[error("cannot listen on {address}: {source}; stop what uses it, or change listen")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// `[gateway]`: who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `id`
    pub gateway_id: String,
    /// `site`
    pub site_id: String,
    /// `tenant`, `"default"` by default.
    pub tenant: String,
    /// `zone`, for terminals that name none.
    pub zone: String,
}

/// `[[terminal]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// Its decoder and the decoder's options.
    pub decoder: decode::Config,
    /// How it is reached.
    pub link: Link,
    /// IANA zone of its zone-less times; `None`: the gateway's.
    pub zone: Option<String>,
}

/// `link = { type = … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// A serial line of its own.
    Serial(SerialConfig),
    /// Through a broker.
    Mqtt(MqttLink),
}

/// A serial line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialConfig {
    /// `/dev/serial/by-id/…` recommended.
    pub device: PathBuf,
    /// Bits per second.
    pub baud: u32,
    /// 5 to 8.
    pub data_bits: u8,
    /// Parity.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
    /// Flow control.
    pub flow: Flow,
    /// Driver-controlled half duplex, for UARTs that need it.
    pub rs485: Option<Rs485>,
}

/// Parity of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parity {
    /// None.
    #[default]
    None,
    /// Odd.
    Odd,
    /// Even.
    Even,
}

/// Flow control of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// None.
    #[default]
    None,
    /// XON/XOFF.
    Software,
    /// RTS/CTS.
    Hardware,
}

/// `struct serial_rs485` of the kernel (`TIOCSRS485`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rs485 {
    /// RTS level while sending.
    pub rts_on_send: bool,
    /// RTS level after sending.
    pub rts_after_send: bool,
    /// Delay before sending, milliseconds.
    pub delay_before_ms: u32,
    /// Delay after sending, milliseconds.
    pub delay_after_ms: u32,
    /// Receive while sending.
    pub rx_during_tx: bool,
}

/// A terminal behind a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttLink {
    /// `[[broker]] name`.
    pub broker: String,
    /// Topic filter; `mqtt-face` has its own default (`mqtt/face/+/…` of its `device_id`).
    pub topic: Option<String>,
    /// The device that this terminal is; `None`: every device that the topic matches (a fleet).
    pub device_id: Option<String>,
    /// Largest payload, bytes (1 MiB; `mqtt-face` 6 MiB): a larger one is a counted fault.
    pub max_payload_bytes: usize,
}

/// `[[broker]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Its name.
    pub name: String,
    /// `url`: connect to one, or `listen`: be one.
    pub endpoint: Endpoint,
    /// Largest packet on the wire, bytes (8 MiB): above every payload limit.
    pub max_packet_bytes: usize,
}

/// Which end of MQTT we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A client of a broker.
    Connect(ConnectConfig),
    /// The terminals' own broker.
    Listen(ListenConfig),
}

/// `url = …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectConfig {
    /// Host name or address.
    pub host: String,
    /// Port (1883; 8883 with TLS).
    pub port: u16,
    /// `mqtt://` or `mqtts://`.
    pub tls: TlsMode,
    /// Own CA.
    pub ca_file: Option<PathBuf>,
    /// Client id; the session at the broker hangs on it.
    pub client_id: String,
    /// User name and password.
    pub credentials: Option<(String, SecretSource)>,
    /// Keep-alive, seconds (5 to 1200; 20 by default).
    pub keep_alive_seconds: u16,
    /// Where the gateway says `online` or `offline` (retained, also as last will); `None`: nowhere.
    pub status_topic: Option<String>,
}

/// `listen = …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenConfig {
    /// Address and port.
    pub address: std::net::SocketAddr,
    /// Who may connect: user and password. Empty with `anonymous`: anybody.
    pub users: Vec<(String, SecretSource)>,
    /// Anybody may connect; default only on loopback.
    pub anonymous: bool,
    /// Most clients at once.
    pub max_clients: usize,
    /// Most unconfirmed messages of one client; above it we stop reading from it.
    pub max_inflight: usize,
}

/// What every link needs.
#[derive(Clone)]
pub struct Context {
    /// Who we are.
    pub identity: Arc<Identity>,
    /// Where events go.
    pub journal: Journal,
    /// What time it is.
    pub clock: Clock,
    /// Cancelled when the gateway stops.
    pub shutdown: CancellationToken,
    /// Where links say how they are.
    pub board: Board,
    /// Where this link says what it does.
    pub mark: Mark,
}

/// The state of one link or device, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Trying to open or connect.
    Connecting,
    /// Open, subscribed or listening.
    Up,
    /// Not reachable, and why.
    Down(String),
    /// Held back, and why (journal full, commit failing).
    Held(String),
}

/// What is known of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// Terminal or broker name.
    pub name: String,
    /// Protocol name, or `broker`.
    pub protocol: String,
    /// How it is.
    pub state: LinkState,
    /// Last event or heartbeat.
    pub last_heard: Option<crate::event::UtcMicros>,
    /// Events committed.
    pub events: u64,
    /// Duplicates recognised.
    pub duplicates: u64,
    /// Faults counted.
    pub faults: u64,
    /// Devices heard behind it, at most 1,000 shown.
    pub devices: Vec<DeviceStatus>,
}

/// What is known of one device of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStatus {
    /// Its key.
    pub key: String,
    /// Last heard.
    pub last_heard: crate::event::UtcMicros,
    /// Events committed since the start.
    pub events: u64,
    /// Online or offline, as far as the device says so.
    pub online: Option<bool>,
    /// Whether a terminal of the configuration claims it by name.
    pub configured: bool,
    /// Records missing, by its native sequence.
    pub gaps: u64,
    /// What is known of its clock; `None` where it writes no times.
    pub clock: Option<DeviceClock>,
}

/// A device's own clock, by what it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceClock {
    /// Ahead of ours by so many milliseconds; below zero it is behind, or everything that it says comes late.
    Apart(i64),
    /// What it wrote last is no time that can be: it lost its power, or is far ahead.
    Wrong,
}

/// A clock further ahead than this is worth a word, milliseconds (as `clock_quality` has it).
const AHEAD_MS: i64 = 5_000;

/// A clock further behind than this is worth a word, milliseconds: what is a little late is no news.
const BEHIND_MS: i64 = 60_000;

impl DeviceClock {
    /// In one word: `good`, `ahead`, `behind` or `wrong`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Apart(ms) if ms > AHEAD_MS => "ahead",
            Self::Apart(ms) if ms < -BEHIND_MS => "behind",
            Self::Apart(_) => "good",
        }
    }
}

/// A shared board on which links write how they are and from which `status` reads.
#[derive(Clone, Default)]
pub struct Board(Arc<std::sync::Mutex<std::collections::BTreeMap<String, LinkStatus>>>);

impl Board {
    /// Changes the status of one link, making it if it is new. Cheap; never call it once per event under load, but once
    /// per batch.
    pub fn update(&self, name: &str, protocol: &str, change: impl FnOnce(&mut LinkStatus)) {
        let mut board = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let status = board.entry(name.to_owned()).or_insert_with(|| LinkStatus {
            name: name.to_owned(),
            protocol: protocol.to_owned(),
            state: LinkState::Connecting,
            last_heard: None,
            events: 0,
            duplicates: 0,
            faults: 0,
            devices: Vec::new(),
        });
        change(status);
    }

    /// Forgets every link of which `keep` says no to its name and protocol.
    pub fn retain(&self, keep: impl Fn(&str, &str) -> bool) {
        let mut board = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        board.retain(|name, status| keep(name, &status.protocol));
    }

    /// Everything, by name.
    pub fn read(&self) -> Vec<LinkStatus> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).values().cloned().collect()
    }
}
