//! A vendor's REST API: one request per event or batch, with an idempotency key.
//!
//! Must not: retry by itself (the relay does, with the same bytes), follow a redirect, go through a proxy from the
//! environment, read an answer without bound, or log a body, a URL or a credential.

pub mod answers;

pub mod auth;

mod exchange;

pub mod follow;

mod rules;

pub mod template;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use self::answers::{Finding, Key, Rules, Sent};
pub use self::auth::Auth;
use self::auth::Authority;
use self::exchange::{Answer, Draft, Fault, Wire};
use self::follow::{Lookup, Poll};
use super::{Batch, Error, OnAmbiguous, Outcome, Presence, Sink, Verdict};
use crate::clock::Clock;
use crate::event::json;
use crate::journal::Record;
use crate::secret::SecretSource;
use crate::tls::{ClientIdentity, TlsMode};

/// A connection must stand within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An idle connection is closed by us after this time, before common servers and load balancers (60 s) close it on their
/// side: a request on a connection that is just being closed has an unknown outcome.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// Unacknowledged bytes on the wire for this long mean a dead link (`TCP_USER_TIMEOUT`, tcp(7)).
const DEAD_LINK: Duration = Duration::from_secs(15);

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
    /// What answers mean; nothing declared: as the plain default sink has it.
    pub answers: Rules,
    /// How an answer that is pending is asked for.
    pub poll: Option<Poll>,
    /// How the sink is asked whether it has an event.
    pub lookup: Option<Lookup>,
    /// What a lost answer means; `None`: the same bytes go again.
    pub on_ambiguous: Option<OnAmbiguous>,
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
            client: None,
            answers: Rules::default(),
            poll: None,
            lookup: None,
            on_ambiguous: None,
        }
    }
}

/// Where a certificate stands, which is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PemSource {
    /// A file of any mode.
    Path(PathBuf),
    /// A credential.
    Secret(SecretSource),
}

impl PemSource {
    fn read(&self) -> Result<Vec<u8>, Error> {
        use secrecy::ExposeSecret as _;
        match self {
            Self::Secret(source) => Ok(source.read()?.expose_secret().as_bytes().to_vec()),
            Self::Path(path) => std::fs::read(path)
                .map_err(|source| Error::Secret(crate::secret::Error::Read { path: path.clone(), source })),
        }
    }
}

/// The sink.
pub struct Api {
    name: String,
    config: Config,
    method: reqwest::Method,
    url: reqwest::Url,
    wire: Wire,
    headers: HeaderMap,
    authority: Authority,
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
        let method = match config.method.as_str() {
            "POST" => reqwest::Method::POST,
            "PUT" => reqwest::Method::PUT,
            "PATCH" => reqwest::Method::PATCH,
            other => return Err(Error::Address(format!("method '{other}' is not one of POST, PUT, PATCH"))),
        };
        let client = client(&config)?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (header, value) in &config.headers {
            let failed = || Error::Header(header.clone());
            let header = HeaderName::from_bytes(header.as_bytes()).map_err(|_| failed())?;
            headers.insert(header, HeaderValue::from_str(value).map_err(|_| failed())?);
        }
        let authority = Authority::new(config.auth.clone())?;
        let rows = config.batch.max(1);
        let wire = Wire { client, clock };
        Ok(Self { name: name.to_owned(), method, url, wire, headers, authority, rows, config, unreadable: 0 })
    }

    /// The request that carries a batch, before it says who we are.
    fn draft(&self, key: &str, body: Vec<u8>) -> Result<Draft, Outcome> {
        let mut headers = self.headers.clone();
        let key = HeaderValue::from_str(key)
            .map_err(|_| Outcome::Blocked { reason: "the idempotency key cannot be a header".to_owned() })?;
        headers.insert(HeaderName::from_static("idempotency-key"), key);
        Ok(Draft { method: self.method.clone(), url: self.url.clone(), headers, body: Bytes::from(body) })
    }

    /// What was sent, item by item, where rules compare with it.
    fn items(&self, body: &[u8]) -> Vec<Value> {
        let keyed = self.config.answers.items.as_ref().is_some_and(|items| matches!(items.key, Key::Field { .. }));
        if !keyed && self.config.lookup.is_none() {
            return Vec::new();
        }
        match serde_json::from_slice(body) {
            Ok(Value::Array(items)) => items,
            Ok(item) => vec![item],
            Err(_) => Vec::new(),
        }
    }

    /// One request, with who we are on it.
    async fn ask(&mut self, mut draft: Draft, sent: usize) -> Result<Answer, Fault> {
        if draft.method == reqwest::Method::GET {
            draft.headers.remove(HeaderName::from_static("idempotency-key"));
            draft.headers.remove(CONTENT_TYPE);
        }
        self.authority.sign(&self.wire, &mut draft).await.map_err(|outcome| Fault { outcome, left: false })?;
        self.wire.exchange(draft, sent).await
    }

    /// One request and what its answer means; a second one if who we are had to be shown anew.
    async fn attempt(&mut self, draft: &Draft, sent: Sent<'_>) -> Result<(Finding, Answer), Fault> {
        let mut renewed = false;
        loop {
            let reply = self.ask(draft.clone(), sent.count).await?;
            let finding = self.judge(&self.config.answers, &reply, sent);
            let unknown = reply.status == 401 || matches!(finding, Finding::Relogin { .. });
            // A credential may have been renewed on disk, a session may be over: if there is another one, at once again.
            let settled = matches!(finding, Finding::Outcome(Outcome::Settled(_)));
            if unknown && !settled && !std::mem::replace(&mut renewed, true) {
                let again = self.authority.renew(&self.wire).await;
                if again.map_err(|outcome| Fault { outcome, left: false })? {
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

fn client(config: &Config) -> Result<reqwest::Client, Error> {
    use secrecy::ExposeSecret as _;
    let identity = match &config.client {
        Some((certificate, key)) => {
            let (certificate, key) = (certificate.read()?, key.read()?);
            Some(ClientIdentity::from_pem(&certificate, key.expose_secret().as_bytes())?)
        }
        None => None,
    };
    let tls = crate::tls::client_config_as(config.tls, config.ca_file.as_deref(), identity)?;
    reqwest::Client::builder()
        // Checked by type: our rustls and reqwest's must be the same release.
        .tls_backend_preconfigured((*tls).clone())
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(config.timeout)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(1)
        .tcp_nodelay(true)
        .tcp_user_timeout(DEAD_LINK)
        .user_agent(concat!("portero/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| Error::Http(e.without_url().to_string()))
}

impl Sink for Api {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> (usize, usize) {
        (self.rows, (self.config.max_body_bytes / JSON_GROWTH).max(1))
    }

    fn map(&self, records: &[Record], corrections: bool) -> Option<(String, Vec<u8>)> {
        let write = if corrections { json::write_correction } else { json::write };
        let mut body = Vec::with_capacity(records.len() * 768 + 2);
        if let ([record], 0 | 1) = (records, self.config.batch) {
            write(&record.event, &mut body);
        } else {
            for record in records {
                body.push(if body.is_empty() { b'[' } else { b',' });
                write(&record.event, &mut body);
            }
            body.push(b']');
        }
        Some((key(records), body))
    }

    async fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        let count = batch.records.len();
        let (key, body) = match batch.flight {
            Some(flight) => (flight.key.clone(), flight.body.clone()),
            // `map` always gives one.
            None => self.map(batch.records, batch.corrections).unwrap_or_default(),
        };
        if body.len() > self.config.max_body_bytes {
            let reason = "the body is larger than max_body_bytes".to_owned();
            return Outcome::Refused { reason, answer: format!("{} bytes", body.len()) };
        }
        let items = self.items(&body);
        let sent = Sent { count, items: &items };
        let draft = match self.draft(&key, body) {
            Ok(draft) => draft,
            Err(outcome) => return outcome,
        };
        let (finding, reply) = match self.attempt(&draft, sent).await {
            Ok(found) => found,
            Err(fault) => return self.unanswered(fault),
        };
        if reply.status == 413 && count > 1 {
            self.rows = self.rows.min(count.div_ceil(2));
        }
        let finding = match finding {
            Finding::Pending { id, location } => {
                let first = rules::wish(&reply, self.wire.clock.now().wall);
                self.poll(&draft, sent, id, location, first).await
            }
            other => other,
        };
        self.conclude(finding, &draft, sent, batch.records).await
    }

    fn on_ambiguous(&self) -> OnAmbiguous {
        self.config.on_ambiguous.unwrap_or_default()
    }

    async fn look_up(&mut self, batch: &Batch<'_>, item: usize) -> Presence {
        let (key, body) = match batch.flight {
            Some(flight) => (flight.key.clone(), flight.body.clone()),
            None => self.map(batch.records, batch.corrections).unwrap_or_default(),
        };
        let items = self.items(&body);
        match self.draft(&key, body) {
            Ok(draft) => self.presence(&draft, items.get(item), batch.records.get(item)).await,
            Err(outcome) => Presence::Unknown(outcome),
        }
    }
}

/// The event's id for a lone event, else the first 16 bytes of SHA-256 over the ids in order, hex.
fn key(records: &[Record]) -> String {
    use std::fmt::Write as _;
    if let [record] = records {
        return record.event.id.to_string();
    }
    let mut digest = Sha256::new();
    for record in records {
        digest.update(record.event.id.0);
    }
    digest.finalize().iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
