//! The operations of an OpenAPI document.
//!
//! Must not: refuse a document for a part of it that no request reaches.

use serde_json::Value;

use super::document::resolve;
use super::{Error, nearest};
use crate::deliver::pointer::escaped;

/// The methods that a path item may have (OpenAPI 3.1.0 §4.8.9).
const METHODS: &[&str] = &["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// What is needed of a document again and again.
pub(super) struct OpenApi {
    pub(super) is_3_0: bool,
    pub(super) operations: Vec<Operation>,
}

/// One operation.
pub(super) struct Operation {
    /// `operationId`.
    pub(super) id: Option<String>,
    /// In capitals.
    pub(super) method: String,
    /// The path template, without a server's part.
    pub(super) path: String,
    /// Where the key of the path stands.
    pub(super) path_pointer: String,
    /// Where the path item stands; elsewhere if it is a reference.
    pub(super) item: String,
    /// Where it stands itself.
    pub(super) pointer: String,
    /// The paths of its servers, without a slash at the end, and where they stand.
    pub(super) servers: Vec<(String, String)>,
}

impl OpenApi {
    pub(super) fn new(root: &Value) -> Result<Self, Error> {
        if root.get("swagger").is_some() {
            return Err(Error::Swagger);
        }
        let version = match root.get("openapi") {
            Some(Value::String(version)) => version.clone(),
            // Whoever writes YAML forgets the quotes.
            Some(Value::Number(version)) => version.to_string(),
            _ => return Err(Error::Version("it has no key 'openapi'".to_owned())),
        };
        let is_3_0 = version == "3.0" || version.starts_with("3.0.");
        if !is_3_0 && version != "3.1" && !version.starts_with("3.1.") {
            return Err(Error::Version(format!("its version is '{version}'")));
        }
        let mut operations = Vec::new();
        for path in root.get("paths").and_then(Value::as_object).into_iter().flatten().map(|(path, _)| path) {
            let path_pointer = format!("/paths/{}", escaped(path));
            let Ok((item, value)) = resolve(root, &path_pointer) else { continue };
            for method in METHODS.iter().filter(|method| value.get(method).is_some_and(Value::is_object)) {
                let pointer = format!("{item}/{method}");
                let servers = [pointer.as_str(), item.as_str(), ""].iter().find_map(|at| servers(root, at));
                operations.push(Operation {
                    id: value[method]["operationId"].as_str().map(str::to_owned),
                    method: method.to_uppercase(),
                    path: path.clone(),
                    path_pointer: path_pointer.clone(),
                    item: item.clone(),
                    pointer,
                    servers: servers.unwrap_or_else(|| vec![(String::new(), String::new())]),
                });
            }
        }
        Ok(Self { is_3_0, operations })
    }

    /// The operation with an `operationId`.
    pub(super) fn named(&self, id: &str) -> Result<usize, Error> {
        self.operations.iter().position(|operation| operation.id.as_deref() == Some(id)).ok_or_else(|| {
            let known = nearest::of(id, self.operations.iter().filter_map(|operation| operation.id.as_deref()));
            let known = if known.is_empty() { String::new() } else { format!("; near are {}", known.join(", ")) };
            Error::Operation(id.to_owned(), known)
        })
    }
}

/// The paths of the servers that stand at a place; `None` without any.
fn servers(root: &Value, at: &str) -> Option<Vec<(String, String)>> {
    let at = format!("{at}/servers");
    let list = root.pointer(&at)?.as_array().filter(|list| !list.is_empty())?;
    let path = |(index, server): (usize, &Value)| {
        let mut url = server["url"].as_str().unwrap_or_default().to_owned();
        for (name, variable) in server["variables"].as_object().into_iter().flatten() {
            url = url.replace(&format!("{{{name}}}"), variable["default"].as_str().unwrap_or_default());
        }
        let path = match url.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
            None => &url,
        };
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
        (format!("{slash}{path}"), format!("{at}/{index}/url"))
    };
    Some(list.iter().enumerate().map(path).collect())
}
