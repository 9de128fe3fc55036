//! `[sink.map]`: targets and rules, each checked against what an event can hold.
//!
//! Must not: let a misspelt source pass as an absent one, or know a vendor.

mod options;
mod time;

use self::options::{fits, options, when};
use self::time::time;
use super::reader::{Reader, as_text};
use super::suggest::nearest;
use super::tree::{Node, Place, Table, Value};
use crate::deliver::api::mapping::{self, Field, Mapping, Origin, Rule, Scalar, Source, Type};

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
        Place::File(span) | Place::Preset(_, span) | Place::Bundle(span) => span.start,
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
pub(super) fn split(key: &str) -> Option<Vec<String>> {
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
        let when = when(&reader);
        let rest: Vec<_> = ONLY_IN_RULES.iter().chain(&["as", "zone", "format"]).collect();
        let elsewhere: Vec<_> = rest.iter().map(|key| (**key, "a target with from or template")).collect();
        reader.finish(&elsewhere);
        return value.map(|value| Rule { when, ..Rule::plain(Origin::Constant(value)) });
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
