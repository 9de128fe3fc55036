//! People as they come from a source, one by one: an entry for each number and each card.
//!
//! Must not: keep without bound, or quote what it read.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::Value;

use super::{Error, Fields, MOST, by_card, by_number};
use crate::journal::DirectoryEntry;

/// Longest number, id or name, characters: what no terminal sends is no key.
const MAX_TEXT: usize = 200;

/// After so many bytes of work others get their turn: some tenths of a millisecond on a small board.
const STEP: usize = 64 * 1024;

/// Work in bounded steps: a directory of many megabytes must not hold up the links.
#[derive(Debug, Default)]
pub(super) struct Breath(usize);

impl Breath {
    /// Lets others run once enough was done.
    pub(super) async fn after(&mut self, bytes: usize) {
        self.0 += bytes;
        if self.0 >= STEP {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// What a source has given so far.
pub(super) struct People<'c> {
    pub(super) fields: &'c Fields,
    known: BTreeMap<String, DirectoryEntry>,
}

impl<'c> People<'c> {
    pub(super) fn new(fields: &'c Fields) -> Self {
        Self { fields, known: BTreeMap::new() }
    }

    /// One person; who has no id at the platform, or neither number nor card, is passed over.
    pub(super) fn add(
        &mut self,
        person: Option<&str>,
        card: Option<&str>,
        external_id: Option<&str>,
        name: Option<&str>,
    ) -> Result<(), String> {
        let fit = |text: &str| {
            let text = text.trim();
            (!text.is_empty() && text.chars().count() <= MAX_TEXT).then(|| text.to_owned())
        };
        let Some(external_id) = external_id.and_then(fit) else { return Ok(()) };
        let keys = [person.and_then(fit).map(|n| by_number(&n)), card.and_then(fit).map(|n| by_card(&n))];
        for key in keys.into_iter().flatten() {
            match self.known.entry(key) {
                // The first word for a number counts, whatever comes later.
                Entry::Occupied(known) if known.get().external_id == external_id => {}
                Entry::Occupied(_) => {
                    return Err("one number or card stands for two people; let each stand for one".to_owned());
                }
                Entry::Vacant(place) => {
                    let key = place.key().clone();
                    let name = name.and_then(fit);
                    place.insert(DirectoryEntry { key, external_id: external_id.clone(), name });
                }
            }
        }
        if self.known.len() > MOST {
            return Err(format!("more than {MOST} numbers and cards"));
        }
        Ok(())
    }

    /// The same of an object, `at` finding what a field names.
    pub(super) fn object<'v>(&mut self, at: impl Fn(&str) -> Option<&'v Value>) -> Result<(), String> {
        let text = |field: &Option<String>| match at(field.as_deref()?)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let fields = self.fields;
        let external_id = text(&Some(fields.external_id.clone()));
        let (person, card, name) = (text(&fields.person), text(&fields.card), text(&fields.name));
        self.add(person.as_deref(), card.as_deref(), external_id.as_deref(), name.as_deref())
    }

    /// Everybody, by key.
    pub(super) fn finish(self) -> Vec<DirectoryEntry> {
        self.known.into_values().collect()
    }
}

/// What went wrong with what a server had.
pub(super) fn unfit(what: impl Into<String>) -> Error {
    Error::Unfit(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_people_than_memory_is_meant_for() {
        let fields = Fields { person: None, card: None, external_id: String::new(), name: None };
        let mut people = People::new(&fields);
        for n in 0..MOST {
            assert_eq!(people.add(Some(&n.to_string()), None, Some("E"), None), Ok(()));
        }
        assert_eq!(people.add(Some("7"), None, Some(" E "), None), Ok(()), "again the same");
        assert_eq!(people.add(None, None, Some("E-2"), None), Ok(()), "nobody");
        assert_eq!(people.add(Some("x"), None, None, None), Ok(()), "no id");
        assert_eq!(people.add(Some(&"1".repeat(201)), None, Some("E"), None), Ok(()), "no number");
        assert!(people.add(Some("one more"), None, Some("E"), None).is_err());
    }
}
