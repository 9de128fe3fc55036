//! Tests of `mqtt-face`: the captured record, its variations, acknowledgement, and bad input.

use proptest::prelude::*;

use super::*;
use crate::event::{DenialReason, Identity, Kind, Method, Methods, Origin, Outcome, Passage, Reading};

/// Captured from device 1026700 (vendor's specification 3.4, shortened, name removed).
const CAPTURE: &str = r#"{"operator":"RecPush","info":{"customId":"","personId":"3","RecordID":"2","VerifyStatus":"1","PersonType":"0","similarity1":"83.000000","Sendintime":1,"facesluiceId":"1026700","time":"2026-04-10 10:00:07","PushType":0}}"#;
const REC: &str = "mqtt/face/1026700/Rec";

fn feed_as(config: &Config, topic: &str, payload: &str) -> Vec<Step> {
    let mut out = Vec::new();
    MqttFace::new(config).feed(BootTime(0), Input::Message { topic, payload: payload.as_bytes() }, &mut out);
    out
}

fn feed(topic: &str, payload: &str) -> Vec<Step> {
    feed_as(&Config::default(), topic, payload)
}

fn one(payload: &str) -> (Reading, Option<Receipt>) {
    let mut out = feed(REC, payload);
    assert_eq!(out.len(), 1, "{out:?}");
    match out.remove(0) {
        Step::Events(mut readings, receipt) if readings.len() == 1 => (readings.remove(0), receipt),
        other => panic!("{other:?}"),
    }
}

fn info(fields: &str) -> Reading {
    one(&format!(r#"{{"operator":"RecPush","info":{{"RecordID":2,"time":"2026-04-10 10:00:07",{fields}}}}}"#)).0
}

#[test]
fn the_captured_record_is_understood() {
    let (r, receipt) = one(CAPTURE);
    assert_eq!((r.kind, r.outcome, r.denial_reason), (Some(Kind::AccessDecision), Some(Outcome::Granted), None));
    assert_eq!((r.person.external_id, r.person.terminal_person_id.as_deref()), (None, Some("3")));
    assert_eq!((r.origin, r.methods), (Some(Origin::Live), Methods::from_iter([Method::Face])));
    assert_eq!((r.terminal_serial.as_deref(), r.native_seq.as_deref()), (Some("1026700"), Some("2")));
    assert_eq!(r.score.map(|s| s.value), Some(83.0));
    let identity = ["2", "2026-04-10 10:00:07"].map(|s| Some(s.to_owned()));
    assert_eq!(r.identity, Identity::Record(identity.to_vec()));
    let mut out = Vec::new();
    MqttFace::new(&Config::default()).committed(&receipt.unwrap(), &mut out);
    let want = br#"{"operator":"PushAck","info":{"PushAckType":2,"SnapOrRecordID":"2"}}"#.to_vec();
    assert_eq!(out, [Step::Send(want, Destination::Topic("mqtt/face/1026700".to_owned()))]);
}

#[test]
fn an_acknowledgement_echoes_the_message_and_keeps_the_type_of_the_id() {
    let payload = r#"{"operator":"StrSnapPush","messageId":"m-\n7","info":{"SnapID":41,"time":"2026-04-10 10:00:07"}}"#;
    let (reading, receipt) = one(payload);
    assert_eq!((reading.outcome, reading.denial_reason), (Some(Outcome::Denied), Some(DenialReason::NotRegistered)));
    assert_eq!(reading.terminal_serial.as_deref(), Some("1026700"));
    assert_eq!(
        reading.identity,
        Identity::Record(vec![Some("snap:41".to_owned()), Some("2026-04-10 10:00:07".to_owned())])
    );
    let mut out = Vec::new();
    MqttFace::new(&Config::default()).committed(&receipt.unwrap(), &mut out);
    let want = r#"{"operator":"PushAck","messageId":"m-\n7","info":{"PushAckType":1,"SnapOrRecordID":41}}"#;
    let [Step::Send(bytes, Destination::Topic(topic))] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!((String::from_utf8_lossy(bytes).as_ref(), topic.as_str()), (want, "mqtt/face/1026700"));
}

#[test]
fn every_spelling_and_type_of_a_firmware_is_read() {
    for (fields, outcome, reason, code) in [
        (r#""VerifyStatus":1"#, Outcome::Granted, None, None),
        (r#""VerifyStatus":"0""#, Outcome::None, None, None),
        (r#""VerifyStatus":2"#, Outcome::Denied, Some(DenialReason::NoPermission), None),
        (r#""VerifyStatus":"3""#, Outcome::Denied, Some(DenialReason::NotRegistered), None),
        (r#""VerifyStatus":2,"PersonType":"1""#, Outcome::Denied, Some(DenialReason::Blocked), None),
        (r#""VerifyStatus":1,"PersonType":1"#, Outcome::Granted, None, None),
        (r#""VerifyStatus":22"#, Outcome::Unknown, None, Some("22")),
        (r#""VerifyStatus":"24""#, Outcome::Unknown, None, Some("24")),
    ] {
        let r = info(fields);
        assert_eq!((r.outcome, r.denial_reason, r.vendor_code.as_deref()), (Some(outcome), reason, code), "{fields}");
    }
    for (fields, origin) in [
        (r#""PushType":2,"Sendintime":0"#, Origin::Backfill),
        (r#""PushType":"2""#, Origin::Backfill),
        (r#""PushType":"0","Sendintime":"0""#, Origin::Replay),
        (r#""Sendintime":0"#, Origin::Replay),
        (r#""PushType":0"#, Origin::Live),
    ] {
        assert_eq!(info(fields).origin, Some(origin), "{fields}");
    }
    let r = info(r#""customId":" 8812 ","personId":3,"personName":"Ana","persionName":"Ana","similarity1":94.5"#);
    assert_eq!(r.person.external_id.as_deref(), Some("8812"));
    assert_eq!((r.person.terminal_person_id.as_deref(), r.person.name), (Some("3"), None));
    assert_eq!(r.score.map(|s| s.value), Some(94.5));
    assert_eq!(info(r#""customId":" ","personId":"3""#).person.external_id, None);
}

#[test]
fn turnstile_fields_are_read() {
    let r =
        info(r#""direction":"entr","temperature":"36.600000","cardNum2":"0004812011","szQrCodeData":"open-sesame""#);
    assert_eq!((r.passage, r.temperature_c), (Some(Passage::Entry), Some(36.6)));
    assert_eq!(r.methods, Methods::from_iter([Method::Face, Method::Card, Method::Qr]));
    assert_eq!(r.credential.card_number.as_deref(), Some("0004812011"));
    assert!(!format!("{r:?}").contains("sesame"));
    let r = info(r#""direction":"exit","temperature":"0.0","cardNum2":"0""#);
    assert_eq!((r.passage, r.temperature_c, r.credential.card_number), (Some(Passage::Exit), None, None));
}

#[test]
fn statuses_are_told_and_acknowledgements_ignored() {
    let status = |s| vec![Step::Status(Some("1026700".to_owned()), s)];
    for (operator, want) in [("Online", Status::Online), ("Offline", Status::Offline), ("HeartBeat", Status::Heartbeat)]
    {
        let payload = format!(r#"{{"operator":"{operator}","info":{{"facesluiceId":"1026700"}}}}"#);
        assert_eq!(feed("mqtt/face/basic", &payload), status(want));
    }
    for topic in ["mqtt/face/1026700/Ack", "mqtt/face/1026700/ack"] {
        assert_eq!(feed(topic, r#"{"operator":"EditPerson-Ack","info":{}}"#), []);
    }
    assert_eq!(feed("mqtt/face/1026700", r#"{"operator":"PushAck","info":{}}"#), []);
}

#[test]
fn other_devices_are_nobodys_business_of_a_named_one() {
    let config = Config { device_id: Some("1026700".to_owned()) };
    assert_eq!(feed_as(&config, REC, CAPTURE).len(), 1);
    assert_eq!(feed_as(&config, "mqtt/face/999/Rec", CAPTURE), []);
    let other = r#"{"operator":"HeartBeat","info":{"facesluiceId":"999"}}"#;
    assert_eq!(feed_as(&config, "mqtt/face/heartbeat", other), []);
    assert_eq!(feed_as(&config, "mqtt/face/heartbeat", &other.replace("999", "1026700")).len(), 1);
    assert_eq!(filters(Some("7"))[0], "mqtt/face/7/+");
    assert_eq!(filters(None), ["mqtt/face/+/+", "mqtt/face/basic", "mqtt/face/heartbeat"]);
}

#[test]
fn an_id_that_is_no_topic_level_gets_no_acknowledgement() {
    let payload = CAPTURE.replace("1026700", "10#");
    let steps = feed("", &payload);
    assert!(matches!(steps.as_slice(), [Step::Events(r, None)] if r.len() == 1), "{steps:?}");
    let steps = feed("", CAPTURE);
    let [Step::Events(_, Some(receipt))] = steps.as_slice() else { panic!("{steps:?}") };
    assert!(receipt.0.starts_with("mqtt/face/1026700\n"));
}

#[test]
fn i7_pictures_names_and_templates_are_nowhere() {
    let picture = "/9j/4AAQSkZJRgABAQEAYABgAAD".repeat(1000);
    let payload = CAPTURE.replace(
        r#""PushType":0"#,
        &format!(
            r#""PushType":0,"personName":"Ana María","pic":"data:image/jpeg;base64,{picture}","scene":"{picture}""#
        ),
    );
    let sound = feed(REC, &payload);
    assert!(matches!(sound.as_slice(), [Step::Events(r, Some(_))] if r.len() == 1));
    // The same cut off, bent and with a record that can't be used.
    let cut = feed(REC, &payload[..payload.len() - 9]);
    let unknown = feed(REC, &payload.replace("RecPush", "Frobnicate"));
    let no_record = feed(REC, &format!(r#"{{"operator":"RecPush","info":{{"pic":"{picture}"}}}}"#));
    for steps in [sound, cut, unknown, no_record] {
        let debug = format!("{steps:?}");
        assert!(!debug.contains("9j/4AAQ") && !debug.contains("SkZJRg") && !debug.contains("Ana"), "{debug}");
    }
}

#[test]
fn an_overlong_field_is_left_out_and_complained_of() {
    let payload = CAPTURE.replace(r#""personId":"3""#, &format!(r#""personId":"{}""#, "3".repeat(300)));
    let steps = feed(REC, &payload);
    let [Step::Events(readings, Some(_)), Step::Fault(fault)] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!(readings[0].person.terminal_person_id, None);
    assert_eq!(fault.detail, "personId is longer than 256 characters");
}

#[test]
fn i5_bad_payloads_are_one_fault_each() {
    for payload in
        ["", "{", "[]", "[1,2]", "7", "{}", r#"{"operator":"RecPush"}"#, r#"{"operator":"RecPush","info":{}}"#]
    {
        let steps = feed(REC, payload);
        assert!(matches!(steps.as_slice(), [Step::Fault(_)]), "{payload}: {steps:?}");
    }
    let mut decoder = MqttFace::new(&Config::default());
    let mut out = Vec::new();
    decoder.feed(BootTime(0), Input::Message { topic: REC, payload: b"\xff\xfe" }, &mut out);
    decoder.feed(BootTime(0), Input::Message { topic: REC, payload: CAPTURE.as_bytes() }, &mut out);
    assert!(matches!(out.as_slice(), [Step::Fault(_), Step::Events(..)]), "{out:?}");
}

proptest! {
    #[test]
    fn i5_no_payload_and_no_topic_panics(
        topic in "(mqtt/face/)?[a-z0-9/#+]{0,12}",
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        at in 0..CAPTURE.len(),
        byte in any::<u8>(),
    ) {
        let mut bent = CAPTURE.as_bytes().to_vec();
        bent[at] = byte;
        let mut decoder = MqttFace::new(&Config::default());
        decoder.trace();
        let mut out = Vec::new();
        for payload in [&bytes[..], &bent, &CAPTURE.as_bytes()[..at]] {
            decoder.feed(BootTime(0), Input::Message { topic: &topic, payload }, &mut out);
        }
    }
}
