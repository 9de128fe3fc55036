//! Tests of rules: what a value becomes, and what a bad one costs.

use super::*;
use crate::event::{Origin, Outcome, Passage, Punch};

fn rule(field: &str, map: &[(&str, &str)], default: Option<&str>) -> Rule {
    Rule {
        field: Field::from_name(field).unwrap(),
        place: Place::Key(field.to_owned()),
        map: map.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        default: default.map(str::to_owned),
    }
}

fn read(rules: &[Rule], values: &[(&str, Value<'_>)]) -> Result<Record, String> {
    let mut next = 0;
    let plan = Plan::new(rules, None, |_| {
        next += 1;
        Some(next - 1)
    });
    let at = |rule: &Rule| values.iter().find(|(name, _)| *name == rule.field.name()).map(|(_, v)| v.clone());
    let values: Vec<_> = rules.iter().filter(|r| !matches!(r.place, Place::Constant(_))).map(at).collect();
    plan.read(&values)
}

fn text(text: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(text))
}

#[test]
fn a_map_translates_and_an_unmapped_word_is_kept_as_vendor_code() {
    let rules = [rule("person", &[], None), rule("punch", &[("0", "in"), ("1", "out")], None)];
    let ok = read(&rules, &[("person", Value::Unsigned(7)), ("punch", Value::Unsigned(1))]).unwrap().reading;
    assert_eq!((ok.punch, ok.kind, ok.vendor_code), (Some(Punch::Out), Some(Kind::AttendancePunch), None));
    let odd = read(&rules, &[("person", text("7")), ("punch", text("lunch"))]).unwrap().reading;
    assert_eq!((odd.punch, odd.vendor_code.as_deref()), (None, Some("lunch")));
}

#[test]
fn a_default_stands_in_for_an_absent_and_for_an_unmapped_value() {
    let rules = [rule("person", &[], None), rule("outcome", &[("ok", "granted")], Some("unknown"))];
    for values in [vec![("person", text("7"))], vec![("person", text("7")), ("outcome", text("?"))]] {
        let reading = read(&rules, &values).unwrap().reading;
        assert_eq!((reading.outcome, reading.vendor_code), (Some(Outcome::Unknown), None));
    }
}

#[test]
fn words_of_ours_need_no_map() {
    let rules = [rule("person", &[], None), rule("passage", &[], None), rule("origin", &[], None)];
    let values = [("person", text("7")), ("passage", text("Entry")), ("origin", text("replay"))];
    let reading = read(&rules, &values).unwrap().reading;
    assert_eq!((reading.passage, reading.origin), (Some(Passage::Entry), Some(Origin::Replay)));
    assert_eq!(reading.kind, Some(Kind::CredentialRead));
}

#[test]
fn methods_come_as_a_word_a_list_or_a_phrase() {
    let rules = [rule("methods", &[("fp", "finger"), ("pwd", "pin"), ("fp+card", "other")], None)];
    let names = |value| {
        let reading = read(&rules, &[("methods", value)]).unwrap().reading;
        reading.methods.iter().map(Method::as_str).collect::<Vec<_>>()
    };
    assert_eq!(names(text("fp")), ["finger"]);
    assert_eq!(names(text("fp, pwd")), ["finger", "pin"]);
    assert_eq!(names(text("pwd|fp")), ["finger", "pin"]);
    assert_eq!(names(text("fp+card")), ["other"]);
    assert_eq!(names(Value::List(vec![text("pwd"), text("fp")])), ["finger", "pin"]);
}

#[test]
fn a_door_is_a_number_or_a_label() {
    let rules = [rule("person", &[], None), rule("door", &[("9", "Nine")], None)];
    let door = |value| read(&rules, &[("person", text("7")), ("door", value)]).unwrap().reading.door;
    assert_eq!(door(Value::Unsigned(11)), event::Place { number: Some(11), label: None });
    assert_eq!(door(text("9")), event::Place { number: None, label: Some("Nine".to_owned()) });
    assert_eq!(door(Value::Unsigned(70_000)).label.as_deref(), Some("70000"));
}

#[test]
fn an_identifier_is_never_cut_and_never_rounded() {
    let rules = [rule("person", &[], None)];
    assert!(read(&rules, &[("person", text(&"ñ".repeat(256)))]).is_ok());
    let error = read(&rules, &[("person", text(&"7".repeat(257)))]).unwrap_err();
    assert_eq!(error, "person is longer than 256 characters");
    assert!(read(&rules, &[("person", Value::Float(1e22))]).unwrap_err().contains("have it sent as text"));
    let fine = read(&rules, &[("person", Value::Float(7.5))]).unwrap().reading;
    assert_eq!(fine.person.terminal_person_id.as_deref(), Some("7.5"));
}

#[test]
fn i7_a_template_in_the_place_of_an_identifier_is_refused() {
    let rules = [rule("person", &[], None)];
    let template = "Rk1SACAyMAAAAAD8AAABPAFiAMUAxQEAAAAoJUCfAKVf".repeat(2);
    assert!(read(&rules, &[("person", text(&template))]).unwrap_err().contains("looks like a template"));
    for id in ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08a", &"7".repeat(100), "Ana Luz"] {
        assert!(read(&rules, &[("person", text(id))]).is_ok());
    }
}

#[test]
fn a_bad_measurement_costs_the_measurement_and_not_the_event() {
    let rules = [rule("person", &[], None), rule("temperature_c", &[], None), rule("score", &[], None)];
    let values = [("person", text("7")), ("temperature_c", text("NaN")), ("score", text("94.5%"))];
    let record = read(&rules, &values).unwrap();
    assert_eq!(record.complaint.as_deref(), Some("temperature_c is not a number"));
    assert_eq!(record.reading.temperature_c, None);
    assert_eq!(record.reading.score, Some(Score { value: 94.5, scale: ScoreScale::Percent }));
}

#[test]
fn a_record_that_says_nothing_is_a_fault() {
    let mut constant = rule("person", &[], None);
    constant.place = Place::Constant("everybody".to_owned());
    let rules = [constant, rule("terminal_serial", &[], None), rule("kind", &[("punch", "attendance_punch")], None)];
    assert!(read(&rules, &[("terminal_serial", text("X")), ("kind", text("heartbeat"))]).is_err());
    assert!(read(&rules, &[("kind", text("punch"))]).is_ok());
    assert!(read(&rules, &[]).is_err());
}

#[test]
fn identity_is_time_and_sequence_or_the_fields_named() {
    let rules = [rule("person", &[], None), rule("device_time", &[], None), rule("native_seq", &[], None)];
    let values = [("person", text("7")), ("native_seq", Value::Unsigned(5))];
    let reading = read(&rules, &values).unwrap().reading;
    assert_eq!(reading.identity, Identity::Record(vec![None, Some("5".to_owned())]));
    assert_eq!(read(&rules, &values[..1]).unwrap().reading.identity, Identity::None);

    let mut next = 0;
    let plan = Plan::new(&rules, Some(&[Field::Person, Field::DeviceTime]), |_| {
        next += 1;
        Some(next - 1)
    });
    let identity = plan.read(&[Some(text(" 7 ")), None, Some(text("5"))]).unwrap().reading.identity;
    assert_eq!(identity, Identity::Record(vec![Some("7".to_owned()), None]));
}
