//! `[sink.request]`: method, path, body, headers and limits of a request.
//!
//! Must not: know a vendor, or accept a combination that no request could have.

use std::time::Duration;

use super::mapping::{self, Scope, json, rule};
use super::reader::{Reader, as_text, one_of};
use super::tree::{Node, Value};
use crate::deliver::api::mapping::{Origin, Rule, Scalar};
use crate::deliver::api::request::{Body, Late, OPEN, PathTemplate, Request, Then};

/// Methods that carry something.
const METHODS: &[&str] = &["POST", "PUT", "PATCH"];

const PATH: &str = "a path such as \"/v1/clockings\", or a table such as { from = \"/punch\", map = { in = \"/clock-in\", out = \"/clock-out\" } }";

/// `[sink.request]`. Where something was wrong it has been reported, and the result is of no use.
pub(super) fn request(sink: &Reader<'_>, batch: usize, site_zone: Option<&str>) -> Option<Box<Request>> {
    request_of(sink, batch, site_zone, false)
}

/// `[sink.open.request]`: one exit, with the id of the record that it ends. What it doesn't say of headers and of what is
/// too old is said by `[sink.request]`.
pub(super) fn exit_request(
    open: &Reader<'_>,
    site_zone: Option<&str>,
    entry: Option<&Request>,
) -> Option<Box<Request>> {
    let mut request = request_of(open, 1, site_zone, true)?;
    if let Some(entry) = entry {
        if request.headers.is_empty() {
            request.headers.clone_from(&entry.headers);
        }
        let refused = entry.late.as_ref().filter(|late| late.then == Then::Reject);
        request.late = request.late.take().or_else(|| refused.cloned());
    }
    Some(request)
}

fn request_of(sink: &Reader<'_>, batch: usize, site_zone: Option<&str>, open: bool) -> Option<Box<Request>> {
    let reader = sink.child("request", "a table [sink.request]")?;
    let scope = Scope { site_zone, flat: true };
    let body = reader.word("body", Body::WORDS).unwrap_or_default();
    if body.is_single()
        && batch > 1
        && let Some(node) = reader.get("body")
    {
        let many = Body::WORDS.iter().filter(|(_, body)| !body.is_single()).map(|(word, _)| *word);
        reader.wrong("body", node, &format!("batch = 1 beside it, or {}", one_of(many)));
    }
    let params = params(&reader, scope);
    let names: Vec<&str> = params.iter().map(|(name, _)| name.as_str()).chain(open.then_some(OPEN)).collect();
    let method = method(&reader, body, scope);
    if method.is_some()
        && !open
        && let Some(node) = sink.get("method")
    {
        sink.wrong("method", node, "the method in one place: here or in [sink.request]");
    }
    let path = path(&reader, &names, scope);
    let stamps_server_time = reader.boolean("stamps_server_time").unwrap_or(false);
    let mut request = Request {
        late: stamped(&reader, stamps_server_time, late(&reader, body, &names, scope)),
        stamps_server_time,
        headers: headers(&reader, batch, scope),
        method,
        path,
        body,
        max_workers: reader
            .number("max_workers", 1..=10_000, "a whole number of people, for example 25")
            .and_then(|most| usize::try_from(most).ok()),
        ..Request::default()
    };
    envelope(&reader, &mut request);
    request.params = params;
    reader.finish(&[("batch", "the sink itself"), ("max_body_bytes", "the sink itself"), ("url", "the sink itself")]);
    Some(Box::new(request))
}

fn params(reader: &Reader<'_>, scope: Scope<'_>) -> Vec<(String, Rule)> {
    let Some(table) =
        reader.child("params", "a table such as { worker = { from = \"/person/external_id\", trim = true } }")
    else {
        return Vec::new();
    };
    table.entries().filter_map(|(name, _, node)| Some((name.to_owned(), rule(&table, name, node, scope)?))).collect()
}

fn constant(text: &str) -> Rule {
    Rule::plain(Origin::Constant(Scalar::Text(text.to_owned())))
}

/// A text, or a rule of which every value is checked.
fn chosen(
    reader: &Reader<'_>,
    key: &'static str,
    scope: Scope<'_>,
    expected: &str,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<Rule> {
    let node = reader.get(key)?;
    let judged = |node: &Node, text: &str| {
        if let Err(expected) = check(text) {
            reader.wrong(key, node, &expected);
        }
    };
    let Value::Table(table) = &node.value else {
        let Some(text) = as_text(node) else {
            reader.wrong(key, node, expected);
            return None;
        };
        judged(node, text);
        return Some(constant(text));
    };
    let rule = rule(reader, key, node, scope)?;
    let Some(values) = rule.values() else {
        reader.wrong(key, node, &format!("a map beside from: {expected}"));
        return None;
    };
    // Each value is shown where it stands.
    let inside = table.get("map").map(|map| &map.value);
    for value in values {
        let at = match inside {
            Some(Value::Table(map)) => {
                map.entries.iter().map(|e| &e.node).find(|n| as_text(n) == Some(value.as_text()))
            }
            _ => None,
        };
        judged(at.or_else(|| table.get("default")).unwrap_or(node), value.as_text());
    }
    Some(rule)
}

fn method(reader: &Reader<'_>, body: Body, scope: Scope<'_>) -> Option<Rule> {
    let expected = one_of(METHODS.iter().copied());
    chosen(reader, "method", scope, &expected, |method| match method {
        "GET" if body == Body::Query => Ok(()),
        "GET" => Err(format!("{expected}; \"GET\" goes with body = \"query\" alone")),
        method if METHODS.contains(&method) => Ok(()),
        _ => Err(expected.clone()),
    })
}

fn path(reader: &Reader<'_>, params: &[&str], scope: Scope<'_>) -> Option<Rule> {
    chosen(reader, "path", scope, PATH, |path| PathTemplate::parse(path, params).map(|_| ()))
}

fn late(reader: &Reader<'_>, body: Body, params: &[&str], scope: Scope<'_>) -> Option<Late> {
    let seconds = reader.number("max_age_seconds", 1..=315_360_000, "a whole number of seconds, for example 43200");
    let node = reader.get("late");
    let expected = "\"reject\", or another path such as { path = \"/time-activities\" }";
    let (Some(max_age), Some(node)) = (seconds.map(Duration::from_secs), node) else {
        if node.is_some() && reader.get("max_age_seconds").is_none() {
            reader.missing("max_age_seconds", "the age from which an event is late, for example 43200");
        } else if let (None, Some(age)) = (node, reader.get("max_age_seconds")) {
            reader.wrong("max_age_seconds", age, &format!("late beside it: {expected}"));
        }
        return None;
    };
    let then = match &node.value {
        Value::Table(_) => {
            let table = reader.child("late", expected)?;
            let (method, path) = (method(&table, body, scope), path(&table, params, scope));
            if method.is_none() && path.is_none() {
                table.missing("path", PATH);
            }
            table.finish(&[]);
            Then::Elsewhere { path: path.map(Box::new), method: method.map(Box::new) }
        }
        _ if as_text(node) == Some("reject") => Then::Reject,
        _ => {
            reader.wrong_word("late", node, expected, ["reject"]);
            return None;
        }
    };
    Some(Late { max_age, then })
}

/// Longest `max_age_seconds` where the vendor stamps its own time, and the usual one: a punch must not become another one.
const STAMPED: (u64, u64) = (3600, 300);

/// `stamps_server_time`: what is older than a few minutes would become another punch there.
fn stamped(reader: &Reader<'_>, stamps: bool, late: Option<Late>) -> Option<Late> {
    let Some(node) = reader.get("stamps_server_time").filter(|_| stamps) else { return late };
    let (longest, usual) = STAMPED;
    let age = reader.get("max_age_seconds");
    if let (Some(Late { max_age, .. }), Some(age)) = (&late, age)
        && max_age.as_secs() > longest
    {
        let expected =
            format!("at most {longest} beside stamps_server_time: what is older becomes another punch there");
        reader.wrong("max_age_seconds", age, &expected);
    }
    // What is wrong about the two keys of lateness has been said.
    let late = match (late, age.is_some() || reader.get("late").is_some()) {
        (None, false) => Some(Late { max_age: Duration::from_secs(usual), then: Then::Reject }),
        (late, _) => late,
    };
    if let Some(Late { max_age, then }) = &late {
        let what = if *then == Then::Reject { "are quarantined unsent" } else { "go elsewhere" };
        let expected =
            format!("a vendor that is told the time; here events older than {} seconds {what}", max_age.as_secs());
        reader.doubt(
            "stamps_server_time",
            &node.place,
            "a vendor that takes the time of arrival for the time of the event",
            &expected,
        );
    }
    late
}

fn headers(reader: &Reader<'_>, batch: usize, scope: Scope<'_>) -> Vec<(String, Rule)> {
    let Some(table) = reader.child("headers", "a table such as { Accept = { constant = \"application/json\" } }")
    else {
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (name, place, node) in table.entries() {
        if !super::sinks::header_name(&table, name, place) {
            continue;
        }
        // A header's text is what most want to write; a field of the event begins with "/" and stands in a table.
        let rule = match as_text(node) {
            Some(text) => Some(constant(text)),
            None => rule(&table, name, node, scope),
        };
        let Some(rule) = rule else { continue };
        let visible = |text: &str| text.chars().all(|c| c == '\t' || (' '..='~').contains(&c));
        if rule.values().is_some_and(|values| values.iter().any(|value| !visible(value.as_text()))) {
            table.refuse(name, &node.place, "a value that no HTTP header can have", "printable ASCII text");
        }
        if batch > 1 && !matches!(rule.origin, Origin::Constant(_)) {
            table.wrong(name, node, "a constant: with batch > 1 a request carries several events");
        }
        headers.push((name.to_owned(), rule));
    }
    headers
}

/// `wrap`, `envelope` and `rpc_method`.
fn envelope(reader: &Reader<'_>, request: &mut Request) {
    let body = request.body;
    let (wrap, envelope, rpc) = (reader.get("wrap"), reader.get("envelope"), reader.get("rpc_method"));
    for (key, node, fits, owners) in [
        ("wrap", wrap, body.has_envelope(), "wrapped or jsonrpc"),
        ("envelope", envelope, body.has_envelope(), "wrapped or jsonrpc"),
        ("rpc_method", rpc, body == Body::JsonRpc, "jsonrpc"),
    ] {
        if let (Some(node), false) = (node, fits) {
            reader.wrong(key, node, &format!("no {key}: it goes with body = {owners}"));
        }
    }
    let expected = "the key or JSON pointer under which the items stand, for example \"attendances\"";
    if body == Body::Wrapped && wrap.is_none() {
        reader.missing("wrap", expected);
    }
    if let Some(wrap) = reader.text("wrap", expected) {
        request.wrap = if wrap.starts_with('/') { wrap.to_owned() } else { format!("/{wrap}") };
    }
    if let Some(node) = envelope {
        match (&node.value, json(node)) {
            (Value::Table(_), Some(value)) => request.envelope = value.to_string(),
            _ => reader.wrong(
                "envelope",
                node,
                "a table of what stands around the items, for example { skip_approval = true }",
            ),
        }
    }
    if let Some(method) = reader.text("rpc_method", "the method of the JSON-RPC request, for example \"call\"") {
        method.clone_into(&mut request.rpc_method);
    }
    if body.has_envelope()
        && let Some(node) = wrap.or(envelope)
        && let Err(expected) = request.check_envelope()
    {
        reader.wrong(if wrap.is_some() { "wrap" } else { "envelope" }, node, &expected);
    }
}

/// What `map` needs beside a request, and the other way round.
pub(super) fn together(sink: &Reader<'_>, request: Option<&Request>, mapped: bool) {
    if let (Some(Request { body, .. }), false) = (request, mapped)
        && !body.is_json()
    {
        sink.missing("map", "a table [sink.map]: a form or query is made of its targets");
    }
    if let (false, Some(node)) = (mapped, sink.get("map_correction")) {
        sink.wrong("map_correction", node, "[sink.map] beside it");
    }
}

/// Whether targets of `[sink.map]` may nest.
pub(super) fn scope<'s>(request: Option<&Request>, site_zone: Option<&'s str>) -> mapping::Scope<'s> {
    Scope { site_zone, flat: request.is_some_and(|request| !request.body.is_json()) }
}
