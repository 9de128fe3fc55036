//! What was sent, written down before it leaves, and what was confirmed, in a file beside it.
//!
//! Must not: let anything out that isn't in it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use super::Error;
use crate::event::{UtcMicros, json::rfc3339};

/// One event as the device knows it. The names of the fields are part of the contract.
#[derive(Debug, serde::Serialize)]
pub(super) struct Entry<'a> {
    /// The device's own serial number or id.
    pub(super) device_key: &'a str,
    /// Its time as written, where it has a clock.
    pub(super) device_time_raw: Option<&'a str>,
    /// Its sequence number as written, where it has one.
    pub(super) native_seq: Option<&'a str>,
    /// The person as written.
    pub(super) person: Option<&'a str>,
    /// The card as written.
    pub(super) card: Option<&'a str>,
}

/// The two files, shared by all devices of a simulation.
#[derive(Debug)]
pub struct Manifest(Option<Mutex<Files>>);

#[derive(Debug)]
struct Files {
    path: String,
    sent: File,
    confirmed: File,
}

impl Manifest {
    /// Opens (or makes) `path` and `path.confirmed` for appending; nothing is written without a path.
    pub fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self(None)) };
        let open = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| Error::Manifest { path: path.display().to_string(), error })
        };
        let mut confirmed = path.as_os_str().to_owned();
        confirmed.push(".confirmed");
        let files =
            Files { path: path.display().to_string(), sent: open(path)?, confirmed: open(Path::new(&confirmed))? };
        Ok(Self(Some(Mutex::new(files))))
    }

    /// Whether anything is written: else the callers needn't make lines.
    pub(super) const fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Writes lines made by [`sent_line`]; once this returns they may leave. Empties the buffer.
    pub(super) fn sent(&self, lines: &mut Vec<u8>) -> Result<(), Error> {
        self.write(lines, |files| &mut files.sent)
    }

    /// Writes lines made by [`confirmed_line`] and empties the buffer.
    pub(super) fn confirmed(&self, lines: &mut Vec<u8>) -> Result<(), Error> {
        self.write(lines, |files| &mut files.confirmed)
    }

    fn write(&self, lines: &mut Vec<u8>, which: impl Fn(&mut Files) -> &mut File) -> Result<(), Error> {
        if let (Some(files), false) = (&self.0, lines.is_empty()) {
            let mut files = files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            which(&mut files).write_all(lines).map_err(|error| Error::Manifest { path: files.path.clone(), error })?;
        }
        lines.clear();
        Ok(())
    }
}

/// Appends the line of an event that is about to be sent.
pub(super) fn sent_line(entry: &Entry<'_>, at: UtcMicros, lines: &mut Vec<u8>) {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        entry: &'a Entry<'a>,
        sent_at: &'a str,
    }
    line(&Line { entry, sent_at: rfc3339(at).as_str() }, lines);
}

/// Appends the line of an event that was confirmed.
pub(super) fn confirmed_line(key: &str, time: Option<&str>, seq: &str, at: UtcMicros, lines: &mut Vec<u8>) {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        device_key: &'a str,
        device_time_raw: Option<&'a str>,
        native_seq: &'a str,
        confirmed_at: &'a str,
    }
    let confirmed_at = rfc3339(at);
    line(&Line { device_key: key, device_time_raw: time, native_seq: seq, confirmed_at: confirmed_at.as_str() }, lines);
}

fn line(value: &impl serde::Serialize, lines: &mut Vec<u8>) {
    // Writing plain structures into memory can't fail.
    let _ = serde_json::to_writer(&mut *lines, value);
    lines.push(b'\n');
}
