//! One `RecPush` or `StrSnapPush` as a reading.
//!
//! Must not: keep the name, the picture, or the text of a QR code (it may open a door by itself).

use super::{Key, Message};
use crate::decode::fields::{MAX_TEXT, number};
use crate::decode::written_time;
use crate::event::{
    self, Credential, DenialReason, Identity, Method, Origin, Outcome, Passage, Person, Reading, Score, ScoreScale,
};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `RecPush`: somebody whom the device knows.
    Person,
    /// `StrSnapPush`: a stranger.
    Stranger,
}

impl Kind {
    /// Where the record's number stands.
    pub(super) const fn id(self) -> Key {
        match self {
            Self::Person => Key::RecordId,
            Self::Stranger => Key::SnapId,
        }
    }

    /// `PushAckType`: the field table and the example of the vendor's document say 2 for persons, its prose says 1.
    pub(super) const fn ack_type(self) -> u8 {
        match self {
            Self::Person => 2,
            Self::Stranger => 1,
        }
    }
}

/// Reads a record; `device` is the id in the topic, for messages without one. Answers the reading and what had to be
/// left out of it, or why there is none.
pub(super) fn read(
    kind: Kind,
    message: &Message<'_>,
    device: Option<&str>,
) -> Result<(Reading, Option<String>), String> {
    if message.value(Key::Info).is_none() {
        return Err("info is missing".to_owned());
    }
    let mut texts = Texts { message, complaint: None };
    let id = texts.take(kind.id(), "the record's id");
    let time = texts.take(Key::Time, "time");
    let person = Person {
        external_id: texts.take(Key::CustomId, "customId"),
        terminal_person_id: texts.take(Key::PersonId, "personId"),
        ..Person::default()
    };
    if id.is_none() && time.is_none() && person == Person::default() {
        return Err(texts.complaint.unwrap_or_else(|| "neither id, time nor person is in this record".to_owned()));
    }
    let card = texts.take(Key::Card, "cardNum2").filter(|card| card.bytes().any(|b| b != b'0'));
    let serial = texts.take(Key::DeviceId, "facesluiceId");
    let mut reading = Reading {
        identity: identity(kind, id.as_deref(), time.as_deref()),
        terminal_serial: serial.or_else(|| device.map(str::to_owned)),
        origin: Some(origin(message)),
        kind: Some(event::Kind::AccessDecision),
        methods: std::iter::once(Method::Face).collect(),
        person,
        passage: message.text(Key::Direction).map(|d| passage(&d)),
        device_time: time.as_deref().map(written_time::read),
        native_seq: id,
        ..Reading::default()
    };
    if card.is_some() {
        reading.methods.insert(Method::Card);
        reading.credential = Credential { card_number: card, ..Credential::default() };
    }
    if message.text(Key::Qr).is_some() {
        reading.methods.insert(Method::Qr);
    }
    // 0 degrees is a device without the sensor.
    reading.temperature_c = texts.number(Key::Temperature, "temperature").filter(|t| *t > 0.0);
    reading.score =
        texts.number(Key::Similarity, "similarity1").map(|value| Score { value, scale: ScoreScale::Percent });
    match kind {
        Kind::Stranger => {
            reading.outcome = Some(Outcome::Denied);
            reading.denial_reason = Some(DenialReason::NotRegistered);
        }
        Kind::Person => decide(&mut reading, message),
    }
    Ok((reading, texts.complaint))
}

/// Texts and numbers of a message, with a complaint about the first that can't be used.
struct Texts<'m, 'a> {
    message: &'m Message<'a>,
    complaint: Option<String>,
}

impl Texts<'_, '_> {
    fn take(&mut self, key: Key, name: &str) -> Option<String> {
        let value = self.message.value(key)?;
        let Some(text) = value.text() else {
            self.complaint.get_or_insert_with(|| format!("{name} is not a text or a number"));
            return None;
        };
        if text.len() > MAX_TEXT && text.chars().count() > MAX_TEXT {
            self.complaint.get_or_insert_with(|| format!("{name} is longer than {MAX_TEXT} characters"));
            return None;
        }
        (!text.is_empty()).then(|| text.into_owned())
    }

    fn number(&mut self, key: Key, name: &str) -> Option<f64> {
        let text = self.message.text(key)?;
        let value = number(&text);
        if value.is_none() {
            self.complaint.get_or_insert_with(|| format!("{name} is not a number"));
        }
        value
    }
}

fn identity(kind: Kind, id: Option<&str>, time: Option<&str>) -> Identity {
    if id.is_none() && time.is_none() {
        return Identity::None;
    }
    // The two kinds count separately.
    let id = id.map(|id| match kind {
        Kind::Person => id.to_owned(),
        Kind::Stranger => format!("snap:{id}"),
    });
    Identity::Record(vec![id, time.map(str::to_owned)])
}

/// `PushType` 2 is an answer to `ManualPushRecords`; `Sendintime` 0 came later than ten seconds.
fn origin(message: &Message<'_>) -> Origin {
    if message.text(Key::PushType).as_deref() == Some("2") {
        Origin::Backfill
    } else if message.text(Key::SendInTime).as_deref() == Some("0") {
        Origin::Replay
    } else {
        Origin::Live
    }
}

fn passage(direction: &str) -> Passage {
    match direction.to_ascii_lowercase().as_str() {
        "entr" | "entry" | "in" => Passage::Entry,
        "exit" | "out" => Passage::Exit,
        _ => Passage::Unknown,
    }
}

/// `VerifyStatus`, and `PersonType` 1: the block list. A backfilled record may come without either.
fn decide(reading: &mut Reading, message: &Message<'_>) {
    let Some(status) = message.text(Key::VerifyStatus) else { return };
    let (outcome, reason) = match status.as_ref() {
        "0" => (Outcome::None, None),
        "1" => (Outcome::Granted, None),
        "2" => (Outcome::Denied, Some(DenialReason::NoPermission)),
        "3" => (Outcome::Denied, Some(DenialReason::NotRegistered)),
        // 22 and 24 occur; what they mean isn't documented.
        other => {
            reading.vendor_code = Some(other.chars().take(32).collect());
            (Outcome::Unknown, None)
        }
    };
    let blocked = outcome == Outcome::Denied && message.text(Key::PersonType).as_deref() == Some("1");
    reading.outcome = Some(outcome);
    reading.denial_reason = if blocked { Some(DenialReason::Blocked) } else { reason };
}
