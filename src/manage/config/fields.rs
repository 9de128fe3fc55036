//! `fields.NAME = …` and `identity = […]` of a terminal.
//!
//! Must not: know a vendor.

use super::reader::{Reader, as_text, one_of};
use super::suggest::nearest;
use super::tree::{Node, Value};
use crate::decode::fields::{Field, Place as Stands, Rule};
use crate::decode::serial_lines::Layout;

/// How a field's short form is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON pointer.
    Pointer,
    /// A column, counted from 1.
    Column,
    /// The name of a `key=value` pair.
    Key,
}

impl Form {
    /// The form that fits a layout of lines.
    pub(super) const fn of(layout: &Layout) -> Self {
        match layout {
            Layout::Columns => Self::Column,
            Layout::Pairs => Self::Key,
            Layout::Json => Self::Pointer,
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Pointer => {
                "a JSON pointer such as \"/pin\", or a table such as { from = \"/dir\", map = { IN = \"in\" } }"
            }
            Self::Column => {
                "a column counted from 1 such as 3, or a table such as { column = 3, map = { I = \"in\" } }"
            }
            Self::Key => {
                "the name of a pair such as \"pin\", or a table such as { key = \"dir\", map = { I = \"in\" } }"
            }
        }
    }

    fn place(self, node: &Node) -> Option<Stands> {
        if self == Self::Column {
            let number = match &node.value {
                Value::Integer(number, _) => (*number)?,
                _ => as_text(node)?.trim_start_matches('#').parse().ok()?,
            };
            return u16::try_from(number).ok().filter(|n| *n > 0).map(Stands::Column);
        }
        let text = as_text(node)?;
        match self {
            Self::Pointer => is_pointer(text).then(|| Stands::Pointer(text.to_owned())),
            _ => (!text.is_empty()).then(|| Stands::Key(text.to_owned())),
        }
    }
}

/// RFC 6901: empty, or starting with `/`; `~` only as `~0` or `~1`.
fn is_pointer(text: &str) -> bool {
    (text.is_empty() || text.starts_with('/'))
        && text.split('~').skip(1).all(|after| after.starts_with('0') || after.starts_with('1'))
}

/// All rules of `fields`.
pub(super) fn rules(terminal: &Reader<'_>, form: Form) -> Vec<Rule> {
    let Some(fields) = terminal.child("fields", "a table: fields.person = …, fields.device_time = …") else {
        return Vec::new();
    };
    let mut rules = Vec::new();
    for (name, place, node) in fields.entries() {
        let Some(field) = Field::from_name(name) else {
            let known: Vec<&str> = Field::ALL.iter().map(|f| f.name()).collect();
            let expected = format!("one of {}", known.join(", "));
            let mut problem = fields.report.problem(place, &fields.key(name), "an unknown field", &expected);
            problem.nearest = nearest(name, known).map(str::to_owned);
            fields.report.error(problem);
            continue;
        };
        rules.extend(rule(&fields, field, node, form));
    }
    rules
}

fn rule(fields: &Reader<'_>, field: Field, node: &Node, form: Form) -> Option<Rule> {
    let Value::Table(table) = &node.value else {
        let place = form.place(node);
        if place.is_none() {
            fields.wrong(field.name(), node, form.expected());
        }
        return place.map(|place| Rule { field, place, map: Vec::new(), default: None });
    };
    let path = fields.key(field.name());
    let reader = Reader::new(fields.report, path, node.place.clone(), Some(table));
    let mut places = Vec::new();
    if let Some(from) = reader.get("from") {
        match form.place(from) {
            Some(place) => places.push(place),
            None => reader.wrong("from", from, form.expected()),
        }
    }
    if let Some(column) = reader.number("column", 1..=u64::from(u16::MAX), "a column counted from 1") {
        places.extend(u16::try_from(column).ok().map(Stands::Column));
    }
    places.extend(reader.text("key", "the name of a pair").map(|key| Stands::Key(key.to_owned())));
    if let Some(constant) = word(&reader, "constant", field) {
        places.push(Stands::Constant(constant));
    }
    let default = word(&reader, "default", field);
    let map = map(&reader, field);
    let written = ["from", "column", "key", "constant"].iter().filter(|k| reader.get(k).is_some()).count();
    if written != 1 {
        let found = if written == 0 { "a table that names no place" } else { "more than one place" };
        let problem = reader.report.problem(&node.place, &reader.path, found, "one of from, column, key and constant");
        reader.report.error(problem);
    } else if let Some(place) = places.first()
        && !fits(place, form)
    {
        let problem = reader.report.problem(&node.place, &reader.path, "a place of another layout", form.expected());
        reader.report.error(problem);
    }
    reader.finish(&[]);
    let place = (written == 1).then(|| places.into_iter().next())??;
    Some(Rule { field, place, map, default })
}

const fn fits(place: &Stands, form: Form) -> bool {
    matches!(
        (place, form),
        (Stands::Constant(_), _)
            | (Stands::Pointer(_), Form::Pointer)
            | (Stands::Column(_), Form::Column)
            | (Stands::Key(_), Form::Key)
    )
}

/// A word of ours: checked where the field has a closed list.
fn word(reader: &Reader<'_>, key: &'static str, field: Field) -> Option<String> {
    let node = reader.get(key)?;
    let text = scalar(node);
    match (text, field.words()) {
        (Some(text), None) => Some(text),
        (Some(text), Some(words)) if words.contains(&text.as_str()) => Some(text),
        (_, Some(words)) => {
            reader.wrong_word(key, node, &one_of(words.iter().copied()), words.iter().copied());
            None
        }
        (None, None) => {
            reader.wrong(key, node, "a text");
            None
        }
    }
}

fn map(reader: &Reader<'_>, field: Field) -> Vec<(String, String)> {
    let Some(map) = reader.child("map", "a table from the device's words to ours, for example { IN = \"in\" }") else {
        return Vec::new();
    };
    let words = field.words();
    let mut pairs = Vec::new();
    for (from, _, node) in map.entries() {
        match (scalar(node), &words) {
            (Some(to), None) => pairs.push((from.to_owned(), to)),
            (Some(to), Some(words)) if words.contains(&to.as_str()) => pairs.push((from.to_owned(), to)),
            (_, Some(words)) => {
                map.wrong_word(from, node, &one_of(words.iter().copied()), words.iter().copied());
            }
            (None, None) => map.wrong(from, node, "a text"),
        }
    }
    pairs
}

fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) | Value::Integer(_, text) | Value::Float(text) | Value::Datetime(text) => Some(text.clone()),
        Value::Boolean(value) => Some(value.to_string()),
        Value::Array(_) | Value::Table(_) => None,
    }
}

/// `identity = ["device_time", "native_seq"]`: every name a field that is configured.
pub(super) fn identity(reader: &Reader<'_>, rules: &[Rule]) -> Option<Vec<Field>> {
    const EXPECTED: &str = "a list of field names, for example [\"device_time\", \"native_seq\"]";
    let node = reader.get("identity")?;
    let Value::Array(items) = &node.value else {
        reader.wrong("identity", node, EXPECTED);
        return None;
    };
    if items.is_empty() {
        reader.wrong("identity", node, &format!("{EXPECTED}; leave the key out for the default"));
        return None;
    }
    let mut fields = Vec::new();
    for item in items {
        let field = as_text(item).and_then(Field::from_name);
        match field {
            Some(field) if rules.iter().any(|r| r.field == field) => fields.push(field),
            Some(_) => reader.wrong("identity", item, "a field that stands under fields as well"),
            None => reader.wrong_word("identity", item, EXPECTED, Field::ALL.iter().map(|f| f.name())),
        }
    }
    (fields.len() == items.len()).then_some(fields)
}
