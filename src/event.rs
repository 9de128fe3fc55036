//! What a device said ([`Reading`]) and what we make of it ([`Event`]).
//!
//! Must not: do I/O, ask what time it is, or derive `Serialize`. The journal body, the JSON and the SQL parameters are
//! explicit conversions with fixtures, so that a refactor can't change a wire format. There is no field in which a
//! biometric template, an image or a PIN could travel (I7).

pub mod identity;

pub mod json;

pub mod vocabulary;

use std::fmt;
use std::sync::Arc;

pub use identity::{EventId, Identity};
pub use vocabulary::{
    AlarmKind, ClockQuality, DenialReason, DoorState, Kind, Mask, Method, Origin, Outcome, Passage, Punch, ScoreScale,
    TzSource,
};

/// Microseconds on `CLOCK_BOOTTIME`: monotonic, counts through suspend, starts again with each boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Microseconds from `earlier` to `self`, zero if `earlier` is later.
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// UTC microseconds since 1970-01-01 (may be negative).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct UtcMicros(pub i64);

/// A set of [`Method`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Methods(pub u16);

impl Methods {
    /// Adds one method.
    pub const fn insert(&mut self, method: Method) {
        self.0 |= 1 << method.code();
    }

    /// Whether nothing is known of the methods.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The methods in the set, in order of their codes.
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL.iter().copied().filter(move |m| self.0 & (1 << m.code()) != 0)
    }
}

impl FromIterator<Method> for Methods {
    fn from_iter<T: IntoIterator<Item = Method>>(iter: T) -> Self {
        let mut set = Self::default();
        iter.into_iter().for_each(|m| set.insert(m));
        set
    }
}

/// What was presented to a reader.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credential {
    /// The bits as read, upper-case hex, left-justified.
    pub bits_hex: Option<String>,
    /// How many of those bits count.
    pub bit_length: Option<u16>,
    /// The format that gave `facility` and `card_number`, for example `em4100` or `w26`.
    pub format: Option<String>,
    /// Facility or site code.
    pub facility: Option<u32>,
    /// The number as the terminal or the format prints it; text, since leading zeros count.
    pub card_number: Option<String>,
    /// Whether the format's parity held.
    pub parity_ok: Option<bool>,
}

/// Who, as far as the terminal knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Person {
    /// The number by which the outside world knows the person.
    pub external_id: Option<String>,
    /// The number by which the terminal knows the person.
    pub terminal_person_id: Option<String>,
    /// The second person of a two-person rule.
    pub second_person_id: Option<String>,
    /// A display name, kept only where configuration asks for it.
    pub name: Option<String>,
}

/// A door or reader: a number as on the wire, 0-based, and a label.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Number as on the wire.
    pub number: Option<u16>,
    /// Human name.
    pub label: Option<String>,
}

/// A match score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The value, in the unit of `scale`.
    pub value: f64,
    /// What the value is measured in.
    pub scale: ScoreScale,
}

/// A time as a device wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceTime {
    /// The text or number as it was written, always kept. At most 64 bytes.
    pub raw: String,
    /// What it means; `None` where it can't be understood.
    pub parsed: Option<WrittenTime>,
}

/// The meaning of a device's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenTime {
    /// The wall time as written, without applying any zone.
    pub wall: jiff::civil::DateTime,
    /// The offset from UTC in minutes that stood in the message (`Z` and epoch numbers are 0); `None` for local time
    /// without zone.
    pub offset_min: Option<i16>,
}

/// What a device said, before identity, zone and receive time are known. Made by decoders only.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// What makes this record the same record when it is heard again.
    pub identity: Identity,
    /// The device's own serial number or id, where the message carries it.
    pub terminal_serial: Option<String>,
    /// A sub-channel of the terminal (bus address, reader line).
    pub channel: Option<String>,
    /// Live, replayed from the terminal's log, or asked for.
    pub origin: Option<Origin>,
    /// What happened.
    pub kind: Option<Kind>,
    /// What the terminal decided.
    pub outcome: Option<Outcome>,
    /// Why it refused.
    pub denial_reason: Option<DenialReason>,
    /// The vendor's own code for what happened.
    pub vendor_code: Option<String>,
    /// The vendor's finer code.
    pub vendor_subcode: Option<String>,
    /// How the person was verified.
    pub methods: Methods,
    /// What was presented.
    pub credential: Credential,
    /// Who.
    pub person: Person,
    /// In or out.
    pub punch: Option<Punch>,
    /// Which way through the door.
    pub passage: Option<Passage>,
    /// Which door.
    pub door: Place,
    /// Which reader.
    pub reader: Place,
    /// How well it matched.
    pub score: Option<Score>,
    /// Body temperature, degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Mask worn.
    pub mask: Option<Mask>,
    /// Alarm condition and whether it is now active.
    pub alarm: Option<(AlarmKind, bool)>,
    /// Door state.
    pub door_state: Option<DoorState>,
    /// When, by the device's clock.
    pub device_time: Option<DeviceTime>,
    /// The terminal's own sequence number, as text.
    pub native_seq: Option<String>,
    /// The sequence number of the record before, where the terminal tells it.
    pub native_prev: Option<String>,
}

/// Where a configured terminal stands: the part of an event that repeats on every row. Interned by the journal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// `[gateway] tenant`.
    pub tenant: String,
    /// `[gateway] site`.
    pub site_id: String,
    /// `[gateway] id`.
    pub gateway_id: String,
    /// `[[terminal]] name`.
    pub terminal_id: String,
    /// Protocol name, for example `mqtt-json`.
    pub protocol: String,
    /// IANA zone that applies to the terminal's zone-less times.
    pub zone: String,
}

/// When, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// Best knowledge of when it happened.
    pub event: UtcMicros,
    /// When the gateway heard it, by its wall clock, corrected once that clock was right.
    pub received: UtcMicros,
    /// When the gateway heard it, on the boot clock.
    pub received_boot: BootTime,
    /// Whether the gateway's clock was synchronised then. If not, `received` is provisional.
    pub synchronised: bool,
    /// Offset from UTC in minutes that was applied to the device time.
    pub utc_offset_min: Option<i16>,
    /// Where the zone came from.
    pub tz_source: TzSource,
    /// How far `event` can be trusted.
    pub quality: ClockQuality,
    /// Half-width of the interval around `event`, milliseconds.
    pub uncertainty_ms: u32,
}

/// A reading with identity, zone and times: what the journal keeps and the sinks deliver.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Same record, same id (I3).
    pub id: EventId,
    /// The configured terminal.
    pub source: Arc<Source>,
    /// The key that told this device apart (serial, device id, topic text or terminal name).
    pub device_key: String,
    /// What the device said.
    pub reading: Reading,
    /// When.
    pub times: Times,
    /// Increments when the device's native sequence went backwards.
    pub seq_epoch: u32,
    /// Records missing before this one, by the native sequence.
    pub gap_before: Option<u64>,
    /// The id of the event that this record corrects (kind `correction` at the API, table `portero.correction`).
    pub corrects: Option<EventId>,
}

impl Event {
    /// Whether a person means this terminal: the configured name, the device key, or the serial number.
    pub fn is_from(&self, terminal: &str) -> bool {
        self.source.terminal_id == terminal
            || self.device_key == terminal
            || self.reading.terminal_serial.as_deref() == Some(terminal)
    }

    /// Whether a person means somebody in this event: any number by which a person is known, or the number of the card.
    pub fn is_about(&self, person: &str) -> bool {
        let who = &self.reading.person;
        let card = &self.reading.credential.card_number;
        [&who.external_id, &who.terminal_person_id, &who.second_person_id, card]
            .into_iter()
            .any(|number| number.as_deref() == Some(person))
    }
}

/// Something that could not be used: counted and journalled, goes to no sink. Scrubbed at birth (I7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What was wrong.
    pub kind: FaultKind,
    /// A sentence for a person; names no one and quotes nothing but the shape of the data.
    pub detail: String,
    /// Length of the offending input in bytes.
    pub length: u64,
    /// Byte offset in the stream where the offending input starts, where the link is a stream.
    pub offset: Option<u64>,
    /// First 16 bytes of SHA-256 of the offending input (of what was kept of it, if it was over-long).
    pub digest: [u8; 16],
    /// A scrubbed excerpt, see [`crate::decode::scrub`].
    pub excerpt: String,
}

/// The closed list of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// Bytes outside any frame.
    Noise,
    /// A frame that ended too early or was interrupted.
    Truncated,
    /// A checksum or parity that does not fit.
    Checksum,
    /// Longer than the bound.
    TooLong,
    /// Not in the encoding or syntax that was promised.
    Malformed,
    /// A field is missing or has a value outside its map.
    Field,
    /// A single frame where two equal ones are needed, or an all-zero tag.
    Ghost,
    /// A message that no configured terminal claims.
    Unclaimed,
}

impl FaultKind {
    /// The word used in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Truncated => "truncated",
            Self::Checksum => "checksum",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Field => "field",
            Self::Ghost => "ghost",
            Self::Unclaimed => "unclaimed",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
