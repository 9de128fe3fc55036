//! What stands around and between the items in a body.
//!
//! Must not: look into an item.

use serde_json::Value;

use super::{Body, Request};
use crate::deliver::api::mapping::Subject;
use crate::deliver::exchange::encode;
use crate::deliver::pointer;
use crate::event::json::rfc3339;

/// Stands where the items go while an envelope is being cut in two; nobody writes that into a configuration.
const HERE: &str = "\u{1}items\u{1}";

/// What stands around the items.
#[derive(Debug)]
pub(super) struct Frame {
    before: String,
    between: &'static str,
    after: String,
    /// Method of a JSON-RPC request, whose id stands before everything.
    rpc_method: Option<String>,
}

impl Frame {
    /// `single`: no list even where the body could hold one. The error says what is wrong with `wrap` or `envelope`.
    pub(super) fn new(request: &Request, body: Body, single: bool) -> Result<Self, String> {
        let frame = |before: &str, between, after: &str| Self {
            before: before.to_owned(),
            between,
            after: after.to_owned(),
            rpc_method: None,
        };
        Ok(match body {
            Body::Plain | Body::Object | Body::Form | Body::Query => frame("", "", ""),
            Body::Array | Body::CloudEvents => frame("[", ",", "]"),
            Body::Ndjson => frame("", "\n", "\n"),
            Body::Wrapped => {
                let (before, after) = cut(&request.envelope, &request.wrap)?;
                let (open, close) = if single { ("", "") } else { ("[", "]") };
                frame(&format!("{before}{open}"), ",", &format!("{close}{after}"))
            }
            Body::JsonRpc => {
                let (before, after) = cut(&request.envelope, &request.wrap)?;
                let (open, close) = if single { ("", "") } else { ("[", "]") };
                let mut frame = frame(&format!("{before}{open}"), ",", &format!("{close}{after}}}"));
                frame.rpc_method = Some(request.rpc_method.clone());
                frame
            }
        })
    }

    /// Opens the body. The id of a JSON-RPC request is the idempotency key: the same at every try.
    pub(super) fn open(&self, key: &str, out: &mut Vec<u8>) {
        if let Some(method) = &self.rpc_method {
            let (id, method) = (Value::from(key), Value::from(method.as_str()));
            let head = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":{method},\"params\":");
            out.extend_from_slice(head.as_bytes());
        }
        out.extend_from_slice(self.before.as_bytes());
    }

    /// Between two items.
    pub(super) fn next(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.between.as_bytes());
    }

    /// Closes the body.
    pub(super) fn close(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.after.as_bytes());
    }
}

/// The text of an envelope before and after the place where the items go.
fn cut(envelope: &str, wrap: &str) -> Result<(String, String), String> {
    let mut value: Value = serde_json::from_str(envelope).map_err(|_| "an envelope that is JSON".to_owned())?;
    pointer::put(&mut value, wrap, HERE.into())
        .ok_or_else(|| format!("a place for the items; \"{wrap}\" leads nowhere"))?;
    let (text, here) = (value.to_string(), Value::from(HERE).to_string());
    match text.split(&here).collect::<Vec<_>>().as_slice() {
        [before, after] => Ok(((*before).to_owned(), (*after).to_owned())),
        _ => Err("an envelope without control characters".to_owned()),
    }
}

/// The attributes of a CloudEvent (CloudEvents 1.0, JSON format), up to its data. `source` names tenant, site and terminal
/// and not the gateway: an event keeps its identity when a box is swapped.
pub(super) fn cloud_event(subject: Subject<'_>, out: &mut Vec<u8>) {
    let event = subject.event;
    let mut source = String::from("/portero");
    for part in [&event.source.tenant, &event.source.site_id, &event.source.terminal_id] {
        source.push('/');
        encode(part, false, &mut source);
    }
    let kind = match subject.correction {
        true => "correction",
        false => event.reading.kind.unwrap_or(crate::event::Kind::Unknown).as_str(),
    };
    let attributes = format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{}\",\"source\":{},\"type\":\"portero.{kind}\",\"time\":\"{}\",\
         \"datacontenttype\":\"application/json\",\"data\":",
        event.id,
        Value::from(source),
        rfc3339(event.times.event),
    );
    out.extend_from_slice(attributes.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_cut_where_the_items_go() {
        let cut = |envelope: &str, wrap: &str| cut(envelope, wrap).map(|(before, after)| format!("{before}*{after}"));
        assert_eq!(cut("{}", "/attendances").as_deref(), Ok(r#"{"attendances":*}"#));
        assert_eq!(cut(r#"{"skip":true}"#, "/attendances").as_deref(), Ok(r#"{"attendances":*,"skip":true}"#));
        assert_eq!(cut("{}", "/a/b").as_deref(), Ok(r#"{"a":{"b":*}}"#));
        assert_eq!(cut("{}", "").as_deref(), Ok("*"));
        let rpc = r#"{"service":"object","args":["db",2,"hr.attendance","create",[]]}"#;
        let expected = r#"{"args":["db",2,"hr.attendance","create",[*]],"service":"object"}"#;
        assert_eq!(cut(rpc, "/args/4/0").as_deref(), Ok(expected));
        assert!(cut(rpc, "/args/9").is_err());
        assert!(cut(rpc, "/service/x").is_err());
        assert!(cut("{}", "x").is_err());
    }
}
