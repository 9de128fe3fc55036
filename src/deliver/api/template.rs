//! Addresses and bodies with places for what was sent: `/clock_ins/{event/person/external_id}?day={/date}`.
//!
//! Must not: leave a place empty; where a field is missing there is no text.

use serde_json::Value;

use super::answers::text_of;
use super::exchange::percent_encoded;

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `{/pointer}`: a field of the item as it was sent.
    Field(String),
    /// `{event/pointer}`: a field of the event.
    Event(String),
    /// `{id}`: what the sink calls it.
    Id,
}

/// What stands in the places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The item as it was sent.
    pub(super) item: &'a Value,
    /// The event.
    pub(super) event: &'a Value,
    /// What the sink calls it.
    pub(super) id: Option<&'a Value>,
}

impl Template {
    /// Reads a template: `{/pointer}`, `{event/pointer}` and `{id}` are places, every other brace is text. `None` if a place has no end.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            plain.push_str(&rest[..at]);
            let tail = &rest[at + 1..];
            let part = if let Some(after) = tail.strip_prefix("id}") {
                rest = after;
                Part::Id
            } else if tail.starts_with('/') || tail.starts_with("event/") {
                let end = tail.find('}')?;
                rest = &tail[end + 1..];
                match tail[..end].strip_prefix("event") {
                    Some(pointer) => Part::Event(pointer.to_owned()),
                    None => Part::Field(tail[..end].to_owned()),
                }
            } else {
                plain.push('{');
                rest = tail;
                continue;
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(part);
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Some(Self(parts))
    }

    /// The places for what was sent, JSON pointers.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| if let Part::Field(pointer) = part { Some(pointer.as_str()) } else { None })
    }

    /// The text as part of an address: what stands in the places is percent-encoded (RFC 3986 §2.1).
    pub(super) fn address(&self, subject: Subject<'_>) -> Option<String> {
        self.fill(subject, |value| text_of(value).map(|text| percent_encoded(&text)))
    }

    /// The text as it is.
    pub(super) fn text(&self, subject: Subject<'_>) -> Option<String> {
        self.fill(subject, text_of)
    }

    /// The text as JSON: what stands in the places is JSON.
    pub(super) fn json(&self, subject: Subject<'_>) -> Option<String> {
        self.fill(subject, |value| Some(value.to_string()))
    }

    fn fill(&self, subject: Subject<'_>, write: impl Fn(&Value) -> Option<String>) -> Option<String> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(pointer) => out.push_str(&write(subject.item.pointer(pointer)?)?),
                Part::Event(pointer) => out.push_str(&write(subject.event.pointer(pointer)?)?),
                Part::Id => out.push_str(&write(subject.id?)?),
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_are_filled_and_what_stands_in_them_cannot_leave_them() {
        let item = json!({ "id": "7/8?x", "n": 12, "at": { "time": "08:30" } });
        let event = json!({ "person": { "external_id": "W 7" } });
        let subject = Subject { item: &item, event: &event, id: Some(&json!("a b")) };
        let address = |text: &str| Template::parse(text).and_then(|t| t.address(subject));
        assert_eq!(address("/w/{/id}?t={/at/time}&n={/n}").as_deref(), Some("/w/7%2F8%3Fx?t=08%3A30&n=12"));
        assert_eq!(address("/jobs/{id}/{event/person/external_id}").as_deref(), Some("/jobs/a%20b/W%207"));
        assert_eq!(address("/w/{/absent}"), None);
        assert_eq!(Template::parse("/w/{/id"), None);
        let body = Template::parse(r#"{"domain":[["id","=",{/id}],["n","=",{/n}]]}"#).and_then(|t| t.json(subject));
        assert_eq!(body.as_deref(), Some(r#"{"domain":[["id","=","7/8?x"],["n","=",12]]}"#));
    }
}
