//! The simulators behave like the devices that they play, and their manifests tell the truth: other tests and the demo
//! count on both. New simulators get their promises tested here.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod support;

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use portero::decode::Protocol;
use portero::simulate::{self, Layout, Options, Summary, Target};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use support::{DEADLINE, Mosquitto, MosquittoOptions, eventually, eventually_async};
use tokio_util::sync::CancellationToken;

fn options(protocol: Protocol, target: Target, manifest: &Path) -> Options {
    Options {
        protocol,
        target,
        manifest: Some(manifest.to_owned()),
        count: None,
        rate: 0.0,
        seed: 7,
        zone: None,
        topic: None,
        device_id: None,
        devices: 1,
        connections: 1,
        window: 100,
        first_seq: 1,
        wipe_after: None,
        resend_seconds: 10.0,
        picture_bytes: 0,
        noise: false,
        layout: Layout::Columns,
    }
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn confirmed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".confirmed");
    name.into()
}

/// A client that hears everything on `filter`, each message as topic, DUP and JSON.
async fn listen(broker: &Mosquitto, filter: &str) -> (AsyncClient, tokio::sync::mpsc::Receiver<serde_json::Value>) {
    let mut settings = MqttOptions::new("listener", "127.0.0.1", broker.port);
    settings.set_clean_session(false).set_max_packet_size(8 << 20, 8 << 20);
    let (client, mut events) = AsyncClient::new(settings, 1000);
    client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    let (heard, hearing) = tokio::sync::mpsc::channel(100_000);
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let mut ready = Some(ready);
    tokio::spawn(async move {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    if let Some(ready) = ready.take() {
                        let _ = ready.send(());
                    }
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let body: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
                    heard.send(serde_json::json!({ "topic": publish.topic, "body": body })).await.unwrap();
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    });
    is_ready.await.unwrap();
    (client, hearing)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_publishes_each_event_of_its_manifest_and_waits_for_every_acknowledgement() {
    let dir = support::tempdir();
    let broker = Mosquitto::start(dir.path(), &MosquittoOptions::default());
    let (_client, mut heard) = listen(&broker, "site/yard/+/events").await;
    let manifest = dir.path().join("manifest");
    let mut options = options(Protocol::MqttJson, Target::Broker(broker.url().parse().unwrap()), &manifest);
    (options.count, options.devices, options.connections, options.window) = (Some(5000), 40, 3, 200);
    let summary = simulate::run(options, CancellationToken::new()).await.unwrap();
    assert_eq!((summary.sent, summary.confirmed), (5000, 5000));
    let mut arrived = HashSet::new();
    while arrived.len() < 5000 {
        let message = tokio::time::timeout(DEADLINE, heard.recv()).await.unwrap().unwrap();
        let body = &message["body"];
        assert_eq!(message["topic"], format!("site/yard/{}/events", body["sn"].as_str().unwrap()));
        arrived.insert((body["event_id"].to_string(), body["ts"].to_string(), body["pin"].to_string()));
    }
    let sent: HashSet<_> = lines(&manifest)
        .iter()
        .map(|line| (line["native_seq"].to_string(), line["device_time_raw"].to_string(), line["person"].to_string()))
        .collect();
    assert_eq!(sent, arrived);
    assert_eq!(lines(&confirmed(&manifest)).len(), 5000);
    let devices: HashSet<_> = lines(&manifest).iter().map(|line| line["device_key"].to_string()).collect();
    assert_eq!(devices.len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_survives_the_death_of_its_broker_and_sends_again_what_was_not_confirmed() {
    let dir = support::tempdir();
    let mut broker = Mosquitto::start(dir.path(), &MosquittoOptions::default());
    let manifest = dir.path().join("manifest");
    let mut options = options(Protocol::MqttJson, Target::Broker(broker.url().parse().unwrap()), &manifest);
    (options.count, options.devices, options.connections, options.rate) = (Some(3000), 5, 2, 3000.0);
    let running = tokio::spawn(simulate::run(options, CancellationToken::new()));
    for _ in 0..3 {
        let before = lines(&confirmed(&manifest)).len();
        eventually_async("events are confirmed", DEADLINE, async || {
            running.is_finished() || lines(&confirmed(&manifest)).len() > before
        })
        .await;
        broker.kill9();
        broker.restart();
    }
    let summary = running.await.unwrap().unwrap();
    assert_eq!((summary.sent, summary.confirmed), (3000, 3000));
    let sent: HashSet<_> = lines(&manifest).iter().map(|line| line["native_seq"].to_string()).collect();
    let acknowledged: HashSet<_> =
        lines(&confirmed(&manifest)).iter().map(|line| line["native_seq"].to_string()).collect();
    assert_eq!((sent.len(), &sent), (3000, &acknowledged));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_face_terminal_pushes_again_until_its_record_is_acknowledged_and_counts_from_one_after_a_wipe() {
    let dir = support::tempdir();
    let broker = Mosquitto::start(dir.path(), &MosquittoOptions::default());
    let (client, mut heard) = listen(&broker, "mqtt/face/#").await;
    let manifest = dir.path().join("manifest");
    let mut options = options(Protocol::MqttFace, Target::Broker(broker.url().parse().unwrap()), &manifest);
    (options.count, options.wipe_after, options.resend_seconds) = (Some(10), Some(4), 0.3);
    (options.picture_bytes, options.zone) = (20_000, Some("America/Santiago".to_owned()));
    let running = tokio::spawn(simulate::run(options, CancellationToken::new()));
    let mut pushed: HashMap<(u64, String), u32> = HashMap::new();
    let mut online = false;
    while !running.is_finished() {
        let Ok(message) = tokio::time::timeout(std::time::Duration::from_secs(1), heard.recv()).await else { continue };
        let message = message.unwrap();
        let body = &message["body"];
        online |= message["topic"] == "mqtt/face/basic" && body["operator"] == "Online";
        if body["operator"] != "RecPush" {
            continue;
        }
        assert_eq!(message["topic"], "mqtt/face/1026700/Rec");
        let info = &body["info"];
        assert!(info["pic"].as_str().unwrap().len() > 20_000);
        let id: u64 = info["RecordID"].as_str().unwrap().parse().unwrap();
        let times = pushed.entry((id, info["time"].to_string() + &info["personId"].to_string())).or_default();
        *times += 1;
        if *times >= 2 {
            let ack =
                format!(r#"{{"operator":"PushAck","messageId":"1","info":{{"PushAckType":2,"SnapOrRecordID":{id}}}}}"#);
            client.publish("mqtt/face/1026700", QoS::AtMostOnce, false, ack).await.unwrap();
        }
    }
    let summary = running.await.unwrap().unwrap();
    assert!(online);
    assert_eq!((summary.sent, summary.confirmed), (10, 10));
    assert!(summary.resent >= 10, "every record was pushed twice at least");
    let ids: Vec<_> = lines(&manifest).iter().map(|l| l["native_seq"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, ["1", "2", "3", "4", "1", "2", "3", "4", "1", "2"]);
    assert_eq!(pushed.len(), 10);
}

/// What can be read from the link of a simulator that runs in a thread of its own.
fn hear(options: Options, link: &Path) -> (Vec<u8>, Summary) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let running = runtime.spawn(simulate::run(options, CancellationToken::new()));
    eventually("the simulator makes its link", DEADLINE, || link.exists());
    let mut file = std::fs::File::options().read(true).write(true).open(link).unwrap();
    let mut heard = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(n @ 1..) = file.read(&mut piece) {
        heard.extend_from_slice(&piece[..n]);
    }
    let summary = runtime.block_on(running).unwrap().unwrap();
    assert!(!link.exists(), "an unplugged device has no name");
    (heard, summary)
}

#[test]
fn a_reader_repeats_the_frame_of_each_tag_through_all_noise() {
    let dir = support::tempdir();
    let (manifest, link) = (dir.path().join("manifest"), dir.path().join("reader"));
    let mut options = options(Protocol::Rdm6300, Target::Pty(link.clone()), &manifest);
    (options.count, options.noise) = (Some(8), true);
    let (heard, summary) = hear(options, &link);
    assert_eq!(summary.sent, 8);
    let text = String::from_utf8_lossy(&heard);
    for line in lines(&manifest) {
        let card = line["card"].as_str().unwrap();
        assert_eq!(card.len(), 10);
        assert!(text.matches(card).count() >= 2, "two equal frames at least");
    }
}

#[test]
fn a_line_printer_prints_the_lines_of_its_manifest() {
    let dir = support::tempdir();
    let (manifest, link) = (dir.path().join("manifest"), dir.path().join("printer"));
    let mut options = options(Protocol::SerialLines, Target::Pty(link.clone()), &manifest);
    (options.count, options.first_seq) = (Some(2000), 11);
    let (heard, summary) = hear(options, &link);
    assert_eq!(summary.sent, 2000);
    let text = String::from_utf8(heard).unwrap();
    for (line, entry) in text.lines().zip(lines(&manifest)) {
        let columns: Vec<_> = line.split(',').collect();
        let names = ["native_seq", "device_time_raw", "person", "card"];
        assert_eq!(columns[..4], names.map(|name| entry[name].as_str().unwrap()));
    }
    assert_eq!(text.lines().count(), 2000);
    assert!(text.starts_with("11,"));
}

#[test]
fn the_same_seed_gives_the_same_people_and_cards() {
    let dir = support::tempdir();
    let run = |name: &str, seed| {
        let (manifest, link) = (dir.path().join(name), dir.path().join("printer"));
        let mut options = options(Protocol::SerialLines, Target::Pty(link.clone()), &manifest);
        (options.count, options.seed) = (Some(50), seed);
        hear(options, &link);
        lines(&manifest).iter().map(|line| format!("{} {}", line["person"], line["card"])).collect::<Vec<_>>()
    };
    let first = run("a", 3);
    assert_eq!(first, run("b", 3));
    assert_ne!(first, run("c", 4));
}
