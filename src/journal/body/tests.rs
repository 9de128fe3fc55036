//! The body format: bytes that never change, every field there and back, no panic on any bytes.

use std::sync::Arc;

use fastrand::Rng;
use jiff::civil::{Date, DateTime, Time};
use proptest::prelude::*;

use super::*;
use crate::event::{AlarmKind, ClockQuality, Methods, Score, ScoreScale, TzSource, WrittenTime};
use crate::event::{Credential, Method, Person, Place};

fn source() -> Arc<Source> {
    Arc::new(Source {
        tenant: "default".into(),
        site_id: "obra-norte".into(),
        gateway_id: "gw-1".into(),
        terminal_id: "yard".into(),
        protocol: "mqtt-json".into(),
        zone: "UTC".into(),
    })
}

fn there_and_back(event: &Event) -> Event {
    let body = encode(event, SourceId(3));
    let stored = decode(&body).unwrap();
    assert_eq!(stored.source, SourceId(3));
    let head = peek(&body).unwrap();
    assert_eq!(head.source, SourceId(3));
    assert_eq!((head.received, head.boot), (event.times.received, event.times.received_boot));
    assert_eq!(head.synchronised, event.times.synchronised);
    stored.into_event(event.id, Arc::clone(&event.source))
}

/// The yard terminal's event of the README.
fn yard() -> Event {
    let wall = jiff::civil::date(2026, 11, 24).at(0, 0, 0, 11_000_000);
    let raw = "2026-11-24T00:00:00.011Z".to_owned();
    let native_seq = "CJ9D232460003-0000000011".to_owned();
    let reading = Reading {
        identity: Identity::Record(vec![Some(raw.clone()), Some(native_seq.clone())]),
        terminal_serial: Some("CJ9D232460003".into()),
        kind: Some(Kind::AttendancePunch),
        methods: [Method::Pin].into_iter().collect(),
        person: Person { terminal_person_id: Some("087109".into()), ..Person::default() },
        credential: Credential { card_number: Some("0004812011".into()), ..Credential::default() },
        punch: Some(Punch::Out),
        door: Place { number: Some(11), label: None },
        device_time: Some(DeviceTime { raw, parsed: Some(WrittenTime { wall, offset_min: Some(0) }) }),
        native_seq: Some(native_seq),
        ..Reading::default()
    };
    let times = Times {
        event: UtcMicros(1_795_478_400_011_000),
        received: UtcMicros(1_795_478_400_055_123),
        received_boot: BootTime(86_400_000_000),
        synchronised: true,
        utc_offset_min: Some(0),
        tz_source: TzSource::InMessage,
        quality: ClockQuality::Good,
        uncertainty_ms: 0,
    };
    Event {
        id: EventId([7; 16]),
        source: source(),
        device_key: "CJ9D232460003".into(),
        reading,
        times,
        seq_epoch: 0,
        gap_before: None,
        corrects: None,
    }
}

/// These bytes stand in journals in the field. If this test fails, the format changed: make a new format byte instead.
#[test]
fn the_bytes_of_version_1_never_change() {
    let body = encode(&yard(), SourceId(3));
    assert_eq!(hex(&body), YARD);
    assert!(body.len() <= 120, "{}", body.len());
    let mut full = everything();
    full.id = EventId([7; 16]);
    assert_eq!(hex(&encode(&full, SourceId(300))), EVERYTHING);
    assert_eq!(there_and_back(&full), full);
}

const YARD: &str = "0100d815d3f50303a6dd93a4b4fc6280c0ddeec102050d434a3944323332343630303033100324403b0a000481201147060871095002580b8c0184b5b10588009f0a0000000011a1020203b000";
const EVERYTHING: &str = "0100ec6518daac02a4809fefaed9845affffffffffffffffff010702e7090562757320330c011005140218091f029921043078316624ff1f2b0a0f00abcdef2c283106656d3431303034ffffffff0f3b0300703c0041044b2d31374702174b02184d0a416e61204d75c3b16f7a5006540258ffff035d056e6f727468600065006a000000000000ec3f6c0272cdcccccccc4c42407402780f7c03812431302f30342f323032362031302e30302e30372c3132333435363738392028676174652984ffb6e5a46b88df039095069f0400a1c70400a0a10e0001000102c3b10103312c350704a90a746f7069632f70617274ac819fc1cef1c6a706b0df03b4ffffffff0fb8ffffffff0fbcffffffffffffffffff01c110abababababababababababababababab";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Every field is there.
fn everything() -> Event {
    let text = |t: &str| Some(t.to_owned());
    let wall = jiff::civil::date(2026, 4, 10).at(10, 0, 7, 123_456_789);
    let reading = Reading {
        identity: Identity::Record(vec![None, text(""), text("ñ"), text("1,5"), text("99"), text("E7")]),
        terminal_serial: text("E7"),
        channel: text("bus 3"),
        origin: Some(Origin::Replay),
        kind: Some(Kind::Alarm),
        outcome: Some(Outcome::Denied),
        denial_reason: Some(DenialReason::LivenessFailed),
        vendor_code: text("99"),
        vendor_subcode: text("0x1f"),
        methods: Methods(0xFFF),
        credential: Credential {
            bits_hex: text("0F00ABCDEF"),
            bit_length: Some(40),
            format: text("em4100"),
            facility: Some(u32::MAX),
            card_number: text("007"),
            parity_ok: Some(false),
        },
        person: Person {
            external_id: text("K-17"),
            terminal_person_id: text("17"),
            second_person_id: text("18"),
            name: text("Ana Muñoz"),
        },
        punch: Some(Punch::OtOut),
        passage: Some(Passage::Exit),
        door: Place { number: Some(u16::MAX), label: text("north") },
        reader: Place { number: Some(0), label: text("") },
        score: Some(Score { value: 0.875, scale: ScoreScale::Unit }),
        temperature_c: Some(36.6),
        mask: Some(Mask::No),
        alarm: Some((AlarmKind::ReaderMissing, true)),
        door_state: Some(DoorState::Unlocked),
        device_time: Some(DeviceTime {
            raw: "10/04/2026 10.00.07,123456789 (gate)".into(),
            parsed: Some(WrittenTime { wall, offset_min: Some(-240) }),
        }),
        native_seq: text("E7-00A1"),
        native_prev: text("E7-00A0"),
    };
    Event {
        id: EventId([9; 16]),
        source: source(),
        device_key: "topic/part".into(),
        reading,
        times: Times {
            event: UtcMicros(-1),
            received: UtcMicros(1_775_829_607_000_000),
            received_boot: BootTime(u64::MAX),
            synchronised: false,
            utc_offset_min: Some(-240),
            tz_source: TzSource::Configured,
            quality: ClockQuality::Absent,
            uncertainty_ms: u32::MAX,
        },
        seq_epoch: u32::MAX,
        gap_before: Some(u64::MAX),
        corrects: Some(EventId([0xAB; 16])),
    }
}

/// Draws an event; fields are often absent and often refer to each other.
fn draw(seed: u64) -> Event {
    let mut rng = Rng::with_seed(seed);
    let rng = &mut rng;
    let mut reading = Reading {
        terminal_serial: text(rng),
        channel: text(rng),
        origin: code(rng, Origin::ALL),
        kind: code(rng, Kind::ALL),
        outcome: code(rng, Outcome::ALL),
        denial_reason: code(rng, DenialReason::ALL),
        vendor_code: text(rng),
        vendor_subcode: text(rng),
        methods: Methods(if rng.bool() { 0 } else { rng.u16(..) }),
        credential: Credential {
            bits_hex: text(rng),
            bit_length: maybe(rng, |r| r.u16(..)),
            format: text(rng),
            facility: maybe(rng, |r| r.u32(..)),
            card_number: text(rng),
            parity_ok: maybe(rng, |r| r.bool()),
        },
        person: Person {
            external_id: text(rng),
            terminal_person_id: text(rng),
            second_person_id: text(rng),
            name: text(rng),
        },
        punch: code(rng, Punch::ALL),
        passage: code(rng, Passage::ALL),
        door: Place { number: maybe(rng, |r| r.u16(..)), label: text(rng) },
        reader: Place { number: maybe(rng, |r| r.u16(..)), label: text(rng) },
        temperature_c: maybe(rng, |r| r.f64() * 100.0),
        mask: code(rng, Mask::ALL),
        alarm: code(rng, AlarmKind::ALL).map(|kind| (kind, rng.bool())),
        door_state: code(rng, DoorState::ALL),
        device_time: maybe(rng, device_time),
        native_seq: text(rng),
        native_prev: text(rng),
        ..Reading::default()
    };
    reading.score = code(rng, ScoreScale::ALL).map(|scale| Score { value: rng.f64() * 1e9 - 5e8, scale });
    if let (Some(serial), true) = (&reading.terminal_serial, rng.bool()) {
        reading.native_seq = Some(format!("{serial}-{}", rng.u32(..)));
        reading.native_prev = Some(format!("{serial}-{:X}", rng.u32(..)));
    }
    reading.identity = match rng.u8(0..4) {
        0 => Identity::None,
        1 => Identity::Presence,
        _ => {
            let raw = reading.device_time.as_ref().map(|t| t.raw.clone());
            Identity::Record(
                (0..rng.usize(0..5))
                    .map(|_| match rng.u8(0..4) {
                        0 => raw.clone(),
                        1 => reading.native_seq.clone(),
                        2 => reading.person.terminal_person_id.clone(),
                        _ => text(rng),
                    })
                    .collect(),
            )
        }
    };
    let received = UtcMicros(if rng.u8(0..8) == 0 { rng.i64(..) } else { 1_775_829_607_000_000 + rng.i64(-1..2) });
    let mut times = Times {
        event: UtcMicros(rng.i64(..)),
        received,
        received_boot: BootTime(rng.u64(..)),
        synchronised: rng.bool(),
        utc_offset_min: maybe(rng, |r| r.i16(..)),
        tz_source: code(rng, TzSource::ALL).unwrap_or(TzSource::None),
        quality: code(rng, ClockQuality::ALL).unwrap_or(ClockQuality::Good),
        uncertainty_ms: if rng.bool() { 0 } else { rng.u32(..) },
    };
    match rng.u8(0..3) {
        0 => times.event = received,
        1 => times.event = implied_event_time(&reading, &times).unwrap_or(times.event),
        _ => {}
    }
    let source = source();
    let device_key = match rng.u8(0..3) {
        0 => reading.terminal_serial.clone().unwrap_or_default(),
        1 => source.terminal_id.clone(),
        _ => text(rng).unwrap_or_default(),
    };
    Event {
        id: EventId(rng.u128(..).to_be_bytes()),
        source,
        device_key,
        reading,
        times,
        seq_epoch: if rng.bool() { 0 } else { rng.u32(..) },
        gap_before: maybe(rng, |r| r.u64(..)),
        corrects: maybe(rng, |r| EventId(r.u128(..).to_be_bytes())),
    }
}

fn maybe<T>(rng: &mut Rng, make: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    rng.bool().then(|| make(rng))
}

fn code<T: Copy>(rng: &mut Rng, all: &[T]) -> Option<T> {
    maybe(rng, |r| all[r.usize(..all.len())])
}

fn text(rng: &mut Rng) -> Option<String> {
    maybe(rng, |r| {
        let symbols: Vec<char> = match r.u8(0..3) {
            0 => "0123456789".chars().collect(),
            1 => "0123456789ABCDEF".chars().collect(),
            _ => "aZ9-ñ漢 \u{0}/\"".chars().collect(),
        };
        (0..r.usize(0..40)).map(|_| symbols[r.usize(..symbols.len())]).collect()
    })
}

fn device_time(rng: &mut Rng) -> DeviceTime {
    let (date, time) = if rng.bool() {
        (jiff::civil::date(2026, 4, 10), jiff::civil::time(rng.i8(0..24), rng.i8(0..60), rng.i8(0..60), 0))
    } else {
        let days = rng.i32(-4_000_000..2_900_000);
        let date = jiff::civil::date(1970, 1, 1).checked_add(jiff::SignedDuration::from_hours(i64::from(days) * 24));
        let nanos = [0, 1, 999, 1_000, 11_000_000, 123_456_000, 999_999_999][rng.usize(..7)];
        (date.unwrap_or(Date::MIN), Time::MIN.with().subsec_nanosecond(nanos).build().unwrap())
    };
    let wall = DateTime::from_parts(date, time);
    let parsed =
        WrittenTime { wall, offset_min: [None, Some(0), Some(-240), Some(345), Some(i16::MIN)][rng.usize(..5)] };
    let form = Form::from_code(rng.u64(1..9)).unwrap();
    match rng.u8(0..4) {
        0 => DeviceTime { raw: text(rng).unwrap_or_default(), parsed: None },
        1 => DeviceTime { raw: wall.to_string(), parsed: Some(parsed) },
        _ => DeviceTime { raw: form.write(parsed).unwrap_or_default(), parsed: Some(parsed) },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_event_comes_back_as_it_was(seed in any::<u64>()) {
        let event = draw(seed);
        prop_assert_eq!(there_and_back(&event), event);
    }

    #[test]
    fn damaged_bytes_never_panic_and_are_always_noticed(seed in any::<u64>(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let body = encode(&draw(seed), SourceId(3));
        let mut flipped = body.clone();
        flipped[at.index(body.len())] ^= 1u8 << bit;
        prop_assert!(decode(&flipped).is_err());
        prop_assert!(decode(&body[..at.index(body.len())]).is_err());
        let _ = peek(&flipped);
    }

    /// With a checksum that fits, any payload at all.
    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), HEADER..200)) {
        bytes[0] = FORMAT;
        bytes[1] = PLAIN;
        let crc = checksum(&bytes).to_le_bytes();
        bytes[2..HEADER].copy_from_slice(&crc);
        if let Ok(stored) = decode(&bytes) {
            let _ = stored.into_event(EventId([0; 16]), source());
        }
        let _ = peek(&bytes);
    }
}

#[test]
fn a_field_of_a_newer_release_is_skipped() {
    let mut body = encode(&yard(), SourceId(3));
    body.extend_from_slice(&[63 << 2 | 1, 2, 0xAA, 0xBB]);
    let crc = checksum(&body).to_le_bytes();
    body[2..HEADER].copy_from_slice(&crc);
    let event = decode(&body).unwrap().into_event(EventId([7; 16]), source());
    assert_eq!(event, yard());
}

#[test]
fn usual_times_are_stored_without_their_text() {
    for (form, raw) in [
        (Form::IsoMillisZ, "2026-11-24T00:00:00.011Z"),
        (Form::SpaceLocal, "2026-04-10 10:00:07"),
        (Form::IsoZ, "2026-04-10T10:00:07Z"),
        (Form::IsoLocal, "2026-04-10T10:00:07"),
        (Form::EpochSeconds, "1775815207"),
        (Form::EpochMillis, "1775815207011"),
        (Form::IsoMicrosZ, "2026-11-24T00:00:00.011002Z"),
        (Form::IsoOffset, "2026-04-10T10:00:07-04:00"),
    ] {
        let (text, offset_min) = match raw.strip_suffix('Z') {
            Some(text) => (text.to_owned(), Some(0)),
            None if raw.ends_with("-04:00") => (raw[..19].to_owned(), Some(-240)),
            None => (raw.replace(' ', "T"), None),
        };
        let time = match raw.parse::<i64>() {
            Ok(number) => {
                let micros = if raw.len() == 10 { number * 1_000_000 } else { number * 1_000 };
                WrittenTime { wall: device_time::from_micros(micros, 0).unwrap(), offset_min: Some(0) }
            }
            Err(_) => WrittenTime { wall: text.parse().unwrap(), offset_min },
        };
        assert_eq!(Form::of(raw, time), Some(form), "{raw}");
        assert_eq!(form.write(time).as_deref(), Some(raw));
    }
}
