//! A directory from an HTTP endpoint: every page, or nothing.
//!
//! Must not: give out half of what there is, leave the configured origin, or quote what it read.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Method, Url};

use super::json::Found;
use super::paging::{Paging, Walk};
use super::people::{People, unfit};
use super::{Error, Fields, csv, json};
use crate::clock::Clock;
use crate::deliver::auth::{Auth, Authority};
use crate::deliver::exchange::{self, Answer, Draft, ForwardProxy, PemSource, Wire};
use crate::deliver::{self, Outcome};
use crate::journal::DirectoryEntry;
use crate::secret::SecretSource;
use crate::tls::TlsMode;

/// Largest page, bytes.
const MOST_PAGE: usize = 32 << 20;

/// Most bytes of all pages together.
const MOST_BYTES: usize = 256 << 20;

/// A source that takes longer for all its pages is given up until the next look.
const MOST_TIME: Duration = Duration::from_secs(1800);

/// What was written so short a time before it was sent may have been written again since, under the same date.
const DATE_GRAIN: i64 = 2_000_000;

/// `[directory]` with an `http` or `https` url.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where the first page is.
    pub url: String,
    /// How we show who we are.
    pub auth: Auth,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// Time limit of a page.
    pub timeout: Duration,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// Own CA.
    pub ca_file: Option<PathBuf>,
    /// A certificate of ours and its key.
    pub client: Option<(PemSource, SecretSource)>,
    /// The proxy on the way.
    pub proxy: Option<ForwardProxy>,
    /// What a page is.
    pub format: Format,
    /// JSON pointer to the array; empty: the document itself.
    pub records: String,
    /// How there is more than one page.
    pub paging: Option<Paging>,
}

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// JSON with an array of objects.
    #[default]
    Json,
    /// CSV with a header.
    Csv,
}

/// What says whether a page has changed (RFC 9110 §8.8).
#[derive(Debug, Clone)]
pub(super) struct Seen {
    url: Url,
    header: HeaderName,
    value: HeaderValue,
}

/// The endpoint.
pub(super) struct Endpoint {
    config: Http,
    url: Url,
    wire: Wire,
    headers: HeaderMap,
    authority: Authority,
}

/// Everybody, and what says whether the pages have changed; nothing of that where one of them says nothing.
pub(super) type Read = (Vec<DirectoryEntry>, Vec<Seen>);

impl Endpoint {
    pub(super) fn new(config: Http, clock: Clock) -> Result<Self, deliver::Error> {
        let url = Url::parse(&config.url)
            .map_err(|e| deliver::Error::Address(format!("url in [directory] is not a URL: {e}")))?;
        let client = exchange::client(
            config.timeout,
            config.tls,
            config.ca_file.as_deref(),
            config.client.as_ref(),
            config.proxy.as_ref(),
        )?;
        let mut headers = exchange::headers(&config.headers)?;
        let accept = if config.format == Format::Csv { "text/csv" } else { "application/json" };
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static(accept));
        let authority = Authority::new(config.auth.clone())?;
        Ok(Self { url, wire: Wire { client, clock, proxied: config.proxy.is_some() }, headers, authority, config })
    }

    /// Reads every page; `None` if none has changed since `seen`.
    pub(super) async fn read(&mut self, seen: &[Seen], fields: &Fields) -> Result<Option<Read>, Error> {
        let late = |_| Error::Away { reason: "not all pages came in half an hour".to_owned(), after: None };
        tokio::time::timeout(MOST_TIME, self.pages(seen, fields)).await.map_err(late)?
    }

    async fn pages(&mut self, seen: &[Seen], fields: &Fields) -> Result<Option<Read>, Error> {
        // Of a page that is asked for with a condition and has changed, the answer is the page.
        let mut first = None;
        for (index, page) in seen.iter().enumerate() {
            let reply = match self.page(&page.url.clone(), Some(page)).await {
                Ok(reply) => reply,
                // A cursor or a signed link may have had its day: then all are read again from the first.
                Err(Error::Away { after: None, .. }) if index > 0 => break,
                Err(error) => return Err(error),
            };
            if reply.status == 304 {
                if index + 1 == seen.len() {
                    return Ok(None);
                }
                continue;
            }
            if index == 0 {
                first = Some(reply);
            }
            break;
        }
        let config = self.config.clone();
        let base = self.url.clone();
        let (mut walk, mut url) = Walk::new(config.paging.as_ref(), &base);
        let (mut people, mut bytes, mut marks) = (People::new(fields), 0, Some(Vec::new()));
        loop {
            let reply = match first.take() {
                Some(reply) => reply,
                None => self.page(&url, None).await?,
            };
            bytes += reply.body.len();
            if bytes > MOST_BYTES {
                return Err(unfit(format!("more than {MOST_BYTES} bytes in all its pages")));
            }
            match (self.mark(&url, &reply), &mut marks) {
                (Some(mark), Some(marks)) => marks.push(mark),
                _ => marks = None,
            }
            let found = match config.format {
                Format::Json => {
                    let wanted = config.paging.as_ref().and_then(Paging::pointer);
                    json::read(&reply.body, &config.records, wanted.as_slice(), &mut people).await
                }
                Format::Csv => {
                    csv::read(&reply.body, &mut people).await.map(|records| Found { records, others: Vec::new() })
                }
            };
            let found = found.map_err(unfit)?;
            match walk.next(&url, &reply.headers, &reply.body, &found)? {
                Some(next) => url = next,
                None => return Ok(Some((people.finish(), marks.unwrap_or_default()))),
            }
        }
    }

    /// One page, status 200 or, if there is a condition, 304.
    async fn page(&mut self, url: &Url, condition: Option<&Seen>) -> Result<Answer, Error> {
        let mut headers = self.headers.clone();
        if let Some(seen) = condition {
            headers.insert(seen.header.clone(), seen.value.clone());
        }
        let draft = Draft { method: Method::GET, url: url.clone(), headers, body: Bytes::new() };
        let mut renewed = false;
        loop {
            let mut signed = draft.clone();
            self.authority.sign(&self.wire, &mut signed).await.map_err(away)?;
            let reply = self.wire.exchange_up_to(signed, 0, MOST_PAGE).await.map_err(|fault| away(fault.outcome))?;
            self.authority.heard(&reply);
            if reply.status == 401
                && !std::mem::replace(&mut renewed, true)
                && self.authority.renew(&self.wire, &reply).await.map_err(away)?
            {
                continue;
            }
            return self.judge(reply, condition.is_some());
        }
    }

    fn judge(&self, reply: Answer, conditional: bool) -> Result<Answer, Error> {
        let what = match reply.status {
            200 if reply.complete => return Ok(reply),
            200 => return Err(unfit(format!("a page of more than {MOST_PAGE} bytes"))),
            304 if conditional => return Ok(reply),
            300..=399 => ": a redirect; give the final address in url",
            401 => ": it does not accept the credential; renew the one that auth names",
            403 => ": the credential has no right to read here; have the right granted",
            404 => ": there is nothing at this address; check the url",
            _ => "",
        };
        let after = exchange::wish(&reply, self.wire.clock.now().wall);
        Err(Error::Away { reason: format!("the server of [directory] answered {}{what}", reply.status), after })
    }

    /// Where a page is known by a header of its own, its ETag before its date. A `Link` header may change without either.
    fn mark(&self, url: &Url, reply: &Answer) -> Option<Seen> {
        if self.config.paging == Some(Paging::Link) {
            return None;
        }
        if let Some(tag) = reply.headers.get(ETAG) {
            return Some(Seen { url: url.clone(), header: IF_NONE_MATCH, value: tag.clone() });
        }
        let value = reply.headers.get(LAST_MODIFIED)?;
        let written = exchange::http_date(value.to_str().ok()?)?;
        let sent = exchange::http_date(reply.date.as_deref()?)?;
        (sent - written >= DATE_GRAIN).then(|| Seen {
            url: url.clone(),
            header: IF_MODIFIED_SINCE,
            value: value.clone(),
        })
    }
}

/// What a sink would wait for, a directory does, too; in its own words.
fn away(outcome: Outcome) -> Error {
    let (reason, after) = match outcome {
        Outcome::Retry { reason, after } => (reason, after),
        Outcome::Blocked { reason } => (reason, None),
        _ => ("no answer".to_owned(), None),
    };
    let reason = reason.replace("the sink's auth", "the auth of [directory]").replace("of the sink", "of [directory]");
    Error::Away { reason, after }
}
