//! The schema dialects of OpenAPI as JSON Schema 2020-12, for requests: that of 3.0 (OpenAPI 3.0.3 §4.7.24), and what 3.1
//! says of fields that only an answer carries.
//!
//! Must not: move anything: a pointer into the result is a pointer into the document.

use serde_json::{Map, Value};

/// A copy of a document with its schemas translated. Schemas are told by their keys, wherever they stand: a key of that
/// name with a value of another type is a property and stays.
pub(super) fn translated(root: &Value, is_3_0: bool) -> Value {
    let mut copy = root.clone();
    walk(&mut copy, root, if is_3_0 { of_3_0 } else { without_read_only });
    copy
}

type Translate = fn(&mut Map<String, Value>, &Value);

fn walk(value: &mut Value, root: &Value, translate: Translate) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, root, translate)),
        Value::Object(object) => {
            translate(object, root);
            object.values_mut().for_each(|member| walk(member, root, translate));
        }
        _ => {}
    }
}

fn of_3_0(object: &mut Map<String, Value>, root: &Value) {
    // Beside a reference nothing counts.
    if matches!(object.get("$ref"), Some(Value::String(_))) {
        object.retain(|key, _| key == "$ref");
        return;
    }
    // Without a type beside it `nullable` says nothing (OpenAPI 3.0.3, proposal "Clarify nullable").
    if object.get("nullable") == Some(&Value::Bool(true))
        && let Some(Value::String(word)) = object.get("type").cloned()
    {
        object.insert("type".to_owned(), serde_json::json!([word, "null"]));
    }
    for (bound, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
        match object.get(exclusive) {
            Some(Value::Bool(true)) => match object.remove(bound) {
                Some(limit) => object.insert(exclusive.to_owned(), limit),
                None => object.remove(exclusive),
            },
            Some(Value::Bool(false)) => object.remove(exclusive),
            _ => None,
        };
    }
    without_read_only(object, root);
    whole_numbers(object);
}

/// What only the answer carries is not required of a request.
fn without_read_only(object: &mut Map<String, Value>, root: &Value) {
    if let (Some(Value::Array(required)), Some(Value::Object(properties))) =
        (object.get("required").cloned(), object.get("properties"))
    {
        let only_read = |name: &Value| {
            let property = name.as_str().and_then(|name| properties.get(name));
            let property = property.map(|property| match property.get("$ref").and_then(Value::as_str) {
                Some(target) => target.strip_prefix('#').and_then(|at| root.pointer(at)).unwrap_or(property),
                None => property,
            });
            property.is_some_and(|property| property.get("readOnly") == Some(&Value::Bool(true)))
        };
        let kept: Vec<Value> = required.into_iter().filter(|name| !only_read(name)).collect();
        object.insert("required".to_owned(), kept.into());
    }
}

/// `format: int32` and `int64` are bounds, which JSON Schema knows no format for.
fn whole_numbers(object: &mut Map<String, Value>) {
    let bounds = match object.get("format").and_then(Value::as_str) {
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Some("int64") => (i64::MIN, i64::MAX),
        _ => return,
    };
    let number = object.get("type").is_some_and(|word| {
        word == "integer" || word.as_array().is_some_and(|words| words.iter().any(|word| word == "integer"))
    });
    if number {
        object.entry("minimum").or_insert_with(|| bounds.0.into());
        object.entry("maximum").or_insert_with(|| bounds.1.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nullable_bounds_references_and_read_only_fields_are_translated() {
        let document = json!({
            "a": {"type": "string", "nullable": true},
            "b": {"type": "number", "minimum": 0, "exclusiveMinimum": true, "maximum": 9, "exclusiveMaximum": false},
            "c": {"$ref": "#/a", "description": "x"},
            "d": {"required": ["id", "name"], "properties": {"id": {"readOnly": true}, "name": {}, "nullable": {"type": "boolean"}}},
            "e": {"type": "integer", "format": "int32", "maximum": 5},
            "f": {"nullable": true}
        });
        let expected = json!({
            "a": {"type": ["string", "null"], "nullable": true},
            "b": {"type": "number", "exclusiveMinimum": 0, "maximum": 9},
            "c": {"$ref": "#/a"},
            "d": {"required": ["name"], "properties": {"id": {"readOnly": true}, "name": {}, "nullable": {"type": "boolean"}}},
            "e": {"type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": 5},
            "f": {"nullable": true}
        });
        assert_eq!(translated(&document, true), expected);
        let mut of_3_1 = document.clone();
        of_3_1["d"]["required"] = json!(["name"]);
        assert_eq!(translated(&document, false), of_3_1);
    }
}
