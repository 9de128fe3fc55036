//! Paths with values of the event in them, and how they are joined to the sink's url.
//!
//! Must not: let a value change the path's structure: everything but letters, digits and `-._~` is percent-encoded, and
//! `.`, `..` and an empty value are refused.

use super::outgoing::OPEN;
use crate::deliver::api::mapping::{Origin, Rule, Single, Source, Subject, Unmappable};
use crate::deliver::exchange::encode;

/// Characters that may stand in a path or query as they are (RFC 3986 §3.3, §3.4), beside letters and digits; without the
/// apostrophe, which the URL standard encodes in a query.
const IN_PATH: &str = "-._~!$&()*+,;=:@/?%";

/// A path, cut at its braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// The name of a parameter.
    Param(String),
    /// A place in the event.
    Source(Source),
}

impl Template {
    /// Reads `/employees/{/person/external_id}/clock`; `params` are the names that may stand in braces, [`OPEN`] among
    /// them where the id of an open record may. The error says what is expected.
    pub fn parse(text: &str, params: &[&str]) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("a path that begins with \"/\"".to_owned());
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            push_literal(literal, &mut pieces)?;
            let (name, after) = after.split_once('}').ok_or("a \"}\" after each \"{\"")?;
            pieces.push(match Source::at(name) {
                _ if name == "open" && params.contains(&OPEN) => Piece::Literal(OPEN.to_owned()),
                Some(source) if name.starts_with('/') => Piece::Source(source),
                _ if params.contains(&name) => Piece::Param(name.to_owned()),
                _ if name.starts_with('/') => {
                    return Err(format!("a field of the event in braces; there is no {name}"));
                }
                _ => return Err(format!("a field of the event or a name of request.params in braces, not {{{name}}}")),
            });
            rest = after;
        }
        push_literal(rest, &mut pieces)?;
        Ok(Self(pieces))
    }
}

fn push_literal(literal: &str, pieces: &mut Vec<Piece>) -> Result<(), String> {
    if let Some(bad) = literal.chars().find(|c| !c.is_ascii_alphanumeric() && !IN_PATH.contains(*c)) {
        return Err(format!("a path without {bad:?}; percent-encode it"));
    }
    if literal.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("a path without \"..\"".to_owned());
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal.to_owned()));
    }
    Ok(())
}

/// A template whose rules are ready.
#[derive(Debug)]
pub(super) struct Path(Vec<Ready>);

#[derive(Debug)]
enum Ready {
    Literal(String),
    Value(String, Box<Single>),
}

impl Path {
    /// `open`: it may name the record that it ends.
    pub(super) fn new(text: &str, params: &[(String, Rule)], open: bool) -> Result<Self, String> {
        let names: Vec<&str> = params.iter().map(|(name, _)| name.as_str()).chain(open.then_some(OPEN)).collect();
        let mut ready = Vec::new();
        for piece in Template::parse(text, &names)?.0 {
            let (name, rule) = match piece {
                Piece::Literal(text) => {
                    ready.push(Ready::Literal(text));
                    continue;
                }
                Piece::Source(source) => ("path".to_owned(), Rule::plain(Origin::Source(source, None))),
                Piece::Param(name) => match params.iter().find(|(known, _)| *known == name) {
                    Some((_, rule)) => (format!("request.params.{name}"), rule.clone()),
                    None => return Err(format!("there is no request.params.{name}")),
                },
            };
            ready.push(Ready::Value(name.clone(), Box::new(Single::new(&name, &rule)?)));
        }
        Ok(Self(ready))
    }

    /// Whether it is another one for another event.
    pub(super) fn varies(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Ready::Value(..)))
    }

    /// The path for an event.
    pub(super) fn write(&self, subject: Subject<'_>, out: &mut String) -> Result<(), Unmappable> {
        for piece in &self.0 {
            match piece {
                Ready::Literal(text) => out.push_str(text),
                Ready::Value(name, value) => {
                    let text = value.text(subject)?.unwrap_or_default();
                    if matches!(text.as_str(), "" | "." | "..") {
                        return Err(Unmappable(format!("cannot map '{name}': the value cannot stand in a path")));
                    }
                    encode(&text, false, out);
                }
            }
        }
        Ok(())
    }
}

/// `a=1&b=2`.
pub(super) fn pairs(pairs: &[(&str, String)], form: bool) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        encode(name, form, &mut out);
        out.push('=');
        encode(value, form, &mut out);
    }
    out
}

/// Joins the sink's url (its path and query), the request's path and a query of the request's own.
pub(super) fn join(base: &reqwest::Url, path: &str, query: &str) -> String {
    let (path, own) = path.split_once('?').unwrap_or((path, ""));
    let mut out = String::from(base.path());
    if !path.is_empty() {
        out.truncate(out.trim_end_matches('/').len());
        out.push_str(path);
    }
    let mut mark = '?';
    for part in [base.query().unwrap_or_default(), own, query] {
        if !part.is_empty() {
            out.push(mark);
            out.push_str(part);
            mark = '&';
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_and_path_are_joined_as_the_module_says() {
        let join =
            |url: &str, path: &str, query: &str| super::join(&reqwest::Url::parse(url).expect("a URL"), path, query);
        assert_eq!(join("https://x", "/v1/clockings", ""), "/v1/clockings");
        assert_eq!(join("https://x/", "/v1/clockings", ""), "/v1/clockings");
        assert_eq!(join("https://x/api", "/v1", ""), "/api/v1");
        assert_eq!(join("https://x/api/", "/v1/", ""), "/api/v1/");
        assert_eq!(join("https://x/api/events", "", ""), "/api/events");
        assert_eq!(join("https://x", "", ""), "/");
        assert_eq!(join("https://x/api?company=7", "/v1?a=1", "b=2"), "/api/v1?company=7&a=1&b=2");
        assert_eq!(join("https://x/api", "", "b=2"), "/api?b=2");
    }

    #[test]
    fn a_path_is_checked_when_it_is_read() {
        for good in ["/a", "/employees/{/person/external_id}/clock", "/a?b=(c,@d)", "/{worker}/x"] {
            assert!(Template::parse(good, &["worker"]).is_ok(), "{good}");
        }
        for bad in ["a", "", "/a b", "/{/person/extrenal_id}", "/{who}", "/{worker", "/../a", "/ñ"] {
            assert!(Template::parse(bad, &["worker"]).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_but_the_unreserved_survives_unencoded() {
        let encoded = |text: &str, form| {
            let mut out = String::new();
            encode(text, form, &mut out);
            out
        };
        assert_eq!(encoded("a b/c?d&e=ñ", false), "a%20b%2Fc%3Fd%26e%3D%C3%B1");
        assert_eq!(encoded("Thu, 15 May", true), "Thu%2C+15+May");
        assert_eq!(pairs(&[("a", "1 2".to_owned()), ("b", String::new())], false), "a=1%202&b=");
    }
}
