//! Path, query and header parameters of an operation.
//!
//! Must not: judge a value that is masked.

use serde_json::Value;

use super::document::{decoded, resolve};
use super::openapi::Operation;
use super::place::Places;
use super::schema::Schemas;
use super::{Error, Finding, finding, security};

/// What stands for a credential in a preview.
pub(super) const MASK: &str = "***";

/// Headers of which OpenAPI says that their description counts for nothing (OpenAPI 3.1.0 §4.8.12.2.1).
const IGNORED: &[&str] = &["accept", "content-type", "authorization"];

/// What a request carries beside its body.
pub(super) struct Carried<'r> {
    pub(super) path: &'r [(String, String)],
    pub(super) query: &'r str,
    pub(super) headers: &'r [(String, String)],
}

/// A parameter as declared.
struct Parameter<'d> {
    pointer: String,
    place: &'d str,
    name: &'d str,
    required: bool,
    schema: Option<String>,
    /// Its properties are parameters of their own.
    spread: bool,
}

/// Pairs of a query or a form.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let plain = |text: &str| decoded(&text.replace('+', " "));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (plain(name), plain(value))
    };
    text.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

/// What the header `Cookie` carries (RFC 6265 §4.2.1).
fn cookies(headers: &[(String, String)]) -> Vec<(String, String)> {
    let held =
        headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("cookie")).flat_map(|(_, text)| text.split(';'));
    held.filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Holds them against what is declared.
pub(super) fn check(
    root: &Value,
    schemas: &Schemas,
    operation: &Operation,
    places: &Places<'_>,
    carried: &Carried<'_>,
    found: &mut Vec<Finding>,
) -> Result<(), Error> {
    let parameters = declared(root, operation)?;
    let query = pairs(carried.query);
    let cookies = cookies(carried.headers);
    for parameter in &parameters {
        let name = parameter.name;
        let (value, key) = match parameter.place {
            "query" => (query.iter().find(|(known, _)| known == name), places.query(name)),
            "path" => (carried.path.iter().find(|(known, _)| known == name), places.path()),
            "header" if IGNORED.iter().any(|ignored| name.eq_ignore_ascii_case(ignored)) => continue,
            "header" => {
                (carried.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)), places.header(name))
            }
            "cookie" => (cookies.iter().find(|(known, _)| known == name), places.header("cookie")),
            _ => continue,
        };
        let Some((_, value)) = value else {
            // The path's values are there wherever the path matched.
            if parameter.required && parameter.place != "path" {
                let what = if parameter.place == "query" { "query parameter" } else { parameter.place };
                let message = format!("lacks the required {what} '{name}'");
                found.push(finding(parameter.place, key, parameter.pointer.clone(), message));
            }
            continue;
        };
        let Some(pointer) = parameter.schema.as_deref().filter(|_| !value.contains(MASK)) else { continue };
        for fault in schemas.get(pointer)?.faults(&schemas.typed(pointer, value), root) {
            let message = format!("{} '{name}': {}", parameter.place, fault.message);
            found.push(finding(&fault.rule, key.clone(), fault.pointer, message));
        }
    }
    if !parameters.iter().any(|parameter| parameter.spread) {
        let known = |name: &str| {
            let declared = parameters
                .iter()
                .any(|p| p.place == "query" && p.name.trim_end_matches("[]") == name.trim_end_matches("[]"));
            declared || security::is_query_key(root, name)
        };
        for (name, _) in query.iter().filter(|(name, _)| !known(name)) {
            let message = format!("the operation declares no query parameter '{name}'");
            found.push(finding("query", places.query(name), operation.pointer.clone(), message));
        }
    }
    Ok(())
}

/// The parameters of the operation, and those of its path that it does not replace.
fn declared<'d>(root: &'d Value, operation: &Operation) -> Result<Vec<Parameter<'d>>, Error> {
    let mut parameters: Vec<Parameter<'d>> = Vec::new();
    for at in [&operation.pointer, &operation.item] {
        let at = format!("{at}/parameters");
        for index in 0..root.pointer(&at).and_then(Value::as_array).map_or(0, Vec::len) {
            let (pointer, value) = resolve(root, &format!("{at}/{index}"))?;
            let text = |key: &str| value[key].as_str().unwrap_or_default();
            let (name, place) = (text("name"), text("in"));
            if parameters.iter().any(|known| known.name == name && known.place == place) {
                continue;
            }
            let schema = value.get("schema").map(|_| format!("{pointer}/schema"));
            let spread = match &schema {
                Some(schema) => place == "query" && resolve(root, schema)?.1["type"] == "object",
                None => false,
            };
            let required = value["required"] == Value::Bool(true);
            parameters.push(Parameter { required, pointer, place, name, schema, spread });
        }
    }
    Ok(parameters)
}
