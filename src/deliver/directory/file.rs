//! A directory from a file: CSV with a header (RFC 4180), or JSON.
//!
//! Must not: read without bound, or quote what it read.

use std::path::Path;

use serde_json::Value;

use super::{Config, Error, MOST, by_card, by_number};
use crate::journal::DirectoryEntry;

/// Largest file, bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Longest number, id or name, characters: what no terminal sends is no key.
const MAX_TEXT: usize = 200;

/// Reads the source: one entry for each number and each card.
pub(super) fn read(config: &Config) -> Result<Vec<DirectoryEntry>, Error> {
    let path = &config.file;
    let io = |error: std::io::Error| Error::Io(path.clone(), error.to_string());
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > MAX_BYTES {
        return Err(Error::Content(path.clone(), format!("{length} bytes, at most {MAX_BYTES} are read")));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let people = if is_json(path) { from_json(config, &bytes) } else { from_csv(config, &bytes) };
    let mut people = people.map_err(|what| Error::Content(path.clone(), what))?;
    // The first word for a number counts, whatever comes later in the file.
    people.sort_by(|a, b| a.key.cmp(&b.key));
    let twice = people.windows(2).find(|pair| pair[0].key == pair[1].key && pair[0].external_id != pair[1].external_id);
    if twice.is_some() {
        let what = "one number or card stands for two people; let each stand for one";
        return Err(Error::Content(path.clone(), what.to_owned()));
    }
    people.dedup_by(|a, b| a.key == b.key);
    if people.len() > MOST {
        return Err(Error::Content(path.clone(), format!("more than {MOST} numbers and cards")));
    }
    Ok(people)
}

/// Adds a person under each of the keys.
fn add(people: &mut Vec<DirectoryEntry>, keys: [Option<&str>; 2], external_id: Option<&str>, name: Option<&str>) {
    let fit = |text: &str| {
        let text = text.trim();
        (!text.is_empty() && text.chars().count() <= MAX_TEXT).then(|| text.to_owned())
    };
    let Some(external_id) = external_id.and_then(fit) else { return };
    let [person, card] = keys;
    let keys = [person.and_then(fit).map(|n| by_number(&n)), card.and_then(fit).map(|n| by_card(&n))];
    for key in keys.into_iter().flatten() {
        people.push(DirectoryEntry { key, external_id: external_id.clone(), name: name.and_then(fit) });
    }
}

fn from_csv(config: &Config, bytes: &[u8]) -> Result<Vec<DirectoryEntry>, String> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    // What spreadsheets of the region write.
    let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let count = |of: u8| first.iter().filter(|b| **b == of).count();
    let delimiter = if count(b';') > count(b',') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(bytes);
    let headers = reader.headers().map_err(|e| broken(&e))?.clone();
    let column = |name: &str| {
        let found = headers.iter().position(|header| header.trim() == name);
        found.ok_or_else(|| {
            // What stands there instead may be the first person of a file without a header.
            format!("no column '{name}' in its first line, which must be a header")
        })
    };
    let maybe = |name: &Option<String>| name.as_deref().map(column).transpose();
    let (external_id, person, card) = (column(&config.external_id)?, maybe(&config.person)?, maybe(&config.card)?);
    let name = maybe(&config.name)?;
    let mut people = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|e| broken(&e))?;
        let cell = |at: Option<usize>| at.and_then(|at| row.get(at));
        add(&mut people, [cell(person), cell(card)], row.get(external_id), cell(name));
    }
    Ok(people)
}

fn broken(error: &csv::Error) -> String {
    match error.position() {
        Some(at) => format!("line {} is no CSV in UTF-8", at.line()),
        None => "not CSV in UTF-8".to_owned(),
    }
}

fn from_json(config: &Config, bytes: &[u8]) -> Result<Vec<DirectoryEntry>, String> {
    let document: Value = serde_json::from_slice(bytes)
        .map_err(|e| format!("not valid JSON at line {}, column {}", e.line(), e.column()))?;
    let Some(Value::Array(records)) = document.pointer(&config.records) else {
        return Err(format!("no array at records = \"{}\"", config.records));
    };
    let mut people = Vec::new();
    for record in records {
        let text = |pointer: Option<&String>| match record.pointer(pointer?)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let (person, card) = (text(config.person.as_ref()), text(config.card.as_ref()));
        let external_id = text(Some(&config.external_id));
        let name = text(config.name.as_ref());
        add(&mut people, [person.as_deref(), card.as_deref()], external_id.as_deref(), name.as_deref());
    }
    Ok(people)
}

/// By its name.
fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config(path: &Path, pointers: bool) -> Config {
        let name = |name: &str| if pointers { format!("/{name}") } else { name.to_owned() };
        Config {
            file: path.to_owned(),
            person: Some(name("pin")),
            card: Some(name("card")),
            external_id: name("id"),
            name: None,
            records: if pointers { "/data".to_owned() } else { String::new() },
            refresh: Duration::from_secs(1),
            max_shrink_percent: 20,
        }
    }

    fn entries(name: &str, text: &str) -> Result<Vec<(String, String)>, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        match read(&config(&path, is_json(&path))) {
            Ok(people) => Ok(people.into_iter().map(|p| (p.key, p.external_id)).collect()),
            Err(error) => Err(error.to_string().replace(&path.display().to_string(), "FILE")),
        }
    }

    fn known(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(pairs.iter().map(|(k, e)| ((*k).to_owned(), (*e).to_owned())).collect())
    }

    #[test]
    fn numbers_and_cards_stand_for_the_platforms_id() {
        let csv = "\u{FEFF}id,pin,card,name\r\n E-1 ,7,0011,\"Rojas, Ana\"\r\nE-2,8,,\r\n,9,,\r\nE-4,,\r\n";
        assert_eq!(entries("people.csv", csv), known(&[("c:0011", "E-1"), ("p:7", "E-1"), ("p:8", "E-2")]));
        assert_eq!(entries("people.csv", "id;pin;card\nE-1;7;\n"), known(&[("p:7", "E-1")]));
        let json = r#"{"data":[{"id":"E-1","pin":7,"card":null},{"id":2,"pin":"8"},{"pin":"9"}]}"#;
        assert_eq!(entries("people.json", json), known(&[("p:7", "E-1"), ("p:8", "2")]));
        assert_eq!(entries("people.csv", "id,pin,card\nE-1,7,\nE-1,7,\n"), known(&[("p:7", "E-1")]));
    }

    #[test]
    fn a_number_and_a_card_of_the_same_digits_are_two_people() {
        let csv = "id,pin,card\nE-1,7,\nE-2,,7\n";
        assert_eq!(entries("people.csv", csv), known(&[("c:7", "E-2"), ("p:7", "E-1")]));
    }

    #[test]
    fn what_is_wrong_is_said_without_a_word_of_the_content() {
        let wrong = |name: &str, text: &str| entries(name, text).expect_err("refused");
        assert_eq!(wrong("p.csv", "id,pin\n"), "FILE: no column 'card' in its first line, which must be a header");
        let without_header = wrong("p.csv", "E-1,7,0011\n");
        assert!(!without_header.contains("E-1") && !without_header.contains('7'), "{without_header}");
        assert!(wrong("p.csv", "id,pin,card\nE-1,7,\nE-2,7,\n").contains("stands for two people"));
        assert_eq!(wrong("p.json", "{\"data\":[{]}"), "FILE: not valid JSON at line 1, column 11");
        assert_eq!(wrong("p.json", "[]"), "FILE: no array at records = \"/data\"");
    }
}
