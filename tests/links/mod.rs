//! One link of the gateway with a real journal, for the tests of `terminal/`.
//!
//! Must not: replace the journal or the clock by anything simpler.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use portero::clock::{Clock, SyncSource};
use portero::decode::fields::{Field, Place, Rule};
use portero::decode::{self, mqtt_face, mqtt_json, rdm6300};
use portero::journal::{self, Journal, Record, Seq, Start};
use portero::terminal::{
    Board, BrokerConfig, Config, ConnectConfig, Context, Endpoint, Identity, Link, LinkStatus, ListenConfig, MqttLink,
};
use portero::tls::TlsMode;
use tokio_util::sync::CancellationToken;

/// A journal and what a link needs; the journal file outlives a restart of the rig.
pub struct Rig {
    pub dir: tempfile::TempDir,
    pub journal_config: journal::Config,
    pub context: Context,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with_max_bytes(journal::Config::default().max_bytes)
    }

    pub fn with_max_bytes(max_bytes: u64) -> Self {
        let dir = crate::support::tempdir();
        let path = dir.path().join("journal.db");
        let journal_config = journal::Config { path, max_bytes, ..journal::Config::default() };
        let context = context(&journal_config);
        Self { dir, journal_config, context, task: None }
    }

    /// Starts a link.
    pub fn start<F: Future<Output = ()> + Send + 'static>(&mut self, link: impl FnOnce(Context) -> F) {
        self.task = Some(tokio::spawn(link(self.context.clone())));
    }

    /// An orderly stop of the link and the journal.
    pub async fn stop(&mut self) {
        self.context.shutdown.cancel();
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
        self.context.journal.close().await.unwrap();
    }

    /// The gateway starts again on the same journal.
    pub async fn restart<F: Future<Output = ()> + Send + 'static>(&mut self, link: impl FnOnce(Context) -> F) {
        self.stop().await;
        self.restart_stopped(link);
    }

    /// The same after [`Self::stop`].
    pub fn restart_stopped<F: Future<Output = ()> + Send + 'static>(&mut self, link: impl FnOnce(Context) -> F) {
        self.context = context(&self.journal_config);
        self.start(link);
    }

    pub fn status(&self, name: &str) -> Option<LinkStatus> {
        self.context.board.read().into_iter().find(|s| s.name == name)
    }

    pub fn is_up(&self, name: &str) -> bool {
        self.status(name).is_some_and(|s| s.state == portero::terminal::LinkState::Up)
    }

    pub async fn wait_up(&self, name: &str) {
        crate::support::eventually_async("the link is up", crate::support::DEADLINE, || async { self.is_up(name) })
            .await;
    }

    /// Everything in the journal.
    pub async fn records(&self) -> Vec<Record> {
        let probe = self.context.journal.sink("probe", Start::All).await.unwrap();
        let mut records = Vec::new();
        loop {
            let after = records.last().map_or(Seq(0), |r: &Record| r.seq);
            let more = self.context.journal.read_after(probe.id, after, 10_000, 64 << 20).await.unwrap();
            if more.is_empty() {
                return records;
            }
            records.extend(more);
        }
    }

    /// The native sequences in the journal; each must be there once.
    pub async fn sequences(&self) -> BTreeSet<String> {
        let records = self.records().await;
        let set: BTreeSet<_> = records.iter().filter_map(|r| r.event.reading.native_seq.clone()).collect();
        assert_eq!(set.len(), records.len(), "an event was journalled twice");
        set
    }

    pub async fn faults(&self) -> u64 {
        self.context.journal.stats().await.unwrap().faults
    }

    pub async fn wait_events(&self, count: u64) {
        let done = || async { self.context.journal.stats().await.unwrap().appended >= count };
        crate::support::eventually_async("the events are journalled", crate::support::DEADLINE, done).await;
    }
}

fn context(config: &journal::Config) -> Context {
    let clock = Clock::new(SyncSource::Trusted);
    let identity = Identity {
        gateway_id: "gw-test-01".into(),
        site_id: "obra-norte".into(),
        tenant: "default".into(),
        zone: "America/Santiago".into(),
    };
    Context {
        identity: Arc::new(identity),
        journal: Journal::open(config, clock.clone()).unwrap(),
        clock,
        shutdown: CancellationToken::new(),
        board: Board::default(),
        mark: portero::progress::Mark::default(),
    }
}

/// The yard terminal of the README: a fleet behind one pattern.
pub fn yard() -> Config {
    let rule = |field, pointer: &str| Rule { field, place: Place::Pointer(pointer.into()), map: vec![], default: None };
    let fields = vec![
        rule(Field::Person, "/pin"),
        rule(Field::DeviceTime, "/ts"),
        rule(Field::NativeSeq, "/event_id"),
        rule(Field::TerminalSerial, "/sn"),
        rule(Field::Credential, "/card"),
    ];
    Config {
        name: "yard".into(),
        decoder: decode::Config::MqttJson(mqtt_json::Config { fields, ..mqtt_json::Config::default() }),
        link: mqtt_link(Some("site/yard/+/events"), None, 1 << 20),
        zone: Some("UTC".into()),
    }
}

/// One face terminal.
pub fn face(id: &str) -> Config {
    Config {
        name: format!("face-{id}"),
        decoder: decode::Config::MqttFace(mqtt_face::Config { device_id: Some(id.into()) }),
        link: mqtt_link(None, Some(id), 6 << 20),
        zone: None,
    }
}

fn mqtt_link(topic: Option<&str>, device_id: Option<&str>, max_payload_bytes: usize) -> Link {
    let (topic, device_id) = (topic.map(Into::into), device_id.map(Into::into));
    Link::Mqtt(MqttLink { broker: "site".into(), topic, device_id, max_payload_bytes })
}

/// A tag reader on a serial line.
pub fn reader(device: PathBuf) -> (Config, portero::terminal::SerialConfig) {
    let serial = portero::terminal::SerialConfig {
        device,
        baud: 9600,
        data_bits: 8,
        parity: portero::terminal::Parity::None,
        stop_bits: 1,
        flow: portero::terminal::Flow::None,
        rs485: None,
    };
    let config = Config {
        name: "gate-1".into(),
        decoder: decode::Config::Rdm6300(rdm6300::Config::default()),
        link: Link::Serial(serial.clone()),
        zone: None,
    };
    (config, serial)
}

/// A message of the yard terminal.
pub fn punch(n: u64) -> Vec<u8> {
    let (m, s) = (n / 60 % 60, n % 60);
    format!(
        r#"{{"event_id":"CJ9D232460003-{n:010}","sn":"CJ9D232460003","pin":"087109","ts":"2026-11-24T00:{m:02}:{s:02}.011Z","card":"0004812011"}}"#
    )
    .into_bytes()
}

/// Its native sequence in the journal.
pub fn sequence(n: u64) -> String {
    format!("CJ9D232460003-{n:010}")
}

/// The topic that it comes on.
pub const YARD_TOPIC: &str = "site/yard/CJ9D232460003/events";

/// A broker to connect to.
pub fn connect(port: u16) -> BrokerConfig {
    let connect = ConnectConfig {
        host: "127.0.0.1".into(),
        port,
        tls: TlsMode::Disable,
        ca_file: None,
        client_id: "gw-test-01".into(),
        credentials: None,
        keep_alive_seconds: 5,
        status_topic: Some("site/gateway/status".into()),
    };
    BrokerConfig { name: "site".into(), endpoint: Endpoint::Connect(connect), max_packet_bytes: 8 << 20 }
}

/// A broker to be.
pub fn listen(port: u16) -> (BrokerConfig, ListenConfig) {
    let listen = ListenConfig {
        address: ([127, 0, 0, 1], port).into(),
        users: Vec::new(),
        anonymous: true,
        max_clients: 100,
        max_inflight: 1000,
    };
    let broker =
        BrokerConfig { name: "site".into(), endpoint: Endpoint::Listen(listen.clone()), max_packet_bytes: 8 << 20 };
    (broker, listen)
}
