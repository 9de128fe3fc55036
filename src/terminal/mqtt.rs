//! A client of a broker: persistent session, QoS 1, acknowledged by hand after commit.
//!
//! Must not: acknowledge before the commit (I1), acknowledge on a connection what came over another one, or leave a
//! message that can't be used unacknowledged (the broker would stop the feed).
//!
//! rumqttc's event loop is polled in this task only. Nothing goes through its request channel: acknowledgements,
//! subscriptions and what goes to terminals are written to its network in one go and flushed once, between two polls.
//! That is what makes tens of thousands of acknowledgements a second possible (a request each would be a system call
//! each), and what makes the poll safe to cancel (only a request taken from the channel could be lost).

pub mod retained;

pub(super) mod session;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use rumqttc::{
    ConnectionError, Event, EventLoop, Incoming, Packet, PubAck, Publish, QoS, Request, SubscribeReasonCode,
};
use tokio::time::Instant;

use super::hub::Hub;
use super::ingest::{Feed, Message};
use super::pipeline::{Flown, Pipeline};
use super::quiet::Quiet;
use super::{BrokerConfig, Config, ConnectConfig, Context, Endpoint, LinkState};
use crate::backoff::Backoff;
use crate::clock::Now;
use crate::decode::Destination;
use crate::journal::Entry;
use crate::progress::{LONGEST_ANSWER, LONGEST_STEP};

/// Reconnecting starts here …
const RECONNECT_BASE: Duration = Duration::from_millis(250);

/// … and is tried at least so often.
const RECONNECT_CAP: Duration = Duration::from_secs(30);

/// A connection that held so long was a good one: the backoff starts anew. A client-id takeover fight doesn't get there.
const GOOD_CONNECTION: Duration = Duration::from_secs(30);

/// How long a write to the broker may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take to come about; the transport itself gives up sooner.
const CONNECTING: Duration = Duration::from_secs(300);

/// How long the broker may take to close the connection after our farewell.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a refused subscription is tried again.
const RESUBSCRIBE: Duration = Duration::from_secs(30);

/// Outages shorter than this are not worth a row: the session at the broker bridges them.
const BLIND_MIN_US: u64 = 1_000_000;

/// Is a client of one broker until the gateway stops. Several terminals share the connection.
pub async fn run(context: Context, broker: BrokerConfig, terminals: Vec<Config>) {
    let Endpoint::Connect(connect) = broker.endpoint else { return };
    let Some(hub) = Hub::open(context, broker.name, true, terminals).await else { return };
    tokio::select! {
        () = hub.keep_house() => {}
        () = stay_connected(&hub, &connect, broker.max_packet_bytes) => {}
    }
    hub.close().await;
}

async fn stay_connected(hub: &Arc<Hub>, connect: &ConnectConfig, max_packet: usize) {
    let mut backoff = Backoff::new(RECONNECT_BASE, RECONNECT_CAP);
    let mut quiet = Quiet::default();
    let options = loop {
        match session::options(connect, max_packet) {
            Ok(options) => break options,
            Err(error) => {
                let reason = error.to_string();
                if quiet.failed(hub.context.clock.now().boot, &reason) {
                    tracing::error!(terminal = hub.name, reason, "broker connection can't be set up");
                }
                hub.set_state(LinkState::Down(reason));
                let delay = backoff.next(None);
                hub.context.mark.within("waiting before the connection is set up again", delay + LONGEST_STEP);
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = hub.context.shutdown.cancelled() => return,
                }
            }
        }
    };
    backoff.reset();
    let mut client = Client::new(Arc::clone(hub), connect, options);
    while !hub.context.shutdown.is_cancelled() {
        let since = Instant::now();
        let Some(reason) = client.connection().await else { break };
        if since.elapsed() > GOOD_CONNECTION {
            backoff.reset();
        }
        client.lost(reason);
        client.wait(backoff.next(None)).await;
    }
    client.stop().await;
}

struct Client {
    hub: Arc<Hub>,
    session: String,
    status_topic: Option<String>,
    keep_alive: Duration,
    events: EventLoop,
    feed: Feed,
    pipeline: Pipeline,
    quiet: Quiet,
    /// Counts connections: an acknowledgement of an earlier one is dropped, its message comes again.
    epoch: u64,
    subscribed: bool,
    resubscribe_at: Option<Instant>,
    blind_since: Option<(Now, String)>,
    /// When the broker last heard us while we were not reading.
    last_ping: Instant,
}

impl Client {
    fn new(hub: Arc<Hub>, connect: &ConnectConfig, options: rumqttc::MqttOptions) -> Self {
        let mut events = EventLoop::new(options, 1);
        let mut network = events.network_options();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        Self {
            session: format!("{}/{}", hub.name, connect.client_id),
            status_topic: connect.status_topic.clone(),
            keep_alive: Duration::from_secs(u64::from(connect.keep_alive_seconds)),
            events,
            feed: Feed::new(Arc::clone(&hub)),
            pipeline: Pipeline::new(Arc::clone(&hub)),
            hub,
            quiet: Quiet::default(),
            epoch: 0,
            subscribed: false,
            resubscribe_at: None,
            blind_since: None,
            last_ping: Instant::now(),
        }
    }

    /// Connects and lives until the connection breaks (with the reason) or the gateway stops (without).
    async fn connection(&mut self) -> Option<String> {
        self.hub.set_state(LinkState::Connecting);
        self.hub.context.mark.within("connecting", CONNECTING);
        let connected = {
            let (poll, pipeline, feed) = (self.events.poll(), &mut self.pipeline, &mut self.feed);
            tokio::pin!(poll);
            loop {
                pipeline.submit();
                tokio::select! {
                    connected = &mut poll => break connected,
                    flown = pipeline.next() => abandon(feed, &flown),
                    () = self.hub.context.shutdown.cancelled() => return None,
                }
            }
        };
        match connected {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                if let Err(error) = self.connected(connack.session_present).await {
                    return Some(session::explain(&error));
                }
            }
            Ok(_) => return Some("the broker did not answer with CONNACK".to_owned()),
            Err(error) => return Some(session::explain(&error)),
        }
        self.live().await
    }

    async fn connected(&mut self, session_present: bool) -> Result<(), ConnectionError> {
        tracing::info!(
            terminal = self.hub.name,
            count = self.quiet.recovered().unwrap_or(0),
            "connected to the broker"
        );
        self.resubscribe_at = None;
        if session_present && self.subscribed {
            self.up();
        } else {
            self.subscribe().await?;
        }
        if let Some(topic) = self.status_topic.clone() {
            self.write(vec![session::status(topic, "online")]).await?;
        }
        self.last_ping = Instant::now();
        Ok(())
    }

    fn up(&mut self) {
        self.hub.set_state(LinkState::Up);
        let Some((from, reason)) = self.blind_since.take() else { return };
        let until = self.hub.context.clock.now();
        if until.boot.micros_since(from.boot) < BLIND_MIN_US {
            return;
        }
        for terminal in &self.hub.terminals {
            let reason = reason.clone();
            self.pipeline.pending.entries.push(Entry::Blind { source: terminal.source, from, until, reason });
            self.pipeline.pending.marks.push((None, None));
        }
        self.pipeline.pending.heard = until.wall;
    }

    async fn subscribe(&mut self) -> Result<(), ConnectionError> {
        let filters = session::filters(&self.hub);
        if filters.is_empty() {
            self.up();
            return Ok(());
        }
        // The state gives it its packet id; one SUBSCRIBE with all filters, so that one SUBACK answers all.
        let request = Request::Subscribe(rumqttc::Subscribe::new_many(filters));
        if let Some(packet) = self.events.state.handle_outgoing_packet(request)? {
            self.write(vec![packet]).await?;
        }
        Ok(())
    }

    async fn live(&mut self) -> Option<String> {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // It ticks, also while nothing comes.
            self.pipeline.mark("waiting for messages");
            self.pipeline.submit();
            tokio::select! {
                event = self.events.poll(), if self.pipeline.has_room() => {
                    if let Err(reason) = self.gather(event) {
                        return Some(reason);
                    }
                }
                flown = self.pipeline.next() => {
                    if let Err(error) = self.confirm(&flown).await {
                        return Some(session::explain(&error));
                    }
                }
                _ = tick.tick() => {
                    if let Err(error) = self.each_second().await {
                        return Some(session::explain(&error));
                    }
                }
                () = self.hub.context.shutdown.cancelled() => return None,
            }
            if let Err(error) = self.send_outgoing().await {
                return Some(session::explain(&error));
            }
        }
    }

    /// Takes an event, and every further one that is there already: no timer, no wake-up per message.
    fn gather(&mut self, first: Result<Event, ConnectionError>) -> Result<(), String> {
        let now = self.hub.context.clock.now();
        let mut next = Some(first);
        while let Some(event) = next.take() {
            self.handle(now, event.map_err(|e| session::explain(&e))?)?;
            while let Some(event) = self.events.state.events.pop_front() {
                self.handle(now, event)?;
            }
            if self.pipeline.has_room() {
                next = self.events.poll().now_or_never();
            }
        }
        Ok(())
    }

    fn handle(&mut self, now: Now, event: Event) -> Result<(), String> {
        let Event::Incoming(packet) = event else { return Ok(()) };
        match packet {
            Incoming::Publish(publish) => self.publish(now, &publish)?,
            Incoming::SubAck(suback) => self.suback(&suback.return_codes),
            _ => {}
        }
        Ok(())
    }

    fn publish(&mut self, now: Now, publish: &Publish) -> Result<(), String> {
        let delivery = match publish.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some((self.session.as_str(), publish.pkid, publish.dup)),
            // We asked for QoS 1 at most, so no broker may do this.
            QoS::ExactlyOnce => return Err("the broker sent QoS 2, which was not subscribed".to_owned()),
        };
        let message = Message { topic: &publish.topic, payload: &publish.payload, delivery };
        self.feed.message(now, message, &mut self.pipeline.pending);
        if delivery.is_some() {
            self.pipeline.pending.acks.push((self.epoch, publish.pkid));
        }
        Ok(())
    }

    fn suback(&mut self, codes: &[SubscribeReasonCode]) {
        let filters = session::filters(&self.hub);
        let refused: Vec<_> = filters
            .iter()
            .zip(codes)
            .filter(|(_, code)| **code == SubscribeReasonCode::Failure)
            .map(|(filter, _)| filter.path.as_str())
            .collect();
        if refused.is_empty() {
            self.subscribed = true;
            self.up();
            return;
        }
        let reason = format!("the broker refuses the subscription to {}; allow it for this user", refused.join(", "));
        if self.quiet.failed(self.hub.context.clock.now().boot, &reason) {
            tracing::error!(terminal = self.hub.name, reason, "subscription refused");
        }
        self.hub.set_state(LinkState::Down(reason));
        self.resubscribe_at = Some(Instant::now() + RESUBSCRIBE);
    }

    async fn each_second(&mut self) -> Result<(), ConnectionError> {
        if self.resubscribe_at.is_some_and(|at| at <= Instant::now()) {
            self.resubscribe_at = None;
            self.subscribe().await?;
        }
        if self.pipeline.has_room() {
            self.last_ping = Instant::now();
        } else if self.last_ping.elapsed() > self.keep_alive / 2 {
            // Held back: the event loop isn't polled, so its own pings don't go out. The answer waits in the socket.
            self.last_ping = Instant::now();
            self.write(vec![Packet::PingReq]).await?;
        }
        Ok(())
    }

    async fn confirm(&mut self, flown: &Flown) -> Result<(), ConnectionError> {
        if !flown.durable {
            return Ok(());
        }
        self.feed.committed(&flown.batch.receipts);
        let acks = flown.batch.acks.iter().filter(|(epoch, _)| *epoch == self.epoch);
        let packets: Vec<_> = acks.map(|(_, id)| Packet::PubAck(PubAck::new(*id))).collect();
        self.write(packets).await
    }

    /// Answers to terminals, at QoS 0 as they expect: a lost one is asked for again.
    async fn send_outgoing(&mut self) -> Result<(), ConnectionError> {
        if self.feed.outgoing.is_empty() {
            return Ok(());
        }
        let packets = self.feed.outgoing.drain(..).filter_map(|outgoing| match outgoing.to {
            Destination::Topic(topic) => Some(Packet::Publish(Publish::new(topic, QoS::AtMostOnce, outgoing.bytes))),
            Destination::Stream => None,
        });
        let packets = packets.collect();
        self.write(packets).await
    }

    /// Writes packets with one flush.
    async fn write(&mut self, packets: Vec<Packet>) -> Result<(), ConnectionError> {
        let Some(network) = self.events.network.as_mut() else { return Ok(()) };
        if packets.is_empty() {
            return Ok(());
        }
        let write = async {
            for packet in packets {
                network.write(packet).await?;
            }
            network.flush().await
        };
        match tokio::time::timeout(WRITE_TIMEOUT, write).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(ConnectionError::FlushTimeout),
        }
    }

    /// The connection is gone: what it had delivered is journalled all the same, but can't be acknowledged any more.
    fn lost(&mut self, reason: String) {
        let now = self.hub.context.clock.now();
        let left: Vec<_> = self.events.state.events.drain(..).collect();
        for event in left {
            // A bad packet in there changes nothing any more.
            let _ = self.handle(now, event);
        }
        self.epoch += 1;
        self.events.clean();
        self.events.pending.clear();
        self.feed.outgoing.clear();
        if self.quiet.failed(now.boot, &reason) {
            tracing::warn!(terminal = self.hub.name, reason, "no connection to the broker");
        }
        self.blind_since.get_or_insert_with(|| (now, reason.clone()));
        self.hub.set_state(LinkState::Down(reason));
    }

    async fn wait(&mut self, delay: Duration) {
        let until = Instant::now() + delay;
        self.hub.context.mark.within("waiting before the broker is tried again", delay + LONGEST_STEP);
        loop {
            self.pipeline.submit();
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.hub.context.shutdown.cancelled() => return,
                flown = self.pipeline.next() => abandon(&mut self.feed, &flown),
            }
        }
    }

    /// The gateway stops: what was read is journalled and acknowledged, then we leave.
    async fn stop(&mut self) {
        self.hub.context.mark.within("handing over what was read", LONGEST_ANSWER);
        let mut flown = Vec::new();
        self.pipeline.drain(|f| flown.push(f)).await;
        let last = async {
            for flown in &flown {
                self.confirm(flown).await?;
            }
            self.send_outgoing().await?;
            let status = self.status_topic.take().map(|topic| session::status(topic, "offline"));
            self.write(status.into_iter().chain([Packet::Disconnect]).collect()).await
        };
        if let Err(error) = last.await {
            tracing::debug!(terminal = self.hub.name, %error, "the broker did not hear our farewell");
            return;
        }
        // A broker reads packet by packet and closes after DISCONNECT (MQTT 3.1.1 §3.14.4). Who comes back before that
        // takes its own session over, and the acknowledgements that were not read yet are thrown away.
        let closed = async { while self.events.network.is_some() && self.events.poll().await.is_ok() {} };
        if tokio::time::timeout(FAREWELL_TIMEOUT, closed).await.is_err() {
            tracing::debug!(terminal = self.hub.name, "the broker did not close the connection");
        }
    }
}

/// A batch came back while there is no connection: what waits for a receipt is dropped, terminals ask again.
fn abandon(feed: &mut Feed, flown: &Flown) {
    if flown.durable {
        feed.committed(&flown.batch.receipts);
        feed.outgoing.clear();
    }
}
