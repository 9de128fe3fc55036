//! A vendor's document: JSON or YAML, bounded, and where in its text everything stands.
//!
//! Must not: follow a reference.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::{Error, yaml};
use crate::deliver::pointer::unescaped;

/// Largest document, bytes. The largest that a vendor of note publishes is about half of it.
pub const MAX_BYTES: u64 = 16 << 20;

/// A document that was read.
pub struct Document {
    pub(super) root: Value,
    lines: Option<Node>,
}

/// The same tree with the lines of the text.
pub(super) struct Node {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) kind: Kind,
}

/// What stands there.
pub(super) enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    /// Key, the key's line, value.
    Object(Vec<(String, usize, Node)>),
}

impl Document {
    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let length = std::fs::metadata(file)?.len();
        if length > MAX_BYTES {
            return Err(Error::TooLarge(length));
        }
        let mut bytes = Vec::new();
        // A pipe tells no length.
        std::fs::File::open(file)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::TooLarge(bytes.len() as u64));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
            Error::Syntax { line, what: "bytes that are not UTF-8".to_owned() }
        })?;
        Self::parse(&text)
    }

    /// Reads a text: JSON where it begins like JSON, else YAML.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if !text.trim_start().starts_with(['{', '[']) {
            let lines = yaml::read(text)?;
            return Ok(Self { root: lines.value(), lines: Some(lines) });
        }
        match serde_json::from_str(text) {
            // JSON is YAML but for rare escapes; then there are no lines, and nothing else is lost.
            Ok(root) => Ok(Self { root, lines: yaml::read(text).ok() }),
            Err(error) => match yaml::read(text) {
                Ok(lines) => Ok(Self { root: lines.value(), lines: Some(lines) }),
                Err(_) => Err(Error::Syntax { line: error.line(), what: error.to_string() }),
            },
        }
    }

    /// The line of what a JSON pointer names, or of the nearest thing around it that is in the text.
    pub fn line(&self, pointer: &str) -> Option<usize> {
        let mut node = self.lines.as_ref()?;
        let mut line = node.line;
        for token in pointer.split('/').skip(1) {
            let token = unescaped(token);
            let next = match &node.kind {
                Kind::Scalar(_) => None,
                Kind::List(items) => token.parse().ok().and_then(|at: usize| items.get(at)).map(|n| (n.line, n)),
                Kind::Object(members) => {
                    members.iter().rev().find(|(key, ..)| *key == token).map(|(_, line, node)| (*line, node))
                }
            };
            let Some((at, inner)) = next else { break };
            (line, node) = (at, inner);
        }
        Some(line)
    }
}

impl Node {
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items.iter().map(Self::value).collect(),
            Kind::Object(members) => {
                Value::Object(members.iter().map(|(key, _, node)| (key.clone(), node.value())).collect())
            }
        }
    }
}

/// Follows `$ref`s of the document itself from a place on; gives where it ends and what stands there.
pub(super) fn resolve<'d>(root: &'d Value, pointer: &str) -> Result<(String, &'d Value), Error> {
    let mut at = pointer.to_owned();
    for _ in 0..32 {
        let dangling = |target: &str| Error::Dangling { pointer: pointer.to_owned(), target: target.to_owned() };
        let value = root.pointer(&at).ok_or_else(|| dangling(&at))?;
        let Some(Value::String(target)) = value.get("$ref") else { return Ok((at, value)) };
        at = match target.strip_prefix('#') {
            Some(local) if local.starts_with('/') => decoded(local),
            Some(_) => return Err(dangling(target)),
            None => return Err(Error::Remote { pointer: at, target: target.clone() }),
        };
    }
    Err(Error::Dangling { pointer: pointer.to_owned(), target: at })
}

/// Takes percent-encoding off.
pub(super) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
