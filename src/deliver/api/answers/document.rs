//! An answer's body, read once: as JSON (with JSON inside of texts unwrapped) or as text, and what can be asked of it.
//!
//! Must not: fail; what can't be read is a [`Trouble`].

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::{Format, header};
use crate::deliver::api::exchange::Answer;

/// Where a rule looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A JSON pointer (RFC 6901) into the body, or into the item; `""` is the whole.
    Body(String),
    /// A header, by any case of its name.
    Header(String),
}

/// What a rule asks of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// There is something (also `null`), or not.
    Exists(bool),
    /// It is exactly this; numbers by value.
    Eq(Value),
    /// It is one of these.
    In(Vec<Value>),
    /// It is a text that begins so.
    Prefix(String),
    /// It is a text that holds this, or an array or object with such a text somewhere in it.
    Contains(String),
}

impl Test {
    fn holds(&self, found: Option<&Value>) -> bool {
        match (self, found) {
            (Self::Exists(wanted), found) => found.is_some() == *wanted,
            (_, None) => false,
            (Self::Eq(wanted), Some(found)) => equal(wanted, found),
            (Self::In(wanted), Some(found)) => wanted.iter().any(|w| equal(w, found)),
            (Self::Prefix(wanted), Some(found)) => found.as_str().is_some_and(|text| text.starts_with(wanted.as_str())),
            (Self::Contains(wanted), Some(found)) => contains(found, wanted),
        }
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn contains(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text.contains(wanted),
        Value::Array(items) => items.iter().any(|item| contains(item, wanted)),
        Value::Object(members) => members.values().any(|member| contains(member, wanted)),
        _ => false,
    }
}

/// Why a body can't be asked anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Empty,
    Endless,
    Html,
    Broken,
}

impl Trouble {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "it is empty",
            Self::Endless => "it is longer than 64 KiB, or broke off",
            Self::Html => "it is a web page: a proxy or a login page stands between",
            Self::Broken => "it is not what it should be (JSON, if nothing else is declared)",
        }
    }

    pub(super) fn is_empty_body(self) -> bool {
        self == Self::Empty
    }

    /// Not the sink's own words.
    pub(super) fn is_foreign(self) -> bool {
        self == Self::Html
    }
}

/// A body, read.
#[derive(Debug)]
pub(super) struct Document(Result<Value, Trouble>);

impl Document {
    pub(super) fn read(reply: &Answer, format: Format, unwrap: &[String]) -> Self {
        let body = reply.body.trim_ascii();
        let html = header(&reply.headers, "content-type").is_some_and(|t| t.to_ascii_lowercase().contains("text/html"));
        if !reply.complete && format == Format::Json {
            return Self(Err(Trouble::Endless));
        }
        if body.is_empty() {
            return Self(Err(Trouble::Empty));
        }
        let read = match format {
            Format::Json => serde_json::from_slice::<Value>(body).ok(),
            Format::Text if html || body.starts_with(b"<") => None,
            Format::Text => Some(Value::String(String::from_utf8_lossy(body).into_owned())),
        };
        let Some(mut value) = read else {
            return Self(Err(if html || body.starts_with(b"<") { Trouble::Html } else { Trouble::Broken }));
        };
        for pointer in unwrap {
            if let Some(place) = value.pointer_mut(pointer) {
                unwrapped(place, 0);
            }
        }
        Self(Ok(value))
    }

    pub(super) fn value(&self) -> Option<&Value> {
        self.0.as_ref().ok()
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.0.as_ref().err().copied()
    }

    /// Whether all of them hold; `None` if that hangs on a body that can't be read.
    pub(super) fn holds(&self, when: &[(Place, Test)], headers: &HeaderMap) -> Option<bool> {
        let mut blind = false;
        for (place, test) in when {
            let holds = match (place, &self.0) {
                (Place::Header(name), _) => {
                    let value = header(headers, name).map(|text| Value::String(text.to_owned()));
                    test.holds(value.as_ref())
                }
                (Place::Body(pointer), Ok(value)) => test.holds(value.pointer(pointer)),
                (Place::Body(_), Err(_)) => {
                    blind = true;
                    continue;
                }
            };
            if !holds {
                return Some(false);
            }
        }
        (!blind).then_some(true)
    }
}

/// Whether all of them hold for one item; headers are the answer's.
pub(super) fn item_holds(item: &Value, when: &[(Place, Test)], headers: &HeaderMap) -> bool {
    when.iter().all(|(place, test)| match place {
        Place::Body(pointer) => test.holds(item.pointer(pointer)),
        Place::Header(name) => test.holds(header(headers, name).map(|text| Value::String(text.to_owned())).as_ref()),
    })
}

/// Turns a text that holds JSON into what it holds; arrays of such texts too (Frappe's `_server_messages` is a text that
/// holds an array of texts that hold objects).
fn unwrapped(place: &mut Value, depth: usize) {
    const DEPTH: usize = 3;
    if depth > DEPTH {
        return;
    }
    match place {
        Value::String(text) if text.trim_start().starts_with(['{', '[', '"']) => {
            if let Ok(inner) = serde_json::from_str::<Value>(text) {
                *place = inner;
                unwrapped(place, depth + 1);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| unwrapped(item, depth + 1)),
        _ => {}
    }
}

/// A scalar as text; nothing for `null`, arrays and objects are written as JSON.
pub(in crate::deliver::api) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
