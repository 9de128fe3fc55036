//! YAML into a tree with lines: the part of YAML 1.2 that means JSON (its core schema), anchors and merge keys included.
//!
//! Must not: recurse as deep as a text wants, or let anchors grow it beyond bounds.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::Value;

use super::Error;
use super::document::{Kind, Node};

/// Deepest nesting; the JSON reader has the same.
const DEEPEST: usize = 128;

/// Most values of a document, those that aliases repeat counted again.
const MOST_NODES: usize = 4_000_000;

/// Something that is being filled.
enum Open {
    List(Vec<Node>),
    Object(Vec<(String, usize, Node)>, Option<(String, usize)>),
}

struct Builder {
    /// What is open, its line and its anchor (0: none).
    open: Vec<(Open, usize, usize)>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

/// Reads the first document of a text.
pub(super) fn read(text: &str) -> Result<Node, Error> {
    let mut builder = Builder { open: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| syntax(error.marker().line(), error.info()))?;
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain
                    || tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let text = text.into_owned();
                if builder.wants_key() {
                    builder.key(text, line);
                } else {
                    let value = if quoted { Value::String(text) } else { plain(text) };
                    builder.put(Node { line, kind: Kind::Scalar(value) }, anchor, line)?;
                }
            }
            Event::SequenceStart(anchor, _) => builder.enter(Open::List(Vec::new()), line, anchor)?,
            Event::MappingStart(anchor, _) => builder.enter(Open::Object(Vec::new(), None), line, anchor)?,
            Event::SequenceEnd | Event::MappingEnd => builder.leave()?,
            Event::Alias(anchor) => {
                let node = builder.anchors.get(&anchor).ok_or_else(|| syntax(line, "an alias before its anchor"))?;
                builder.nodes += count(node);
                let node = copy(node);
                builder.put(node, 0, line)?;
            }
            Event::DocumentEnd => break,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
        }
    }
    builder.root.ok_or_else(|| syntax(1, "nothing in it"))
}

fn syntax(line: usize, what: &str) -> Error {
    Error::Syntax { line, what: what.to_owned() }
}

impl Builder {
    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some((Open::Object(_, None), ..)))
    }

    fn key(&mut self, text: String, line: usize) {
        if let Some((Open::Object(_, key), ..)) = self.open.last_mut() {
            *key = Some((text, line));
        }
    }

    fn enter(&mut self, open: Open, line: usize, anchor: usize) -> Result<(), Error> {
        if self.wants_key() {
            return Err(syntax(line, "a key that is no text"));
        }
        if self.open.len() >= DEEPEST {
            return Err(syntax(line, "nested too deep"));
        }
        self.open.push((open, line, anchor));
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Error> {
        let Some((open, line, anchor)) = self.open.pop() else { return Ok(()) };
        let kind = match open {
            Open::List(items) => Kind::List(items),
            Open::Object(members, _) => Kind::Object(members),
        };
        self.put(Node { line, kind }, anchor, line)
    }

    fn put(&mut self, node: Node, anchor: usize, line: usize) -> Result<(), Error> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(syntax(line, "too many values"));
        }
        if anchor != 0 {
            self.nodes += count(&node);
            self.anchors.insert(anchor, copy(&node));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((Open::List(items), ..)) => items.push(node),
            Some((Open::Object(members, key), ..)) => match key.take() {
                Some((key, _)) if key == "<<" => merge(members, node),
                Some((key, line)) => {
                    members.retain(|(known, ..)| *known != key);
                    members.push((key, line, node));
                }
                None => return Err(syntax(line, "a key that is no text")),
            },
        }
        Ok(())
    }
}

/// `<<`: what is not there yet comes from another object, or from the first of several that has it.
fn merge(members: &mut Vec<(String, usize, Node)>, node: Node) {
    match node.kind {
        Kind::Object(more) => {
            for member in more {
                if !members.iter().any(|(known, ..)| *known == member.0) {
                    members.push(member);
                }
            }
        }
        Kind::List(list) => list.into_iter().for_each(|node| merge(members, node)),
        Kind::Scalar(_) => {}
    }
}

fn count(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar(_) => 1,
        Kind::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Kind::Object(members) => 1 + members.iter().map(|(.., node)| count(node)).sum::<usize>(),
    }
}

fn copy(node: &Node) -> Node {
    let kind = match &node.kind {
        Kind::Scalar(value) => Kind::Scalar(value.clone()),
        Kind::List(items) => Kind::List(items.iter().map(copy).collect()),
        Kind::Object(members) => Kind::Object(members.iter().map(|(k, line, n)| (k.clone(), *line, copy(n))).collect()),
    };
    Node { line: node.line, kind }
}

/// What a scalar without quotes means (YAML 1.2.2 §10.3.2). A date stays text.
fn plain(text: String) -> Value {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit()) || (digits.starts_with('.') && digits.len() > 1);
    if let Some(number) = numeric.then(|| number(&text, digits)).flatten() {
        return number;
    }
    Value::String(text)
}

fn number(text: &str, digits: &str) -> Option<Value> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(Value::from);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8).ok().map(Value::from);
    }
    if digits.bytes().all(|b| b.is_ascii_digit())
        && let Some(whole) =
            text.parse::<i64>().ok().map(Value::from).or_else(|| text.parse::<u64>().ok().map(Value::from))
    {
        return Some(whole);
    }
    let float = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'));
    let float: f64 = float.then(|| text.parse().ok()).flatten()?;
    serde_json::Number::from_f64(float).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        read(text).map_or(Value::Null, |node| node.value())
    }

    #[test]
    fn yaml_means_what_json_can_say() {
        let text = "a: 1\nb: [x, 'true', true, ~, 1.5, 2026-04-14, -3, 0x10, 1e3]\n201:\n  c: |\n    two\n    lines\n";
        let expected = json!({
            "a": 1, "b": ["x", "true", true, null, 1.5, "2026-04-14", -3, 16, 1000.0], "201": {"c": "two\nlines\n"}
        });
        assert_eq!(value(text), expected);
        assert_eq!(
            value("a: &x {p: 1}\nb: *x\nc:\n  <<: *x\n  q: 2\n"),
            json!({"a": {"p": 1}, "b": {"p": 1}, "c": {"p": 1, "q": 2}})
        );
    }

    #[test]
    fn bombs_and_abysses_are_refused_with_their_line() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..12 {
            let before = format!("*a{}", n - 1);
            bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![before; 10].join(", ")));
        }
        for text in [bomb, "[".repeat(100_000), "a: [".to_owned(), "? [a]\n: b\n".to_owned(), String::new()] {
            assert!(matches!(read(&text), Err(Error::Syntax { .. })), "{}", &text[..text.len().min(40)]);
        }
    }
}
