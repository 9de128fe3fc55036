//! The gateway as a client of a real mosquitto.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod links;
mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use links::{Rig, YARD_TOPIC, connect, face, punch, sequence, yard};
use portero::terminal::{LinkState, mqtt};
use support::{DEADLINE, Mosquitto, MosquittoOptions, eventually_async, find_program};

/// Publishes with mosquitto's own client, at QoS 1, and waits until the broker has confirmed all of it.
fn publish_lines(port: u16, topic: &str, payloads: impl Iterator<Item = Vec<u8>>) {
    let mut publisher = Command::new(find_program("mosquitto_pub", &[]))
        .args(["-p", &port.to_string(), "-q", "1", "-l", "-t", topic])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = publisher.stdin.take().unwrap();
    for payload in payloads {
        stdin.write_all(&payload).unwrap();
        stdin.write_all(b"\n").unwrap();
    }
    drop(stdin);
    assert!(publisher.wait().unwrap().success());
}

/// One message with any bytes in it.
fn publish_bytes(port: u16, topic: &str, qos: &str, payload: &[u8]) {
    let mut publisher = Command::new(find_program("mosquitto_pub", &[]))
        .args(["-p", &port.to_string(), "-q", qos, "-s", "-t", topic])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    publisher.stdin.take().unwrap().write_all(payload).unwrap();
    assert!(publisher.wait().unwrap().success());
}

fn start(rig: &mut Rig, port: u16) {
    let config = connect(port);
    rig.start(|context| mqtt::run(context, config, vec![yard(), face("1026700")]));
}

fn punches(range: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = Vec<u8>> {
    range.map(punch)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_once_and_are_confirmed_to_the_broker() {
    let mut rig = Rig::new();
    let broker = Mosquitto::start(rig.dir.path(), &MosquittoOptions::default());
    start(&mut rig, broker.port);
    rig.wait_up("site").await;
    publish_lines(broker.port, YARD_TOPIC, punches(1..=3000));
    rig.wait_events(3000).await;
    assert_eq!(rig.sequences().await, (1..=3000).map(sequence).collect());
    // What was confirmed does not come again.
    let config = connect(broker.port);
    rig.restart(|context| mqtt::run(context, config, vec![yard(), face("1026700")])).await;
    rig.wait_up("site").await;
    publish_lines(broker.port, YARD_TOPIC, punches(3001..=3001));
    rig.wait_events(3001).await;
    assert_eq!(rig.status("yard").map(|s| (s.events, s.duplicates)), Some((1, 0)));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_full_journal_leaves_the_messages_with_the_broker() {
    let mut rig = Rig::with_max_bytes(600 * 1024);
    let broker = Mosquitto::start(rig.dir.path(), &MosquittoOptions::default());
    start(&mut rig, broker.port);
    rig.wait_up("site").await;
    let mut sent = 0;
    let held = |rig: &Rig| rig.status("site").is_some_and(|s| matches!(s.state, LinkState::Held(_)));
    while !held(&rig) {
        publish_lines(broker.port, YARD_TOPIC, punches(sent + 1..=sent + 500));
        sent += 500;
        let settled = || async { held(&rig) || rig.context.journal.stats().await.unwrap().appended >= sent };
        eventually_async("the journal takes or refuses", DEADLINE, settled).await;
        assert!(sent < 100_000, "the journal never fills");
    }
    assert!(rig.context.journal.stats().await.unwrap().appended < sent);
    rig.journal_config.max_bytes = 8 << 30;
    let config = connect(broker.port);
    rig.restart(|context| mqtt::run(context, config, vec![yard()])).await;
    rig.wait_events(sent).await;
    assert_eq!(rig.sequences().await, (1..=sent).map(sequence).collect());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_what_can_not_be_used_is_a_fault_and_does_not_block_the_feed() {
    let mut rig = Rig::new();
    // Mosquitto's own default: twenty unconfirmed messages stop the feed.
    let options = MosquittoOptions { max_inflight: 20, ..MosquittoOptions::default() };
    let broker = Mosquitto::start(rig.dir.path(), &options);
    start(&mut rig, broker.port);
    rig.wait_up("site").await;
    publish_lines(broker.port, YARD_TOPIC, (0..50).map(|_| b"{\"pin\": \"08".to_vec()));
    publish_bytes(broker.port, YARD_TOPIC, "1", &vec![b'x'; 5 << 20]);
    publish_lines(broker.port, YARD_TOPIC, punches(1..=50));
    rig.wait_events(50).await;
    assert_eq!(rig.faults().await, 51);
    assert_eq!(rig.status("yard").map(|s| s.faults), Some(51));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_a_gateway_starts_without_its_broker_and_finds_it_later() {
    let mut rig = Rig::new();
    let mut broker = Mosquitto::start(rig.dir.path(), &MosquittoOptions::default());
    broker.stop();
    start(&mut rig, broker.port);
    let down = || async { rig.status("site").is_some_and(|s| matches!(s.state, LinkState::Down(_))) };
    eventually_async("the missing broker is reported", DEADLINE, down).await;
    broker.restart();
    rig.wait_up("site").await;
    publish_lines(broker.port, YARD_TOPIC, punches(1..=10));
    rig.wait_events(10).await;
    rig.stop().await;
}

/// A publisher that holds on to what the broker has not confirmed, through every crash of the broker, as a terminal with
/// a log does. Ends when `count` messages are confirmed to it.
async fn stubborn_publisher(port: u16, count: u64) {
    let mut options = rumqttc::MqttOptions::new("terminal", "127.0.0.1", port);
    options.set_clean_session(false).set_inflight(100).set_keep_alive(std::time::Duration::from_secs(5));
    let (client, mut events) = rumqttc::AsyncClient::new(options, 10);
    let sender = tokio::spawn(async move {
        for n in 1..=count {
            client.publish(YARD_TOPIC, rumqttc::QoS::AtLeastOnce, false, punch(n)).await.unwrap();
        }
        client
    });
    let mut confirmed = 0;
    while confirmed < count {
        match events.poll().await {
            Ok(rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_))) => confirmed += 1,
            Ok(_) => {}
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
    drop(sender.await.unwrap());
}

/// What mosquitto confirmed and had not yet written is lost at kill -9: that is its promise, not ours. So the publisher
/// stops, the broker's store is saved, and only then it dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_nothing_that_we_confirmed_is_lost_when_the_broker_is_killed() {
    let mut rig = Rig::new();
    let mut broker = Mosquitto::start(rig.dir.path(), &MosquittoOptions::default());
    start(&mut rig, broker.port);
    rig.wait_up("site").await;
    for round in 0..5u64 {
        let first = round * 400 + 1;
        tokio::task::block_in_place(|| publish_lines(broker.port, YARD_TOPIC, punches(first..=first + 199)));
        // In the middle of the feed.
        let before = rig.context.journal.stats().await.unwrap().appended;
        tokio::task::block_in_place(|| broker.kill9());
        let after = rig.context.journal.stats().await.unwrap().appended;
        assert!(after >= before);
        tokio::task::block_in_place(|| broker.restart());
        rig.wait_up("site").await;
        // The terminal's own log: it sends again what may not have arrived, then goes on.
        tokio::task::block_in_place(|| publish_lines(broker.port, YARD_TOPIC, punches(first..=first + 399)));
        rig.wait_events(first + 399).await;
    }
    assert_eq!(rig.sequences().await, (1..=2000).map(sequence).collect());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_wiped_session_store_is_noticed_and_subscribed_anew() {
    let mut rig = Rig::new();
    let mut broker = Mosquitto::start(rig.dir.path(), &MosquittoOptions::default());
    start(&mut rig, broker.port);
    rig.wait_up("site").await;
    for round in 0..3u64 {
        let first = round * 100 + 1;
        tokio::task::block_in_place(|| publish_lines(broker.port, YARD_TOPIC, punches(first..=first + 99)));
        rig.wait_events(first + 99).await;
        tokio::task::block_in_place(|| {
            broker.kill9();
            broker.wipe_store();
        });
        let down = || async { !rig.is_up("site") };
        eventually_async("the loss is noticed", DEADLINE, down).await;
        tokio::task::block_in_place(|| broker.restart());
        rig.wait_up("site").await;
    }
    tokio::task::block_in_place(|| publish_lines(broker.port, YARD_TOPIC, punches(301..=400)));
    rig.wait_events(400).await;
    assert_eq!(rig.sequences().await, (1..=400).map(sequence).collect());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_client_id_takeover_under_load_loses_nothing() {
    let mut rig = Rig::new();
    let broker = Mosquitto::start(rig.dir.path(), &MosquittoOptions::default());
    start(&mut rig, broker.port);
    rig.wait_up("site").await;
    let publisher = tokio::spawn(stubborn_publisher(broker.port, 3000));
    for _ in 0..5 {
        // Somebody else with our id, who hears nothing of ours: no subscription of his own, and he leaves at once.
        let thief = Command::new(find_program("mosquitto_pub", &[]))
            .args(["-p", &broker.port.to_string(), "-i", "gw-test-01", "-c", "-q", "1", "-t", "elsewhere", "-m", "x"])
            .status();
        let thief = thief.unwrap();
        assert!(thief.success() || thief.code().is_some());
        rig.wait_up("site").await;
    }
    publisher.await.unwrap();
    // `-c` keeps the session, so what it was handed and did not confirm comes to us again.
    rig.wait_events(3000).await;
    assert_eq!(rig.sequences().await, (1..=3000).map(sequence).collect());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_the_broker_while_the_gateway_is_away_arrives() {
    let mut rig = Rig::new();
    // The broker stays up, so its store is not needed; saving 5,000 messages at every change takes a minute.
    let options = MosquittoOptions { persistence: false, ..MosquittoOptions::default() };
    let broker = Mosquitto::start(rig.dir.path(), &options);
    start(&mut rig, broker.port);
    rig.wait_up("site").await;
    rig.stop().await;
    publish_lines(broker.port, YARD_TOPIC, punches(1..=5000));
    let config = connect(broker.port);
    rig.restart_stopped(|context| mqtt::run(context, config, vec![yard(), face("1026700")]));
    rig.wait_events(5000).await;
    assert_eq!(rig.sequences().await, (1..=5000).map(sequence).collect());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_face_terminal_behind_a_broker_hears_push_ack_after_the_commit() {
    let mut rig = Rig::new();
    let broker = Mosquitto::start(rig.dir.path(), &MosquittoOptions::default());
    start(&mut rig, broker.port);
    rig.wait_up("site").await;
    let mut options = rumqttc::MqttOptions::new("1026700", "127.0.0.1", broker.port);
    options.set_keep_alive(std::time::Duration::from_secs(5));
    let (client, mut events) = rumqttc::AsyncClient::new(options, 10);
    client.subscribe("mqtt/face/1026700", rumqttc::QoS::AtMostOnce).await.unwrap();
    let record = r#"{"operator":"RecPush","info":{"customId":"","personId":"3","RecordID":"2","VerifyStatus":"1","PersonType":"0","similarity1":"83.000000","Sendintime":1,"facesluiceId":"1026700","time":"2026-04-10 10:00:07","PushType":0}}"#;
    loop {
        match tokio::time::timeout(DEADLINE, events.poll()).await.unwrap().unwrap() {
            rumqttc::Event::Incoming(rumqttc::Packet::SubAck(_)) => {
                client.publish("mqtt/face/1026700/Rec", rumqttc::QoS::AtMostOnce, false, record).await.unwrap();
            }
            rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish)) => {
                let text = String::from_utf8(publish.payload.to_vec()).unwrap();
                assert!(text.contains("PushAck") && text.contains(r#""SnapOrRecordID":"2""#), "{text}");
                break;
            }
            _ => {}
        }
    }
    assert_eq!(rig.records().await.len(), 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_retained_status_says_online_and_after_a_stop_offline() {
    let mut rig = Rig::new();
    let broker = Mosquitto::start(rig.dir.path(), &MosquittoOptions::default());
    let heard = || {
        let output = Command::new(find_program("mosquitto_sub", &[]))
            .args(["-p", &broker.port.to_string(), "-t", "site/gateway/status", "-C", "1", "-W", "5"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    start(&mut rig, broker.port);
    rig.wait_up("site").await;
    assert_eq!(tokio::task::block_in_place(heard), "online");
    rig.stop().await;
    assert_eq!(tokio::task::block_in_place(heard), "offline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_refuses_us_is_reported_in_words() {
    let mut rig = Rig::new();
    let options = MosquittoOptions { allow_anonymous: false, ..MosquittoOptions::default() };
    let broker = Mosquitto::start(rig.dir.path(), &options);
    start(&mut rig, broker.port);
    let refused = || async {
        let state = rig.status("site").map(|s| s.state);
        matches!(state, Some(LinkState::Down(reason)) if reason.contains("refuses user or password"))
    };
    eventually_async("the refusal is reported", DEADLINE, refused).await;
    rig.stop().await;
}

/// Mosquitto hardly ever refuses a filter; our own broker does beyond 64 of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_subscription_is_reported_in_words() {
    let (mut server, mut rig) = (Rig::new(), Rig::new());
    let port = support::free_port();
    let config = links::listen(port).0;
    server.start(|context| portero::terminal::broker::run(context, config, vec![yard()]));
    server.wait_up("site").await;
    let terminal = |n: u32| {
        let mut terminal = yard();
        terminal.name = format!("yard-{n}");
        if let portero::terminal::Link::Mqtt(link) = &mut terminal.link {
            link.topic = Some(format!("site/yard-{n:02}/+/events"));
        }
        terminal
    };
    rig.start(|context| mqtt::run(context, connect(port), (1..=65).map(terminal).collect()));
    let refused = || async {
        let state = rig.status("site").map(|s| s.state);
        matches!(state, Some(LinkState::Down(reason)) if reason.contains("refuses the subscription to site/yard-65/"))
    };
    eventually_async("the refusal is reported", DEADLINE, refused).await;
    rig.stop().await;
    server.stop().await;
}

/// A scripted broker: takes a connection, answers CONNECT and SUBSCRIBE, and hands the stream over.
fn accept_as_broker(listener: &std::net::TcpListener) -> std::net::TcpStream {
    use std::io::Read as _;
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut packet = |first: u8| {
        let mut header = [0; 2];
        stream.read_exact(&mut header).unwrap();
        assert_eq!(header[0], first);
        assert!(header[1] < 0x80);
        let mut body = vec![0; header[1].into()];
        stream.read_exact(&mut body).unwrap();
        match first {
            0x10 => stream.write_all(&[0x20, 2, 0, 0]).unwrap(),
            _ => stream.write_all(&[0x90, 6, body[0], body[1], 1, 1, 1, 1]).unwrap(),
        }
    };
    packet(0x10);
    packet(0x82);
    stream
}

fn publish_packet(id: u8, n: u64) -> Vec<u8> {
    let mut packet = vec![0, u8::try_from(YARD_TOPIC.len()).unwrap()];
    packet.extend(YARD_TOPIC.as_bytes());
    packet.extend([0, id]);
    packet.extend(punch(n));
    let length = packet.len();
    let header = [0x32, u8::try_from(length & 0x7F).unwrap() | 0x80, u8::try_from(length >> 7).unwrap()];
    header.into_iter().chain(packet).collect()
}

/// A new session may use a packet id of the old one for another message: an acknowledgement that comes late would
/// confirm what was never seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_what_came_over_one_connection_is_never_acknowledged_on_the_next() {
    use std::io::Read as _;
    let mut rig = Rig::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = connect(listener.local_addr().unwrap().port());
    if let portero::terminal::Endpoint::Connect(connect) = &mut config.endpoint {
        connect.status_topic = None;
        connect.keep_alive_seconds = 60;
    }
    rig.start(|context| mqtt::run(context, config, vec![yard(), face("1026700")]));
    let mut old = tokio::task::block_in_place(|| accept_as_broker(&listener));
    old.write_all(&[publish_packet(1, 1), publish_packet(2, 2), publish_packet(3, 3)].concat()).unwrap();
    drop(old);
    let mut new = tokio::task::block_in_place(|| accept_as_broker(&listener));
    // They are journalled all the same.
    rig.wait_events(3).await;
    let silent = |stream: &std::net::TcpStream| {
        stream.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        let result = stream.peek(&mut [0; 1]);
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        result.is_err()
    };
    assert!(tokio::task::block_in_place(|| silent(&new)), "an old acknowledgement on a new connection");
    new.write_all(&publish_packet(1, 4)).unwrap();
    let mut puback = [0; 4];
    tokio::task::block_in_place(|| new.read_exact(&mut puback)).unwrap();
    assert_eq!(puback, [0x40, 2, 0, 1]);
    assert!(tokio::task::block_in_place(|| silent(&new)));
    assert_eq!(rig.sequences().await, (1..=4).map(sequence).collect());
    drop(new);
    drop(listener);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_verified_and_user_and_password_are_sent() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut rig = Rig::new();
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    let passwords = rig.dir.path().join("passwd");
    std::fs::write(&passwords, "gateway:s3cret\n").unwrap();
    let hashed = Command::new(find_program("mosquitto_passwd", &[])).arg("-U").arg(&passwords).status().unwrap();
    assert!(hashed.success());
    let port = support::free_port();
    let extra = vec![
        format!("password_file {}", passwords.display()),
        format!("listener {port} 127.0.0.1"),
        format!("certfile {}", fixtures.join("server.pem").display()),
        format!("keyfile {}", fixtures.join("server.key").display()),
    ];
    let options = MosquittoOptions { allow_anonymous: false, extra, ..MosquittoOptions::default() };
    let _broker = Mosquitto::start(rig.dir.path(), &options);
    let secret = rig.dir.path().join("password");
    std::fs::write(&secret, "s3cret\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let with = |ca_file: Option<std::path::PathBuf>| {
        let mut config = connect(port);
        if let portero::terminal::Endpoint::Connect(connect) = &mut config.endpoint {
            connect.host = "localhost".into();
            connect.tls = portero::tls::TlsMode::Require;
            connect.ca_file = ca_file;
            connect.credentials = Some(("gateway".into(), portero::secret::SecretSource::File(secret.clone())));
        }
        config
    };
    // The system's roots don't know this broker.
    let stranger = with(None);
    rig.start(|context| mqtt::run(context, stranger, vec![yard()]));
    let refused = || async {
        let state = rig.status("site").map(|s| s.state);
        matches!(state, Some(LinkState::Down(reason)) if reason.contains("certificate") || reason.contains("root"))
    };
    eventually_async("the unknown certificate is reported", DEADLINE, refused).await;
    let known = with(Some(fixtures.join("ca.pem")));
    rig.restart(|context| mqtt::run(context, known, vec![yard()])).await;
    rig.wait_up("site").await;
    rig.stop().await;
}
