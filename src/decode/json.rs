//! Values at given JSON pointers, picked out of a document while it is parsed.
//!
//! Must not: build a tree, or copy what no pointer asks for: a picture of megabytes is skipped byte by byte and never
//! enters memory of ours (I7). Depth is bounded by serde_json's recursion limit (128).

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Most elements kept of an array that stands where a value is expected (the methods of one event).
const MAX_LIST: usize = 16;

/// Above this an integer that serde_json hands over as a float has lost digits (2⁵³).
const EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// A value as the device sent it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    /// A truth value.
    Bool(bool),
    /// A number without sign.
    Unsigned(u64),
    /// A negative number.
    Signed(i64),
    /// A number with a fraction, or one that doesn't fit into 64 bits.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// An array, the first [`MAX_LIST`] of its scalars.
    List(Vec<Self>),
    /// An object.
    Object,
}

impl Value<'_> {
    /// The value as text, without surrounding white space; `None` where it has no exact text.
    pub(super) fn text(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Text(text) => Cow::Borrowed(text.trim()),
            Self::Unsigned(n) => Cow::Owned(n.to_string()),
            Self::Signed(n) => Cow::Owned(n.to_string()),
            Self::Bool(b) => Cow::Borrowed(if *b { "true" } else { "false" }),
            // `Debug` of a float is the shortest text that reads back as the same number, with its fraction.
            Self::Float(x) if x.abs() < EXACT_FLOAT => Cow::Owned(format!("{x:?}")),
            Self::Float(_) | Self::List(_) | Self::Object => return None,
        })
    }
}

#[derive(Debug, Default)]
struct Node {
    token: String,
    value: Option<usize>,
    children: Vec<Node>,
}

impl Node {
    fn child(&self, token: &str, fold: bool) -> Option<usize> {
        self.children.iter().position(|c| c.token == token || (fold && c.token.eq_ignore_ascii_case(token)))
    }
}

/// A set of JSON pointers (RFC 6901), compiled.
#[derive(Debug, Default)]
pub(super) struct Pointers {
    root: Node,
    count: usize,
    records: Vec<String>,
    fold: bool,
}

/// Why a document gave up; what was read before stays read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    /// A sentence that quotes nothing of the document.
    pub detail: String,
}

impl Pointers {
    /// No pointers yet. `records` points to the array of records; `fold`: names differ in more than ASCII case.
    pub(super) fn new(records: Option<&str>, fold: bool) -> Self {
        Self { records: tokens(records.unwrap_or("")), fold, ..Self::default() }
    }

    /// Adds a pointer and answers where its value will stand. The same pointer twice has one place.
    pub(super) fn add(&mut self, pointer: &str) -> usize {
        let mut node = &mut self.root;
        for token in tokens(pointer) {
            let index = node.children.iter().position(|c| c.token == token).unwrap_or_else(|| {
                node.children.push(Node { token, ..Node::default() });
                node.children.len() - 1
            });
            node = &mut node.children[index];
        }
        let next = self.count;
        let index = *node.value.get_or_insert(next);
        self.count = self.count.max(index + 1);
        index
    }

    /// Reads a document and calls `each` with the values of every record, absent ones and nulls as `None`. A document
    /// that is an array where records are expected is taken as records; any other as one record. Answers how many
    /// records there were.
    pub(super) fn read<'de>(
        &self,
        document: &'de str,
        each: &mut dyn FnMut(&[Option<Value<'de>>]),
    ) -> Result<usize, Broken> {
        let mut values = Vec::new();
        values.resize(self.count, None);
        let mut found = 0;
        let mut json = serde_json::Deserializer::from_str(document);
        let mut state = State { pointers: self, values, each, found: &mut found };
        let result = Records { path: &self.records, state: &mut state }.deserialize(&mut json);
        result.and_then(|()| json.end()).map_err(|e| Broken {
            detail: format!(
                "{} at line {}, column {}",
                if e.is_eof() { "JSON ends too early" } else { "not valid JSON" },
                e.line(),
                e.column()
            ),
        })?;
        Ok(found)
    }
}

fn tokens(pointer: &str) -> Vec<String> {
    let pointer = pointer.strip_prefix('/').or((!pointer.is_empty()).then_some(pointer));
    pointer.map_or_else(Vec::new, |p| p.split('/').map(|t| t.replace("~1", "/").replace("~0", "~")).collect())
}

struct State<'x, 'de> {
    pointers: &'x Pointers,
    values: Vec<Option<Value<'de>>>,
    each: &'x mut dyn FnMut(&[Option<Value<'de>>]),
    found: &'x mut usize,
}

impl<'de> State<'_, 'de> {
    fn at_root(&mut self) -> At<'_, 'de> {
        self.values.iter_mut().for_each(|v| *v = None);
        At { node: &self.pointers.root, values: &mut self.values, fold: self.pointers.fold }
    }

    fn done(&mut self) {
        *self.found += 1;
        (self.each)(&self.values);
    }
}

/// Walks down to the records.
struct Records<'s, 'x, 'de> {
    path: &'s [String],
    state: &'s mut State<'x, 'de>,
}

impl<'de> DeserializeSeed<'de> for Records<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Records<'_, '_, 'de> {
    /// A scalar where records are expected is a record of its own, for a pointer to the whole document.
    fn scalar(self, value: Value<'de>) {
        if self.path.is_empty() {
            self.state.at_root().put(value);
            self.state.done();
        }
    }
}

macro_rules! scalars {
    ($method:ident) => {
        fn visit_bool<E>(self, v: bool) -> Result<(), E> {
            self.$method(Value::Bool(v));
            Ok(())
        }
        fn visit_u64<E>(self, v: u64) -> Result<(), E> {
            self.$method(Value::Unsigned(v));
            Ok(())
        }
        fn visit_i64<E>(self, v: i64) -> Result<(), E> {
            self.$method(Value::Signed(v));
            Ok(())
        }
        fn visit_f64<E>(self, v: f64) -> Result<(), E> {
            self.$method(Value::Float(v));
            Ok(())
        }
        fn visit_borrowed_str<E>(self, v: &'de str) -> Result<(), E> {
            self.$method(Value::Text(Cow::Borrowed(v)));
            Ok(())
        }
        fn visit_str<E>(self, v: &str) -> Result<(), E> {
            self.$method(Value::Text(Cow::Owned(v.to_owned())));
            Ok(())
        }
        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }
    };
}

impl<'de> Visitor<'de> for Records<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("records")
    }

    scalars!(scalar);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.path.split_first() else {
            self.state.at_root().visit_map(map)?;
            self.state.done();
            return Ok(());
        };
        while let Some(here) = map.next_key_seed(Key(|key: &str| key == wanted))? {
            if here {
                map.next_value_seed(Records { path: rest, state: self.state })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.path.split_first() else {
            while seq.next_element_seed(self.state.at_root())?.is_some() {
                self.state.done();
            }
            return Ok(());
        };
        let wanted = wanted.parse::<usize>().ok();
        for index in 0.. {
            let more = if Some(index) == wanted {
                seq.next_element_seed(Records { path: rest, state: self.state })?.is_some()
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}

/// Looks at a key without keeping it.
struct Key<F>(F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for Key<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for Key<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<T, E> {
        Ok((self.0)(key))
    }
}

/// Reads what stands at a node and below.
struct At<'s, 'de> {
    node: &'s Node,
    values: &'s mut [Option<Value<'de>>],
    fold: bool,
}

impl<'de> At<'_, 'de> {
    fn put(self, value: Value<'de>) {
        if let Some(place) = self.node.value.and_then(|i| self.values.get_mut(i)) {
            *place = Some(value);
        }
    }

    fn child(&mut self, index: usize) -> At<'_, 'de> {
        At { node: &self.node.children[index], values: self.values, fold: self.fold }
    }
}

impl<'de> DeserializeSeed<'de> for At<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    scalars!(put);

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let (node, fold) = (self.node, self.fold);
        while let Some(child) = map.next_key_seed(Key(|key: &str| node.child(key, fold)))? {
            match child {
                Some(index) => map.next_value_seed(self.child(index))?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        self.put(Value::Object);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut list = Vec::new();
        for index in 0.. {
            let child = (!self.node.children.is_empty()).then(|| self.node.child(&index.to_string(), false)).flatten();
            let more = if let Some(child) = child {
                seq.next_element_seed(self.child(child))?.is_some()
            } else if self.node.value.is_some() && index < MAX_LIST {
                let element = Node { value: Some(0), ..Node::default() };
                let mut slot = [None];
                let more = seq.next_element_seed(At { node: &element, values: &mut slot, fold: false })?.is_some();
                // A list within a list says nothing to us.
                list.extend(slot.into_iter().flatten().filter(|v| !matches!(v, Value::List(_) | Value::Object)));
                more
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        self.put(Value::List(list));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pointers: &Pointers, document: &str) -> (Vec<Vec<Option<String>>>, Result<usize, Broken>) {
        let mut records = Vec::new();
        let result = pointers.read(document, &mut |values| {
            records.push(values.iter().map(|v| v.as_ref().map(|v| format!("{v:?}"))).collect());
        });
        (records, result)
    }

    #[test]
    fn pointers_reach_into_objects_and_arrays_and_unescape() {
        let mut p = Pointers::new(None, false);
        for pointer in ["/a/b", "/list/1", "/x~1y", "/m~0n", "/a/b"] {
            p.add(pointer);
        }
        let (records, result) =
            read(&p, r#"{"a":{"b":7,"c":[1]},"list":["no","yes"],"x/y":true,"m~n":-1,"pic":"AAAA"}"#);
        assert_eq!(result, Ok(1));
        let texts: Vec<_> = records[0].iter().map(|v| v.as_deref().unwrap_or("-")).collect();
        assert_eq!(texts, ["Unsigned(7)", "Text(\"yes\")", "Bool(true)", "Signed(-1)"]);
    }

    #[test]
    fn records_before_a_syntax_error_are_kept() {
        let mut p = Pointers::new(Some("/data"), false);
        p.add("/n");
        let (records, result) = read(&p, r#"{"data":[{"n":1},{"n":2},{"n":"#);
        assert_eq!(records.len(), 2);
        assert_eq!(result.unwrap_err().detail, "JSON ends too early at line 1, column 30");
    }

    #[test]
    fn depth_is_bounded() {
        let mut p = Pointers::new(None, false);
        p.add("/n");
        let deep = "[".repeat(100_000);
        assert!(read(&p, &deep).1.is_err());
        assert!(read(&p, &format!(r#"{{"x":{deep}"#)).1.is_err());
    }
}
