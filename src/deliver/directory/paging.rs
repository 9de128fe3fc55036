//! From one page of an HTTP source to the next.
//!
//! Must not: leave the configured origin, or go round in a circle.

use std::collections::HashSet;

use reqwest::Url;
use reqwest::header::{HeaderMap, LINK};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Error;
use super::json::Found;
use super::people::unfit;
use crate::deliver::exchange::same_origin;

/// Most pages of one source (I10).
const MOST_PAGES: usize = 10_000;

/// `paging = { type = … }`. How many records a page has is part of the url.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paging {
    /// The document holds the next page's address; absent, null or empty on the last one.
    Next {
        /// JSON pointer to it.
        pointer: String,
    },
    /// The header `Link` with `rel="next"` (RFC 8288).
    Link,
    /// Pages are counted; the last one is empty, or known by `total`.
    Page {
        /// The query parameter.
        name: String,
        /// Its first value.
        first: u64,
        /// JSON pointer to how many records there are on all pages.
        total: Option<String>,
    },
    /// The same, counted in records.
    Offset {
        /// The query parameter.
        name: String,
        /// Its first value.
        first: u64,
        /// JSON pointer to how many records there are on all pages.
        total: Option<String>,
    },
    /// The document holds a word for the next page; absent, null or empty on the last one.
    Cursor {
        /// JSON pointer to it.
        pointer: String,
        /// The query parameter that takes it.
        name: String,
    },
}

impl Paging {
    /// What is wanted of each document besides its records.
    pub(super) fn pointer(&self) -> Option<&str> {
        match self {
            Self::Next { pointer } | Self::Cursor { pointer, .. } => Some(pointer),
            Self::Page { total, .. } | Self::Offset { total, .. } => total.as_deref(),
            Self::Link => None,
        }
    }
}

/// A walk through the pages of a source.
pub(super) struct Walk<'c> {
    paging: Option<&'c Paging>,
    base: &'c Url,
    seen: HashSet<String>,
    pages: u64,
    records: u64,
    /// Of the last page's bytes.
    last: [u8; 32],
}

impl<'c> Walk<'c> {
    /// Begins; answers the first address, too.
    pub(super) fn new(paging: Option<&'c Paging>, base: &'c Url) -> (Self, Url) {
        let first = match paging {
            Some(Paging::Page { name, first, .. } | Paging::Offset { name, first, .. }) => {
                with(base, name, &first.to_string())
            }
            _ => base.clone(),
        };
        let seen = HashSet::from([first.to_string()]);
        (Self { paging, base, seen, pages: 0, records: 0, last: [0; 32] }, first)
    }

    /// Where the next page is, if there is one; `at` is where this one was.
    pub(super) fn next(
        &mut self,
        at: &Url,
        headers: &HeaderMap,
        body: &[u8],
        found: &Found,
    ) -> Result<Option<Url>, Error> {
        self.pages += 1;
        self.records += found.records as u64;
        let word = found.others.first().and_then(Option::as_ref).map(text).transpose()?.flatten();
        let next = match self.paging {
            None => None,
            Some(Paging::Next { .. }) => word.map(|to| to_page(at, &to)).transpose()?,
            Some(Paging::Link) => link(headers).map(|to| to_page(at, &to)).transpose()?,
            Some(Paging::Cursor { name, .. }) => word.map(|word| with(self.base, name, &word)),
            Some(Paging::Page { name, first, total }) => {
                let next = first + self.pages;
                self.counted(found, total.as_ref(), word, body)?.then(|| with(self.base, name, &next.to_string()))
            }
            Some(Paging::Offset { name, first, total }) => {
                let next = first + self.records;
                self.counted(found, total.as_ref(), word, body)?.then(|| with(self.base, name, &next.to_string()))
            }
        };
        let Some(next) = next else { return Ok(None) };
        if !same_origin(&next, self.base) {
            return Err(unfit("the link to the next page leads to another host, where no credential goes"));
        }
        if !self.seen.insert(next.to_string()) {
            return Err(unfit("its pages lead round in a circle; check paging in [directory]"));
        }
        if self.seen.len() > MOST_PAGES {
            return Err(unfit(format!("more than {MOST_PAGES} pages")));
        }
        Ok(Some(next))
    }

    /// Whether there is a page after this one, where pages are counted by us.
    fn counted(
        &mut self,
        found: &Found,
        total: Option<&String>,
        word: Option<String>,
        body: &[u8],
    ) -> Result<bool, Error> {
        if let Some(pointer) = total {
            let Some(total) = word.and_then(|word| word.parse::<u64>().ok()) else {
                return Err(unfit(format!("no number at total = \"{pointer}\"")));
            };
            if found.records == 0 && self.records < total {
                let reason = format!("only {} of {total} records came; the old directory stays", self.records);
                return Err(Error::Away { reason, after: None });
            }
            if self.records >= total {
                return Ok(false);
            }
        }
        let digest: [u8; 32] = Sha256::digest(body).into();
        if found.records > 0 && std::mem::replace(&mut self.last, digest) == digest {
            return Err(unfit("two pages in a row are the same; check the name in paging of [directory]"));
        }
        Ok(found.records > 0)
    }
}

/// A link as text, a cursor or a number; what says "none" is none. What is neither means that the pointer leads elsewhere: the
/// first page must not be taken for everybody.
fn text(value: &Value) -> Result<Option<String>, Error> {
    match value {
        Value::Null | Value::Bool(false) => Ok(None),
        Value::String(text) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(true) | Value::Array(_) | Value::Object(_) => Err(unfit(
            "what should be the next page, or how many there are, is no text and no number; check paging in [directory]",
        )),
    }
}

fn to_page(at: &Url, to: &str) -> Result<Url, Error> {
    at.join(to).map_err(|_| unfit("what should be the link to the next page is no address"))
}

/// The address with one parameter of its query set.
fn with(base: &Url, name: &str, value: &str) -> Url {
    let others: Vec<(String, String)> =
        base.query_pairs().filter(|(other, _)| other != name).map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
    let mut url = base.clone();
    url.query_pairs_mut().clear().extend_pairs(others).append_pair(name, value);
    url
}

/// The target of the link with `rel="next"`.
fn link(headers: &HeaderMap) -> Option<String> {
    headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).find_map(next_of)
}

fn next_of(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) = after.split_once('>')?;
        let (parameters, others) = cut(after, ',');
        let mut left = parameters;
        while !left.is_empty() {
            let (parameter, after) = cut(left, ';');
            left = after;
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let words = value.trim().trim_matches('"').to_ascii_lowercase();
            if name.trim().eq_ignore_ascii_case("rel") && words.split_ascii_whitespace().any(|word| word == "next") {
                return Some(target.trim().to_owned());
            }
        }
        rest = others;
    }
    None
}

/// What stands before the first such character outside quotes, and what after it.
fn cut(text: &str, at: char) -> (&str, &str) {
    let mut quoted = false;
    let found = text.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == at && !quoted
    });
    found.map_or((text, ""), |(index, c)| (&text[..index], &text[index + c.len_utf8()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_is_found_among_others() {
        for (header, expected) in [
            (
                "<https://a.example/p?page=2>; rel=\"next\", <https://a.example/p?page=9>; rel=\"last\"",
                Some("https://a.example/p?page=2"),
            ),
            ("</p?a=1,2>;title=\"x, y; rel=next\"; REL=prev , </p?3> ; rel=\"start next\"", Some("/p?3")),
            ("</p>; rel=nexto", None),
            ("</p>", None),
            ("</p; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_of(header).as_deref(), expected, "{header}");
        }
    }

    #[test]
    fn a_parameter_is_set_once_and_the_others_stay() {
        let url = Url::parse("https://a.example/p?page=7&page_size=100&q=a%20b").expect("a URL");
        assert_eq!(with(&url, "page", "2").as_str(), "https://a.example/p?page_size=100&q=a+b&page=2");
    }

    #[test]
    fn pages_without_end_and_pages_that_repeat_are_refused() {
        let base = Url::parse("https://a.example/p").expect("a URL");
        let headers = HeaderMap::new();
        let found = |next: &str| Found { records: 5, others: vec![Some(Value::from(next))] };
        let cursor = Paging::Cursor { pointer: "/next".to_owned(), name: "c".to_owned() };
        let (mut walk, mut at) = Walk::new(Some(&cursor), &base);
        let mut error = None;
        for n in 0..=MOST_PAGES {
            match walk.next(&at, &headers, b"", &found(&n.to_string())) {
                Ok(next) => at = next.expect("another page"),
                Err(e) => {
                    error = Some((n, e.to_string()));
                    break;
                }
            }
        }
        let (n, error) = error.expect("refused");
        assert!(n == MOST_PAGES - 1 && error.contains("more than 10000 pages"), "{n}: {error}");

        let page = Paging::Page { name: "page".to_owned(), first: 1, total: None };
        let (mut walk, at) = Walk::new(Some(&page), &base);
        assert_eq!(at.as_str(), "https://a.example/p?page=1");
        let records = Found { records: 5, others: Vec::new() };
        let next = walk.next(&at, &headers, b"same", &records).expect("a page").expect("another page");
        assert_eq!(next.as_str(), "https://a.example/p?page=2");
        let error = walk.next(&next, &headers, b"same", &records).expect_err("refused").to_string();
        assert!(error.contains("two pages in a row are the same"), "{error}");

        let counted = Paging::Offset { name: "from".to_owned(), first: 0, total: Some("/count".to_owned()) };
        let (mut walk, at) = Walk::new(Some(&counted), &base);
        let total = |records| Found { records, others: vec![Some(Value::from(12))] };
        let next = walk.next(&at, &headers, b"1", &total(5)).expect("a page").expect("another page");
        assert_eq!(next.as_str(), "https://a.example/p?from=5");
        let error = walk.next(&next, &headers, b"2", &total(0)).expect_err("refused").to_string();
        assert!(error.contains("only 5 of 12 records came"), "{error}");
    }
}
