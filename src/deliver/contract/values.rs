//! The values of a mapping that no request at hand carries: each takes the place of what stands there in a body.
//!
//! Must not: find fault with a body for anything but that value.

use std::collections::HashSet;

use serde_json::Value;

use super::place::Places;
use super::schema::Schemas;
use super::{Error, Finding, finding};
use crate::deliver::pointer::{self, escaped};

/// A body that was held against a schema.
pub(super) struct Held {
    /// Where the schema stands.
    pub(super) schema: String,
    /// Where the value stands in the body.
    pub(super) at: String,
    pub(super) value: Value,
    /// Everything in it is text.
    pub(super) form: bool,
}

/// Holds what is left against the schemas. A value is wrong if it is so in each of them: to which of them an event with it
/// would go isn't known.
pub(super) fn check(
    document: &Value,
    schemas: &Schemas,
    places: &Places<'_>,
    bodies: &[Held],
    found: &mut Vec<Finding>,
) -> Result<(), Error> {
    let Some(map) = &places.sink.map else { return Ok(()) };
    let mut first_of_each: Vec<&Held> = Vec::new();
    for body in bodies {
        if !first_of_each.iter().any(|known| known.schema == body.schema) {
            first_of_each.push(body);
        }
    }
    for field in &map.fields {
        let values = field.rule.outgoing();
        let place: String = field.target.iter().map(|key| format!("/{}", escaped(key))).collect();
        let items = |body: &Held| places.items(&body.at, &body.value);
        let seen: HashSet<String> = match values.is_empty() {
            true => continue,
            false => bodies
                .iter()
                .flat_map(|body| items(body).into_iter().filter_map(|at| body.value.pointer(&format!("{at}{place}"))))
                .map(text)
                .collect(),
        };
        for value in values.into_iter().filter(|value| !seen.contains(&text(value))) {
            let mut faults: Option<Finding> = None;
            for body in &first_of_each {
                let Some(item) = items(body).into_iter().next() else { continue };
                let inside = format!("{item}{place}");
                let put = match (body.form, schemas.property(&body.schema, &field.target.join("."))) {
                    (true, Some(property)) => schemas.typed(&property, &text(&value)),
                    (true, None) => text(&value).into(),
                    (false, _) => value.clone(),
                };
                let mut changed = body.value.clone();
                if pointer::put(&mut changed, &inside, put).is_none() {
                    continue;
                }
                let fault = schemas.get(&body.schema)?.faults(&changed, document);
                let Some(fault) = fault.into_iter().find(|fault| fault.instance == inside) else {
                    faults = None;
                    break;
                };
                let message = format!("{} (no event at hand leads to it)", fault.message);
                faults.get_or_insert_with(|| {
                    finding(&fault.rule, places.of(&format!("{}{inside}", body.at)), fault.pointer, message)
                });
            }
            found.extend(faults);
        }
    }
    Ok(())
}

/// A value as a form would carry it.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
