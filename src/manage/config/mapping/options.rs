//! What is done to a value: everything of a rule but where the value comes from.
//!
//! Must not: accept what can't be done with the kind of value that stands at the source.

use super::super::reader::{Reader, one_of};
use super::super::suggest::nearest;
use super::super::tree::Value;
use super::{Scope, nearest_pointer, scalar};
use crate::deliver::api::mapping::{As, Case, Format, Origin, Rule, Source, Text, Type};

/// Everything but where the value comes from.
pub(super) fn options(reader: &Reader<'_>, origin: Option<Origin>) -> Option<Rule> {
    let flag = |key| reader.boolean(key).unwrap_or(false);
    let (upper, lower) = (flag("upper"), flag("lower"));
    if upper
        && lower
        && let Some(node) = reader.get("lower")
    {
        reader.wrong("lower", node, "one of upper and lower");
    }
    let text = Text {
        trim: flag("trim"),
        strip: reader.text("strip", "the characters that are to go, for example \".\"").unwrap_or_default().to_owned(),
        strip_leading_zeros: flag("strip_leading_zeros"),
        rut_dash: flag("rut_dash"),
        case: match (upper, lower) {
            (true, _) => Case::Upper,
            (false, true) => Case::Lower,
            (false, false) => Case::Kept,
        },
    };
    let mut map = Vec::new();
    if let Some(pairs) =
        reader.child("map", "a table from the event's words to the vendor's, for example { in = \"IN\" }")
    {
        for (from, _, node) in pairs.entries() {
            match scalar(node) {
                Some(to) => map.push((from.to_owned(), to)),
                None => pairs.wrong(from, node, "a text, a number, true or false"),
            }
        }
        if pairs.entries().next().is_none()
            && let Some(node) = reader.get("map")
        {
            reader.wrong("map", node, "at least one word, for example { in = \"IN\" }");
        }
    }
    let default = reader.get("default").and_then(|node| {
        let value = scalar(node);
        if value.is_none() {
            reader.wrong("default", node, "a text, a number, true or false");
        }
        value
    });
    let optional = flag("optional");
    if let (true, Some(_), true, Some(node)) = (optional, &default, map.is_empty(), reader.get("default")) {
        reader.wrong("default", node, "no default beside optional, where no map could need it");
    }
    let max_chars = reader.number("max_chars", 1..=65_536, "a whole number of characters, for example 24");
    let as_type = reader.word("as", As::WORDS);
    let max_chars = max_chars.and_then(|most| usize::try_from(most).ok());
    let when = when(reader);
    let rule = Rule { origin: origin?, text, map, default, optional, when, max_chars, as_type };
    if let Some(node) = reader.get("as")
        && rule.map.iter().map(|(_, value)| value).chain(&rule.default).any(|value| !rule.fits_type(value))
    {
        reader.wrong("as", node, "a type that every value of map and default has");
    }
    Some(rule)
}

/// `when = { "/punch" = ["in", "break_in"] }`.
pub(in super::super) fn when(reader: &Reader<'_>) -> Vec<(Source, Vec<String>)> {
    const WORDS: &str = "a text or a list of texts that may stand there, for example \"in\"";
    let Some(table) = reader.child("when", "a table such as { \"/punch\" = [\"in\", \"break_in\"] }") else {
        return Vec::new();
    };
    let mut conditions = Vec::new();
    for (pointer, place, node) in table.entries() {
        let source = Source::at(pointer).filter(|s| !matches!(s.kind(), Type::Time | Type::List | Type::Object));
        let Some(source) = source else {
            let expected = "a field of the event that is a text, a number, true or false";
            let mut problem = table.report.problem(place, &table.key(pointer), "a key that is no such field", expected);
            problem.nearest = nearest_pointer(pointer).filter(|_| Source::at(pointer).is_none());
            table.report.error(problem);
            continue;
        };
        let items = match &node.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let known = source.words();
        let mut words = Vec::new();
        for item in items {
            match scalar(item) {
                Some(word) if known.is_empty() || known.contains(&word.as_text()) => {
                    words.push(word.as_text().to_owned());
                }
                Some(_) => table.wrong_word(pointer, item, &one_of(known.iter().copied()), known.iter().copied()),
                None => table.wrong(pointer, item, WORDS),
            }
        }
        if items.is_empty() {
            table.wrong(pointer, node, WORDS);
        }
        conditions.push((source, words));
    }
    conditions
}

/// What can't be done with the kind of value that stands at the source.
pub(super) fn fits(reader: &Reader<'_>, rule: &Rule, scope: Scope<'_>) {
    let Origin::Source(source, time) = &rule.origin else { return };
    let (kind, pointer) = (source.kind(), source.pointer());
    let whole = matches!(kind, Type::List | Type::Object);
    let no = |key: &'static str, why: &str| {
        if let Some(node) = reader.get(key) {
            reader.wrong(key, node, &format!("no {key}: {pointer} {why}"));
        }
    };
    if whole || kind == Type::Boolean {
        let why = if whole { "is a list or an object" } else { "is true or false" };
        for key in ["trim", "upper", "lower", "strip", "strip_leading_zeros", "rut_dash", "max_chars"] {
            no(key, why);
        }
    }
    match kind {
        Type::List | Type::Object => {
            no("map", "is a list or an object");
            no("as", "is a list or an object");
            if scope.flat {
                no("from", "is a list or an object, which only JSON can carry");
            }
        }
        Type::Time => {
            no("map", "is a time; write it with zone and format");
            let text = match time.as_ref().map(|time| &time.format) {
                None | Some(Format::Rfc3339 | Format::Rfc3339Millis | Format::Rfc1123 | Format::ZoneName) => true,
                Some(_) => false,
            };
            match rule.as_type {
                Some(As::Boolean) => no("as", "is a time"),
                Some(As::Number) if text => {
                    no("as", "is written as a text; use format = \"epoch_s\" or another number");
                }
                _ => {}
            }
        }
        Type::Word if rule.text == Text::default() => vocabulary(reader, *source),
        Type::Word | Type::Text | Type::Number | Type::Boolean => {}
    }
}

/// The keys of `map` where the source has a closed list of words.
fn vocabulary(reader: &Reader<'_>, source: Source) {
    let words = source.words();
    let Some(Value::Table(map)) = reader.get("map").map(|node| &node.value) else { return };
    for entry in map.entries.iter().filter(|entry| !words.contains(&entry.key.as_str())) {
        let (key, expected) = (format!("map.{}", entry.key), one_of(words.iter().copied()));
        let found = format!("a word that {} never has", source.pointer());
        let mut problem = reader.report.problem(&entry.key_place, &reader.key(&key), &found, &expected);
        problem.nearest = nearest(&entry.key, words.iter().copied()).map(|word| format!("\"{word}\""));
        reader.report.error(problem);
    }
}
