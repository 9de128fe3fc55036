//! Any JSON over MQTT, by declared fields.
//!
//! Must not: know a vendor.

use super::fields::{Field, Rule};

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
pub struct MqttJson {}

impl MqttJson {
    /// A decoder.
    pub fn new(_config: &Config) -> Self {
        todo!("decoders")
    }
}

impl super::Decoder for MqttJson {
    fn feed(&mut self, _at: crate::event::BootTime, _input: super::Input<'_>, _out: &mut Vec<super::Step>) {
        todo!("decoders")
    }
}
