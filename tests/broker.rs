//! The gateway as the terminals' own broker, spoken to by raw sockets, rumqttc and mosquitto's clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod links;
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use links::{Rig, YARD_TOPIC, face, listen, punch, sequence, yard};
use portero::journal;
use portero::secret::SecretSource;
use portero::terminal::{BrokerConfig, Endpoint, LinkState, broker};
use support::{DEADLINE, eventually, eventually_async, find_program, free_port};

/// A client that does what it is told and nothing else.
struct Raw(TcpStream);

impl Raw {
    fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(stream)
    }

    /// Connects as MQTT 3.1.1; answers CONNACK's two bytes.
    fn connect(port: u16, id: &str, clean: bool) -> (Self, [u8; 2]) {
        Self::connect_with(port, id, if clean { 2 } else { 0 }, 0, &[])
    }

    fn connect_with(port: u16, id: &str, flags: u8, keep_alive: u16, more: &[&[u8]]) -> (Self, [u8; 2]) {
        let mut body = b"\0\x04MQTT\x04".to_vec();
        body.push(flags);
        body.extend(keep_alive.to_be_bytes());
        for text in [id.as_bytes()].iter().chain(more) {
            body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
            body.extend(*text);
        }
        let mut raw = Self::open(port);
        raw.send(0x10, &body);
        let connack = raw.read(4);
        assert_eq!(connack[..2], [0x20, 2]);
        (raw, [connack[2], connack[3]])
    }

    fn send(&mut self, first: u8, body: &[u8]) {
        let mut packet = vec![first];
        let mut length = body.len();
        loop {
            let more = if length > 127 { 0x80 } else { 0 };
            packet.push(u8::try_from(length & 0x7F).unwrap() | more);
            length >>= 7;
            if length == 0 {
                break;
            }
        }
        packet.extend(body);
        self.0.write_all(&packet).unwrap();
    }

    fn publish(&mut self, topic: &str, id: u16, payload: &[u8]) {
        let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
        body.extend(topic.as_bytes());
        body.extend(id.to_be_bytes());
        body.extend(payload);
        self.send(0x32, &body);
    }

    fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn puback(&mut self) -> u16 {
        let bytes = self.read(4);
        assert_eq!(bytes[..2], [0x40, 2]);
        u16::from_be_bytes([bytes[2], bytes[3]])
    }

    /// Whether the other side closes without a further word.
    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 16]), Ok(0) | Err(_))
    }

    /// Whether nothing comes within a moment (a check that something has not happened needs some time to not happen in).
    fn is_silent(&mut self) -> bool {
        self.0.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let result = self.0.peek(&mut [0; 1]);
        self.0.set_read_timeout(Some(DEADLINE)).unwrap();
        result.is_err_and(|e| matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut))
    }
}

async fn rig() -> (Rig, u16) {
    rig_with(Rig::new(), |_| {}).await
}

async fn rig_with(mut rig: Rig, change: impl FnOnce(&mut BrokerConfig)) -> (Rig, u16) {
    let port = free_port();
    let mut config = listen(port).0;
    change(&mut config);
    rig.start(|context| broker::run(context, config, vec![yard(), face("1026700")]));
    rig.wait_up("site").await;
    (rig, port)
}

fn listening(config: &mut BrokerConfig) -> &mut portero::terminal::ListenConfig {
    match &mut config.endpoint {
        Endpoint::Listen(listen) => listen,
        Endpoint::Connect(_) => unreachable!("the rig listens"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_what_was_confirmed_is_in_the_file() {
    let (mut rig, port) = rig().await;
    let (mut client, connack) = Raw::connect(port, "terminal-1", true);
    assert_eq!(connack, [0, 0]);
    for n in 1..=50 {
        client.publish(YARD_TOPIC, n, &punch(n.into()));
        assert_eq!(client.puback(), n);
        if n % 10 == 0 {
            // Another connection to the same file sees only what is committed.
            let probe = rig.context.journal.stats().await.unwrap();
            assert!(probe.appended >= n.into());
        }
    }
    // Read by a program that knows nothing of the running gateway.
    rig.stop().await;
    let file = rusqlite::Connection::open(&rig.journal_config.path).unwrap();
    let rows: i64 = file.query_row("SELECT count(*) FROM event", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_full_journal_confirms_nothing_until_there_is_room() {
    let (rig, port) = rig_with(Rig::with_max_bytes(600 * 1024), |_| {}).await;
    let (mut client, _) = Raw::connect(port, "terminal-1", false);
    let mut sent = 0u64;
    // Windows of 100, as a terminal would send, until one is not confirmed.
    let full = loop {
        let window: Vec<u64> = (sent + 1..=sent + 100).collect();
        for n in &window {
            client.publish(YARD_TOPIC, u16::try_from(n % 60_000 + 1).unwrap(), &punch(*n));
        }
        sent += 100;
        let mut missing = 100;
        while missing > 0 && !client.is_silent() {
            client.puback();
            missing -= 1;
        }
        if missing > 0 {
            break missing;
        }
        assert!(sent < 100_000, "the journal never fills");
    };
    let held = || async { rig.status("site").is_some_and(|s| matches!(s.state, LinkState::Held(_))) };
    eventually_async("the link says that it is held back", DEADLINE, held).await;
    let confirmed = sent - full;
    assert_eq!(rig.context.journal.stats().await.unwrap().appended, confirmed);
    assert!(client.is_silent(), "nothing is confirmed while the journal refuses");
    // The same journal with more room: a gateway that starts again with a higher limit.
    let mut rig = rig;
    rig.journal_config.max_bytes = 8 << 30;
    let config = listen(port).0;
    rig.restart(|context| broker::run(context, config, vec![yard()])).await;
    rig.wait_up("site").await;
    let (mut client, connack) = Raw::connect(port, "terminal-1", false);
    assert_eq!(connack, [1, 0], "the session is still known");
    for n in confirmed + 1..=sent {
        client.publish(YARD_TOPIC, u16::try_from(n % 60_000 + 1).unwrap(), &punch(n));
    }
    for _ in confirmed + 1..=sent {
        client.puback();
    }
    assert_eq!(rig.sequences().await, (1..=sent).map(sequence).collect());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_repeated_record_is_one_event_and_confirmed_again() {
    let (mut rig, port) = rig().await;
    let (mut client, _) = Raw::connect(port, "terminal-1", true);
    for id in 1..=3 {
        client.publish(YARD_TOPIC, id, &punch(7));
        assert_eq!(client.puback(), id);
    }
    assert_eq!(rig.records().await.len(), 1);
    assert_eq!(rig.status("yard").map(|s| (s.events, s.duplicates)), Some((1, 2)));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_what_can_not_be_used_is_a_fault_and_confirmed() {
    let (mut rig, port) = rig().await;
    let (mut client, _) = Raw::connect(port, "terminal-1", true);
    client.publish(YARD_TOPIC, 1, b"{\"pin\": \"08");
    client.publish("somewhere/else", 2, b"hello");
    client.publish(YARD_TOPIC, 3, &vec![b'x'; 5 << 20]);
    client.publish(YARD_TOPIC, 4, &punch(1));
    for id in 1..=4 {
        assert_eq!(client.puback(), id);
    }
    assert_eq!(rig.faults().await, 3);
    assert_eq!(rig.records().await.len(), 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_a_packet_above_the_limit_closes_the_connection_and_others_flow() {
    let (mut rig, port) = rig_with(Rig::new(), |config| config.max_packet_bytes = 1 << 20).await;
    let (mut other, _) = Raw::connect(port, "terminal-2", true);
    let (mut client, _) = Raw::connect(port, "terminal-1", true);
    // The fixed header alone gives it away: 2 MiB to come.
    client.0.write_all(&[0x32, 0x80, 0x80, 0x80, 0x01]).unwrap();
    assert!(client.is_closed());
    other.publish(YARD_TOPIC, 1, &punch(1));
    assert_eq!(other.puback(), 1);
    eventually_async("the refusal is counted", DEADLINE, || async { rig.faults().await == 1 }).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_clients_beyond_the_bound_are_turned_away() {
    let (mut rig, port) = rig_with(Rig::new(), |config| listening(config).max_clients = 2).await;
    let (first, _) = Raw::connect(port, "a", true);
    let (_second, _) = Raw::connect(port, "b", true);
    assert!(Raw::open(port).is_closed());
    drop(first);
    eventually("room for another client", DEADLINE, || {
        let mut raw = Raw::open(port);
        raw.send(0x10, b"\0\x04MQTT\x04\x02\0\0\0\x01c");
        !raw.is_closed()
    });
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_more_unconfirmed_messages_than_allowed_wait_in_the_socket_and_all_arrive() {
    let (mut rig, port) = rig_with(Rig::new(), |config| listening(config).max_inflight = 10).await;
    let (client, _) = Raw::connect(port, "terminal-1", true);
    let mut reader = Raw(client.0.try_clone().unwrap());
    let writer = std::thread::spawn(move || {
        let mut client = client;
        (1..=2000).for_each(|n| client.publish(YARD_TOPIC, n, &punch(n.into())));
        client
    });
    let confirmed = tokio::task::block_in_place(|| (1..=2000).all(|n| reader.puback() == n));
    assert!(confirmed, "confirmed in order");
    assert_eq!(rig.sequences().await.len(), 2000);
    drop(writer.join().unwrap());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_0_is_journalled_also_from_a_client_that_leaves_at_once() {
    let (mut rig, port) = rig().await;
    for n in 1..=20 {
        let (mut client, _) = Raw::connect(port, "terminal-1", true);
        let mut body = u16::try_from(YARD_TOPIC.len()).unwrap().to_be_bytes().to_vec();
        body.extend(YARD_TOPIC.as_bytes());
        body.extend(punch(n));
        client.send(0x30, &body);
        if n % 2 == 0 {
            client.send(0xE0, &[]);
        }
    }
    rig.wait_events(20).await;
    assert_eq!(rig.sequences().await.len(), 20);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persistent_session_is_known_after_our_restart_with_its_subscriptions() {
    let (mut rig, port) = rig().await;
    let (mut client, connack) = Raw::connect(port, "face-a", false);
    assert_eq!(connack, [0, 0]);
    client.send(0x82, b"\0\x09\0\x11mqtt/face/1026700\x01");
    assert_eq!(client.read(5), [0x90, 3, 0, 9, 1]);
    let (_, clean) = Raw::connect(port, "passer-by", true);
    assert_eq!(clean, [0, 0]);
    let config = listen(port).0;
    rig.restart(|context| broker::run(context, config, vec![yard(), face("1026700")])).await;
    rig.wait_up("site").await;
    let (mut client, connack) = Raw::connect(port, "face-a", false);
    assert_eq!(connack, [1, 0]);
    // It is still subscribed: a PushAck reaches it.
    client.publish("mqtt/face/1026700/Rec", 1, &record("2"));
    assert_eq!(client.puback(), 1);
    assert_eq!(client.read(2)[0], 0x30);
    let (_, connack) = Raw::connect(port, "passer-by", false);
    assert_eq!(connack, [0, 0]);
    // A clean session forgets.
    let (_, connack) = Raw::connect(port, "face-a", true);
    assert_eq!(connack, [0, 0]);
    let (_, connack) = Raw::connect(port, "face-a", false);
    assert_eq!(connack, [0, 0]);
    rig.stop().await;
}

/// A record of a face terminal, as captured.
fn record(id: &str) -> Vec<u8> {
    format!(
        r#"{{"operator":"RecPush","info":{{"customId":"","personId":"3","RecordID":"{id}","VerifyStatus":"1","PersonType":"0","similarity1":"83.000000","Sendintime":1,"facesluiceId":"1026700","time":"2026-04-10 10:00:07","PushType":0}}}}"#
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_face_terminal_hears_push_ack_only_after_the_commit() {
    let (mut rig, port) = rig().await;
    let (mut listener, _) = Raw::connect(port, "1026700", true);
    listener.send(0x82, b"\0\x01\0\x11mqtt/face/1026700\0");
    assert_eq!(listener.read(5), [0x90, 3, 0, 1, 0]);
    let (mut other, _) = Raw::connect(port, "gossip", true);
    other.send(0x82, b"\0\x02\0\x0bmqtt/face/#\0");
    assert_eq!(other.read(5)[4], 0);
    for id in 1..=5u64 {
        let mut body = b"\0\x15mqtt/face/1026700/Rec".to_vec();
        body.extend(record(&id.to_string()));
        listener.send(0x30, &body);
        for client in [&mut listener, &mut other] {
            let header = client.read(2);
            assert_eq!(header[0], 0x30, "only what the gateway says is relayed");
            let message = String::from_utf8(client.read(header[1].into())).unwrap();
            assert!(message.contains("mqtt/face/1026700{") && message.contains("PushAck"), "{message}");
            assert!(message.contains(&format!(r#""SnapOrRecordID":"{id}""#)), "{message}");
        }
        // The answer came after the commit, so the record is there.
        assert!(rig.context.journal.stats().await.unwrap().appended >= id);
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_connect_is_decided_by_user_and_password() {
    let mut rig = Rig::new();
    let secret = rig.dir.path().join("terminal_password");
    std::fs::write(&secret, "s3cret\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let port = free_port();
    let mut config = listen(port).0;
    listening(&mut config).users = vec![("yard".into(), SecretSource::File(secret))];
    listening(&mut config).anonymous = false;
    rig.start(|context| broker::run(context, config, vec![yard()]));
    rig.wait_up("site").await;
    let login = |password: &'static [u8]| Raw::connect_with(port, "t", 0xC2, 0, &[b"yard", password]);
    assert_eq!(login(b"s3cret").1, [0, 0]);
    let (mut refused, connack) = login(b"guess");
    assert_eq!(connack, [0, 4]);
    assert!(refused.is_closed());
    assert_eq!(Raw::connect(port, "t", true).1, [0, 5]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_protocol_refuses_is_refused_as_the_protocol_says() {
    let (mut rig, port) = rig().await;
    // An older and a newer protocol.
    for hello in [&b"\0\x06MQIsdp\x03\x02\0\0\0\x01a"[..], b"\0\x04MQTT\x05\x02\0\0\x05\x11\0\0\0\x0a\0\x01a"] {
        let mut raw = Raw::open(port);
        raw.send(0x10, hello);
        assert_eq!(raw.read(4), [0x20, 2, 0, 1]);
        assert!(raw.is_closed());
    }
    // A persistent session without a name.
    assert_eq!(Raw::connect(port, "", false).1, [0, 2]);
    assert_eq!(Raw::connect(port, "", true).1, [0, 0]);
    // Somebody who means another protocol.
    let mut http = Raw::open(port);
    http.0.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(http.is_closed());
    // QoS 2, a wildcard in a topic name, a second CONNECT.
    let (mut client, _) = Raw::connect(port, "a", true);
    client.send(0x34, b"\0\x01t\0\x01x");
    assert!(client.is_closed());
    let (mut client, _) = Raw::connect(port, "a", true);
    client.publish("a/#", 1, b"x");
    assert!(client.is_closed());
    let (mut client, _) = Raw::connect(port, "a", true);
    client.send(0x10, b"\0\x04MQTT\x04\x02\0\0\0\x01a");
    assert!(client.is_closed());
    // A bad filter gets its failure code, the good one beside it works.
    let (mut client, _) = Raw::connect(port, "a", true);
    client.send(0x82, b"\0\x05\0\x03a+b\x01\0\x03a/+\x02");
    assert_eq!(client.read(6), [0x90, 4, 0, 5, 0x80, 1]);
    client.send(0xA2, b"\0\x06\0\x03a/+");
    assert_eq!(client.read(4), [0xB0, 2, 0, 6]);
    client.send(0xC0, &[]);
    assert_eq!(client.read(2), [0xD0, 0]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_closes_the_older_connection_and_loses_nothing() {
    let (mut rig, port) = rig().await;
    let (mut old, _) = Raw::connect(port, "terminal-1", false);
    for n in 1..=100 {
        old.publish(YARD_TOPIC, n, &punch(n.into()));
    }
    let (mut new, connack) = Raw::connect(port, "terminal-1", false);
    assert_eq!(connack, [1, 0]);
    let mut confirmed = 0;
    let mut bytes = [0; 4];
    while old.0.read_exact(&mut bytes).is_ok() {
        assert_eq!(bytes[0], 0x40);
        confirmed += 1;
    }
    assert!(rig.context.journal.stats().await.unwrap().appended >= confirmed);
    for n in 1..=100 {
        new.publish(YARD_TOPIC, n, &punch(n.into()));
        assert_eq!(new.puback(), n);
    }
    assert_eq!(rig.sequences().await.len(), 100);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_is_dropped_and_its_will_says_that_the_terminal_is_offline() {
    let (mut rig, port) = rig().await;
    let online = br#"{"operator":"Online","info":{"facesluiceId":"1026700"}}"#;
    let offline = br#"{"operator":"Offline","info":{"facesluiceId":"1026700"}}"#;
    let (mut client, _) = Raw::connect_with(port, "1026700", 0x06, 1, &[b"mqtt/face/basic", offline]);
    let state = |online: bool| {
        let device = rig.status("face-1026700").and_then(|s| s.devices.into_iter().find(|d| d.key == "1026700"));
        device.is_some_and(|d| d.online == Some(online))
    };
    client.publish("mqtt/face/basic", 1, online);
    assert_eq!(client.puback(), 1);
    eventually_async("the terminal is online", DEADLINE, || async { state(true) }).await;
    assert!(client.is_closed(), "one and a half times a keep-alive of one second without a word");
    eventually_async("the terminal is offline", DEADLINE, || async { state(false) }).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rumqttc_and_mosquitto_pub_are_served() {
    let (mut rig, port) = rig().await;
    let mut options = rumqttc::MqttOptions::new("rumqttc", "127.0.0.1", port);
    options.set_inflight(50).set_clean_session(false);
    let (client, mut events) = rumqttc::AsyncClient::new(options, 500);
    let sender = tokio::spawn(async move {
        for n in 1..=500u64 {
            client.publish(YARD_TOPIC, rumqttc::QoS::AtLeastOnce, false, punch(n)).await.unwrap();
        }
        client
    });
    let mut confirmed = 0;
    while confirmed < 500 {
        let event = tokio::time::timeout(DEADLINE, events.poll()).await.unwrap().unwrap();
        confirmed += usize::from(matches!(event, rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_))));
    }
    drop(sender.await.unwrap());
    let mut publisher = Command::new(find_program("mosquitto_pub", &[]))
        .args(["-p", &port.to_string(), "-q", "1", "-l", "-t", YARD_TOPIC])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = publisher.stdin.take().unwrap();
    for n in 501..=1000 {
        stdin.write_all(&punch(n)).unwrap();
        stdin.write_all(b"\n").unwrap();
    }
    drop(stdin);
    let status = tokio::task::block_in_place(|| publisher.wait()).unwrap();
    assert!(status.success());
    assert_eq!(rig.sequences().await, (1..=1000).map(sequence).collect());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_a_port_that_is_taken_is_reported_and_used_once_it_is_free() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut rig = Rig::new();
    let config = listen(port).0;
    rig.start(|context| broker::run(context, config, vec![yard()]));
    let down = || async {
        rig.status("site")
            .is_some_and(|s| matches!(s.state, LinkState::Down(reason) if reason.contains("cannot listen")))
    };
    eventually_async("the taken port is reported", DEADLINE, down).await;
    drop(taken);
    rig.wait_up("site").await;
    assert_eq!(Raw::connect(port, "a", true).1, [0, 0]);
    rig.stop().await;
}

/// The configuration of the journal that these tests rely on.
#[test]
fn the_rig_uses_the_journal_as_the_product_does() {
    assert_eq!(journal::Config::default().dedup_days, 400);
}
