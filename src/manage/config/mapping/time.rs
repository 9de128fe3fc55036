//! `zone` and `format` of a rule.
//!
//! Must not: let a time go out in a zone that nobody named.

use super::super::reader::{Reader, one_of};
use super::super::suggest::nearest;
use super::Scope;
use crate::clock::{self, Zone};
use crate::deliver::api::mapping::{Format, Source, Time, Type};
use crate::event::UtcMicros;

/// `zone` and `format`.
pub(super) fn time(reader: &Reader<'_>, source: Option<Source>, scope: Scope<'_>) -> Option<Time> {
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
            let expected = clock::no_zones().unwrap_or(ZONE);
            let mut problem = reader.report.problem(&node.place, &reader.key("zone"), &node.shown(), expected);
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
