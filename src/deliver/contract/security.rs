//! Whether a request shows who we are in a way that the operation names.
//!
//! Must not: look at a credential's value. What the preview shows of it (where it stands, and its scheme word) is enough,
//! and whatever way of authentication a sink may learn, it shows there.

use serde_json::Value;

use super::document::resolve;
use super::openapi::Operation;
use super::parameters::{MASK, pairs};
use super::{Error, Finding, finding, note, preview};
use crate::deliver::api::Config;
use crate::deliver::pointer::escaped;

/// What the sink sends where it shows nothing.
const NOTHING: &str = "none";

/// One scheme that a request doesn't satisfy.
struct Unmet {
    pointer: String,
    message: String,
}

/// Holds a request against the operation's security, or the document's.
pub(super) fn check(
    root: &Value,
    operation: &Operation,
    sink: &Config,
    request: &preview::Request,
    query: &str,
    found: &mut Vec<Finding>,
) -> Result<(), Error> {
    let own = format!("{}/security", operation.pointer);
    let at = if root.pointer(&own).is_some() { own } else { "/security".to_owned() };
    let alternatives = root.pointer(&at).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let sent = shown(request, query);
    if alternatives.is_empty() && sent != NOTHING {
        let message = format!("the document names no security for this operation; the sink sends {sent}");
        found.push(note("security", vec!["auth".to_owned()], operation.pointer.clone(), message));
    }
    let mut best: Option<Vec<Unmet>> = None;
    for alternative in alternatives {
        let mut unmet = Vec::new();
        for name in alternative.as_object().into_iter().flatten().map(|(name, _)| name) {
            let pointer = format!("/components/securitySchemes/{}", escaped(name));
            let (pointer, scheme) = resolve(root, &pointer)?;
            unmet.extend(wants((name, &pointer, scheme), sink, request, query));
        }
        if unmet.is_empty() {
            return Ok(());
        }
        if best.as_ref().is_none_or(|best| unmet.len() < best.len()) {
            best = Some(unmet);
        }
    }
    for Unmet { pointer, message } in best.into_iter().flatten() {
        let message = format!("{message}; the sink sends {sent}");
        found.push(finding("security", vec!["auth".to_owned()], pointer, message));
    }
    Ok(())
}

/// What a scheme wants and the request lacks.
fn wants(
    (name, pointer, scheme): (&str, &str, &Value),
    sink: &Config,
    request: &preview::Request,
    query: &str,
) -> Option<Unmet> {
    let text = |key: &str| scheme[key].as_str().unwrap_or_default();
    let header = |name: &str| request.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let authorization = |word: &str| {
        let value = header("authorization").map(|(_, value)| value.as_str());
        value.and_then(|value| value.split_once(' ')).is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case(word))
    };
    let unmet = |key: &str, what: String| {
        let message = format!("the operation wants {what} (security scheme '{name}')");
        Some(Unmet { pointer: format!("{pointer}{key}"), message })
    };
    let key = text("name");
    match (text("type"), text("in")) {
        ("apiKey", "header") if header(key).is_none() => unmet("/name", format!("the header '{key}'")),
        ("apiKey", "query") if !pairs(query).iter().any(|(known, _)| known == key) => {
            unmet("/name", format!("the query parameter '{key}'"))
        }
        ("apiKey", "cookie") if !header("cookie").is_some_and(|(_, value)| value.contains(&format!("{key}="))) => {
            unmet("/name", format!("the cookie '{key}'"))
        }
        ("http", _) if !authorization(text("scheme")) => {
            unmet("/scheme", format!("'Authorization' with the scheme '{}'", text("scheme")))
        }
        ("oauth2" | "openIdConnect", _) if !authorization("bearer") => {
            unmet("/type", format!("'Authorization' with the scheme 'bearer' ({})", text("type")))
        }
        // The one that stands nowhere in a request.
        ("mutualTLS", _) if sink.client.is_none() => unmet("/type", "a client certificate".to_owned()),
        // A type that we don't know is not judged.
        _ => None,
    }
}

/// Where credentials stand in a request.
fn shown(request: &preview::Request, query: &str) -> String {
    let header = |(name, value): &(String, String)| match value.strip_suffix(MASK) {
        Some("") => Some(format!("the header '{name}'")),
        Some(word) => Some(format!("'{name}' with the scheme '{}'", word.trim())),
        None => None,
    };
    let mut parts: Vec<String> = request.headers.iter().filter_map(header).collect();
    let masked = pairs(query).into_iter().filter(|(_, value)| value == MASK);
    parts.extend(masked.map(|(name, _)| format!("the query parameter '{name}'")));
    if parts.is_empty() { NOTHING.to_owned() } else { parts.join(", ") }
}

/// Whether some scheme of the document puts a key into the query under this name.
pub(super) fn is_query_key(root: &Value, name: &str) -> bool {
    let schemes = root.pointer("/components/securitySchemes").and_then(Value::as_object);
    schemes.into_iter().flatten().any(|(_, scheme)| scheme["in"] == "query" && scheme["name"] == name)
}
