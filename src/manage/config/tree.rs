//! The file as an owned tree in which every key and value knows where it stands.
//!
//! Must not: know a key of the configuration.

use std::ops::Range;
use std::rc::Rc;

use toml::de::{DeTable, DeValue};

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Bytes of the file.
    File(Range<usize>),
    /// An environment variable.
    Variable(Rc<str>),
    /// Bytes of a preset that is built in.
    Preset(&'static Preset, Range<usize>),
    /// Bytes of the bundle over the file.
    Bundle(Range<usize>),
}

/// A preset that is built in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Preset {
    /// Its name.
    pub(super) name: &'static str,
    /// Where it stands in the source.
    pub(super) file: &'static str,
    /// Its text.
    pub(super) text: &'static str,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
    /// The text of an environment variable, from which a text key takes it whatever it looks like.
    pub(super) text: Option<String>,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    /// `None`: outside 64 bits.
    Integer(Option<i64>, String),
    Float(String),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(Table),
}

/// A table in the order of its keys' names.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) node: Node,
}

/// A text between quotes, the same in every release.
fn as_json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Table {
    /// The entries by the names of their keys: a preset or the environment adds its own at the end.
    fn in_order(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|e| e.key == key).map(|e| &e.node)
    }
}

impl Node {
    /// Everything that is written here as one text, wherever it stands and however it is laid out.
    pub(super) fn canonical(&self, out: &mut String) {
        match &self.value {
            Value::Text(text) => out.push_str(&as_json(text)),
            Value::Integer(_, text) | Value::Float(text) | Value::Datetime(text) => out.push_str(text),
            Value::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Array(nodes) => {
                out.push('[');
                for node in nodes {
                    node.canonical(out);
                    out.push(',');
                }
                out.push(']');
            }
            Value::Table(table) => {
                out.push('{');
                for Entry { key, node, .. } in table.in_order() {
                    out.push_str(&as_json(key));
                    out.push('=');
                    node.canonical(out);
                    out.push(',');
                }
                out.push('}');
            }
        }
    }

    /// A short text for "found …": never the inside of an array or table.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Value::Text(text) => quoted(text),
            Value::Integer(_, text) | Value::Float(text) | Value::Datetime(text) => cut(text),
            Value::Boolean(value) => value.to_string(),
            Value::Array(_) => "an array".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        }
    }
}

/// Text in quotes, cut to what fits in a message.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", cut(text).escape_debug())
}

fn cut(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Line starts, to turn bytes into lines and columns.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    text: &'a str,
}

impl<'a> Lines<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text }
    }

    /// Line and column (in characters), both counted from 1.
    pub(super) fn position(&self, at: usize) -> (usize, usize) {
        let at = self.text.floor_char_boundary(at.min(self.text.len()));
        let before = &self.text[..at];
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }

    /// The text of a line counted from 1.
    pub(super) fn line(&self, number: usize) -> &'a str {
        self.text.lines().nth(number.saturating_sub(1)).unwrap_or("")
    }
}

/// A syntax error: where, and what the parser says.
pub(super) struct Syntax {
    pub(super) at: Range<usize>,
    pub(super) message: String,
}

/// Parses the file; all syntax errors at once.
pub(super) fn parse(text: &str) -> Result<Table, Vec<Syntax>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table(root.get_ref()));
    }
    let errors = errors.iter().map(|e| Syntax { at: e.span().unwrap_or(0..0), message: e.message().to_owned() });
    Err(errors.collect())
}

/// What can be parsed of a text, whatever is wrong with the rest.
pub(super) fn parse_what_can_be(text: &str) -> Table {
    table(DeTable::parse_recoverable(text).0.get_ref())
}

/// Reads the text of an environment variable: as TOML where it is a value (`9600`, `true`, `[…]`), else as plain text.
pub(super) fn from_variable(name: &Rc<str>, text: &str) -> Node {
    let place = Place::Variable(Rc::clone(name));
    let value = DeValue::parse(text).map_or_else(|_| Value::Text(text.to_owned()), |v| value(v.get_ref()));
    let mut node = Node { value, place: place.clone(), text: Some(text.to_owned()) };
    relocate(&mut node, &place);
    node
}

fn relocate(node: &mut Node, place: &Place) {
    replace(node, &|_| place.clone());
}

/// Gives a node and everything in it other places.
pub(super) fn replace(node: &mut Node, place: &impl Fn(&Place) -> Place) {
    node.place = place(&node.place);
    match &mut node.value {
        Value::Array(items) => items.iter_mut().for_each(|n| replace(n, place)),
        Value::Table(table) => {
            for entry in &mut table.entries {
                entry.key_place = place(&entry.key_place);
                replace(&mut entry.node, place);
            }
        }
        _ => {}
    }
}

fn table(table: &DeTable<'_>) -> Table {
    let entries = table.iter().map(|(key, node)| Entry {
        key: key.get_ref().to_string(),
        key_place: Place::File(key.span()),
        node: self::node(node),
    });
    Table { entries: entries.collect() }
}

fn node(spanned: &toml::Spanned<DeValue<'_>>) -> Node {
    Node { value: value(spanned.get_ref()), place: Place::File(spanned.span()), text: None }
}

fn value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(i) => Value::Integer(i64::from_str_radix(i.as_str(), i.radix()).ok(), i.to_string()),
        DeValue::Float(f) => Value::Float(f.to_string()),
        DeValue::Boolean(b) => Value::Boolean(*b),
        DeValue::Datetime(d) => Value::Datetime(d.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(node).collect()),
        DeValue::Table(t) => Value::Table(self::table(t)),
    }
}
