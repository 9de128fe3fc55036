//! The HTTP client of sinks and of the worker directory: one request and its answer, bounded, and what it means if there is
//! none.
//!
//! Must not: try again, follow a redirect, go through a proxy from the environment, read without bound, or put a URL into an
//! error.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Url};

use super::{Error, Outcome, trust};
use crate::clock::Clock;
use crate::event::UtcMicros;
use crate::secret::SecretSource;
use crate::tls::{ClientIdentity, TlsMode};

/// A connection must stand within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An idle connection is closed by us after this time, before common servers and load balancers (60 s) close it on their
/// side: a request on a connection that is just being closed has an unknown outcome.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// Unacknowledged bytes on the wire for this long mean a dead link (`TCP_USER_TIMEOUT`, tcp(7)).
const DEAD_LINK: Duration = Duration::from_secs(15);

/// Longest answer that is read, bytes.
pub(super) const MAX_ANSWER: usize = 64 * 1024;

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

/// Where a certificate stands, which is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PemSource {
    /// A file of any mode.
    Path(PathBuf),
    /// A credential.
    Secret(SecretSource),
}

impl PemSource {
    pub(super) fn read(&self) -> Result<Vec<u8>, Error> {
        use secrecy::ExposeSecret as _;
        match self {
            Self::Secret(source) => Ok(source.read()?.expose_secret().as_bytes().to_vec()),
            Self::Path(path) => std::fs::read(path)
                .map_err(|source| Error::Secret(crate::secret::Error::Read { path: path.clone(), source })),
        }
    }
}

/// A proxy that requests go through. What is encrypted passes it unread (`CONNECT`, RFC 9110 §9.3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardProxy {
    /// Where it is.
    pub url: String,
    /// User and password, where it wants them (basic).
    pub login: Option<(String, SecretSource)>,
}

impl ForwardProxy {
    fn open(&self) -> Result<reqwest::Proxy, Error> {
        use secrecy::ExposeSecret as _;
        let failed = |e: reqwest::Error| Error::Address(format!("proxy cannot be used: {}", e.without_url()));
        let proxy = reqwest::Proxy::all(&self.url).map_err(failed)?;
        Ok(match &self.login {
            Some((user, password)) => proxy.basic_auth(user, password.read()?.expose_secret()),
            None => proxy,
        })
    }
}

/// Builds a client; opens no connection and reads no secret but the key of a client certificate and a proxy's password.
/// `timeout` is that of a request, connect to last byte.
pub(super) fn client(
    timeout: Duration,
    tls: TlsMode,
    ca_file: Option<&Path>,
    identity: Option<&(PemSource, SecretSource)>,
    proxy: Option<&ForwardProxy>,
) -> Result<reqwest::Client, Error> {
    use secrecy::ExposeSecret as _;
    let identity = match identity {
        Some((certificate, key)) => {
            let (certificate, key) = (certificate.read()?, key.read()?);
            Some(ClientIdentity::from_pem(&certificate, key.expose_secret().as_bytes())?)
        }
        None => None,
    };
    let tls = crate::tls::client_config_as(tls, ca_file, identity)?;
    let builder = reqwest::Client::builder().no_proxy();
    let builder = match proxy {
        Some(proxy) => builder.proxy(proxy.open()?),
        None => builder,
    };
    builder
        // Checked by type: our rustls and reqwest's must be the same release.
        .tls_backend_preconfigured((*tls).clone())
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(1)
        .tcp_nodelay(true)
        .tcp_user_timeout(DEAD_LINK)
        .user_agent(concat!("portero/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| Error::Http(e.without_url().to_string()))
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The headers that a configuration adds.
pub(super) fn headers(written: &[(String, String)]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let failed = || Error::Header(name.clone());
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| failed())?;
        headers.insert(key, HeaderValue::from_str(value).map_err(|_| failed())?);
    }
    Ok(headers)
}

/// The HTTP client of one server.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) client: reqwest::Client,
    pub(super) clock: Clock,
    /// A proxy is on the way.
    pub(super) proxied: bool,
}

impl Wire {
    /// Sends, and reads the answer. `sent` is how many events are in it.
    pub(super) async fn exchange(&self, draft: Draft, sent: usize) -> Result<Answer, Fault> {
        self.exchange_up_to(draft, sent, MAX_ANSWER).await
    }

    /// The same; of the answer at most `most` bytes are read, and what is longer is not complete.
    pub(super) async fn exchange_up_to(&self, draft: Draft, sent: usize, most: usize) -> Result<Answer, Fault> {
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
                    let room = most - answer.body.len();
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
        } else if error.is_connect() && self.proxied {
            "no connection through the proxy (check its address and password, and that it is on)"
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

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date, which is measured against the server's own clock where it shows
/// it. Whoever asks bounds it.
pub(super) fn wish(reply: &Answer, now: UtcMicros) -> Option<Duration> {
    let text = reply.retry_after.as_deref()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = http_date(text)?;
    let from = reply.date.as_deref().and_then(http_date).unwrap_or(now.0);
    Some(Duration::from_micros(u64::try_from(until.saturating_sub(from)).unwrap_or(0)))
}

/// An HTTP date (RFC 9110 §5.6.7) in UTC microseconds: `Sun, 06 Nov 1994 08:49:37 GMT`. The two obsolete forms are not
/// worth their code: without a date the ordinary backoff holds.
pub(super) fn http_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok().map(jiff::Timestamp::as_microsecond)
}

/// Percent-encodes everything but letters, digits and `-._~` (RFC 3986 §2.3); in a form a blank is `+`
/// (WHATWG URL §5, `application/x-www-form-urlencoded`).
pub(super) fn encode(text: &str, form: bool, out: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        match byte {
            b' ' if form => out.push('+'),
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

/// [`encode`] of a text on its own, for an address.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    encode(text, false, &mut out);
    out
}

/// Scheme, host and port.
pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    (a.scheme(), a.host_str(), a.port_or_known_default()) == (b.scheme(), b.host_str(), b.port_or_known_default())
}
