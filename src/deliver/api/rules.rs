//! What an answer means: the documented rules of the plain default sink.
//!
//! Must not: take anything for success that was not declared as success, or judge by the text of a message.
//!
//! | Answer | Meaning |
//! |---|---|
//! | 2xx without body, or with a JSON object without `accepted` | all delivered |
//! | 2xx, JSON object, integer `accepted` ≤ sent | the first `accepted` are delivered, the rest stays pending |
//! | 2xx with anything else (another count, an array, HTML, an endless body) | a lost answer: the same bytes again |
//! | 400, 413, 422 | some event in it is unacceptable: split until it stands alone, then quarantine |
//! | 401, 403, 404, 405 | our fault: keep everything, probe slowly, say what to mend |
//! | everything else: 408, 409, 425, 429, 5xx, redirects | the sink's fault: again, after `Retry-After` if it says so |

use serde_json::{Map, Value};

use super::exchange::Answer;
pub(super) use super::exchange::{http_date, wish};
use crate::deliver::{Outcome, Verdict, answer};
use crate::event::UtcMicros;

/// What a status means where no rule says anything of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::deliver) enum Class {
    /// Delivered, if the body is one of a success.
    Success,
    /// Some event in it is unacceptable.
    Refused,
    /// Our fault.
    Blocked,
    /// The sink's fault.
    Retry,
}

/// The rows of the table.
pub(in crate::deliver) const fn class(status: u16) -> Class {
    match status {
        200..=299 => Class::Success,
        400 | 413 | 422 => Class::Refused,
        401 | 403 | 404 | 405 => Class::Blocked,
        _ => Class::Retry,
    }
}

/// Judges an answer. `now` stands in for an absent `Date` header, `secrets` are masked where the answer echoes it.
pub(super) fn judge(reply: &Answer, now: UtcMicros, secrets: &[&str]) -> Outcome {
    let status = reply.status;
    let blocked = |what: &str| Outcome::Blocked { reason: format!("the server answered {status}: {what}") };
    match class(status) {
        Class::Success => success(reply),
        Class::Refused => Outcome::Refused {
            reason: format!("http {status}"),
            answer: answer::keep(&String::from_utf8_lossy(&reply.body), secrets),
        },
        Class::Blocked => blocked(match status {
            401 => "it does not accept the credential; renew the one that the sink's auth names",
            403 => "the credential has no right to send here; have the right granted",
            404 => "there is nothing at this address; check the sink's url",
            _ => "it does not take this method; check the sink's method and url",
        }),
        Class::Retry => {
            let what = if (300..400).contains(&status) { " (a redirect; give the final address in url)" } else { "" };
            Outcome::Retry { reason: format!("the server answered {status}{what}"), after: wish(reply, now) }
        }
    }
}

fn success(reply: &Answer) -> Outcome {
    let lost = |what: &str| Outcome::Retry { reason: format!("success without proof: {what}"), after: None };
    let body = reply.body.trim_ascii();
    if !reply.complete {
        return lost("the answer is longer than 64 KiB");
    }
    if body.is_empty() {
        return Outcome::Settled(vec![Verdict::Delivered; reply.sent]);
    }
    let Ok(object) = serde_json::from_slice::<Map<String, Value>>(body) else {
        return lost("the answer is no JSON object");
    };
    let Some(accepted) = object.get("accepted") else {
        return Outcome::Settled(vec![Verdict::Delivered; reply.sent]);
    };
    match accepted.as_u64().and_then(|n| usize::try_from(n).ok()) {
        Some(accepted) if accepted <= reply.sent => {
            let mut verdicts = vec![Verdict::Delivered; accepted];
            verdicts.resize(reply.sent, Verdict::Keep);
            Outcome::Settled(verdicts)
        }
        _ => lost("'accepted' is not a number of events that were sent"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(status: u16, body: &str, sent: usize) -> Answer {
        let headers = reqwest::header::HeaderMap::new();
        Answer { status, retry_after: None, date: None, headers, body: body.as_bytes().to_vec(), complete: true, sent }
    }

    fn judged(status: u16, body: &str, sent: usize) -> Outcome {
        judge(&answer(status, body, sent), UtcMicros(0), &[])
    }

    fn prefix(n: usize, sent: usize) -> Outcome {
        let mut verdicts = vec![Verdict::Delivered; n];
        verdicts.resize(sent, Verdict::Keep);
        Outcome::Settled(verdicts)
    }

    #[test]
    fn only_a_declared_success_is_one() {
        for body in ["", " \r\n", "{}", r#"{"status":"ok"}"#, r#"{"result":{"accepted":1}}"#] {
            assert_eq!(judged(200, body, 5), prefix(5, 5), "{body}");
        }
        assert_eq!(judged(204, "", 1), prefix(1, 1));
        assert_eq!(judged(200, r#"{"accepted":3}"#, 5), prefix(3, 5));
        assert_eq!(judged(202, r#"{"accepted":5}"#, 5), prefix(5, 5));
        assert_eq!(judged(200, r#"{"accepted":0}"#, 5), prefix(0, 5));
        let not_proven = [
            r#"{"accepted":6}"#,
            r#"{"accepted":-1}"#,
            r#"{"accepted":"5"}"#,
            r#"{"accepted":5.0}"#,
            r#"{"accepted":null}"#,
            r#"{"accepted":true}"#,
            "[]",
            r#"[{"ok":true}]"#,
            "5",
            "null",
            "ok",
            "{",
            "<html><body>Please log in</body></html>",
        ];
        for body in not_proven {
            assert!(matches!(judged(200, body, 5), Outcome::Retry { .. }), "{body}");
        }
        let mut endless = answer(200, "{}", 1);
        endless.complete = false;
        assert!(matches!(judge(&endless, UtcMicros(0), &[]), Outcome::Retry { .. }));
    }

    #[test]
    fn every_status_has_one_of_three_kinds_of_failure() {
        for status in 100..=599u16 {
            let outcome = judged(status, "", 2);
            match status {
                200..=299 => assert!(matches!(outcome, Outcome::Settled(_)), "{status}"),
                400 | 413 | 422 => assert!(matches!(outcome, Outcome::Refused { .. }), "{status}"),
                401 | 403 | 404 | 405 => assert!(matches!(outcome, Outcome::Blocked { .. }), "{status}"),
                _ => assert!(matches!(outcome, Outcome::Retry { .. }), "{status}"),
            }
        }
    }

    #[test]
    fn the_servers_wish_is_read_in_both_forms() {
        let wished = |retry_after: &str, date: Option<&str>| {
            let mut reply = answer(503, "", 1);
            reply.retry_after = Some(retry_after.to_owned());
            reply.date = date.map(str::to_owned);
            match judge(&reply, UtcMicros(784_111_777_000_000), &[]) {
                Outcome::Retry { after, .. } => after,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(wished("120", None), Some(Duration::from_secs(120)));
        assert_eq!(wished("Sun, 06 Nov 1994 08:50:37 GMT", None), Some(Duration::from_secs(60)));
        let date = Some("Sun, 06 Nov 1994 08:50:07 GMT");
        assert_eq!(wished("Sun, 06 Nov 1994 08:50:37 GMT", date), Some(Duration::from_secs(30)));
        assert_eq!(wished("Sun, 06 Nov 1994 08:00:00 GMT", None), Some(Duration::ZERO));
        assert_eq!(wished("99999999999999999999999", None), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(wished("soon", None), None);
        assert_eq!(wished("-5", None), None);
    }

    #[test]
    fn a_refusal_keeps_the_servers_words_but_not_our_secret() {
        let outcome =
            judge(&answer(422, "unknown site; you sent hunter2", 1), UtcMicros(0), &["", "portero", "hunter2"]);
        let Outcome::Refused { reason, answer } = outcome else { panic!("{outcome:?}") };
        assert_eq!((reason.as_str(), answer.as_str()), ("http 422", "unknown site; you sent ***"));
    }
}
