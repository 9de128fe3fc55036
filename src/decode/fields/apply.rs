//! From values to a reading, by rules.
//!
//! Must not: know a layout or a vendor, cut an identifier, or guess: a value that can't be used makes its record a
//! fault, or, where the record stands without it, is left out and complained of.

use std::borrow::Cow;

use super::{Field, Place, Rule};
use crate::decode::json::Value;
use crate::decode::written_time;
use crate::event::{self, Identity, Kind, Method, Methods, Reading, Score, ScoreScale};

/// Longest text field, characters. Identifiers are never cut: a longer one is a fault.
pub(in crate::decode) const MAX_TEXT: usize = 256;

/// Longest unmapped word that is kept as `vendor_code`, bytes: a word, not a document.
const MAX_CODE: usize = 64;

/// Rules, compiled.
#[derive(Debug)]
pub(in crate::decode) struct Plan {
    rules: Vec<Compiled>,
    identity: Option<Vec<Field>>,
    default_kind: Kind,
}

#[derive(Debug)]
struct Compiled {
    field: Field,
    source: Source,
    map: Vec<(String, String)>,
    default: Option<String>,
}

#[derive(Debug)]
enum Source {
    /// Index into the values.
    Value(usize),
    /// Always this.
    Constant(String),
    /// A place that this layout doesn't have.
    Nowhere,
}

/// What became of one record.
#[derive(Debug, PartialEq)]
pub(in crate::decode) struct Record {
    /// The reading.
    pub reading: Reading,
    /// What had to be left out, in words that quote nothing.
    pub complaint: Option<String>,
}

impl Compiled {
    fn raw<'v>(&'v self, values: &'v [Option<Value<'_>>]) -> Raw<'v> {
        match &self.source {
            Source::Constant(text) => Raw::Text(Cow::Borrowed(text)),
            Source::Nowhere => Raw::Absent,
            Source::Value(index) => match values.get(*index).and_then(Option::as_ref) {
                None => Raw::Absent,
                Some(value @ Value::List(_)) => Raw::Whole(value),
                Some(value) => match value.text() {
                    Some(text) if text.is_empty() => Raw::Absent,
                    Some(text) => Raw::Text(text),
                    None => Raw::Whole(value),
                },
            },
        }
    }

    fn is_input(&self) -> bool {
        matches!(self.source, Source::Value(_))
    }

    /// Our word for the device's, before it is looked up; `None` where a map doesn't know it.
    fn translate<'v>(&'v self, text: &'v str) -> Option<&'v str> {
        if self.map.is_empty() {
            return Some(text);
        }
        self.map.iter().find(|(from, _)| from == text).map(|(_, to)| to.as_str())
    }

    fn word<T>(&self, text: &str, from_word: fn(&str) -> Option<T>) -> Option<T> {
        let word = self.translate(text)?;
        from_word(word).or_else(|| from_word(&word.to_ascii_lowercase()))
    }
}

enum Raw<'v> {
    Absent,
    Text(Cow<'v, str>),
    /// Something without a text of its own.
    Whole(&'v Value<'v>),
}

/// What is gathered beside the reading.
#[derive(Default)]
struct Aside {
    /// The record says something of its own.
    useful: bool,
    /// The first word that no map knew.
    unmapped: Option<String>,
    complaint: Option<String>,
    /// Source text of the device time, which `DeviceTime::raw` may have cut.
    device_time: Option<String>,
}

impl Aside {
    fn complain(&mut self, field: Field, what: &str) {
        self.complaint.get_or_insert_with(|| format!("{} {what}", field.name()));
    }

    fn unmapped(&mut self, field: Field, text: &str) {
        if text.len() > MAX_CODE {
            self.complain(field, "has a value that is not in its map");
        } else {
            self.unmapped.get_or_insert_with(|| text.to_owned());
        }
    }
}

impl Plan {
    /// Compiles `rules`; `locate` says where the value of a place will stand among the values.
    pub(in crate::decode) fn new(
        rules: &[Rule],
        identity: Option<&[Field]>,
        mut locate: impl FnMut(&Place) -> Option<usize>,
    ) -> Self {
        let punches = rules.iter().any(|r| r.field == Field::Punch);
        let rules = rules.iter().map(|rule| Compiled {
            field: rule.field,
            source: match &rule.place {
                Place::Constant(text) => Source::Constant(text.clone()),
                place => locate(place).map_or(Source::Nowhere, Source::Value),
            },
            map: rule.map.clone(),
            default: rule.default.clone(),
        });
        Self {
            rules: rules.collect(),
            identity: identity.map(<[Field]>::to_vec),
            default_kind: if punches { Kind::AttendancePunch } else { Kind::CredentialRead },
        }
    }

    /// Reads one record; the error says in words that quote nothing why it can't be used.
    pub(in crate::decode) fn read(&self, values: &[Option<Value<'_>>]) -> Result<Record, String> {
        let mut reading = Reading::default();
        let mut aside = Aside::default();
        for rule in &self.rules {
            fill(rule, rule.raw(values), &mut reading, &mut aside)?;
        }
        if !aside.useful {
            return Err(aside
                .complaint
                .unwrap_or_else(|| "none of the configured fields is in this record".to_owned()));
        }
        if reading.vendor_code.is_none() {
            reading.vendor_code = aside.unmapped;
        }
        reading.kind.get_or_insert(self.default_kind);
        reading.identity = self.identity(values, &reading, aside.device_time)?;
        Ok(Record { reading, complaint: aside.complaint })
    }

    fn identity(
        &self,
        values: &[Option<Value<'_>>],
        reading: &Reading,
        device_time: Option<String>,
    ) -> Result<Identity, String> {
        let Some(fields) = &self.identity else {
            if device_time.is_none() && reading.native_seq.is_none() {
                return Ok(Identity::None);
            }
            return Ok(Identity::Record(vec![device_time, reading.native_seq.clone()]));
        };
        let mut texts = Vec::with_capacity(fields.len());
        for &field in fields {
            texts.push(match self.rules.iter().find(|r| r.field == field).map(|r| r.raw(values)) {
                None | Some(Raw::Absent) => None,
                Some(Raw::Text(text)) => Some(capped(field, &text)?),
                Some(Raw::Whole(_)) => return Err(format!("{} is part of the identity and not a text", field.name())),
            });
        }
        let found = texts.iter().any(Option::is_some);
        Ok(if found { Identity::Record(texts) } else { Identity::None })
    }
}

fn capped(field: Field, text: &str) -> Result<String, String> {
    if looks_like_template(text) {
        return Err(format!("{} looks like a template, a picture or a key, not like an identifier", field.name()));
    }
    if text.len() > MAX_TEXT && text.chars().count() > MAX_TEXT {
        return Err(format!("{} is longer than {MAX_TEXT} characters", field.name()));
    }
    Ok(text.to_owned())
}

/// Whether a text is one long run of base64: a template that stands where an identifier is configured (I7). Digests in
/// hex, UUIDs and sequence numbers are not.
fn looks_like_template(text: &str) -> bool {
    const LONGEST_ID: usize = 64;
    let some = |test: fn(&u8) -> bool| text.as_bytes().iter().any(test);
    text.len() > LONGEST_ID
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=-_".contains(&b))
        && some(u8::is_ascii_uppercase)
        && some(u8::is_ascii_lowercase)
}

fn fill(rule: &Compiled, raw: Raw<'_>, reading: &mut Reading, aside: &mut Aside) -> Result<(), String> {
    let field = rule.field;
    let (text, from_input) = match raw {
        Raw::Text(text) => (text, rule.is_input()),
        Raw::Whole(Value::List(words)) if field == Field::Methods => {
            let words = words.iter().filter_map(Value::text);
            reading.methods = methods(rule, words, aside);
            aside.useful |= !reading.methods.is_empty();
            return Ok(());
        }
        Raw::Whole(Value::Float(_)) => {
            return Err(format!("{} is a number too large to be kept exactly; have it sent as text", field.name()));
        }
        Raw::Whole(_) => {
            aside.complain(field, "is an object or an array where a text or a number is expected");
            return Ok(());
        }
        Raw::Absent => match &rule.default {
            Some(default) => (Cow::Borrowed(default.as_str()), false),
            None => return Ok(()),
        },
    };
    let known = match field {
        Field::Kind => word(rule, &text, Kind::from_word, &mut reading.kind, aside),
        Field::Outcome => word(rule, &text, event::Outcome::from_word, &mut reading.outcome, aside),
        Field::DenialReason => word(rule, &text, event::DenialReason::from_word, &mut reading.denial_reason, aside),
        Field::Punch => word(rule, &text, event::Punch::from_word, &mut reading.punch, aside),
        Field::Passage => word(rule, &text, event::Passage::from_word, &mut reading.passage, aside),
        Field::Mask => word(rule, &text, event::Mask::from_word, &mut reading.mask, aside),
        Field::DoorState => word(rule, &text, event::DoorState::from_word, &mut reading.door_state, aside),
        Field::Origin => word(rule, &text, event::Origin::from_word, &mut reading.origin, aside),
        Field::Methods => {
            let parts: &[char] = &['+', ',', '|', ' '];
            let whole = rule.map.iter().any(|(from, _)| *from == text);
            reading.methods = if whole {
                methods(rule, std::iter::once(text), aside)
            } else {
                methods(rule, text.split(parts).map(Cow::Borrowed), aside)
            };
            !reading.methods.is_empty()
        }
        _ => {
            let text = plain(rule, &text);
            value(field, text, reading, aside)?
        }
    };
    // Where something happened, or by which road it came, is not yet something that happened.
    let context = matches!(field, Field::TerminalSerial | Field::Channel | Field::Door | Field::Reader | Field::Origin);
    aside.useful |= known && from_input && !context;
    Ok(())
}

/// The text of a field that takes any: mapped where the map knows it, else the default, else as it is.
fn plain<'v>(rule: &'v Compiled, text: &'v str) -> &'v str {
    rule.translate(text).or(rule.default.as_deref()).unwrap_or(text)
}

/// Fills a field that is no word of ours; answers whether there is something in it now.
fn value(field: Field, text: &str, reading: &mut Reading, aside: &mut Aside) -> Result<bool, String> {
    match field {
        Field::Person => reading.person.terminal_person_id = Some(capped(field, text)?),
        Field::ExternalId => reading.person.external_id = Some(capped(field, text)?),
        Field::NativeSeq => reading.native_seq = Some(capped(field, text)?),
        Field::TerminalSerial => reading.terminal_serial = Some(capped(field, text)?),
        Field::Channel => reading.channel = Some(capped(field, text)?),
        Field::Credential => reading.credential.card_number = Some(capped(field, text)?),
        Field::VendorCode => reading.vendor_code = Some(capped(field, text)?),
        Field::VendorSubcode => reading.vendor_subcode = Some(capped(field, text)?),
        Field::Door => reading.door = place(field, text)?,
        Field::Reader => reading.reader = place(field, text)?,
        Field::DeviceTime => {
            aside.device_time = Some(capped(field, text)?);
            reading.device_time = Some(written_time::read(text));
        }
        Field::Score => match text.strip_suffix('%').map_or((text, ScoreScale::Raw), |t| (t, ScoreScale::Percent)) {
            (digits, scale) if number(digits).is_some() => {
                reading.score = number(digits).map(|value| Score { value, scale });
            }
            _ => {
                aside.complain(field, "is not a number");
                return Ok(false);
            }
        },
        Field::TemperatureC => {
            reading.temperature_c = number(text);
            if reading.temperature_c.is_none() {
                aside.complain(field, "is not a number");
                return Ok(false);
            }
        }
        // The words were filled by the caller.
        Field::Kind
        | Field::Outcome
        | Field::DenialReason
        | Field::Methods
        | Field::Punch
        | Field::Passage
        | Field::Mask
        | Field::DoorState
        | Field::Origin => return Ok(false),
    }
    Ok(true)
}

/// A finite number; `NaN` is never what a terminal measured.
pub(in crate::decode) fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|x| x.is_finite())
}

fn place(field: Field, text: &str) -> Result<event::Place, String> {
    Ok(match text.parse::<u16>() {
        Ok(number) => event::Place { number: Some(number), label: None },
        Err(_) => event::Place { number: None, label: Some(capped(field, text)?) },
    })
}

/// Fills a word of ours; answers whether the device's word (not the default) gave it.
fn word<T>(
    rule: &Compiled,
    text: &str,
    from_word: fn(&str) -> Option<T>,
    slot: &mut Option<T>,
    aside: &mut Aside,
) -> bool {
    if let Some(word) = rule.word(text, from_word) {
        *slot = Some(word);
        return true;
    }
    *slot = rule.default.as_deref().and_then(from_word);
    if slot.is_none() {
        aside.unmapped(rule.field, text);
    }
    false
}

fn methods<'v>(rule: &Compiled, words: impl Iterator<Item = Cow<'v, str>>, aside: &mut Aside) -> Methods {
    let mut set = Methods::default();
    for text in words.filter(|t| !t.trim().is_empty()) {
        if let Some(method) = rule.word(text.trim(), Method::from_word) {
            set.insert(method);
        } else if let Some(method) = rule.default.as_deref().and_then(Method::from_word) {
            set.insert(method);
        } else {
            aside.unmapped(rule.field, text.trim());
        }
    }
    set
}

#[cfg(test)]
mod tests;
