//! The `mqtt/face/{ID}` family of face terminals (Huifan / HFSecurity and rebrands; vendor document "MQTT V1.25").
//!
//! Must not: keep a picture or a template (dropped while parsing, never copied), or acknowledge before commit.

mod record;

use super::json::{Pointers, Value};
use super::{Decoder, Destination, Frame, Input, Receipt, Status, Step, scrub};
use crate::event::{BootTime, FaultKind};

/// Topic level under which each device has its own.
const PREFIX: &str = "mqtt/face";

/// Longest device id that is believed, bytes. The vendor's are seven digits.
const MAX_ID: usize = 128;

/// Options.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Only this device (`facesluiceId`, and the `{ID}` of the topic); `None`: every device. Shared topics such as
    /// `mqtt/face/heartbeat` carry all of them.
    pub device_id: Option<String>,
}

/// The topics of one device, or of all of them: `Rec`, `Snap` and `Ack` in either case, and the two shared ones.
pub fn filters(device_id: Option<&str>) -> Vec<String> {
    vec![format!("{PREFIX}/{}/+", device_id.unwrap_or("+")), format!("{PREFIX}/basic"), format!("{PREFIX}/heartbeat")]
}

/// Everything that is read of a message; all else, pictures first, is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Operator,
    MessageId,
    Info,
    DeviceId,
    CustomId,
    PersonId,
    RecordId,
    SnapId,
    VerifyStatus,
    PersonType,
    Similarity,
    SendInTime,
    Time,
    PushType,
    Direction,
    Temperature,
    Card,
    Qr,
}

impl Key {
    const ALL: [(Self, &'static str); 18] = [
        (Self::Operator, "/operator"),
        (Self::MessageId, "/messageId"),
        // An object; a value only says that it is there.
        (Self::Info, "/info"),
        (Self::DeviceId, "/info/facesluiceId"),
        (Self::CustomId, "/info/customId"),
        (Self::PersonId, "/info/personId"),
        (Self::RecordId, "/info/RecordID"),
        (Self::SnapId, "/info/SnapID"),
        (Self::VerifyStatus, "/info/VerifyStatus"),
        (Self::PersonType, "/info/PersonType"),
        (Self::Similarity, "/info/similarity1"),
        (Self::SendInTime, "/info/Sendintime"),
        (Self::Time, "/info/time"),
        (Self::PushType, "/info/PushType"),
        (Self::Direction, "/info/direction"),
        (Self::Temperature, "/info/temperature"),
        (Self::Card, "/info/cardNum2"),
        (Self::Qr, "/info/szQrCodeData"),
    ];
}

/// The values of one message.
#[derive(Debug)]
struct Message<'a>(Vec<Option<Value<'a>>>);

impl<'a> Message<'a> {
    fn value(&self, key: Key) -> Option<&Value<'a>> {
        self.0.get(key as usize)?.as_ref()
    }

    /// A text or number without surrounding blanks; blank is absent (`customId` comes as `" "`).
    fn text(&self, key: Key) -> Option<std::borrow::Cow<'_, str>> {
        self.value(key)?.text().filter(|t| !t.is_empty())
    }
}

/// What a topic says: the device in it, and the last level.
#[derive(Debug, PartialEq, Eq)]
struct Topic<'a> {
    /// The topic on which the device listens, `mqtt/face/{ID}`, possibly behind a bridge's prefix.
    device: Option<(&'a str, &'a str)>,
    last: &'a str,
}

impl<'a> Topic<'a> {
    fn parse(topic: &'a str) -> Self {
        let (base, last) = topic.rsplit_once('/').unwrap_or(("", topic));
        let shared = ["basic", "heartbeat"].iter().any(|s| last.eq_ignore_ascii_case(s));
        let id = base.rsplit_once('/').filter(|(prefix, id)| !shared && prefix.ends_with("face") && !id.is_empty());
        Self { device: id.map(|(_, id)| (base, id)), last }
    }
}

/// The decoder.
#[derive(Debug)]
pub struct MqttFace {
    device_id: Option<String>,
    pointers: Pointers,
    messages: u64,
    trace: bool,
}

impl MqttFace {
    /// A decoder.
    pub fn new(config: &Config) -> Self {
        // Firmwares differ in spelling, and in case at that.
        let mut pointers = Pointers::new(None, true);
        for (_, pointer) in Key::ALL {
            pointers.add(pointer);
        }
        Self { device_id: config.device_id.clone(), pointers, messages: 0, trace: false }
    }

    fn message(&self, topic: &str, payload: &[u8], out: &mut Vec<Step>) -> Shown {
        let topic = Topic::parse(topic);
        let mut shown = Shown::default();
        // Answers of the device to commands; we hear ours and those of anybody else.
        if topic.last.eq_ignore_ascii_case("ack") {
            return shown;
        }
        let foreign = |id: &str| self.device_id.as_deref().is_some_and(|ours| ours != id);
        if topic.device.is_some_and(|(_, id)| foreign(id)) {
            return shown;
        }
        let message = match self.parse(payload) {
            Ok(message) => message,
            Err(detail) => return shown.fault(FaultKind::Malformed, detail, payload, out),
        };
        let said = message.text(Key::DeviceId).filter(|id| id.len() <= MAX_ID);
        let device = topic.device.map(|(_, id)| id).or(said.as_deref()).map(str::to_owned);
        if self.device_id.is_some() && topic.device.is_none() && device.as_deref().is_none_or(foreign) {
            return shown;
        }
        shown.device_id.clone_from(&device);
        let Some(operator) = message.text(Key::Operator) else {
            return shown.fault(FaultKind::Field, "operator is missing".to_owned(), payload, out);
        };
        shown.operator = Some(operator.chars().take(32).collect());
        let kind = match operator.to_ascii_lowercase().as_str() {
            "recpush" => record::Kind::Person,
            "strsnappush" => record::Kind::Stranger,
            "online" => return shown.status(device, Status::Online, out),
            "offline" => return shown.status(device, Status::Offline, out),
            "heartbeat" => return shown.status(device, Status::Heartbeat, out),
            // What the server says, and what devices answer, on any topic.
            "pushack" => return shown,
            other if other.ends_with("-ack") => return shown,
            _ => {
                let detail = "operator is none of RecPush, StrSnapPush, Online, Offline, HeartBeat".to_owned();
                return shown.fault(FaultKind::Field, detail, payload, out);
            }
        };
        shown.record_id = message.text(kind.id()).map(|id| id.chars().take(64).collect());
        match record::read(kind, &message, device.as_deref()) {
            Ok((reading, complaint)) => {
                let listens = topic.device.map(|(base, _)| base.to_owned());
                let receipt = receipt(kind, &message, listens.or_else(|| device.as_deref().and_then(own_topic)));
                out.push(Step::Events(vec![reading], receipt));
                match complaint {
                    Some(detail) => shown.fault(FaultKind::Field, detail, payload, out),
                    None => shown,
                }
            }
            Err(detail) => shown.fault(FaultKind::Field, detail, payload, out),
        }
    }

    fn parse<'a>(&self, payload: &'a [u8]) -> Result<Message<'a>, String> {
        let text = std::str::from_utf8(payload).map_err(|e| format!("not UTF-8 at byte {}", e.valid_up_to()))?;
        if text.trim().is_empty() {
            return Err("empty payload".to_owned());
        }
        let mut message = Message(Vec::new());
        // The same document again and again would be the last one; the family sends one record a message.
        let records = self.pointers.read(text, &mut |values| message = Message(values.to_vec()));
        match records {
            Ok(1) => Ok(message),
            Ok(_) => Err("an array where one message is expected".to_owned()),
            Err(broken) => Err(broken.detail),
        }
    }
}

/// What `--frames` shows.
#[derive(Debug, Default)]
struct Shown {
    error: Option<String>,
    operator: Option<String>,
    device_id: Option<String>,
    record_id: Option<String>,
}

impl Shown {
    fn fault(mut self, kind: FaultKind, detail: String, payload: &[u8], out: &mut Vec<Step>) -> Self {
        out.push(Step::Fault(scrub::fault(kind, detail.clone(), payload, None)));
        if kind != FaultKind::Field {
            self.error = Some(detail);
        }
        self
    }

    fn status(self, device: Option<String>, status: Status, out: &mut Vec<Step>) -> Self {
        out.push(Step::Status(device, status));
        self
    }
}

/// The topic on which a device listens that is known by its id only. An id that would not be one level of a topic gets
/// none: publishing to a wildcard makes a broker hang up.
fn own_topic(id: &str) -> Option<String> {
    let plain = !id.is_empty() && !id.contains(['+', '#', '/', '\0']);
    plain.then(|| format!("{PREFIX}/{id}"))
}

/// The `PushAck` for a record, ready to be sent: topic, line feed, payload. A device sends a record about every ten
/// seconds until it hears this (where "continuous transmission after interruption" is switched on).
fn receipt(kind: record::Kind, message: &Message<'_>, topic: Option<String>) -> Option<Receipt> {
    let topic = topic?;
    // A number stays a number and a text a text: firmwares compare.
    let echo = |key| match message.value(key)? {
        Value::Unsigned(n) => Some(serde_json::Value::from(*n)),
        Value::Signed(n) => Some(serde_json::Value::from(*n)),
        Value::Text(text) if text.len() <= super::fields::MAX_TEXT => Some(serde_json::Value::from(text.as_ref())),
        _ => None,
    };
    let id = echo(kind.id())?;
    let message_id = echo(Key::MessageId).map_or_else(String::new, |id| format!(r#""messageId":{id},"#));
    let number = kind.ack_type();
    Some(Receipt(format!(
        r#"{topic}{}{{"operator":"PushAck",{message_id}"info":{{"PushAckType":{number},"SnapOrRecordID":{id}}}}}"#,
        '\n'
    )))
}

impl Decoder for MqttFace {
    fn feed(&mut self, _at: BootTime, input: Input<'_>, out: &mut Vec<Step>) {
        let (topic, payload) = match input {
            Input::Bytes(payload) => ("", payload),
            Input::Message { topic, payload } => (topic, payload),
        };
        let shown = self.message(topic, payload, out);
        if self.trace {
            let texts = [("operator", shown.operator), ("device_id", shown.device_id), ("record_id", shown.record_id)];
            let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text?.into())));
            out.push(Step::Frame(Frame {
                valid: shown.error.is_none(),
                offset: self.messages,
                length: payload.len() as u64,
                error: shown.error,
                fields: std::iter::once(("topic", topic.into())).chain(texts).collect(),
            }));
        }
        self.messages += 1;
    }

    fn committed(&mut self, receipt: &Receipt, out: &mut Vec<Step>) {
        if let Some((topic, payload)) = receipt.0.split_once('\n') {
            out.push(Step::Send(payload.as_bytes().to_vec(), Destination::Topic(topic.to_owned())));
        }
    }

    fn trace(&mut self) {
        self.trace = true;
    }
}

#[cfg(test)]
mod tests;
