//! Where on a request a credential stands.
//!
//! Must not: show the credential in an error.

use std::fmt::Display;

use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderName, HeaderValue};
use serde_json::Value;

use crate::deliver::Error;
use crate::deliver::exchange::Draft;
use crate::deliver::exchange::percent_encoded;
use crate::deliver::pointer::put;

/// Where on a request a credential stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// In a header, after a prefix that is written exactly so.
    Header {
        /// Its name.
        name: String,
        /// For example `"Bearer "`.
        prefix: String,
    },
    /// As a parameter of the query.
    Query {
        /// Its name.
        name: String,
    },
    /// In the body: a JSON pointer, or in a form the field's name with or without `/` before it.
    Body {
        /// Where.
        pointer: String,
    },
    /// As a cookie.
    Cookie {
        /// Its name.
        name: String,
    },
}

impl Placement {
    /// The header that it makes, as people may see it.
    pub(super) fn shown(&self) -> Vec<(String, String)> {
        match self {
            Self::Header { name, prefix } => vec![(name.clone(), format!("{prefix}***"))],
            Self::Cookie { name } => vec![("cookie".to_owned(), format!("{name}=***"))],
            Self::Query { .. } | Self::Body { .. } => Vec::new(),
        }
    }

    /// Whether it can be done at all.
    pub(super) fn check(&self) -> Result<(), Error> {
        let (Self::Header { name, .. } | Self::Cookie { name }) = self else { return Ok(()) };
        HeaderName::from_bytes(name.as_bytes()).map(|_| ()).map_err(|_| Error::Header(name.clone()))
    }

    /// Does it. `source` names the credential's place where it can't be done.
    pub(super) fn put(&self, draft: &mut Draft, value: &str, source: &dyn Display) -> Result<(), String> {
        let unfit = || format!("{source} holds characters that a header cannot carry; write it as one line of ASCII");
        match self {
            Self::Header { name, prefix } => {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
                let mut value = HeaderValue::from_str(&format!("{prefix}{value}")).map_err(|_| unfit())?;
                value.set_sensitive(true);
                draft.headers.insert(name, value);
            }
            Self::Query { name } => {
                draft.url.query_pairs_mut().append_pair(name, value);
            }
            Self::Cookie { name } => {
                let others = draft.headers.get(COOKIE).and_then(|v| v.to_str().ok());
                let text = match others {
                    Some(others) => format!("{others}; {name}={value}"),
                    None => format!("{name}={value}"),
                };
                let mut value = HeaderValue::from_str(&text).map_err(|_| unfit())?;
                value.set_sensitive(true);
                draft.headers.insert(COOKIE, value);
            }
            Self::Body { pointer } => {
                // A question without a body has no place for it.
                if draft.body.is_empty() {
                    return Ok(());
                }
                let form = draft
                    .headers
                    .get(CONTENT_TYPE)
                    .and_then(|v| v.to_str().ok())
                    .is_some_and(|t| t.starts_with("application/x-www-form-urlencoded"));
                draft.body = if form {
                    let mut body = draft.body.to_vec();
                    let name = pointer.strip_prefix('/').unwrap_or(pointer);
                    body.extend_from_slice(format!("&{}={}", percent_encoded(name), percent_encoded(value)).as_bytes());
                    body.into()
                } else {
                    in_json(&draft.body, pointer, value)?.into()
                };
            }
        }
        Ok(())
    }
}

fn in_json(body: &[u8], pointer: &str, value: &str) -> Result<Vec<u8>, String> {
    let refused = || format!("the credential has no place at '{pointer}' in the body; check the sink's auth");
    let mut document: Value = serde_json::from_slice(body).map_err(|_| refused())?;
    put(&mut document, pointer, Value::String(value.to_owned())).ok_or_else(refused)?;
    serde_json::to_vec(&document).map_err(|_| refused())
}
