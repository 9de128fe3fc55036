//! A vendor API that remembers every request and misbehaves as told. It has a thread and a runtime of its own, so that a
//! test may block.
//!
//! Must not: be forgiving. What it stored it remembers by event id and by idempotency key, for the oracle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What it was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// `Idempotency-Key`.
    pub key: Option<String>,
    /// `Authorization`.
    pub authorization: Option<String>,
    /// `POST`, `PUT`, …
    pub method: String,
    /// Path with query.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as it came; empty in a lean API.
    pub body: Bytes,
    /// `event_id` of each event, in order; the events whose `corrects` is set are in `corrections` instead.
    pub event_ids: Vec<String>,
    /// `corrects` of each correction.
    pub corrections: Vec<String>,
    /// The status that was answered; 0 where the connection was dropped.
    pub status: u16,
}

impl Request {
    /// The body's events.
    pub fn events(&self) -> Vec<Value> {
        match serde_json::from_slice(&self.body) {
            Ok(Value::Array(events)) => events,
            Ok(event) => vec![event],
            Err(_) => Vec::new(),
        }
    }
}

/// What it answers, and what it keeps.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status; 0 drops the connection without a word.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: String,
    /// How many of the events are stored, from the front.
    pub store: usize,
    /// Answers only after this long.
    pub delay: Duration,
}

impl Reply {
    /// A plain answer that stores `store` events.
    pub fn new(status: u16, body: impl Into<String>, store: usize) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), store, delay: Duration::ZERO }
    }

    /// 200 with no body: everything stored.
    pub fn ok() -> Self {
        Self::new(200, "", usize::MAX)
    }

    /// Nothing stored, `status` answered.
    pub fn refuse(status: u16) -> Self {
        Self::new(status, r#"{"error":"refused"}"#, 0)
    }

    /// Everything stored, the connection dropped: a lost answer.
    pub fn drop_after_storing() -> Self {
        Self::new(0, "", usize::MAX)
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// How it behaves.
#[derive(Clone)]
pub enum Behaviour {
    /// Stores everything.
    Ok,
    /// Of every hundred requests `percent` go wrong, in one of: 500, 503 with `Retry-After`, dropped before storing,
    /// dropped after storing, a count of less than was sent, an answer that is too late by `hang`.
    Flaky { percent: u8, hang: Duration },
    /// Stores the first events and answers `{"accepted": n}`.
    Accepted(usize),
    /// 422 for a request with an event that the predicate picks; everything else is stored.
    RejectIf(Arc<dyn Fn(&Value) -> bool + Send + Sync>),
    /// Anything.
    Custom(Arc<dyn Fn(&Request) -> Reply + Send + Sync>),
}

struct Shared {
    behaviour: Behaviour,
    random: fastrand::Rng,
    lean: bool,
    requests: Vec<Request>,
    request_count: u64,
    oracle: Oracle,
}

/// What the API knows of what it stored.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    /// For each event id, under how many different idempotency keys it was stored. More than 1 is a double.
    pub stored: HashMap<String, u32>,
    /// The same for corrections, by the id that they correct.
    pub corrections: HashMap<String, u32>,
    /// Idempotency keys that came with different bytes.
    pub keys_with_different_bytes: Vec<String>,
    /// How often a key came again.
    pub repeated_keys: u64,
    /// Requests without a key.
    pub requests_without_key: u64,
    keys: HashMap<String, ([u8; 16], usize)>,
}

impl Oracle {
    /// Event ids that were stored under more than one key.
    pub fn doubled(&self) -> Vec<&str> {
        self.stored.iter().filter(|(_, count)| **count > 1).map(|(id, _)| id.as_str()).collect()
    }

    /// How many events this request's key has stored before.
    fn stored_under(&self, request: &Request) -> usize {
        request.key.as_ref().and_then(|key| self.keys.get(key)).map_or(0, |(_, stored)| *stored)
    }

    fn take(&mut self, request: &Request, digest: [u8; 16], store: usize) {
        let before = match &request.key {
            None => {
                self.requests_without_key += 1;
                0
            }
            Some(key) => match self.keys.get_mut(key) {
                None => {
                    self.keys.insert(key.clone(), (digest, store));
                    0
                }
                Some((known, stored)) => {
                    self.repeated_keys += 1;
                    if *known != digest {
                        self.keys_with_different_bytes.push(key.clone());
                    }
                    // Idempotent: what this key had stored is not stored again.
                    std::mem::replace(stored, store.max(*stored))
                }
            },
        };
        for id in request.event_ids.iter().take(store).skip(before) {
            *self.stored.entry(id.clone()).or_default() += 1;
        }
        for id in request.corrections.iter().take(store).skip(before) {
            *self.corrections.entry(id.clone()).or_default() += 1;
        }
    }
}

/// A running API; stopped on drop.
pub struct VendorApi {
    /// Where it listens, on loopback.
    pub port: u16,
    shared: Arc<Mutex<Shared>>,
    running: Option<Running>,
}

struct Running {
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl VendorApi {
    /// Starts one on a free port.
    pub fn start(behaviour: Behaviour) -> Self {
        Self::start_on(behaviour, false)
    }

    /// Starts one that keeps no requests, for long loads.
    pub fn start_lean(behaviour: Behaviour) -> Self {
        Self::start_on(behaviour, true)
    }

    fn start_on(behaviour: Behaviour, lean: bool) -> Self {
        let shared = Shared {
            behaviour,
            random: fastrand::Rng::with_seed(1),
            lean,
            requests: Vec::new(),
            request_count: 0,
            oracle: Oracle::default(),
        };
        // Bound at once: a port that is only looked up may be another test's by then.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut api = Self { port, shared: Arc::new(Mutex::new(shared)), running: None };
        api.serve(listener);
        api
    }

    /// `http://127.0.0.1:PORT/api/v1/events`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/events", self.port)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Behaves differently from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared().behaviour = behaviour;
    }

    /// The seed of its moods.
    pub fn seed(&self, seed: u64) {
        self.shared().random = fastrand::Rng::with_seed(seed);
    }

    /// Every request so far (none in a lean API).
    pub fn requests(&self) -> Vec<Request> {
        self.shared().requests.clone()
    }

    /// How many requests came.
    pub fn request_count(&self) -> u64 {
        self.shared().request_count
    }

    /// What it stored.
    pub fn oracle(&self) -> Oracle {
        self.shared().oracle.clone()
    }

    /// How many different events it stored.
    pub fn stored_count(&self) -> usize {
        self.shared().oracle.stored.len()
    }

    /// Goes away: connections break, new ones are refused. It remembers.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.stop.send(());
            let _ = running.thread.join();
        }
    }

    /// Comes back on the same port.
    pub fn start_again(&mut self) {
        self.stop();
        self.serve(std::net::TcpListener::bind(("127.0.0.1", self.port)).unwrap());
    }

    fn serve(&mut self, listener: std::net::TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let router = axum::Router::new()
            .fallback(answer)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&self.shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    _ = axum::serve(listener, router) => {}
                    _ = stopped => {}
                }
            });
            // Dropping the runtime drops every connection.
        });
        self.running = Some(Running { stop, thread });
    }
}

impl Drop for VendorApi {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn answer(
    State(shared): State<Arc<Mutex<Shared>>>,
    method: axum::http::Method,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut request = Request {
        key: text("idempotency-key"),
        authorization: text("authorization"),
        method: method.to_string(),
        path: uri.to_string(),
        headers: headers.clone(),
        body,
        event_ids: Vec::new(),
        corrections: Vec::new(),
        status: 0,
    };
    identify(&mut request);
    let reply = {
        let mut shared = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let reply = decide(&mut shared, &request);
        request.status = reply.status;
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(&request.body)[..16]);
        shared.oracle.take(&request, digest, reply.store);
        shared.request_count += 1;
        if !shared.lean {
            shared.requests.push(request);
        }
        reply
    };
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    let Ok(status) = StatusCode::from_u16(reply.status) else {
        // Ends the connection's task without a word to the client or the console.
        std::panic::resume_unwind(Box::new("the connection is dropped on purpose"));
    };
    let mut response = (status, reply.body).into_response();
    for (name, value) in reply.headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

fn identify(request: &mut Request) {
    #[derive(serde::Deserialize)]
    struct Ids {
        event_id: Option<String>,
        corrects: Option<String>,
    }
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Body {
        Many(Vec<Ids>),
        One(Ids),
    }
    let events = match serde_json::from_slice(&request.body) {
        Ok(Body::Many(events)) => events,
        Ok(Body::One(event)) => vec![event],
        Err(_) => return,
    };
    for event in events {
        match (event.corrects, event.event_id) {
            (Some(id), _) => request.corrections.push(id),
            (None, Some(id)) => request.event_ids.push(id),
            (None, None) => {}
        }
    }
}

fn decide(shared: &mut Shared, request: &Request) -> Reply {
    let count = request.event_ids.len().max(request.corrections.len());
    match &shared.behaviour {
        Behaviour::Ok => Reply::ok(),
        Behaviour::Accepted(n) => {
            let n = (*n).min(count);
            Reply::new(200, json!({ "accepted": n }).to_string(), n)
        }
        Behaviour::RejectIf(picks) => match request.events().iter().find(|event| picks(event)) {
            Some(_) => Reply::refuse(422),
            None => Reply::ok(),
        },
        Behaviour::Custom(decide) => decide(request),
        Behaviour::Flaky { percent, hang } => {
            if shared.random.u8(0..100) >= *percent {
                return Reply::ok();
            }
            match shared.random.u8(0..6) {
                0 => Reply::refuse(500),
                1 => Reply::refuse(503).header("retry-after", "0"),
                2 => Reply::new(0, "", 0),
                3 => Reply::drop_after_storing(),
                4 => {
                    // Never less than it has stored under this key: an API that keeps keys does not take back its word.
                    let n = shared.random.usize(shared.oracle.stored_under(request).min(count)..=count);
                    Reply::new(200, json!({ "accepted": n }).to_string(), n)
                }
                _ => Reply { delay: *hang, ..Reply::ok() },
            }
        }
    }
}
