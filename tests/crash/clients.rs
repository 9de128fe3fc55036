//! Clients that offer records under load and keep an account of what was offered and what was confirmed.
//!
//! Must not: know anything of the gateway but its port.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "part of a test")]

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
use tokio_util::sync::CancellationToken;

/// Native sequences that were offered, and those whose PUBACK arrived.
#[derive(Default, Clone)]
pub struct Account {
    pub offered: Arc<Mutex<BTreeSet<String>>>,
    pub confirmed: Arc<Mutex<BTreeSet<String>>>,
}

impl Account {
    pub fn counts(&self) -> (usize, usize) {
        (self.offered.lock().unwrap().len(), self.confirmed.lock().unwrap().len())
    }
}

/// The yard terminal's payload.
pub fn payload(serial: &str, seq: u64) -> String {
    let now = jiff::Timestamp::now();
    format!(
        r#"{{"event_id":"{serial}-{seq:010}","sn":"{serial}","pin":"{:06}","ts":"{:.3}","dir":"{}","verify":"fp","site":"SITE-0001","door":11,"card":"{:010}","seq":{seq}}}"#,
        seq % 5000,
        now,
        if seq.is_multiple_of(2) { "out" } else { "in" },
        seq % 5000
    )
}

/// A persistent QoS 1 publisher on rumqttc that offers about `rate` records a second until `stop`, then waits until all
/// of them are confirmed.
pub async fn rumqttc_publisher(port: u16, serial: String, rate: u64, account: Account, stop: CancellationToken) {
    let mut options = MqttOptions::new(format!("load-{serial}"), "127.0.0.1", port);
    options.set_clean_session(false).set_inflight(100).set_keep_alive(Duration::from_secs(10));
    let (client, mut eventloop) = AsyncClient::new(options, 200);
    let topic = format!("site/yard/{serial}/events");
    // Requests leave in the order in which they were made; the first `Outgoing::Publish` of a packet id names the record.
    let queue: Arc<Mutex<VecDeque<String>>> = Arc::default();
    let offering = {
        let (queue, account, stop, serial, topic) =
            (queue.clone(), account.clone(), stop.clone(), serial.clone(), topic.clone());
        let client = client.clone();
        async move {
            let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / rate));
            let mut seq = 0;
            while !stop.is_cancelled() {
                tick.tick().await;
                // Half of the client's window: rumqttc 0.25 can lose its way (bytebeamio/rumqtt#1056) when a packet id
                // comes round while it is still unconfirmed, which a reconnect with a full window brings about.
                let (offered, confirmed) = account.counts();
                if offered - confirmed >= 50 {
                    continue;
                }
                seq += 1;
                let native = format!("{serial}-{seq:010}");
                account.offered.lock().unwrap().insert(native.clone());
                queue.lock().unwrap().push_back(native);
                if client.publish(&topic, QoS::AtLeastOnce, false, payload(&serial, seq)).await.is_err() {
                    return;
                }
            }
        }
    };
    let polling = async {
        let mut packets: HashMap<u16, String> = HashMap::new();
        loop {
            match eventloop.poll().await {
                Ok(Event::Outgoing(Outgoing::Publish(id))) => {
                    if let std::collections::hash_map::Entry::Vacant(free) = packets.entry(id)
                        && let Some(native) = queue.lock().unwrap().pop_front()
                    {
                        free.insert(native);
                    }
                }
                Ok(Event::Incoming(Packet::PubAck(ack))) => {
                    if let Some(native) = packets.remove(&ack.pkid) {
                        account.confirmed.lock().unwrap().insert(native);
                    }
                }
                Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                    assert!(
                        connack.session_present || account.counts().1 == 0,
                        "the broker forgot a persistent session that it had confirmed records of"
                    );
                }
                Ok(_) => {}
                // The gateway is down: a real device, too, tries again after a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            let (offered, confirmed) = account.counts();
            if stop.is_cancelled() && offered == confirmed {
                return;
            }
        }
    };
    tokio::join!(offering, polling);
}

/// The same played by paho-mqtt, in a process of its own.
pub struct Paho {
    child: Child,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Paho {
    pub fn start(port: u16, serial: &str, rate: u32, account: Account) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash/paho_publisher.py");
        // Debian's own interpreter: that is where the package python3-paho-mqtt (`make deps`) puts the module.
        let mut child = Command::new("/usr/bin/python3")
            .args([script, &port.to_string(), &format!("paho-{serial}"), serial, &rate.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is missing: run `make deps`");
        let lines = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                match line.split_once(' ') {
                    Some(("O", native)) => drop(account.offered.lock().unwrap().insert(native.to_owned())),
                    Some(("C", native)) => drop(account.confirmed.lock().unwrap().insert(native.to_owned())),
                    _ => panic!("unexpected line from paho: {line}"),
                }
            }
        });
        Self { child, reader: Some(reader) }
    }

    /// Stops offering and waits until everything is confirmed.
    pub fn finish(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        assert!(status.success(), "paho ended with {status}: is python3-paho-mqtt installed? run `make deps`");
    }
}

impl Drop for Paho {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
