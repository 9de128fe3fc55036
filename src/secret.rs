//! Secrets by reference: configuration names them, the value is read when it is needed.
//!
//! Must not: hold a secret longer than a use needs, print one, or accept a file that others can read.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

/// Longest secret accepted, bytes: a PEM bundle fits.
const MAX_BYTES: u64 = 64 * 1024;

/// Where a secret stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// `$CREDENTIALS_DIRECTORY/NAME`, filled by systemd's `LoadCredential=`.
    Credential(String),
    /// A file of mode 0600 (or stricter).
    File(PathBuf),
}

/// Why a secret could not be had. Names the place, never the value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not started by systemd, or no `LoadCredential=` for it.
    #[error(
        "credential '{0}' is not available: $CREDENTIALS_DIRECTORY is not set; start by systemd with LoadCredential={0}:PATH"
    )]
    NoDirectory(String),
    /// Can't be read.
    #[error("cannot read secret file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("secret file {path} is readable by others (mode {mode:03o}); run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Empty, too large or not text.
    #[error("secret file {0} is empty, larger than 64 KiB, or not UTF-8 text")]
    Unusable(PathBuf),
}

impl SecretSource {
    /// Where it would be read from.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Credential(name) => std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| Path::new(&dir).join(name)),
            Self::File(path) => Some(path.clone()),
        }
    }

    /// Reads it. One trailing line end is cut off.
    pub fn read(&self) -> Result<SecretString, Error> {
        let path = match (self, self.path()) {
            (_, Some(path)) => path,
            (Self::Credential(name), None) => return Err(Error::NoDirectory(name.clone())),
            (Self::File(path), None) => path.clone(),
        };
        let failed = |source| Error::Read { path: path.clone(), source };
        let meta = std::fs::metadata(&path).map_err(failed)?;
        let mode = meta.permissions().mode() & 0o777;
        // systemd itself guards its credentials directory; a plain file has only its mode.
        if matches!(self, Self::File(_)) && mode & 0o077 != 0 {
            return Err(Error::Exposed { path, mode });
        }
        if meta.len() == 0 || meta.len() > MAX_BYTES {
            return Err(Error::Unusable(path));
        }
        let bytes = std::fs::read(&path).map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::Unusable(path.clone()))?;
        let text = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
        if text.is_empty() {
            return Err(Error::Unusable(path));
        }
        Ok(SecretString::from(text.to_owned()))
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "credential '{name}'"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}
