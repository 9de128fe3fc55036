//! Lines of text over a stream: columns, `key=value` pairs, or one JSON document a line.
//!
//! Must not: buffer more than `max_length`, or know a vendor.

use std::borrow::Cow;

use super::cutter::{Cut, Cutter};
use super::fields::{Field, Place, Plan, Record, Rule};
use super::json::Value;
use super::mqtt_json::Document;
use super::presence::Presence;
use super::{Decoder, Frame, Input, Step, scrub};
use crate::event::{BootTime, Fault, FaultKind, Identity, Reading};

/// How a line is cut into values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Layout {
    /// Columns between separators.
    #[default]
    Columns,
    /// `key=value` pairs between separators.
    Pairs,
    /// One JSON document.
    Json,
}

/// The encoding of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// UTF-8; anything else is a fault.
    #[default]
    Utf8,
    /// ISO 8859-1.
    Latin1,
}

/// Options.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Bytes that end a line. `"\r\n"` as default also accepts a bare LF.
    pub delimiter: Vec<u8>,
    /// Longest line, bytes; a longer one is a fault.
    pub max_length: usize,
    /// The text's encoding.
    pub encoding: Encoding,
    /// How a line is cut.
    pub layout: Layout,
    /// Between columns or pairs.
    pub separator: String,
    /// Where the fields stand.
    pub fields: Vec<Rule>,
    /// The fields that identify a record; `None`: device time and native sequence, else as a reader.
    pub identity: Option<Vec<Field>>,
    /// A silence longer than this ends a presence, microseconds (reader-like lines only).
    pub presence_gap_us: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            delimiter: b"\n".to_vec(),
            max_length: 4096,
            encoding: Encoding::Utf8,
            layout: Layout::Columns,
            separator: ",".to_owned(),
            fields: Vec::new(),
            identity: None,
            presence_gap_us: 500_000,
        }
    }
}

/// The decoder.
#[derive(Debug)]
pub struct SerialLines {
    cutter: Cutter,
    encoding: Encoding,
    reader: Reader,
    presence: Presence,
    trace: bool,
}

/// What a line is read by.
#[derive(Debug)]
enum Reader {
    /// Values at columns, counted from 0.
    Columns { separator: String, plan: Plan, columns: Vec<usize> },
    /// Values of keys.
    Pairs { separator: String, plan: Plan, keys: Vec<String> },
    /// Values at pointers.
    Json(Document),
}

impl Reader {
    fn new(config: &Config) -> Self {
        let (rules, identity) = (&config.fields, config.identity.as_deref());
        let separator = config.separator.clone();
        match config.layout {
            Layout::Columns => {
                let mut columns = Vec::new();
                let plan = Plan::new(rules, identity, |place| match place {
                    Place::Column(column) => Some(place_of(&mut columns, usize::from(*column).checked_sub(1)?)),
                    Place::Pointer(_) | Place::Key(_) | Place::Constant(_) => None,
                });
                Self::Columns { separator, plan, columns }
            }
            Layout::Pairs => {
                let mut keys = Vec::new();
                let plan = Plan::new(rules, identity, |place| match place {
                    Place::Key(key) => Some(place_of(&mut keys, key.clone())),
                    Place::Pointer(_) | Place::Column(_) | Place::Constant(_) => None,
                });
                Self::Pairs { separator, plan, keys }
            }
            Layout::Json => Self::Json(Document::new(rules, None, identity)),
        }
    }

    /// The readings of a line, what was wrong with it, and how many values it had.
    fn read(&self, line: &str, offset: u64) -> (Vec<Reading>, Vec<Fault>, usize) {
        let (plan, values, count) = match self {
            Self::Json(document) => {
                let read = document.read(line.as_bytes());
                let faults = read.faults(line.as_bytes(), Some(offset));
                return (read.readings, faults, read.records);
            }
            Self::Columns { separator, plan, columns } => {
                let parts = split(line, separator);
                let text = |i: &usize| parts.get(*i).map(|part| Value::Text(Cow::Borrowed(*part)));
                (plan, columns.iter().map(text).collect::<Vec<_>>(), parts.len())
            }
            Self::Pairs { separator, plan, keys } => {
                let parts = split(line, separator);
                let pairs: Vec<_> = parts.iter().filter_map(|part| part.split_once('=')).collect();
                let text = |key: &String| {
                    let (_, value) = pairs.iter().find(|(name, _)| name.trim() == key)?;
                    Some(Value::Text(Cow::Borrowed(*value)))
                };
                (plan, keys.iter().map(text).collect(), pairs.len())
            }
        };
        let fault = |detail: String| scrub::fault(FaultKind::Field, detail, line.as_bytes(), Some(offset));
        match plan.read(&values) {
            Ok(Record { reading, complaint }) => (vec![reading], complaint.map(fault).into_iter().collect(), count),
            Err(detail) => (Vec::new(), vec![fault(detail)], count),
        }
    }
}

fn place_of<T: PartialEq>(places: &mut Vec<T>, place: T) -> usize {
    places.iter().position(|p| *p == place).unwrap_or_else(|| {
        places.push(place);
        places.len() - 1
    })
}

/// Splits at every separator; at any run of white space where the separator is a blank or nothing.
fn split<'l>(line: &'l str, separator: &str) -> Vec<&'l str> {
    if separator.trim_matches(' ').is_empty() {
        line.split_whitespace().collect()
    } else {
        line.split(separator).collect()
    }
}

impl SerialLines {
    /// A decoder that has heard nothing yet.
    pub fn new(config: &Config) -> Self {
        Self {
            cutter: Cutter::new(&config.delimiter, config.max_length),
            encoding: config.encoding,
            reader: Reader::new(config),
            presence: Presence::new(config.presence_gap_us),
            trace: false,
        }
    }

    fn cut(&mut self, at: BootTime, cut: &Cut, out: &mut Vec<Step>) {
        let offset = cut.offset;
        if cut.too_long() {
            let detail = format!("a line of {} bytes, longer than max_length", cut.length);
            self.show(cut, Some(&detail), None, out);
            let fault = scrub::fault(FaultKind::TooLong, detail, &cut.text, Some(offset));
            out.push(Step::Fault(Fault { length: cut.length, ..fault }));
            return;
        }
        let line = match self.encoding {
            Encoding::Latin1 => Cow::Owned(cut.text.iter().map(|b| char::from(*b)).collect()),
            Encoding::Utf8 => match std::str::from_utf8(&cut.text) {
                Ok(line) => Cow::Borrowed(line),
                Err(e) => {
                    let detail = format!("not UTF-8 at byte {}; is it encoding = \"latin1\"?", e.valid_up_to());
                    self.show(cut, Some(&detail), None, out);
                    out.push(Step::Fault(scrub::fault(FaultKind::Malformed, detail, &cut.text, Some(offset))));
                    return;
                }
            },
        };
        // An empty line is a device saying that it is there.
        if line.trim().is_empty() {
            return;
        }
        let (mut readings, faults, columns) = self.reader.read(&line, offset);
        let broken = faults.iter().find(|f| f.kind != FaultKind::Field);
        self.show(cut, broken.map(|f| f.detail.as_str()), Some(columns), out);
        readings.retain_mut(|reading| self.is_new(reading, at));
        if !readings.is_empty() {
            out.push(Step::Events(readings, None));
        }
        out.extend(faults.into_iter().map(Step::Fault));
    }

    /// A line without a record of its own comes from a reader: repeated within the gap it is the same presence.
    fn is_new(&mut self, reading: &mut Reading, at: BootTime) -> bool {
        if reading.identity != Identity::None {
            return true;
        }
        reading.identity = Identity::Presence;
        let person = &reading.person;
        let who = [&reading.credential.card_number, &person.terminal_person_id, &person.external_id];
        let Some(who) = who.into_iter().flatten().next() else { return true };
        if self.presence.goes_on(who, at) {
            return false;
        }
        self.presence.begin(who, at);
        true
    }

    fn show(&self, cut: &Cut, error: Option<&str>, columns: Option<usize>, out: &mut Vec<Step>) {
        if !self.trace {
            return;
        }
        let columns = columns.map(|n| ("columns", n.into()));
        out.push(Step::Frame(Frame {
            valid: error.is_none(),
            offset: cut.offset,
            length: cut.length,
            error: error.map(str::to_owned),
            fields: std::iter::once(("text_length", cut.length.into())).chain(columns).collect(),
        }));
    }
}

impl Decoder for SerialLines {
    fn feed(&mut self, at: BootTime, input: Input<'_>, out: &mut Vec<Step>) {
        let (Input::Bytes(mut bytes) | Input::Message { payload: mut bytes, .. }) = input;
        while let Some(cut) = self.cutter.next(&mut bytes) {
            self.cut(at, &cut, out);
        }
    }

    fn interrupted(&mut self, _at: BootTime, out: &mut Vec<Step>) {
        let Some(cut) = self.cutter.rest() else { return };
        let detail = "the line broke off before its delimiter";
        self.show(&cut, Some(detail), None, out);
        let fault = scrub::fault(FaultKind::Truncated, detail, &cut.text, Some(cut.offset));
        out.push(Step::Fault(Fault { length: cut.length, ..fault }));
    }

    fn seed(&mut self, credential: &str, at: BootTime) {
        self.presence.begin(credential, at);
    }

    fn trace(&mut self) {
        self.trace = true;
    }
}

#[cfg(test)]
mod tests;
