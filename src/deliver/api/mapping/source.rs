//! What a mapping may take from an event: one entry for each place in the event's JSON, with the type of what stands
//! there.
//!
//! Must not: differ from [`crate::event::json`]. Two places are virtual: `/person/external_id` falls back to the
//! terminal's own id as long as nobody knows a better one, and `/late` says how an event leaves.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use crate::event::vocabulary as words;
use crate::event::{Event, Methods, UtcMicros, json};
use crate::journal::Record;

/// An event or a correction, as it is about to be mapped.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'e> {
    /// The event.
    pub event: &'e Event,
    /// It is sent as the correction of an earlier one: its `kind` is then `correction`.
    pub correction: bool,
    /// What a person put in the place of what would go out: target and JSON.
    pub edits: &'e [(String, String)],
    /// It leaves late, behind newer ones.
    pub late: bool,
}

impl<'e> Subject<'e> {
    /// An event, or a correction, as the journal gives it to a sink.
    pub fn of(record: &'e Record, correction: bool, late: bool) -> Self {
        let edits = record.again.as_ref().map_or(&[][..], |again| &again.edits);
        Self { event: &record.event, correction, edits, late }
    }

    /// What a person put at a target.
    pub fn edited(self, target: &str) -> Option<&'e str> {
        self.edits.iter().find(|(edited, _)| edited == target).map(|(_, json)| json.as_str())
    }

    /// The event's JSON, as it was heard.
    pub fn json(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(768);
        self.write_as_heard(&mut out);
        out
    }

    /// The same as it goes out, behind what stands there already, with what a person put in its place; a path of keys that
    /// leads nowhere yet is made.
    pub fn write(self, out: &mut Vec<u8>) {
        if self.edits.is_empty() {
            return self.write_as_heard(out);
        }
        let mut tree: Value = serde_json::from_slice(&self.json()).unwrap_or_default();
        for (target, value) in self.edits {
            let mut place = &mut tree;
            for key in target.split('.') {
                if !place.is_object() {
                    *place = Value::Object(serde_json::Map::new());
                }
                place = &mut place[key];
            }
            *place = serde_json::from_str(value).unwrap_or_default();
        }
        // Writing a tree into a Vec can't fail.
        let _ = serde_json::to_writer(out, &tree);
    }

    fn write_as_heard(self, out: &mut Vec<u8>) {
        match (self.correction, self.late) {
            (true, _) => json::write_correction(self.event, out),
            (false, true) => json::write_late(self.event, out),
            (false, false) => json::write(self.event, out),
        }
    }

    /// The same as a tree, with the virtual places filled in.
    pub fn tree(self) -> Value {
        let mut tree: Value = serde_json::from_slice(&self.json()).unwrap_or_default();
        if let (Some(person), Some(id)) = (tree.get_mut("person"), external_id(self.event)) {
            person["external_id"] = id.as_str().into();
        }
        if let Some(tree) = tree.as_object_mut() {
            tree.insert("late".to_owned(), self.late.into());
        }
        tree
    }
}

/// What stands at a place.
#[derive(Debug, Clone, PartialEq)]
pub enum Found<'e> {
    /// Text.
    Text(Cow<'e, str>),
    /// A number, as JSON writes it.
    Number(String),
    /// `true` or `false`.
    Boolean(bool),
    /// An instant.
    Time(UtcMicros),
    /// A list or an object, as JSON.
    Json(Vec<u8>),
}

/// What kind of value stands at a place: decides what a mapping may do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Free text.
    Text,
    /// One of a closed list of words.
    Word,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An instant, which can be written in a zone and a format.
    Time,
    /// A list.
    List,
    /// An object.
    Object,
}

type Read = for<'e> fn(&'e Event) -> Option<Found<'e>>;

struct Entry {
    pointer: &'static str,
    kind: Type,
    words: fn() -> Vec<&'static str>,
    read: Read,
}

/// A place in an event.
#[derive(Clone, Copy)]
pub struct Source(&'static Entry);

impl Source {
    /// The place that a JSON pointer names; `None` where no event ever has anything.
    pub fn at(pointer: &str) -> Option<Self> {
        ENTRIES.iter().find(|entry| entry.pointer == pointer).map(Self)
    }

    /// Every pointer, for messages that help.
    pub fn pointers() -> impl Iterator<Item = &'static str> {
        ENTRIES.iter().map(|entry| entry.pointer)
    }

    /// The pointer.
    pub const fn pointer(self) -> &'static str {
        self.0.pointer
    }

    /// What stands there.
    pub const fn kind(self) -> Type {
        self.0.kind
    }

    /// The closed list of its words; empty unless [`Type::Word`].
    pub fn words(self) -> Vec<&'static str> {
        (self.0.words)()
    }

    /// Takes it from an event; `None` where this event has nothing there.
    pub fn read(self, subject: Subject<'_>) -> Option<Found<'_>> {
        match self.0.pointer {
            "/kind" if subject.correction => text("correction"),
            "/late" => Some(Found::Boolean(subject.late)),
            "" => Some(Found::Json(subject.json())),
            _ => (self.0.read)(subject.event),
        }
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.0.pointer == other.0.pointer
    }
}

impl Eq for Source {}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.pointer)
    }
}

const fn none() -> Vec<&'static str> {
    Vec::new()
}

const fn entry(pointer: &'static str, kind: Type, read: Read) -> Entry {
    Entry { pointer, kind, words: none, read }
}

const fn word(pointer: &'static str, words: fn() -> Vec<&'static str>, read: Read) -> Entry {
    Entry { pointer, kind: Type::Word, words, read }
}

const fn text(text: &str) -> Option<Found<'_>> {
    Some(Found::Text(Cow::Borrowed(text)))
}

fn maybe(text: Option<&String>) -> Option<Found<'_>> {
    text.map(|text| Found::Text(Cow::Borrowed(text)))
}

fn number<'e, N: Copy + fmt::Display>(number: N) -> Option<Found<'e>> {
    Some(Found::Number(number.to_string()))
}

/// JSON knows neither NaN nor infinity: nothing stands there then.
fn float<'e>(float: f64) -> Option<Found<'e>> {
    float.is_finite().then(|| serde_json::to_string(&float).ok()).flatten().map(Found::Number)
}

fn external_id(event: &Event) -> Option<&String> {
    let person = &event.reading.person;
    person.external_id.as_ref().or(person.terminal_person_id.as_ref())
}

fn method(methods: Methods, nth: usize) -> Option<Found<'static>> {
    methods.iter().nth(nth).and_then(|method| text(method.as_str()))
}

/// A list or an object, cut out of the event's JSON: rarely asked for, so not worth a second writer. A number in it has its
/// first 15 digits right.
fn part<'e>(event: &'e Event, pointer: &str) -> Option<Found<'e>> {
    let tree = Subject { event, correction: false, edits: &[], late: false }.tree();
    tree.pointer(pointer).and_then(|value| serde_json::to_vec(value).ok()).map(Found::Json)
}

macro_rules! words_of {
    ($vocabulary:ident) => {
        || words::$vocabulary::ALL.iter().map(|word| word.as_str()).collect()
    };
}

macro_rules! word_of {
    ($pointer:literal, $vocabulary:ident, $field:ident) => {
        word($pointer, words_of!($vocabulary), |e| e.reading.$field.and_then(|word| text(word.as_str())))
    };
}

/// In the order of the event's JSON.
static ENTRIES: &[Entry] = &[
    entry("", Type::Object, |_| None),
    entry("/event_id", Type::Text, |e| Some(Found::Text(e.id.to_string().into()))),
    entry("/corrects", Type::Text, |e| e.corrects.map(|id| Found::Text(id.to_string().into()))),
    entry("/site_id", Type::Text, |e| text(&e.source.site_id)),
    entry("/gateway_id", Type::Text, |e| text(&e.source.gateway_id)),
    entry("/terminal_id", Type::Text, |e| text(&e.source.terminal_id)),
    entry("/terminal_serial", Type::Text, |e| maybe(e.reading.terminal_serial.as_ref())),
    entry("/protocol", Type::Text, |e| text(&e.source.protocol)),
    entry("/channel", Type::Text, |e| maybe(e.reading.channel.as_ref())),
    word_of!("/origin", Origin, origin),
    word(
        "/kind",
        || words::Kind::ALL.iter().map(|word| word.as_str()).chain(["correction"]).collect(),
        |e| text(e.reading.kind.unwrap_or(words::Kind::Unknown).as_str()),
    ),
    word_of!("/outcome", Outcome, outcome),
    word_of!("/denial_reason", DenialReason, denial_reason),
    entry("/vendor_code", Type::Text, |e| maybe(e.reading.vendor_code.as_ref())),
    entry("/vendor_subcode", Type::Text, |e| maybe(e.reading.vendor_subcode.as_ref())),
    entry("/methods", Type::List, |e| part(e, "/methods")),
    word("/methods/0", words_of!(Method), |e| method(e.reading.methods, 0)),
    word("/methods/1", words_of!(Method), |e| method(e.reading.methods, 1)),
    word("/methods/2", words_of!(Method), |e| method(e.reading.methods, 2)),
    entry("/credential", Type::Object, |e| part(e, "/credential")),
    entry("/credential/bits", Type::Text, |e| maybe(e.reading.credential.bits_hex.as_ref())),
    entry("/credential/bit_length", Type::Number, |e| e.reading.credential.bit_length.and_then(number)),
    entry("/credential/format", Type::Text, |e| maybe(e.reading.credential.format.as_ref())),
    entry("/credential/facility", Type::Number, |e| e.reading.credential.facility.and_then(number)),
    entry("/credential/card_number", Type::Text, |e| maybe(e.reading.credential.card_number.as_ref())),
    entry("/credential/parity_ok", Type::Boolean, |e| e.reading.credential.parity_ok.map(Found::Boolean)),
    entry("/person", Type::Object, |e| part(e, "/person")),
    entry("/person/external_id", Type::Text, |e| maybe(external_id(e))),
    entry("/person/terminal_person_id", Type::Text, |e| maybe(e.reading.person.terminal_person_id.as_ref())),
    entry("/person/second_person_id", Type::Text, |e| maybe(e.reading.person.second_person_id.as_ref())),
    entry("/person/name", Type::Text, |e| maybe(e.reading.person.name.as_ref())),
    word_of!("/punch", Punch, punch),
    word_of!("/passage", Passage, passage),
    entry("/door", Type::Object, |e| part(e, "/door")),
    entry("/door/number", Type::Number, |e| e.reading.door.number.and_then(number)),
    entry("/door/label", Type::Text, |e| maybe(e.reading.door.label.as_ref())),
    entry("/reader", Type::Object, |e| part(e, "/reader")),
    entry("/reader/number", Type::Number, |e| e.reading.reader.number.and_then(number)),
    entry("/reader/label", Type::Text, |e| maybe(e.reading.reader.label.as_ref())),
    entry("/score", Type::Object, |e| part(e, "/score")),
    entry("/score/value", Type::Number, |e| e.reading.score.and_then(|score| float(score.value))),
    word("/score/scale", words_of!(ScoreScale), |e| e.reading.score.and_then(|score| text(score.scale.as_str()))),
    entry("/temperature_c", Type::Number, |e| e.reading.temperature_c.and_then(float)),
    word_of!("/mask", Mask, mask),
    entry("/alarm", Type::Object, |e| part(e, "/alarm")),
    word("/alarm/kind", words_of!(AlarmKind), |e| e.reading.alarm.and_then(|(kind, _)| text(kind.as_str()))),
    entry("/alarm/active", Type::Boolean, |e| e.reading.alarm.map(|(_, active)| Found::Boolean(active))),
    word_of!("/door_state", DoorState, door_state),
    entry("/event_time", Type::Time, |e| Some(Found::Time(e.times.event))),
    entry("/received_time", Type::Time, |e| Some(Found::Time(e.times.received))),
    entry("/device_time_raw", Type::Text, |e| maybe(e.reading.device_time.as_ref().map(|time| &time.raw))),
    entry("/device_time_local", Type::Text, |e| {
        let written = e.reading.device_time.as_ref()?.parsed?;
        Some(Found::Text(written.wall.to_string().into()))
    }),
    entry("/zone", Type::Text, |e| text(&e.source.zone)),
    entry("/utc_offset_min", Type::Number, |e| e.times.utc_offset_min.and_then(number)),
    word("/tz_source", words_of!(TzSource), |e| text(e.times.tz_source.as_str())),
    word("/clock_quality", words_of!(ClockQuality), |e| text(e.times.quality.as_str())),
    entry("/uncertainty_ms", Type::Number, |e| number(e.times.uncertainty_ms)),
    entry("/native_seq", Type::Text, |e| maybe(e.reading.native_seq.as_ref())),
    entry("/native_prev", Type::Text, |e| maybe(e.reading.native_prev.as_ref())),
    entry("/seq_epoch", Type::Number, |e| (e.seq_epoch != 0).then(|| number(e.seq_epoch)).flatten()),
    entry("/gap_before", Type::Number, |e| e.gap_before.and_then(number)),
    // No matter of the event: see `Source::read`.
    entry("/late", Type::Boolean, |_| None),
];
