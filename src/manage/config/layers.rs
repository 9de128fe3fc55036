//! Layers: packaged defaults < local file < bundle from afar < environment.
//!
//! A bundle's `[[terminal]]`, `[[sink]]` and `[[broker]]` lists replace the local ones whole; of single tables each key that
//! it has replaces the local key whole. What a bundle must not touch is refused here, with its line.
//!
//! Must not: let a bundle change who the gateway is, whom it believes, where the journal stands, or what
//! `remote_may` does not name.

use super::bundle::Layer;
use super::load::Options;
use super::reader::{Reader, Report, as_text, one_of};
use super::suggest::nearest;
use super::tree::{self, Entry, Node, Place, Table, Value};
use super::{environment, presets};

/// Lists that a bundle replaces whole.
const LISTS: &[&str] = &["terminal", "sink", "broker"];

/// Tables that a bundle changes key by key.
const TABLES: &[&str] = &["gateway", "journal", "directory", "manage", "log"];

/// What a local file may let a bundle do, by name in `remote_may`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// `{ file = "…" }` as the place of a secret.
    SecretFile,
    /// `state_file`, which the gateway writes.
    StateFile,
    /// `[directory] file`.
    DirectoryFile,
    /// `tls = "insecure"`.
    TlsInsecure,
    /// An address to listen on that others can reach.
    Listen,
}

/// The words of `remote_may`.
const MAY: &[(&str, May)] = &[
    ("secret_file", May::SecretFile),
    ("state_file", May::StateFile),
    ("directory_file", May::DirectoryFile),
    ("tls_insecure", May::TlsInsecure),
    ("listen", May::Listen),
];

impl May {
    /// The word in `remote_may`.
    pub(super) fn word(self) -> &'static str {
        MAY.iter().find(|(_, may)| *may == self).map_or("", |(word, _)| word)
    }
}

/// Everything that was written, in one tree; `None`: it can't be parsed, and the report says where.
pub(super) fn root(report: &mut Report<'_>, text: &str, options: &Options, bundle: Option<&Layer>) -> Option<Table> {
    let mut root = tree::parse(text).map_err(|errors| report.syntax(errors)).ok();
    if let Some(layer) = bundle {
        let over = tree::parse(&layer.text).map_err(|errors| report.syntax_of(errors, Place::Bundle));
        if let (Some(root), Ok(over)) = (&mut root, over) {
            report.may = granted(root);
            lay_over(root, over, report);
        } else {
            root = None;
        }
    }
    let mut root = root?;
    environment::apply(&mut root, options.environment.iter().cloned(), report);
    presets::apply(&mut root);
    Some(root)
}

/// The words of `remote_may` that are understood; [`may`] complains about the others.
fn granted(local: &Table) -> Vec<May> {
    let items = match local.get("remote_may").map(|node| &node.value) {
        Some(Value::Array(items)) => items.as_slice(),
        _ => &[],
    };
    items
        .iter()
        .filter_map(as_text)
        .filter_map(|text| MAY.iter().find(|(word, _)| *word == text))
        .map(|m| m.1)
        .collect()
}

/// Checks `remote_may`.
pub(super) fn may(root: &Reader<'_>) {
    let Some(node) = root.get("remote_may") else { return };
    let words = || MAY.iter().map(|(word, _)| *word);
    let expected = format!("a list of what a bundle from afar may set: {}", one_of(words()));
    let Value::Array(items) = &node.value else {
        root.wrong("remote_may", node, &expected);
        return;
    };
    for item in items {
        if !as_text(item).is_some_and(|text| words().any(|word| word == text)) {
            let mut problem = root.report.problem(&item.place, "remote_may", &item.shown(), &expected);
            problem.nearest = as_text(item).and_then(|text| nearest(text, words())).map(|word| format!("\"{word}\""));
            root.report.error(problem);
        }
    }
}

fn lay_over(local: &mut Table, bundle: Table, report: &Report<'_>) {
    for mut entry in bundle.entries {
        moved(&mut entry);
        let key = entry.key.as_str();
        if key == "bundle" {
            continue;
        }
        look(&entry.node, key, report);
        if key == "remote_may" {
            refuse(report, &entry.key_place, key, "what a bundle may set is said by the local file alone");
        } else if LISTS.contains(&key) {
            if matches!(&entry.node.value, Value::Array(items) if items.is_empty()) {
                let expected =
                    format!("at least one [[{key}]], or no list at all, which leaves that of the local file");
                report.error(report.problem(&entry.node.place, key, "an empty list", &expected));
            }
            put(local, entry);
        } else if TABLES.contains(&key) && matches!(entry.node.value, Value::Table(_)) {
            merge(local, entry, report);
        } else {
            put(local, entry);
        }
    }
}

/// The keys of one table over those of the local file.
fn merge(local: &mut Table, entry: Entry, report: &Report<'_>) {
    let table = entry.key;
    let Value::Table(over) = entry.node.value else { return };
    let mine = match local.entries.iter_mut().find(|e| e.key == table) {
        Some(mine) => mine,
        None => {
            let node = Node { value: Value::Table(Table::default()), place: entry.node.place, text: None };
            local.entries.push(Entry { key: table.clone(), key_place: entry.key_place, node });
            let last = local.entries.len() - 1;
            &mut local.entries[last]
        }
    };
    // A scalar where a table is needed has its own message.
    let Value::Table(mine) = &mut mine.node.value else { return };
    for over in over.entries {
        let key = format!("{table}.{}", over.key);
        let why = match key.as_str() {
            "gateway.zone" => None,
            "journal.path" => Some("where the journal stands is said by the local file alone"),
            // Taken at the start only, where a bound below what is there would stop every append.
            "journal.max_bytes" => Some("how large the journal may be is said by the local file alone"),
            "manage.socket" => Some("the control socket's path is said by the local file alone"),
            "manage.remote" => {
                Some("address and keys of bundles are said by the local file; keys change by active_key in [bundle]")
            }
            _ if table == "gateway" => Some("who the gateway is, and its clock, are said by the local file alone"),
            _ => None,
        };
        match why {
            Some(why) => refuse(report, &over.key_place, &key, why),
            None => put(mine, over),
        }
    }
}

/// What a bundle may set only where the local file says so, wherever it stands.
fn look(node: &Node, path: &str, report: &Report<'_>) {
    match &node.value {
        Value::Table(table) => {
            for entry in &table.entries {
                let key = format!("{path}.{}", entry.key);
                let text = as_text(&entry.node);
                let needs = match (entry.key.as_str(), text) {
                    ("tls", Some("insecure")) => Some((May::TlsInsecure, "\"insecure\"")),
                    ("state_file", Some(_)) => Some((May::StateFile, "the path of a file that is written")),
                    ("file", Some(_)) if path == "directory" => Some((May::DirectoryFile, "the path of a file")),
                    ("listen", Some(text)) if path == "manage" || path.starts_with("broker[") => {
                        (!loopback(text)).then_some((May::Listen, "an address that others can reach"))
                    }
                    _ => None,
                };
                if let Some((may, found)) = needs {
                    allowed(report, may, &entry.node.place, &key, found);
                }
                look(&entry.node, &key, report);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                look(item, &format!("{path}[{}]", index + 1), report);
            }
        }
        _ => {}
    }
}

/// What is no address is reported where it is read.
fn loopback(text: &str) -> bool {
    text.parse::<std::net::SocketAddr>().map_or(true, |address| address.ip().is_loopback())
}

/// Reports what `remote_may` does not name.
pub(super) fn allowed(report: &Report<'_>, may: May, place: &Place, key: &str, found: &str) {
    if report.may.contains(&may) {
        return;
    }
    let expected =
        format!("nothing of the kind from afar, or remote_may = [\"{}\"] at the top of the local file", may.word());
    let mut problem = report.problem(place, key, found, &expected);
    problem.excerpt = None;
    report.error(problem);
}

fn refuse(report: &Report<'_>, place: &Place, key: &str, why: &str) {
    report.error(report.problem(
        place,
        key,
        "a key that a bundle can't set",
        &format!("no such key in a bundle: {why}"),
    ));
}

fn moved(entry: &mut Entry) {
    entry.key_place = in_bundle(&entry.key_place);
    tree::replace(&mut entry.node, &in_bundle);
}

fn in_bundle(place: &Place) -> Place {
    match place {
        Place::File(span) => Place::Bundle(span.clone()),
        other => other.clone(),
    }
}

fn put(table: &mut Table, entry: Entry) {
    match table.entries.iter_mut().find(|e| e.key == entry.key) {
        Some(mine) => *mine = entry,
        None => table.entries.push(entry),
    }
}
