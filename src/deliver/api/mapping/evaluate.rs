//! One rule over one event.
//!
//! Must not: put a value of the event into an error where it could name a person.

use std::borrow::Cow;

use super::source::Found;
use super::template::Templates;
use super::{As, Case, Format, Origin, Rule, Scalar, Source, Subject, Text, Time, Type, Unmappable};
use crate::clock::Zone;
use crate::event::{UtcMicros, json};

/// A value that goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Out<'e> {
    /// Text.
    Text(Cow<'e, str>),
    /// A number, `true`, `false`, a list or an object: JSON as it stands.
    Bare(Cow<'e, str>),
}

impl Out<'_> {
    /// As it stands in a form, a query, a path or a header.
    pub(super) fn as_text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Bare(text) => text,
        }
    }

    /// Appends it as JSON.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                // Writing into a Vec can't fail; serde_json knows the escapes.
                let _ = serde_json::to_writer(out, text.as_ref());
            }
            Self::Bare(json) => out.extend_from_slice(json.as_bytes()),
        }
    }
}

/// A rule with its zone looked up and its template compiled.
#[derive(Debug)]
pub(super) struct Compiled {
    target: String,
    rule: Rule,
    zone: Option<Zone>,
    template: Option<String>,
}

impl Compiled {
    /// Looks up and compiles what the rule names; the error says what is wrong with the configuration.
    pub(super) fn new(target: &str, rule: &Rule, templates: &mut Templates) -> Result<Self, String> {
        let zone = match &rule.origin {
            Origin::Source(_, Some(Time { zone, .. })) if zone == "UTC" => Some(Zone::utc()),
            Origin::Source(_, Some(Time { zone, .. })) => Some(Zone::named(zone).map_err(|error| error.to_string())?),
            _ => None,
        };
        let template = match &rule.origin {
            Origin::Template(text) => {
                Some(templates.add(text).map_err(|what| format!("the template of '{target}': {what}"))?)
            }
            _ => None,
        };
        Ok(Self { target: target.to_owned(), rule: rule.clone(), zone, template })
    }

    /// The value for this event; `None` where the target is left out.
    pub(super) fn value<'e>(
        &'e self,
        subject: Subject<'e>,
        templates: &Templates,
    ) -> Result<Option<Out<'e>>, Unmappable> {
        if let Some(json) = subject.edited(&self.target) {
            return Ok(edited(json));
        }
        let rule = &self.rule;
        let fail = |what: &str| Unmappable::new(&self.target, rule, what);
        if !super::holds(&rule.when, subject) {
            return Ok(None);
        }
        let taken = match &rule.origin {
            Origin::Constant(constant) => return Ok(Some(scalar(constant))),
            Origin::Template(_) => {
                let name = self.template.as_deref().unwrap_or_default();
                templates.render(name, subject).map_err(|what| fail(&what))?.map(|text| Out::Text(text.into()))
            }
            Origin::Source(source, time) => self.take(*source, time.as_ref(), subject)?,
        };
        let Some(taken) = taken.map(|out| worked(&rule.text, out)).transpose().map_err(fail)? else {
            return self.absent();
        };
        if taken.as_text().is_empty() {
            return self.absent();
        }
        let mapped = match (rule.map.is_empty(), rule.map.iter().find(|(from, _)| from == taken.as_text())) {
            (true, _) => taken,
            (false, Some((_, to))) => scalar(to),
            (false, None) => match &rule.default {
                Some(default) => scalar(default),
                None => return Err(fail(&self.unknown(taken.as_text()))),
            },
        };
        let cut = match (rule.max_chars, mapped) {
            (Some(most), Out::Text(text)) => Out::Text(cut(text, most)),
            (_, other) => other,
        };
        typed(rule.as_type, cut).map(Some).map_err(fail)
    }

    fn take<'e>(
        &self,
        source: Source,
        time: Option<&Time>,
        subject: Subject<'e>,
    ) -> Result<Option<Out<'e>>, Unmappable> {
        let out = match source.read(subject) {
            None => return Ok(None),
            Some(Found::Text(text)) => Out::Text(text),
            Some(Found::Number(number)) => Out::Bare(number.into()),
            Some(Found::Boolean(value)) => Out::Bare(if value { "true" } else { "false" }.into()),
            Some(Found::Json(json)) => Out::Bare(String::from_utf8_lossy(&json).into_owned().into()),
            Some(Found::Time(at)) => match time {
                None => Out::Text(json::rfc3339(at).as_str().to_owned().into()),
                Some(Time { format, zone }) => {
                    let utc = Zone::utc();
                    written(at, format, self.zone.as_ref().unwrap_or(&utc), zone).ok_or_else(|| {
                        Unmappable::new(&self.target, &self.rule, "the time cannot be written in that format")
                    })?
                }
            },
        };
        Ok(Some(out))
    }

    fn absent(&self) -> Result<Option<Out<'_>>, Unmappable> {
        match &self.rule.default {
            _ if self.rule.optional => Ok(None),
            Some(default) => {
                let default = typed(self.rule.as_type, scalar(default));
                default.map(Some).map_err(|what| Unmappable::new(&self.target, &self.rule, what))
            }
            None => {
                let what = match self.rule.origin {
                    Origin::Template(_) => "the event lacks a field that it names",
                    _ => "the event has nothing there",
                };
                Err(Unmappable::new(&self.target, &self.rule, what))
            }
        }
    }

    /// A word of a closed list may be repeated, anything else could be a person's number.
    fn unknown(&self, value: &str) -> String {
        match &self.rule.origin {
            Origin::Source(source, _) if source.kind() == Type::Word => {
                format!("\"{value}\" is not in its map, and there is no default")
            }
            _ => "the value is not in its map, and there is no default".to_owned(),
        }
    }
}

/// What a person put there; `null` leaves the target out.
fn edited(json: &str) -> Option<Out<'_>> {
    match serde_json::from_str(json) {
        Ok(serde_json::Value::Null) => None,
        Ok(serde_json::Value::String(text)) => Some(Out::Text(text.into())),
        _ => Some(Out::Bare(json.into())),
    }
}

/// Whether one of these texts stands there.
pub(super) fn holds(source: Source, words: &[String], subject: Subject<'_>) -> bool {
    let is = |text: &str| words.iter().any(|word| word == text);
    match source.read(subject) {
        Some(Found::Text(text)) => is(&text),
        Some(Found::Number(number)) => is(&number),
        Some(Found::Boolean(value)) => is(if value { "true" } else { "false" }),
        Some(Found::Time(_) | Found::Json(_)) | None => false,
    }
}

pub(super) fn scalar(value: &Scalar) -> Out<'_> {
    match value {
        Scalar::Text(text) => Out::Text(text.as_str().into()),
        Scalar::Number(_) | Scalar::Boolean(_) => Out::Bare(value.as_text().into()),
    }
}

/// A value of a rule's own as it goes out.
pub(super) fn outgoing(rule: &Rule, value: &Scalar) -> Option<serde_json::Value> {
    let out = match (rule.max_chars, scalar(value)) {
        // A constant goes as it is.
        (_, out) if matches!(rule.origin, Origin::Constant(_)) => out,
        (Some(most), Out::Text(text)) => typed(rule.as_type, Out::Text(cut(text, most))).ok()?,
        (_, out) => typed(rule.as_type, out).ok()?,
    };
    match out {
        Out::Text(text) => Some(text.into()),
        Out::Bare(json) => serde_json::from_str(&json).ok(),
    }
}

/// What a rule makes of a text before the text is looked up.
pub(super) fn worked_text(work: &Text, text: &str) -> Option<String> {
    worked(work, Out::Text(text.into())).ok().map(|out| out.as_text().to_owned())
}

/// An instant in a format; everything finer is cut off, towards the past.
fn written(at: UtcMicros, format: &Format, zone: &Zone, name: &str) -> Option<Out<'static>> {
    let number = |number: i64| Out::Bare(number.to_string().into());
    let out = match format {
        Format::Pattern(pattern) => Out::Text(zone.strftime(at, pattern)?.into()),
        Format::EpochSeconds => number(at.0.div_euclid(1_000_000)),
        Format::EpochMillis => number(at.0.div_euclid(1_000)),
        Format::Rfc3339 => Out::Text(zone.rfc3339(at, false)?.into()),
        Format::Rfc3339Millis => Out::Text(zone.rfc3339(at, true)?.into()),
        Format::Rfc1123 => Out::Text(Zone::utc().strftime(at, "%a, %d %b %Y %H:%M:%S GMT")?.into()),
        Format::MinutesOfDay => {
            let time = zone.local(at)?.time();
            number(i64::from(time.hour()) * 60 + i64::from(time.minute()))
        }
        Format::OffsetHours => {
            let seconds = zone.offset_seconds(at)?;
            match seconds % 3600 {
                0 => number(i64::from(seconds / 3600)),
                _ => Out::Bare(serde_json::to_string(&(f64::from(seconds) / 3600.0)).ok()?.into()),
            }
        }
        Format::ZoneName => Out::Text(name.to_owned().into()),
    };
    Some(out)
}

/// What the rule does to a text. A number on which something is done becomes text.
fn worked<'e>(work: &Text, out: Out<'e>) -> Result<Out<'e>, &'static str> {
    if *work == Text::default() {
        return Ok(out);
    }
    let (Out::Text(mut text) | Out::Bare(mut text)) = out;
    if work.trim {
        let trimmed = text.trim();
        if trimmed.len() < text.len() {
            text = trimmed.to_owned().into();
        }
    }
    if !work.strip.is_empty() && text.contains(|c: char| work.strip.contains(c)) {
        text = text.chars().filter(|c| !work.strip.contains(*c)).collect::<String>().into();
    }
    if work.strip_leading_zeros && text.starts_with('0') {
        let rest = text.trim_start_matches('0');
        text = if rest.is_empty() { "0".into() } else { rest.to_owned().into() };
    }
    if work.rut_dash && !text.is_empty() {
        text = rut(&text).ok_or("the value is no RUT (digits, then a digit or K)")?.into();
    }
    match work.case {
        Case::Kept => {}
        Case::Upper => text = text.to_uppercase().into(),
        Case::Lower => text = text.to_lowercase().into(),
    }
    Ok(Out::Text(text))
}

/// `12.345.678-k`, `12345678K`, `12345678-K`: all become `12345678-K`. The check character is not judged.
fn rut(text: &str) -> Option<String> {
    let plain: Vec<char> = text.chars().filter(|c| !matches!(c, '.' | '-' | ' ')).collect();
    let (check, digits) = plain.split_last()?;
    let good = !digits.is_empty()
        && digits.iter().all(char::is_ascii_digit)
        && (check.is_ascii_digit() || matches!(check, 'k' | 'K'));
    good.then(|| digits.iter().chain(['-', check.to_ascii_uppercase()].iter()).collect())
}

fn cut(text: Cow<'_, str>, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => text,
        Some((at, _)) => text[..at].to_owned().into(),
    }
}

pub(super) fn typed(as_type: Option<As>, out: Out<'_>) -> Result<Out<'_>, &'static str> {
    match (as_type, out) {
        (None, out) => Ok(out),
        (Some(As::String), Out::Text(text) | Out::Bare(text)) => Ok(Out::Text(text)),
        (Some(As::Number), Out::Text(text) | Out::Bare(text)) => number(text.trim()).map(|n| Out::Bare(n.into())),
        (Some(As::Boolean), out) => match out.as_text() {
            "true" | "1" => Ok(Out::Bare("true".into())),
            "false" | "0" => Ok(Out::Bare("false".into())),
            _ => Err("the value is neither true nor false"),
        },
    }
}

/// Digits stay exact whatever their number; everything else must fit a double.
fn number(text: &str) -> Result<String, &'static str> {
    const NONE: &str = "the value is no number";
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        let significant = digits.trim_start_matches('0');
        return Ok(if significant.is_empty() { "0".to_owned() } else { format!("{sign}{significant}") });
    }
    let float: f64 = text.parse().map_err(|_| NONE)?;
    if float.is_finite() { serde_json::to_string(&float).map_err(|_| NONE) } else { Err(NONE) }
}
