//! The worker directory: what the platform calls a person whom a terminal knows by a number or a card.
//!
//! Kept in the journal database, so that a start needs no source; refreshed from its source; an old one stays when the source
//! fails, or shrinks by more than it may.
//!
//! Must not: put a person's number or name into a log line (I7), or wait for a source before anything flows (I8).

mod file;

pub mod refresh;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::journal::{DirectoryEntry, Journal, Record};

/// Most people (I10): about 30 MB in memory.
pub const MOST: usize = 200_000;

/// `[directory]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A CSV file with a header, or a JSON file with an array of objects.
    pub file: PathBuf,
    /// Column, or JSON pointer: the number by which terminals know the person.
    pub person: Option<String>,
    /// The same: the number of the person's card.
    pub card: Option<String>,
    /// The same: what the platform calls the person.
    pub external_id: String,
    /// The same: the name; not kept unless configured.
    pub name: Option<String>,
    /// JSON pointer to the array; empty: the document itself.
    pub records: String,
    /// How often the source is looked at.
    pub refresh: Duration,
    /// A source that has lost more than this share of the people, in percent, is refused.
    pub max_shrink_percent: u8,
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
}

impl Directory {
    /// What the journal has kept.
    pub async fn load(journal: &Journal) -> Result<Self, crate::journal::Error> {
        let directory = Self::default();
        directory.replace(&journal.people().await?);
        Ok(directory)
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

    /// Takes over a new list; answers the keys that were not known before, or stood for somebody else.
    fn replace(&self, people: &[DirectoryEntry]) -> HashSet<String> {
        let new: Known = people.iter().map(|person| (person.key.clone(), person.clone())).collect();
        let old = self.known();
        let learned = new.values().filter(|p| old.get(&p.key).map(|o| &o.external_id) != Some(&p.external_id));
        let learned = learned.map(|p| p.key.clone()).collect();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        learned
    }

    /// Fills in what the platform calls the people of these events, where the terminal did not say so itself.
    pub fn fill(&self, records: &mut [Record]) {
        let known = self.known();
        if known.is_empty() {
            return;
        }
        for record in records {
            let Some(entry) = keys(record).find_map(|key| known.get(&key)).cloned() else { continue };
            let person = &mut record.event.reading.person;
            if person.external_id.is_none() {
                person.external_id = Some(entry.external_id);
                person.name = person.name.take().or(entry.name);
            }
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
