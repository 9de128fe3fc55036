//! The gateway as the terminals' own MQTT 3.1.1 broker: its PUBACK means committed and synced.
//!
//! Must not: relay messages between clients (only what the gateway itself sends goes down), keep messages for absent
//! clients, or grow with what clients do: clients, sessions, subscriptions, packets and unconfirmed messages are bounded.

mod access;

mod client;

mod connect;

mod packet;

mod registry;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::access::Access;
use self::registry::Registry;
use super::hub::Hub;
use super::ingest::lock;
use super::quiet::Quiet;
use super::{BrokerConfig, Config, Context, Endpoint, Error, LinkState, ListenConfig};
use crate::backoff::Backoff;
use crate::progress::LONGEST_STEP;

/// After a failed accept (no descriptors left, say), so that the loop doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
struct Server {
    hub: Arc<Hub>,
    access: Access,
    registry: Registry,
    max_packet: usize,
    max_inflight: usize,
    quiet: Mutex<Quiet>,
}

impl Server {
    /// Something was refused: said once a minute.
    fn refused(&self, reason: &str) {
        if lock(&self.quiet).failed(self.hub.context.clock.now().boot, reason) {
            tracing::warn!(terminal = self.hub.name, reason, "client refused");
        }
    }
}

/// Is the broker until the gateway stops.
pub async fn run(context: Context, broker: BrokerConfig, terminals: Vec<Config>) {
    let Endpoint::Listen(listen) = broker.endpoint else { return };
    let Some(hub) = Hub::open(context, broker.name, true, terminals).await else { return };
    tokio::select! {
        () = hub.keep_house() => {}
        () = serve(&hub, &listen, broker.max_packet_bytes) => {}
    }
    hub.close().await;
}

async fn serve(hub: &Arc<Hub>, listen: &ListenConfig, max_packet: usize) {
    let Some((listener, access)) = start(hub, listen).await else { return };
    let registry = Registry::load(&hub.context.journal).await;
    let server = Arc::new(Server {
        hub: Arc::clone(hub),
        access,
        registry,
        max_packet,
        max_inflight: listen.max_inflight.max(1),
        quiet: Mutex::default(),
    });
    hub.set_state(LinkState::Up);
    hub.context.mark.idle("waiting for terminals");
    let room = Arc::new(Semaphore::new(listen.max_clients.clamp(1, Semaphore::MAX_PERMITS)));
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(&server, &room, &mut clients, stream),
                Err(error) => {
                    server.refused(&error.to_string());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = clients.join_next() => {}
            () = hub.context.shutdown.cancelled() => break,
        }
    }
    drop(listener);
    // Each of them ends by itself: what it read is journalled and acknowledged.
    while clients.join_next().await.is_some() {}
}

fn admit(server: &Arc<Server>, room: &Arc<Semaphore>, clients: &mut JoinSet<()>, stream: TcpStream) {
    let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
        server.refused("max_clients is reached; raise it, or find out who connects");
        return;
    };
    let shared = Arc::clone(server);
    clients.spawn(server.hub.context.mark.watch(async move {
        connect::serve(shared, stream).await;
        drop(permit);
    }));
}

/// Reads the passwords and binds, for as long as that takes; `None` if the gateway stops meanwhile.
async fn start(hub: &Hub, listen: &ListenConfig) -> Option<(TcpListener, Access)> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut quiet = Quiet::default();
    loop {
        let bind = async {
            let access = Access::read(listen)?;
            let address = listen.address;
            let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
            Ok::<_, Error>((listener, access))
        };
        let error = match bind.await {
            Ok(started) => {
                tracing::info!(terminal = hub.name, "listening for terminals");
                return Some(started);
            }
            Err(error) => error.to_string(),
        };
        if quiet.failed(hub.context.clock.now().boot, &error) {
            tracing::error!(terminal = hub.name, error, "terminals can't connect");
        }
        hub.set_state(LinkState::Down(error));
        let delay = backoff.next(None);
        hub.context.mark.within("waiting before it listens again", delay + LONGEST_STEP);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = hub.context.shutdown.cancelled() => return None,
        }
    }
}
