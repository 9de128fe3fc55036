//! The source of a directory, whichever it is: read whole, and only if it has changed.
//!
//! Must not: decide whether what was read is taken over.

use super::database::Reading;
use super::file::{self, Written};
use super::http::{Endpoint, Seen};
use super::{Config, Error, Fields, Source};
use crate::clock::Clock;
use crate::deliver;
use crate::journal::DirectoryEntry;

/// A source, and what is known of its last state.
pub struct Fetcher {
    fields: Fields,
    from: Origin,
}

enum Origin {
    File { path: std::path::PathBuf, records: String, seen: Option<Written>, read: Option<Written> },
    Http { endpoint: Box<Endpoint>, seen: Vec<Seen>, read: Vec<Seen> },
    Database(Box<Reading>),
}

impl Fetcher {
    /// Prepares it; opens no connection.
    pub fn new(config: &Config, clock: Clock) -> Result<Self, deliver::Error> {
        let from = match config.source.clone() {
            Source::File { path, records } => Origin::File { path, records, seen: None, read: None },
            Source::Http(http) => {
                let endpoint = Box::new(Endpoint::new(*http, clock)?);
                Origin::Http { endpoint, seen: Vec::new(), read: Vec::new() }
            }
            Source::Database(database) => Origin::Database(Box::new(Reading::new(*database, clock)?)),
        };
        Ok(Self { fields: config.fields.clone(), from })
    }

    /// Everybody; `None` if nothing has changed since what was [settled](Self::settle).
    pub(super) async fn fetch(&mut self) -> Result<Option<Vec<DirectoryEntry>>, Error> {
        match &mut self.from {
            Origin::File { path, records, seen, read } => {
                *read = file::written(path);
                if read.is_some() && read == seen {
                    return Ok(None);
                }
                let people = file::read(path, records, &self.fields).await?;
                // Half a row may look like a whole one.
                if file::written(path) != *read {
                    let what = "it was written to while it was read; the next look reads it again".to_owned();
                    return Err(Error::Io(path.clone(), what));
                }
                Ok(Some(people))
            }
            Origin::Http { endpoint, seen, read } => {
                read.clear();
                let Some((people, marks)) = endpoint.read(seen, &self.fields).await? else { return Ok(None) };
                *read = marks;
                Ok(Some(people))
            }
            Origin::Database(reading) => reading.read(&self.fields).await.map(Some),
        }
    }

    /// What was fetched last need not be looked at again until it changes.
    pub(super) fn settle(&mut self) {
        match &mut self.from {
            Origin::File { seen, read, .. } => *seen = *read,
            Origin::Http { seen, read, .. } => *seen = std::mem::take(read),
            Origin::Database(_) => {}
        }
    }
}
