//! What the rules of an answer decide without a network: the rest is in `tests/sinks/answers.rs`.

use serde_json::json;

use super::document::item_holds;
use super::*;

fn reply(status: u16, body: &str) -> Answer {
    Answer {
        status,
        retry_after: None,
        date: None,
        headers: HeaderMap::new(),
        body: body.as_bytes().to_vec(),
        complete: true,
        sent: 1,
    }
}

fn rule(status: &[u16], when: Vec<(Place, Test)>, verdict: Say) -> Rule {
    Rule { status: status.iter().map(|s| (*s, *s)).collect(), when, verdict, reason: None, remote_id: None }
}

fn body(pointer: &str) -> Place {
    Place::Body(pointer.to_owned())
}

#[test]
fn every_test_holds_for_what_it_says_and_for_nothing_else() {
    let value = json!({ "a": null, "n": 1.0, "s": "OVERLAP: x", "l": ["p", { "q": "deep text" }], "t": true });
    let holds = |pointer: &str, test: Test| item_holds(&value, &[(body(pointer), test)], &HeaderMap::new());
    assert!(holds("/a", Test::Exists(true)) && holds("/b", Test::Exists(false)) && !holds("/a", Test::Exists(false)));
    assert!(
        holds("/n", Test::Eq(json!(1))) && !holds("/n", Test::Eq(json!("1"))) && !holds("/b", Test::Eq(json!(null)))
    );
    assert!(holds("/t", Test::In(vec![json!("x"), json!(true)])));
    assert!(holds("/s", Test::Prefix("OVERLAP:".to_owned())) && !holds("/n", Test::Prefix("1".to_owned())));
    assert!(holds("/l", Test::Contains("deep".to_owned())) && holds("", Test::Contains("LAP".to_owned())));
    assert!(!holds("/t", Test::Contains("t".to_owned())));
}

#[test]
fn the_first_rule_that_matches_wins_and_a_rule_that_cannot_see_matches_nothing() {
    let rules = Rules {
        answers: vec![
            rule(&[409], vec![(body("/code"), Test::Eq(json!("DUP")))], Say::Duplicate),
            rule(&[409], vec![], Say::Reject),
            rule(&[503], vec![(body("/exc"), Test::Exists(true))], Say::Block),
        ],
        ..Rules::default()
    };
    let judged =
        |status, text: &str| judge(&rules, &reply(status, text), Sent { count: 1, items: &[] }, UtcMicros(0), &[]);
    assert_eq!(
        judged(409, r#"{"code":"DUP"}"#),
        Finding::Outcome(Outcome::Settled(vec![Verdict::Confirmed { duplicate: true, remote_id: None }]))
    );
    assert!(
        matches!(judged(409, "{}"), Finding::Outcome(Outcome::Settled(v)) if matches!(v[0], Verdict::Rejected { .. }))
    );
    // It might have been a duplicate: a rejection has to be proven.
    assert!(matches!(judged(409, ""), Finding::Outcome(Outcome::Retry { .. })));
    // The sink's fault is that, whatever a proxy writes below it.
    assert!(matches!(judged(503, "<html>"), Finding::Outcome(Outcome::Retry { .. })));
}

#[test]
fn numbers_of_people_do_not_reach_a_log_line() {
    assert_eq!(plain("worker 12345678-9, code 1024"), "worker #-9, code 1024");
    assert_eq!(plain("99999"), "#");
    assert_eq!(plain(""), "");
}

#[test]
fn json_in_texts_is_unwrapped_but_not_without_end() {
    let deep = (0..10).fold(json!("end"), |inner, _| json!([inner.to_string()]));
    let mut answer = reply(200, &json!({ "m": deep.to_string(), "t": "{no json", "n": 5 }).to_string());
    let document = Document::read(&answer, Format::Json, &["/m".to_owned(), "/t".to_owned(), "/x".to_owned()]);
    assert!(document.value().is_some_and(|v| v["m"].is_array() && v["t"] == "{no json"));
    answer.body = vec![b'['; 60_000];
    assert!(Document::read(&answer, Format::Json, &[]).value().is_none(), "nesting is bounded");
}
