//! OAuth 2.0: client credentials (RFC 6749 §4.4) and a refresh token that may rotate (§6).
//!
//! Must not: use a rotated refresh token before it is on disk, or ask for a token while one is good.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::login::Life;
use super::state::StateFile;
use super::token::{self, Keeper, Need};
use super::{Placement, Words};
use crate::deliver::api::exchange::{Draft, Wire};
use crate::deliver::api::template::percent_encoded;
use crate::deliver::{Error, Outcome};
use crate::secret::SecretSource;

/// `auth = { type = "oauth2" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth2 {
    /// The token endpoint.
    pub url: String,
    /// How a token is asked for.
    pub grant: Grant,
    /// The client's id.
    pub client_id: Words,
    /// The client's secret; public clients have none.
    pub client_secret: Option<SecretSource>,
    /// How the client shows who it is.
    pub client_auth: ClientAuth,
    /// `scope`.
    pub scope: Option<String>,
    /// `audience`.
    pub audience: Option<String>,
    /// How long a token lives where the answer has no `expires_in`.
    pub lifetime: Option<Duration>,
    /// Where the token stands on a request.
    pub place: Placement,
}

/// How a token is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// `client_credentials`.
    ClientCredentials,
    /// `refresh_token`.
    RefreshToken {
        /// The one that a person gave us.
        first: SecretSource,
        /// Where those are kept that replaced it.
        state: PathBuf,
    },
}

/// How the client shows who it is (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// `Authorization: Basic`.
    #[default]
    Basic,
    /// `client_id` and `client_secret` in the form.
    Body,
}

/// The state of an OAuth client.
pub(in crate::deliver::api) struct OAuthState {
    config: OAuth2,
    url: Url,
    keeper: Keeper,
    /// A refresh token that could not be written down yet, and the one that it descends from.
    unsaved: Option<(SecretString, SecretString)>,
    /// What was sent, to be masked.
    sent: Vec<SecretString>,
}

impl OAuthState {
    pub(super) fn new(config: OAuth2) -> Result<Self, Error> {
        let url = Url::parse(&config.url).map_err(|e| Error::Address(format!("auth.url is not a URL: {e}")))?;
        config.place.check()?;
        Ok(Self { config, url, keeper: Keeper::default(), unsaved: None, sent: Vec::new() })
    }

    pub(super) async fn sign(&mut self, wire: &Wire, draft: &mut Draft) -> Result<(), Outcome> {
        self.save()?;
        match self.keeper.need(Instant::now()) {
            Need::None => {}
            Need::Now => self.fetch(wire).await?,
            Need::Soon => match self.fetch(wire).await {
                Ok(()) => {}
                // What can't be written down must not be used; anything else is no trouble while the old one is good.
                Err(outcome) if self.unsaved.is_some() => return Err(outcome),
                Err(_) => {}
            },
        }
        let token = self.keeper.value().unwrap_or_default().to_owned();
        self.config.place.put(draft, &token, &"the token").map_err(|reason| Outcome::Blocked { reason })
    }

    pub(super) async fn renew(&mut self, wire: &Wire) -> Result<bool, Outcome> {
        self.keeper.drop_token();
        self.save()?;
        self.fetch(wire).await.map(|()| true)
    }

    pub(super) fn secrets(&self) -> Vec<&str> {
        self.sent.iter().map(SecretString::expose_secret).chain(self.keeper.value()).collect()
    }

    /// Writes down what could not be written before.
    fn save(&mut self) -> Result<(), Outcome> {
        let (Some((first, token)), Grant::RefreshToken { state, .. }) = (&self.unsaved, &self.config.grant) else {
            return Ok(());
        };
        StateFile(state.clone()).keep(first, token).map_err(|reason| Outcome::Blocked { reason })?;
        self.unsaved = None;
        Ok(())
    }

    async fn fetch(&mut self, wire: &Wire) -> Result<(), Outcome> {
        self.keeper.may_ask(Instant::now())?;
        let (draft, refresh) = self.draft().map_err(|reason| Outcome::Blocked { reason })?;
        let reply = wire.exchange(draft, 0).await.map_err(token::unreachable)?;
        let now = wire.clock.now().wall;
        if let Some(outcome) = token::refused(&reply, now) {
            return Err(outcome);
        }
        let document: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        let text = |key: &str| document.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let Some(access) = text("access_token").map(SecretString::from) else {
            return Err(token::without_token(&reply, "/access_token"));
        };
        if let (Some((first, used)), Some(next)) = (refresh, text("refresh_token"))
            && used.expose_secret() != next
        {
            self.unsaved = Some((first, SecretString::from(next)));
            self.save()?;
        }
        let life = token::life(&Life::Relative("/expires_in".to_owned()), &document, &reply, now);
        self.keeper.keep(access, life.or(self.config.lifetime), Instant::now());
        Ok(())
    }

    /// The request for a token; with a refresh token also the first one and the one in it.
    fn draft(&mut self) -> Result<(Draft, Option<(SecretString, SecretString)>), String> {
        self.sent.clear();
        let mut pairs = Vec::new();
        let refresh = match &self.config.grant {
            Grant::ClientCredentials => {
                pairs.push(("grant_type", "client_credentials".to_owned()));
                None
            }
            Grant::RefreshToken { first, state } => {
                let first = first.read().map_err(|e| e.to_string())?;
                let current = StateFile(state.clone()).current(&first)?;
                pairs.push(("grant_type", "refresh_token".to_owned()));
                pairs.push(("refresh_token", current.expose_secret().to_owned()));
                self.sent.push(current.clone());
                Some((first, current))
            }
        };
        let id = match &self.config.client_id {
            Words::Plain(text) => text.clone(),
            Words::Secret { source, .. } => source.read().map_err(|e| e.to_string())?.expose_secret().to_owned(),
        };
        let secret = match &self.config.client_secret {
            Some(source) => Some(source.read().map_err(|e| e.to_string())?),
            None => None,
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        match (&secret, self.config.client_auth) {
            (Some(secret), ClientAuth::Basic) => {
                let pair = format!("{}:{}", percent_encoded(&id), percent_encoded(secret.expose_secret()));
                let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
                let mut value = HeaderValue::from_str(&text).map_err(|e| e.to_string())?;
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
            (Some(secret), ClientAuth::Body) => {
                pairs.push(("client_id", id));
                pairs.push(("client_secret", secret.expose_secret().to_owned()));
            }
            (None, _) => pairs.push(("client_id", id)),
        }
        self.sent.extend(secret);
        pairs.extend(self.config.scope.clone().map(|scope| ("scope", scope)));
        pairs.extend(self.config.audience.clone().map(|audience| ("audience", audience)));
        let body: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
        let body = Bytes::from(body.join("&"));
        Ok((Draft { method: reqwest::Method::POST, url: self.url.clone(), headers, body }, refresh))
    }
}
