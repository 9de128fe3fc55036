//! One connected client: reads in large pieces, appends what a piece held in one go, acknowledges it with one write.
//!
//! Must not: acknowledge before the batch is on disk (I1), read on while too much is unconfirmed (TCP then holds the
//! client back), or forget what was read when the connection ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use rumqttc::{LastWill, Packet};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Server;
use super::packet::{self, PUBLISH, Publish, Refusal};
use super::registry::Ticket;
use crate::clock::Now;
use crate::decode::{Destination, scrub};
use crate::event::FaultKind;
use crate::terminal::ingest::{Feed, Message};
use crate::terminal::pipeline::{Flown, Pipeline};

/// A read starts with this much room …
const READ_SMALL: usize = 4 * 1024;

/// … and gets this much once a client has shown that it fills it.
const READ_LARGE: usize = 64 * 1024;

/// Above this a read buffer is given back when it is empty.
const READ_KEEP: usize = 256 * 1024;

/// Most bytes that may wait for a client before we stop reading from it.
const MAX_OUTPUT: usize = 256 * 1024;

/// How long the last acknowledgements may take when we close.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// DISCONNECT: no will.
    Orderly,
    /// It is gone.
    Lost(&'static str),
    /// It did what we refuse.
    Refused(Refusal),
    /// Another connection has its client id.
    TakenOver,
    /// The gateway stops.
    Stopping,
}

/// A client after CONNACK.
pub(super) struct Client {
    server: Arc<Server>,
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
    read_size: usize,
    feed: Feed,
    pipeline: Pipeline,
    ticket: Ticket,
    session: String,
    keep_alive: Duration,
    will: Option<LastWill>,
    heard: Instant,
    /// QoS 1 messages that are not acknowledged yet.
    unconfirmed: usize,
    /// A PUBLISH waits in `input` until there is room for it.
    stalled: bool,
}

impl Client {
    /// A client that was accepted; `input` holds what came after its CONNECT.
    pub(super) fn new(
        server: Arc<Server>,
        stream: TcpStream,
        input: BytesMut,
        ticket: Ticket,
        keep_alive: Duration,
        will: Option<LastWill>,
    ) -> Self {
        let (feed, pipeline) = (Feed::new(Arc::clone(&server.hub)), Pipeline::new(Arc::clone(&server.hub)));
        Self {
            session: format!("{}/{}", server.hub.name, ticket.client_id),
            server,
            stream,
            input,
            output: BytesMut::new(),
            read_size: READ_SMALL,
            feed,
            pipeline,
            ticket,
            keep_alive,
            will,
            heard: Instant::now(),
            unconfirmed: 0,
            stalled: false,
        }
    }

    /// Whether its session was known.
    pub(super) const fn session_present(&self) -> bool {
        self.ticket.session_present
    }

    /// Adds bytes for the client.
    pub(super) fn answer(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Serves it to the end.
    pub(super) async fn run(&mut self) {
        let end = self.live().await;
        tracing::debug!(terminal = self.server.hub.name, reason = ?end, "client left");
        if let End::Refused(refusal) = &end {
            self.server.refused(&refusal.to_string());
            if let Refusal::TooLarge(bytes) = refusal {
                self.note_too_large(*bytes);
            }
        }
        self.finish(&end).await;
        self.server.registry.leave(&self.ticket);
    }

    async fn live(&mut self) -> End {
        let shutdown = self.server.hub.context.shutdown.clone().cancelled_owned();
        let taken_over = self.ticket.taken_over.clone().cancelled_owned();
        let alarm = tokio::time::sleep_until(self.deadline());
        tokio::pin!(shutdown, taken_over, alarm);
        loop {
            if let Err(end) = self.parse().await {
                return end;
            }
            self.pipeline.submit();
            if self.flush().is_err() {
                return End::Lost("write failed");
            }
            let reading = self.wants_input();
            tokio::select! {
                ready = self.stream.readable(), if reading => {
                    if ready.is_err() || !self.read() {
                        return End::Lost("connection closed");
                    }
                }
                flown = self.pipeline.next() => {
                    if !self.confirm(&flown) {
                        return End::Stopping;
                    }
                }
                ready = self.stream.writable(), if !self.output.is_empty() => {
                    if ready.is_err() {
                        return End::Lost("write failed");
                    }
                }
                Some(message) = self.ticket.outbox.recv(), if self.output.len() < MAX_OUTPUT => self.answer(&message),
                () = &mut alarm, if !self.keep_alive.is_zero() => {
                    // What we don't read can't be held against him.
                    if reading && self.deadline() <= Instant::now() {
                        return End::Lost("keep-alive passed");
                    }
                    let next = self.deadline().max(Instant::now() + Duration::from_secs(1));
                    alarm.as_mut().reset(next);
                }
                () = &mut taken_over => return End::TakenOver,
                () = &mut shutdown => return End::Stopping,
            }
        }
    }

    fn deadline(&self) -> Instant {
        self.heard + self.keep_alive
    }

    /// Whether another PUBLISH may be taken.
    fn has_room(&self) -> bool {
        self.unconfirmed < self.server.max_inflight && self.pipeline.has_room() && self.output.len() < MAX_OUTPUT
    }

    /// While a PUBLISH waits, a little is read on, so that a PINGREQ just behind is at least in sight of the kernel.
    fn wants_input(&self) -> bool {
        !self.stalled || self.input.len() < READ_SMALL
    }

    /// Reads once; `false` if the connection has ended.
    fn read(&mut self) -> bool {
        self.input.reserve(self.read_size);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => false,
            Ok(count) => {
                if count >= self.read_size {
                    self.read_size = READ_LARGE;
                }
                self.heard = Instant::now();
                true
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// Takes every whole packet that there is room for.
    async fn parse(&mut self) -> Result<(), End> {
        if self.input.is_empty() {
            return Ok(());
        }
        let now = self.server.hub.context.clock.now();
        let mut input = std::mem::take(&mut self.input);
        let mut at = 0;
        self.stalled = false;
        let result = loop {
            let header = match packet::header(&input[at..], self.server.max_packet) {
                Ok(Ok(header)) => header,
                Ok(Err(missing)) => {
                    input.advance(at);
                    at = 0;
                    // A large packet gets its room at once instead of by doubling.
                    if missing > self.read_size {
                        input.reserve(missing);
                    }
                    break Ok(());
                }
                Err(refusal) => break Err(End::Refused(refusal)),
            };
            let end = at + header.total;
            if header.kind() == PUBLISH {
                if !self.has_room() {
                    self.stalled = true;
                    break Ok(());
                }
                match packet::publish(&input[at..end], header) {
                    Ok(publish) => self.publish(now, &publish),
                    Err(refusal) => break Err(End::Refused(refusal)),
                }
                at = end;
            } else {
                input.advance(at);
                at = 0;
                let mut frame = input.split_to(header.total);
                if let Err(end) = self.control(&mut frame).await {
                    break Err(end);
                }
            }
        };
        input.advance(at);
        if input.is_empty() && input.capacity() > READ_KEEP {
            input = BytesMut::new();
        }
        self.input = input;
        result
    }

    fn publish(&mut self, now: Now, publish: &Publish<'_>) {
        let delivery = publish.id.map(|id| (self.session.as_str(), id, publish.dup));
        let message = Message { topic: publish.topic, payload: publish.payload, delivery };
        self.feed.message(now, message, &mut self.pipeline.pending);
        if let Some(id) = publish.id {
            self.unconfirmed += 1;
            self.pipeline.pending.acks.push((0, id));
        }
    }

    async fn control(&mut self, frame: &mut BytesMut) -> Result<(), End> {
        let refused = |reason| Err(End::Refused(Refusal::Protocol(reason)));
        let Ok(packet) = Packet::read(frame, self.server.max_packet) else { return refused("a malformed packet") };
        let journal = self.server.hub.context.journal.clone();
        match packet {
            Packet::PingReq => self.answer(&[0xD0, 0]),
            Packet::Disconnect => return Err(End::Orderly),
            Packet::Subscribe(subscribe) => {
                let filters: Vec<_> = subscribe.filters.into_iter().map(|f| (f.path, f.qos as u8)).collect();
                let codes = self.server.registry.subscribe(&journal, &self.ticket, &filters).await;
                let Ok(length) = u8::try_from(codes.len() + 2) else {
                    return refused("a SUBSCRIBE of too many filters");
                };
                if length >= 0x80 {
                    return refused("a SUBSCRIBE of too many filters");
                }
                self.answer(&[0x90, length]);
                self.answer(&subscribe.pkid.to_be_bytes());
                self.answer(&codes);
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.server.registry.unsubscribe(&journal, &self.ticket, &unsubscribe.topics).await;
                self.answer(&[0xB0, 2]);
                self.answer(&unsubscribe.pkid.to_be_bytes());
            }
            // Of what we never sent; harmless.
            Packet::PubAck(_) => {}
            Packet::Connect(_) => return refused("a second CONNECT"),
            _ => return refused("a packet that only a server sends, or of QoS 2"),
        }
        Ok(())
    }

    /// A batch came back; `false` if it is not on disk because the gateway stops.
    fn confirm(&mut self, flown: &Flown) -> bool {
        if !flown.durable {
            return false;
        }
        self.output.reserve(4 * flown.batch.acks.len());
        for (_, id) in &flown.batch.acks {
            packet::put_puback(*id, &mut self.output);
        }
        self.unconfirmed -= flown.batch.acks.len();
        if self.stalled {
            // The silence was ours.
            self.heard = Instant::now();
        }
        self.feed.committed(&flown.batch.receipts);
        for outgoing in std::mem::take(&mut self.feed.outgoing) {
            let Destination::Topic(topic) = outgoing.to else { continue };
            let Some(message) = packet::encode_publish(&topic, outgoing.bytes) else { continue };
            self.send(&topic, &message);
        }
        true
    }

    fn send(&mut self, topic: &str, message: &Bytes) {
        let (own, slow) = self.server.registry.send(&self.ticket, topic, message);
        if own && self.output.len() < MAX_OUTPUT {
            self.answer(message);
        }
        if slow > 0 {
            self.server.refused("a client does not read what it subscribed to");
        }
    }

    /// Writes what the socket takes now.
    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.try_write(&self.output) {
                Ok(count) => self.output.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn note_too_large(&mut self, bytes: usize) {
        let limit = self.server.max_packet;
        let detail = format!("packet of {bytes} bytes is above max_packet_bytes of {limit}; the connection was closed");
        let mut fault = scrub::fault(FaultKind::TooLong, detail, &[], None);
        fault.length = bytes as u64;
        let now = self.server.hub.context.clock.now();
        self.pipeline.pending.fault(&self.server.hub, None, String::new(), fault, now);
    }

    /// The end: what was read goes to the journal, the will speaks, the last acknowledgements leave.
    async fn finish(&mut self, end: &End) {
        let taken_over = self.ticket.taken_over.clone();
        loop {
            // After a refusal nothing that follows can be trusted; else every whole packet still counts.
            if matches!(end, End::Lost(_)) && self.parse().await.is_err() {
                self.stalled = false;
            }
            self.pipeline.submit();
            if self.pipeline.is_idle() && !(self.stalled && matches!(end, End::Lost(_))) {
                break;
            }
            tokio::select! {
                flown = self.pipeline.next() => if !self.confirm(&flown) { return },
                // He is back and sends it again; a journal that refuses must not collect his dead connections.
                () = taken_over.cancelled(), if self.server.hub.is_held() => return,
            }
        }
        let gone = matches!(end, End::Lost(_) | End::TakenOver | End::Refused(_));
        if let Some(will) = self.will.take().filter(|will| gone && self.feed.claims(&will.topic)) {
            let now = self.server.hub.context.clock.now();
            let message = Message { topic: &will.topic, payload: &will.message, delivery: None };
            self.feed.message(now, message, &mut self.pipeline.pending);
            self.pipeline.drain(|_| {}).await;
        }
        let farewell =
            async { while !self.output.is_empty() && self.stream.writable().await.is_ok() && self.flush().is_ok() {} };
        // Also a client that was refused hears what was committed.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}
