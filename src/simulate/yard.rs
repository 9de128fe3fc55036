//! `mqtt-json`: a fleet of terminals that publish JSON at QoS 1 and send again, with DUP, what was not acknowledged.
//!
//! Must not: send anything before the manifest has it, or have more than a window unconfirmed.

use std::io::Write as _;

use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use super::manifest::{Entry, confirmed_line, sent_line};
use super::mqtt::{Client, Connection, DUP, Heard, encode_publish};
use super::pace::Pace;
use super::people::{iso_millis, somebody};
use super::{Context, Error, Summary, Target};
use crate::event::UtcMicros;

/// Bytes that may wait to be written before no more events are made.
const OUTPUT_BYTES: usize = 128 << 10;

/// How long after a stop unconfirmed events are waited for.
const GRACE: Duration = Duration::from_secs(3);

/// Default topic, `+` stands for the device.
const TOPIC: &str = "site/yard/+/events";

/// Doors of a site.
const DOORS: u32 = 12;

pub(super) async fn run(context: &Context) -> Result<Summary, Error> {
    let connections = context.options.connections.min(context.options.devices);
    let mut tasks = JoinSet::new();
    for index in 0..connections {
        tasks.spawn(Publisher::new(context.clone(), index, connections).run());
    }
    let mut summary = Summary::default();
    while let Some(result) = tasks.join_next().await {
        summary.add(result??);
    }
    Ok(summary)
}

/// A message that waits for its acknowledgement. Its place in the table is its packet id.
#[derive(Default)]
struct Slot {
    frame: Vec<u8>,
    busy: bool,
    device: usize,
    seq: u64,
    at: UtcMicros,
}

struct Device {
    key: String,
    topic: String,
    next_seq: u64,
}

struct Publisher {
    context: Context,
    index: u32,
    devices: Vec<Device>,
    random: fastrand::Rng,
    pace: Pace,
    quota: u64,
    slots: Vec<Slot>,
    /// Where the next message goes; the oldest unconfirmed one is the first busy slot from here on.
    next: usize,
    busy: usize,
    /// Manifest lines of events that have not left yet.
    lines: Vec<u8>,
    confirmations: Vec<u8>,
    time: String,
    payload: Vec<u8>,
    summary: Summary,
    started: Option<Instant>,
}

impl Publisher {
    fn new(context: Context, index: u32, connections: u32) -> Self {
        let options = &context.options;
        let pattern = options.topic.as_deref().unwrap_or(TOPIC);
        let devices = (index..options.devices)
            .step_by(connections as usize)
            .map(|number| {
                let key = match &options.device_id {
                    Some(id) if options.devices == 1 => id.clone(),
                    Some(id) => format!("{id}{number:04}"),
                    None => format!("CJ9D{:05}{number:04}", options.seed % 100_000),
                };
                Device { topic: pattern.replacen('+', &key, 1), key, next_seq: options.first_seq }
            })
            .collect();
        let window = usize::from(options.window);
        Self {
            index,
            devices,
            random: fastrand::Rng::with_seed(options.seed.wrapping_add(u64::from(index) << 40)),
            pace: Pace::new(options.rate / f64::from(connections)),
            quota: context.quota(index, connections),
            slots: std::iter::repeat_with(Slot::default).take(window).collect(),
            next: 0,
            busy: 0,
            lines: Vec::new(),
            confirmations: Vec::new(),
            time: String::new(),
            payload: Vec::new(),
            summary: Summary::default(),
            started: None,
            context,
        }
    }

    async fn run(mut self) -> Result<Summary, Error> {
        let Target::Broker(url) = self.context.options.target.clone() else {
            return Err(Error::Options("mqtt-json goes through a broker: use --broker".to_owned()));
        };
        let client = Client {
            id: format!("portero-sim-{}-{}", self.context.options.seed, self.index),
            persistent: true,
            will: None,
        };
        let shutdown = self.context.shutdown.clone();
        let mut deadline = None;
        loop {
            let connection = tokio::select! {
                connection = Connection::open_patiently(&url, &client) => connection,
                () = shutdown.cancelled() => break,
            };
            match self.session(connection, &mut deadline).await? {
                Some(connection) => {
                    connection.close().await;
                    break;
                }
                None => tracing::debug!("the broker went away, connecting again"),
            }
        }
        if let Some(started) = self.started {
            self.summary.seconds = started.elapsed().as_secs_f64();
        }
        Ok(self.summary)
    }

    /// Works until everything is done (then the connection comes back) or the connection breaks.
    async fn session(
        &mut self,
        mut connection: Connection,
        deadline: &mut Option<Instant>,
    ) -> Result<Option<Connection>, Error> {
        self.repeat(&mut connection);
        loop {
            if self.context.shutdown.is_cancelled() && deadline.is_none() {
                *deadline = Some(Instant::now() + GRACE);
            }
            let stopping = deadline.is_some();
            if !stopping {
                self.make(&mut connection)?;
            }
            let done = self.busy == 0 && (stopping || self.quota == 0);
            if done || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Some(connection));
            }
            let waits_for_pace = !stopping && self.quota > 0 && !self.slots[self.next].busy;
            let until = match deadline {
                Some(deadline) => *deadline,
                None if waits_for_pace => self.pace.next().max(Instant::now()),
                None => Instant::now() + Duration::from_secs(1),
            };
            let until = if connection.output.is_empty() { until } else { until.max(Instant::now() + GRACE) };
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

    /// Puts every unconfirmed message into a new connection, the oldest first, marked as sent again.
    fn repeat(&mut self, connection: &mut Connection) {
        let window = self.slots.len();
        for place in (self.next..window).chain(0..self.next) {
            let slot = &mut self.slots[place];
            if slot.busy {
                slot.frame[0] |= DUP;
                connection.output.extend_from_slice(&slot.frame);
                self.summary.resent += 1;
            }
        }
    }

    /// Makes the events that are due and for which there is room, and writes them down before they may leave.
    fn make(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let now = self.context.clock.now().wall;
        while self.quota > 0
            && !self.slots[self.next].busy
            && connection.output.len() < OUTPUT_BYTES
            && self.pace.due().is_some()
        {
            self.pace.made();
            self.event(now);
            connection.output.extend_from_slice(&self.slots[self.next].frame);
            self.next = (self.next + 1) % self.slots.len();
            self.busy += 1;
            self.quota -= 1;
            self.summary.sent += 1;
        }
        if self.started.is_none() && self.summary.sent > 0 {
            self.started = Some(Instant::now());
        }
        self.context.manifest.sent(&mut self.lines)
    }

    /// Makes one event in the slot that is next.
    fn event(&mut self, now: UtcMicros) {
        let seed = self.context.options.seed;
        let random = &mut self.random;
        let person = somebody(random, seed);
        let place = random.usize(0..self.devices.len());
        let device = &mut self.devices[place];
        let seq = device.next_seq;
        device.next_seq += 1;
        let direction = if random.bool() { "in" } else { "out" };
        let verify = ["fp", "face", "card", "pin"][random.usize(0..4)];
        let door = random.u32(0..DOORS);
        let zone = self.context.options.zone.as_ref().map(|_| &self.context.zone);
        iso_millis(now, zone, &mut self.time);
        self.payload.clear();
        // Writing into memory can't fail.
        let _ = write!(
            self.payload,
            r#"{{"event_id":"{key}-{seq:010}","sn":"{key}","pin":"{pin:06}","ts":"{ts}","dir":"{direction}","#,
            key = device.key,
            pin = person.id,
            ts = self.time,
        );
        let _ = write!(
            self.payload,
            r#""verify":"{verify}","site":"SITE-0001","door":{door},"card":"{card:010}","seq":{seq},"t_us":{us}}}"#,
            card = person.card,
            us = now.0,
        );
        if self.context.manifest.is_kept() {
            let entry = Entry {
                device_key: &device.key,
                device_time_raw: Some(&self.time),
                native_seq: Some(&format!("{}-{seq:010}", device.key)),
                person: Some(&format!("{:06}", person.id)),
                card: Some(&format!("{:010}", person.card)),
            };
            sent_line(&entry, now, &mut self.lines);
        }
        let slot = &mut self.slots[self.next];
        // The window is at most 65535, so the place plus one is a packet id.
        encode_publish(&device.topic, (self.next + 1) as u16, &self.payload, &mut slot.frame);
        (slot.busy, slot.device, slot.seq, slot.at) = (true, place, seq, now);
    }

    fn listen(&mut self, connection: &mut Connection) -> std::io::Result<()> {
        let kept = self.context.manifest.is_kept();
        let now = self.context.clock.now().wall;
        while let Some(heard) = connection.take()? {
            let Heard::Ack(packet_id) = heard else { continue };
            let Some(slot) = usize::from(packet_id).checked_sub(1).and_then(|place| self.slots.get_mut(place)) else {
                continue;
            };
            if !std::mem::take(&mut slot.busy) {
                continue; // the second acknowledgement of a message that was sent twice
            }
            self.busy -= 1;
            self.summary.confirmed += 1;
            if kept {
                let zone = self.context.options.zone.as_ref().map(|_| &self.context.zone);
                iso_millis(slot.at, zone, &mut self.time);
                let key = &self.devices[slot.device].key;
                let seq = format!("{key}-{:010}", slot.seq);
                confirmed_line(key, Some(&self.time), &seq, now, &mut self.confirmations);
            }
        }
        Ok(())
    }
}
