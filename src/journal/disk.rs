//! A disk that refuses: the reserve that is given up when it is full, and one log line instead of thousands.
//!
//! Must not: let an append use the reserve. It is there so that settling, pruning and checkpoints still work on a full
//! disk; without it even a DELETE fails.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::error::Error;
use super::lock::beside;
use crate::event::BootTime;

/// Size of the reserve, bytes, on all but very small journals.
const BALLAST: u64 = 4 << 20;

/// A repeating error is logged once in this time, microseconds.
const LOG_EVERY: u64 = 60_000_000;

/// A file beside the database that holds space on the disk.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    size: u64,
    ready: bool,
}

impl Ballast {
    pub(super) fn new(database: &Path, max_bytes: u64) -> Self {
        let mut ballast = Self { path: beside(database, ".ballast"), size: BALLAST.min(max_bytes / 16), ready: false };
        ballast.is_ready();
        ballast
    }

    /// Whether the reserve is in place; tries to make it if it isn't.
    pub(super) fn is_ready(&mut self) -> bool {
        if !self.ready {
            self.ready = self.make().is_ok();
            if !self.ready {
                // Half a reserve only takes the room that settling needs.
                let _ = std::fs::remove_file(&self.path);
            }
        }
        self.ready
    }

    fn make(&self) -> Result<(), Error> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        if file.metadata()?.len() >= self.size {
            return Ok(());
        }
        match fallocate(&file, FallocateFlags::empty(), 0, self.size) {
            Ok(()) => Ok(()),
            // A file system without it has no way to promise room; the journal works without a reserve then.
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }

    /// Gives the space back to the disk.
    pub(super) fn release(&mut self) {
        self.ready = false;
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Logs an error when it changes, then once a minute, and one line when it is over.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    word: Option<&'static str>,
    logged: BootTime,
    count: u64,
}

impl Trouble {
    pub(super) fn note(&mut self, error: &Error, now: BootTime) {
        self.count += 1;
        if self.word != Some(error.word()) || now.micros_since(self.logged) >= LOG_EVERY {
            tracing::error!(error = %error, count = self.count, "journal refuses: nothing is confirmed until it is mended");
            self.logged = now;
        }
        self.word = Some(error.word());
    }

    /// Whether the last commit failed.
    pub(super) const fn is_on(&self) -> bool {
        self.word.is_some()
    }

    pub(super) fn over(&mut self, _now: BootTime) {
        if self.word.take().is_some() {
            tracing::info!(count = self.count, "journal works again");
            self.count = 0;
        }
    }
}

/// Makes the database file, readable by us alone; SQLite gives its companions the same mode.
pub(super) fn make_file(path: &Path) -> Result<(), Error> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop).map_err(|error| {
        Error::Io(format!("can't open {}: {error}; its directory must exist and be ours", path.display()))
    })
}
