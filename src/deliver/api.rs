//! A vendor's REST API: one request per event or batch, with an idempotency key.
//!
//! Must not: retry by itself (the relay does, with the same bytes), follow a redirect, go through a proxy from the
//! environment, read an answer without bound, or log a body, a URL or a credential.

pub mod answers;

pub mod follow;

pub mod mapping;

pub mod open;

mod plain;

pub mod preview;

pub mod request;

pub(super) mod rules;

pub mod template;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use self::answers::{Finding, Key, Rules, Sent};
use self::follow::{Lookup, Poll};
use self::open::Age;
use self::request::{Mapper, Outgoing};
use super::auth::Authority;
pub use super::auth::{self, Auth};
use super::exchange::{self, Answer, Draft, Fault, Wire};
pub use super::exchange::{ForwardProxy, PemSource};
use super::gate::Gate;
use super::{Batch, Error, Mapped, OnAmbiguous, Outcome, Presence, Sink, StatusBoard, Verdict};
use crate::clock::Clock;
use crate::journal::Record;
use crate::secret::SecretSource;
use crate::tls::TlsMode;

/// A body in the journal grows to at most about this many times its size as JSON.
const JSON_GROWTH: usize = 8;

/// So many answers in a row that prove nothing are no accident: something is to be mended.
const MOST_UNREADABLE: u32 = 5;

/// `type = "api"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to send.
    pub url: String,
    /// `POST` (default), `PUT` or `PATCH`.
    pub method: String,
    /// Most events a request (1 by default: the event itself is the body; above 1 a bare array, also for one event).
    pub batch: usize,
    /// Most bytes a request body.
    pub max_body_bytes: usize,
    /// How we show who we are.
    pub auth: Auth,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// Time limit of a request, connect to last byte.
    pub timeout: Duration,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// Own CA.
    pub ca_file: Option<PathBuf>,
    /// A certificate of ours and its key, for servers that want to see one.
    pub client: Option<(PemSource, SecretSource)>,
    /// The proxy on the way; none is taken from the environment.
    pub proxy: Option<ForwardProxy>,
    /// What answers mean; nothing declared: as the plain default sink has it.
    pub answers: Rules,
    /// The keys about answers as they are written, in one text; only a part of the revision.
    pub answers_written: String,
    /// How an answer that is pending is asked for.
    pub poll: Option<Poll>,
    /// How the sink is asked whether it has an event.
    pub lookup: Option<Lookup>,
    /// `[sink.open]`: what an exit ends, at a vendor that stores intervals.
    pub open: Option<open::Open>,
    /// What a lost answer means; `None`: the same bytes go again.
    pub on_ambiguous: Option<OnAmbiguous>,
    /// `[sink.request]`.
    pub request: Option<Box<request::Request>>,
    /// `[sink.map]`; without it an item is the event's own JSON.
    pub map: Option<mapping::Mapping>,
    /// `[sink.map_correction]`: without it a sink with `[sink.map]` is told of no correction.
    pub map_correction: Option<mapping::Mapping>,
}

impl Default for Config {
    /// The plain default sink, without an address.
    fn default() -> Self {
        Self {
            url: String::new(),
            method: "POST".to_owned(),
            batch: 1,
            max_body_bytes: 1 << 20,
            auth: Auth::None,
            headers: Vec::new(),
            timeout: Duration::from_secs(30),
            tls: TlsMode::Require,
            ca_file: None,
            request: None,
            map: None,
            map_correction: None,
            client: None,
            proxy: None,
            answers: Rules::default(),
            answers_written: String::new(),
            poll: None,
            lookup: None,
            open: None,
            on_ambiguous: None,
        }
    }
}

/// The sink.
pub struct Api {
    name: String,
    config: Config,
    url: reqwest::Url,
    /// `[sink.request]` and `[sink.map]`; `None`: the plain sink.
    mapper: Option<Mapper>,
    /// `[sink.open]`.
    exit: Option<open::Exit>,
    wire: Wire,
    headers: HeaderMap,
    authority: Authority,
    /// A proxy may echo it.
    proxy_password: Option<SecretString>,
    /// Where to say until when the server knows us, and what was said there last.
    board: StatusBoard,
    known_until: Option<crate::event::UtcMicros>,
    gate: Gate,
    /// What the server has shown to be too much (413), smaller than the configured batch from then on.
    rows: usize,
    /// Answers in a row that proved nothing.
    unreadable: u32,
}

impl Api {
    /// Prepares the client; opens no connection and reads no secret but the key of a client certificate.
    pub fn new(name: &str, config: Config, clock: Clock) -> Result<Self, Error> {
        let url = reqwest::Url::parse(&config.url).map_err(|e| Error::Address(format!("url is not a URL: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Address("url must begin with https:// or http://".to_owned()));
        }
        if !matches!(config.method.as_str(), "POST" | "PUT" | "PATCH") {
            return Err(Error::Address(format!("method '{}' is not one of POST, PUT, PATCH", config.method)));
        }
        let (mapper, exit) = mappers(&config, &url)?;
        let client = exchange::client(
            config.timeout,
            config.tls,
            config.ca_file.as_deref(),
            config.client.as_ref(),
            config.proxy.as_ref(),
        )?;
        let headers = exchange::headers(&config.headers)?;
        let authority = Authority::new(config.auth.clone())?;
        let rows = config.batch.max(1);
        let wire = Wire { client, clock, proxied: config.proxy.is_some() };
        let (board, name, gate) = (StatusBoard::default(), name.to_owned(), Gate::default());
        let known_until = None;
        let login = config.proxy.as_ref().and_then(|proxy| proxy.login.as_ref());
        let proxy_password = login.map(|(_, password)| password.read()).transpose()?;
        Ok(Self {
            name,
            url,
            mapper,
            exit,
            wire,
            headers,
            authority,
            proxy_password,
            gate,
            board,
            known_until,
            rows,
            config,
            unreadable: 0,
        })
    }

    /// Says on this board until when the server knows us.
    #[must_use]
    pub fn with_board(mut self, board: StatusBoard) -> Self {
        self.board = board;
        self
    }

    /// First 8 bytes of SHA-256 over what decides what is sent and what answers mean, hex.
    pub fn revision(&self) -> String {
        let mut text = String::from("portero mapping 1\n");
        self.config.request.clone().unwrap_or_default().canonical(&mut text);
        for (name, map) in [("map", &self.config.map), ("map_correction", &self.config.map_correction)] {
            if let Some(map) = map {
                text.push_str(name);
                text.push('\n');
                map.canonical(&mut text);
            }
        }
        text.push_str("answers\n");
        text.push_str(&self.config.answers_written);
        exchange::hex(&Sha256::digest(text.as_bytes())[..8])
    }

    /// A kept body as a request: what a mapping put together, or the plain JSON of a sink without one.
    fn outgoing(&self, kept: &[u8]) -> Outgoing {
        Outgoing::decode(kept).unwrap_or_else(|| {
            let path = match self.url.query() {
                Some(query) => format!("{}?{query}", self.url.path()),
                None => self.url.path().to_owned(),
            };
            Outgoing::plain(&self.config.method, &path, kept.to_vec())
        })
    }

    /// The request that carries a batch, before it says who we are.
    fn draft(&self, key: &str, outgoing: &Outgoing) -> Result<Draft, Outcome> {
        let mut headers = self.headers.clone();
        let (method, url) = outgoing.open(&self.url, &mut headers).map_err(|what| Outcome::Blocked {
            reason: format!("the request cannot be sent, {what} cannot be used; mend [sink.request]"),
        })?;
        let key = HeaderValue::from_str(key)
            .map_err(|_| Outcome::Blocked { reason: "the idempotency key cannot be a header".to_owned() })?;
        headers.insert(HeaderName::from_static("idempotency-key"), key);
        Ok(Draft { method, url, headers, body: Bytes::copy_from_slice(&outgoing.body) })
    }

    /// What was sent, item by item, where rules compare with it.
    fn items(&self, outgoing: &Outgoing) -> Vec<Value> {
        let keyed = self.config.answers.items.as_ref().is_some_and(|items| matches!(items.key, Key::Field { .. }));
        if keyed || self.config.lookup.is_some() || outgoing.ends.is_some() { outgoing.items() } else { Vec::new() }
    }

    /// One request, with who we are on it.
    async fn ask(&mut self, mut draft: Draft, sent: usize, age: Age) -> Result<Answer, Fault> {
        if draft.method == reqwest::Method::GET {
            draft.headers.remove(HeaderName::from_static("idempotency-key"));
            draft.headers.remove(CONTENT_TYPE);
        }
        self.gate.turn().await;
        self.authority.sign(&self.wire, &mut draft).await.map_err(|outcome| Fault { outcome, left: false })?;
        let until = self.authority.ends();
        if std::mem::replace(&mut self.known_until, until) != until {
            self.board.update(&self.name, |status| status.refresh_token_until = until);
        }
        age.check()?;
        let reply = self.wire.exchange(draft, sent).await?;
        self.authority.heard(&reply);
        let now = self.wire.clock.now().wall;
        if let Some(wish) = answers::used_up(&self.config.answers, &reply, now) {
            tracing::debug!(delay_ms = wish.as_millis() as u64, "the sink's rate limit is used up");
            self.gate.hold(tokio::time::Instant::now(), wish);
        }
        Ok(reply)
    }

    /// A question about what was sent; a second one if who we are had to be shown anew.
    async fn inquire(&mut self, question: Draft, sent: usize) -> Result<Answer, Fault> {
        let reply = self.ask(question.clone(), sent, Age::Any).await?;
        let over = self.judge(&self.config.answers, &reply, Sent { count: sent, items: &[] });
        if reply.status != 401 && !matches!(over, Finding::Relogin { .. }) {
            return Ok(reply);
        }
        let renewed = self.authority.renew(&self.wire, &reply).await;
        if renewed.map_err(|outcome| Fault { outcome, left: false })? {
            self.ask(question, sent, Age::Any).await
        } else {
            Ok(reply)
        }
    }

    /// One request and what its answer means; a second one if who we are had to be shown anew.
    async fn attempt(&mut self, draft: &Draft, sent: Sent<'_>, mut age: Age) -> Result<(Finding, Answer), Fault> {
        let mut renewed = false;
        loop {
            let reply = self.ask(draft.clone(), sent.count, age).await?;
            let finding = self.judge(&self.config.answers, &reply, sent);
            let unknown = reply.status == 401 || matches!(finding, Finding::Relogin { .. });
            // A credential may have been renewed on disk, a session may be over: if there is another one, at once again.
            let settled = matches!(finding, Finding::Outcome(Outcome::Settled(_)));
            if unknown && !settled && !std::mem::replace(&mut renewed, true) {
                let again = self.authority.renew(&self.wire, &reply).await;
                if again.map_err(|outcome| Fault { outcome, left: false })? {
                    age = age.over();
                    continue;
                }
            }
            let mut finding = match finding {
                Finding::Relogin { reason } => Finding::Outcome(Outcome::Blocked { reason }),
                other => other,
            };
            if let (Finding::Outcome(Outcome::Blocked { reason }), Some(skew)) =
                (&mut finding, self.authority.skew(&self.wire, &reply))
            {
                *reason = format!("{reason}; {skew}");
            }
            return Ok((finding, reply));
        }
    }

    /// From what the rules found to what the relay does.
    async fn conclude(&mut self, finding: Finding, draft: &Draft, sent: Sent<'_>, records: &[Record]) -> Outcome {
        let careful = self.on_ambiguous().is_careful();
        let finding = match finding {
            Finding::Unreadable { reason, foreign } => {
                self.unreadable = self.unreadable.saturating_add(1);
                let blocked = self.unreadable >= MOST_UNREADABLE;
                return match (careful && !foreign, blocked) {
                    (true, blocked) => Outcome::Lost { reason, blocked },
                    (false, true) => Outcome::Blocked { reason },
                    (false, false) => Outcome::Retry { reason, after: None },
                };
            }
            other => other,
        };
        self.unreadable = 0;
        match finding {
            Finding::Outcome(outcome) => outcome,
            Finding::Doubt { reason, .. } if careful => Outcome::Lost { reason, blocked: false },
            Finding::Doubt { reason, after } => Outcome::Retry { reason, after },
            Finding::Short { reason, .. } if careful => Outcome::Lost { reason, blocked: false },
            Finding::Short { reason, answer } => Outcome::Refused { reason, answer },
            Finding::Lookup { reason, answer } if sent.count == 1 => {
                match self.presence(draft, sent.items.first(), records.first()).await {
                    Presence::Found { remote_id } => {
                        Outcome::Settled(vec![Verdict::Confirmed { duplicate: true, remote_id }])
                    }
                    Presence::Absent => {
                        let cause = super::Cause::Content;
                        Outcome::Settled(vec![Verdict::Rejected { cause, reason, answer }])
                    }
                    Presence::Unknown(outcome) => outcome,
                }
            }
            Finding::Lookup { reason, answer } => Outcome::Refused { reason, answer },
            Finding::Pending { .. } | Finding::Unreadable { .. } | Finding::Relogin { .. } => {
                // Handled before; what is left is an answer that still asks to be asked.
                Outcome::Retry { reason: "the answer is pending".to_owned(), after: None }
            }
        }
    }

    /// No answer. Where bytes may have left, a careful sink has lost one.
    fn unanswered(&self, fault: Fault) -> Outcome {
        match fault.outcome {
            Outcome::Retry { reason, .. } if fault.left && self.on_ambiguous().is_careful() => {
                Outcome::Lost { reason, blocked: false }
            }
            outcome => outcome,
        }
    }
}

impl Sink for Api {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> (usize, usize) {
        (self.rows, (self.config.max_body_bytes / JSON_GROWTH).max(1))
    }

    fn patience(&self) -> Duration {
        self.config.timeout * super::ANSWERS
    }

    fn map(&self, records: &[Record], corrections: bool) -> Mapped {
        self.mapped(records, corrections, false)
    }

    fn map_late(&self, records: &[Record]) -> Mapped {
        self.mapped(records, false, true)
    }

    fn gate(&mut self, gate: Gate) {
        self.gate = gate;
    }

    fn fit(&self, records: &[Record], corrections: bool) -> usize {
        let Some(mapper) = &self.mapper else { return records.len() };
        if self.exit(records.first(), corrections).is_some() {
            return 1;
        }
        // Entries go together up to the first exit, which goes alone.
        let entries = records.iter().position(|record| self.exit(Some(record), corrections).is_some());
        mapper.fit(
            records.get(..entries.unwrap_or(records.len())).unwrap_or(records),
            corrections,
            self.wire.clock.now(),
        )
    }

    async fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        let count = batch.records.len();
        // A relay always brings what `map` gave.
        let Some(flight) = batch.flight else {
            return Outcome::Retry { reason: "the batch came without its mapped body".to_owned(), after: None };
        };
        let (key, outgoing) = (&flight.key, self.outgoing(&flight.body));
        if outgoing.body.len() > self.config.max_body_bytes {
            let reason = "the body is larger than max_body_bytes".to_owned();
            return Outcome::Refused { reason, answer: format!("{} bytes", outgoing.body.len()) };
        }
        let items = self.items(&outgoing);
        let sent = Sent { count, items: &items };
        let carried = match self.carry(&outgoing, key, sent, batch.records.first()).await {
            Ok(carried) => carried,
            Err(outcome) => return outcome,
        };
        let open::Carried { draft, ended, finding, reply } = carried;
        if reply.status == 413 && count > 1 {
            self.rows = self.rows.min(count.div_ceil(2));
        }
        let polled = matches!(finding, Finding::Pending { .. });
        let finding = match finding {
            Finding::Pending { id, location } => {
                let first = rules::wish(&reply, self.wire.clock.now().wall);
                self.poll(&draft, sent, id, location, first).await
            }
            other => other,
        };
        let outcome = self.conclude(finding, &draft, sent, batch.records).await;
        match open::named(outcome, ended.as_deref()) {
            // It was taken for certain, and nobody could say what became of it.
            Outcome::Retry { reason, .. } | Outcome::Blocked { reason }
                if polled && self.on_ambiguous().is_careful() =>
            {
                Outcome::Lost { reason, blocked: true }
            }
            outcome => outcome,
        }
    }

    fn revision(&self) -> Option<String> {
        let declared = self.mapper.is_some() || self.config.answers != Rules::default();
        declared.then(|| Self::revision(self))
    }

    fn on_ambiguous(&self) -> OnAmbiguous {
        self.config.on_ambiguous.unwrap_or_default()
    }

    async fn look_up(&mut self, batch: &Batch<'_>, item: usize) -> Presence {
        let Some(flight) = batch.flight else {
            let reason = "the batch came without its mapped body".to_owned();
            return Presence::Unknown(Outcome::Retry { reason, after: None });
        };
        let outgoing = self.outgoing(&flight.body);
        let items = self.items(&outgoing);
        match self.draft(&flight.key, &outgoing) {
            Ok(draft) => self.presence(&draft, items.get(item), batch.records.get(item)).await,
            Err(outcome) => Presence::Unknown(outcome),
        }
    }
}

/// What `[sink.request]`, `[sink.map]` and `[sink.open]` make of events, if there is one of them.
fn mappers(config: &Config, url: &reqwest::Url) -> Result<(Option<Mapper>, Option<open::Exit>), Error> {
    if config.request.is_none() && config.map.is_none() {
        return Ok((None, None));
    }
    let request = config.request.clone().unwrap_or_default();
    let (method, batch, max_bytes) = (&config.method, config.batch, config.max_body_bytes);
    let around = request::Surroundings { url, method, batch, max_bytes, exit: None };
    let mapper = Mapper::new(&request, config.map.as_ref(), config.map_correction.as_ref(), &around);
    Ok((Some(mapper.map_err(Error::Mapping)?), open::Exit::new(config, &around).map_err(Error::Mapping)?))
}
