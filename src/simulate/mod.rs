//! Plays the other end of each protocol: for people, the demo and tests.
//!
//! A simulator behaves as the device does, also where that is a nuisance: it repeats frames, sends again what was not
//! confirmed, and keeps punching while the network is away. The same seed gives the same people, cards and order; only
//! times differ. What it sends is written to a manifest first, so that anybody can compare it with what arrived.
//!
//! Must not: be used by the gateway itself, or hold more in memory than its window of unconfirmed messages.

mod face;

mod line;

mod lines;

mod manifest;

mod mqtt;

mod pace;

mod people;

mod reader;

mod yard;

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SyncSource, Zone};
use crate::decode::Protocol;

pub use lines::Layout;
pub use manifest::Manifest;
pub use mqtt::BrokerUrl;

/// Where the simulated device is plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A pseudo-terminal that is made, under this link.
    Pty(PathBuf),
    /// A serial device that exists, with its bits per second.
    Device(PathBuf, u32),
    /// A broker.
    Broker(BrokerUrl),
}

/// What is to be simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Which protocol.
    pub protocol: Protocol,
    /// Where.
    pub target: Target,
    /// Where to write what was sent; `FILE.confirmed` beside it gets what was confirmed. Both are appended to.
    pub manifest: Option<PathBuf>,
    /// How many events; `None`: until stopped.
    pub count: Option<u64>,
    /// Events a second over all devices; 0: as fast as the other side takes them.
    pub rate: f64,
    /// Chooses people, cards and order.
    pub seed: u64,
    /// IANA zone of the device's clock. `mqtt-json` writes UTC with `Z` unless a zone is given.
    pub zone: Option<String>,
    /// `mqtt-json`: topic, `+` stands for the device. Default `site/yard/+/events`.
    pub topic: Option<String>,
    /// The device's key; with several devices the first part of each key.
    pub device_id: Option<String>,
    /// How many devices (MQTT).
    pub devices: u32,
    /// `mqtt-json`: over how many connections the devices share.
    pub connections: u32,
    /// `mqtt-json`: most unconfirmed messages of a connection (1 to 65535).
    pub window: u16,
    /// The first native sequence number.
    pub first_seq: u64,
    /// `mqtt-face`: the terminal's log is wiped after this many records, and RecordID starts again at 1.
    pub wipe_after: Option<u64>,
    /// `mqtt-face`: an unacknowledged record is sent again after this many seconds (10 on real devices).
    pub resend_seconds: f64,
    /// `mqtt-face`: size of the picture that goes with a record, bytes before base64; 0: none.
    pub picture_bytes: usize,
    /// Serial: noise between the frames: garbage, half frames, wrong checksums, ghost tags.
    pub noise: bool,
    /// `serial-lines`: how a line looks.
    pub layout: Layout,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Summary {
    /// Different events sent at least once.
    pub sent: u64,
    /// Events that the other side confirmed; always 0 for devices that are never answered.
    pub confirmed: u64,
    /// Times that an event was sent again.
    pub resent: u64,
    /// From the first to the last event, seconds.
    pub seconds: f64,
}

impl Summary {
    /// Events a second: confirmed ones where the protocol confirms.
    pub fn rate(&self) -> f64 {
        let events = if self.confirmed > 0 { self.confirmed } else { self.sent };
        // Far below 2^53.
        if self.seconds > 0.0 { events as f64 / self.seconds } else { 0.0 }
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.confirmed += other.confirmed;
        self.resent += other.resent;
        self.seconds = self.seconds.max(other.seconds);
    }
}

/// Why nothing can be simulated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest can't be written: nothing more is sent.
    #[error("can't write the manifest {path}: {error}: free space or choose another file")]
    Manifest {
        /// Which file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The serial line can't be made or opened.
    #[error("can't use the serial line {path}: {error}")]
    Line {
        /// Which line.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The zone is unknown.
    #[error(transparent)]
    Zone(#[from] crate::clock::UnknownZone),
    /// Options that don't go together.
    #[error("{0}")]
    Options(String),
    /// A task of ours ended unexpectedly.
    #[error("a simulated device ended unexpectedly: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What every simulated device needs.
#[derive(Clone)]
struct Context {
    options: std::sync::Arc<Options>,
    manifest: std::sync::Arc<Manifest>,
    clock: Clock,
    zone: Zone,
    shutdown: CancellationToken,
}

impl Context {
    /// How many events device or connection `index` of `of` makes, so that all of them make `count`.
    fn quota(&self, index: u32, of: u32) -> u64 {
        self.options.count.map_or(u64::MAX, |count| {
            let (index, of) = (u64::from(index), u64::from(of.max(1)));
            count / of + u64::from(index < count % of)
        })
    }
}

/// Simulates until the count is reached and everything is confirmed, or until `shutdown`; then it stops making events and
/// waits a few seconds for what is still unconfirmed. A broker that is away is waited for without end.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<Summary, Error> {
    check(&options)?;
    let zone = options.zone.as_deref().map_or_else(|| Ok(Zone::utc()), Zone::named)?;
    let context = Context {
        manifest: std::sync::Arc::new(Manifest::open(options.manifest.as_deref())?),
        options: std::sync::Arc::new(options),
        clock: Clock::new(SyncSource::Trusted),
        zone,
        shutdown,
    };
    match context.options.protocol {
        Protocol::Rdm6300 => reader::run(&context).await,
        Protocol::SerialLines => lines::run(&context).await,
        Protocol::MqttJson => yard::run(&context).await,
        Protocol::MqttFace => face::run(&context).await,
    }
}

fn check(options: &Options) -> Result<(), Error> {
    let serial = matches!(options.protocol, Protocol::Rdm6300 | Protocol::SerialLines);
    let broker = matches!(options.target, Target::Broker(_));
    let name = options.protocol.name();
    if serial && broker {
        return Err(Error::Options(format!("{name} is a serial protocol: use --pty or --device instead of --broker")));
    }
    if !serial && !broker {
        return Err(Error::Options(format!("{name} goes through a broker: use --broker")));
    }
    if options.devices == 0 || options.connections == 0 || options.window == 0 {
        return Err(Error::Options("--devices, --connections and --window start at 1".to_owned()));
    }
    if !options.rate.is_finite() || options.rate < 0.0 || !(0.1..=86_400.0).contains(&options.resend_seconds) {
        return Err(Error::Options("--rate is 0 or more, --resend-seconds from 0.1 to 86400".to_owned()));
    }
    Ok(())
}
