//! `[sink.request]`: which request carries the items: method, path, body, headers, and how many fit into one.
//!
//! The address is joined so: the sink's `url` gives scheme, host and a first part of the path, which loses a slash at its
//! end; `path` follows as it is written; a query of `url` comes first, one of `path` after it. Nothing is resolved and no
//! `..` is understood: `https://x/api/` and `/v1/clockings` make `https://x/api/v1/clockings`.
//!
//! Must not: know a vendor, or add what differs between two tries of the same request (credentials, signatures and such
//! come later and are not kept).

pub mod outgoing;

mod body;
mod path;
mod shape;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::time::Duration;

pub use outgoing::{OPEN, Outgoing};
pub use path::Template as PathTemplate;
pub use shape::Ending;
pub(super) use shape::{Mapper, Refusal, Surroundings};

use super::mapping::Rule;

/// `[sink.request]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `POST`, `PUT`, `PATCH`, and `GET` where nothing stands in the body; `None`: the sink's own `method`.
    pub method: Option<Rule>,
    /// What follows the url's path; a text with `{/pointer}` or `{param}` in it. `None`: nothing.
    pub path: Option<Rule>,
    /// Values for `{param}` in a path.
    pub params: Vec<(String, Rule)>,
    /// What the body is.
    pub body: Body,
    /// JSON pointer to where the items stand in the envelope (`wrapped`, `jsonrpc`).
    pub wrap: String,
    /// JSON of what stands around the items (`wrapped`) or of `params` (`jsonrpc`); an object.
    pub envelope: String,
    /// `method` of a JSON-RPC request.
    pub rpc_method: String,
    /// Headers of this request; with more than one event a request they are constants.
    pub headers: Vec<(String, Rule)>,
    /// Most distinct people a request.
    pub max_workers: Option<usize>,
    /// What happens to an event that is older than the vendor takes.
    pub late: Option<Late>,
    /// The vendor takes the time at which it is told for the time of the event.
    pub stamps_server_time: bool,
}

impl Default for Request {
    /// An object or an array at the sink's url, as a sink without `[sink.request]` sends it.
    fn default() -> Self {
        Self {
            method: None,
            path: None,
            params: Vec::new(),
            body: Body::Plain,
            wrap: String::new(),
            envelope: "{}".to_owned(),
            rpc_method: "call".to_owned(),
            headers: Vec::new(),
            max_workers: None,
            late: None,
            stamps_server_time: false,
        }
    }
}

/// `body = "…"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body {
    /// Not said: an object where the sink's `batch` is 1, else an array.
    #[default]
    Plain,
    /// One item, as it is.
    Object,
    /// A bare array, also for one item.
    Array,
    /// An array inside an envelope.
    Wrapped,
    /// One item a line.
    Ndjson,
    /// `application/x-www-form-urlencoded`, one item.
    Form,
    /// Everything in the query, no body, one item.
    Query,
    /// A CloudEvents 1.0 batch (`application/cloudevents-batch+json`).
    CloudEvents,
    /// A JSON-RPC 2.0 request.
    JsonRpc,
}

impl Body {
    /// The words of `body`.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("object", Self::Object),
        ("array", Self::Array),
        ("wrapped", Self::Wrapped),
        ("ndjson", Self::Ndjson),
        ("form", Self::Form),
        ("query", Self::Query),
        ("cloudevents", Self::CloudEvents),
        ("jsonrpc", Self::JsonRpc),
    ];

    /// Whether it carries one event and never more.
    pub const fn is_single(self) -> bool {
        matches!(self, Self::Object | Self::Form | Self::Query)
    }

    /// Whether targets may nest.
    pub const fn is_json(self) -> bool {
        !matches!(self, Self::Form | Self::Query)
    }

    /// Whether something stands around the items.
    pub const fn has_envelope(self) -> bool {
        matches!(self, Self::Wrapped | Self::JsonRpc)
    }

    /// `Content-Type`; `None` where there is no body.
    pub const fn content_type(self) -> Option<&'static str> {
        Some(match self {
            Self::Plain | Self::Object | Self::Array | Self::Wrapped | Self::JsonRpc => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Form => "application/x-www-form-urlencoded",
            Self::CloudEvents => "application/cloudevents-batch+json",
            Self::Query => return None,
        })
    }
}

/// `max_age_seconds` and `late`. The age is judged when a request is first put together, and what was decided is kept with
/// it: every try sends the same bytes to the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// An event is late from this age on, by its event time.
    pub max_age: Duration,
    /// What then.
    pub then: Then,
}

/// What happens to a late event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// It is quarantined and not sent.
    Reject,
    /// It goes elsewhere.
    Elsewhere {
        /// Another path; `None`: the same.
        path: Option<Box<Rule>>,
        /// Another method; `None`: the same.
        method: Option<Box<Rule>>,
    },
}

impl Request {
    /// Whether `wrap` leads somewhere in `envelope`; the error says what is expected.
    pub fn check_envelope(&self) -> Result<(), String> {
        body::Frame::new(self, self.body, true).map(|_| ())
    }

    /// Whether the id of an open record has a place in the body at `pointer`; the error says what is expected.
    pub fn check_id_at(&self, pointer: &str) -> Result<(), String> {
        let expected = || "a place in a JSON body, for example \"/ids/0\" where envelope = { ids = [0] }".to_owned();
        if !self.body.is_json() || self.body == Body::Ndjson {
            return Err(expected());
        }
        let frame = body::Frame::new(self, self.body, true)?;
        let mut text = Vec::new();
        frame.open("", &mut text);
        text.extend_from_slice(b"{}");
        frame.close(&mut text);
        let whole: serde_json::Value = serde_json::from_slice(&text).map_err(|_| expected())?;
        let there = match whole.pointer(pointer.rsplit_once('/').ok_or_else(expected)?.0) {
            Some(serde_json::Value::Object(_)) => true,
            Some(serde_json::Value::Array(_)) => whole.pointer(pointer).is_some(),
            _ => false,
        };
        if there { Ok(()) } else { Err(expected()) }
    }

    /// The request as text that says the same whatever the types are called: part of the revision.
    pub fn canonical(&self, out: &mut String) {
        let word = Body::WORDS.iter().find(|(_, body)| *body == self.body).map_or("plain", |(word, _)| word);
        let _ = writeln!(out, "body={word} wrap={:?} rpc_method={:?}", self.wrap, self.rpc_method);
        let _ = writeln!(out, "envelope={}", self.envelope);
        let mut line = |name: &str, rule: &Rule| {
            let _ = write!(out, "{name:?}");
            rule.canonical(out);
            out.push('\n');
        };
        for (name, rule) in [("method", &self.method), ("path", &self.path)] {
            if let Some(rule) = rule {
                line(name, rule);
            }
        }
        for (name, rule) in &self.params {
            line(&format!("param {name}"), rule);
        }
        for (name, rule) in &self.headers {
            line(&format!("header {name}"), rule);
        }
        if let Some(Late { then: Then::Elsewhere { path, method }, .. }) = &self.late {
            for (name, rule) in [("late method", method), ("late path", path)] {
                if let Some(rule) = rule {
                    line(name, rule);
                }
            }
        }
        if let Some(late) = &self.late {
            let _ = writeln!(out, "max_age={}", late.max_age.as_secs());
        }
        if let Some(most) = self.max_workers {
            let _ = writeln!(out, "max_workers={most}");
        }
    }
}
