//! A request as it leaves, without what is added anew at every try, and its form in the journal.
//!
//! Must not: carry a credential. What is kept on disk is what the vendor gets to see of the event, nothing else.

use std::ops::Range;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::deliver::api::answers::text_of;
use crate::deliver::exchange::percent_encoded;
use crate::deliver::pointer;

/// First byte of the kept form of a request that waits for the record that it is to end: the same, and where that goes.
const WAITING: u8 = 2;

/// What stands in a path for that record's id; a percent-encoded path has no braces.
pub const OPEN: &str = "{open}";

/// First byte of the kept form. No JSON begins with it, so that the plain bodies of a plain sink are told apart.
const VERSION: u8 = 1;

/// A request, all but the credentials.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outgoing {
    /// `POST`, `PUT`, …
    pub method: String,
    /// Path and query, percent-encoded, beginning with `/`.
    pub path_and_query: String,
    /// `Content-Type`; empty where there is no body.
    pub content_type: String,
    /// Headers that come from the mapping.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Where the items are.
    pub(super) sent: Vec<Sent>,
    /// It says which open record it ends, and that is asked for before it leaves: where that goes in the body, a JSON
    /// pointer; empty: in the path only.
    pub(in crate::deliver::api) ends: Option<String>,
}

/// An item that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    /// It stands in the body.
    Within(Range<usize>),
    /// It was written in another form; this is its JSON.
    Apart(Vec<u8>),
}

impl Outgoing {
    /// A request without a mapping: the body is one event's JSON or a bare array of them.
    pub fn plain(method: &str, path_and_query: &str, body: Vec<u8>) -> Self {
        Self {
            method: method.to_owned(),
            path_and_query: path_and_query.to_owned(),
            content_type: "application/json".to_owned(),
            body,
            ..Self::default()
        }
    }

    /// One JSON value for each event in it, in the order sent: what item rules compare an answer with.
    pub fn items(&self) -> Vec<Value> {
        let parse = |json: &[u8]| serde_json::from_slice(json).unwrap_or_default();
        if self.sent.is_empty() {
            return match parse(&self.body) {
                Value::Array(items) => items,
                item => vec![item],
            };
        }
        let json = |sent: &Sent| match sent {
            Sent::Within(range) => parse(self.body.get(range.clone()).unwrap_or_default()),
            Sent::Apart(json) => parse(json),
        };
        self.sent.iter().map(json).collect()
    }

    /// The whole address: `url` (the sink's) gives scheme and host, this gives path and query.
    pub fn address(&self, url: &reqwest::Url) -> Option<reqwest::Url> {
        let mut address = url.clone();
        let (path, query) = match self.path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.path_and_query.as_str(), None),
        };
        address.set_path(path);
        address.set_query(query);
        address.set_fragment(None);
        (!address.cannot_be_a_base()).then_some(address)
    }

    /// Method and address, and its own headers put beside those that every request has. The error names what can't be
    /// sent; only a kept request from another hand can get there.
    pub fn open(
        &self,
        url: &reqwest::Url,
        headers: &mut HeaderMap,
    ) -> Result<(reqwest::Method, reqwest::Url), &'static str> {
        let method = reqwest::Method::from_bytes(self.method.as_bytes()).map_err(|_| "the method")?;
        let address = self.address(url).ok_or("the address")?;
        let content_type = Some((CONTENT_TYPE.as_str(), &self.content_type)).filter(|(_, value)| !value.is_empty());
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value));
        for (name, value) in content_type.into_iter().chain(own) {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "the name of a header")?;
            headers.insert(name, HeaderValue::from_str(value).map_err(|_| "the value of a header")?);
        }
        Ok((method, address))
    }

    /// The same with the id of the record that it ends; `None` where that has no place.
    pub(in crate::deliver::api) fn ending(&self, id: &Value) -> Option<Self> {
        let mut outgoing = self.clone();
        let text = text_of(id)
            .filter(|_| id.is_string() || id.is_number())
            .filter(|text| !matches!(text.as_str(), "" | "." | ".."))?;
        if let Some(pointer) = outgoing.ends.take().filter(|pointer| !pointer.is_empty()) {
            let mut body: Value = serde_json::from_slice(&outgoing.body).ok()?;
            pointer::put(&mut body, &pointer, id.clone())?;
            outgoing.body = serde_json::to_vec(&body).ok()?;
        }
        outgoing.path_and_query = outgoing.path_and_query.replace(OPEN, &percent_encoded(&text));
        Some(outgoing)
    }

    /// The form in which it is kept.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 256);
        out.push(if self.ends.is_some() { WAITING } else { VERSION });
        for text in [&self.method, &self.path_and_query, &self.content_type] {
            put(text.as_bytes(), &mut out);
        }
        count(self.headers.len(), &mut out);
        for (name, value) in &self.headers {
            put(name.as_bytes(), &mut out);
            put(value.as_bytes(), &mut out);
        }
        put(&self.body, &mut out);
        count(self.sent.len(), &mut out);
        for sent in &self.sent {
            match sent {
                Sent::Within(range) => {
                    out.push(0);
                    count(range.start, &mut out);
                    count(range.end, &mut out);
                }
                Sent::Apart(json) => {
                    out.push(1);
                    put(json, &mut out);
                }
            }
        }
        if let Some(pointer) = &self.ends {
            put(pointer.as_bytes(), &mut out);
        }
        out
    }

    /// The inverse of [`Outgoing::encode`]; `None` for anything else, above all for the JSON body of a plain sink.
    pub fn decode(kept: &[u8]) -> Option<Self> {
        let waiting = *kept.first()? == WAITING;
        let mut rest = kept.strip_prefix(&[if waiting { WAITING } else { VERSION }])?;
        let rest = &mut rest;
        let mut outgoing =
            Self { method: text(rest)?, path_and_query: text(rest)?, content_type: text(rest)?, ..Self::default() };
        for _ in 0..number(rest)? {
            outgoing.headers.push((text(rest)?, text(rest)?));
        }
        outgoing.body = bytes(rest)?.to_vec();
        for _ in 0..number(rest)? {
            let (kind, after) = rest.split_first()?;
            *rest = after;
            outgoing.sent.push(match kind {
                0 => Sent::Within(number(rest)?..number(rest)?),
                1 => Sent::Apart(bytes(rest)?.to_vec()),
                _ => return None,
            });
        }
        outgoing.ends = if waiting { Some(text(rest)?) } else { None };
        rest.is_empty().then_some(outgoing)
    }
}

/// Lengths are 32 bits, little-endian; a body is bounded far below that.
fn count(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn put(bytes: &[u8], out: &mut Vec<u8>) {
    count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

fn bytes<'k>(rest: &mut &'k [u8]) -> Option<&'k [u8]> {
    let length = number(rest)?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(bytes(rest)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Outgoing {
        Outgoing {
            method: "PUT".to_owned(),
            path_and_query: "/a?b=%20".to_owned(),
            content_type: "application/json".to_owned(),
            headers: vec![("x-a".to_owned(), "1".to_owned())],
            body: br#"{"e":[{"a":1},{"a":2}]}"#.to_vec(),
            sent: vec![Sent::Within(6..13), Sent::Apart(br#"{"a":3}"#.to_vec())],
            ends: None,
        }
    }

    #[test]
    fn what_is_kept_is_what_comes_back() {
        for sample in [sample(), Outgoing { ends: Some("/e/0".to_owned()), ..sample() }] {
            let kept = sample.encode();
            assert_eq!(Outgoing::decode(&kept).as_ref(), Some(&sample));
            // Damage in any byte and any shortening is either noticed or gives another request; nothing panics.
            for at in 0..kept.len() {
                assert_ne!(Outgoing::decode(&kept[..at]).as_ref(), Some(&sample));
                let mut damaged = kept.clone();
                damaged[at] ^= 0x40;
                if let Some(other) = Outgoing::decode(&damaged) {
                    let _ = other.items();
                    assert_ne!(other, sample);
                }
            }
        }
    }

    #[test]
    fn an_exit_gets_the_id_of_the_record_that_it_ends_in_its_path_and_its_body() {
        let waiting = Outgoing {
            ends: Some("/ids/0".to_owned()),
            ..Outgoing::plain("PATCH", "/t/{open}/stop?a=%7B", br#"{"ids":[0],"vals":{"b":1}}"#.to_vec())
        };
        let ended = waiting.ending(&serde_json::json!(101)).expect("there is a place");
        assert_eq!((ended.path_and_query.as_str(), ended.ends), ("/t/101/stop?a=%7B", None));
        assert_eq!(ended.body, br#"{"ids":[101],"vals":{"b":1}}"#);
        let texts = waiting.ending(&serde_json::json!("a/b"));
        assert_eq!(texts.map(|t| t.path_and_query).as_deref(), Some("/t/a%2Fb/stop?a=%7B"));
        for none in [serde_json::json!(".."), serde_json::json!(""), serde_json::json!(null), serde_json::json!({})] {
            assert_eq!(waiting.ending(&none), None, "{none}");
        }
    }

    #[test]
    fn a_plain_body_is_told_apart_and_gives_its_items() {
        assert_eq!(Outgoing::decode(br#"{"event_id":"x"}"#), None);
        assert_eq!(Outgoing::decode(b"[]"), None);
        assert_eq!(Outgoing::plain("POST", "/", br#"{"a":1}"#.to_vec()).items(), [serde_json::json!({"a": 1})]);
        assert_eq!(Outgoing::plain("POST", "/", br#"[{"a":1},{"a":2}]"#.to_vec()).items().len(), 2);
        let items = sample().items();
        assert_eq!(items, [serde_json::json!({"a": 1}), serde_json::json!({"a": 3})]);
    }

    #[test]
    fn the_address_takes_host_from_the_url_and_the_rest_from_the_request() {
        let url = reqwest::Url::parse("https://hr.example:8443/api?x=1#f").expect("a URL");
        let address = Outgoing::plain("POST", "/v1/e%20f?b=%2B&c", Vec::new()).address(&url);
        assert_eq!(address.map(String::from).as_deref(), Some("https://hr.example:8443/v1/e%20f?b=%2B&c"));
    }
}
