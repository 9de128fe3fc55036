//! Confirmed-and-synced events a second from MQTT clients into the journal, and the CPU that the gateway spends on them:
//! as the terminals' own broker, and behind mosquitto (which must be installed).
//!
//! `cargo bench --bench ingest [-- EVENTS]`. The clients run in a process of their own, so that their CPU is not counted.
//! Prints one line per setting. It measures and never fails on a number.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench that can't run says so and ends"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portero::clock::{Clock, SyncSource};
use portero::decode::fields::{Field, Place, Rule};
use portero::decode::{self, mqtt_json};
use portero::journal::{self, Journal};
use portero::terminal::{
    Board, BrokerConfig, Config, ConnectConfig, Context, Endpoint, Identity, Link, LinkState, ListenConfig, MqttLink,
    broker, mqtt,
};
use portero::tls::TlsMode;
use tokio_util::sync::CancellationToken;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [mode, port, clients, events, window] = arguments.as_slice()
        && mode == "clients"
    {
        return clients_main(
            port.parse().unwrap(),
            clients.parse().unwrap(),
            events.parse().unwrap(),
            window.parse().unwrap(),
        );
    }
    let events: u64 = arguments.first().map_or(200_000, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("{:<28} {:>8} {:>12} {:>16} {:>14}", "setting", "events", "events/s", "CPU-s per 100 k", "bytes/event");
    for (clients, window) in [(1, 1), (1, 20), (4, 20), (4, 1000), (16, 1000)] {
        let events = if window == 1 { events / 20 } else { events };
        runtime.block_on(measure(&format!("own broker, {clients} x {window}"), clients, window, events, false));
    }
    for clients in [4, 16] {
        runtime.block_on(measure(&format!("mosquitto, {clients} x 1000"), clients, 1000, events, true));
    }
}

/// One run: a journal of its own, a link, a process of clients.
async fn measure(name: &str, clients: u64, window: u64, events: u64, behind: bool) {
    let dir = tempfile::Builder::new().prefix("portero-bench-").tempdir_in("target").unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _mosquitto = behind.then(|| mosquitto(dir.path(), port));
    let journal_config = journal::Config { path: dir.path().join("journal.db"), ..journal::Config::default() };
    let clock = Clock::new(SyncSource::Trusted);
    let identity = Identity {
        gateway_id: "gw-bench-01".into(),
        site_id: "obra-norte".into(),
        tenant: "default".into(),
        zone: "America/Santiago".into(),
    };
    let journal = Journal::open(&journal_config, clock.clone()).unwrap();
    let (shutdown, board) = (CancellationToken::new(), Board::default());
    let context = Context {
        identity: Arc::new(identity),
        journal,
        clock,
        shutdown,
        board,
        mark: portero::progress::Mark::default(),
    };
    let link = tokio::spawn(run(context.clone(), port, behind));
    until(|| context.board.read().iter().any(|s| s.name == "site" && s.state == LinkState::Up)).await;
    let before = (Instant::now(), cpu(), written());
    let mut child = Killed(
        Command::new(std::env::current_exe().unwrap())
            .args(["clients", &port.to_string(), &clients.to_string(), &events.to_string(), &window.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    // Publishers that mosquitto has confirmed are not through yet: what counts is our journal.
    while context.journal.stats().await.unwrap().appended < events {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until(|| child.0.try_wait().unwrap().is_some()).await;
    let seconds = before.0.elapsed().as_secs_f64();
    let cpu = cpu() - before.1;
    let bytes = (written() - before.2) / events;
    let rate = events as f64 / seconds;
    println!("{name:<28} {events:>8} {rate:>12.0} {:>16.2} {bytes:>14}", cpu * 100_000.0 / events as f64);
    context.shutdown.cancel();
    link.await.unwrap();
    context.journal.close().await.unwrap();
}

async fn run(context: Context, port: u16, behind: bool) {
    let endpoint = if behind {
        Endpoint::Connect(ConnectConfig {
            host: "127.0.0.1".into(),
            port,
            tls: TlsMode::Disable,
            ca_file: None,
            client_id: "gw-bench-01".into(),
            credentials: None,
            keep_alive_seconds: 20,
            status_topic: None,
        })
    } else {
        Endpoint::Listen(ListenConfig {
            address: ([127, 0, 0, 1], port).into(),
            users: Vec::new(),
            anonymous: true,
            max_clients: 100,
            max_inflight: 1000,
        })
    };
    let config = BrokerConfig { name: "site".into(), endpoint, max_packet_bytes: 8 << 20 };
    if behind {
        mqtt::run(context, config, vec![yard()]).await;
    } else {
        broker::run(context, config, vec![yard()]).await;
    }
}

fn yard() -> Config {
    let rule = |field, pointer: &str, map: &[(&str, &str)]| Rule {
        field,
        place: Place::Pointer(pointer.into()),
        map: map.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        default: None,
    };
    let fields = vec![
        rule(Field::Person, "/pin", &[]),
        rule(Field::DeviceTime, "/ts", &[]),
        rule(Field::NativeSeq, "/event_id", &[]),
        rule(Field::TerminalSerial, "/sn", &[]),
        rule(Field::Door, "/door", &[]),
        rule(Field::Credential, "/card", &[]),
        rule(Field::Punch, "/dir", &[("in", "in"), ("out", "out")]),
        rule(Field::Methods, "/verify", &[("fp", "finger"), ("face", "face"), ("card", "card"), ("pin", "pin")]),
    ];
    Config {
        name: "yard".into(),
        decoder: decode::Config::MqttJson(mqtt_json::Config { fields, ..mqtt_json::Config::default() }),
        link: Link::Mqtt(MqttLink {
            broker: "site".into(),
            topic: Some("site/yard/+/events".into()),
            device_id: None,
            max_payload_bytes: 1 << 20,
        }),
        zone: Some("UTC".into()),
    }
}

fn clients_main(port: u16, clients: u64, events: u64, window: u64) {
    let threads: Vec<_> = (0..clients)
        .map(|client| {
            std::thread::spawn(move || {
                client_main(port, client, events / clients + u64::from(client < events % clients), window);
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
}

/// Publishes at QoS 1 with so many unconfirmed at once, and waits for every confirmation.
fn client_main(port: u16, client: u64, events: u64, window: u64) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    let id = format!("bench-{client:02}");
    let mut hello = vec![0x10, 12 + 8, 0, 4];
    hello.extend(b"MQTT\x04\x02\0\0\0\x08");
    hello.extend(id.as_bytes());
    stream.write_all(&hello).unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    let topic = format!("site/yard/CJ9D2324600{client:02}/events");
    let (mut sent, mut confirmed, mut partial) = (0u64, 0u64, 0usize);
    let (mut output, mut input) = (Vec::new(), vec![0; 64 * 1024]);
    while confirmed < events {
        output.clear();
        while sent < events && sent - confirmed < window {
            put(&mut output, &topic, client, sent, u16::try_from(sent % 60_000 + 1).unwrap());
            sent += 1;
        }
        stream.write_all(&output).unwrap();
        let count = stream.read(&mut input).unwrap();
        assert!(count > 0, "the broker closed the connection");
        partial += count;
        confirmed += (partial / 4) as u64;
        partial %= 4;
    }
}

fn put(output: &mut Vec<u8>, topic: &str, client: u64, n: u64, id: u16) {
    let (h, m, s) = (n / 3600 % 24, n / 60 % 60, n % 60);
    let payload = format!(
        r#"{{"event_id":"CJ9D2324600{client:02}-{n:010}","sn":"CJ9D2324600{client:02}","pin":"087109","ts":"2026-11-24T{h:02}:{m:02}:{s:02}.011Z","dir":"out","verify":"pin","site":"SITE-0001","door":11,"card":"0004812011","seq":{n},"t_us":1795487934631976}}"#
    );
    let length = 2 + topic.len() + 2 + payload.len();
    output.extend([0x32, u8::try_from(length & 0x7F).unwrap() | 0x80, u8::try_from(length >> 7).unwrap()]);
    output.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
    output.extend(topic.as_bytes());
    output.extend(id.to_be_bytes());
    output.extend(payload.as_bytes());
}

fn mosquitto(dir: &std::path::Path, port: u16) -> Killed {
    let file = dir.join("mosquitto.conf");
    let config = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 1000\nmax_queued_messages 0\nset_tcp_nodelay true\n"
    );
    std::fs::write(&file, config).unwrap();
    let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
    let child = Command::new("mosquitto").arg("-c").arg(file).env("PATH", path).stderr(Stdio::null()).spawn();
    Killed(child.expect("mosquitto must be installed: make deps"))
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Bytes that this process has handed to the disk.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|l| l.strip_prefix("write_bytes: ")).unwrap();
    line.trim().parse().unwrap()
}
