//! An event as a compact, versioned row body, and back.
//!
//! ```text
//! format (1) | key id (0 = not encrypted) | CRC-32/ISCSI of all other bytes, little-endian | payload
//! payload: source, flags, received, received_boot, then tagged fields
//! ```
//!
//! What follows from another field is stored as a reference to it: the device key that is the serial, the identity that
//! is device time and native sequence, the text of a time in a usual form ([`device_time`]).
//!
//! Must not: panic on any bytes, depend on `Serialize`, or change what a written byte means. Fields may be added under
//! new numbers (an older reader skips them); anything else needs a new format byte and a higher `min_reader`.

mod device_time;

mod parts;

#[cfg(test)]
mod tests;

mod wire;

use std::sync::Arc;

use crc::{CRC_32_ISCSI, Crc, Table};
use device_time::Form;
use parts::Parts;
pub(super) use wire::Damaged;
use wire::{Cursor, Fields, is_symbol, put_varint, unzigzag, zigzag};

use super::types::SourceId;
use crate::event::{
    BootTime, DenialReason, DeviceTime, DoorState, Event, EventId, Identity, Kind, Mask, Origin, Outcome, Passage,
    Punch, Reading, Source, Times, UtcMicros,
};

/// The body format written by this release.
const FORMAT: u8 = 1;

/// The key id of a body that is not encrypted.
const PLAIN: u8 = 0;

/// Format, key id, CRC.
const HEADER: usize = 6;

/// 2020-01-01T00:00:00Z in microseconds: received times are stored relative to it, which saves a byte until 2055.
const EPOCH: i64 = 1_577_836_800_000_000;

static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Bit 0 of the flags: the clock was synchronised; bits 1–2 zone source, 3–5 quality, 6–7 how the event time is told.
const SYNCHRONISED: u8 = 1;
const EVENT_IS_DEVICE_TIME: u8 = 0;
const EVENT_IS_RECEIVED: u8 = 1;
const EVENT_IS_STORED: u8 = 2;

/// Field numbers of the payload. At most 63; never reused.
mod field {
    pub(super) const TERMINAL_SERIAL: u8 = 1;
    pub(super) const CHANNEL: u8 = 2;
    pub(super) const ORIGIN: u8 = 3;
    pub(super) const KIND: u8 = 4;
    pub(super) const OUTCOME: u8 = 5;
    pub(super) const DENIAL_REASON: u8 = 6;
    pub(super) const VENDOR_CODE: u8 = 7;
    pub(super) const VENDOR_SUBCODE: u8 = 8;
    pub(super) const METHODS: u8 = 9;
    pub(super) const BITS_HEX: u8 = 10;
    pub(super) const BIT_LENGTH: u8 = 11;
    pub(super) const FORMAT: u8 = 12;
    pub(super) const FACILITY: u8 = 13;
    pub(super) const CARD_NUMBER: u8 = 14;
    pub(super) const PARITY_OK: u8 = 15;
    pub(super) const EXTERNAL_ID: u8 = 16;
    pub(super) const TERMINAL_PERSON_ID: u8 = 17;
    pub(super) const SECOND_PERSON_ID: u8 = 18;
    pub(super) const NAME: u8 = 19;
    pub(super) const PUNCH: u8 = 20;
    pub(super) const PASSAGE: u8 = 21;
    pub(super) const DOOR_NUMBER: u8 = 22;
    pub(super) const DOOR_LABEL: u8 = 23;
    pub(super) const READER_NUMBER: u8 = 24;
    pub(super) const READER_LABEL: u8 = 25;
    pub(super) const SCORE: u8 = 26;
    pub(super) const SCORE_SCALE: u8 = 27;
    pub(super) const TEMPERATURE: u8 = 28;
    pub(super) const MASK: u8 = 29;
    /// Twice the alarm's code, plus one if it is active.
    pub(super) const ALARM: u8 = 30;
    pub(super) const DOOR_STATE: u8 = 31;
    pub(super) const TIME_RAW: u8 = 32;
    /// Zigzag of the wall time in microseconds, relative to the received time.
    pub(super) const TIME_WALL: u8 = 33;
    pub(super) const TIME_OFFSET: u8 = 34;
    pub(super) const TIME_FORM: u8 = 35;
    /// Nanoseconds below the microsecond.
    pub(super) const TIME_NANOS: u8 = 36;
    pub(super) const NATIVE_SEQ: u8 = 37;
    pub(super) const NATIVE_PREV: u8 = 38;
    /// The native sequence is the serial, a hyphen and this.
    pub(super) const NATIVE_SEQ_TAIL: u8 = 39;
    /// One code byte per identity field; [`super::IDENTITY_TEXT`] is followed by a length and the text.
    pub(super) const IDENTITY: u8 = 40;
    pub(super) const PRESENCE: u8 = 41;
    /// Absent: the serial. A number: the terminal's name. Else the text.
    pub(super) const DEVICE_KEY: u8 = 42;
    pub(super) const EVENT_TIME: u8 = 43;
    pub(super) const UTC_OFFSET: u8 = 44;
    pub(super) const UNCERTAINTY: u8 = 45;
    pub(super) const SEQ_EPOCH: u8 = 46;
    pub(super) const GAP_BEFORE: u8 = 47;
    pub(super) const CORRECTS: u8 = 48;
    /// The native sequence before is the serial, a hyphen and this.
    pub(super) const NATIVE_PREV_TAIL: u8 = 49;
}

const IDENTITY_ABSENT: u8 = 0;
const IDENTITY_TEXT: u8 = 1;

/// What an identity field may refer to; the code is the index plus two.
const fn identity_sources(reading: &Reading) -> [Option<&String>; 6] {
    [
        match &reading.device_time {
            Some(time) => Some(&time.raw),
            None => None,
        },
        reading.native_seq.as_ref(),
        reading.terminal_serial.as_ref(),
        reading.person.terminal_person_id.as_ref(),
        reading.credential.card_number.as_ref(),
        reading.vendor_code.as_ref(),
    ]
}

/// Encodes an event.
pub(super) fn encode(event: &Event, source: SourceId) -> Vec<u8> {
    let (reading, times) = (&event.reading, &event.times);
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&[FORMAT, PLAIN, 0, 0, 0, 0]);
    put_varint(&mut out, u64::from(source.0));
    let told = if implied_event_time(reading, times) == Some(times.event) {
        EVENT_IS_DEVICE_TIME
    } else if times.event == times.received {
        EVENT_IS_RECEIVED
    } else {
        EVENT_IS_STORED
    };
    out.push(
        (u8::from(times.synchronised) * SYNCHRONISED)
            | (times.tz_source.code() << 1)
            | (times.quality.code() << 3)
            | (told << 6),
    );
    put_varint(&mut out, zigzag(times.received.0.wrapping_sub(EPOCH)));
    put_varint(&mut out, times.received_boot.0);
    let mut fields = Fields(&mut out);
    write_reading(&mut fields, reading, times.received);
    write_identity(&mut fields, reading);
    if reading.terminal_serial.as_ref() != Some(&event.device_key) {
        if event.device_key == event.source.terminal_id {
            fields.int(field::DEVICE_KEY, 1);
        } else {
            fields.text(field::DEVICE_KEY, &event.device_key);
        }
    }
    if told == EVENT_IS_STORED {
        fields.int(field::EVENT_TIME, zigzag(times.event.0.wrapping_sub(times.received.0)));
    }
    fields.maybe_int(field::UTC_OFFSET, times.utc_offset_min.map(|m| zigzag(i64::from(m))));
    fields.maybe_int(field::UNCERTAINTY, Some(u64::from(times.uncertainty_ms)).filter(|ms| *ms > 0));
    fields.maybe_int(field::SEQ_EPOCH, Some(u64::from(event.seq_epoch)).filter(|epoch| *epoch > 0));
    fields.maybe_int(field::GAP_BEFORE, event.gap_before);
    if let Some(id) = event.corrects {
        fields.bytes(field::CORRECTS, &id.0);
    }
    let crc = checksum(&out).to_le_bytes();
    out[2..HEADER].copy_from_slice(&crc);
    out
}

/// The device's wall time less the offset that was applied to it: usually the event time.
fn implied_event_time(reading: &Reading, times: &Times) -> Option<UtcMicros> {
    let written = reading.device_time.as_ref()?.parsed?;
    let offset = i64::from(times.utc_offset_min?) * 60_000_000;
    Some(UtcMicros(device_time::to_micros(written.wall).0.checked_sub(offset)?))
}

fn checksum(body: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&body[..2]);
    digest.update(&body[HEADER..]);
    digest.finalize()
}

fn write_reading(fields: &mut Fields<'_>, r: &Reading, received: UtcMicros) {
    let word = |code: Option<u8>| code.map(u64::from);
    fields.maybe_text(field::TERMINAL_SERIAL, r.terminal_serial.as_deref());
    fields.maybe_text(field::CHANNEL, r.channel.as_deref());
    fields.maybe_int(field::ORIGIN, word(r.origin.map(Origin::code)));
    fields.maybe_int(field::KIND, word(r.kind.map(Kind::code)));
    fields.maybe_int(field::OUTCOME, word(r.outcome.map(Outcome::code)));
    fields.maybe_int(field::DENIAL_REASON, word(r.denial_reason.map(DenialReason::code)));
    fields.maybe_text(field::VENDOR_CODE, r.vendor_code.as_deref());
    fields.maybe_text(field::VENDOR_SUBCODE, r.vendor_subcode.as_deref());
    fields.maybe_int(field::METHODS, Some(u64::from(r.methods.0)).filter(|m| *m > 0));
    let c = &r.credential;
    fields.maybe_text(field::BITS_HEX, c.bits_hex.as_deref());
    fields.maybe_int(field::BIT_LENGTH, c.bit_length.map(u64::from));
    fields.maybe_text(field::FORMAT, c.format.as_deref());
    fields.maybe_int(field::FACILITY, c.facility.map(u64::from));
    fields.maybe_text(field::CARD_NUMBER, c.card_number.as_deref());
    fields.maybe_int(field::PARITY_OK, c.parity_ok.map(u64::from));
    fields.maybe_text(field::EXTERNAL_ID, r.person.external_id.as_deref());
    fields.maybe_text(field::TERMINAL_PERSON_ID, r.person.terminal_person_id.as_deref());
    fields.maybe_text(field::SECOND_PERSON_ID, r.person.second_person_id.as_deref());
    fields.maybe_text(field::NAME, r.person.name.as_deref());
    fields.maybe_int(field::PUNCH, word(r.punch.map(Punch::code)));
    fields.maybe_int(field::PASSAGE, word(r.passage.map(Passage::code)));
    fields.maybe_int(field::DOOR_NUMBER, r.door.number.map(u64::from));
    fields.maybe_text(field::DOOR_LABEL, r.door.label.as_deref());
    fields.maybe_int(field::READER_NUMBER, r.reader.number.map(u64::from));
    fields.maybe_text(field::READER_LABEL, r.reader.label.as_deref());
    if let Some(score) = r.score {
        fields.float(field::SCORE, score.value);
        fields.int(field::SCORE_SCALE, u64::from(score.scale.code()));
    }
    if let Some(temperature) = r.temperature_c {
        fields.float(field::TEMPERATURE, temperature);
    }
    fields.maybe_int(field::MASK, word(r.mask.map(Mask::code)));
    fields.maybe_int(field::ALARM, r.alarm.map(|(kind, active)| u64::from(kind.code()) << 1 | u64::from(active)));
    fields.maybe_int(field::DOOR_STATE, word(r.door_state.map(DoorState::code)));
    if let Some(time) = &r.device_time {
        write_device_time(fields, time, received);
    }
    let serial = r.terminal_serial.as_deref();
    write_sequence(fields, serial, r.native_seq.as_deref(), field::NATIVE_SEQ, field::NATIVE_SEQ_TAIL);
    write_sequence(fields, serial, r.native_prev.as_deref(), field::NATIVE_PREV, field::NATIVE_PREV_TAIL);
}

fn write_device_time(fields: &mut Fields<'_>, time: &DeviceTime, received: UtcMicros) {
    match time.parsed.and_then(|parsed| Form::of(&time.raw, parsed)) {
        Some(form) => fields.int(field::TIME_FORM, form as u64),
        None => fields.text(field::TIME_RAW, &time.raw),
    }
    if let Some(parsed) = time.parsed {
        let (micros, nanos) = device_time::to_micros(parsed.wall);
        fields.int(field::TIME_WALL, zigzag(micros.wrapping_sub(received.0)));
        fields.maybe_int(field::TIME_OFFSET, parsed.offset_min.map(|m| zigzag(i64::from(m))));
        fields.maybe_int(field::TIME_NANOS, Some(u64::from(nanos)).filter(|n| *n > 0));
    }
}

fn write_sequence(fields: &mut Fields<'_>, serial: Option<&str>, value: Option<&str>, whole: u8, tail: u8) {
    let Some(value) = value else { return };
    let rest = serial.and_then(|s| value.strip_prefix(s)).and_then(|rest| rest.strip_prefix('-'));
    match rest {
        Some(rest) if !rest.is_empty() && rest.bytes().all(is_symbol) => fields.nibbles(tail, rest),
        _ => fields.text(whole, value),
    }
}

fn write_identity(fields: &mut Fields<'_>, reading: &Reading) {
    match &reading.identity {
        Identity::None => {}
        Identity::Presence => fields.int(field::PRESENCE, 1),
        Identity::Record(values) => {
            let sources = identity_sources(reading);
            let mut codes = Vec::with_capacity(8);
            for value in values {
                let Some(value) = value else {
                    codes.push(IDENTITY_ABSENT);
                    continue;
                };
                match sources.iter().position(|source| *source == Some(value)) {
                    // Six sources: the code is at most 7.
                    Some(index) => codes.push(index as u8 + 2),
                    None => {
                        codes.push(IDENTITY_TEXT);
                        put_varint(&mut codes, value.len() as u64);
                        codes.extend_from_slice(value.as_bytes());
                    }
                }
            }
            fields.bytes(field::IDENTITY, &codes);
        }
    }
}

/// A decoded body: everything but the id, which stands in the row, and the source, which is interned.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) source: SourceId,
    pub(super) reading: Reading,
    pub(super) times: Times,
    device_key: DeviceKey,
    seq_epoch: u32,
    gap_before: Option<u64>,
    corrects: Option<EventId>,
}

#[derive(Debug)]
enum DeviceKey {
    Serial,
    Terminal,
    Text(String),
}

impl Stored {
    pub(super) fn into_event(self, id: EventId, source: Arc<Source>) -> Event {
        let device_key = match self.device_key {
            DeviceKey::Serial => self.reading.terminal_serial.clone().unwrap_or_default(),
            DeviceKey::Terminal => source.terminal_id.clone(),
            DeviceKey::Text(text) => text,
        };
        Event {
            id,
            source,
            device_key,
            reading: self.reading,
            times: self.times,
            seq_epoch: self.seq_epoch,
            gap_before: self.gap_before,
            corrects: self.corrects,
        }
    }
}

/// The head of a body: enough for retention and the clock, without decoding the rest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) source: SourceId,
    pub(super) synchronised: bool,
    pub(super) received: UtcMicros,
    pub(super) boot: BootTime,
}

/// Reads only the head of a body; its checksum is not looked at.
pub(super) fn peek(body: &[u8]) -> Result<Head, Damaged> {
    let mut cursor = Cursor(payload(body)?);
    read_head(&mut cursor).map(|(head, _)| head)
}

/// Whether format and checksum hold.
pub(super) fn check(body: &[u8]) -> Result<(), Damaged> {
    payload(body)?;
    let stored = [body[2], body[3], body[4], body[5]];
    if checksum(body).to_le_bytes() != stored {
        return Err(Damaged("the checksum does not fit"));
    }
    Ok(())
}

fn payload(body: &[u8]) -> Result<&[u8], Damaged> {
    match body {
        [FORMAT, PLAIN, _, _, _, _, rest @ ..] => Ok(rest),
        [FORMAT, _, ..] => Err(Damaged("it is encrypted, or its head is torn")),
        _ => Err(Damaged("its format is unknown")),
    }
}

fn read_head(cursor: &mut Cursor<'_>) -> Result<(Head, u8), Damaged> {
    let source = SourceId(u32::try_from(cursor.varint()?).map_err(|_| Damaged("a source is too large"))?);
    let flags = cursor.byte()?;
    let received = UtcMicros(unzigzag(cursor.varint()?).wrapping_add(EPOCH));
    let boot = BootTime(cursor.varint()?);
    Ok((Head { source, synchronised: flags & SYNCHRONISED != 0, received, boot }, flags))
}

/// Decodes a body, checksum first.
pub(super) fn decode(body: &[u8]) -> Result<Stored, Damaged> {
    check(body)?;
    let mut cursor = Cursor(payload(body)?);
    let (head, flags) = read_head(&mut cursor)?;
    let mut parts = Parts::default();
    while !cursor.is_empty() {
        let (number, value) = cursor.field()?;
        if !parts.put(number, value)? {
            parts.put_reading(number, value)?;
        }
    }
    parts.finish(head, flags)
}
