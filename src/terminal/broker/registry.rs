//! The clients that are connected, what they listen to, and the sessions that outlive a connection.
//!
//! Must not: keep messages, or hold its lock across an await.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::journal::{ClientSession, Journal};
use crate::terminal::ingest::lock;
use crate::terminal::topic::Filter;

/// Most sessions kept; further persistent clients are served, but get no `session_present` after a restart.
const MAX_SESSIONS: usize = 10_000;

/// Most subscriptions of one client.
const MAX_SUBSCRIPTIONS: usize = 64;

/// Most messages that wait for one client, besides what its own connection writes itself.
const OUTBOX: usize = 256;

/// How long keeping a session may hold up its client: the session only spares a re-subscription.
const KEEP_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Inner {
    connected: HashMap<String, Connected>,
    /// Persistent clients: filter and granted QoS.
    sessions: HashMap<String, Vec<(String, u8)>>,
    last_id: u64,
}

struct Connected {
    id: u64,
    taken_over: CancellationToken,
    outbox: mpsc::Sender<Bytes>,
    filters: Vec<Filter>,
}

/// What a connection holds of its registration.
pub(super) struct Ticket {
    /// The client id.
    pub(super) client_id: String,
    id: u64,
    persistent: bool,
    /// The session was known: CONNACK says so.
    pub(super) session_present: bool,
    /// Another connection with this client id has come.
    pub(super) taken_over: CancellationToken,
    /// What the gateway sends to this client from other connections, encoded.
    pub(super) outbox: mpsc::Receiver<Bytes>,
}

/// The clients.
pub(super) struct Registry(Mutex<Inner>);

impl Registry {
    /// With the sessions that the journal kept.
    pub(super) async fn load(journal: &Journal) -> Self {
        let mut inner = Inner::default();
        match journal.sessions().await {
            Ok(sessions) => {
                let kept = sessions.into_iter().take(MAX_SESSIONS);
                inner.sessions = kept.map(|s| (s.client_id, s.subscriptions)).collect();
            }
            Err(error) => tracing::warn!(%error, "sessions of clients could not be read, they subscribe again"),
        }
        Self(Mutex::new(inner))
    }

    /// A client has come: an older connection with its id is told to go (§3.1.4-2).
    pub(super) async fn enter(&self, journal: &Journal, client_id: String, persistent: bool) -> Ticket {
        let (sender, outbox) = mpsc::channel(OUTBOX);
        let taken_over = CancellationToken::new();
        let (ticket, change) = {
            let mut inner = lock(&self.0);
            inner.last_id += 1;
            let id = inner.last_id;
            let known = inner.sessions.contains_key(&client_id);
            let mut change = None;
            if !persistent && inner.sessions.remove(&client_id).is_some() {
                change = Some(None);
            } else if persistent && !known && inner.sessions.len() < MAX_SESSIONS {
                inner.sessions.insert(client_id.clone(), Vec::new());
                change = Some(Some(Vec::new()));
            }
            let filters = match inner.sessions.get(&client_id) {
                Some(kept) => kept.iter().filter_map(|(text, _)| Filter::new(text)).collect(),
                None => Vec::new(),
            };
            let here = Connected { id, taken_over: taken_over.clone(), outbox: sender, filters };
            if let Some(old) = inner.connected.insert(client_id.clone(), here) {
                old.taken_over.cancel();
            }
            let session_present = persistent && known;
            (Ticket { client_id, id, persistent, session_present, taken_over, outbox }, change)
        };
        if let Some(session) = change {
            keep(journal, &ticket.client_id, session).await;
        }
        ticket
    }

    /// A client has gone.
    pub(super) fn leave(&self, ticket: &Ticket) {
        let mut inner = lock(&self.0);
        if inner.connected.get(&ticket.client_id).is_some_and(|c| c.id == ticket.id) {
            inner.connected.remove(&ticket.client_id);
        }
    }

    /// Subscribes; answers the granted QoS of each filter, or 0x80.
    pub(super) async fn subscribe(&self, journal: &Journal, ticket: &Ticket, filters: &[(String, u8)]) -> Vec<u8> {
        let (codes, change) = {
            let mut inner = lock(&self.0);
            let Inner { connected, sessions, .. } = &mut *inner;
            let Some(here) = connected.get_mut(&ticket.client_id).filter(|c| c.id == ticket.id) else {
                return vec![0x80; filters.len()];
            };
            let mut session = sessions.get_mut(&ticket.client_id).filter(|_| ticket.persistent);
            let mut changed = false;
            let mut codes = Vec::with_capacity(filters.len());
            for (text, qos) in filters {
                let granted = (*qos).min(1);
                let known = here.filters.iter().any(|f| f.as_str() == text);
                let filter = Filter::new(text).filter(|_| known || here.filters.len() < MAX_SUBSCRIPTIONS);
                let Some(filter) = filter else {
                    codes.push(0x80);
                    continue;
                };
                if !known {
                    here.filters.push(filter);
                }
                if let Some(session) = session.as_deref_mut()
                    && !session.contains(&(text.clone(), granted))
                {
                    session.retain(|(kept, _)| kept != text);
                    session.push((text.clone(), granted));
                    changed = true;
                }
                codes.push(granted);
            }
            (codes, session.filter(|_| changed).map(|s| s.clone()))
        };
        if let Some(session) = change {
            keep(journal, &ticket.client_id, Some(session)).await;
        }
        codes
    }

    /// Unsubscribes.
    pub(super) async fn unsubscribe(&self, journal: &Journal, ticket: &Ticket, filters: &[String]) {
        let change = {
            let mut inner = lock(&self.0);
            let Inner { connected, sessions, .. } = &mut *inner;
            if let Some(here) = connected.get_mut(&ticket.client_id).filter(|c| c.id == ticket.id) {
                here.filters.retain(|f| !filters.iter().any(|gone| gone == f.as_str()));
            }
            sessions.get_mut(&ticket.client_id).filter(|_| ticket.persistent).and_then(|session| {
                let before = session.len();
                session.retain(|(kept, _)| !filters.contains(kept));
                (session.len() != before).then(|| session.clone())
            })
        };
        if let Some(session) = change {
            keep(journal, &ticket.client_id, Some(session)).await;
        }
    }

    /// Hands an encoded message to every other client that listens; says whether this client itself listens, and how
    /// many others were too slow to take it.
    pub(super) fn send(&self, ticket: &Ticket, topic: &str, message: &Bytes) -> (bool, usize) {
        let inner = lock(&self.0);
        let (mut own, mut slow) = (false, 0);
        for client in inner.connected.values() {
            if !client.filters.iter().any(|f| f.matches(topic)) {
                continue;
            }
            if client.id == ticket.id {
                own = true;
            } else if client.outbox.try_send(message.clone()).is_err() {
                slow += 1;
            }
        }
        (own, slow)
    }
}

async fn keep(journal: &Journal, client_id: &str, subscriptions: Option<Vec<(String, u8)>>) {
    let session = subscriptions.map(|subscriptions| ClientSession { client_id: client_id.to_owned(), subscriptions });
    let kept = tokio::time::timeout(KEEP_TIMEOUT, journal.keep_session(client_id.to_owned(), session)).await;
    match kept {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "session was not kept, its client subscribes again after a restart"),
        Err(_) => tracing::warn!("session was not kept in time, its client subscribes again after a restart"),
    }
}
