//! `mqtt-face`: face terminals that keep a log, push one record after the other and send each again until PushAck.
//!
//! Must not: send anything before the manifest has it, or forget a record that was not acknowledged.

use std::collections::VecDeque;

use base64::Engine as _;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck, Publish, Subscribe};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use super::manifest::{Entry, confirmed_line, sent_line};
use super::mqtt::{Client, Connection, Heard};
use super::pace::Pace;
use super::people::{Person, plain_seconds, somebody};
use super::{Context, Error, Summary, Target};
use crate::event::UtcMicros;

/// Records that a terminal keeps for a gateway that doesn't acknowledge; then nobody gets in any more.
const LOG_RECORDS: usize = 50_000;

/// Bytes that may wait to be written before no further record is pushed.
const OUTPUT_BYTES: usize = 256 << 10;

/// Heartbeats of the vendor's document.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How old a record may be to count as live (vendor's document: 10 s).
const LIVE_MICROS: i64 = 10_000_000;

/// How long after a stop unacknowledged records are waited for.
const GRACE: Duration = Duration::from_secs(3);

/// Key of the first device unless one is given: that of the capture which the protocol was learned from.
const FIRST_DEVICE: u64 = 1_026_700;

pub(super) async fn run(context: &Context) -> Result<Summary, Error> {
    let devices = context.options.devices;
    let mut tasks = JoinSet::new();
    for index in 0..devices {
        tasks.spawn(Terminal::new(context.clone(), index).run());
    }
    let mut summary = Summary::default();
    while let Some(result) = tasks.join_next().await {
        summary.add(result??);
    }
    Ok(summary)
}

struct Record {
    id: u64,
    person: Person,
    at: UtcMicros,
    refused: bool,
}

struct Terminal {
    context: Context,
    key: String,
    random: fastrand::Rng,
    pace: Pace,
    quota: u64,
    next_id: u64,
    /// Records that were not pushed on this connection, oldest first.
    fresh: VecDeque<Record>,
    /// Records that were pushed and not acknowledged, with the time of the last push, which they are in order of.
    waiting: VecDeque<(Instant, Record)>,
    summary: Summary,
    started: Option<Instant>,
    lines: Vec<u8>,
    confirmations: Vec<u8>,
}

impl Terminal {
    fn new(context: Context, index: u32) -> Self {
        let options = &context.options;
        let key = match &options.device_id {
            Some(id) if options.devices == 1 => id.clone(),
            Some(id) => id.parse::<u64>().map_or_else(
                |_| format!("{id}{index:04}"),
                |number| (number.saturating_add(u64::from(index))).to_string(),
            ),
            None => (FIRST_DEVICE + u64::from(index)).to_string(),
        };
        Self {
            key,
            random: fastrand::Rng::with_seed(options.seed.wrapping_add(u64::from(index) << 40)),
            pace: Pace::new(options.rate / f64::from(options.devices)),
            quota: context.quota(index, options.devices),
            next_id: options.first_seq,
            fresh: VecDeque::new(),
            waiting: VecDeque::new(),
            summary: Summary::default(),
            started: None,
            lines: Vec::new(),
            confirmations: Vec::new(),
            context,
        }
    }

    async fn run(mut self) -> Result<Summary, Error> {
        let Target::Broker(url) = self.context.options.target.clone() else {
            return Err(Error::Options("mqtt-face goes through a broker: use --broker".to_owned()));
        };
        let will = json!({ "operator": "Offline", "info": { "facesluiceId": self.key } });
        let client = Client {
            id: format!("face-{}", self.key),
            persistent: false,
            will: Some(("mqtt/face/basic".to_owned(), will.to_string().into_bytes())),
        };
        let shutdown = self.context.shutdown.clone();
        loop {
            let connection = tokio::select! {
                connection = Connection::open_patiently(&url, &client) => connection,
                () = shutdown.cancelled() => break,
            };
            if let Some(connection) = self.session(connection).await? {
                connection.close().await;
                break;
            }
            // People kept coming; their records go out at the next connection, dated when they came.
            tracing::debug!("the broker went away, connecting again");
        }
        if let Some(started) = self.started {
            self.summary.seconds = started.elapsed().as_secs_f64();
        }
        Ok(self.summary)
    }

    async fn session(&mut self, mut connection: Connection) -> Result<Option<Connection>, Error> {
        let mut subscribe = Subscribe::new(format!("mqtt/face/{}", self.key), QoS::AtLeastOnce);
        subscribe.pkid = 1;
        connection.put(&Packet::Subscribe(subscribe));
        self.publish(&mut connection, "mqtt/face/basic", &self.about("Online"));
        self.summary.resent += self.waiting.len() as u64;
        while let Some((_, record)) = self.waiting.pop_back() {
            self.fresh.push_front(record);
        }
        let mut heartbeat = Instant::now() + HEARTBEAT;
        let mut deadline = None;
        loop {
            let stopping = self.context.shutdown.is_cancelled();
            if stopping {
                deadline.get_or_insert_with(|| Instant::now() + GRACE);
            } else {
                self.make()?;
            }
            self.push(&mut connection);
            if Instant::now() >= heartbeat {
                heartbeat += HEARTBEAT;
                self.publish(&mut connection, "mqtt/face/heartbeat", &self.about("HeartBeat"));
            }
            let done = self.kept() == 0 && (stopping || self.quota == 0);
            if done || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Some(connection));
            }
            let until = self.wake_at(heartbeat).min(deadline.unwrap_or(heartbeat));
            let stepped = tokio::select! {
                stepped = connection.step(until) => stepped,
                () = self.context.shutdown.cancelled(), if !stopping => continue,
            };
            if stepped.is_err() || self.listen(&mut connection).is_err() {
                self.context.manifest.confirmed(&mut self.confirmations)?;
                return Ok(None);
            }
            self.context.manifest.confirmed(&mut self.confirmations)?;
        }
    }

    /// When something is to be done even if nothing is heard.
    fn wake_at(&self, heartbeat: Instant) -> Instant {
        let mut at = heartbeat;
        if self.may_make() {
            at = at.min(self.pace.next());
        }
        if let Some((pushed, _)) = self.waiting.front() {
            at = at.min(*pushed + self.resend_after());
        }
        at
    }

    /// Whether there is room for another record in the terminal's log.
    fn may_make(&self) -> bool {
        let room = if self.pace.is_unlimited() { usize::from(self.context.options.window) } else { LOG_RECORDS };
        self.quota > 0 && self.kept() < room && (self.kept() == 0 || !self.wipe_is_due())
    }

    /// Records in the log.
    fn kept(&self) -> usize {
        self.fresh.len() + self.waiting.len()
    }

    fn resend_after(&self) -> Duration {
        Duration::from_secs_f64(self.context.options.resend_seconds)
    }

    /// Whether the log is to be wiped before the next record. It is wiped only when everything in it was acknowledged, as
    /// a careful operator does: an acknowledgement of the old number 1 must not meet the new one.
    fn wipe_is_due(&self) -> bool {
        let made = self.next_id - self.context.options.first_seq;
        self.context.options.wipe_after.is_some_and(|after| made >= after.max(1))
    }

    /// People come by, also those who came while there was no connection.
    fn make(&mut self) -> Result<(), Error> {
        while self.may_make() {
            let Some(late) = self.pace.due() else { break };
            if self.wipe_is_due() {
                self.next_id = self.context.options.first_seq;
            }
            self.pace.made();
            let now = self.context.clock.now().wall;
            // Lateness is bounded by the run, far below 2^63 µs.
            let at = UtcMicros(now.0.saturating_sub(i64::try_from(late.as_micros()).unwrap_or(0)));
            let person = somebody(&mut self.random, self.context.options.seed);
            let record = Record { id: self.next_id, person, at, refused: self.random.u8(0..20) == 0 };
            self.next_id += 1;
            self.quota -= 1;
            self.summary.sent += 1;
            self.started.get_or_insert_with(Instant::now);
            if self.context.manifest.is_kept() {
                let mut time = String::new();
                plain_seconds(record.at, &self.context.zone, &mut time);
                let entry = Entry {
                    device_key: &self.key,
                    device_time_raw: Some(&time),
                    native_seq: Some(&record.id.to_string()),
                    person: Some(&person.id.to_string()),
                    card: None,
                };
                sent_line(&entry, now, &mut self.lines);
            }
            self.fresh.push_back(record);
        }
        self.context.manifest.sent(&mut self.lines)
    }

    /// Pushes again what was not acknowledged in time, then what is new, as far as the connection takes it.
    fn push(&mut self, connection: &mut Connection) {
        let now = Instant::now();
        let again = self.resend_after();
        let topic = format!("mqtt/face/{}/Rec", self.key);
        while connection.output.len() < OUTPUT_BYTES {
            let late = self.waiting.front().is_some_and(|(pushed, _)| now >= *pushed + again);
            let record = if late {
                self.summary.resent += 1;
                self.waiting.pop_front().map(|(_, record)| record)
            } else {
                self.fresh.pop_front()
            };
            let Some(record) = record else { break };
            self.publish(connection, &topic, &self.rec_push(&record));
            self.waiting.push_back((now, record));
        }
    }

    /// The RecPush of a record. Spellings and types vary as they do between firmwares.
    fn rec_push(&self, record: &Record) -> serde_json::Value {
        let mut time = String::new();
        plain_seconds(record.at, &self.context.zone, &mut time);
        let live = self.context.clock.now().wall.0.saturating_sub(record.at.0) <= LIVE_MICROS;
        let mut own = fastrand::Rng::with_seed(self.context.options.seed ^ record.id);
        let mut info = json!({
            "customId": if own.bool() { "" } else { " " },
            "personId": record.person.id.to_string(),
            "RecordID": record.id.to_string(),
            "VerifyStatus": if record.refused { "2" } else { "1" },
            "PersonType": "0",
            "similarity1": format!("{}.000000", own.u32(80..100)),
            "Sendintime": u8::from(live),
            "direction": if own.bool() { "entr" } else { "exit" },
            "facesluiceId": self.key,
            "time": time,
        });
        info["PushType"] = if own.bool() { json!(0) } else { json!("0") };
        info[if own.bool() { "personName" } else { "persionName" }] = json!(format!("Persona {}", record.person.id));
        let bytes = self.context.options.picture_bytes;
        if bytes > 0 {
            let picture: Vec<u8> = std::iter::repeat_with(|| own.u8(..)).take(bytes).collect();
            let text = base64::engine::general_purpose::STANDARD.encode(picture);
            info["pic"] = json!(format!("data:image/jpeg;base64,{text}"));
        }
        json!({ "operator": "RecPush", "info": info })
    }

    fn about(&self, operator: &str) -> serde_json::Value {
        let mut time = String::new();
        plain_seconds(self.context.clock.now().wall, &self.context.zone, &mut time);
        json!({ "operator": operator, "info": { "facesluiceId": self.key, "time": time } })
    }

    fn publish(&self, connection: &mut Connection, topic: &str, payload: &serde_json::Value) {
        connection.put(&Packet::Publish(Publish::new(topic, QoS::AtMostOnce, payload.to_string())));
    }

    fn listen(&mut self, connection: &mut Connection) -> std::io::Result<()> {
        while let Some(heard) = connection.take()? {
            let Heard::Packet(Packet::Publish(publish)) = heard else { continue };
            if publish.qos != QoS::AtMostOnce {
                connection.put(&Packet::PubAck(PubAck::new(publish.pkid)));
            }
            let Some(id) = acknowledged(&publish.payload) else { continue };
            let Some(place) = self.waiting.iter().position(|(_, record)| record.id == id) else { continue };
            let Some((_, record)) = self.waiting.remove(place) else { continue };
            self.summary.confirmed += 1;
            if self.context.manifest.is_kept() {
                let mut time = String::new();
                plain_seconds(record.at, &self.context.zone, &mut time);
                let now = self.context.clock.now().wall;
                confirmed_line(&self.key, Some(&time), &id.to_string(), now, &mut self.confirmations);
            }
        }
        Ok(())
    }
}

/// The record that a PushAck for persons acknowledges.
fn acknowledged(payload: &[u8]) -> Option<u64> {
    let message: serde_json::Value = serde_json::from_slice(payload).ok()?;
    if message.get("operator")?.as_str()? != "PushAck" {
        return None;
    }
    let info = message.get("info")?;
    let number = |name: &str| {
        let value = info.get(name)?;
        value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
    };
    if number("PushAckType")? != 2 {
        return None;
    }
    number("SnapOrRecordID")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_ack_is_understood_with_number_or_text() {
        let ack = |id: &str| format!(r#"{{"operator":"PushAck","info":{{"PushAckType":2,"SnapOrRecordID":{id}}}}}"#);
        assert_eq!(acknowledged(ack("17").as_bytes()), Some(17));
        assert_eq!(acknowledged(ack("\"17\"").as_bytes()), Some(17));
        assert_eq!(acknowledged(br#"{"operator":"PushAck","info":{"PushAckType":1,"SnapOrRecordID":17}}"#), None);
        assert_eq!(acknowledged(b"nonsense"), None);
    }
}
