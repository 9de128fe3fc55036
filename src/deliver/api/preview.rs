//! The requests that a sink would send, for a person to look at.
//!
//! Must not: send anything, read a secret, or show one that stands in an address.

use super::Api;
use super::auth::Beside;
use super::request::{OPEN, Outgoing};
use crate::deliver::exchange::percent_encoded;
use crate::deliver::{Mapped, Sink as _};
use crate::journal::{Record, Seq};

/// Parts of the names of query parameters whose values aren't shown.
const SECRET_NAMES: &[&str] = &["key", "token", "secret", "password", "passwd", "sig", "auth", "session"];

/// What becomes of some events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preview {
    /// They go out together.
    Request(Request),
    /// This one is quarantined and not sent.
    Unmappable {
        /// Which event.
        seq: Seq,
        /// Why.
        reason: String,
    },
}

/// A request as it would leave; credentials are masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The events in it.
    pub seqs: Vec<Seq>,
    /// Method.
    pub method: String,
    /// Address, secrets in its query masked.
    pub url: String,
    /// Headers, credentials masked.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// What is asked before it leaves; the id that is found stands in the place of `{open}` and at `open.id_at`.
    pub asks: Option<Question>,
}

/// A question as it would leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Method.
    pub method: String,
    /// Address, secrets in its query masked.
    pub url: String,
    /// The body.
    pub body: String,
}

impl Api {
    /// The requests for these events, in the order in which they would be sent.
    pub fn preview(&self, records: &[Record]) -> Vec<Preview> {
        self.preview_as(records, false)
    }

    /// The same for events that are corrections of earlier ones.
    pub fn preview_corrections(&self, records: &[Record]) -> Vec<Preview> {
        self.preview_as(records, true)
    }

    fn preview_as(&self, records: &[Record], corrections: bool) -> Vec<Preview> {
        let mut shown = Vec::new();
        let mut rest = records;
        while !rest.is_empty() {
            let window = &rest[..rest.len().min(self.rows)];
            let mut fit = self.fit(window, corrections).clamp(1, window.len());
            loop {
                match self.map(&window[..fit], corrections) {
                    Mapped::Flight { key, body, .. } => {
                        shown.push(Preview::Request(self.shown(&window[..fit], &key, &body)));
                        break;
                    }
                    Mapped::Unmappable { index, .. } if index > 0 && index < fit => fit = index,
                    Mapped::Unmappable { reason, .. } => {
                        shown.push(Preview::Unmappable { seq: window[0].seq, reason });
                        fit = 1;
                        break;
                    }
                    Mapped::ByEvent | Mapped::NotApplicable => break,
                }
            }
            rest = &rest[fit..];
        }
        shown
    }

    fn shown(&self, records: &[Record], key: &str, body: &[u8]) -> Request {
        let outgoing = self.outgoing(body);
        let mut headers = vec![("idempotency-key".to_owned(), key.to_owned())];
        headers.extend(self.config.auth.shown());
        if !outgoing.content_type.is_empty() {
            headers.push(("content-type".to_owned(), outgoing.content_type.clone()));
        }
        headers.extend(self.config.headers.iter().chain(&outgoing.headers).cloned());
        let mut url = outgoing.address(&self.url).map(|url| without_secrets(url.as_str())).unwrap_or_default();
        if outgoing.ends.is_some() {
            url = url.replace("%7Bopen%7D", OPEN);
        }
        if let Beside::Query(name) = self.config.auth.beside() {
            let mark = if url.contains('?') { '&' } else { '?' };
            url.push_str(&format!("{mark}{}=***", percent_encoded(name)));
        }
        Request {
            seqs: records.iter().map(|record| record.seq).collect(),
            asks: self.asks(records, key, &outgoing),
            url,
            method: outgoing.method,
            headers,
            body: outgoing.body,
        }
    }
}

impl Api {
    /// The question that an exit has before it.
    fn asks(&self, records: &[Record], key: &str, outgoing: &Outgoing) -> Option<Question> {
        let (exit, record) = (self.exit(records.first(), false)?, records.first()?);
        let (draft, items) = (self.draft(key, outgoing).ok()?, outgoing.items());
        let question = self.question(&exit.open.ask, &draft, items.first()?, record).ok()?;
        Some(Question {
            method: question.method.to_string(),
            url: without_secrets(question.url.as_str()),
            body: String::from_utf8_lossy(&question.body).into_owned(),
        })
    }
}

/// Masks what a query parameter with the name of a secret holds.
fn without_secrets(url: &str) -> String {
    let Some((path, query)) = url.split_once('?') else { return url.to_owned() };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if SECRET_NAMES.iter().any(|secret| name.to_ascii_lowercase().contains(secret)) => {
            format!("{name}=***")
        }
        _ => pair.to_owned(),
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn secrets_in_an_address_are_masked() {
        assert_eq!(without_secrets("https://x/a?access_token=abc&b=1"), "https://x/a?access_token=***&b=1");
        assert_eq!(without_secrets("https://x/a?SessionID=abc"), "https://x/a?SessionID=***");
        assert_eq!(without_secrets("https://x/a"), "https://x/a");
    }
}
