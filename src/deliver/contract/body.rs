//! The body of a request: the schema that is meant for it, and its value.
//!
//! Must not: judge a value; schemas do.

use serde_json::{Map, Value};

use super::document::resolve;
use super::openapi::Operation;
use super::parameters::{MASK, pairs};
use super::schema::Schemas;
use super::{Error, preview};
use crate::deliver::pointer::escaped;

/// What an operation says of a body.
pub(super) enum Declared {
    /// A schema, and the media type object around it.
    Schema { pointer: String, content: String },
    /// Nothing that could be checked.
    Anything,
    /// The body doesn't even have the right type.
    Mismatch { rule: &'static str, pointer: String, message: String },
}

/// A value to hold against the schema.
pub(super) struct Sent {
    /// Where it stands in the body.
    pub(super) at: String,
    pub(super) value: Value,
}

/// The `Content-Type` of a request, without its parameters.
fn media_type(request: &preview::Request) -> &str {
    let header = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    header.map_or("", |(_, value)| bare(value))
}

fn bare(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// What the operation says of this request's body.
pub(super) fn declared(root: &Value, operation: &Operation, request: &preview::Request) -> Result<Declared, Error> {
    let at = format!("{}/requestBody", operation.pointer);
    let mismatch = |rule, pointer, message| Ok(Declared::Mismatch { rule, pointer, message });
    let ours = media_type(request);
    if root.pointer(&at).is_none() {
        return match request.body.is_empty() {
            true => Ok(Declared::Anything),
            false => mismatch(
                "body",
                operation.pointer.clone(),
                format!("the operation takes no body; the sink sends {ours}"),
            ),
        };
    }
    let (at, declared) = resolve(root, &at)?;
    let content = format!("{at}/content");
    let types: Vec<&str> =
        declared["content"].as_object().map(|types| types.keys().map(String::as_str).collect()).unwrap_or_default();
    if request.body.is_empty() {
        return match declared["required"] == Value::Bool(true) {
            true => {
                mismatch("body", format!("{at}/required"), format!("the operation needs a body: {}", types.join(", ")))
            }
            false => Ok(Declared::Anything),
        };
    }
    let fits = |pattern: &str| {
        let pattern = bare(pattern);
        pattern.eq_ignore_ascii_case(ours)
            || pattern == "*/*"
            || pattern.strip_suffix('*').is_some_and(|family| family.ends_with('/') && ours.starts_with(family))
    };
    // The most exact one counts (OpenAPI 3.1.0 §4.8.14.1).
    let exact = types.iter().find(|known| bare(known).eq_ignore_ascii_case(ours));
    let Some(known) = exact.or_else(|| types.iter().find(|known| fits(known))) else {
        let message = format!("the sink sends {ours}; the operation takes {}", types.join(", "));
        return mismatch("content-type", content, message);
    };
    let content = format!("{content}/{}", escaped(known));
    let pointer = format!("{content}/schema");
    match root.pointer(&pointer) {
        Some(_) => Ok(Declared::Schema { pointer, content }),
        None => Ok(Declared::Anything),
    }
}

/// The values in a body; the error says why there are none.
pub(super) fn sent(request: &preview::Request, schemas: &Schemas, pointer: &str) -> Result<Vec<Sent>, String> {
    let whole = |value: Value| Ok(vec![Sent { at: String::new(), value }]);
    let text = String::from_utf8_lossy(&request.body);
    let ours = media_type(request);
    if request.body.is_empty() {
        let query = request.url.split_once('?').map_or("", |(_, query)| query);
        let own = query.split('&').filter(|pair| !pair.ends_with(&format!("={MASK}"))).collect::<Vec<_>>();
        return whole(object(&own.join("&"), schemas, pointer));
    }
    if is_form(request) {
        return whole(object(&text, schemas, pointer));
    }
    let parse =
        |text: &str| serde_json::from_str::<Value>(text).map_err(|error| format!("the body is no JSON: {error}"));
    if ours == "application/x-ndjson" {
        let lines = text.lines().enumerate();
        return lines.map(|(n, line)| Ok(Sent { at: format!("/{n}"), value: parse(line)? })).collect();
    }
    whole(parse(&text)?)
}

/// Whether everything that is sent is text.
pub(super) fn is_form(request: &preview::Request) -> bool {
    request.body.is_empty() || media_type(request) == "application/x-www-form-urlencoded"
}

/// A form as the object that its schema speaks of.
fn object(form: &str, schemas: &Schemas, pointer: &str) -> Value {
    let typed = |(name, value): (String, String)| {
        let value = match schemas.property(pointer, &name) {
            Some(property) => schemas.typed(&property, &value),
            None => value.into(),
        };
        (name, value)
    };
    Value::Object(pairs(form).into_iter().map(typed).collect::<Map<_, _>>())
}
