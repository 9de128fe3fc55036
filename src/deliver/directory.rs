//! The worker directory: what the platform calls a person whom a terminal knows by a number or a card.
//!
//! Kept in the journal database, so that a start needs no source; refreshed from its source; an old one stays when the source
//! fails, or shrinks by more than it may.
//!
//! Must not: put a person's number or name into a log line (I7), or wait for a source before anything flows (I8).

mod csv;

mod database;

mod fetch;

mod file;

pub mod http;

mod json;

mod paging;

mod people;

pub mod refresh;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

pub use self::database::Database;
pub use self::fetch::Fetcher;
pub use self::http::Http;
pub use self::paging::Paging;
use super::expiry::Expiry;
use crate::event::UtcMicros;
use crate::journal::{DirectoryEntry, Journal, Record};

/// Most numbers and cards (I10): about 30 MB in memory.
pub const MOST: usize = 200_000;

/// `[directory]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where people come from.
    pub source: Source,
    /// What is read of each.
    pub fields: Fields,
    /// How often the source is looked at.
    pub refresh: Duration,
    /// A source that has lost more than this share of the people, in percent, is refused.
    pub max_shrink_percent: u8,
}

/// Where people come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A CSV file with a header, or a JSON file with an array of objects.
    File {
        /// Where it is; JSON if its name ends in `.json`.
        path: PathBuf,
        /// JSON pointer to the array; empty: the document itself.
        records: String,
    },
    /// An HTTP endpoint.
    Http(Box<Http>),
    /// A query of a PostgreSQL database.
    Database(Box<Database>),
}

/// What is read of a person: columns of CSV and of a query, JSON pointers else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// The number by which terminals know the person.
    pub person: Option<String>,
    /// The number of the person's card.
    pub card: Option<String>,
    /// What the platform calls the person.
    pub external_id: String,
    /// The name; not kept unless configured.
    pub name: Option<String>,
}

/// Why a source can't be used. Quotes nothing of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The file can't be read.
    #[error("{0} can't be read: {1}")]
    Io(PathBuf, String),
    /// It isn't what it should be.
    #[error("{0}: {1}")]
    Content(PathBuf, String),
    /// A server can't be asked, or does not answer as it should.
    #[error("{reason}")]
    Away {
        /// Why.
        reason: String,
        /// How long it wants to be left alone.
        after: Option<Duration>,
    },
    /// What a server has isn't what it should be.
    #[error("what the source has cannot be used: {0}")]
    Unfit(String),
    /// It has lost too many.
    #[error(
        "the source has {now} people where {before} are known, fewer than max_shrink_percent allows; the old directory \
         stays; if it is right, raise max_shrink_percent in [directory]"
    )]
    Shrunk {
        /// Known now.
        before: usize,
        /// In the source.
        now: usize,
    },
}

type Known = HashMap<String, DirectoryEntry>;

/// The directory as everybody uses it; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    known: Arc<RwLock<Arc<Known>>>,
    health: Arc<Mutex<Health>>,
}

/// How the directory is, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// How many numbers and cards are known.
    pub count: usize,
    /// When its source last was as it is now.
    pub refreshed: Option<UtcMicros>,
    /// Why it is not refreshed, and what to do.
    pub error: Option<String>,
    /// What ends first of that by which its source knows us.
    pub expiry: Option<Expiry>,
}

impl Directory {
    /// What the journal has kept.
    pub async fn load(journal: &Journal) -> Result<Self, crate::journal::Error> {
        let directory = Self::default();
        directory.recall(journal).await?;
        Ok(directory)
    }

    /// Takes over what the journal has kept.
    pub async fn recall(&self, journal: &Journal) -> Result<(), crate::journal::Error> {
        self.replace(&journal.people().await?).await;
        Ok(())
    }

    /// Forgets everybody: there is no directory any more. What the journal has kept stays there.
    pub async fn clear(&self) {
        self.replace(&[]).await;
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = Health::default();
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many numbers and cards are known.
    pub fn len(&self) -> usize {
        self.known().len()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How it is.
    pub fn health(&self) -> Health {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Health { count: self.len(), ..health }
    }

    /// Notes what ends first of that by which the source knows us.
    pub fn expires(&self, expiry: Option<Expiry>) {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).expiry = expiry;
    }

    /// The source was taken over, or is as it was then; answers whether there was something to complain of.
    fn well(&self, now: UtcMicros) -> bool {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.refreshed = Some(now);
        health.error.take().is_some()
    }

    /// The source can't be used; answers whether that is news.
    fn complain(&self, error: &str) -> bool {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.error.replace(error.to_owned()).as_deref() != Some(error)
    }

    /// Takes over a new list; answers the keys that were not known before, or stood for somebody else.
    async fn replace(&self, people: &[DirectoryEntry]) -> HashSet<String> {
        let old = self.known();
        let (mut new, mut learned) = (Known::with_capacity(people.len()), HashSet::new());
        let mut breath = people::Breath::default();
        for person in people {
            if old.get(&person.key).map(|known| &known.external_id) != Some(&person.external_id) {
                learned.insert(person.key.clone());
            }
            new.insert(person.key.clone(), person.clone());
            breath.after(person.key.len() + person.external_id.len()).await;
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        learned
    }

    /// Whether this event, as it was filled in, would now go out for somebody else.
    pub fn has_learned_since(&self, record: &Record) -> bool {
        let known = self.known();
        let entry = keys(record).find_map(|key| known.get(&key));
        entry.is_some_and(|entry| record.event.reading.person.external_id.as_ref() != Some(&entry.external_id))
    }

    /// Fills in what the platform calls the people of these events, where the terminal did not say so itself.
    pub fn fill(&self, records: &mut [Record]) {
        let known = self.known();
        if known.is_empty() {
            return;
        }
        for record in records {
            if record.event.reading.person.external_id.is_some() {
                continue;
            }
            let Some(entry) = keys(record).find_map(|key| known.get(&key)) else { continue };
            let person = &mut record.event.reading.person;
            person.external_id = Some(entry.external_id.clone());
            person.name = person.name.take().or_else(|| entry.name.clone());
        }
    }
}

/// The key of a person's number: kept apart from cards, which have numbers of their own.
fn by_number(number: &str) -> String {
    format!("p:{number}")
}

/// The key of a card.
fn by_card(number: &str) -> String {
    format!("c:{number}")
}

/// By what an event's person may be known.
fn keys(record: &Record) -> impl Iterator<Item = String> {
    let reading = &record.event.reading;
    let person = reading.person.terminal_person_id.as_deref().map(by_number);
    person.into_iter().chain(reading.credential.card_number.as_deref().map(by_card))
}
