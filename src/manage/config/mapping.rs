//! `[sink.map]`: targets and rules, each checked against what an event can hold.
//!
//! Must not: let a misspelt source pass as an absent one, or know a vendor.

use super::reader::{Reader, as_text, one_of};
use super::suggest::nearest;
use super::tree::{Node, Place, Table, Value};
use crate::clock::{self, Zone};
use crate::deliver::api::mapping::{
    self, As, Case, Field, Format, Mapping, Origin, Rule, Scalar, Source, Text, Time, Type,
};
use crate::event::UtcMicros;

/// What makes a table a rule and not more targets.
const ORIGINS: &[&str] = &["from", "constant", "template"];

/// Keys that nobody but a rule has: a table with one of them and no origin is a rule that was misspelt.
const ONLY_IN_RULES: &[&str] =
    &["map", "default", "trim", "upper", "lower", "strip", "strip_leading_zeros", "rut_dash", "max_chars", "optional"];

const RULE: &str = "a field of the event such as \"/terminal_serial\", or a table such as { from = \"/punch\", map = { in = \"IN\" } }";

/// What holds for all rules of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'s> {
    /// `[gateway] zone`, for `zone = "site"`.
    pub(super) site_zone: Option<&'s str>,
    /// Only text can be carried: a form, a query, a header, a path.
    pub(super) flat: bool,
}

/// `[sink.map]` or `[sink.map_correction]`. Where something was wrong it has been reported, and the result is of no use.
pub(super) fn mapping(sink: &Reader<'_>, key: &'static str, scope: Scope<'_>) -> Option<Mapping> {
    let table = sink.child(key, "a table of targets, for example serialNumber = \"/terminal_serial\"")?;
    let mut fields = Vec::new();
    targets(&table, &[], scope, &mut fields);
    if fields.is_empty() && table.entries().next().is_none() {
        let expected = "at least one target, for example serialNumber = \"/terminal_serial\"";
        table.report.error(table.report.problem(&table.place, &table.path, "an empty table", expected));
    }
    Some(Mapping { fields })
}

fn targets(table: &Reader<'_>, prefix: &[String], scope: Scope<'_>, fields: &mut Vec<Field>) {
    // The tree is sorted by name; what is sent stands in the order of the file.
    let mut entries: Vec<_> = table.entries().collect();
    entries.sort_by_key(|(_, place, _)| match place {
        Place::File(span) => span.start,
        Place::Variable(_) => usize::MAX,
    });
    for (key, place, node) in entries {
        let Some(keys) = split(key) else {
            report(
                table,
                key,
                place,
                "a target with an empty part",
                "keys with dots between them; \\. is a dot itself",
            );
            continue;
        };
        let target: Vec<String> = prefix.iter().cloned().chain(keys).collect();
        if scope.flat && target.len() > 1 {
            report(table, key, place, "a nested target", "a plain key: a form or query has no nesting");
            continue;
        }
        if let Value::Table(inside) = &node.value
            && !is_rule(inside)
        {
            let inner = Reader::new(table.report, table.key(key), node.place.clone(), Some(inside));
            let misspelt = inside.entries.iter().find(|e| ONLY_IN_RULES.contains(&e.key.as_str()));
            if scope.flat || misspelt.is_some() || inside.entries.is_empty() {
                report(table, key, &node.place, "a table that names no source", "from, template or constant in it");
                continue;
            }
            targets(&inner, &target, scope, fields);
            continue;
        }
        let meets = |other: &&Field| other.target.starts_with(&target) || target.starts_with(&other.target);
        if let Some(other) = fields.iter().find(meets) {
            let found = format!("a target that meets \"{}\"", other.target.join("."));
            report(table, key, place, &found, "targets of which none stands inside another");
            continue;
        }
        fields.extend(rule(table, key, node, scope).map(|rule| Field { target, rule }));
    }
}

fn report(table: &Reader<'_>, key: &str, place: &Place, found: &str, expected: &str) {
    table.report.error(table.report.problem(place, &table.key(key), found, expected));
}

fn is_rule(table: &Table) -> bool {
    table.entries.iter().any(|entry| ORIGINS.contains(&entry.key.as_str()))
}

/// `a.b` is two keys, `a\.b` is one.
fn split(key: &str) -> Option<Vec<String>> {
    let (mut keys, mut current) = (Vec::new(), String::new());
    let mut chars = key.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if matches!(chars.peek(), Some('.' | '\\')) => current.extend(chars.next()),
            '.' => keys.push(std::mem::take(&mut current)),
            c => current.push(c),
        }
    }
    keys.push(current);
    keys.iter().all(|key| !key.is_empty()).then_some(keys)
}

/// One rule, in its short or its long form.
pub(super) fn rule(parent: &Reader<'_>, key: &str, node: &Node, scope: Scope<'_>) -> Option<Rule> {
    let Value::Table(table) = &node.value else {
        let source = source(parent, key, node, RULE)?;
        if scope.flat && matches!(source.kind(), Type::List | Type::Object) {
            parent.wrong(key, node, "a field that is text, a number or a time");
        }
        return Some(Rule::plain(Origin::Source(source, None)));
    };
    let reader = Reader::new(parent.report, parent.key(key), node.place.clone(), Some(table));
    let written: Vec<&str> = ORIGINS.iter().copied().filter(|key| table.get(key).is_some()).collect();
    if written.len() != 1 {
        let found = if written.is_empty() { "a table that names no source" } else { "more than one source" };
        let expected = "one of from, template and constant";
        reader.report.error(reader.report.problem(&node.place, &reader.path, found, expected));
        return None;
    }
    if let Some(constant) = reader.get("constant") {
        let value = scalar(constant);
        if value.is_none() {
            reader.wrong("constant", constant, "a text, a number, true or false");
        }
        let rest: Vec<_> = ONLY_IN_RULES.iter().chain(&["as", "zone", "format"]).collect();
        let elsewhere: Vec<_> = rest.iter().map(|key| (**key, "a target with from or template")).collect();
        reader.finish(&elsewhere);
        return value.map(|value| Rule::plain(Origin::Constant(value)));
    }
    let origin = match reader.get("from") {
        Some(from) => {
            let source = source(&reader, "from", from, "a field of the event such as \"/terminal_serial\"");
            let time = time(&reader, source, scope);
            source.map(|source| Origin::Source(source, time))
        }
        None => template(&reader).map(Origin::Template),
    };
    let rule = options(&reader, origin);
    let elsewhere = [("zone", "a target with from"), ("format", "a target with from")];
    let plain = matches!(&rule, Some(Rule { origin: Origin::Source(..), .. }));
    if let Some(rule) = &rule {
        fits(&reader, rule, scope);
    }
    reader.finish(if plain { &[] } else { &elsewhere[..] });
    rule
}

fn source(reader: &Reader<'_>, key: &str, node: &Node, expected: &str) -> Option<Source> {
    let text = as_text(node);
    let source = text.and_then(Source::at);
    if source.is_none() {
        let mut problem = reader.report.problem(&node.place, &reader.key(key), &node.shown(), expected);
        if let Some(text) = text {
            let slashed = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
            problem.nearest = nearest_pointer(&slashed);
        }
        reader.report.error(problem);
    }
    source
}

fn nearest_pointer(text: &str) -> Option<String> {
    // The last part alone may be all that somebody remembers.
    let tail = Source::pointers().find(|pointer| !pointer.is_empty() && text.len() > 1 && pointer.ends_with(text));
    let near = nearest(text, Source::pointers().filter(|pointer| !pointer.is_empty()));
    near.or(tail).map(|pointer| format!("\"{pointer}\""))
}

fn template(reader: &Reader<'_>) -> Option<String> {
    let text = reader.text("template", "a text with fields in it, for example \"{{ site_id }}-{{ door.number }}\"")?;
    let node = reader.get("template")?;
    match mapping::variables(text) {
        Err(what) => {
            let found = format!("a template that cannot be used ({what})");
            reader.report.error(reader.report.problem(
                &node.place,
                &reader.key("template"),
                &found,
                "a minijinja template",
            ));
            None
        }
        Ok(names) => {
            for name in names.iter().filter(|name| Source::at(name).is_none()) {
                let found = format!("{{{{ {} }}}}", name[1..].replace('/', "."));
                let expected = "a field of the event, with dots: {{ person.external_id }}";
                let mut problem = reader.report.problem(&node.place, &reader.key("template"), &found, expected);
                problem.nearest = nearest_pointer(name).map(|near| near.trim_matches(['"', '/']).replace('/', "."));
                reader.report.error(problem);
            }
            Some(text.to_owned())
        }
    }
}

/// `zone` and `format`.
fn time(reader: &Reader<'_>, source: Option<Source>, scope: Scope<'_>) -> Option<Time> {
    let zone = zone(reader, scope);
    let format = format(reader);
    let (zone_node, format_node) = (reader.get("zone"), reader.get("format"));
    if let Some(source) = source
        && source.kind() != Type::Time
    {
        for (key, node) in [("zone", zone_node), ("format", format_node)] {
            if let Some(node) = node {
                let expected =
                    format!("no {key}: {} is no time (/event_time and /received_time are)", source.pointer());
                reader.wrong(key, node, &expected);
            }
        }
        return None;
    }
    match (format, zone_node, format_node) {
        (None, Some(node), None) => {
            reader.wrong("zone", node, "a format beside it, for example format = \"%Y-%m-%d %H:%M:%S\"");
            None
        }
        (Some(format), None, _) if format.needs_zone() => {
            reader.missing(
                "zone",
                "zone = \"site\", \"utc\" or an IANA name: the format does not say which clock it shows",
            );
            None
        }
        (Some(format), Some(node), _) if !format.takes_zone() => {
            reader.wrong("zone", node, "no zone: this format is the same in every zone");
            None
        }
        (Some(format), _, _) => Some(Time { zone: zone.unwrap_or_else(|| "UTC".to_owned()), format }),
        (None, _, _) => None,
    }
}

fn zone(reader: &Reader<'_>, scope: Scope<'_>) -> Option<String> {
    const ZONE: &str = "\"site\", \"utc\", or a zone of the IANA database such as \"America/Santiago\"";
    let text = reader.text("zone", ZONE)?;
    match text {
        "site" => scope.site_zone.map(str::to_owned),
        "utc" | "UTC" => Some("UTC".to_owned()),
        name if Zone::named(name).is_ok() => Some(name.to_owned()),
        name => {
            let node = reader.get("zone")?;
            let mut problem = reader.report.problem(&node.place, &reader.key("zone"), &node.shown(), ZONE);
            let names = clock::zone_names();
            let like = clock::zones_like(name);
            let near = nearest(name, ["site", "utc"])
                .or_else(|| like.first().map(String::as_str))
                .or_else(|| nearest(name, names.iter().map(String::as_str)));
            problem.nearest = near.map(|near| format!("\"{near}\""));
            reader.report.error(problem);
            None
        }
    }
}

fn format(reader: &Reader<'_>) -> Option<Format> {
    let words: Vec<&str> = Format::WORDS.iter().map(|(word, _)| *word).collect();
    let expected = format!("a pattern such as \"%Y-%m-%d %H:%M:%S\", or {}", one_of(words.iter().copied()));
    let text = reader.text("format", &expected)?;
    if let Some((_, format)) = Format::WORDS.iter().find(|(word, _)| *word == text) {
        return Some(format.clone());
    }
    let node = reader.get("format")?;
    if !text.contains('%') {
        reader.wrong_word("format", node, &expected, words);
        return None;
    }
    if Zone::utc().strftime(UtcMicros(0), text).is_none() {
        reader.wrong("format", node, "a pattern of strftime directives, for example \"%Y-%m-%d %H:%M:%S%:z\"");
        return None;
    }
    Some(Format::Pattern(text.to_owned()))
}

/// Everything but where the value comes from.
fn options(reader: &Reader<'_>, origin: Option<Origin>) -> Option<Rule> {
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
    Some(Rule { origin: origin?, text, map, default, optional, max_chars, as_type })
}

/// What can't be done with the kind of value that stands at the source.
fn fits(reader: &Reader<'_>, rule: &Rule, scope: Scope<'_>) {
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

/// A value as it is to be sent.
pub(super) fn scalar(node: &Node) -> Option<Scalar> {
    Some(match &node.value {
        Value::Text(text) | Value::Datetime(text) => Scalar::Text(text.clone()),
        Value::Integer(Some(number), _) => Scalar::Number(number.to_string()),
        Value::Boolean(value) => Scalar::Boolean(*value),
        Value::Float(_) => Scalar::Number(json(node)?.to_string()),
        Value::Integer(None, _) | Value::Array(_) | Value::Table(_) => return None,
    })
}

/// A whole value as JSON; `None` for what JSON can't hold.
pub(super) fn json(node: &Node) -> Option<serde_json::Value> {
    Some(match &node.value {
        Value::Text(text) | Value::Datetime(text) => text.as_str().into(),
        Value::Integer(number, _) => (*number)?.into(),
        Value::Boolean(value) => (*value).into(),
        Value::Float(text) => {
            let float: f64 = text.replace('_', "").parse().ok()?;
            serde_json::Number::from_f64(float)?.into()
        }
        Value::Array(items) => items.iter().map(json).collect::<Option<Vec<_>>>()?.into(),
        Value::Table(table) => {
            let pairs = table.entries.iter().map(|entry| Some((entry.key.clone(), json(&entry.node)?)));
            serde_json::Value::Object(pairs.collect::<Option<_>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn dots_nest_unless_they_are_escaped() {
        let keys = |key: &str| split(key).unwrap_or_default().join("|");
        assert_eq!(keys("serialNumber"), "serialNumber");
        assert_eq!(keys("a.b.c"), "a|b|c");
        assert_eq!(keys(r"a\.b.c"), "a.b|c");
        assert_eq!(keys(r"a\\.b"), r"a\|b");
        assert_eq!(keys(r"a\b"), r"a\b");
        assert_eq!(split("a..b"), None);
        assert_eq!(split(""), None);
    }
}
