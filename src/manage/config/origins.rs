//! Where each value of the configuration comes from.
//!
//! Must not: show a secret, or a value that may hold one.

use std::path::{Path, PathBuf};

use super::bundle::Layer;
use super::layers;
use super::load::Options;
use super::problem::may_hold_secret;
use super::reader::{Report, as_text};
use super::tree::{Lines, Node, Place, Table, Value};

/// Longest value that is shown, characters.
const MOST: usize = 200;

/// A key, its value, and who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// In full, members of lists by their names: `sink.vendor.batch`.
    pub key: String,
    /// As TOML; a secret is a reference, and what may hold one is not shown.
    pub value: String,
    /// Who said it.
    pub from: From,
}

/// Who said a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// A line of the local file.
    File(PathBuf, usize),
    /// A line of the bundle.
    Bundle(PathBuf, usize),
    /// A line of a preset that is built in.
    Preset(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// Nobody: it is the default.
    Default,
}

impl std::fmt::Display for From {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file, line) | Self::Bundle(file, line) | Self::Preset(file, line) => {
                write!(f, "{}:{line}", file.display())
            }
            Self::Variable(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Every value that is written somewhere, in the order of the keys, and the defaults of the single tables. Nothing of a text that can't be parsed.
pub fn origins(file: &Path, text: &str, options: &Options, bundle: Option<&Layer>) -> Vec<Origin> {
    let mut report = Report::new(file, text).with_bundle(bundle);
    let Some(root) = layers::root(&mut report, text, options, bundle) else { return Vec::new() };
    let mut walk = Walk {
        file: (file, Lines::new(text)),
        bundle: bundle.map(|layer| (layer.name.as_path(), Lines::new(&layer.text))),
        found: Vec::new(),
    };
    walk.table(&root, "");
    for (key, value) in defaults() {
        if !walk.found.iter().any(|origin| origin.key == key) {
            walk.found.push(Origin { key: key.to_owned(), value, from: From::Default });
        }
    }
    walk.found.sort_by(|a, b| a.key.cmp(&b.key));
    walk.found
}

/// The defaults of the single tables.
fn defaults() -> Vec<(&'static str, String)> {
    let journal = crate::journal::Config::default();
    let manage = super::ManageConfig::default();
    let log = super::LogConfig::default();
    let text = |text: &str| format!("\"{text}\"");
    vec![
        ("gateway.tenant", text("default")),
        ("gateway.clock", text("auto")),
        ("journal.path", text(&journal.path.display().to_string())),
        ("journal.retention_days", journal.retention_days.to_string()),
        ("journal.dedup_days", journal.dedup_days.to_string()),
        ("journal.max_bytes", journal.max_bytes.to_string()),
        ("manage.socket", text(&manage.socket.display().to_string())),
        ("manage.shutdown_seconds", manage.shutdown_seconds.to_string()),
        ("log.level", text(&log.level)),
        ("log.format", text("text")),
    ]
}

struct Walk<'a> {
    file: (&'a Path, Lines<'a>),
    bundle: Option<(&'a Path, Lines<'a>)>,
    found: Vec<Origin>,
}

impl Walk<'_> {
    fn table(&mut self, table: &Table, path: &str) {
        for entry in &table.entries {
            let key = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
            self.node(&entry.node, &key);
        }
    }

    fn node(&mut self, node: &Node, key: &str) {
        match &node.value {
            // A reference to a secret is one value.
            Value::Table(table) if table.get("credential").is_none() && table.get("file").is_none() => {
                self.table(table, key);
            }
            // `[directory] file` is a table like any other.
            Value::Table(table) if key == "directory" => self.table(table, key),
            Value::Array(items) if items.iter().any(|item| matches!(item.value, Value::Table(_))) => {
                for (index, item) in items.iter().enumerate() {
                    let name = match &item.value {
                        Value::Table(table) => table.get("name").and_then(as_text).map(str::to_owned),
                        _ => None,
                    };
                    let key = name.map_or_else(|| format!("{key}[{}]", index + 1), |name| format!("{key}.{name}"));
                    self.node(item, &key);
                }
            }
            _ => self.found.push(Origin { key: key.to_owned(), value: shown(node, key), from: self.from(&node.place) }),
        }
    }

    fn from(&self, place: &Place) -> From {
        let line = |lines: &Lines<'_>, at: usize| lines.position(at).0;
        match place {
            Place::File(span) => From::File(self.file.0.to_owned(), line(&self.file.1, span.start)),
            Place::Variable(name) => From::Variable(name.to_string()),
            Place::Preset(preset, span) => From::Preset(preset.file.into(), line(&Lines::new(preset.text), span.start)),
            Place::Bundle(span) => match &self.bundle {
                Some((name, lines)) => From::Bundle((*name).to_owned(), line(lines, span.start)),
                None => From::Default,
            },
        }
    }
}

fn shown(node: &Node, key: &str) -> String {
    let reference = matches!(&node.value, Value::Table(_));
    let mut text = String::new();
    toml(node, &mut text);
    // A public key is no secret, whatever its name says.
    let public = key.ends_with("active_key") || key.ends_with("recovery_key");
    if !reference && !public && may_hold_secret(&format!("{key} = {text}")) {
        return "(not shown)".to_owned();
    }
    if text.chars().count() > MOST {
        text = text.chars().take(MOST).collect();
        text.push('…');
    }
    text
}

/// As one would write it.
fn toml(node: &Node, out: &mut String) {
    match &node.value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                toml(item, out);
            }
            out.push(']');
        }
        Value::Table(table) => {
            out.push_str("{ ");
            for (index, entry) in table.entries.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                out.push_str(&entry.key);
                out.push_str(" = ");
                toml(&entry.node, out);
            }
            out.push_str(" }");
        }
        _ => node.canonical(out),
    }
}
