//! A vendor's REST API: one request per event or batch, with an idempotency key.
//!
//! Must not: retry by itself (the relay does, with the same bytes), follow a redirect, go through a proxy from the
//! environment, read an answer without bound, or log a body, a URL or a credential.

mod credential;

pub mod mapping;

pub mod preview;

pub mod request;

mod rules;

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use sha2::{Digest as _, Sha256};

use self::credential::Credential;
use self::request::{Mapper, Outgoing, Refusal};
use super::{Batch, Error, Mapped, Outcome, Sink, trust};
use crate::clock::Clock;
use crate::event::json;
use crate::journal::Record;
use crate::secret::SecretSource;
use crate::tls::TlsMode;

/// A connection must stand within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An idle connection is closed by us after this time, before common servers and load balancers (60 s) close it on their
/// side: a request on a connection that is just being closed has an unknown outcome.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// Unacknowledged bytes on the wire for this long mean a dead link (`TCP_USER_TIMEOUT`, tcp(7)).
const DEAD_LINK: Duration = Duration::from_secs(15);

/// Longest answer that is read, bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// A body in the journal grows to at most about this many times its size as JSON.
const JSON_GROWTH: usize = 8;

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
    /// `[sink.request]`.
    pub request: Option<Box<request::Request>>,
    /// `[sink.map]`; without it an item is the event's own JSON.
    pub map: Option<mapping::Mapping>,
    /// `[sink.map_correction]`: without it a sink with `[sink.map]` is told of no correction.
    pub map_correction: Option<mapping::Mapping>,
}

/// `auth = { type = … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// `Authorization: Bearer TOKEN` (RFC 6750).
    Bearer {
        /// The token.
        token: SecretSource,
    },
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: SecretSource,
    },
    /// A header of the vendor's own.
    ApiKey {
        /// Header name.
        header: String,
        /// Its value.
        key: SecretSource,
    },
}

/// The sink.
pub struct Api {
    name: String,
    config: Config,
    url: reqwest::Url,
    /// `[sink.request]` and `[sink.map]`; `None`: the plain sink.
    mapper: Option<Mapper>,
    client: reqwest::Client,
    headers: HeaderMap,
    credential: Credential,
    clock: Clock,
    /// What the server has shown to be too much (413), smaller than the configured batch from then on.
    rows: usize,
}

impl Api {
    /// Prepares the client; opens no connection and reads no secret.
    pub fn new(name: &str, config: Config, clock: Clock) -> Result<Self, Error> {
        let url = reqwest::Url::parse(&config.url).map_err(|e| Error::Address(format!("url is not a URL: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Address("url must begin with https:// or http://".to_owned()));
        }
        if !matches!(config.method.as_str(), "POST" | "PUT" | "PATCH") {
            return Err(Error::Address(format!("method '{}' is not one of POST, PUT, PATCH", config.method)));
        }
        let mapper = mapper(&config, &url)?;
        let tls = crate::tls::client_config(config.tls, config.ca_file.as_deref())?;
        let client = reqwest::Client::builder()
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
            .map_err(|e| Error::Http(e.without_url().to_string()))?;
        let mut headers = HeaderMap::new();
        for (header, value) in &config.headers {
            let failed = || Error::Header(header.clone());
            let header = HeaderName::from_bytes(header.as_bytes()).map_err(|_| failed())?;
            headers.insert(header, HeaderValue::from_str(value).map_err(|_| failed())?);
        }
        let credential = Credential::new(config.auth.clone())?;
        let rows = config.batch.max(1);
        Ok(Self { name: name.to_owned(), url, mapper, client, headers, credential, clock, rows, config })
    }

    /// First 8 bytes of SHA-256 over what decides what is sent, hex: changes when the mapping does and only then.
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
        hex(&Sha256::digest(text.as_bytes())[..8])
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

    async fn request(&mut self, key: &str, outgoing: &Outgoing, sent: usize) -> Result<Answer, Outcome> {
        let mut headers = self.headers.clone();
        let (method, address) = outgoing.open(&self.url, &mut headers).map_err(|what| Outcome::Blocked {
            reason: format!("the request cannot be sent, {what} cannot be used; mend [sink.request]"),
        })?;
        if let Some((name, value)) = self.credential.header().map_err(|reason| Outcome::Blocked { reason })? {
            headers.insert(name, value);
        }
        let key = HeaderValue::from_str(key)
            .map_err(|_| Outcome::Blocked { reason: "the idempotency key cannot be a header".to_owned() })?;
        headers.insert(HeaderName::from_static("idempotency-key"), key);
        let request = self.client.request(method, address).headers(headers).body(outgoing.body.clone());
        let mut response = request.send().await.map_err(|e| self.failed(e))?;
        let text = |name: HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (retry_after, date) = (text(RETRY_AFTER), text(DATE));
        let mut answer =
            Answer { status: response.status().as_u16(), retry_after, date, body: Vec::new(), complete: true, sent };
        loop {
            match response.chunk().await {
                Ok(None) => return Ok(answer),
                Ok(Some(chunk)) => {
                    let room = MAX_ANSWER - answer.body.len();
                    answer.body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
                    if chunk.len() > room {
                        answer.complete = false;
                        return Ok(answer);
                    }
                }
                // A refusal is a refusal even if its explanation broke off; a success must be whole.
                Err(_) if !response.status().is_success() => {
                    answer.complete = false;
                    return Ok(answer);
                }
                Err(e) => return Err(self.failed(e)),
            }
        }
    }

    /// No answer, or half of one: the outcome is unknown, and the same bytes go again.
    fn failed(&self, error: reqwest::Error) -> Outcome {
        let error = error.without_url();
        if let Some(problem) = trust::certificate_problem(&error) {
            return trust::outcome(problem, self.clock.now().synchronised);
        }
        let reason = if error.is_timeout() {
            if error.is_connect() { "no connection in time" } else { "no answer in time" }
        } else if error.is_dns() {
            "the host name of the sink cannot be resolved"
        } else if error.is_connect() {
            "no connection"
        } else {
            "the connection broke before the answer was complete"
        };
        let mut reason = reason.to_owned();
        if let Some(cause) = root_io(&error) {
            reason = format!("{reason}: {cause}");
        }
        Outcome::Retry { reason, after: None }
    }
}

/// The operating system's word, for example "connection refused".
fn root_io(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind()).filter(|kind| *kind != std::io::ErrorKind::Other);
        }
        next = error.source();
    }
    None
}

/// What came back.
struct Answer {
    status: u16,
    retry_after: Option<String>,
    date: Option<String>,
    body: Vec<u8>,
    complete: bool,
    sent: usize,
}

impl Sink for Api {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> (usize, usize) {
        (self.rows, (self.config.max_body_bytes / JSON_GROWTH).max(1))
    }

    fn map(&self, records: &[Record], corrections: bool) -> Mapped {
        let key = key(records);
        if let Some(mapper) = &self.mapper {
            return match mapper.map(records, corrections, &key, self.clock.now()) {
                Ok(outgoing) => Mapped::Flight { key, body: outgoing.encode(), keep: mapper.must_be_kept() },
                Err(Refusal::Unmappable { index, reason }) => Mapped::Unmappable { index, reason },
                Err(Refusal::NotApplicable) => Mapped::NotApplicable,
            };
        }
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
        Mapped::Flight { key, body, keep: false }
    }

    fn fit(&self, records: &[Record], corrections: bool) -> usize {
        self.mapper.as_ref().map_or(records.len(), |mapper| mapper.fit(records, corrections, self.clock.now()))
    }

    async fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        let sent = batch.records.len();
        // A relay always brings what `map` gave.
        let Some(flight) = batch.flight else {
            return Outcome::Retry { reason: "the batch came without its mapped body".to_owned(), after: None };
        };
        let (key, outgoing) = (&flight.key, self.outgoing(&flight.body));
        if outgoing.body.len() > self.config.max_body_bytes {
            let reason = "the body is larger than max_body_bytes".to_owned();
            return Outcome::Refused { reason, answer: format!("{} bytes", outgoing.body.len()) };
        }
        let mut outcome = self.request(key, &outgoing, sent).await;
        // A credential may have been renewed on disk: read it again, and if it is another one, try once more at once.
        if matches!(&outcome, Ok(answer) if answer.status == 401) && self.credential.renewed() {
            outcome = self.request(key, &outgoing, sent).await;
        }
        let answer = match outcome {
            Ok(answer) => answer,
            Err(outcome) => return outcome,
        };
        if answer.status == 413 && sent > 1 {
            self.rows = self.rows.min(sent.div_ceil(2));
        }
        rules::judge(&answer, self.clock.now().wall, self.credential.value())
    }
}

/// The event's id for a lone event, else the first 16 bytes of SHA-256 over the ids in order, hex.
fn key(records: &[Record]) -> String {
    if let [record] = records {
        return record.event.id.to_string();
    }
    let mut digest = Sha256::new();
    for record in records {
        digest.update(record.event.id.0);
    }
    hex(&digest.finalize()[..16])
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What `[sink.request]` and `[sink.map]` make of events, if there is one of them.
fn mapper(config: &Config, url: &reqwest::Url) -> Result<Option<Mapper>, Error> {
    if config.request.is_none() && config.map.is_none() {
        return Ok(None);
    }
    let request = config.request.clone().unwrap_or_default();
    let surroundings =
        request::Surroundings { url, method: &config.method, batch: config.batch, max_bytes: config.max_body_bytes };
    let mapper = Mapper::new(&request, config.map.as_ref(), config.map_correction.as_ref(), &surroundings);
    mapper.map(Some).map_err(Error::Mapping)
}
