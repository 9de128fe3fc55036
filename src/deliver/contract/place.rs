//! From a place in a request to the key of the configuration that put it there.
//!
//! Must not: know lines; whoever holds the file does.

use serde_json::Value;

use crate::deliver::api::Config;
use crate::deliver::api::mapping::{Rule, Scalar};
use crate::deliver::api::request::{Body, Late, Then};
use crate::deliver::pointer::{escaped, unescaped};

/// A sink's keys.
pub(super) struct Places<'c> {
    pub(super) sink: &'c Config,
    /// What stands before a field of the item in the body; `None`: any index.
    item: Vec<Option<String>>,
}

fn key(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

impl<'c> Places<'c> {
    pub(super) fn new(sink: &'c Config) -> Self {
        let many = sink.batch > 1;
        let request = sink.request.as_deref();
        let wrap = || {
            let tokens = request.map_or("", |request| request.wrap.as_str()).split('/').skip(1);
            tokens.map(|token| Some(unescaped(token)))
        };
        let item = match request.map_or(Body::Plain, |request| request.body) {
            Body::Plain if many => vec![None],
            Body::Plain | Body::Object | Body::Form | Body::Query => Vec::new(),
            Body::Array | Body::Ndjson => vec![None],
            Body::Wrapped => wrap().chain([None]).collect(),
            Body::CloudEvents => vec![None, Some("data".to_owned())],
            Body::JsonRpc => {
                [Some("params".to_owned())].into_iter().chain(wrap()).chain(many.then_some(None)).collect()
            }
        };
        Self { sink, item }
    }

    pub(super) fn url(&self) -> Vec<String> {
        key(&["url"])
    }

    pub(super) fn path(&self) -> Vec<String> {
        match self.sink.request.as_deref().is_some_and(|request| request.path.is_some()) {
            true => key(&["request", "path"]),
            false => self.url(),
        }
    }

    /// The same for a path that was sent: late events may have one of their own.
    pub(super) fn path_of(&self, sent: &str) -> Vec<String> {
        let request = self.sink.request.as_deref();
        let leads_there = |rule: &Rule| {
            let literal =
                |path: &Scalar| path.as_text().split(['{', '?']).next().is_some_and(|text| sent.contains(text));
            rule.values().is_some_and(|paths| paths.into_iter().any(literal))
        };
        let ordinary = request.and_then(|request| request.path.as_ref());
        let late = request.and_then(|request| match &request.late {
            Some(Late { then: Then::Elsewhere { path, .. }, .. }) => path.as_deref(),
            _ => None,
        });
        match (ordinary.is_some_and(leads_there), late.is_some_and(leads_there)) {
            (false, true) => key(&["request", "late"]),
            _ => self.path(),
        }
    }

    pub(super) fn method(&self) -> Vec<String> {
        match self.sink.request.as_deref().is_some_and(|request| request.method.is_some()) {
            true => key(&["request", "method"]),
            false => key(&["method"]),
        }
    }

    pub(super) fn body(&self) -> Vec<String> {
        match self.sink.request.is_some() {
            true => key(&["request", "body"]),
            false => key(&["batch"]),
        }
    }

    pub(super) fn header(&self, name: &str) -> Vec<String> {
        let written = |list: &[String]| list.iter().find(|known| known.eq_ignore_ascii_case(name)).cloned();
        let request = self.sink.request.as_deref();
        let mapped: Vec<String> =
            request.map(|request| request.headers.iter().map(|(name, _)| name.clone()).collect()).unwrap_or_default();
        let constant: Vec<String> = self.sink.headers.iter().map(|(name, _)| name.clone()).collect();
        match (written(&mapped), written(&constant)) {
            (Some(name), _) => key(&["request", "headers", &name]),
            (None, Some(name)) => key(&["headers", &name]),
            (None, None) if constant.is_empty() && !mapped.is_empty() => key(&["request", "headers"]),
            (None, None) => key(&["headers"]),
        }
    }

    /// A parameter of the query.
    pub(super) fn query(&self, name: &str) -> Vec<String> {
        match self.sink.request.as_deref().is_some_and(|request| request.body == Body::Query) {
            true => self.of(&format!("/{}", escaped(name))),
            false => self.path(),
        }
    }

    /// A place in the body, a JSON pointer.
    pub(super) fn of(&self, pointer: &str) -> Vec<String> {
        let tokens: Vec<String> = pointer.split('/').skip(1).map(unescaped).collect();
        let within = tokens.len() >= self.item.len()
            && self
                .item
                .iter()
                .zip(&tokens)
                .all(|(wanted, token)| wanted.as_ref().is_none_or(|wanted| wanted == token));
        let Some(request) = self.sink.request.as_deref().filter(|_| !within) else {
            return self.field(tokens.get(self.item.len()..).unwrap_or_default());
        };
        match request.body {
            Body::Wrapped | Body::JsonRpc if request.envelope != "{}" => key(&["request", "envelope"]),
            Body::Wrapped | Body::JsonRpc if !request.wrap.is_empty() => key(&["request", "wrap"]),
            _ => self.body(),
        }
    }

    /// Whether a pointer into the body names the list of the items.
    pub(super) fn is_list(&self, pointer: &str) -> bool {
        let Some((None, before)) = self.item.split_last() else { return false };
        let tokens = pointer.split('/').skip(1).map(|token| Some(unescaped(token)));
        tokens.eq(before.iter().cloned())
    }

    /// A value that stands at `at` in the body with as many items as a full request has, if it has a list and fewer.
    pub(super) fn filled(&self, at: &str, value: &Value) -> Option<Value> {
        let (None, before) = self.item.split_last()? else { return None };
        let from = at.split('/').skip(1).count();
        let pointer: String = before.get(from..)?.iter().flatten().map(|key| format!("/{}", escaped(key))).collect();
        let mut full = value.clone();
        let list = full.pointer_mut(&pointer)?.as_array_mut()?;
        let (some, missing) = (list.clone(), self.sink.batch.checked_sub(list.len())?);
        list.extend(some.iter().cycle().take(missing).cloned());
        (missing > 0 && !some.is_empty()).then_some(full)
    }

    /// Where the items stand in a value that stands at `at` in the body.
    pub(super) fn items(&self, at: &str, value: &Value) -> Vec<String> {
        // What stands before the value needs no second look.
        let before = at.split('/').skip(1).count().min(self.item.len());
        let mut places = vec![String::new()];
        for step in &self.item[before..] {
            let within = |place: String| -> Vec<String> {
                match (step, value.pointer(&place)) {
                    (Some(key), Some(Value::Object(_))) => vec![format!("{place}/{}", escaped(key))],
                    (None, Some(Value::Array(items))) => (0..items.len()).map(|n| format!("{place}/{n}")).collect(),
                    _ => Vec::new(),
                }
            };
            places = places.into_iter().flat_map(within).collect();
        }
        places
    }

    fn field(&self, target: &[String]) -> Vec<String> {
        let Some(map) = &self.sink.map else { return Vec::new() };
        let mut keys = key(&["map"]);
        // What the mapping puts there, something inside it, or what it is a part of.
        let fields = || map.fields.iter().map(|field| &field.target);
        if fields().any(|field| field.starts_with(target)) {
            keys.extend(target.iter().cloned());
        } else if let Some(field) = fields().find(|field| target.starts_with(field)) {
            keys.extend(field.iter().cloned());
        }
        keys
    }
}
