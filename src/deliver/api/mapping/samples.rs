//! Events to map, for the tests of this folder.
//!
//! Must not: be needed outside of tests.

use std::sync::Arc;

use fastrand::Rng;

use crate::clock::Now;
use crate::event::{
    AlarmKind, BootTime, ClockQuality, Credential, DenialReason, DeviceTime, DoorState, Event, EventId, Identity, Kind,
    Mask, Method, Methods, Origin, Outcome, Passage, Person, Place, Punch, Reading, Score, ScoreScale, Source, Times,
    TzSource, UtcMicros, WrittenTime,
};
use crate::journal::{Record, Seq};

/// 2026-04-14 12:30:00.999999 UTC, which is 08:30 in Santiago.
pub(in crate::deliver::api) const TIME: UtcMicros = UtcMicros(1_776_169_800_999_999);

pub(in crate::deliver::api) fn now(seconds_later: i64) -> Now {
    Now { wall: UtcMicros(TIME.0 + seconds_later * 1_000_000), boot: BootTime(7), synchronised: true }
}

pub(in crate::deliver::api) fn record(seq: u64, event: Event) -> Record {
    Record { seq: Seq(seq), event, provisional: false, again: None }
}

/// A punch as a terminal of a yard sends it.
pub(in crate::deliver::api) fn punch(person: &str, punch: Punch) -> Event {
    let mut event = empty();
    event.reading.terminal_serial = Some("CKOU214860011".into());
    event.reading.kind = Some(Kind::AttendancePunch);
    event.reading.person.terminal_person_id = Some(person.into());
    event.reading.punch = Some(punch);
    event.reading.methods = [Method::Face, Method::Card].into_iter().collect();
    event
}

/// Nothing that an event may lack.
pub(in crate::deliver::api) fn empty() -> Event {
    Event {
        id: EventId([7; 16]),
        source: Arc::new(Source {
            tenant: "default".into(),
            site_id: "obra-norte".into(),
            gateway_id: "gw-1".into(),
            terminal_id: "yard".into(),
            protocol: "mqtt-json".into(),
            zone: "UTC".into(),
        }),
        device_key: "yard".into(),
        reading: Reading::default(),
        times: Times {
            event: TIME,
            received: UtcMicros(TIME.0 + 44_123),
            received_boot: BootTime(86_400_000_000),
            synchronised: true,
            utc_offset_min: None,
            tz_source: TzSource::None,
            quality: ClockQuality::Good,
            uncertainty_ms: 0,
        },
        seq_epoch: 0,
        gap_before: None,
        corrects: None,
    }
}

/// Any event: each field there or not, times all over and beyond the calendar, text of every kind.
pub(in crate::deliver::api) fn any(seed: u64) -> Event {
    let mut r = Rng::with_seed(seed);
    let r = &mut r;
    let mut event = empty();
    r.fill(&mut event.id.0);
    event.reading = Reading {
        identity: Identity::Record(Vec::new()),
        terminal_serial: text(r),
        channel: text(r),
        origin: word(r, Origin::ALL),
        kind: word(r, Kind::ALL),
        outcome: word(r, Outcome::ALL),
        denial_reason: word(r, DenialReason::ALL),
        vendor_code: text(r),
        vendor_subcode: text(r),
        methods: Methods(r.u16(0..4096)),
        credential: Credential {
            bits_hex: text(r),
            bit_length: r.bool().then(|| r.u16(..)),
            format: text(r),
            facility: r.bool().then(|| r.u32(..)),
            card_number: text(r),
            parity_ok: r.bool().then(|| r.bool()),
        },
        person: Person { external_id: text(r), terminal_person_id: text(r), second_person_id: text(r), name: text(r) },
        punch: word(r, Punch::ALL),
        passage: word(r, Passage::ALL),
        door: Place { number: r.bool().then(|| r.u16(..)), label: text(r) },
        reader: Place { number: r.bool().then(|| r.u16(..)), label: text(r) },
        score: word(r, ScoreScale::ALL).map(|scale| Score { value: float(r), scale }),
        temperature_c: r.bool().then(|| float(r)),
        mask: word(r, Mask::ALL),
        alarm: word(r, AlarmKind::ALL).map(|kind| (kind, r.bool())),
        door_state: word(r, DoorState::ALL),
        device_time: text(r).map(|raw| DeviceTime {
            raw,
            parsed: r
                .bool()
                .then_some(WrittenTime { wall: jiff::civil::date(2026, 4, 14).at(8, 30, 0, 5), offset_min: None }),
        }),
        native_seq: text(r),
        native_prev: text(r),
    };
    event.times.event = time(r);
    event.times.received = time(r);
    event.times.utc_offset_min = r.bool().then(|| r.i16(..));
    event.seq_epoch = if r.bool() { r.u32(..) } else { 0 };
    event.gap_before = r.bool().then(|| r.u64(..));
    event.corrects = r.bool().then_some(EventId([9; 16]));
    event
}

fn text(r: &mut Rng) -> Option<String> {
    const TEXTS: &[&str] = &[
        "",
        " ",
        "0",
        "000123",
        "12.345.678-k",
        "..",
        "a/b?c=d&e#f%",
        "\"\\\u{0}\u{1b}\n",
        "ñandú 🙂",
        "{{ site_id }}",
        "1e999",
        "-17",
        "true",
    ];
    match r.u8(0..4) {
        0 => None,
        1 => Some("x".repeat(r.usize(0..2100))),
        2 => Some((0..r.usize(0..12)).map(|_| r.char(..)).collect()),
        _ => Some(TEXTS[r.usize(0..TEXTS.len())].to_owned()),
    }
}

fn word<T: Copy>(r: &mut Rng, all: &[T]) -> Option<T> {
    r.bool().then(|| all[r.usize(0..all.len())])
}

fn float(r: &mut Rng) -> f64 {
    [36.6, 0.0, -1e-300, f64::NAN, f64::INFINITY, f64::from(r.i32(..)) / 1000.0][r.usize(0..6)]
}

fn time(r: &mut Rng) -> UtcMicros {
    match r.u8(0..4) {
        0 => UtcMicros(r.i64(..)),
        1 => UtcMicros(r.i64(-1_000_000..1_000_000)),
        _ => UtcMicros(TIME.0 + r.i64(-400_000_000_000_000..400_000_000_000_000)),
    }
}
