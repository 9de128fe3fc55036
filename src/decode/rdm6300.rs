//! RDM6300 and ID-12 125 kHz readers: `02`, ten hex digits, two hex digits of XOR, `03`, at 9600 8N1. The ID-12 puts CR
//! LF before the `03`, others after it. (Seeed's wiki for the frame, its repetition every 65 ms while a card is present.)
//!
//! Must not: report a tag on a single frame where two equal ones are asked for (ghost reads have valid checksums).

use super::presence::Presence;
use super::{Decoder, Frame, Input, Step, scrub};
use crate::event::{BootTime, Credential, Fault, FaultKind, Identity, Kind, Method, Outcome, Reading};

const STX: u8 = 0x02;
const ETX: u8 = 0x03;

/// Hex digits between start and end: five bytes of tag and their XOR.
const DIGITS: usize = 12;

/// Longest frame: start, digits, CR, LF, end.
const MAX_FRAME: usize = DIGITS + 4;

/// How much of a run of noise is kept for its digest and excerpt, bytes.
const NOISE_KEPT: usize = 64;

/// A run of noise is reported at this length even if it goes on, bytes: about four seconds of the line.
const NOISE_RUN: u64 = 4096;

/// Options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Equal frames in a row before a tag counts. `run` uses 2, `decode` 1.
    pub confirm_frames: u8,
    /// A silence longer than this ends a presence, microseconds.
    pub presence_gap_us: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { confirm_frames: 2, presence_gap_us: 500_000 }
    }
}

/// A tag that was read, but not often enough yet.
#[derive(Debug)]
struct Candidate {
    tag: String,
    seen: BootTime,
    count: u8,
    offset: u64,
    frame: Vec<u8>,
}

/// A run of bytes outside any frame.
#[derive(Debug, Default)]
struct Noise {
    start: u64,
    length: u64,
    head: Vec<u8>,
    heard: BootTime,
}

/// The decoder.
#[derive(Debug)]
pub struct Rdm6300 {
    confirm_frames: u8,
    gap_us: u64,
    /// Bytes read so far, which is the offset of the next one.
    offset: u64,
    /// The frame being read, from its start byte on; empty outside a frame.
    frame: Vec<u8>,
    noise: Noise,
    /// The byte before ended a frame, or a CR or LF that followed one.
    after_frame: bool,
    candidate: Option<Candidate>,
    presence: Presence,
    trace: bool,
}

impl Rdm6300 {
    /// A decoder that has heard nothing yet.
    pub fn new(config: &Config) -> Self {
        Self {
            confirm_frames: config.confirm_frames,
            gap_us: config.presence_gap_us,
            offset: 0,
            frame: Vec::with_capacity(MAX_FRAME),
            noise: Noise::default(),
            after_frame: false,
            candidate: None,
            presence: Presence::new(config.presence_gap_us),
            trace: false,
        }
    }

    fn byte(&mut self, byte: u8, at: BootTime, out: &mut Vec<Step>) {
        let after_frame = std::mem::take(&mut self.after_frame);
        match (self.frame.len(), byte) {
            (0, STX) => self.frame.push(byte),
            (0, b'\r' | b'\n') if after_frame => self.after_frame = true,
            (0, _) => self.noise(&[byte], self.offset, at, out),
            // A start inside a frame: what there was of it is lost, this may be the next one.
            (1, STX) => self.noise(&[byte], self.offset - 1, at, out),
            (_, STX) => {
                self.truncated("a frame ended before its checksum", at, out);
                self.frame.push(byte);
            }
            (length, ETX) if length > DIGITS => self.complete(at, out),
            (2.., ETX) => {
                self.frame.push(byte);
                self.offset += 1;
                self.truncated("a frame ended before its checksum", at, out);
                self.offset -= 1;
            }
            (length, _) if length <= DIGITS && byte.is_ascii_hexdigit() => self.frame.push(byte),
            (length, b'\r' | b'\n') if length > DIGITS && length < MAX_FRAME - 1 => self.frame.push(byte),
            _ => {
                self.frame.push(byte);
                let frame = std::mem::take(&mut self.frame);
                self.noise(&frame, self.offset + 1 - frame.len() as u64, at, out);
            }
        }
        self.offset += 1;
    }

    /// The end byte has come and all digits are there.
    fn complete(&mut self, at: BootTime, out: &mut Vec<Step>) {
        self.flush_noise(out);
        self.after_frame = true;
        let mut frame = std::mem::take(&mut self.frame);
        frame.push(ETX);
        let offset = self.offset + 1 - frame.len() as u64;
        let digits = String::from_utf8_lossy(&frame[1..=DIGITS]).to_ascii_uppercase();
        let bytes: Vec<u8> =
            (0..DIGITS).step_by(2).filter_map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok()).collect();
        let (tag, checksum) = digits.split_at(DIGITS - 2);
        let sum = bytes.iter().take(5).fold(0, |sum, b| sum ^ b);
        if bytes.get(5) != Some(&sum) {
            let detail = format!("checksum is {checksum}, expected {sum:02X}");
            self.show(&frame, offset, Some(&detail), out);
            out.push(Step::Fault(scrub::fault(FaultKind::Checksum, detail, &frame, Some(offset))));
            return;
        }
        self.show(&frame, offset, None, out);
        if bytes.iter().all(|b| *b == 0) {
            out.push(Step::Fault(scrub::fault(FaultKind::Ghost, "an all-zero tag", &frame, Some(offset))));
            return;
        }
        self.tag(tag, frame.clone(), offset, at, out);
    }

    fn tag(&mut self, tag: &str, frame: Vec<u8>, offset: u64, at: BootTime, out: &mut Vec<Step>) {
        if self.presence.goes_on(tag, at) {
            self.flush_candidate(out);
            return;
        }
        let mut candidate = match self.candidate.take() {
            Some(c) if c.tag == tag && at.micros_since(c.seen) <= self.gap_us => c,
            other => {
                self.candidate = other;
                self.flush_candidate(out);
                Candidate { tag: tag.to_owned(), seen: at, count: 0, offset, frame }
            }
        };
        candidate.seen = at;
        candidate.count = candidate.count.saturating_add(1);
        if candidate.count < self.confirm_frames {
            self.candidate = Some(candidate);
            return;
        }
        self.presence.begin(tag, at);
        out.push(Step::Events(vec![reading(tag)], None));
    }

    /// A tag that another one, or silence, overtook before it was confirmed.
    fn flush_candidate(&mut self, out: &mut Vec<Step>) {
        if let Some(c) = self.candidate.take() {
            let detail = format!("a tag was read {} of {} times", c.count, self.confirm_frames);
            out.push(Step::Fault(scrub::fault(FaultKind::Ghost, detail, &c.frame, Some(c.offset))));
        }
    }

    /// The frame being read breaks off before `self.offset`.
    fn truncated(&mut self, detail: &str, at: BootTime, out: &mut Vec<Step>) {
        let frame = std::mem::take(&mut self.frame);
        let offset = self.offset - frame.len() as u64;
        if frame.len() < 2 {
            self.noise(&frame, offset, at, out);
            return;
        }
        self.flush_noise(out);
        self.show(&frame, offset, Some(detail), out);
        out.push(Step::Fault(scrub::fault(FaultKind::Truncated, detail, &frame, Some(offset))));
    }

    fn noise(&mut self, bytes: &[u8], offset: u64, at: BootTime, out: &mut Vec<Step>) {
        if bytes.is_empty() {
            return;
        }
        let noise = &mut self.noise;
        if noise.length == 0 {
            noise.start = offset;
        }
        noise.length += bytes.len() as u64;
        noise.heard = at;
        let room = NOISE_KEPT.saturating_sub(noise.head.len());
        noise.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if noise.length >= NOISE_RUN {
            self.flush_noise(out);
        }
    }

    fn flush_noise(&mut self, out: &mut Vec<Step>) {
        if self.noise.length == 0 {
            return;
        }
        let Noise { start, length, head, .. } = std::mem::take(&mut self.noise);
        if self.trace {
            let error = Some("noise".to_owned());
            out.push(Step::Frame(Frame { valid: false, offset: start, length, error, fields: Vec::new() }));
        }
        let fault = scrub::fault(FaultKind::Noise, "bytes outside any frame", &head, Some(start));
        out.push(Step::Fault(Fault { length, ..fault }));
    }

    fn show(&self, frame: &[u8], offset: u64, error: Option<&str>, out: &mut Vec<Step>) {
        if !self.trace {
            return;
        }
        let part =
            |from: usize, to: usize| frame.get(from..to).map(|b| String::from_utf8_lossy(b).to_ascii_uppercase());
        let fields = [("tag", part(1, DIGITS - 1)), ("checksum", part(DIGITS - 1, DIGITS + 1))];
        out.push(Step::Frame(Frame {
            valid: error.is_none(),
            offset,
            length: frame.len() as u64,
            error: error.map(str::to_owned),
            fields: fields.into_iter().filter_map(|(name, value)| Some((name, value?.into()))).collect(),
        }));
    }
}

fn reading(tag: &str) -> Reading {
    // Ten hex digits fit into 40 bits.
    let number = u64::from_str_radix(tag, 16).unwrap_or(0);
    let facility = u8::try_from(number >> 16 & 0xFF).ok().map(u32::from);
    Reading {
        identity: Identity::Presence,
        kind: Some(Kind::CredentialRead),
        outcome: Some(Outcome::None),
        methods: std::iter::once(Method::Card).collect(),
        credential: Credential {
            bits_hex: Some(tag.to_owned()),
            bit_length: Some(40),
            format: Some("em4100".to_owned()),
            facility,
            card_number: Some(number.to_string()),
            parity_ok: None,
        },
        ..Reading::default()
    }
}

impl Decoder for Rdm6300 {
    fn feed(&mut self, at: BootTime, input: Input<'_>, out: &mut Vec<Step>) {
        let (Input::Bytes(bytes) | Input::Message { payload: bytes, .. }) = input;
        for &byte in bytes {
            self.byte(byte, at, out);
        }
    }

    fn tick(&mut self, at: BootTime, out: &mut Vec<Step>) {
        if self.frame.is_empty() && at.micros_since(self.noise.heard) > self.gap_us {
            self.flush_noise(out);
        }
        if self.candidate.as_ref().is_some_and(|c| at.micros_since(c.seen) > self.gap_us) {
            self.flush_candidate(out);
        }
    }

    fn interrupted(&mut self, at: BootTime, out: &mut Vec<Step>) {
        if !self.frame.is_empty() {
            self.truncated("the line broke off within a frame", at, out);
        }
        self.flush_noise(out);
        self.flush_candidate(out);
    }

    fn seed(&mut self, credential: &str, at: BootTime) {
        self.presence.begin(&credential.to_ascii_uppercase(), at);
    }

    fn trace(&mut self) {
        self.trace = true;
    }
}

#[cfg(test)]
mod tests;
