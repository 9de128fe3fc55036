//! Events as terminals might send them, for what the journal has not seen yet: every kind, every punch, every word of
//! every list, once with all fields and once with few.
//!
//! Must not: be delivered anywhere, or hold what no terminal would send: a contract is checked with what is plausible.

use std::sync::Arc;

use crate::clock::Now;
use crate::event::{
    AlarmKind, ClockQuality, Credential, DenialReason, DoorState, Event, EventId, Identity, Kind, Mask, Method, Origin,
    Outcome, Passage, Person, Place, Punch, Reading, Score, ScoreScale, Source, Times, TzSource, UtcMicros,
};
use crate::journal::{Record, Seq};

/// First sequence number of a generated event; no journal gets there.
pub const FIRST: u64 = 1 << 62;

/// Events of these places, one place after the other, the last of them now.
pub fn events(sources: &[Arc<Source>], now: Now) -> Vec<Record> {
    let punches = || [None].into_iter().chain(Punch::ALL.iter().copied().map(Some));
    // Every punch where punches are meant; elsewhere both ways round is enough.
    let of_kind = |kind: &Kind| -> Vec<Option<Punch>> {
        match kind {
            Kind::AttendancePunch | Kind::AccessDecision => punches().collect(),
            _ => vec![None, Some(Punch::In)],
        }
    };
    let pairs: Vec<(Kind, Option<Punch>)> =
        Kind::ALL.iter().flat_map(|kind| of_kind(kind).into_iter().map(|punch| (*kind, punch))).collect();
    let Some(count) = i64::try_from(pairs.len() * 2).ok().filter(|_| !sources.is_empty()) else { return Vec::new() };
    let mut records = Vec::with_capacity(pairs.len() * 2);
    for rich in [true, false] {
        for (kind, punch) in &pairs {
            let n = records.len();
            let source = Arc::clone(&sources[n % sources.len()]);
            // A minute and some apart, so that seconds, minutes and fractions vary.
            let back = (count - i64::try_from(n).unwrap_or(0)) * 67_890_123;
            let mut event = plain(source, now, back, n);
            event.reading.kind = Some(*kind);
            event.reading.punch = *punch;
            event.reading.outcome = Some(if rich { turn(Outcome::ALL, n) } else { Outcome::Granted });
            if rich {
                all_fields(&mut event, n);
            }
            records.push(Record { seq: Seq(FIRST + n as u64), event, provisional: false, again: None });
        }
    }
    records
}

fn turn<T: Copy>(all: &[T], n: usize) -> T {
    all[n % all.len()]
}

fn plain(source: Arc<Source>, now: Now, back_micros: i64, n: usize) -> Event {
    let mut id = [0x5a; 16];
    id[..8].copy_from_slice(&(n as u64).to_be_bytes());
    let at = UtcMicros(now.wall.0.saturating_sub(back_micros));
    Event {
        id: EventId(id),
        device_key: source.terminal_id.clone(),
        source,
        reading: Reading {
            identity: Identity::Record(Vec::new()),
            terminal_serial: Some("CJ9D232460003".to_owned()),
            person: Person { terminal_person_id: Some((1001 + n % 7).to_string()), ..Person::default() },
            methods: [turn(Method::ALL, n)].into_iter().collect(),
            ..Reading::default()
        },
        times: Times {
            event: at,
            received: UtcMicros(at.0.saturating_add(44_123)),
            received_boot: now.boot,
            synchronised: true,
            utc_offset_min: None,
            tz_source: TzSource::Configured,
            quality: ClockQuality::Good,
            uncertainty_ms: 0,
        },
        seq_epoch: 0,
        gap_before: None,
        corrects: None,
    }
}

fn all_fields(event: &mut Event, n: usize) {
    let number = u16::try_from(n % 4 + 1).unwrap_or(1);
    let place = |what: &str| Place { number: Some(number), label: Some(format!("{what} {number}")) };
    let reading = &mut event.reading;
    reading.channel = Some(number.to_string());
    reading.origin = Some(turn(Origin::ALL, n));
    reading.denial_reason = Some(turn(DenialReason::ALL, n));
    reading.vendor_code = Some("1".to_owned());
    reading.vendor_subcode = Some("75".to_owned());
    reading.credential = Credential {
        bits_hex: Some("9A3C2080".to_owned()),
        bit_length: Some(26),
        format: Some("h10301".to_owned()),
        facility: Some(105),
        card_number: Some("0012345678".to_owned()),
        parity_ok: Some(true),
    };
    reading.person.external_id = Some((1001 + n % 7).to_string());
    reading.person.second_person_id = Some("2001".to_owned());
    reading.person.name = Some("María Núñez".to_owned());
    reading.passage = Some(turn(Passage::ALL, n));
    (reading.door, reading.reader) = (place("Door"), place("Reader"));
    reading.score = Some(Score { value: 97.5, scale: turn(ScoreScale::ALL, n) });
    reading.temperature_c = Some(36.6);
    reading.mask = Some(turn(Mask::ALL, n));
    reading.alarm = Some((turn(AlarmKind::ALL, n), n.is_multiple_of(2)));
    reading.door_state = Some(turn(DoorState::ALL, n));
    reading.native_seq = Some((4000 + n).to_string());
    reading.native_prev = Some((3999 + n).to_string());
    event.times.utc_offset_min = Some(-240);
    event.times.quality = turn(ClockQuality::ALL, n);
}
