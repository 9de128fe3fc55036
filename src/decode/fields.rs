//! Declarative fields: where in a line or a JSON document each field of a reading stands, and what its values mean.
//!
//! Must not: know a vendor, or do anything that can fail at run time: an unusable value is a fault of that one record.

mod apply;

pub(super) use apply::{MAX_TEXT, Plan, Record, number};

/// A field of a [`crate::event::Reading`] that configuration may fill (`fields.NAME`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// `person` → `person.terminal_person_id`
    Person,
    /// `external_id` → `person.external_id`
    ExternalId,
    /// `device_time` → `device_time_raw`, `device_time_local`, `event_time`
    DeviceTime,
    /// `native_seq`
    NativeSeq,
    /// `terminal_serial`
    TerminalSerial,
    /// `channel`
    Channel,
    /// `credential` → `credential.card_number`
    Credential,
    /// `kind`
    Kind,
    /// `outcome`
    Outcome,
    /// `denial_reason`
    DenialReason,
    /// `vendor_code`
    VendorCode,
    /// `vendor_subcode`
    VendorSubcode,
    /// `methods`
    Methods,
    /// `punch`
    Punch,
    /// `passage`
    Passage,
    /// `door`: a number fills `door.number`, anything else `door.label`
    Door,
    /// `reader`, like `door`
    Reader,
    /// `score`
    Score,
    /// `temperature_c`
    TemperatureC,
    /// `mask`
    Mask,
    /// `door_state`
    DoorState,
    /// `origin`
    Origin,
}

impl Field {
    /// All fields, in the order of the documentation.
    pub const ALL: &'static [Self] = &[
        Self::Person,
        Self::ExternalId,
        Self::DeviceTime,
        Self::NativeSeq,
        Self::TerminalSerial,
        Self::Channel,
        Self::Credential,
        Self::Kind,
        Self::Outcome,
        Self::DenialReason,
        Self::VendorCode,
        Self::VendorSubcode,
        Self::Methods,
        Self::Punch,
        Self::Passage,
        Self::Door,
        Self::Reader,
        Self::Score,
        Self::TemperatureC,
        Self::Mask,
        Self::DoorState,
        Self::Origin,
    ];

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::ExternalId => "external_id",
            Self::DeviceTime => "device_time",
            Self::NativeSeq => "native_seq",
            Self::TerminalSerial => "terminal_serial",
            Self::Channel => "channel",
            Self::Credential => "credential",
            Self::Kind => "kind",
            Self::Outcome => "outcome",
            Self::DenialReason => "denial_reason",
            Self::VendorCode => "vendor_code",
            Self::VendorSubcode => "vendor_subcode",
            Self::Methods => "methods",
            Self::Punch => "punch",
            Self::Passage => "passage",
            Self::Door => "door",
            Self::Reader => "reader",
            Self::Score => "score",
            Self::TemperatureC => "temperature_c",
            Self::Mask => "mask",
            Self::DoorState => "door_state",
            Self::Origin => "origin",
        }
    }

    /// The inverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.name() == name)
    }

    /// The words that a value map of this field may produce; `None` where any text will do.
    pub fn words(self) -> Option<Vec<&'static str>> {
        use crate::event as e;
        let words = match self {
            Self::Kind => e::Kind::ALL.iter().map(|w| w.as_str()).collect(),
            Self::Outcome => e::Outcome::ALL.iter().map(|w| w.as_str()).collect(),
            Self::DenialReason => e::DenialReason::ALL.iter().map(|w| w.as_str()).collect(),
            Self::Methods => e::Method::ALL.iter().map(|w| w.as_str()).collect(),
            Self::Punch => e::Punch::ALL.iter().map(|w| w.as_str()).collect(),
            Self::Passage => e::Passage::ALL.iter().map(|w| w.as_str()).collect(),
            Self::Mask => e::Mask::ALL.iter().map(|w| w.as_str()).collect(),
            Self::DoorState => e::DoorState::ALL.iter().map(|w| w.as_str()).collect(),
            Self::Origin => e::Origin::ALL.iter().map(|w| w.as_str()).collect(),
            _ => return None,
        };
        Some(words)
    }
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A JSON pointer (RFC 6901): `"/pin"`.
    Pointer(String),
    /// A column of a line, counted from 1: `"#3"` or `{ column = 3 }`.
    Column(u16),
    /// The value of `key=value` in a line: `"=pin"` or `{ key = "pin" }`.
    Key(String),
    /// Always this.
    Constant(String),
}

/// One configured field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which field it fills.
    pub field: Field,
    /// Where its value stands.
    pub place: Place,
    /// From the device's word to ours. Empty: the value is taken as it is.
    pub map: Vec<(String, String)>,
    /// Used when the value is absent, or not in the map. Without it an unmapped value is kept as `vendor_code`.
    pub default: Option<String>,
}
