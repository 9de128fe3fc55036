//! Tests of `mqtt-json`: the yard terminal, forms of payload, and bad input.

use proptest::prelude::*;

use super::*;
use crate::event::{Identity, Punch};

pub(crate) const YARD: &str = r#"{"event_id":"CJ9D232460003-0000000011","sn":"CJ9D232460003","pin":"087109","ts":"2026-11-24T00:00:00.011Z","dir":"out","verify":"pin","site":"SITE-0001","door":11,"card":"0004812011","seq":11,"t_us":1795487934631976}"#;

fn pointer(field: &str, pointer: &str, map: &[(&str, &str)]) -> Rule {
    Rule {
        field: Field::from_name(field).unwrap(),
        place: Place::Pointer(pointer.to_owned()),
        map: map.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        default: None,
    }
}

fn yard() -> Config {
    Config {
        fields: vec![
            pointer("person", "/pin", &[]),
            pointer("device_time", "/ts", &[]),
            pointer("native_seq", "/event_id", &[]),
            pointer("terminal_serial", "/sn", &[]),
            pointer("door", "/door", &[]),
            pointer("credential", "/card", &[]),
            pointer("punch", "/dir", &[("in", "in"), ("out", "out")]),
            pointer("methods", "/verify", &[("fp", "finger"), ("face", "face"), ("card", "card"), ("pin", "pin")]),
        ],
        ..Config::default()
    }
}

fn feed(config: &Config, payload: &[u8]) -> (Vec<Reading>, Vec<Fault>) {
    let mut out = Vec::new();
    MqttJson::new(config).feed(BootTime(0), Input::Message { topic: "t", payload }, &mut out);
    let (mut readings, mut faults) = (Vec::new(), Vec::new());
    for step in out {
        match step {
            Step::Events(mut r, None) => readings.append(&mut r),
            Step::Fault(fault) => faults.push(fault),
            other => panic!("{other:?}"),
        }
    }
    (readings, faults)
}

#[test]
fn the_yard_terminal_is_understood() {
    let (readings, faults) = feed(&yard(), YARD.as_bytes());
    assert!(faults.is_empty(), "{faults:?}");
    let [r] = readings.as_slice() else { panic!("one record") };
    assert_eq!(r.person.terminal_person_id.as_deref(), Some("087109"));
    assert_eq!(r.terminal_serial.as_deref(), Some("CJ9D232460003"));
    assert_eq!((r.door.number, r.punch), (Some(11), Some(Punch::Out)));
    assert_eq!(r.credential.card_number.as_deref(), Some("0004812011"));
    let identity = ["2026-11-24T00:00:00.011Z", "CJ9D232460003-0000000011"].map(|s| Some(s.to_owned()));
    assert_eq!(r.identity, Identity::Record(identity.to_vec()));
}

#[test]
fn an_array_is_many_records_and_a_bad_one_spoils_only_itself() {
    let payload = r#"[{"pin":"1","ts":"1"},7,{"sn":"X"},{"pin":"2","ts":"2"}]"#;
    let (readings, faults) = feed(&yard(), payload.as_bytes());
    assert_eq!(readings.iter().filter_map(|r| r.person.terminal_person_id.as_deref()).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(faults.len(), 2);
    assert_eq!(faults[0].detail, "record 2: none of the configured fields is in this record");
}

#[test]
fn nested_records_are_found_by_their_pointer() {
    let config = Config { records: Some("/d/list".to_owned()), ..yard() };
    let (readings, faults) = feed(&config, br#"{"d":{"n":2,"list":[{"pin":1},{"pin":2}]}}"#);
    assert_eq!((readings.len(), faults.len()), (2, 0));
    let (readings, faults) = feed(&config, br#"{"d":{"list":{"pin":1}}}"#);
    assert_eq!((readings.len(), faults.len()), (1, 0));
    let (readings, faults) = feed(&config, br#"{"pin":1}"#);
    assert_eq!((readings.len(), faults.len()), (0, 1));
}

#[test]
fn i5_bad_payloads_are_one_fault_each_and_the_next_one_decodes() {
    for payload in [&b""[..], b"  ", b"{", b"\xff\xfe", b"{\"pin\":\"\xff\"}", b"null", b"nope", b"[]", b"{}", b"1e999"]
    {
        let (readings, faults) = feed(&yard(), payload);
        assert_eq!((readings.len(), faults.len()), (0, 1), "{payload:?}");
    }
    let (readings, faults) = feed(&yard(), br#"{"pin":"1"} {"pin":"2"}"#);
    assert_eq!((readings.len(), faults.len()), (1, 1));
}

#[test]
fn a_flood_of_records_is_bounded() {
    let payload = format!("[{}{{}}]", r#"{"pin":1},"#.repeat(MAX_RECORDS + 50));
    let (readings, faults) = feed(&yard(), payload.as_bytes());
    assert_eq!((readings.len(), faults.len()), (MAX_RECORDS, MAX_FAULTS + 1));
    assert_eq!(faults[MAX_FAULTS].detail, "35 more records of this message could not be used");
}

proptest! {
    #[test]
    fn i5_no_payload_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..YARD.len()) {
        feed(&yard(), &bytes);
        let mut bent = YARD.as_bytes().to_vec();
        bent[at] = bytes.first().copied().unwrap_or(0);
        feed(&yard(), &bent);
        feed(&yard(), &YARD.as_bytes()[..at]);
    }
}
