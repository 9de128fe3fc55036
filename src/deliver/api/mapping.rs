//! `[sink.map]`: from an event to the vendor's item, field by field, declared and not programmed.
//!
//! A target is a path of keys (`a.b` nests), a rule says where its value comes from and what is done to it, always in this
//! order: look whether `when` holds, take the source (or render the template), write a time in its zone and format, `trim`, `strip`,
//! `strip_leading_zeros`, `rut_dash`, `upper` or `lower`, look it up in `map`, cut it to `max_chars`, make it the JSON type
//! of `as`. A text that ends up empty counts as absent.
//!
//! Must not: know a vendor, ask what time it is, or send what it could not map: an event that lacks a field, or whose value
//! is not in the map, is that event's error and no other's.

pub mod source;

mod canonical;
mod evaluate;
mod item;
mod template;

#[cfg(test)]
pub(super) mod samples;

#[cfg(test)]
mod tests;

pub use item::{Item, Single};
pub use source::{Source, Subject, Type};
pub use template::variables;

/// The targets of one item, in the order in which they are written and sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mapping {
    /// Target and rule.
    pub fields: Vec<Field>,
}

/// One target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The keys that lead to it.
    pub target: Vec<String>,
    /// What stands there.
    pub rule: Rule,
}

/// What stands at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it comes from.
    pub origin: Origin,
    /// What is done to a text.
    pub text: Text,
    /// From a text to what stands for it; empty: the text itself.
    pub map: Vec<(String, Scalar)>,
    /// Stands for a text that is not in `map`, and for an absent source that is not `optional`.
    pub default: Option<Scalar>,
    /// An absent source leaves the target out.
    pub optional: bool,
    /// The target is there only where each of these places holds one of these texts.
    pub when: Vec<(Source, Vec<String>)>,
    /// A longer text is cut, characters.
    pub max_chars: Option<usize>,
    /// The JSON type of the result; `None`: that of the source.
    pub as_type: Option<As>,
}

impl Rule {
    /// A rule that only says where the value comes from.
    pub const fn plain(origin: Origin) -> Self {
        let text =
            Text { trim: false, strip: String::new(), strip_leading_zeros: false, rut_dash: false, case: Case::Kept };
        Self {
            origin,
            text,
            map: Vec::new(),
            default: None,
            optional: false,
            when: Vec::new(),
            max_chars: None,
            as_type: None,
        }
    }

    /// Every value that it can have, if they are few and known.
    pub fn values(&self) -> Option<Vec<&Scalar>> {
        match &self.origin {
            Origin::Constant(constant) => Some(vec![constant]),
            _ if self.map.is_empty() => None,
            _ => Some(self.map.iter().map(|(_, value)| value).chain(&self.default).collect()),
        }
    }

    /// The same as they go out: cut, and of the type that `as` asks for; what can't be made one is left out.
    pub fn outgoing(&self) -> Vec<serde_json::Value> {
        self.values().into_iter().flatten().filter_map(|value| evaluate::outgoing(self, value)).collect()
    }

    /// What becomes of a text before it is looked up in `map`; `None` where it can't be worked.
    pub fn worked(&self, text: &str) -> Option<String> {
        evaluate::worked_text(&self.text, text)
    }

    /// Whether a value of `map` or `default` can be made the type that `as` asks for.
    pub fn fits_type(&self, value: &Scalar) -> bool {
        evaluate::typed(self.as_type, evaluate::scalar(value)).is_ok()
    }

    /// For a message: where it looks.
    pub fn looks_at(&self) -> &str {
        match &self.origin {
            Origin::Constant(_) => "a constant",
            Origin::Template(_) => "its template",
            Origin::Source(source, _) => source.pointer(),
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Always the same.
    Constant(Scalar),
    /// A minijinja template over the event's JSON, strict, without loops worth the name (bounded by fuel).
    Template(String),
    /// A place in the event, and for an instant how it is written.
    Source(Source, Option<Time>),
}

/// A value that stands in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// Text.
    Text(String),
    /// A number, as JSON writes it.
    Number(String),
    /// `true` or `false`.
    Boolean(bool),
}

impl Scalar {
    /// As text, for a path, a form or a header.
    pub fn as_text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
            Self::Boolean(true) => "true",
            Self::Boolean(false) => "false",
        }
    }
}

/// What is done to a text, in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// Blanks at both ends go.
    pub trim: bool,
    /// Each of these characters goes, wherever it stands.
    pub strip: String,
    /// `000123` becomes `123`, `000` becomes `0`.
    pub strip_leading_zeros: bool,
    /// A Chilean RUT in whatever form becomes digits, a dash and the check character: `12345678-K`.
    pub rut_dash: bool,
    /// Case.
    pub case: Case,
}

/// Case of letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Case {
    /// As it is.
    #[default]
    Kept,
    /// `upper = true`
    Upper,
    /// `lower = true`
    Lower,
}

/// A JSON type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// Text; of a number or truth value its JSON.
    String,
    /// A number; a text that is none is the event's error.
    Number,
    /// From `true`, `false`, `1`, `0`.
    Boolean,
}

impl As {
    /// The words of `as`.
    pub const WORDS: &'static [(&'static str, Self)] =
        &[("string", Self::String), ("number", Self::Number), ("boolean", Self::Boolean)];
}

/// How an instant is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    /// IANA name, `UTC` for UTC. The formats that need none carry `UTC`.
    pub zone: String,
    /// The format.
    pub format: Format,
}

/// The formats of an instant. All of them cut off what is finer than they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// A `strftime` pattern.
    Pattern(String),
    /// Whole seconds since 1970 UTC, a number.
    EpochSeconds,
    /// Whole milliseconds since 1970 UTC, a number.
    EpochMillis,
    /// `2026-04-14T08:30:00-04:00`, in UTC with `Z`.
    Rfc3339,
    /// The same with exactly three decimals.
    Rfc3339Millis,
    /// `Thu, 15 May 2025 12:00:00 GMT`, always UTC (RFC 9110 §5.6.7, once RFC 1123).
    Rfc1123,
    /// Whole minutes since local midnight by the clock on the wall, a number.
    MinutesOfDay,
    /// Hours ahead of UTC, a number: `-3`, `5.5`.
    OffsetHours,
    /// The zone's IANA name.
    ZoneName,
}

impl Format {
    /// The named formats; anything with a `%` is a pattern.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("epoch_s", Self::EpochSeconds),
        ("epoch_ms", Self::EpochMillis),
        ("rfc3339", Self::Rfc3339),
        ("rfc3339_ms", Self::Rfc3339Millis),
        ("rfc1123", Self::Rfc1123),
        ("minutes_of_day", Self::MinutesOfDay),
        ("offset_hours", Self::OffsetHours),
        ("zone_name", Self::ZoneName),
    ];

    /// Whether the zone makes a difference and must be named.
    pub const fn needs_zone(&self) -> bool {
        matches!(self, Self::Pattern(_) | Self::MinutesOfDay | Self::OffsetHours | Self::ZoneName)
    }

    /// Whether a zone may be named.
    pub const fn takes_zone(&self) -> bool {
        self.needs_zone() || matches!(self, Self::Rfc3339 | Self::Rfc3339Millis)
    }
}

/// `when = { … }`: whether each of these places holds one of these texts.
pub fn holds(when: &[(Source, Vec<String>)], subject: Subject<'_>) -> bool {
    when.iter().all(|(source, words)| evaluate::holds(*source, words, subject))
}

/// Why an event can't be mapped: a sentence that names target and source, and no person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmappable(pub String);

impl Unmappable {
    pub(super) fn new(target: &str, rule: &Rule, what: impl std::fmt::Display) -> Self {
        Self(format!("cannot map '{target}' from {}: {what}", rule.looks_at()))
    }
}
