//! Whether the sink says what each declared answer means, and where it doesn't, whether the documented default is right.
//!
//! Must not: say what an answer means; the sink's rules do, and the table of `api/rules.rs`.

use serde_json::Value;

use super::openapi::Operation;
use super::place::Places;
use super::{Error, Finding, finding, note};
use crate::deliver::api::answers::Rules;
use crate::deliver::api::auth::Auth;
use crate::deliver::api::rules::{Class, class};
use crate::deliver::pointer::escaped;

/// Each declared answer must be one of which the sink knows what to do.
pub(super) fn check(
    root: &Value,
    operation: &Operation,
    places: &Places<'_>,
    found: &mut Vec<Finding>,
) -> Result<(), Error> {
    let at = format!("{}/responses", operation.pointer);
    for status in root.pointer(&at).and_then(Value::as_object).into_iter().flatten().map(|(status, _)| status) {
        let Some(range) = range(status) else { continue };
        let rules = &places.sink.answers;
        let said = said(rules, range);
        if said == Said::Whole {
            continue;
        }
        let (key, pointer) = (vec!["answer".to_owned()], format!("{at}/{}", escaped(status)));
        let Some((default, right)) = default(places, operation, range) else { continue };
        found.push(match (said, right) {
            (Said::Partly, _) => {
                let message = format!("no rule says what status {status} means in every case; else {default}");
                note("answer", key, pointer, message)
            }
            (_, true) => note("answer", key, pointer, format!("no rule says what status {status} means; {default}")),
            (_, false) => {
                finding("answer", key, pointer, format!("no rule says what status {status} means; {default}"))
            }
        });
    }
    Ok(())
}

/// `404`, or `4XX` for all of a class, as an inclusive range; `default` and what is no status have none.
fn range(status: &str) -> Option<(u16, u16)> {
    let class = || {
        let class = status.strip_suffix("XX").or_else(|| status.strip_suffix("xx"))?.parse::<u16>().ok()?;
        Some((class * 100, class * 100 + 99))
    };
    class()
        .or_else(|| status.parse().ok().map(|status| (status, status)))
        .filter(|(from, to)| (200..300).contains(from) || (400..600).contains(from) && *to < 600)
}

/// What the sink's own rules say of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Whatever the answer holds.
    Whole,
    /// For some answers.
    Partly,
    Nothing,
}

fn said(rules: &Rules, (from, to): (u16, u16)) -> Said {
    let touches = |low: u16, high: u16| low <= to && high >= from;
    let mut said = Said::Nothing;
    for rule in &rules.answers {
        let whole = rule.status.is_empty() || rule.status.iter().any(|(low, high)| *low <= from && *high >= to);
        if whole && rule.when.is_empty() {
            return Said::Whole;
        }
        if whole || rule.status.iter().any(|(low, high)| touches(*low, *high)) {
            said = Said::Partly;
        }
    }
    said
}

/// What a status means without a rule, in words, and whether that is right; `None` where there is nothing to be said.
fn default(places: &Places<'_>, operation: &Operation, (status, to): (u16, u16)) -> Option<(String, bool)> {
    let rules = &places.sink.answers;
    if status < 300 {
        // Items and counts speak for themselves, and without any rule a success is one.
        let read = rules.is_empty() || rules.items.is_some() || rules.answers.is_empty();
        let words = "it proves nothing then: the same again, and after a few the sink is blocked";
        return (!read).then(|| (words.to_owned(), false));
    }
    if to > status {
        let words = match status {
            400 => "400, 413, 422 refuse the event, 401, 403, 404, 405 block the sink, the others are sent again",
            _ => "it is sent again, later",
        };
        return Some((words.to_owned(), true));
    }
    let logs_in = matches!(places.sink.auth, Auth::Login(_) | Auth::OAuth2(_));
    Some(match (class(status), status) {
        (Class::Refused, _) => ("the default: the event is refused and quarantined".to_owned(), true),
        (Class::Blocked, 404) if operation.path.contains('{') => {
            let words = "the default blocks the whole sink, and what is not there may be one person's";
            (format!("{words}: {}", operation.path), false)
        }
        (Class::Blocked, 401) if logs_in => ("the default: a new token, then the sink is blocked".to_owned(), true),
        (Class::Blocked, _) => ("the default: the sink is blocked until it is mended".to_owned(), true),
        // RFC 9110 §15.5.9, RFC 4918 §11.3, RFC 8470 §5.2, RFC 6585 §4: what passes by itself.
        (_, 408 | 423 | 425 | 429 | 500..) => ("the default: it is sent again, later".to_owned(), true),
        (_, _) => ("the default sends it again and again, and the answer will be the same".to_owned(), false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::api::answers::{Place, Rule, Say, Test};

    #[test]
    fn a_status_is_said_in_whole_in_part_or_not() {
        let rule = |status: &[(u16, u16)], when: bool| Rule {
            status: status.to_vec(),
            when: if when { vec![(Place::Body("/code".to_owned()), Test::Exists(true))] } else { Vec::new() },
            verdict: Say::Reject,
            reason: None,
            remote_id: None,
        };
        let rules = Rules {
            answers: vec![
                rule(&[(400, 400), (404, 404)], false),
                rule(&[(409, 409)], true),
                rule(&[(500, 599)], false),
            ],
            ..Rules::default()
        };
        let of = |status: &str| range(status).map(|range| said(&rules, range));
        let expected = [Said::Whole, Said::Partly, Said::Nothing, Said::Partly, Said::Whole, Said::Whole];
        assert_eq!(["400", "409", "422", "4XX", "5XX", "503"].map(of), expected.map(Some));
        assert_eq!(["default", "302", "1XX", "x-rate", "600"].map(of), [None; 5]);
        assert_eq!(said(&Rules { answers: vec![rule(&[], false)], ..Rules::default() }, (201, 201)), Said::Whole);
    }
}
