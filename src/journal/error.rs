//! Why the journal refuses, and how SQLite's codes map onto that.
//!
//! Must not: quote a row. SQLite's own messages name tables and files, never values.

use std::path::PathBuf;

use rusqlite::ErrorCode;

/// Why the journal refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another process owns the file.
    #[error("journal {path} is owned by process {pid}; stop it first, or ask it through the control socket")]
    Owned {
        /// The database file.
        path: PathBuf,
        /// The owner, 0 if it could not be told.
        pid: u32,
    },
    /// Written by a newer release.
    #[error(
        "journal {path} needs a reader of version {needs}, this is version {ours}; install the newer release again"
    )]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// `min_reader` in the file.
        needs: u32,
        /// What this build reads.
        ours: u32,
    },
    /// The disk or the quota is full: nothing more is confirmed until there is room.
    #[error("journal is full: {0}")]
    Full(String),
    /// The disk refused.
    #[error("journal i/o failed: {0}")]
    Io(String),
    /// The file is damaged.
    #[error("journal is damaged: {0}")]
    Corrupt(String),
    /// SQLite can't give the durability that we promise.
    #[error("journal refused: {0}")]
    Unsafe(String),
    /// The journal's thread has ended.
    #[error("journal is closed")]
    Closed,
    /// There is no such thing in it.
    #[error("{0}")]
    NotFound(String),
}

impl Error {
    /// Whether the question was wrong and the disk is innocent: the transaction goes on.
    pub(super) const fn is_answer(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// A stable word for logs.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Owned { .. } => "owned",
            Self::TooNew { .. } => "too_new",
            Self::Full(_) => "full",
            Self::Io(_) => "io",
            Self::Corrupt(_) => "corrupt",
            Self::Unsafe(_) => "unsafe",
            Self::Closed => "closed",
            Self::NotFound(_) => "not_found",
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        // The extended code tells a failed fsync from a failed write.
        let text = match &error {
            rusqlite::Error::SqliteFailure(failure, _) => format!("{error} (sqlite {})", failure.extended_code),
            _ => error.to_string(),
        };
        match code {
            Some(ErrorCode::DiskFull) => Self::Full(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(text),
            _ => Self::Io(text),
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}
