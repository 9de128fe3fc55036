//! `[directory]`: what the platform calls the people.
//!
//! Must not: read the file that it names.

use std::time::Duration;

use super::reader::Reader;
use crate::deliver::directory::Config;

/// `[directory]`, if it is there.
pub(super) fn directory(reader: Reader<'_>) -> Option<Config> {
    const FILE: &str = "the path of a CSV or JSON file, for example \"/etc/portero/people.csv\"";
    const FIELD: &str = "a column of the CSV file, or a JSON pointer such as \"/pin\"";
    let file = reader.path_to("file", FILE);
    if reader.get("file").is_none() {
        reader.missing("file", FILE);
    }
    if let (Some(path), Some(node)) = (&file, reader.get("file"))
        && !path.is_file()
    {
        // Only a doubt: the journal knows the people of the last time.
        reader.doubt("file", &node.place, &format!("{}, which is not there", path.display()), "a file that exists");
    }
    let json = file.as_ref().and_then(|f| f.extension()).is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let field = |key: &'static str| {
        let text = reader.text(key, FIELD)?;
        if (text.is_empty() || (json && !text.starts_with('/')))
            && let Some(node) = reader.get(key)
        {
            let expected = if json { "a JSON pointer such as \"/pin\"" } else { "a column of the CSV file" };
            reader.wrong(key, node, expected);
            return None;
        }
        Some(text.to_owned())
    };
    let (person, card, name) = (field("person"), field("card"), field("name"));
    let external_id = field("external_id");
    if reader.get("external_id").is_none() {
        reader.missing("external_id", FIELD);
    }
    if reader.get("person").is_none() && reader.get("card").is_none() {
        reader.missing("person", "the column or pointer of the number by which terminals know a person (or card)");
    }
    let records = reader.text("records", "a JSON pointer to the array of people, for example \"/data\"");
    if let Some(text) = records
        && (!json || !(text.is_empty() || text.starts_with('/')))
        && let Some(node) = reader.get("records")
    {
        reader.wrong("records", node, "a JSON pointer, in a directory whose file ends in .json");
    }
    let seconds = reader.number("refresh_seconds", 1..=86_400, "a whole number of seconds, for example 60");
    let shrink = reader.number("max_shrink_percent", 0..=100, "a whole number of percent, for example 20");
    reader.finish(&[]);
    Some(Config {
        file: file?,
        person,
        card,
        external_id: external_id?,
        name,
        records: records.unwrap_or_default().to_owned(),
        refresh: Duration::from_secs(seconds.unwrap_or(60)),
        max_shrink_percent: u8::try_from(shrink.unwrap_or(20)).unwrap_or(100),
    })
}
