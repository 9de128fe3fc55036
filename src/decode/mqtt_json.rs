//! Any JSON over MQTT, by declared fields.
//!
//! Must not: know a vendor.

use super::fields::{Field, Place, Plan, Record, Rule};
use super::json::{Pointers, Value};
use super::{Decoder, Frame, Input, Step, scrub};
use crate::event::{BootTime, Fault, FaultKind, Reading};

/// Most records taken from one message. Terminals batch up to about a thousand; a reading takes a kilobyte, so that one
/// message can't take more than some ten megabytes.
const MAX_RECORDS: usize = 10_000;

/// Most faults told apart in one message; the rest is one fault that counts them.
const MAX_FAULTS: usize = 16;

/// Options.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// Where the fields stand, relative to one record.
    pub fields: Vec<Rule>,
    /// JSON pointer to an array of records; empty: the payload itself (an array there is taken as records too).
    pub records: Option<String>,
    /// The fields that identify a record; `None`: device time and native sequence.
    pub identity: Option<Vec<Field>>,
}

/// The decoder.
#[derive(Debug)]
pub struct MqttJson {
    document: Document,
    messages: u64,
    trace: bool,
}

impl MqttJson {
    /// A decoder.
    pub fn new(config: &Config) -> Self {
        Self {
            document: Document::new(&config.fields, config.records.as_deref(), config.identity.as_deref()),
            messages: 0,
            trace: false,
        }
    }
}

impl Decoder for MqttJson {
    fn feed(&mut self, _at: BootTime, input: Input<'_>, out: &mut Vec<Step>) {
        let (topic, payload) = match input {
            Input::Bytes(payload) => ("", payload),
            Input::Message { topic, payload } => (topic, payload),
        };
        let read = self.document.read(payload);
        if self.trace {
            let broken = read.faults.iter().find(|(kind, _)| *kind != FaultKind::Field);
            out.push(Step::Frame(Frame {
                valid: broken.is_none(),
                offset: self.messages,
                length: payload.len() as u64,
                error: broken.map(|(_, detail)| detail.clone()),
                fields: vec![("topic", topic.into()), ("records", read.records.into())],
            }));
        }
        self.messages += 1;
        let faults = read.faults(payload, None);
        if !read.readings.is_empty() {
            out.push(Step::Events(read.readings, None));
        }
        out.extend(faults.into_iter().map(Step::Fault));
    }

    fn trace(&mut self) {
        self.trace = true;
    }
}

/// Rules over JSON pointers: what `mqtt-json` and the JSON lines of `serial-lines` share.
#[derive(Debug)]
pub(super) struct Document {
    pointers: Pointers,
    plan: Plan,
}

/// What a document gave.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The usable records.
    pub readings: Vec<Reading>,
    /// How many records there were.
    pub records: usize,
    /// What was wrong, at most [`MAX_FAULTS`] and a count.
    pub faults: Vec<(FaultKind, String)>,
    unsaid: usize,
}

impl Read {
    fn fault(&mut self, kind: FaultKind, detail: impl FnOnce() -> String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push((kind, detail()));
        } else {
            self.unsaid += 1;
        }
    }

    /// The faults, with digest and excerpt of the whole input, made once: a thousand bad records in a megabyte must not
    /// be a thousand digests of a megabyte.
    pub(super) fn faults(&self, input: &[u8], offset: Option<u64>) -> Vec<Fault> {
        let Some((kind, detail)) = self.faults.first() else { return Vec::new() };
        let first = scrub::fault(*kind, detail.clone(), input, offset);
        let rest = self.faults[1..].iter().map(|(kind, detail)| Fault {
            kind: *kind,
            detail: detail.clone(),
            ..first.clone()
        });
        let unsaid = (self.unsaid > 0).then(|| Fault {
            kind: FaultKind::Field,
            detail: format!("{} more records of this message could not be used", self.unsaid),
            ..first.clone()
        });
        std::iter::once(first.clone()).chain(rest).chain(unsaid).collect()
    }
}

impl Document {
    /// Compiles rules; places that are no pointers stay empty.
    pub(super) fn new(rules: &[Rule], records: Option<&str>, identity: Option<&[Field]>) -> Self {
        let mut pointers = Pointers::new(records, false);
        let plan = Plan::new(rules, identity, |place| match place {
            Place::Pointer(pointer) => Some(pointers.add(pointer)),
            Place::Column(_) | Place::Key(_) | Place::Constant(_) => None,
        });
        Self { pointers, plan }
    }

    /// Reads a document.
    pub(super) fn read(&self, document: &[u8]) -> Read {
        let mut read = Read::default();
        let text = match std::str::from_utf8(document) {
            Ok(text) if text.trim().is_empty() => {
                read.fault(FaultKind::Malformed, || "empty payload".to_owned());
                return read;
            }
            Ok(text) => text,
            Err(e) => {
                read.fault(FaultKind::Malformed, || format!("not UTF-8 at byte {}", e.valid_up_to()));
                return read;
            }
        };
        let result = self.pointers.read(text, &mut |values| self.record(values, &mut read));
        match result {
            Ok(0) => read.fault(FaultKind::Field, || "no records where they are configured to be".to_owned()),
            Ok(_) => {}
            Err(broken) => read.fault(FaultKind::Malformed, || broken.detail),
        }
        read
    }

    fn record(&self, values: &[Option<Value<'_>>], read: &mut Read) {
        read.records += 1;
        let index = read.records;
        let said = |detail: String| if index == 1 { detail } else { format!("record {index}: {detail}") };
        if read.readings.len() >= MAX_RECORDS {
            read.fault(FaultKind::TooLong, || said(format!("more than {MAX_RECORDS} records in one message")));
            return;
        }
        match self.plan.read(values) {
            Ok(Record { reading, complaint }) => {
                read.readings.push(reading);
                if let Some(complaint) = complaint {
                    read.fault(FaultKind::Field, || said(complaint));
                }
            }
            Err(detail) => read.fault(FaultKind::Field, || said(detail)),
        }
    }
}

#[cfg(test)]
mod tests;
