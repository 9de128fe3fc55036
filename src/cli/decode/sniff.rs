//! The part of `portero decode` that works: bytes to lines of JSON, with the time as an argument.
//!
//! Must not: ask what time it is, or show what the journal would not keep.

use std::io::Write;

use super::Setup;
use crate::clock::Now;
use crate::decode::cutter::{Cut, Cutter};
use crate::decode::{Frame, Input, Step, scrub};
use crate::event::{Fault, FaultKind, Identity, Reading, json};

/// Longest message on a line, bytes: above every payload limit.
const MAX_LINE: usize = 8 << 20;

/// Bytes of `{"event_id":"`, of the id and of `",`.
const ID_LENGTH: usize = 12 + 36 + 2;

/// Feeds a decoder and prints what it says.
pub(super) struct Sniffer<O: Write, E: Write> {
    setup: Setup,
    lines: Cutter,
    /// The last bytes of a stream of lines, to tell whether it ends with a delimiter.
    last: Vec<u8>,
    offset: u64,
    steps: Vec<Step>,
    faults: u64,
    out: O,
    err: E,
}

impl<O: Write, E: Write> Sniffer<O, E> {
    /// Nothing fed yet.
    pub(super) fn new(setup: Setup, out: O, err: E) -> Self {
        let lines = Cutter::new(b"\n", MAX_LINE);
        Self { setup, lines, last: Vec::new(), offset: 0, steps: Vec::new(), faults: 0, out, err }
    }

    /// How many faults there were.
    pub(super) const fn faults(&self) -> u64 {
        self.faults
    }

    /// Decodes bytes heard at `now`; what they gave is printed and flushed.
    pub(super) fn feed(&mut self, now: Now, mut bytes: &[u8]) -> std::io::Result<()> {
        if self.setup.messages {
            while let Some(cut) = self.lines.next(&mut bytes) {
                self.message(now, &cut)?;
            }
        } else {
            if let Some(end) = &self.setup.line_end {
                self.last.extend_from_slice(&bytes[bytes.len().saturating_sub(end.len())..]);
                let surplus = self.last.len().saturating_sub(end.len());
                self.last.drain(..surplus);
            }
            self.offset += bytes.len() as u64;
            self.setup.decoder.feed(now.boot, Input::Bytes(bytes), &mut self.steps);
            self.print(now, None)?;
        }
        self.out.flush()
    }

    /// The input has ended: a last line needs no line end, anything else that is half-read is a fault.
    pub(super) fn end(&mut self, now: Now) -> std::io::Result<()> {
        if let Some(cut) = self.lines.rest() {
            self.message(now, &cut)?;
        }
        match &self.setup.line_end {
            Some(end) if self.offset > 0 && self.last != *end => {
                let end = if end.is_empty() { b"\n" } else { end.as_slice() };
                self.setup.decoder.feed(now.boot, Input::Bytes(end), &mut self.steps);
            }
            _ => {}
        }
        self.setup.decoder.interrupted(now.boot, &mut self.steps);
        self.print(now, None)?;
        self.out.flush()
    }

    fn message(&mut self, now: Now, line: &Cut) -> std::io::Result<()> {
        if line.too_long() {
            let fault = scrub::fault(FaultKind::TooLong, "a message longer than 8 MiB", &line.text, Some(line.offset));
            self.steps.push(Step::Fault(Fault { length: line.length, ..fault }));
            return self.print(now, None);
        }
        if line.text.trim_ascii().is_empty() {
            return Ok(());
        }
        let (topic, payload) = split(&line.text);
        let input = Input::Message { topic, payload };
        let key = self.setup.filter.as_deref().and_then(|filter| wildcard_text(filter, topic));
        self.setup.decoder.feed(now.boot, input, &mut self.steps);
        self.print(now, key.as_deref())
    }

    fn print(&mut self, now: Now, topic_key: Option<&str>) -> std::io::Result<()> {
        for step in std::mem::take(&mut self.steps) {
            match step {
                Step::Events(readings, _) if !self.setup.frames => {
                    for reading in readings {
                        self.event(reading, topic_key, now)?;
                    }
                }
                Step::Frame(frame) => self.frame(&frame)?,
                Step::Fault(fault) if self.setup.framing_only && fault.kind == FaultKind::Field => {}
                Step::Fault(fault) => {
                    self.faults += 1;
                    // Events first, so that both streams on one terminal read in order.
                    self.out.flush()?;
                    writeln!(self.err, "{}", describe(&fault))?;
                }
                Step::Events(..) | Step::Send(..) | Step::Status(..) => {}
            }
        }
        Ok(())
    }

    fn event(&mut self, reading: Reading, topic_key: Option<&str>, now: Now) -> std::io::Result<()> {
        let has_record = matches!(reading.identity, Identity::Record(_));
        let event = self.setup.stamp.event(reading, topic_key, now, || [0; 10]);
        let mut line = Vec::with_capacity(1024);
        json::write(&event, &mut line);
        if !has_record || event.source.site_id.is_empty() || event.device_key.is_empty() {
            line.drain(1..=ID_LENGTH);
        }
        for absent in [&br#""site_id":"","#[..], br#""gateway_id":"","#, br#""terminal_id":"","#] {
            // A quote inside a text is escaped, so that this can only be a name and its value.
            if let Some(at) = line.windows(absent.len()).position(|w| w == absent) {
                line.drain(at..at + absent.len());
            }
        }
        line.push(b'\n');
        self.out.write_all(&line)
    }

    fn frame(&mut self, frame: &Frame) -> std::io::Result<()> {
        let Frame { valid, offset, length, .. } = frame;
        write!(self.out, r#"{{"valid":{valid},"offset":{offset},"length":{length}"#)?;
        if let Some(error) = &frame.error {
            write!(self.out, r#","error":{}"#, serde_json::Value::from(error.as_str()))?;
        }
        for (name, value) in frame.fields.iter().filter(|(_, value)| value.as_str() != Some("")) {
            write!(self.out, r#","{name}":{value}"#)?;
        }
        self.out.write_all(b"}\n")
    }
}

fn describe(fault: &Fault) -> String {
    let place = fault.offset.map_or_else(String::new, |offset| format!(" at byte {offset}"));
    let Fault { kind, detail, length, excerpt, .. } = fault;
    format!("fault: {kind}{place}, {length} bytes: {detail}: {excerpt}")
}

/// `TOPIC PAYLOAD`, or a payload alone: JSON starts with a bracket, a topic doesn't.
fn split(line: &[u8]) -> (&str, &[u8]) {
    let line = line.trim_ascii();
    let blank = line.iter().position(u8::is_ascii_whitespace);
    match (line.first(), blank) {
        (Some(b'{' | b'[' | b'"'), _) | (_, None) => ("", line),
        (_, Some(blank)) => match std::str::from_utf8(&line[..blank]) {
            Ok(topic) => (topic, line[blank..].trim_ascii()),
            Err(_) => ("", line),
        },
    }
}

/// The text that the wildcards of `filter` stand for in `topic`, joined by `/`; `None` if there is none.
fn wildcard_text(filter: &str, topic: &str) -> Option<String> {
    let mut found = Vec::new();
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        match part {
            "#" => found.extend(levels.by_ref()),
            "+" => found.push(levels.next()?),
            exact if levels.next() == Some(exact) => {}
            _ => return None,
        }
    }
    found.retain(|part| !part.is_empty());
    let text = found.join("/");
    (levels.next().is_none() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_topic_and_a_payload_or_a_payload() {
        assert_eq!(split(b"a/b {\"x\": 1}\r"), ("a/b", &b"{\"x\": 1}"[..]));
        assert_eq!(split(b"{\"x\": 1}"), ("", &b"{\"x\": 1}"[..]));
        assert_eq!(split(b"17"), ("", &b"17"[..]));
    }

    #[test]
    fn wildcards_name_the_device() {
        assert_eq!(wildcard_text("site/yard/+/events", "site/yard/7/events").as_deref(), Some("7"));
        assert_eq!(wildcard_text("site/+/+/#", "site/a/b/c/d").as_deref(), Some("a/b/c/d"));
        assert_eq!(wildcard_text("site/yard", "site/yard"), None);
        assert_eq!(wildcard_text("site/+", "site/a/b"), None);
    }
}
