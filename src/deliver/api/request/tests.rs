//! Bodies, paths and limits, and that what is kept is what is sent.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::shape::{Mapper, Refusal, Surroundings};
use super::*;
use crate::deliver::api::mapping::samples::{any, now, punch, record};
use crate::deliver::api::mapping::{Field, Format, Mapping, Origin, Scalar, Source, Time};
use crate::event::Punch;
use crate::journal::Record;

fn from(pointer: &str) -> Rule {
    Rule::plain(Origin::Source(Source::at(pointer).expect("a source"), None))
}

fn constant(text: &str) -> Rule {
    Rule::plain(Origin::Constant(Scalar::Text(text.to_owned())))
}

fn by_punch(pairs: &[(&str, &str)]) -> Rule {
    let map = pairs.iter().map(|(from, to)| ((*from).to_owned(), Scalar::Text((*to).to_owned()))).collect();
    Rule { map, ..from("/punch") }
}

fn who() -> Mapping {
    let time = Time { zone: "UTC".to_owned(), format: Format::Rfc1123 };
    let field = |target: &str, rule| Field { target: vec![target.to_owned()], rule };
    Mapping {
        fields: vec![
            field("who", from("/person/external_id")),
            field("utc", Rule::plain(Origin::Source(Source::at("/event_time").expect("a source"), Some(time)))),
        ],
    }
}

fn mapper_of(request: &Request, map: Option<&Mapping>, batch: usize, max_bytes: usize) -> Mapper {
    let url = reqwest::Url::parse("https://hr.example/api/").expect("a URL");
    let around = Surroundings { url: &url, method: "POST", batch, max_bytes, exit: None };
    Mapper::new(request, map, None, &around).expect("a good request")
}

fn mapper(request: &Request, batch: usize) -> Mapper {
    mapper_of(request, Some(&who()), batch, 1 << 20)
}

fn punches(who: &[(&str, Punch)]) -> Vec<Record> {
    who.iter().zip(1..).map(|((person, direction), seq)| record(seq, punch(person, *direction))).collect()
}

fn sent(mapper: &Mapper, records: &[Record]) -> Outgoing {
    let outgoing = mapper.map(records, false, "key-1", now(0)).expect("mapped");
    let kept = Outgoing::decode(&outgoing.encode());
    assert_eq!(kept.as_ref(), Some(&outgoing), "what is kept is what is sent");
    assert_eq!(outgoing.items().len(), records.len());
    outgoing
}

fn body(mapper: &Mapper, records: &[Record]) -> String {
    String::from_utf8(sent(mapper, records).body).expect("text")
}

const UTC: &str = "Tue, 14 Apr 2026 12:30:00 GMT";

#[test]
fn every_body_looks_as_it_should() {
    let two = punches(&[("1", Punch::In), ("2", Punch::Out)]);
    let one = &two[..1];
    let request = |body| Request { body, ..Request::default() };
    let item = |who: &str| format!("{{\"who\":\"{who}\",\"utc\":\"{UTC}\"}}");
    assert_eq!(body(&mapper(&request(Body::Plain), 1), one), item("1"));
    assert_eq!(body(&mapper(&request(Body::Plain), 9), one), format!("[{}]", item("1")));
    assert_eq!(body(&mapper(&request(Body::Object), 1), one), item("1"));
    assert_eq!(body(&mapper(&request(Body::Array), 1), one), format!("[{}]", item("1")));
    assert_eq!(body(&mapper(&request(Body::Array), 9), &two), format!("[{},{}]", item("1"), item("2")));
    assert_eq!(body(&mapper(&request(Body::Ndjson), 9), &two), format!("{}\n{}\n", item("1"), item("2")));
    let envelope = r#"{"skip_approval":true}"#.to_owned();
    let wrapped = Request { wrap: "/attendances".to_owned(), envelope, ..request(Body::Wrapped) };
    let expected = format!("{{\"attendances\":[{},{}],\"skip_approval\":true}}", item("1"), item("2"));
    assert_eq!(body(&mapper(&wrapped, 9), &two), expected);
}

#[test]
fn a_form_and_a_query_are_encoded_and_still_give_their_item() {
    let one = punches(&[("1 2&ñ", Punch::In)]);
    let form = sent(&mapper(&Request { body: Body::Form, ..Request::default() }, 1), &one);
    assert_eq!(form.body, b"who=1+2%26%C3%B1&utc=Tue%2C+14+Apr+2026+12%3A30%3A00+GMT");
    assert_eq!(form.content_type, "application/x-www-form-urlencoded");
    assert_eq!(form.items(), [json!({"who": "1 2&ñ", "utc": UTC})]);
    let request = Request {
        body: Body::Query,
        path: Some(constant("/marks?site=7")),
        method: Some(constant("GET")),
        ..Request::default()
    };
    let query = sent(&mapper(&request, 1), &one);
    assert_eq!((query.method.as_str(), query.content_type.as_str(), query.body.len()), ("GET", "", 0));
    let expected = "/api/marks?site=7&who=1%202%26%C3%B1&utc=Tue%2C%2014%20Apr%202026%2012%3A30%3A00%20GMT";
    assert_eq!(query.path_and_query, expected);
    assert_eq!(query.items(), form.items());
}

#[test]
fn cloudevents_carry_the_event_or_what_it_was_mapped_to() {
    let one = punches(&[("1", Punch::In)]);
    let request = Request { body: Body::CloudEvents, ..Request::default() };
    let outgoing = sent(&mapper_of(&request, None, 9, 1 << 20), &one);
    assert_eq!(outgoing.content_type, "application/cloudevents-batch+json");
    let cloud = &outgoing.items()[0];
    let id = one[0].event.id.to_string();
    assert_eq!(
        (&cloud["specversion"], &cloud["id"], &cloud["data"]["event_id"]),
        (&json!("1.0"), &json!(id), &json!(id))
    );
    assert_eq!(
        (&cloud["source"], &cloud["type"]),
        (&json!("/portero/default/obra-norte/yard"), &json!("portero.attendance_punch"))
    );
    assert_eq!(cloud["time"], "2026-04-14T12:30:00.999999Z");
    let mapped = sent(&mapper(&request, 9), &one);
    assert_eq!(mapped.items()[0]["data"], json!({"who": "1", "utc": UTC}));
}

#[test]
fn a_json_rpc_request_has_the_idempotency_key_as_its_id() {
    let one = punches(&[("1", Punch::In)]);
    let request = Request {
        body: Body::JsonRpc,
        envelope: r#"{"service":"object","args":["db",2,"hr.attendance","create",[]]}"#.to_owned(),
        wrap: "/args/4/0".to_owned(),
        ..Request::default()
    };
    let outgoing = sent(&mapper(&request, 1), &one);
    let json: Value = serde_json::from_slice(&outgoing.body).expect("JSON");
    assert_eq!((&json["jsonrpc"], &json["id"], &json["method"]), (&json!("2.0"), &json!("key-1"), &json!("call")));
    assert_eq!(json["params"]["args"], json!(["db", 2, "hr.attendance", "create", [{"who": "1", "utc": UTC}]]));
    let many: Value = serde_json::from_str(&body(&mapper(&request, 9), &one)).expect("JSON");
    assert!(many["params"]["args"][4][0].is_array());
}

#[test]
fn method_and_path_follow_the_event_and_what_differs_does_not_travel_together() {
    let request = Request {
        body: Body::Array,
        method: Some(by_punch(&[("in", "POST"), ("out", "PUT")])),
        path: Some(by_punch(&[("in", "/clock-in"), ("out", "/employees/{/person/external_id}/clock")])),
        ..Request::default()
    };
    let mapper = mapper(&request, 9);
    let records = punches(&[("1", Punch::In), ("2", Punch::In), ("a/b", Punch::Out), ("..", Punch::Out)]);
    assert_eq!(mapper.fit(&records, false, now(0)), 2);
    let clock_in = sent(&mapper, &records[..2]);
    assert_eq!((clock_in.method.as_str(), clock_in.path_and_query.as_str()), ("POST", "/api/clock-in"));
    assert_eq!(mapper.fit(&records[2..], false, now(0)), 1);
    let out = sent(&mapper, &records[2..3]);
    assert_eq!((out.method.as_str(), out.path_and_query.as_str()), ("PUT", "/api/employees/a%2Fb/clock"));
    let refused = mapper.map(&records[3..], false, "k", now(0));
    assert!(matches!(refused, Err(Refusal::Unmappable { index: 0, .. })), "{refused:?}");
    let back = punches(&[("1", Punch::BreakOut), ("1", Punch::In)]);
    assert_eq!(mapper.fit(&back, false, now(0)), 1, "an event that goes nowhere stands alone");
    assert!(matches!(mapper.map(&back[..1], false, "k", now(0)), Err(Refusal::Unmappable { index: 0, .. })));
}

#[test]
fn a_parameter_of_the_path_can_be_normalised() {
    let text = crate::deliver::api::mapping::Text { strip_leading_zeros: true, ..Default::default() };
    let request = Request {
        path: Some(constant("/e/{worker}")),
        params: vec![("worker".to_owned(), Rule { text, ..from("/person/external_id") })],
        ..Request::default()
    };
    assert_eq!(sent(&mapper(&request, 1), &punches(&[("0017", Punch::In)])).path_and_query, "/api/e/17");
}

#[test]
fn batches_end_before_too_many_workers_and_too_many_bytes() {
    let array = Request { body: Body::Array, ..Request::default() };
    let few = mapper(&Request { max_workers: Some(2), ..array.clone() }, 9);
    let records = punches(&[("1", Punch::In), ("2", Punch::In), ("1", Punch::Out), ("3", Punch::In)]);
    assert_eq!(few.fit(&records, false, now(0)), 3);
    let all = mapper(&array, 9);
    assert_eq!(all.fit(&records, false, now(0)), 4);
    let three = body(&all, &records[..3]).len();
    for (bytes, fit) in [(three, 3), (three - 1, 2), (1, 1)] {
        let small = mapper_of(&array, Some(&who()), 9, bytes);
        assert_eq!(small.fit(&records, false, now(0)), fit, "{bytes}");
    }
}

#[test]
fn an_old_event_goes_elsewhere_or_nowhere_by_its_age_at_that_moment() {
    let late = |then| Some(Late { max_age: Duration::from_secs(43_200), then });
    let records = punches(&[("1", Punch::In), ("2", Punch::In)]);
    let path = Some(Box::new(constant("/time-activities")));
    let request = Request {
        body: Body::Array,
        path: Some(constant("/clock-in")),
        late: late(Then::Elsewhere { path, method: None }),
        ..Request::default()
    };
    let elsewhere = mapper(&request, 9);
    assert!(elsewhere.must_be_kept() && !mapper(&Request::default(), 1).must_be_kept());
    let path_at = |seconds| elsewhere.map(&records, false, "k", now(seconds)).expect("mapped").path_and_query;
    assert_eq!((path_at(43_000).as_str(), path_at(43_300).as_str()), ("/api/clock-in", "/api/time-activities"));
    let mut unsure = now(43_300);
    unsure.synchronised = false;
    let outgoing = elsewhere.map(&records, false, "k", unsure).expect("mapped");
    assert_eq!(outgoing.path_and_query, "/api/clock-in", "a clock that is not right calls nothing late");
    let nowhere = mapper(&Request { late: late(Then::Reject), ..request }, 9);
    assert!(nowhere.map(&records, false, "k", now(43_000)).is_ok());
    let Err(Refusal::Unmappable { index: 0, reason }) = nowhere.map(&records, false, "k", now(43_300)) else {
        panic!("it is too old")
    };
    assert!(reason.contains("max_age_seconds (43200)"), "{reason}");
}

#[test]
fn corrections_go_only_where_a_mapping_for_them_is() {
    let one = punches(&[("1", Punch::In)]);
    assert_eq!(mapper(&Request::default(), 1).map(&one, true, "k", now(0)), Err(Refusal::NotApplicable));
    let plain = mapper_of(&Request::default(), None, 1, 1 << 20).map(&one, true, "k", now(0)).expect("mapped");
    assert_eq!(plain.items()[0]["kind"], "correction");
    let url = reqwest::Url::parse("https://x").expect("a URL");
    let around = Surroundings { url: &url, method: "POST", batch: 1, max_bytes: 1 << 20, exit: None };
    let kind = Mapping { fields: vec![Field { target: vec!["k".to_owned()], rule: from("/kind") }] };
    let both = Mapper::new(&Request::default(), Some(&who()), Some(&kind), &around).expect("good");
    assert_eq!(both.map(&one, true, "k", now(0)).expect("mapped").body, br#"{"k":"correction"}"#);
}

#[test]
fn headers_may_come_from_the_event() {
    let headers = vec![("ce-id".to_owned(), from("/event_id")), ("accept".to_owned(), constant("application/json"))];
    let outgoing = sent(&mapper(&Request { headers, ..Request::default() }, 1), &punches(&[("1", Punch::In)]));
    assert_eq!(outgoing.headers[0].1, "07070707-0707-0707-0707-070707070707");
    assert_eq!(outgoing.headers[1], ("accept".to_owned(), "application/json".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_event_is_mapped_or_refused_and_what_is_kept_is_what_is_sent(seed in proptest::num::u64::ANY) {
        let records: Vec<Record> = (0..4).map(|n| record(n + 1, any(seed.wrapping_add(n)))).collect();
        for (_, body) in Body::WORDS {
            let request = Request {
                body: *body,
                wrap: if *body == Body::Wrapped { "/items".to_owned() } else { String::new() },
                path: Some(constant("/e/{/person/external_id}")),
                ..Request::default()
            };
            let mapper = mapper(&request, if body.is_single() { 1 } else { 9 });
            let fit = mapper.fit(&records, false, now(0));
            prop_assert!((1..=records.len()).contains(&fit));
            match mapper.map(&records[..fit], false, "key", now(0)) {
                Ok(outgoing) => {
                    let kept = Outgoing::decode(&outgoing.encode());
                    prop_assert_eq!(kept.as_ref(), Some(&outgoing));
                    prop_assert_eq!(outgoing.items().len(), fit);
                    let url = reqwest::Url::parse("https://x").expect("a URL");
                    let address = outgoing.address(&url).map(String::from).unwrap_or_default();
                    prop_assert_eq!(address, format!("https://x{}", outgoing.path_and_query), "nothing is encoded twice");
                    prop_assert_eq!(mapper.map(&records[..fit], false, "key", now(0)), Ok(outgoing));
                }
                Err(Refusal::Unmappable { index, .. }) => prop_assert!(index < fit),
                Err(Refusal::NotApplicable) => prop_assert!(false, "an event is always applicable"),
            }
        }
    }
}
