//! `[directory]`: what the platform calls the people, from a file, an HTTP endpoint or a database.
//!
//! Must not: read what it names.

mod http;

use std::time::Duration;

use super::database;
use super::reader::{Reader, as_text};
use super::sinks::timeout;
use crate::deliver::directory::{Config, Database, Fields, Source};

const FILE: &str = "the path of a CSV or JSON file, for example \"/etc/portero/people.csv\"";

const URL: &str = "an address such as \"https://hr.example/api/employees\" or \"postgresql://portero@db.example/hr\"";

const FIELD: &str = "a column of the CSV file, or a JSON pointer such as \"/pin\"";

const QUERY: &str = "one SELECT, for example \"SELECT pin, employee_id FROM employees\"";

/// A file costs nothing to look at; a server does.
const REFRESH: (u64, u64) = (60, 300);

/// What the fields and `records` are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Csv,
    Json,
    Rows,
}

/// Keys that belong to one kind of source, for whoever writes them beside another.
const ONLY_FILE: &[&str] = &["file"];
const ONLY_HTTP: &[&str] = &["auth", "headers", "format", "paging", "client_cert", "client_key", "proxy"];
const ONLY_SERVER: &[&str] = &["url", "tls", "ca_file", "timeout_seconds"];
const ONLY_DATABASE: &[&str] = &["query", "password"];

/// `[directory]`, if it is there.
pub(super) fn directory(reader: Reader<'_>) -> Option<Config> {
    // Looked at, not asked for: what may stand there is another list for each kind of source.
    let there = |key: &str| reader.entries().find(|(name, ..)| *name == key).map(|(_, _, node)| node);
    let (file, url) = (there("file"), there("url"));
    if let (Some(_), Some(node)) = (file, url) {
        reader.wrong("url", node, "no url beside file: people come from one place");
        return None;
    }
    let scheme = url.and_then(as_text).and_then(|url| url.split_once("://")).map(|(scheme, _)| scheme);
    let mut elsewhere: Vec<(&str, &str)> = Vec::new();
    let mut belong = |keys: &'static [&'static str], to: &'static str| elsewhere.extend(keys.iter().map(|k| (*k, to)));
    let (source, shape) = match (url, scheme) {
        (None, _) => {
            if file.is_none() && ["query", "paging", "auth"].into_iter().any(|key| there(key).is_some()) {
                reader.missing("url", URL);
                return None;
            }
            belong(ONLY_HTTP, "a directory with url = \"https://…\"");
            belong(ONLY_SERVER, "a directory with url = \"…\"");
            belong(ONLY_DATABASE, "a directory with url = \"postgresql://…\"");
            from_file(&reader)
        }
        (Some(_), Some("postgresql" | "postgres")) => {
            belong(ONLY_HTTP, "a directory with url = \"https://…\"");
            belong(&["records"], "a directory of JSON");
            (from_database(&reader), Shape::Rows)
        }
        (Some(_), Some("http" | "https")) => {
            belong(ONLY_DATABASE, "a directory with url = \"postgresql://…\"");
            http::http(&reader)
        }
        (Some(node), _) => {
            reader.wrong("url", node, URL);
            return None;
        }
    };
    let fields = fields(&reader, shape);
    let seconds = reader.number("refresh_seconds", 1..=86_400, "a whole number of seconds, for example 60");
    let shrink = reader.number("max_shrink_percent", 0..=100, "a whole number of percent, for example 20");
    belong(ONLY_FILE, "a directory without url");
    reader.finish(&elsewhere);
    let usual = if url.is_some() { REFRESH.1 } else { REFRESH.0 };
    Some(Config {
        source: source?,
        fields: fields?,
        refresh: Duration::from_secs(seconds.unwrap_or(usual)),
        max_shrink_percent: u8::try_from(shrink.unwrap_or(20)).unwrap_or(100),
    })
}

fn from_file(reader: &Reader<'_>) -> (Option<Source>, Shape) {
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
    let records = records(reader, json, "a JSON pointer, in a directory whose file ends in .json");
    let source = file.map(|path| Source::File { path, records });
    (source, if json { Shape::Json } else { Shape::Csv })
}

fn from_database(reader: &Reader<'_>) -> Option<Source> {
    let server = database::server(reader, false);
    let timeout = timeout(reader);
    let query = reader.need_text("query", QUERY).map(str::to_owned);
    if let (Some(text), Some(node)) = (&query, reader.get("query"))
        && text.trim().trim_end_matches(';').contains(';')
    {
        reader.wrong("query", node, QUERY);
        return None;
    }
    let database::Server { url, password, tls, ca_file } = server?;
    Some(Source::Database(Box::new(Database { url, password, tls, ca_file, timeout, query: query? })))
}

/// `records`, which only JSON has.
fn records(reader: &Reader<'_>, json: bool, expected: &str) -> String {
    let records = reader.text("records", "a JSON pointer to the array of people, for example \"/data\"");
    if let Some(text) = records
        && (!json || !(text.is_empty() || text.starts_with('/')))
        && let Some(node) = reader.get("records")
    {
        reader.wrong("records", node, expected);
    }
    records.unwrap_or_default().to_owned()
}

fn fields(reader: &Reader<'_>, shape: Shape) -> Option<Fields> {
    let field = |key: &'static str| {
        let text = reader.text(key, FIELD)?;
        if (text.is_empty() || (shape == Shape::Json && !text.starts_with('/')))
            && let Some(node) = reader.get(key)
        {
            let expected = match shape {
                Shape::Json => "a JSON pointer such as \"/pin\"",
                Shape::Csv => "a column of the CSV file",
                Shape::Rows => "a column of the query",
            };
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
    Some(Fields { person, card, external_id: external_id?, name })
}
