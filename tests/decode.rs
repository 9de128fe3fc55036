//! What terminals say, from bytes to JSON: fixtures, the command, and the invariants of decoders (I5, I7).
//!
//! A new capture goes to `fixtures/PROTOCOL/NAME.hex` (hex text) or `NAME.txt` (as it is; for MQTT protocols one
//! `TOPIC PAYLOAD` a line); `PORTERO_BLESS=1 cargo test --test decode` then writes what it decodes to beside it.

#![expect(clippy::expect_used, reason = "a test that can't go on has failed")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use portero::clock::{Now, Zone};
use portero::decode::fields::{Field, Place, Rule};
use portero::decode::{Config, Decoder, Input, LinkKind, Protocol, Step, mqtt_json, rdm6300, serial_lines};
use portero::event::{BootTime, Identity, Source, UtcMicros, json};
use portero::terminal::stamp::Stamp;
use proptest::prelude::*;

const MAPS: &[(&str, &[(&str, &str)])] = &[
    ("punch", &[("in", "in"), ("out", "out"), ("I", "in"), ("O", "out")]),
    ("methods", &[("fp", "finger"), ("face", "face"), ("card", "card"), ("pin", "pin")]),
];

fn rule(field: &str, place: Place) -> Rule {
    let map = MAPS.iter().find(|(name, _)| *name == field).map_or(&[][..], |(_, map)| map);
    Rule {
        field: Field::from_name(field).expect("a field"),
        place,
        map: map.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect(),
        default: None,
    }
}

/// The options under which the fixtures of a protocol are read.
fn config(protocol: Protocol) -> Config {
    let pointer = |(field, pointer): (&str, &str)| rule(field, Place::Pointer(pointer.to_owned()));
    match protocol {
        Protocol::Rdm6300 => Config::Rdm6300(rdm6300::Config { confirm_frames: 1, ..rdm6300::Config::default() }),
        Protocol::MqttFace => protocol.defaults(),
        Protocol::MqttJson => {
            let yard = [
                ("person", "/pin"),
                ("device_time", "/ts"),
                ("native_seq", "/event_id"),
                ("terminal_serial", "/sn"),
                ("door", "/door"),
                ("credential", "/card"),
                ("punch", "/dir"),
                ("methods", "/verify"),
            ];
            Config::MqttJson(mqtt_json::Config { fields: yard.map(pointer).to_vec(), ..mqtt_json::Config::default() })
        }
        Protocol::SerialLines => {
            let columns = [("native_seq", 1), ("device_time", 2), ("person", 3), ("punch", 4)];
            let fields = columns.map(|(field, column)| rule(field, Place::Column(column))).to_vec();
            Config::SerialLines(serial_lines::Config { fields, ..serial_lines::Config::default() })
        }
    }
}

const NOW: Now = Now { wall: UtcMicros(1_795_478_405_000_000), boot: BootTime(60_000_000), synchronised: true };

fn steps(decoder: &mut dyn Decoder, protocol: Protocol, bytes: &[u8], cut: usize) -> Vec<Step> {
    let mut out = Vec::new();
    if protocol.link() == LinkKind::Mqtt {
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let blank = line.iter().position(|b| *b == b' ').filter(|_| line[0] != b'{').unwrap_or(0);
            let topic = std::str::from_utf8(&line[..blank]).unwrap_or("");
            decoder.feed(NOW.boot, Input::Message { topic, payload: line[blank..].trim_ascii() }, &mut out);
        }
    } else {
        decoder.feed(NOW.boot, Input::Bytes(&bytes[..cut]), &mut out);
        decoder.feed(NOW.boot, Input::Bytes(&bytes[cut..]), &mut out);
        decoder.interrupted(NOW.boot, &mut out);
    }
    out
}

/// Steps as a person reads them: events as JSON lines, faults and the rest as comments.
fn shown(protocol: Protocol, steps: Vec<Step>) -> String {
    let stamp = Stamp {
        source: Arc::new(Source {
            tenant: "default".to_owned(),
            site_id: "obra-norte".to_owned(),
            gateway_id: "gw-obra-norte-01".to_owned(),
            terminal_id: "gate-1".to_owned(),
            protocol: protocol.name().to_owned(),
            zone: "America/Santiago".to_owned(),
        }),
        zone: Zone::named("America/Santiago").expect("bundled"),
        device_id: None,
    };
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Events(readings, receipt) => {
                for reading in readings {
                    let mut line = Vec::new();
                    json::write(&stamp.event(reading, None, NOW, || [0; 10]), &mut line);
                    text.push_str(std::str::from_utf8(&line).expect("JSON is UTF-8"));
                    text.push('\n');
                }
                if let Some(receipt) = receipt {
                    let _ = writeln!(text, "# confirmed by {}", receipt.0.replace('\n', " "));
                }
            }
            Step::Fault(f) => {
                let at = f.offset.map_or_else(String::new, |o| format!(" at {o}"));
                let _ = writeln!(text, "# fault {}{at}, {} bytes: {}: {}", f.kind, f.length, f.detail, f.excerpt);
            }
            other => {
                let _ = writeln!(text, "# {other:?}");
            }
        }
    }
    text
}

fn fixtures() -> Vec<(Protocol, std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for protocol in Protocol::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(protocol.name());
        for entry in std::fs::read_dir(&folder).expect("every protocol has fixtures") {
            let path = entry.expect("readable").path();
            let bytes = std::fs::read(&path).expect("readable");
            match path.extension().and_then(|e| e.to_str()) {
                Some("hex") => found.push((*protocol, path, unhex(&bytes))),
                Some("txt") => found.push((*protocol, path, bytes)),
                _ => {}
            }
        }
    }
    found
}

fn unhex(text: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = text.iter().copied().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

#[test]
fn every_fixture_decodes_to_what_stands_beside_it() {
    let mut count = 0;
    for (protocol, path, bytes) in fixtures() {
        let got = shown(protocol, steps(&mut *config(protocol).build(), protocol, &bytes, 0));
        let expected = path.with_extension("jsonl");
        if std::env::var_os("PORTERO_BLESS").is_some() {
            std::fs::write(&expected, &got).expect("writable");
        }
        let want = std::fs::read_to_string(&expected).expect("blessed");
        assert_eq!(got, want, "{}", path.display());
        count += 1;
    }
    assert!(count >= 6);
}

#[test]
fn a_fixture_cut_anywhere_gives_the_same_steps() {
    for (protocol, path, bytes) in fixtures() {
        if protocol.link() == LinkKind::Serial {
            let whole = steps(&mut *config(protocol).build(), protocol, &bytes, 0);
            for cut in 1..bytes.len() {
                assert_eq!(steps(&mut *config(protocol).build(), protocol, &bytes, cut), whole, "{}", path.display());
            }
        }
    }
}

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number") * 1024
}

#[test]
fn i5_random_bytes_never_panic_memory_stays_bounded_and_the_next_good_frame_decodes() {
    let good: [&[u8]; 4] = [
        b"\x0201000734E0D2\x03",
        b"\n7,1775815207,0815,I\n",
        br#"{"pin":"1","ts":"1775815207"}"#,
        br#"{"operator":"RecPush","info":{"RecordID":1,"time":"2026-04-10 10:00:07"}}"#,
    ];
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut noise = vec![0; 100_000];
    let before = resident();
    for (protocol, good) in Protocol::ALL.iter().zip(good) {
        for round in 0..6 {
            for byte in &mut noise {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // Later rounds are all structure: digits, quotes, brackets, frame bytes.
                let pick = (random >> 32) as usize;
                *byte = if round % 2 == 0 { pick as u8 } else { b"\x02\x030A9f{}[]\":,\\\r\n e-"[pick % 19] };
            }
            let mut decoder = config(*protocol).build();
            decoder.trace();
            let mut out = Vec::new();
            for chunk in noise.chunks(777) {
                decoder.feed(NOW.boot, Input::Bytes(chunk), &mut out);
                assert!(out.len() < 5000, "{protocol:?}: {} steps", out.len());
                out.clear();
            }
            decoder.feed(NOW.boot, Input::Bytes(good), &mut out);
            let last = out.iter().rfind(|s| matches!(s, Step::Events(..)));
            assert!(matches!(last, Some(Step::Events(readings, _)) if readings.len() == 1), "{protocol:?}: {out:?}");
        }
    }
    assert!(resident().saturating_sub(before) < 48 << 20);
}

#[test]
fn i5_a_payload_of_megabytes_is_one_record_or_one_fault() {
    let picture = "/9j/4AAQSkZJRgABAQEAYABgAAD".repeat(200_000);
    for (protocol, payload) in [
        (Protocol::MqttFace, format!(r#"{{"operator":"RecPush","info":{{"RecordID":1,"pic":"{picture}"}}}}"#)),
        (Protocol::MqttJson, format!(r#"{{"pic":"{picture}","pin":"1"}}"#)),
    ] {
        let whole = steps(&mut *config(protocol).build(), protocol, payload.as_bytes(), 0);
        assert!(matches!(whole.as_slice(), [Step::Events(r, _)] if r.len() == 1));
        let half = steps(&mut *config(protocol).build(), protocol, &payload.as_bytes()[..payload.len() / 2], 0);
        assert!(matches!(half.as_slice(), [Step::Fault(_)]));
        assert!(!format!("{whole:?}{half:?}").contains("SkZJRg"));
    }
}

#[test]
fn a_reader_without_records_has_presences_and_the_others_have_records() {
    for (protocol, path, bytes) in fixtures() {
        for step in steps(&mut *config(protocol).build(), protocol, &bytes, 0) {
            let Step::Events(readings, _) = step else { continue };
            for reading in readings {
                let presence = reading.identity == Identity::Presence;
                assert_eq!(presence, protocol.is_reader(), "{}", path.display());
            }
        }
    }
}

/// Whether sixteen characters of a secret, or all of a shorter one, are shown.
fn leaks(shown: &str, secret: &str) -> bool {
    secret
        .as_bytes()
        .windows(secret.len().min(16))
        .any(|part| shown.contains(std::str::from_utf8(part).unwrap_or(secret)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A template, a picture and a PIN in every place that a message has, sound and broken.
    #[test]
    fn i7_a_planted_template_image_or_pin_is_in_no_step(
        template in proptest::collection::vec(any::<u8>(), 50..300),
        pin in "[A-Z]{4}[#!?][a-z]{6}",
        bend in 0_usize..400,
        cut in any::<bool>(),
    ) {
        use base64::Engine as _;
        // The header of an ISO fingerprint template.
        let template = [b"FMR\0 20\0".as_slice(), &template].concat();
        let base64 = base64::engine::general_purpose::STANDARD.encode(&template);
        let secrets = format!(
            r#""pin_code":"{pin}","pic":"data:image/png;base64,{base64}","tpl":{{"finger":"{base64}","n":[1,"{base64}"]}}"#
        );
        for (protocol, text) in [
            (Protocol::MqttFace, format!(r#"{{"operator":"RecPush","info":{{"RecordID":1,{secrets},"time":"x"}}}}"#)),
            (Protocol::MqttFace, format!(r#"{{"operator":"Odd","info":{{{secrets}}}}}"#)),
            (Protocol::MqttJson, format!(r#"{{"pin":"7","ts":"1",{secrets}}}"#)),
            (Protocol::MqttJson, format!(r#"[{{{secrets}}},7]"#)),
            (Protocol::SerialLines, format!("7,8,9,I,pin={pin}\n{base64}\r\n,,,,{base64},pass: {pin}\n")),
            (Protocol::Rdm6300, format!("\x0201{base64}\x03pin={pin}\r\n\x02{base64}")),
        ] {
            let mut bytes = text.into_bytes();
            if cut {
                bytes.truncate(bend % bytes.len());
            } else if let Some(byte) = bytes.get_mut(bend) {
                *byte = 0xFF;
            }
            let mut decoder = config(protocol).build();
            decoder.trace();
            let shown = format!("{:?}", steps(&mut *decoder, protocol, &bytes, 0));
            prop_assert!(!leaks(&shown, &base64), "{:?}: {}", protocol, shown);
            prop_assert!(!leaks(&shown, &pin), "{:?}: {}", protocol, shown);
        }
    }
}

fn portero(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portero"))
        .args(arguments)
        .env_remove("PORTERO_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A command that refuses its arguments closes its input unread.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("the binary ends")
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[test]
fn the_command_prints_the_event_of_the_captured_reader_frame() {
    let hex = b"02 30 31 30 30 30 37 33 34 45 30 44 32 03\n";
    let output = portero(&["decode", "--protocol", "rdm6300", "--hex", "--site", "obra-norte"], hex);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let [event] = lines(&output).try_into().expect("one event");
    assert_eq!(event["credential"]["bits"], "01000734E0");
    assert_eq!(event["kind"], "credential_read");
    assert!(event.get("event_id").is_none() && event.get("received_time").is_some(), "{event}");
}

#[test]
fn the_command_prints_the_event_of_the_captured_face_record() {
    let capture = include_bytes!("fixtures/mqtt-face/captured.txt");
    let output = portero(&["decode", "--protocol", "mqtt-face", "--zone", "America/Santiago"], capture);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let [event] = lines(&output).try_into().expect("one event");
    assert_eq!(event["person"]["terminal_person_id"], "3");
    assert_eq!(event["device_time_local"], "2026-04-10T10:00:07");
    assert!(event.get("event_id").is_none() && event.get("site_id").is_none(), "{event}");
    let output = portero(&["decode", "--protocol", "mqtt-face", "--site", "obra-norte"], capture);
    // The same vector as that of `event::identity`: site, device, record and time make the id.
    assert_eq!(lines(&output)[0]["event_id"], "019d76d5-a858-8bfe-8cbb-d234d0ffb328");
}

#[test]
fn frames_are_shown_good_and_bad_and_faults_make_the_exit_code_one() {
    let bytes = [b"\x0201000734E0D2\x03".as_slice(), b"\x0201000734E0D3\x03", b"\x0201000734E0D2\x03"].concat();
    let output = portero(&["decode", "--protocol", "rdm6300", "--frames"], &bytes);
    assert_eq!(output.status.code(), Some(1));
    let frames = lines(&output);
    let valid: Vec<_> = frames.iter().map(|f| f["valid"].as_bool()).collect();
    assert_eq!(valid, [Some(true), Some(false), Some(true)]);
    assert_eq!(frames[1]["error"], "checksum is D3, expected D2");
    assert_eq!(
        (&frames[1]["offset"], &frames[1]["length"], &frames[1]["checksum"]),
        (&14.into(), &14.into(), &"D3".into())
    );
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("fault: checksum at byte 14, 14 bytes: "));
}

#[test]
fn wrong_usage_is_told_apart_from_wrong_input() {
    for (arguments, input, code) in [
        (&["--protocol", "rdm6300", "--hex"][..], &b"0g"[..], 2),
        (&["--protocol", "rdm6300", "--hex"], b"020", 2),
        (&["--protocol", "osdp"], b"", 2),
        (&["--protocol", "rdm6300", "--terminal", "gate-1"], b"", 2),
        (&[], b"", 2),
        (&["--protocol", "mqtt-json"], b"{}", 2),
        (&["--protocol", "rdm6300", "--zone", "America/Santigo"], b"", 2),
        (&["--protocol", "rdm6300", "/does/not/exist"], b"", 74),
        (&["--protocol", "rdm6300"], b"noise", 1),
        (&["--protocol", "rdm6300"], b"", 0),
        (&["--protocol", "mqtt-face"], b"\n\n", 0),
        (&["--protocol", "mqtt-face"], b"{\n", 1),
        (&["--protocol", "mqtt-json", "--frames"], b"{}", 0),
    ] {
        let output = portero(&[&["decode"], arguments].concat(), input);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    }
}
