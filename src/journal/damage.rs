//! A file that is no longer a database: set aside whole, never deleted, never written to.
//!
//! Must not: take a file that is merely in use, newer than us, or somebody else's for damaged.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use super::error::Error;
use super::lock::beside;
use crate::clock::Clock;
use crate::event::json::rfc3339;

/// How long a check at start may take, microseconds: part of the time from start to ready. What it does not reach in
/// time, `verify` does.
const CHECK_MICROS: u64 = 40_000;

/// Instructions of SQLite's machine between two looks at the clock.
const CHECK_STEPS: i32 = 1000;

/// What every SQLite file begins with (sqlite.org/fileformat2.html, "The Database Header").
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Looks at the first bytes, so that SQLite never opens, and never tidies up beside, what isn't a database.
pub(super) fn sniff(path: &Path) -> Result<(), Error> {
    let mut head = Vec::with_capacity(MAGIC.len());
    match fs::File::open(path) {
        Ok(file) => file.take(16).read_to_end(&mut head)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(Error::Io(format!("can't read {}: {error}", path.display()))),
    };
    let wal = fs::metadata(beside(path, "-wal")).map_or(0, |meta| meta.len());
    match head.as_slice() {
        [] if wal == 0 => Ok(()),
        [] => Err(Error::Corrupt("the file is empty and its WAL is not".to_owned())),
        head if head == MAGIC => Ok(()),
        _ => Err(Error::Corrupt("the file is not a database".to_owned())),
    }
}

/// Checks the structure of the file, as far as the time of a start allows.
pub(super) fn quick_check(conn: &mut Connection, clock: &Clock) -> Result<(), Error> {
    quick_check_within(conn, clock, CHECK_MICROS)
}

/// The same within so many microseconds.
pub(super) fn quick_check_within(conn: &mut Connection, clock: &Clock, within: u64) -> Result<(), Error> {
    let (started, clock) = (clock.now().boot, clock.clone());
    conn.progress_handler(CHECK_STEPS, Some(move || clock.now().boot.micros_since(started) > within))?;
    let verdict = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    conn.progress_handler(0, None::<fn() -> bool>)?;
    match verdict {
        Ok(text) if text == "ok" => Ok(()),
        Ok(text) => Err(Error::Corrupt(text)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Moves the database and its companions into a directory beside it, together. Answers where.
pub(super) fn set_aside(path: &Path, clock: &Clock) -> Result<PathBuf, Error> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let utc = rfc3339(clock.now().wall).as_str()[..19].replace(['-', ':'], "");
    let mut directory = parent.join(format!("quarantine-{utc}Z"));
    for n in 2.. {
        match fs::create_dir(&directory) {
            Ok(()) => break,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                directory = parent.join(format!("quarantine-{utc}Z-{n}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    // The WAL first: a database without its WAL would look whole and be old.
    for suffix in ["-wal", "-shm", ""] {
        let from = beside(path, suffix);
        if let (true, Some(name)) = (from.exists(), from.file_name()) {
            fs::rename(&from, directory.join(name))?;
        }
    }
    fs::File::open(parent)?.sync_all()?;
    Ok(directory)
}
