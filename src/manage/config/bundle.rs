//! `[bundle]` of a signed configuration: for whom it is, which one it is, and when it is good.
//!
//! Must not: judge it (who we are and what time it is decides elsewhere), or read the rest.

use super::problem::{self, Problems};
use super::reader::{Reader, Report, as_text};
use super::tree::{self, Place, Value};
use crate::event::UtcMicros;

/// Highest revision: a date and time in milliseconds fits, and a slip of the pen does not use up all of them.
const MAX_REVISION: u64 = 9_999_999_999_999;

/// Most sinks that can be abandoned at once.
const MAX_ABANDON: usize = 64;

/// The text of a bundle and what it is called in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// For example `bundle 17`.
    pub name: std::path::PathBuf,
    /// The signed TOML.
    pub text: String,
}

/// For whom a bundle is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressee {
    /// One gateway, by its id.
    Gateway(String),
    /// Every gateway whose local file says `[gateway] group`.
    Group(String),
}

/// `[bundle]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// `gateway` or `group`
    pub to: Addressee,
    /// `purpose`
    pub purpose: String,
    /// `revision`, which only rises.
    pub revision: u64,
    /// `not_before`
    pub not_before: UtcMicros,
    /// `expires`
    pub expires: UtcMicros,
    /// Sinks whose pending events are given up.
    pub abandon: Vec<String>,
    /// The new active key.
    pub active_key: Option<String>,
    /// The new recovery key.
    pub recovery_key: Option<String>,
}

/// Reads `[bundle]`, and nothing else.
pub fn header(layer: &Layer) -> Result<Header, Problems> {
    let report = Report::new(&layer.name, &layer.text);
    let header = match tree::parse(&layer.text) {
        Ok(root) => {
            let reader = Reader::new(&report, String::new(), Place::File(0..0), Some(&root));
            match reader.child("bundle", "a table [bundle]") {
                Some(table) => read(table),
                None => {
                    if reader.get("bundle").is_none() {
                        reader
                            .missing("bundle", "a table [bundle] with gateway, purpose, revision, not_before, expires");
                    }
                    None
                }
            }
        }
        Err(errors) => {
            report.syntax(errors);
            None
        }
    };
    let mut errors = report.errors.into_inner();
    problem::sort(&mut errors);
    header.filter(|_| errors.is_empty()).ok_or_else(|| {
        if errors.is_empty() {
            errors.push(problem::whole(&layer.name, "something that could not be understood", "a table [bundle]"));
        }
        Problems { file: layer.name.clone(), errors, warnings: Vec::new() }
    })
}

fn read(reader: Reader<'_>) -> Option<Header> {
    let gateway = reader.text("gateway", "the id of a gateway, for example \"gw-obra-norte-01\"");
    let group = reader.text("group", "the name of a group, for example \"north\"");
    let to = match (gateway, group, reader.get("gateway").is_some(), reader.get("group")) {
        (_, _, true, Some(node)) => {
            reader.wrong("group", node, "either gateway or group");
            None
        }
        (Some(gateway), ..) => Some(Addressee::Gateway(gateway.to_owned())),
        (None, Some(group), ..) => Some(Addressee::Group(group.to_owned())),
        (_, _, false, None) => {
            reader.missing("gateway", "gateway = \"ID\" or group = \"NAME\"");
            None
        }
        _ => None,
    };
    let purpose = reader.need_text("purpose", "purpose = \"portero-config\"");
    let revision = match reader.get("revision") {
        Some(_) => reader.number("revision", 1..=MAX_REVISION, "a whole number above that of the last bundle"),
        None => {
            reader.missing("revision", "a whole number above that of the last bundle, for example 1");
            None
        }
    };
    let not_before = time(&reader, "not_before");
    let expires = time(&reader, "expires");
    if let (Some(from), Some(until), Some(node)) = (not_before, expires, reader.get("expires"))
        && until <= from
    {
        reader.wrong("expires", node, "a time after not_before");
    }
    let abandon = abandon(&reader);
    let active_key = key(&reader, "active_key");
    let recovery_key = key(&reader, "recovery_key");
    reader.finish(&[]);
    Some(Header {
        to: to?,
        purpose: purpose?.to_owned(),
        revision: revision?,
        not_before: not_before?,
        expires: expires?,
        abandon,
        active_key,
        recovery_key,
    })
}

fn time(reader: &Reader<'_>, key: &'static str) -> Option<UtcMicros> {
    const EXPECTED: &str = "a time with its offset, for example 2026-11-24T08:00:00Z";
    let Some(node) = reader.get(key) else {
        reader.missing(key, EXPECTED);
        return None;
    };
    let text = match &node.value {
        Value::Datetime(text) | Value::Text(text) => text,
        _ => {
            reader.wrong(key, node, EXPECTED);
            return None;
        }
    };
    let time = text.parse::<jiff::Timestamp>().ok().map(|time| UtcMicros(time.as_microsecond()));
    if time.is_none() {
        reader.wrong(key, node, EXPECTED);
    }
    time
}

fn abandon(reader: &Reader<'_>) -> Vec<String> {
    const EXPECTED: &str = "a list of names of sinks, for example [\"old-vendor\"]";
    let Some(node) = reader.get("abandon") else { return Vec::new() };
    let names: Option<Vec<String>> = match &node.value {
        Value::Array(items) if items.len() <= MAX_ABANDON => {
            items.iter().map(|item| as_text(item).map(str::to_owned)).collect()
        }
        _ => None,
    };
    if names.is_none() {
        reader.wrong("abandon", node, EXPECTED);
    }
    names.unwrap_or_default()
}

/// A public key, in its base64 text.
pub(super) fn key(reader: &Reader<'_>, key: &'static str) -> Option<String> {
    const EXPECTED: &str = "a minisign public key: the second line of the .pub file, which begins with RW";
    let text = reader.text(key, EXPECTED)?;
    let node = reader.get(key)?;
    // A secret key in the place of the public one must not be shown.
    if text.lines().count() == 1 && crate::manage::remote::signature::Key::parse(text).is_ok() {
        return Some(text.trim().to_owned());
    }
    reader.refuse(key, &node.place, "something else (not shown)", EXPECTED);
    None
}
