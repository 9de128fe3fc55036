//! JSON Schema at work: compiled once a place, and what it says of a value in our words.
//!
//! Must not: fetch anything.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, ValidationError, Validator};
use serde_json::Value;

use super::Error;
use super::document::decoded;
use crate::deliver::pointer::escaped;

/// Longest text of a value in a message, characters.
const SHOWN: usize = 60;

/// Keys whose members are schemas under names of somebody's choice.
const NAMED: &[&str] = &["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Keys with data in them, in which nothing is a reference.
const DATA: &[&str] = &["example", "examples", "default", "enum", "const"];

/// The schemas of a document.
pub(super) struct Schemas {
    root: Value,
    /// The document is OpenAPI, and its schemas stand somewhere in it.
    embedded: bool,
    compiled: RefCell<HashMap<String, Rc<Schema>>>,
}

/// One of them.
pub(super) struct Schema {
    validator: Validator,
}

/// What is wrong with a value.
pub(super) struct Fault {
    /// Where in the value, a JSON pointer.
    pub(super) instance: String,
    /// Where in the document.
    pub(super) pointer: String,
    /// The keyword.
    pub(super) rule: String,
    /// In words.
    pub(super) message: String,
}

impl Schemas {
    pub(super) fn embedded(root: Value) -> Self {
        Self { root, embedded: true, compiled: RefCell::default() }
    }

    pub(super) fn whole(root: Value) -> Self {
        Self { root, embedded: false, compiled: RefCell::default() }
    }

    /// The schema at a place.
    pub(super) fn get(&self, pointer: &str) -> Result<Rc<Schema>, Error> {
        if let Some(schema) = self.compiled.borrow().get(pointer) {
            return Ok(Rc::clone(schema));
        }
        self.closed(pointer)?;
        let mut options =
            jsonschema::options().should_validate_formats(true).should_ignore_unknown_formats(true).offline();
        let root = match (self.embedded, &self.root) {
            (true, Value::Object(document)) => {
                options = options.with_draft(Draft::Draft202012);
                let mut root = document.clone();
                root.insert("$ref".to_owned(), format!("#{}", encoded(pointer)).into());
                Value::Object(root)
            }
            _ => self.root.clone(),
        };
        let options = options.with_format("byte", |text: &str| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        });
        let validator = options.build(&root).map_err(|error| {
            let inside = error.instance_path().as_str();
            let pointer = if inside.is_empty() { pointer } else { inside };
            Error::Schema { pointer: pointer.to_owned(), what: cut(&error.to_string(), 200) }
        })?;
        let schema = Rc::new(Schema { validator });
        self.compiled.borrow_mut().insert(pointer.to_owned(), Rc::clone(&schema));
        Ok(schema)
    }

    /// The text of a form, a query, a header or a path as the type that the schema at `pointer` asks for.
    pub(super) fn typed(&self, pointer: &str, text: &str) -> Value {
        self.typed_within(pointer, text, false)
    }

    /// `member`: it is one of a list; lists of lists have no form.
    fn typed_within(&self, pointer: &str, text: &str, member: bool) -> Value {
        let (mut types, mut rest) = (Vec::new(), vec![pointer.to_owned()]);
        for _ in 0..64 {
            let Some(schema) = rest.pop().and_then(|at| Some((self.root.pointer(&at)?, at))) else { break };
            rest.extend(targets(schema.0, &schema.1));
            match schema.0.get("type") {
                Some(Value::String(word)) => types.push((word.as_str(), schema.1)),
                Some(Value::Array(words)) => {
                    types.extend(words.iter().filter_map(Value::as_str).map(|word| (word, schema.1.clone())));
                }
                _ => {}
            }
        }
        let number = || text.parse::<i64>().ok().map(Value::from).or_else(|| text.parse::<f64>().ok().map(Value::from));
        for (word, at) in types {
            let value = match word {
                "integer" | "number" => number(),
                "boolean" => text.parse::<bool>().ok().map(Value::from),
                // Of a list one member stands there, in the members' own type.
                "array" if member => None,
                "array" => Some(Value::Array(vec![self.typed_within(&format!("{at}/items"), text, true)])),
                _ => None,
            };
            if let Some(value) = value {
                return value;
            }
        }
        text.into()
    }

    /// Where the schema of a property stands, through references and compositions.
    pub(super) fn property(&self, pointer: &str, name: &str) -> Option<String> {
        let mut rest = vec![pointer.to_owned()];
        for _ in 0..64 {
            let at = rest.pop()?;
            let Some(schema) = self.root.pointer(&at) else { continue };
            if schema.get("properties").and_then(|properties| properties.get(name)).is_some() {
                return Some(format!("{at}/properties/{}", escaped(name)));
            }
            rest.extend(targets(schema, &at));
        }
        None
    }

    /// Everything that a schema refers to stands in the document.
    fn closed(&self, pointer: &str) -> Result<(), Error> {
        let (mut seen, mut rest) = (HashSet::new(), vec![pointer.to_owned()]);
        while let Some(at) = rest.pop() {
            if !seen.insert(at.clone()) {
                continue;
            }
            let Some(schema) = self.root.pointer(&at) else {
                return Err(Error::Dangling { pointer: pointer.to_owned(), target: at });
            };
            self.references(schema, &at, &mut rest)?;
        }
        Ok(())
    }

    fn references(&self, value: &Value, at: &str, rest: &mut Vec<String>) -> Result<(), Error> {
        match value {
            Value::Array(items) => {
                items.iter().enumerate().try_for_each(|(n, item)| self.references(item, &format!("{at}/{n}"), rest))
            }
            Value::Object(object) => {
                for (key, member) in object {
                    let at = format!("{at}/{}", escaped(key));
                    match member {
                        Value::String(target) if key == "$ref" => {
                            let local = target.strip_prefix('#');
                            let local =
                                local.ok_or_else(|| Error::Remote { pointer: at.clone(), target: target.clone() })?;
                            let local = decoded(local);
                            if local.starts_with('/') && self.root.pointer(&local).is_none() {
                                return Err(Error::Dangling { pointer: at, target: target.clone() });
                            }
                            rest.extend(Some(local).filter(|local| local.starts_with('/')));
                        }
                        Value::Object(members) if NAMED.contains(&key.as_str()) => {
                            for (name, member) in members {
                                self.references(member, &format!("{at}/{}", escaped(name)), rest)?;
                            }
                        }
                        _ if DATA.contains(&key.as_str()) => {}
                        _ => self.references(member, &at, rest)?,
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The schemas that a schema takes in.
fn targets(schema: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(local) = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#')) {
        found.push(decoded(local));
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        if let Some(Value::Array(branches)) = schema.get(key) {
            found.extend((0..branches.len()).map(|n| format!("{at}/{key}/{n}")));
        }
    }
    found
}

/// A pointer as a fragment (RFC 6901 §6).
fn encoded(pointer: &str) -> String {
    pointer.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/!$&()*+,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

impl Schema {
    /// Everything that is wrong with a value; `document` is the text's own tree, for counting in it.
    pub(super) fn faults(&self, value: &Value, document: &Value) -> Vec<Fault> {
        let mut faults = Vec::new();
        for error in self.validator.iter_errors(value) {
            split(&error, document, &mut faults);
        }
        faults
    }
}

fn split(error: &ValidationError<'_>, document: &Value, faults: &mut Vec<Fault>) {
    let (instance, pointer) = (error.instance_path().as_str(), error.schema_path().as_str());
    let fault = |instance: String, pointer: String, rule: &str, message: String| Fault {
        instance,
        pointer,
        rule: rule.to_owned(),
        message,
    };
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            for name in unexpected {
                let message = format!("the contract knows no field '{name}' here");
                let at = format!("{instance}/{}", escaped(name));
                faults.push(fault(at, pointer.to_owned(), "additionalProperties", message));
            }
        }
        ValidationErrorKind::Required { property } => {
            let list = document.pointer(pointer).and_then(Value::as_array);
            let index = list.and_then(|names| names.iter().position(|name| name == property));
            let pointer = index.map_or_else(|| pointer.to_owned(), |index| format!("{pointer}/{index}"));
            let name = property.as_str().unwrap_or_default();
            faults.push(fault(instance.to_owned(), pointer, "required", format!("lacks the required field '{name}'")));
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            if let [only] = context.as_slice() {
                only.iter().for_each(|error| split(error, document, faults));
                return;
            }
            let branches: Vec<String> = context.iter().filter_map(|branch| branch.first().map(words)).collect();
            let message = format!("fits none of the {} forms: {}", context.len(), cut(&branches.join("; "), 240));
            faults.push(fault(instance.to_owned(), pointer.to_owned(), error.kind().keyword(), message));
        }
        kind => {
            faults.push(fault(instance.to_owned(), pointer.to_owned(), kind.keyword(), words(error)));
        }
    }
}

fn words(error: &ValidationError<'_>) -> String {
    cut(&error.masked_with(cut(&error.instance().to_string(), SHOWN)).to_string(), 240)
}

/// The first so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}
