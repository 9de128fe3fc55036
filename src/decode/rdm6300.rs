//! RDM6300 and ID-12 125 kHz readers: `02`, ten hex digits, two hex digits of XOR, `03`, at 9600 8N1.
//!
//! Must not: report a tag on a single frame where two equal ones are asked for (ghost reads have valid checksums).

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

/// The decoder.
pub struct Rdm6300 {}

impl Rdm6300 {
    /// A decoder that has heard nothing yet.
    pub fn new(_config: &Config) -> Self {
        todo!("decoders")
    }
}

impl super::Decoder for Rdm6300 {
    fn feed(&mut self, _at: crate::event::BootTime, _input: super::Input<'_>, _out: &mut Vec<super::Step>) {
        todo!("decoders")
    }
}
