//! Lines of text over a stream: columns, `key=value` pairs, or one JSON document a line.
//!
//! Must not: buffer more than `max_length`, or know a vendor.

use super::fields::{Field, Rule};

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
pub struct SerialLines {}

impl SerialLines {
    /// A decoder that has heard nothing yet.
    pub fn new(_config: &Config) -> Self {
        todo!("decoders")
    }
}

impl super::Decoder for SerialLines {
    fn feed(&mut self, _at: crate::event::BootTime, _input: super::Input<'_>, _out: &mut Vec<super::Step>) {
        todo!("decoders")
    }
}
