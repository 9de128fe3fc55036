//! The central PostgreSQL.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::SecretSource;
use crate::tls::TlsMode;

/// `type = "postgres"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `postgresql://USER@HOST:PORT/DATABASE`, without a password.
    pub url: String,
    /// The password.
    pub password: Option<SecretSource>,
    /// Most events a transaction.
    pub batch: usize,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// Own CA.
    pub ca_file: Option<PathBuf>,
    /// Time limit of a transaction.
    pub timeout: Duration,
}
