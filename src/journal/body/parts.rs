//! The fields of a body as they come, and the event that they make once all of them are there.
//!
//! Must not: know the header of a body, or take the order of fields for granted.

use super::device_time::{self, Form};
use super::wire::{self, Cursor, Damaged, Value, unzigzag};
use super::{
    DeviceKey, EVENT_IS_DEVICE_TIME, EVENT_IS_RECEIVED, Head, IDENTITY_ABSENT, IDENTITY_TEXT, Stored, field,
    identity_sources, implied_event_time,
};
use crate::event::{
    AlarmKind, ClockQuality, DenialReason, DeviceTime, DoorState, EventId, Identity, Kind, Mask, Methods, Origin,
    Outcome, Passage, Punch, Reading, Score, ScoreScale, Times, TzSource, UtcMicros, WrittenTime,
};

/// Fields that need others before they mean something.
#[derive(Default)]
pub(super) struct Parts<'a> {
    reading: Reading,
    raw: Option<String>,
    form: Option<Form>,
    wall: Option<i64>,
    offset: Option<i16>,
    nanos: u16,
    identity: Option<&'a [u8]>,
    score: Option<f64>,
    scale: Option<ScoreScale>,
    native_seq_tail: Option<String>,
    native_prev_tail: Option<String>,
    device_key: Option<DeviceKey>,
    event_time: Option<i64>,
    utc_offset: Option<i16>,
    uncertainty: u32,
    seq_epoch: u32,
    gap_before: Option<u64>,
    corrects: Option<EventId>,
}

fn minutes(value: Value<'_>) -> Result<i16, Damaged> {
    i16::try_from(unzigzag(value.int()?)).map_err(|_| Damaged("an offset is too large"))
}

impl<'a> Parts<'a> {
    /// Takes a field that is not simply a field of the reading; answers whether it was one.
    pub(super) fn put(&mut self, number: u8, value: Value<'a>) -> Result<bool, Damaged> {
        match number {
            field::SCORE => self.score = Some(value.float()?),
            field::SCORE_SCALE => self.scale = ScoreScale::from_code(value.small()?),
            field::TIME_RAW => self.raw = Some(value.text()?),
            field::TIME_WALL => self.wall = Some(unzigzag(value.int()?)),
            field::TIME_OFFSET => self.offset = Some(minutes(value)?),
            field::TIME_FORM => {
                self.form = Some(Form::from_code(value.int()?).ok_or(Damaged("a form of time is unknown"))?);
            }
            field::TIME_NANOS => self.nanos = value.small()?,
            field::NATIVE_SEQ_TAIL => self.native_seq_tail = Some(value.text()?),
            field::NATIVE_PREV_TAIL => self.native_prev_tail = Some(value.text()?),
            field::IDENTITY => self.identity = Some(value.bytes()?),
            field::PRESENCE => self.reading.identity = Identity::Presence,
            field::DEVICE_KEY => {
                self.device_key = Some(match value {
                    Value::Int(_) => DeviceKey::Terminal,
                    _ => DeviceKey::Text(value.text()?),
                });
            }
            field::EVENT_TIME => self.event_time = Some(unzigzag(value.int()?)),
            field::UTC_OFFSET => self.utc_offset = Some(minutes(value)?),
            field::UNCERTAINTY => self.uncertainty = value.small()?,
            field::SEQ_EPOCH => self.seq_epoch = value.small()?,
            field::GAP_BEFORE => self.gap_before = Some(value.int()?),
            field::CORRECTS => {
                let bytes = value.bytes()?.try_into().map_err(|_| Damaged("an id has the wrong length"))?;
                self.corrects = Some(EventId(bytes));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes a plain field of the reading. A field of a newer release is skipped; so is a word of a newer vocabulary.
    pub(super) fn put_reading(&mut self, number: u8, value: Value<'a>) -> Result<(), Damaged> {
        let r = &mut self.reading;
        match number {
            field::TERMINAL_SERIAL => r.terminal_serial = Some(value.text()?),
            field::CHANNEL => r.channel = Some(value.text()?),
            field::ORIGIN => r.origin = Origin::from_code(value.small()?),
            field::KIND => r.kind = Kind::from_code(value.small()?),
            field::OUTCOME => r.outcome = Outcome::from_code(value.small()?),
            field::DENIAL_REASON => r.denial_reason = DenialReason::from_code(value.small()?),
            field::VENDOR_CODE => r.vendor_code = Some(value.text()?),
            field::VENDOR_SUBCODE => r.vendor_subcode = Some(value.text()?),
            field::METHODS => r.methods = Methods(value.small()?),
            field::BITS_HEX => r.credential.bits_hex = Some(value.text()?),
            field::BIT_LENGTH => r.credential.bit_length = Some(value.small()?),
            field::FORMAT => r.credential.format = Some(value.text()?),
            field::FACILITY => r.credential.facility = Some(value.small()?),
            field::CARD_NUMBER => r.credential.card_number = Some(value.text()?),
            field::PARITY_OK => r.credential.parity_ok = Some(value.int()? != 0),
            field::EXTERNAL_ID => r.person.external_id = Some(value.text()?),
            field::TERMINAL_PERSON_ID => r.person.terminal_person_id = Some(value.text()?),
            field::SECOND_PERSON_ID => r.person.second_person_id = Some(value.text()?),
            field::NAME => r.person.name = Some(value.text()?),
            field::PUNCH => r.punch = Punch::from_code(value.small()?),
            field::PASSAGE => r.passage = Passage::from_code(value.small()?),
            field::DOOR_NUMBER => r.door.number = Some(value.small()?),
            field::DOOR_LABEL => r.door.label = Some(value.text()?),
            field::READER_NUMBER => r.reader.number = Some(value.small()?),
            field::READER_LABEL => r.reader.label = Some(value.text()?),
            field::TEMPERATURE => r.temperature_c = Some(value.float()?),
            field::MASK => r.mask = Mask::from_code(value.small()?),
            field::ALARM => {
                let code: u8 = value.small()?;
                r.alarm = AlarmKind::from_code(code >> 1).map(|kind| (kind, code & 1 != 0));
            }
            field::DOOR_STATE => r.door_state = DoorState::from_code(value.small()?),
            field::NATIVE_SEQ => r.native_seq = Some(value.text()?),
            field::NATIVE_PREV => r.native_prev = Some(value.text()?),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn finish(mut self, head: Head, flags: u8) -> Result<Stored, Damaged> {
        let r = &mut self.reading;
        r.score = self.score.zip(self.scale).map(|(value, scale)| Score { value, scale });
        let tailed = |tail: Option<String>, serial: Option<&String>| match (tail, serial) {
            (Some(tail), Some(serial)) => Ok(Some(format!("{serial}-{tail}"))),
            (Some(_), None) => Err(Damaged("a sequence refers to a serial that is missing")),
            (None, _) => Ok(None),
        };
        if let Some(whole) = tailed(self.native_seq_tail, r.terminal_serial.as_ref())? {
            r.native_seq = Some(whole);
        }
        if let Some(whole) = tailed(self.native_prev_tail, r.terminal_serial.as_ref())? {
            r.native_prev = Some(whole);
        }
        let parsed = match self.wall {
            Some(wall) => {
                let wall = device_time::from_micros(wall.wrapping_add(head.received.0), self.nanos)
                    .ok_or(Damaged("a device time is out of range"))?;
                Some(WrittenTime { wall, offset_min: self.offset })
            }
            None => None,
        };
        r.device_time = match (self.raw, self.form, parsed) {
            (Some(raw), _, parsed) => Some(DeviceTime { raw, parsed }),
            (None, Some(form), Some(time)) => {
                let raw = form.write(time).ok_or(Damaged("a device time does not fit its form"))?;
                Some(DeviceTime { raw, parsed })
            }
            (None, None, None) => None,
            (None, ..) => return Err(Damaged("a device time lacks its text")),
        };
        if let Some(codes) = self.identity {
            r.identity = Identity::Record(read_identity(codes, r)?);
        }
        let mut times = Times {
            event: head.received,
            received: head.received,
            received_boot: head.boot,
            synchronised: head.synchronised,
            utc_offset_min: self.utc_offset,
            tz_source: TzSource::from_code(flags >> 1 & 3).ok_or(Damaged("a zone source is unknown"))?,
            quality: ClockQuality::from_code(flags >> 3 & 7).ok_or(Damaged("a clock quality is unknown"))?,
            uncertainty_ms: self.uncertainty,
        };
        match flags >> 6 {
            EVENT_IS_DEVICE_TIME => {
                times.event =
                    implied_event_time(&self.reading, &times).ok_or(Damaged("an event time lacks its device time"))?;
            }
            EVENT_IS_RECEIVED => {}
            _ => {
                let delta = self.event_time.ok_or(Damaged("an event time is missing"))?;
                times.event = UtcMicros(head.received.0.wrapping_add(delta));
            }
        }
        Ok(Stored {
            source: head.source,
            reading: self.reading,
            times,
            device_key: self.device_key.unwrap_or(DeviceKey::Serial),
            seq_epoch: self.seq_epoch,
            gap_before: self.gap_before,
            corrects: self.corrects,
        })
    }
}

fn read_identity(codes: &[u8], reading: &Reading) -> Result<Vec<Option<String>>, Damaged> {
    let sources = identity_sources(reading);
    let mut cursor = Cursor(codes);
    let mut values = Vec::new();
    while !cursor.is_empty() {
        values.push(match cursor.byte()? {
            IDENTITY_ABSENT => None,
            IDENTITY_TEXT => {
                let length = cursor.length()?;
                Some(wire::text(cursor.take(length)?)?)
            }
            code => {
                let source = sources.get(usize::from(code - 2)).copied().flatten();
                Some(source.ok_or(Damaged("an identity refers to a field that is missing"))?.clone())
            }
        });
    }
    Ok(values)
}
