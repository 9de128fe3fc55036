//! Sources agree with the event's JSON, every rule does what it says, and no event makes a mapping panic.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::samples::{any, empty, punch};
use super::*;
use crate::event::{Event, Punch};

fn from(pointer: &str) -> Rule {
    Rule::plain(Origin::Source(Source::at(pointer).expect("a source"), None))
}

fn at(pointer: &str, zone: &str, format: Format) -> Rule {
    let time = Time { zone: zone.to_owned(), format };
    Rule::plain(Origin::Source(Source::at(pointer).expect("a source"), Some(time)))
}

fn pattern(pattern: &str) -> Format {
    Format::Pattern(pattern.to_owned())
}

fn text(text: &str) -> Scalar {
    Scalar::Text(text.to_owned())
}

fn mapping(fields: Vec<(&str, Rule)>) -> Mapping {
    let field = |(target, rule): (&str, Rule)| Field { target: target.split('.').map(str::to_owned).collect(), rule };
    Mapping { fields: fields.into_iter().map(field).collect() }
}

fn mapped(fields: Vec<(&str, Rule)>, event: &Event) -> Result<String, String> {
    let item = Item::new(&mapping(fields)).expect("a good mapping");
    let mut out = b"before".to_vec();
    let written = item.write(Subject { event, correction: false, edits: &[], late: false }, &mut out);
    let text = String::from_utf8(out.split_off(6)).expect("text");
    assert!(written.is_ok() || text.is_empty(), "a failed item leaves nothing behind");
    written.map(|()| text).map_err(|unmappable| unmappable.0)
}

fn value(rule: Rule, event: &Event) -> Result<Value, String> {
    let object: Value = serde_json::from_str(&mapped(vec![("x", rule)], event)?).expect("JSON");
    Ok(object.get("x").cloned().unwrap_or_default())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// What a source gives is what stands at its pointer in the JSON that the plain sink sends.
    #[test]
    fn every_source_agrees_with_the_events_json(seed in proptest::num::u64::ANY, correction in proptest::bool::ANY) {
        let event = any(seed);
        let subject = Subject { event: &event, correction, edits: &[], late: false };
        let tree = subject.tree();
        for pointer in Source::pointers() {
            let source = Source::at(pointer).expect("it is in the list");
            let there = tree.pointer(pointer).filter(|value| !value.is_null());
            // A list or an object that holds nothing is left out of the JSON, and times are instants until they are written.
            let read = source.read(subject).map(|found| match found {
                source::Found::Text(text) => Value::from(text.as_ref()),
                source::Found::Number(number) => serde_json::from_str(&number).expect("a number"),
                source::Found::Boolean(value) => value.into(),
                source::Found::Time(time) => crate::event::json::rfc3339(time).as_str().into(),
                source::Found::Json(json) if pointer.is_empty() => {
                    assert_eq!(json, subject.json());
                    tree.clone()
                }
                source::Found::Json(json) => serde_json::from_slice(&json).expect("JSON"),
            });
            prop_assert_eq!(read.as_ref(), there, "{}", pointer);
        }
    }

    #[test]
    fn no_event_makes_a_mapping_panic_and_what_it_gives_is_json(seed in proptest::num::u64::ANY) {
        let event = any(seed);
        for (pointer, n) in Source::pointers().zip(0u64..) {
            let source = Source::at(pointer).expect("it is in the list");
            let formats: Vec<_> = Format::WORDS.iter().map(|(_, f)| f.clone()).chain([pattern("%c %.6f %Q %s")]).collect();
            let time = (source.kind() == Type::Time).then(|| Time {
                zone: "America/Santiago".to_owned(),
                format: formats[(seed.wrapping_add(n) % formats.len() as u64) as usize].clone(),
            });
            let bit = |bit: u32| seed.wrapping_add(n) >> bit & 1 == 1;
            let rule = Rule {
                text: Text {
                    trim: bit(0),
                    strip: if bit(1) { ".-".to_owned() } else { String::new() },
                    strip_leading_zeros: bit(2),
                    rut_dash: bit(3),
                    case: if bit(4) { Case::Upper } else { Case::Lower },
                },
                map: if bit(5) { vec![("in".to_owned(), Scalar::Boolean(true))] } else { Vec::new() },
                default: bit(6).then(|| text("?")),
                optional: bit(7),
                max_chars: bit(8).then_some(3),
                as_type: [None, Some(As::String), Some(As::Number), Some(As::Boolean)][(seed % 4) as usize],
                ..Rule::plain(Origin::Source(source, time))
            };
            if let Ok(text) = mapped(vec![("a.b", rule.clone()), ("c", Rule { optional: true, ..rule })], &event) {
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
            }
        }
    }
}

#[test]
fn targets_nest_in_the_order_in_which_they_are_written() {
    let event = punch("17", Punch::In);
    let fields = vec![
        ("z", from("/terminal_serial")),
        ("b.y", from("/person/external_id")),
        ("a", Rule::plain(Origin::Constant(Scalar::Number("7".to_owned())))),
        ("b.x", Rule::plain(Origin::Constant(Scalar::Boolean(false)))),
    ];
    assert_eq!(mapped(fields, &event).as_deref(), Ok(r#"{"z":"CKOU214860011","b":{"y":"17","x":false},"a":7}"#));
    let meeting = mapping(vec![("a", from("/kind")), ("a.b", from("/kind"))]);
    assert!(Item::new(&meeting).is_err());
}

#[test]
fn an_optional_field_that_is_absent_leaves_no_trace() {
    let optional = |pointer| Rule { optional: true, ..from(pointer) };
    let fields = vec![("a", optional("/channel")), ("b.c", optional("/person/name")), ("d", from("/kind"))];
    assert_eq!(mapped(fields, &empty()).as_deref(), Ok(r#"{"d":"unknown"}"#));
    assert_eq!(mapped(vec![("b.c", optional("/channel"))], &empty()).as_deref(), Ok("{}"));
}

#[test]
fn what_cannot_be_mapped_says_target_and_source_and_names_nobody() {
    let mut event = punch("12.345", Punch::BreakOut);
    let error = |rule: Rule, event: &Event| value(rule, event).expect_err("unmappable");
    let direction = Rule { map: vec![("in".to_owned(), Scalar::Boolean(true))], ..from("/punch") };
    assert_eq!(
        error(direction.clone(), &event),
        "cannot map 'x' from /punch: \"break_out\" is not in its map, and there is no default"
    );
    assert_eq!(value(Rule { default: Some(text("?")), ..direction.clone() }, &event), Ok(json!("?")));
    let person = Rule { map: vec![("1".to_owned(), text("one"))], ..from("/person/external_id") };
    assert!(!error(person, &event).contains("12.345"));
    let number = Rule { as_type: Some(As::Number), ..from("/person/external_id") };
    assert_eq!(value(number.clone(), &event), Ok(json!(12.345)));
    event.reading.person.terminal_person_id = Some("K-17".to_owned());
    assert_eq!(error(number, &event), "cannot map 'x' from /person/external_id: the value is no number");
    event.reading.punch = None;
    assert_eq!(error(direction.clone(), &event), "cannot map 'x' from /punch: the event has nothing there");
    // A default also stands for an absent source, unless the target is optional.
    let default = Rule { default: Some(Scalar::Boolean(false)), ..direction };
    assert_eq!(value(default.clone(), &event), Ok(json!(false)));
    assert_eq!(value(Rule { optional: true, ..default }, &event), Ok(Value::Null));
    event.times.event = crate::event::UtcMicros(i64::MAX);
    let time = at("/event_time", "America/Santiago", pattern("%Y"));
    assert_eq!(error(time, &event), "cannot map 'x' from /event_time: the time cannot be written in that format");
}

#[test]
fn times_are_written_in_every_way_that_vendors_ask_for() {
    const SCL: &str = "America/Santiago";
    let mut event = empty();
    let cases = [
        (SCL, pattern("%Y-%m-%d %H:%M:%S"), json!("2026-04-14 08:30:00")),
        ("UTC", pattern("%Y-%m-%d %H:%M:%S"), json!("2026-04-14 12:30:00")),
        (SCL, pattern("%Y-%m-%d %H:%M:%S%.6f"), json!("2026-04-14 08:30:00.999999")),
        (SCL, pattern("%Y-%m-%dT%H:%M:%S"), json!("2026-04-14T08:30:00")),
        (SCL, pattern("%Y-%m-%dT%H:%M"), json!("2026-04-14T08:30")),
        (SCL, pattern("%-d/%-m/%Y"), json!("14/4/2026")),
        (SCL, pattern("%d-%m-%Y"), json!("14-04-2026")),
        (SCL, pattern("%m/%d/%Y"), json!("04/14/2026")),
        (SCL, pattern("%H:%M"), json!("08:30")),
        (SCL, pattern("%-H:%-M:%-S"), json!("8:30:0")),
        (SCL, pattern("%I:%M %p"), json!("08:30 AM")),
        (SCL, pattern("%Y%m%d%H%M%S"), json!("20260414083000")),
        ("UTC", Format::EpochSeconds, json!(1_776_169_800)),
        ("UTC", Format::EpochMillis, json!(1_776_169_800_999u64)),
        (SCL, Format::Rfc3339, json!("2026-04-14T08:30:00-04:00")),
        ("UTC", Format::Rfc3339, json!("2026-04-14T12:30:00Z")),
        (SCL, Format::Rfc3339Millis, json!("2026-04-14T08:30:00.999-04:00")),
        ("UTC", Format::Rfc1123, json!("Tue, 14 Apr 2026 12:30:00 GMT")),
        (SCL, Format::MinutesOfDay, json!(510)),
        (SCL, Format::OffsetHours, json!(-4)),
        ("Asia/Kolkata", Format::OffsetHours, json!(5.5)),
        (SCL, Format::ZoneName, json!(SCL)),
    ];
    for (zone, format, expected) in cases {
        assert_eq!(value(at("/event_time", zone, format.clone()), &event), Ok(expected), "{zone} {format:?}");
    }
    assert_eq!(value(from("/event_time"), &event), Ok(json!("2026-04-14T12:30:00.999999Z")));
    // Before 1970, too, what is cut off is the later part.
    event.times.event = crate::event::UtcMicros(-1);
    assert_eq!(value(at("/event_time", "UTC", Format::EpochSeconds), &event), Ok(json!(-1)));
    assert_eq!(value(at("/event_time", "UTC", pattern("%H:%M:%S")), &event), Ok(json!("23:59:59")));
}

#[test]
fn worker_ids_are_normalised() {
    let id = |written: &str, text: Text| {
        let event = punch(written, Punch::In);
        value(Rule { text, ..from("/person/external_id") }, &event)
    };
    let plain = Text::default();
    assert_eq!(id(" 17 ", Text { trim: true, ..plain.clone() }), Ok(json!("17")));
    assert_eq!(id("12.345.678-k", Text { strip: ".-".into(), case: Case::Upper, ..plain }), Ok(json!("12345678K")));
    assert_eq!(id("000123", Text { strip_leading_zeros: true, ..plain.clone() }), Ok(json!("123")));
    assert_eq!(id("000", Text { strip_leading_zeros: true, ..plain.clone() }), Ok(json!("0")));
    for rut in ["12.345.678-k", "12345678K", "12345678-K", " 12 345 678 k"] {
        assert_eq!(id(rut, Text { rut_dash: true, ..plain.clone() }), Ok(json!("12345678-K")), "{rut}");
    }
    assert!(id("K-17-A", Text { rut_dash: true, ..plain.clone() }).is_err());
    // What ends up empty counts as absent.
    assert!(id("  ", Text { trim: true, ..plain }).expect_err("empty").ends_with("nothing there"));
    let event = punch("ñandú", Punch::In);
    assert_eq!(value(Rule { max_chars: Some(3), ..from("/person/external_id") }, &event), Ok(json!("ñan")));
}

#[test]
fn a_value_takes_the_type_that_is_asked_for() {
    let id = |written: &str, as_type| {
        let event = punch(written, Punch::In);
        value(Rule { as_type: Some(as_type), ..from("/person/external_id") }, &event)
    };
    assert_eq!(id("007", As::Number), Ok(json!(7)));
    assert_eq!(id("-0", As::Number), Ok(json!(0)));
    assert_eq!(id("36.5", As::Number), Ok(json!(36.5)));
    for none in ["inf", "NaN", "1e999", "0x10", "-", "1_000"] {
        assert!(id(none, As::Number).is_err(), "{none}");
    }
    assert_eq!(id("true", As::Boolean), Ok(json!(true)));
    assert_eq!(id("0", As::Boolean), Ok(json!(false)));
    assert!(id("yes", As::Boolean).is_err());
    let mut event = empty();
    event.reading.door.number = Some(7);
    assert_eq!(value(Rule { as_type: Some(As::String), ..from("/door/number") }, &event), Ok(json!("7")));
    assert_eq!(value(from("/door/number"), &event), Ok(json!(7)));
    let long = "98765432109876543210987654321098765432109876543210";
    let event = punch(long, Punch::In);
    let exact = mapped(vec![("x", Rule { as_type: Some(As::Number), ..from("/person/external_id") })], &event);
    assert_eq!(exact, Ok(format!("{{\"x\":{long}}}")));
}

#[test]
fn a_target_is_there_only_when_its_condition_holds() {
    let source = |pointer| Source::at(pointer).expect("a source");
    let when = |words: &[&str], rule: Rule| Rule {
        when: vec![(source("/punch"), words.iter().map(|word| (*word).to_owned()).collect())],
        ..rule
    };
    let hour = at("/event_time", "America/Santiago", pattern("%H:%M"));
    let fields = || {
        vec![
            ("start", when(&["in", "break_in"], hour.clone())),
            ("end", when(&["out"], hour.clone())),
            ("late", when(&["ot_in"], Rule::plain(Origin::Constant(Scalar::Boolean(true))))),
        ]
    };
    assert_eq!(mapped(fields(), &punch("1", Punch::In)).as_deref(), Ok(r#"{"start":"08:30"}"#));
    assert_eq!(mapped(fields(), &punch("1", Punch::Out)).as_deref(), Ok(r#"{"end":"08:30"}"#));
    assert_eq!(mapped(fields(), &punch("1", Punch::OtIn)).as_deref(), Ok(r#"{"late":true}"#));
    assert_eq!(mapped(fields(), &empty()).as_deref(), Ok("{}"));
}

#[test]
fn templates_see_the_event_strictly_and_within_bounds() {
    let template = |text: &str| Rule::plain(Origin::Template(text.to_owned()));
    let mut event = punch("17", Punch::In);
    event.reading.door.number = Some(3);
    assert_eq!(
        value(template("{{ site_id }}/{{ door.number }}/{{ person.external_id }}"), &event),
        Ok(json!("obra-norte/3/17"))
    );
    assert_eq!(value(template("{{ punch|upper }}"), &event), Ok(json!("IN")));
    let lacking = template("{{ channel }}");
    assert_eq!(
        value(lacking.clone(), &event),
        Err("cannot map 'x' from its template: the event lacks a field that it names".to_owned())
    );
    assert_eq!(value(Rule { optional: true, ..lacking.clone() }, &event), Ok(Value::Null));
    assert_eq!(value(Rule { default: Some(text("-")), ..lacking }, &event), Ok(json!("-")));
    let broken = Rule { optional: true, ..template("{{ 'a'|length / 0 }}") };
    assert!(value(broken, &event).is_err(), "only what the event lacks is absent");
    let endless = template("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}");
    assert!(value(endless, &event).expect_err("bounded").contains("too many steps"));
    assert!(Item::new(&mapping(vec![("x", template("{{ site_id"))])).is_err());
    let named = variables("{{ person.external_id }}-{{ door.number }}-{{ 'x'|upper }}").expect("a template");
    assert_eq!(named, ["/door/number", "/person/external_id"]);
    assert!(variables("{% if").is_err());
}

#[test]
fn the_canonical_text_tells_mappings_apart() {
    let canonical = |rule: Rule| {
        let mut text = String::new();
        mapping(vec![("x", rule)]).canonical(&mut text);
        text
    };
    let rules = [
        from("/punch"),
        from("/kind"),
        Rule { optional: true, ..from("/punch") },
        Rule { map: vec![("in".to_owned(), text("1"))], ..from("/punch") },
        Rule { map: vec![("in".to_owned(), Scalar::Number("1".to_owned()))], ..from("/punch") },
        Rule { default: Some(text("1")), ..from("/punch") },
        Rule { max_chars: Some(1), ..from("/punch") },
        Rule { when: vec![(Source::at("/kind").expect("a source"), vec!["a".to_owned()])], ..from("/punch") },
        Rule { as_type: Some(As::Number), ..from("/punch") },
        Rule { text: Text { trim: true, ..Text::default() }, ..from("/punch") },
        Rule { text: Text { strip: ".".to_owned(), ..Text::default() }, ..from("/punch") },
        at("/event_time", "UTC", Format::Rfc3339),
        at("/event_time", "America/Santiago", Format::Rfc3339),
        at("/event_time", "UTC", pattern("%Y")),
        Rule::plain(Origin::Constant(text("a"))),
        Rule::plain(Origin::Template("a".to_owned())),
    ];
    let mut texts: Vec<_> = rules.into_iter().map(canonical).collect();
    assert_eq!(texts[3], "\"x\"= from=\"/punch\" map=\"in\" to=\"1\"\n");
    assert_eq!(texts[11], "\"x\"= from=\"/event_time\" zone=\"UTC\" format=\"rfc3339\"\n");
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 16);
}
