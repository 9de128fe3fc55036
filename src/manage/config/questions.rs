//! `[sink.lookup]` and `[sink.open]`: what a vendor is asked before something is sent.
//!
//! Must not: know a vendor.

use std::time::Duration;

use super::answers::{POINTER, TEMPLATE, is_pointer, pointer, statuses, template};
use super::mapping::when;
use super::reader::{Reader, as_text};
use super::request::exit_request;
use super::tree::{Place, Value};
use crate::deliver::OnAmbiguous;
use crate::deliver::api::follow::Lookup;
use crate::deliver::api::mapping::{Mapping, Source};
use crate::deliver::api::open::{Bound, Open};
use crate::deliver::api::request::{Ending, Request};
use crate::deliver::api::template::Template;

/// What stands around `[sink.open]`.
pub(super) struct Beside<'s> {
    pub(super) site_zone: Option<&'s str>,
    pub(super) map: Option<&'s Mapping>,
    pub(super) request: Option<&'s Request>,
    pub(super) on_ambiguous: Option<OnAmbiguous>,
    /// `[sink.lookup]`, which is asked for exits too where they have none of their own.
    pub(super) lookup: Option<&'s Lookup>,
}

/// `[sink.open]`.
pub(super) fn open(sink: &Reader<'_>, beside: &Beside<'_>) -> Option<Open> {
    let table = sink.child("open", "a table [sink.open]")?;
    let node = sink.get("open")?;
    if !matches!(beside.on_ambiguous, Some(OnAmbiguous::Lookup | OnAmbiguous::Hold)) {
        let expected =
            "on_ambiguous = \"lookup\" (or \"hold\") beside it: an exit that is sent twice could end another record";
        sink.wrong("open", node, expected);
    }
    if sink.get("order").and_then(as_text) == Some("live-first") {
        sink.wrong("open", node, "order = \"strict\": an exit must not overtake the entry that it ends");
    }
    if sink.get("map").is_none() {
        sink.wrong("open", node, "[sink.map] beside it: what an entry and an exit consist of");
    }
    if table.get("when").is_none() {
        table.missing("when", "which events are exits, for example { \"/punch\" = [\"out\"] }");
    }
    let when = when(&table);
    if table.get("id").is_none() {
        table.missing("id", "id = \"/POINTER\" to the id of the record that was found");
    }
    let ask = question(&table, "id");
    let lookup = lookup(&table);
    if let (false, Some(map)) = (when.is_empty(), beside.map) {
        askable(&table, &Exits { when: &when, map }, [ask.as_ref(), lookup.as_ref(), beside.lookup]);
    }
    if let Some(node) = sink.get("max_requests_per_minute")
        && matches!(node.value, Value::Integer(Some(1), _))
    {
        let expected = "2 or more beside [sink.open]: an exit is a question and, right after it, what is written";
        sink.wrong("max_requests_per_minute", node, expected);
    }
    if table.get("request").is_none() {
        table.missing("request", "a table [sink.open.request]: what is sent for an exit");
    }
    let request = exit_request(&table, beside.site_zone, beside.request);
    let id_at = pointer(&table, "id_at");
    let in_path = request.as_ref().is_some_and(|request| {
        request
            .path
            .iter()
            .flat_map(|path| path.values().unwrap_or_default())
            .any(|path| path.as_text().contains("{open}"))
    });
    match (&id_at, &request, table.get("id_at")) {
        (Some(at), Some(request), Some(node)) => {
            if let Err(expected) = request.check_id_at(at) {
                table.wrong("id_at", node, &expected);
            }
        }
        (None, Some(_), None) if !in_path => {
            let expected =
                "id_at = \"/POINTER\" into the body, or {open} in request.path: where the id of the open record goes";
            table.missing("id_at", expected);
        }
        _ => {}
    }
    let ending = Ending { id_at: id_at.unwrap_or_default(), ask_only: ask_only(&table, beside.map) };
    let bound = bound(&table);
    table.finish(&[]);
    Some(Open { when, ask: ask?, request: request?, ending, lookup, bound })
}

/// Which events are exits, and what they consist of.
struct Exits<'s> {
    when: &'s [(Source, Vec<String>)],
    map: &'s Mapping,
}

impl Exits<'_> {
    /// Whether an exit may be without what stands at a JSON pointer: the targets there have a `when` that not every exit
    /// meets.
    fn may_lack(&self, pointer: &str) -> bool {
        let keys: Vec<&str> = pointer.split('/').skip(1).collect();
        let there = |target: &[String]| target.iter().zip(&keys).all(|(target, key)| target == key);
        let mut fields = self.map.fields.iter().filter(|field| there(&field.target)).peekable();
        let met = |source: &Source, words: &[String]| {
            self.when.iter().any(|(place, exits)| place == source && exits.iter().all(|word| words.contains(word)))
        };
        fields.peek().is_some() && !fields.any(|field| field.rule.when.iter().all(|(source, words)| met(source, words)))
    }

    /// The first place of a question that an exit may not fill, by the key that has it.
    fn lacking<'l>(&self, lookup: &'l Lookup) -> Option<(&'static str, &'l str)> {
        let of = |key, template: &'l Template| template.fields().find(|at| self.may_lack(at)).map(|at| (key, at));
        // What was not sent is not compared, but something must be.
        let compared = || lookup.matches.iter().flat_map(|(_, ours, _)| ours.fields());
        let nothing = || compared().all(|at| self.may_lack(at)).then(|| compared().next()).flatten();
        of("path", &lookup.path)
            .or_else(|| lookup.body.as_ref().and_then(|body| of("body", body)))
            .or_else(|| nothing().map(|at| ("match", at)))
    }
}

/// A question that an exit can't be asked with would stop the sink at each exit.
fn askable(table: &Reader<'_>, exits: &Exits<'_>, [ask, own, beside]: [Option<&Lookup>; 3]) {
    let remedy =
        |at: &str| format!("fields of [sink.map] that every exit has; \"{at}\" has a when that exits do not meet");
    if let Some((key, at)) = ask.and_then(|ask| exits.lacking(ask))
        && let Some(node) = table.get(key)
    {
        table.wrong(key, node, &remedy(at));
    }
    if let Some((key, at)) = own.and_then(|own| exits.lacking(own)) {
        if let Some(lookup) = table.child("lookup", "")
            && let Some(node) = lookup.get(key)
            // A preset's question goes with the exits of the preset; who has other ones has no line in it to mend.
            && !matches!(node.place, Place::Preset(..))
        {
            lookup.wrong(key, node, &remedy(at));
        }
    } else if let (false, Some((_, at))) = (table.get("lookup").is_some(), beside.and_then(|all| exits.lacking(all))) {
        let expected = format!(
            "a table [sink.open.lookup]: how the sink is asked whether it has an exit; [sink.lookup] asks with \"{at}\", \
             which has a when that exits do not meet"
        );
        table.missing("lookup", &expected);
    }
}

/// Targets of the mapping that are asked with and not sent.
fn ask_only(table: &Reader<'_>, map: Option<&Mapping>) -> Vec<Vec<String>> {
    const EXPECTED: &str = "a list of targets of [sink.map], for example [\"employee_id\"]";
    let Some(node) = table.get("ask_only") else { return Vec::new() };
    let Value::Array(items) = &node.value else {
        table.wrong("ask_only", node, EXPECTED);
        return Vec::new();
    };
    let mut targets = Vec::new();
    for item in items {
        let target = as_text(item).and_then(|text| {
            map.iter().flat_map(|map| &map.fields).map(|field| &field.target).find(|target| target.join(".") == text)
        });
        match target {
            Some(target) => targets.push(target.clone()),
            // A mapping that is wrong has been reported.
            None if map.is_some() || as_text(item).is_none() => table.wrong("ask_only", item, EXPECTED),
            None => {}
        }
    }
    targets
}

/// `max_hours` and what it needs.
fn bound(table: &Reader<'_>) -> Option<Bound> {
    let hours = table.number("max_hours", 1..=8760, "a whole number of hours, for example 16");
    let (began, ended) = (pointer(table, "began"), pointer(table, "ended"));
    let format = table.text("format", "how both are written, for example \"%Y-%m-%d %H:%M:%S\"");
    if table.get("max_hours").is_none() {
        for key in ["began", "ended", "format"] {
            if let Some(node) = table.get(key) {
                table.wrong(key, node, "max_hours beside it: how long a record may have been open");
            }
        }
        return None;
    }
    for (key, expected) in [
        ("began", "a JSON pointer into the open record: when it began"),
        ("ended", "a JSON pointer into what is sent: when the exit was"),
        ("format", "how both are written, for example \"%Y-%m-%d %H:%M:%S\""),
    ] {
        if table.get(key).is_none() {
            table.missing(key, expected);
        }
    }
    let format = format?.to_owned();
    let sample = jiff::civil::date(2026, 4, 14).at(8, 30, 0, 0);
    let written = jiff::fmt::strtime::format(&format, sample).ok();
    let read = written.and_then(|text| jiff::civil::DateTime::strptime(&format, text).ok());
    if read != Some(sample)
        && let Some(node) = table.get("format")
    {
        table.wrong(
            "format",
            node,
            "a pattern with date and time to the minute at least, for example \"%Y-%m-%d %H:%M:%S\"",
        );
    }
    Some(Bound { most: Duration::from_secs(hours? * 3600), began: began?, ended: ended?, format })
}

/// `[sink.lookup]`, `[sink.open.lookup]`.
pub(super) fn lookup(reader: &Reader<'_>) -> Option<Lookup> {
    let table = reader.child("lookup", "a table [sink.lookup]")?;
    let lookup = question(&table, "remote_id");
    table.finish(&[]);
    lookup
}

/// A question and how its answer is read; `id` is the key that says what the vendor calls what was found.
fn question(table: &Reader<'_>, id: &'static str) -> Option<Lookup> {
    let method = table.word("method", &[("GET", "GET"), ("POST", "POST")]).unwrap_or("GET");
    if table.get("path").is_none() {
        table.missing("path", TEMPLATE);
    }
    let path = template(table, "path", true);
    let body = template(table, "body", false);
    let at = match table.get("at") {
        Some(_) => pointer(table, "at"),
        None => Some(String::new()),
    };
    let mut matches = Vec::new();
    const MATCH: &str =
        "a pointer into what was sent, or { contains = \"/POINTER\" } or { contains = \"T{/POINTER}:\" }";
    if let Some(same) = table.child("match", "a table such as { \"/check_in\" = \"/check_in\" }") {
        for (theirs, place, node) in same.entries() {
            if !is_pointer(theirs) {
                same.report.error(same.report.problem(place, &same.key(theirs), "no pointer", POINTER));
                continue;
            }
            let (ours, loosely) = match &node.value {
                Value::Table(inner) => (inner.get("contains").and_then(as_text), true),
                _ => (as_text(node), false),
            };
            let ours = ours.and_then(|ours| match ours {
                pointer if is_pointer(pointer) => Template::parse(&format!("{{{pointer}}}")),
                text if loosely && text.contains("{/") => Template::parse(text),
                _ => None,
            });
            match ours {
                Some(ours) => matches.push((theirs.to_owned(), ours, loosely)),
                None => same.wrong(theirs, node, MATCH),
            }
        }
    }
    let remote_id = pointer(table, id);
    let absent = statuses(table, "absent_status");
    Some(Lookup { method: method.to_owned(), path: path?, body, at: at?, matches, remote_id, absent: absent? })
}
