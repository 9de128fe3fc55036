//! How we show a vendor who we are: read from the secret's place when first needed, and again after a 401.
//!
//! Must not: keep a credential longer than a use needs outside its header, or put it into an error.

use std::time::Duration;

use base64::Engine as _;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::Auth;
use crate::deliver::Error;

/// A credential is read again after a 401, but not more often than this.
const READ_AGAIN: Duration = Duration::from_secs(10);

pub(super) struct Credential {
    auth: Auth,
    header: HeaderName,
    read: Option<(SecretString, HeaderValue)>,
    read_at: Option<Instant>,
}

impl Credential {
    pub(super) fn new(auth: Auth) -> Result<Self, Error> {
        let header = match &auth {
            Auth::ApiKey { header, .. } => {
                HeaderName::from_bytes(header.as_bytes()).map_err(|_| Error::Header(header.clone()))?
            }
            _ => AUTHORIZATION,
        };
        Ok(Self { auth, header, read: None, read_at: None })
    }

    /// The header to send; reads the secret the first time. The error says what to mend.
    pub(super) fn header(&mut self) -> Result<Option<(HeaderName, HeaderValue)>, String> {
        if self.auth == Auth::None {
            return Ok(None);
        }
        if self.read.is_none() {
            self.load()?;
        }
        Ok(self.read.as_ref().map(|(_, value)| (self.header.clone(), value.clone())))
    }

    /// After a 401: reads the secret again; true if it is another one now.
    pub(super) fn renewed(&mut self) -> bool {
        let recent = self.read_at.is_some_and(|at| at.elapsed() < READ_AGAIN);
        if self.auth == Auth::None || recent {
            return false;
        }
        let old = self.read.take();
        if self.load().is_err() {
            self.read = old;
            return false;
        }
        let text = |read: &Option<(SecretString, HeaderValue)>| {
            read.as_ref().map(|(secret, _)| secret.expose_secret().to_owned())
        };
        text(&old) != text(&self.read)
    }

    /// The secret itself, so that it can be masked where a server echoes it.
    pub(super) fn value(&self) -> &str {
        self.read.as_ref().map_or("", |(secret, _)| secret.expose_secret())
    }

    fn load(&mut self) -> Result<(), String> {
        let source = match &self.auth {
            Auth::None => return Ok(()),
            Auth::Bearer { token } => token,
            Auth::Basic { password, .. } => password,
            Auth::ApiKey { key, .. } => key,
        };
        self.read_at = Some(Instant::now());
        let secret = source.read().map_err(|e| e.to_string())?;
        let text = match &self.auth {
            Auth::None | Auth::ApiKey { .. } => secret.expose_secret().to_owned(),
            Auth::Bearer { .. } => format!("Bearer {}", secret.expose_secret()),
            Auth::Basic { user, .. } => {
                let pair = format!("{user}:{}", secret.expose_secret());
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            format!("{source} holds characters that a header cannot carry; write it as one line of ASCII")
        })?;
        value.set_sensitive(true);
        self.read = Some((secret, value));
        Ok(())
    }
}
