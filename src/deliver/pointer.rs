//! JSON pointers (RFC 6901) where something is written; serde_json reads them.
//!
//! Must not: replace what stands in the way.

use serde_json::{Map, Value};

/// A key as it stands between two slashes: `~1` is a slash, `~0` a tilde (RFC 6901 §4).
pub(super) fn unescaped(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// The other way round.
#[cfg(feature = "contract")]
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Puts a value at a pointer, making the objects on the way; in a list the index of a member, or the next free one. `None`
/// where something else stands in the way.
pub(super) fn put(document: &mut Value, pointer: &str, new: Value) -> Option<()> {
    let Some(rest) = pointer.strip_prefix('/') else {
        *document = new;
        return pointer.is_empty().then_some(());
    };
    let (token, rest) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let token = unescaped(token);
    if document.is_null() {
        *document = Value::Object(Map::new());
    }
    match document {
        Value::Object(object) => put(object.entry(token).or_insert(Value::Null), rest, new),
        Value::Array(list) => {
            let index: usize = token.parse().ok()?;
            if index == list.len() {
                list.push(Value::Null);
            }
            put(list.get_mut(index)?, rest, new)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_on_the_way_is_made_and_what_stands_there_stays() {
        let put = |mut document: Value, pointer: &str| put(&mut document, pointer, json!(7)).map(|()| document);
        assert_eq!(put(json!({}), "/a/b"), Some(json!({ "a": { "b": 7 } })));
        assert_eq!(put(json!({ "a": [1] }), "/a/0"), Some(json!({ "a": [7] })));
        assert_eq!(put(json!({ "a": [1] }), "/a/1/b"), Some(json!({ "a": [1, { "b": 7 }] })));
        assert_eq!(put(json!({}), "/a~1b~0"), Some(json!({ "a/b~": 7 })));
        assert_eq!(put(json!({}), ""), Some(json!(7)));
        for (document, pointer) in [(json!({ "a": [1] }), "/a/2"), (json!({ "a": "x" }), "/a/b"), (json!({}), "a")] {
            assert_eq!(put(document, pointer), None, "{pointer}");
        }
    }
}
