//! The `mqtt/face/{ID}` family of face terminals (Huifan / HFSecurity and rebrands; vendor document "MQTT V1.25").
//!
//! Must not: keep a picture or a template (dropped while parsing, never copied), or acknowledge before commit.

/// Options.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Only this device (`facesluiceId`, and the `{ID}` of the topic); `None`: every device. Shared topics such as
    /// `mqtt/face/heartbeat` carry all of them.
    pub device_id: Option<String>,
}

/// The topics of one device, or of all of them.
pub fn filters(_device_id: Option<&str>) -> Vec<String> {
    todo!("decoders")
}

/// The decoder.
pub struct MqttFace {}

impl MqttFace {
    /// A decoder.
    pub fn new(_config: &Config) -> Self {
        todo!("decoders")
    }
}

impl super::Decoder for MqttFace {
    fn feed(&mut self, _at: crate::event::BootTime, _input: super::Input<'_>, _out: &mut Vec<super::Step>) {
        todo!("decoders")
    }
}
