//! Credentials that stay as they are: read from their place when first needed, and again after a 401.
//!
//! Must not: keep a credential longer than a use needs outside its place, or put it into an error.

use std::time::Duration;

use base64::Engine as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::{Auth, Placement, Words};
use crate::deliver::Error;
use crate::deliver::api::exchange::Draft;
use crate::secret::SecretSource;

/// A credential is read again after a 401, but not more often than this.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(10);

/// One credential and where it stands.
struct Piece {
    at: Placement,
    what: What,
}

enum What {
    Plain(String),
    Secret(SecretSource),
    /// RFC 7617, the password is the secret.
    Basic(String, SecretSource),
    /// RFC 7617, the user is the secret.
    BasicKey(SecretSource, String),
}

impl What {
    fn source(&self) -> Option<&SecretSource> {
        match self {
            Self::Plain(_) => None,
            Self::Secret(source) | Self::Basic(_, source) | Self::BasicKey(source, _) => Some(source),
        }
    }

    /// What is sent, given the secret.
    fn text(&self, secret: &str) -> String {
        let basic = |user: &str, password: &str| {
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
        };
        match self {
            Self::Plain(text) => text.clone(),
            Self::Secret(_) => secret.to_owned(),
            Self::Basic(user, _) => basic(user, secret),
            Self::BasicKey(_, password) => basic(secret, password),
        }
    }
}

pub(in crate::deliver::api) struct Fixed {
    pieces: Vec<Piece>,
    /// One for each piece, once read; empty for what is no secret.
    read: Option<Vec<SecretString>>,
    renewed_at: Option<Instant>,
}

impl Fixed {
    pub(super) fn new(auth: Auth) -> Result<Self, Error> {
        let header = |name: &str, prefix: &str| Placement::Header { name: name.to_owned(), prefix: prefix.to_owned() };
        let one = |at, what| vec![Piece { at, what }];
        let pieces = match auth {
            Auth::Bearer { token } => one(header("authorization", "Bearer "), What::Secret(token)),
            Auth::Basic { user, password } => one(header("authorization", ""), What::Basic(user, password)),
            Auth::BasicKey { key, password } => one(header("authorization", ""), What::BasicKey(key, password)),
            Auth::ApiKey { header: name, key } => one(header(&name, ""), What::Secret(key)),
            Auth::Query { name, value } => one(Placement::Query { name }, What::Secret(value)),
            Auth::Body { pointer, value } => one(Placement::Body { pointer }, What::Secret(value)),
            Auth::Headers(headers) => headers
                .into_iter()
                .map(|(name, words)| match words {
                    Words::Plain(text) => Piece { at: header(&name, ""), what: What::Plain(text) },
                    Words::Secret { prefix, source } => {
                        Piece { at: header(&name, &prefix), what: What::Secret(source) }
                    }
                })
                .collect(),
            // The others have a run-time state of their own.
            Auth::None | Auth::Login(_) | Auth::OAuth2(_) | Auth::Hmac(_) => Vec::new(),
        };
        pieces.iter().try_for_each(|piece| piece.at.check())?;
        Ok(Self { pieces, read: None, renewed_at: None })
    }

    /// Reads the secrets the first time. The error says what to mend.
    pub(super) fn sign(&mut self, draft: &mut Draft) -> Result<(), String> {
        let read = match self.read.take() {
            Some(read) => read,
            None => self.load()?,
        };
        let read = self.read.insert(read);
        for (piece, secret) in self.pieces.iter().zip(read.iter()) {
            let text = piece.what.text(secret.expose_secret());
            match piece.what.source() {
                Some(source) => piece.at.put(draft, &text, source)?,
                None => piece.at.put(draft, &text, &"a header's text")?,
            }
        }
        Ok(())
    }

    /// After a 401: reads the secrets again; true if one is another one now.
    pub(super) fn renewed(&mut self) -> bool {
        let recent = self.renewed_at.is_some_and(|at| at.elapsed() < READ_AGAIN);
        if self.pieces.is_empty() || recent {
            return false;
        }
        self.renewed_at = Some(Instant::now());
        let Ok(read) = self.load() else { return false };
        let old = self.read.replace(read);
        let text = |secrets: &Vec<SecretString>| {
            secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect::<Vec<_>>()
        };
        old.as_ref().map(text) != self.read.as_ref().map(text)
    }

    pub(super) fn secrets(&self) -> Vec<&str> {
        self.read.iter().flatten().map(SecretString::expose_secret).collect()
    }

    fn load(&self) -> Result<Vec<SecretString>, String> {
        let read = self.pieces.iter().map(|piece| match piece.what.source() {
            Some(source) => source.read().map_err(|e| e.to_string()),
            None => Ok(SecretString::default()),
        });
        read.collect()
    }
}
