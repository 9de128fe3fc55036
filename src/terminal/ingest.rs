//! What every link shares: its terminals, their decoders, and the way from a step to a journal entry.
//!
//! Must not: know a transport, confirm anything, or do work per event that could be done per batch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::{Devices, Slot};
use super::hub::Hub;
use super::topic::MAX_TOPIC_BYTES;
use crate::clock::Now;
use crate::decode::{Decoder, Destination, Input, Receipt, Status, Step, scrub};
use crate::event::{Fault, FaultKind, Identity, Reading, UtcMicros};
use crate::journal::{Entry, Prepared, Redelivery};

/// Topics whose terminals are remembered per connection; at the bound the memory starts anew.
const MAX_ROUTES: usize = 4_096;

/// How much of a refused payload is digested, bytes: a digest of megabytes would hold up everybody else.
const DIGESTED_BYTES: usize = 64 * 1024;

/// Locks, also after a panic elsewhere: what these locks guard is status, never truth.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One message of a broker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    /// The topic.
    pub(crate) topic: &'a str,
    /// The payload.
    pub(crate) payload: &'a [u8],
    /// Session, packet id and DUP flag, at QoS 1.
    pub(crate) delivery: Option<(&'a str, u16, bool)>,
}

/// Entries that go to the journal together, and what is to happen once they are there.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The entries.
    pub(crate) entries: Vec<Entry>,
    /// For each entry its terminal and its device, for the counters.
    pub(crate) marks: Vec<(Option<usize>, Option<Slot>)>,
    /// What decoders want to hear about.
    pub(crate) receipts: Vec<(usize, Receipt)>,
    /// Packet ids to acknowledge, in order of arrival, each with the epoch of its connection.
    pub(crate) acks: Vec<(u64, u16)>,
    /// Messages in it.
    pub(crate) messages: usize,
    /// Bytes of input in it.
    pub(crate) bytes: usize,
    /// When the last of it was heard.
    pub(crate) heard: UtcMicros,
}

impl Batch {
    /// Nothing to append and nothing to confirm.
    pub(crate) const fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.acks.is_empty() && self.receipts.is_empty()
    }

    /// Adds a fault.
    pub(crate) fn fault(&mut self, hub: &Hub, terminal: Option<usize>, device_key: String, fault: Fault, at: Now) {
        let source = terminal.map(|t| hub.terminals[t].source);
        tracing::debug!(terminal = terminal.map(|t| hub.terminals[t].name()), reason = fault.kind.as_str(), "fault");
        self.entries.push(Entry::Fault { source, device_key, fault, at });
        self.marks.push((terminal, None));
        self.heard = at.wall;
    }
}

/// Something for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// Where to.
    pub(crate) to: Destination,
}

/// The terminals that a topic goes to, each with the text that the wildcards stood for.
type Routes = Arc<[(usize, Option<String>)]>;

/// The decoders of one connection (or one serial line), and the way from bytes to a [`Batch`].
pub(crate) struct Feed {
    hub: Arc<Hub>,
    decoders: Vec<Option<Box<dyn Decoder>>>,
    steps: Vec<Step>,
    random: fastrand::Rng,
    routes: HashMap<String, Routes>,
    last: Option<(String, Routes)>,
    /// What decoders want to send; the link takes it.
    pub(crate) outgoing: Vec<Outgoing>,
}

impl Feed {
    /// A feed whose decoders have heard nothing.
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        let decoders = hub.terminals.iter().map(|_| None).collect();
        Self {
            hub,
            decoders,
            steps: Vec::new(),
            random: fastrand::Rng::new(),
            routes: HashMap::new(),
            last: None,
            outgoing: Vec::new(),
        }
    }

    fn decoder(&mut self, terminal: usize) -> &mut dyn Decoder {
        // Built when it is first needed: a client speaks for one or two of many terminals.
        self.decoders[terminal].get_or_insert_with(|| self.hub.terminals[terminal].decoder.build()).as_mut()
    }

    /// Takes a message: what it means is in `batch` afterwards, also if it means nothing.
    pub(crate) fn message(&mut self, now: Now, message: Message<'_>, batch: &mut Batch) {
        batch.messages += 1;
        batch.bytes += message.payload.len();
        let routes = self.route(message.topic);
        if routes.is_empty() {
            self.unclaimed(now, message, batch);
        }
        for (terminal, key) in routes.iter() {
            let limit = self.hub.terminals[*terminal].max_payload;
            if message.payload.len() > limit {
                let fault = too_long(message.payload, limit);
                let device = self.fault_key(*terminal, key.as_deref());
                batch.fault(&self.hub, Some(*terminal), device, fault, now);
                continue;
            }
            let mut steps = std::mem::take(&mut self.steps);
            let input = Input::Message { topic: message.topic, payload: message.payload };
            self.decoder(*terminal).feed(now.boot, input, &mut steps);
            self.absorb(*terminal, key.as_deref(), now, Some(message), &mut steps, batch);
            self.steps = steps;
        }
    }

    /// Whether some terminal claims this topic.
    pub(crate) fn claims(&mut self, topic: &str) -> bool {
        !self.route(topic).is_empty()
    }

    /// Takes bytes of a stream, for the only terminal of the link.
    pub(crate) fn bytes(&mut self, now: Now, bytes: &[u8], batch: &mut Batch) {
        batch.bytes += bytes.len();
        self.step(now, batch, |decoder, steps| decoder.feed(now.boot, Input::Bytes(bytes), steps));
    }

    /// Time passes on a stream.
    pub(crate) fn tick(&mut self, now: Now, batch: &mut Batch) {
        self.step(now, batch, |decoder, steps| decoder.tick(now.boot, steps));
    }

    /// The stream broke off.
    pub(crate) fn interrupted(&mut self, now: Now, batch: &mut Batch) {
        self.step(now, batch, |decoder, steps| decoder.interrupted(now.boot, steps));
    }

    /// The last presence on disk, for readers.
    pub(crate) fn seed(&mut self, credential: &str, at: crate::event::BootTime) {
        self.decoder(0).seed(credential, at);
    }

    fn step(&mut self, now: Now, batch: &mut Batch, run: impl FnOnce(&mut dyn Decoder, &mut Vec<Step>)) {
        let mut steps = std::mem::take(&mut self.steps);
        run(self.decoder(0), &mut steps);
        self.absorb(0, None, now, None, &mut steps, batch);
        self.steps = steps;
    }

    /// These are on disk: decoders may now say "you may clear it" (I1).
    pub(crate) fn committed(&mut self, receipts: &[(usize, Receipt)]) {
        for (terminal, receipt) in receipts {
            let mut steps = std::mem::take(&mut self.steps);
            self.decoder(*terminal).committed(receipt, &mut steps);
            for step in steps.drain(..) {
                if let Step::Send(bytes, to) = step {
                    self.outgoing.push(Outgoing { bytes, to });
                }
            }
            self.steps = steps;
        }
    }

    fn route(&mut self, topic: &str) -> Routes {
        if let Some((last, routes)) = &self.last
            && last == topic
        {
            return Arc::clone(routes);
        }
        let routes = match self.routes.get(topic) {
            Some(routes) => Arc::clone(routes),
            None => {
                let routes: Routes = self.hub.claimants(topic).into();
                if self.routes.len() >= MAX_ROUTES {
                    self.routes.clear();
                }
                if topic.len() <= MAX_TOPIC_BYTES {
                    self.routes.insert(topic.to_owned(), Arc::clone(&routes));
                }
                routes
            }
        };
        self.last = Some((topic.to_owned(), Arc::clone(&routes)));
        routes
    }

    fn unclaimed(&self, now: Now, message: Message<'_>, batch: &mut Batch) {
        let kept = &message.payload[..message.payload.len().min(DIGESTED_BYTES)];
        let topic = scrub::excerpt(message.topic.as_bytes());
        let detail = format!("no terminal of the configuration claims topic {topic}");
        let mut fault = scrub::fault(FaultKind::Unclaimed, detail, kept, None);
        fault.length = message.payload.len() as u64;
        batch.fault(&self.hub, None, String::new(), fault, now);
    }

    fn absorb(
        &mut self,
        terminal: usize,
        key: Option<&str>,
        now: Now,
        message: Option<Message<'_>>,
        steps: &mut Vec<Step>,
        batch: &mut Batch,
    ) {
        for step in steps.drain(..) {
            match step {
                Step::Events(readings, receipt) => {
                    self.events(terminal, key, now, message, readings, batch);
                    if let Some(receipt) = receipt {
                        batch.receipts.push((terminal, receipt));
                    }
                }
                Step::Send(bytes, to) => self.outgoing.push(Outgoing { bytes, to }),
                Step::Fault(fault) => {
                    let device = self.fault_key(terminal, key);
                    batch.fault(&self.hub, Some(terminal), device, fault, now);
                }
                Step::Status(device, status) => self.status(terminal, device.as_deref(), key, &status, now),
                Step::Frame(_) => {}
            }
        }
    }

    fn events(
        &mut self,
        terminal: usize,
        key: Option<&str>,
        now: Now,
        message: Option<Message<'_>>,
        readings: Vec<Reading>,
        batch: &mut Batch,
    ) {
        let hub = &self.hub;
        let claimed = &hub.terminals[terminal];
        let random = &mut self.random;
        batch.heard = now.wall;
        for reading in readings {
            let redelivery = match (&reading.identity, message) {
                (Identity::None, Some(message)) => redelivery(message),
                _ => None,
            };
            let mut event = claimed.stamp.event(reading, key, now, || {
                let mut bytes = [0; 10];
                random.fill(&mut bytes);
                bytes
            });
            let slot = {
                let mut devices = lock(&hub.devices);
                let slot = devices.heard(terminal, &event.device_key, now.wall);
                devices.sequence(slot, &mut event);
                devices.clock(slot, &event);
                slot
            };
            batch.entries.push(Entry::Event(Prepared::new(&event, claimed.source, redelivery)));
            batch.marks.push((Some(terminal), Some(slot)));
        }
    }

    /// The device that a fault belongs to, as far as the link knows.
    fn fault_key(&self, terminal: usize, topic: Option<&str>) -> String {
        self.hub.terminals[terminal].stamp.device_id.as_deref().or(topic).unwrap_or_default().to_owned()
    }

    fn status(&self, terminal: usize, said: Option<&str>, topic: Option<&str>, status: &Status, now: Now) {
        let stamp = &self.hub.terminals[terminal].stamp;
        let key = said.or(stamp.device_id.as_deref()).or(topic).unwrap_or(&stamp.source.terminal_id);
        let mut devices: MutexGuard<'_, Devices> = lock(&self.hub.devices);
        let slot = devices.heard(terminal, key, now.wall);
        devices.online(slot, *status != Status::Offline);
    }
}

fn redelivery(message: Message<'_>) -> Option<Redelivery> {
    use sha2::{Digest as _, Sha256};
    let (session, packet_id, dup) = message.delivery?;
    let hash = Sha256::new().chain_update(message.topic).chain_update([0]).chain_update(message.payload).finalize();
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash[..16]);
    Some(Redelivery { session: session.to_owned(), packet_id, digest, dup })
}

fn too_long(payload: &[u8], limit: usize) -> Fault {
    let kept = &payload[..payload.len().min(DIGESTED_BYTES)];
    let detail = format!("payload of {} bytes is above this terminal's limit of {limit} bytes", payload.len());
    let mut fault = scrub::fault(FaultKind::TooLong, detail, kept, None);
    fault.length = payload.len() as u64;
    fault
}
