//! One request and its answer, bounded, and what it means if there is none.
//!
//! Must not: try again, follow a redirect, read without bound, or put a URL into an error.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Url};

use super::Config;
use crate::clock::Clock;
use crate::deliver::{Error, Outcome, trust};
use crate::tls::ClientIdentity;

/// Longest answer that is read, bytes.
pub(super) const MAX_ANSWER: usize = 64 * 1024;

/// A connection must stand within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An idle connection is closed by us after this time, before common servers and load balancers (60 s) close it on their
/// side: a request on a connection that is just being closed has an unknown outcome.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// Unacknowledged bytes on the wire for this long mean a dead link (`TCP_USER_TIMEOUT`, tcp(7)).
const DEAD_LINK: Duration = Duration::from_secs(15);

/// A request before it leaves: who we are is added to a copy of it for each try.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    pub(super) date: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) complete: bool,
    pub(super) sent: usize,
}

/// No answer, or half of one.
#[derive(Debug)]
pub(super) struct Fault {
    /// What it is for a sink to which the same bytes may go again.
    pub(super) outcome: Outcome,
    /// Bytes of the request may have left.
    pub(super) left: bool,
}

/// The client that a configuration asks for.
pub(super) fn client(config: &Config) -> Result<reqwest::Client, Error> {
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

/// The HTTP client of one sink.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) client: reqwest::Client,
    pub(super) clock: Clock,
}

impl Wire {
    /// Sends, and reads the answer. `sent` is how many events are in it.
    pub(super) async fn exchange(&self, draft: Draft, sent: usize) -> Result<Answer, Fault> {
        let Draft { method, url, headers, body } = draft;
        let request = self.client.request(method, url).headers(headers);
        let request = if body.is_empty() { request } else { request.body(body) };
        let mut response = request.send().await.map_err(|e| self.failed(e))?;
        let headers = std::mem::take(response.headers_mut());
        let text =
            |name| headers.get(name).and_then(|v: &reqwest::header::HeaderValue| v.to_str().ok()).map(str::to_owned);
        let mut answer = Answer {
            status: response.status().as_u16(),
            retry_after: text(RETRY_AFTER),
            date: text(DATE),
            headers,
            body: Vec::new(),
            complete: true,
            sent,
        };
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
    fn failed(&self, error: reqwest::Error) -> Fault {
        let error = error.without_url();
        if let Some(problem) = trust::certificate_problem(&error) {
            return Fault { outcome: trust::outcome(problem, self.clock.now().synchronised), left: false };
        }
        let left = !error.is_connect() && !error.is_builder();
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
        Fault { outcome: Outcome::Retry { reason, after: None }, left }
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
