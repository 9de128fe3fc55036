//! Which operation a request reaches.
//!
//! Must not: judge the host: a vendor's sandbox, a proxy and production have different ones.

use super::document::decoded;
use super::openapi::{OpenApi, Operation};
use super::place::Places;
use super::{Finding, finding, nearest};

/// The values of a path's parameters.
pub(super) type Values = Vec<(String, String)>;

/// The operation for a method and a path. What is wrong is reported; `None` where it isn't known against what to check.
pub(super) fn find<'o>(
    openapi: &'o OpenApi,
    places: &Places<'_>,
    (method, path): (&str, &str),
    wanted: Option<&'o Operation>,
    found: &mut Vec<Finding>,
) -> Option<(&'o Operation, Values)> {
    let whole = |operation: &Operation| {
        operation.servers.iter().find_map(|(base, _)| matched(&operation.path, path.strip_prefix(base.as_str())?))
    };
    let mut reached = at(openapi, whole);
    if reached.is_empty() {
        reached = at(openapi, |operation| tail(&operation.path, path));
        if let Some((operation, _)) = reached.first() {
            let bases: Vec<String> =
                operation.servers.iter().map(|(base, _)| format!("{base}{}", operation.path)).collect();
            let message =
                format!("the address has the path {path}; with the document's servers it is {}", bases.join(" or "));
            let pointer = operation.servers.first().map_or_else(String::new, |(_, pointer)| pointer.clone());
            let pointer = if pointer.is_empty() { operation.path_pointer.clone() } else { pointer };
            found.push(finding("server", places.url(), pointer, message));
        }
    }
    if reached.is_empty() {
        let full = |operation: &Operation| {
            format!("{}{}", operation.servers.first().map_or("", |(base, _)| base), operation.path)
        };
        let names: Vec<String> = openapi.operations.iter().map(full).collect();
        let near = nearest::of(path, names.iter().map(String::as_str));
        let pointer =
            near.first().and_then(|best| openapi.operations.iter().find(|operation| full(operation) == *best));
        let pointer = pointer.map_or_else(|| "/paths".to_owned(), |operation| operation.path_pointer.clone());
        let near = if near.is_empty() { String::new() } else { format!("; near are {}", near.join(", ")) };
        found.push(finding("path", places.path_of(path), pointer, format!("the document has no path {path}{near}")));
        return wanted.map(|operation| (operation, Values::new()));
    }
    let Some((operation, values)) = reached.iter().find(|(operation, _)| operation.method == method) else {
        let there: Vec<&str> = reached.iter().map(|(operation, _)| operation.method.as_str()).collect();
        let (first, _) = reached.first()?;
        let message = format!("{} takes no {method}; it takes {}", first.path, there.join(", "));
        found.push(finding("method", places.method(), first.item.clone(), message));
        return reached.into_iter().find(|(one, _)| wanted.is_some_and(|wanted| std::ptr::eq(wanted, *one)));
    };
    if let Some(wanted) = wanted
        && !std::ptr::eq(wanted, *operation)
    {
        let id = wanted.id.as_deref().unwrap_or_default();
        let message = format!("the request reaches {} {}, not the operation '{id}'", operation.method, operation.path);
        found.push(finding("operation", places.path_of(path), wanted.pointer.clone(), message));
        return None;
    }
    Some((operation, values.clone()))
}

/// The operations that match; where several paths do, those with the fewest parameters (OpenAPI 3.1.0 §4.8.8.2).
fn at(openapi: &OpenApi, matches: impl Fn(&Operation) -> Option<Values>) -> Vec<(&Operation, Values)> {
    let mut all: Vec<_> =
        openapi.operations.iter().filter_map(|operation| Some((operation, matches(operation)?))).collect();
    let fewest = all.iter().map(|(_, values)| values.len()).min().unwrap_or(0);
    all.retain(|(_, values)| values.len() == fewest);
    all
}

/// Whether the end of a path matches, from any slash on.
fn tail(template: &str, path: &str) -> Option<Values> {
    path.match_indices('/').find_map(|(at, _)| matched(template, &path[at..])).filter(|_| template != "/")
}

/// The parameters' values if the path matches the template.
fn matched(template: &str, path: &str) -> Option<Values> {
    let (templates, segments): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    if templates.len() != segments.len() {
        return None;
    }
    let mut values = Values::new();
    for (template, segment) in templates.into_iter().zip(segments) {
        let segment = decoded(segment);
        match template.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
            None if template == segment => {}
            None => return None,
            Some((before, (name, after))) => {
                let value = segment.strip_prefix(before)?;
                // A second parameter in one segment is taken as it comes.
                let value = if after.contains('{') { value } else { value.strip_suffix(after)? };
                if value.is_empty() {
                    return None;
                }
                values.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_whole_segments() {
        let pairs =
            |values: Values| values.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        assert_eq!(matched("/v1/clockings", "/v1/clockings").map(pairs), Some(vec![]));
        assert_eq!(matched("/e/{id}/x", "/e/a%2Fb/x").map(pairs), Some(vec!["id=a/b".to_owned()]));
        assert_eq!(matched("/e/{id}.json", "/e/7.json").map(pairs), Some(vec!["id=7".to_owned()]));
        assert_eq!(matched("/e/{id}", "/e/").map(pairs), None);
        assert_eq!(matched("/v1/clockings", "/v1/clockings/").map(pairs), None);
        assert_eq!(tail("/v1/clockings", "/api/v1/clockings").map(pairs), Some(vec![]));
    }
}
