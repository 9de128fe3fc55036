//! Asks an address for a bundle and its signature.
//!
//! Must not: follow anybody elsewhere, read without bound, take a page for a bundle, put a URL into an error, or believe
//! anything that was read.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION};
use reqwest::{Client, Response, StatusCode, Url};

use super::bundle::{MAX_BYTES, Signed};
use super::{Error, signature};
use crate::manage::config::RemoteConfig;
use crate::tls::TlsMode;

/// A connection must stand within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One request, connect to last byte.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Redirects on the same host that are followed.
const HOPS: usize = 3;

/// Longest entity tag that is remembered, bytes.
const MAX_TAG: usize = 256;

/// Asks one address.
pub struct Fetch {
    client: Client,
    url: Url,
    signature_url: Url,
    /// Of the last bundle that was fetched whole.
    tag: Option<String>,
}

impl Fetch {
    /// For an address of the configuration; opens no connection.
    pub fn new(config: &RemoteConfig) -> Result<Self, Error> {
        let failed = |reason: String| Error::Fetch(format!("no configuration can be fetched: {reason}"));
        let text = config.url.as_deref().ok_or_else(|| failed("there is no url".to_owned()))?;
        let parse = |text: &str| Url::parse(text).map_err(|_| failed("the url can't be read".to_owned()));
        let (url, signature_url) = (parse(text)?, parse(&format!("{text}.minisig"))?);
        let tls = crate::tls::client_config(TlsMode::Require, config.ca_file.as_deref());
        let tls = match tls {
            Ok(tls) => Some(tls),
            // This machine alone is asked without encryption.
            Err(_) if url.scheme() == "http" => None,
            Err(error) => return Err(failed(error.to_string())),
        };
        let builder = Client::builder().no_proxy();
        let builder = match tls {
            Some(tls) => builder.tls_backend_preconfigured((*tls).clone()),
            None => {
                let tls = crate::tls::client_config(TlsMode::Insecure, None).map_err(|e| failed(e.to_string()))?;
                builder.tls_backend_preconfigured((*tls).clone())
            }
        };
        let client = builder
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("portero/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| failed(error.without_url().to_string()))?;
        Ok(Self { client, url, signature_url, tag: None })
    }

    /// Asks once. `None`: nothing new.
    pub async fn ask(&mut self) -> Result<Option<Signed>, Error> {
        let response = self.get(&self.url, self.tag.as_deref()).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let payload = body(response, MAX_BYTES, "the bundle").await?;
        let response = self.get(&self.signature_url, None).await?;
        let signature = body(response, signature::MAX_BYTES, "the signature").await?;
        let signature = String::from_utf8(signature).map_err(|_| Error::SignatureForm)?;
        self.tag = tag.filter(|tag| tag.len() <= MAX_TAG);
        Ok(Some(Signed { payload, signature }))
    }

    /// What was fetched was not taken for good: it may be that the signature belongs to the one before, and comes soon.
    pub fn forget(&mut self) {
        self.tag = None;
    }

    async fn get(&self, url: &Url, tag: Option<&str>) -> Result<Response, Error> {
        let mut url = url.clone();
        for _ in 0..=HOPS {
            let request = self.client.get(url.clone());
            let request = match tag {
                Some(tag) => request.header(IF_NONE_MATCH, tag),
                None => request,
            };
            let response = request.send().await.map_err(|error| failed(&error.without_url()))?;
            let status = response.status();
            if status == StatusCode::NOT_MODIFIED && tag.is_some() {
                return Ok(response);
            }
            if status.is_redirection() {
                let next = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                let next = next.and_then(|to| url.join(to).ok());
                let origin = |url: &Url| {
                    (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default())
                };
                match next {
                    Some(next) if origin(&next) == origin(&url) => url = next,
                    _ => {
                        return Err(Error::Fetch(format!(
                            "the address answers {status} and leads to another host; give the final address as [manage.remote] url"
                        )));
                    }
                }
                continue;
            }
            if status != StatusCode::OK {
                return Err(Error::Fetch(format!("the address answers {status}; {}", remedy(status))));
            }
            return Ok(response);
        }
        Err(Error::Fetch(format!("the address leads on more than {HOPS} times; give the final one")))
    }
}

fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "a bundle is signed, not secret: let it be read without a login",
        404 | 410 => "put the bundle there, and its signature beside it with .minisig at the end",
        _ => "it is asked again",
    }
}

/// The whole body, if it is short enough and no page.
async fn body(mut response: Response, most: usize, what: &str) -> Result<Vec<u8>, Error> {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    if kind.to_ascii_lowercase().starts_with("text/html") {
        return Err(page(what));
    }
    let large = || Error::Fetch(format!("{what} has more than {most} bytes; make sure that the address serves it"));
    if response.content_length().is_some_and(|length| usize::try_from(length).map_or(true, |length| length > most)) {
        return Err(large());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error.without_url()))? {
        if bytes.len() + chunk.len() > most {
            return Err(large());
        }
        bytes.extend_from_slice(&chunk);
    }
    let start = bytes.trim_ascii_start().get(..5).unwrap_or_default().to_ascii_lowercase();
    if start.starts_with(b"<!doc") || start.starts_with(b"<html") {
        return Err(page(what));
    }
    Ok(bytes)
}

fn page(what: &str) -> Error {
    Error::Fetch(format!("a web page is served in the place of {what}; give the address of the file itself"))
}

fn failed(error: &reqwest::Error) -> Error {
    if let Some(words) = crate::deliver::certificate_words(error) {
        return Error::Fetch(format!("the address is not trusted: {words}"));
    }
    let reason = if error.is_timeout() {
        "the address does not answer in time"
    } else if error.is_dns() {
        "the name of the address can't be resolved"
    } else if error.is_connect() {
        "there is no connection to the address (network, or nobody listens)"
    } else {
        "the answer of the address broke off"
    };
    Error::Fetch(format!("{reason}; it is asked again"))
}
