//! A vendor's REST API.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::SecretSource;
use crate::tls::TlsMode;

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
