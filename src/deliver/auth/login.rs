//! A login that gives a token: JSON or form, the token from the body, a header or a cookie.
//!
//! Must not: log in while a token is good, or more often than the keeper allows.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Url;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::token::{self, Keeper, Need};
use super::{Placement, Words};
use crate::deliver::exchange::percent_encoded;
use crate::deliver::exchange::{Answer, Draft, Wire};
use crate::deliver::pointer::put;
use crate::deliver::{Error, Outcome};

/// `auth = { type = "login" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Where.
    pub url: String,
    /// `POST` or `PUT`.
    pub method: String,
    /// How the fields are written.
    pub format: Format,
    /// JSON pointers, or names in a form, and what stands there.
    pub fields: Vec<(String, Words)>,
    /// Further headers of the login.
    pub headers: Vec<(String, Words)>,
    /// Where the token is.
    pub token: TokenAt,
    /// How long it lives.
    pub life: Life,
    /// Where it then stands on a request.
    pub place: Placement,
}

/// How a login is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `application/json`.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// Where an answer holds the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenAt {
    /// JSON pointer.
    Body(String),
    /// Header.
    Header(String),
    /// Cookie that is set.
    Cookie(String),
}

/// How long a token lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Life {
    /// Until it is refused.
    #[default]
    Unlimited,
    /// So long.
    Fixed(Duration),
    /// So many seconds, at this pointer.
    Relative(String),
    /// Until the time at this pointer: seconds or milliseconds since 1970, or RFC 3339.
    Absolute(String),
}

/// The state of a login.
pub(in crate::deliver) struct Logins {
    config: Login,
    url: Url,
    keeper: Keeper,
    /// What was sent, to be masked.
    sent: Vec<SecretString>,
}

impl Logins {
    pub(super) fn new(config: Login) -> Result<Self, Error> {
        let url = Url::parse(&config.url).map_err(|e| Error::Address(format!("auth.url is not a URL: {e}")))?;
        config.place.check()?;
        Ok(Self { config, url, keeper: Keeper::default(), sent: Vec::new() })
    }

    pub(super) async fn sign(&mut self, wire: &Wire, draft: &mut Draft) -> Result<(), Outcome> {
        match self.keeper.need(Instant::now()) {
            Need::None => {}
            Need::Now => self.fetch(wire).await?,
            // The old one is still good: trouble with the new one is no trouble yet.
            Need::Soon => drop(self.fetch(wire).await),
        }
        let token = self.keeper.value().unwrap_or_default().to_owned();
        self.config.place.put(draft, &token, &"the token").map_err(|reason| Outcome::Blocked { reason })
    }

    pub(super) async fn renew(&mut self, wire: &Wire) -> Result<bool, Outcome> {
        self.keeper.drop_token();
        self.fetch(wire).await.map(|()| true)
    }

    pub(super) fn secrets(&self) -> Vec<&str> {
        self.sent.iter().map(SecretString::expose_secret).chain(self.keeper.value()).collect()
    }

    async fn fetch(&mut self, wire: &Wire) -> Result<(), Outcome> {
        self.keeper.may_ask(Instant::now())?;
        let draft = self.draft().map_err(|reason| Outcome::Blocked { reason })?;
        let reply = wire.exchange(draft, 0).await.map_err(token::unreachable)?;
        let now = wire.clock.now().wall;
        if let Some(outcome) = token::refused(&reply, now) {
            return Err(outcome);
        }
        let document: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        let Some(value) = self.config.token.find(&reply, &document) else {
            return Err(token::without_token(&reply, &self.config.token.shown()));
        };
        let life = token::life(&self.config.life, &document, &reply, now);
        self.keeper.keep(value, life, Instant::now());
        Ok(())
    }

    fn draft(&mut self) -> Result<Draft, String> {
        self.sent.clear();
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        for (name, words) in &self.config.headers {
            let text = said(words, &mut self.sent)?;
            let unfit =
                || format!("the login's header '{name}' cannot be sent; letters and hyphens, one line of ASCII");
            let mut value = HeaderValue::from_str(&text).map_err(|_| unfit())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?, value);
        }
        let body = match self.config.format {
            Format::Json => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                let mut document = Value::Null;
                for (pointer, words) in &self.config.fields {
                    let text = said(words, &mut self.sent)?;
                    put(&mut document, pointer, Value::String(text))
                        .ok_or_else(|| format!("the login has no place for the field '{pointer}'"))?;
                }
                serde_json::to_vec(&document).map_err(|e| e.to_string())?
            }
            Format::Form => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
                let mut pairs = Vec::new();
                for (name, words) in &self.config.fields {
                    let name = name.strip_prefix('/').unwrap_or(name);
                    let text = said(words, &mut self.sent)?;
                    pairs.push(format!("{}={}", percent_encoded(name), percent_encoded(&text)));
                }
                pairs.join("&").into_bytes()
            }
        };
        let method = if self.config.method == "PUT" { reqwest::Method::PUT } else { reqwest::Method::POST };
        Ok(Draft { method, url: self.url.clone(), headers, body: Bytes::from(body) })
    }
}

/// The text; a secret is remembered, to be masked.
fn said(words: &Words, sent: &mut Vec<SecretString>) -> Result<String, String> {
    match words {
        Words::Plain(text) => Ok(text.clone()),
        Words::Secret { prefix, source } => {
            let secret = source.read().map_err(|e| e.to_string())?;
            let text = format!("{prefix}{}", secret.expose_secret());
            sent.push(secret);
            Ok(text)
        }
    }
}

impl TokenAt {
    fn find(&self, reply: &Answer, document: &Value) -> Option<SecretString> {
        let text = match self {
            Self::Body(pointer) => match document.pointer(pointer)? {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            },
            Self::Header(name) => reply.headers.get(name)?.to_str().ok()?.trim().to_owned(),
            Self::Cookie(name) => reply.headers.get_all(SET_COOKIE).iter().find_map(|cookie| {
                let pair = cookie.to_str().ok()?.split(';').next()?;
                let (found, value) = pair.split_once('=')?;
                (found.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
            })?,
        };
        (!text.is_empty()).then(|| SecretString::from(text))
    }

    fn shown(&self) -> String {
        match self {
            Self::Body(pointer) => pointer.clone(),
            Self::Header(name) => format!("the header {name}"),
            Self::Cookie(name) => format!("the cookie {name}"),
        }
    }
}
