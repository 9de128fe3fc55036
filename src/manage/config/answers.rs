//! `[[sink.answer]]`, `[sink.items]`, `[sink.counts]`, `[[sink.wait]]`, `[sink.poll]`, `[sink.lookup]` and `on_ambiguous`.
//!
//! Must not: know what a vendor answers; the rules say it.

use std::time::Duration;

use super::questions::lookup;
use super::reader::{Reader, as_text};
use super::tree::{Node, Value};
use crate::deliver::OnAmbiguous;
use crate::deliver::api::answers::{
    Counts, Format, Items, Key, Missing, Place, Rule, Rules, Say, Short, Test, Unit, VERDICTS, Wait,
};
use crate::deliver::api::auth::Auth;
use crate::deliver::api::follow::{Lookup, Poll};
use crate::deliver::api::template::Template;

pub(super) const POINTER: &str = "a JSON pointer, for example \"/error/code\" (\"\" is the whole)";

const PLACE: &str = "a JSON pointer such as \"/message\", or \"header:NAME\"";

const STATUS: &str = "a list of statuses (409) and classes (\"4xx\")";

const TESTS: &str = "a table with exists, absent, eq, in, prefix or contains, for example { eq = \"DUPLICATE\" }";

pub(super) const TEMPLATE: &str =
    "a path with {/POINTER} for what was sent (or {event/POINTER}), for example \"/clock_ins?worker={/worker}\"";

/// What may be said of one item.
const ITEM_VERDICTS: &[(&str, Say)] = &[
    ("delivered", Say::Delivered),
    ("duplicate", Say::Duplicate),
    ("retry", Say::Retry),
    ("reject", Say::Reject),
    ("unknown_worker", Say::UnknownWorker),
];

/// What the rules of a sink come to.
pub(super) struct Answering {
    pub(super) rules: Rules,
    pub(super) poll: Option<Poll>,
    pub(super) lookup: Option<Lookup>,
    pub(super) on_ambiguous: Option<OnAmbiguous>,
}

/// The keys that say what answers mean.
const KEYS: &[&str] =
    &["on_ambiguous", "answer", "answer_format", "unwrap", "items", "counts", "wait", "poll", "lookup", "open"];

/// All that is written about answers, presets included, in one text.
pub(super) fn written(sink: &Reader<'_>) -> String {
    let mut text = String::new();
    for key in KEYS {
        if let Some(node) = sink.get(key) {
            text.push_str(key);
            text.push('=');
            node.canonical(&mut text);
            text.push('\n');
        }
    }
    text
}

/// Everything that a sink says about answers.
pub(super) fn answering(reader: &Reader<'_>) -> Answering {
    let answers = rules(reader, "answer", VERDICTS);
    let format = reader.word("answer_format", &[("json", Format::Json), ("text", Format::Text)]).unwrap_or_default();
    let rules = Rules {
        answers,
        format,
        unwrap: pointers(reader, "unwrap"),
        items: items(reader),
        counts: counts(reader),
        waits: waits(reader),
    };
    let (poll, lookup) = (poll(reader), lookup(reader));
    let words = [
        ("resend", OnAmbiguous::Resend),
        ("resend-expect-duplicate", OnAmbiguous::ResendExpectDuplicate),
        ("lookup", OnAmbiguous::Lookup),
        ("hold", OnAmbiguous::Hold),
    ];
    let on_ambiguous = reader.word("on_ambiguous", &words);
    Answering { rules, poll, lookup, on_ambiguous }
}

/// What fits together only as a whole. `auth` is `None` where it is wrong in itself.
pub(super) fn check(reader: &Reader<'_>, answering: &Answering, auth: Option<&Auth>) {
    let Answering { rules, poll, lookup, on_ambiguous } = answering;
    let items = rules.items.iter().flat_map(|items| &items.answers);
    let says = |say: Say| rules.answers.iter().chain(items.clone()).any(|rule| rule.verdict == say);
    let ruled = ["preset", "map", "answer", "items", "counts"];
    let declares = ruled.iter().find(|key| reader.entries().any(|(name, _, _)| name == **key));
    if let (Some(key), false) = (declares, reader.get("on_ambiguous").is_some()) {
        let expected = format!(
            "on_ambiguous = \"resend\", \"resend-expect-duplicate\", \"lookup\" or \"hold\" beside {key}: what it means \
             to this vendor that an answer was lost"
        );
        reader.missing("on_ambiguous", &expected);
    }
    if let (Some(counts), Some(node)) = (&rules.counts, reader.get("counts"))
        && counts.short == Short::Split
        && counts.duplicate.is_none()
        && *on_ambiguous == Some(OnAmbiguous::Resend)
        && reader.get("batch").is_some_and(|batch| !matches!(batch.value, Value::Integer(Some(1), _)))
    {
        let expected = "short = \"prefix\", or duplicate = \"/POINTER\" if the vendor counts what it had: of a batch that is \
                        split and sent again, what it took would be there twice";
        reader.wrong("counts", node, expected);
    }
    let Some(node) = reader.get("on_ambiguous") else { return needs(reader, says, poll, lookup, auth) };
    match on_ambiguous {
        Some(OnAmbiguous::ResendExpectDuplicate) if !says(Say::Duplicate) && rules.counts.is_none() => {
            let expected =
                "a rule with verdict = \"duplicate\" in [[sink.answer]] beside it: how the vendor says that it had it";
            reader.wrong("on_ambiguous", node, expected);
        }
        Some(OnAmbiguous::Lookup) if lookup.is_none() && reader.get("lookup").is_none() => {
            reader.wrong(
                "on_ambiguous",
                node,
                "[sink.lookup] beside it: how the vendor is asked whether it has an event",
            );
        }
        Some(OnAmbiguous::Lookup | OnAmbiguous::Hold) if rules.is_empty() && reader.get("answer").is_none() => {
            reader.wrong("on_ambiguous", node, "[[sink.answer]] beside it: what the vendor answers");
        }
        _ => {}
    }
    needs(reader, says, poll, lookup, auth);
}

/// Verdicts that need something beside them.
fn needs(
    reader: &Reader<'_>,
    says: impl Fn(Say) -> bool,
    poll: &Option<Poll>,
    lookup: &Option<Lookup>,
    auth: Option<&Auth>,
) {
    if says(Say::Pending) && poll.is_none() && reader.get("poll").is_none() {
        reader.missing("poll", "[sink.poll] beside a rule with verdict = \"pending\": how it is asked for");
    }
    if says(Say::Lookup) && lookup.is_none() && reader.get("lookup").is_none() {
        reader.missing("lookup", "[sink.lookup] beside a rule with verdict = \"lookup\": how the vendor is asked");
    }
    if says(Say::Relogin) && auth.is_some_and(|auth| !matches!(auth, Auth::Login(_) | Auth::OAuth2(_))) {
        let expected = "auth = { type = \"login\", … } or \"oauth2\" beside a rule with verdict = \"relogin\"";
        reader.missing("auth", expected);
    }
}

/// `[[….answer]]`.
fn rules(reader: &Reader<'_>, key: &'static str, verdicts: &[(&'static str, Say)]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for rule in reader.children(key, "tables such as status = [409], verdict = \"duplicate\"") {
        if rule.get("verdict").is_none() {
            rule.missing("verdict", &super::reader::one_of(verdicts.iter().map(|v| v.0)));
        }
        let verdict = rule.word("verdict", verdicts);
        let status = statuses(&rule, "status");
        let when = when(&rule);
        let (reason, remote_id) = (place(&rule, "reason"), place(&rule, "remote_id"));
        let free = rule.get("status").is_none() && rule.get("when").is_none();
        let of_items = std::ptr::eq(verdicts, ITEM_VERDICTS);
        if let (true, false, Some(Say::Delivered | Say::Duplicate)) = (free, of_items, verdict) {
            rule.missing("status", "status = [200] or when = { … }: no answer is a success whatever it says");
        }
        rule.finish(&[]);
        if let (Some(verdict), Some(status), Some(when)) = (verdict, status, when) {
            rules.push(Rule { status, when, verdict, reason, remote_id });
        }
    }
    rules
}

/// Statuses and classes of them as inclusive ranges.
pub(super) fn statuses(reader: &Reader<'_>, key: &'static str) -> Option<Vec<(u16, u16)>> {
    let Some(node) = reader.get(key) else { return Some(Vec::new()) };
    let items = match &node.value {
        Value::Array(items) if !items.is_empty() => items.as_slice(),
        Value::Array(_) => {
            reader.wrong(key, node, STATUS);
            return None;
        }
        _ => std::slice::from_ref(node),
    };
    let ranges: Vec<Option<(u16, u16)>> = items.iter().map(status).collect();
    for (item, _) in items.iter().zip(&ranges).filter(|(_, range)| range.is_none()) {
        reader.wrong(key, item, STATUS);
    }
    ranges.into_iter().collect()
}

fn status(node: &Node) -> Option<(u16, u16)> {
    match &node.value {
        Value::Integer(Some(n), _) => u16::try_from(*n).ok().filter(|n| (100..600).contains(n)).map(|n| (n, n)),
        _ => {
            let class = as_text(node)?.strip_suffix("xx")?.parse::<u16>().ok().filter(|n| (1..6).contains(n))?;
            Some((class * 100, class * 100 + 99))
        }
    }
}

/// `when = { "/pointer" = { eq = … } }`.
fn when(rule: &Reader<'_>) -> Option<Vec<(Place, Test)>> {
    let expected = "a table such as { \"/code\" = { eq = \"DUPLICATE\" } }";
    if rule.get("when").is_none() {
        return Some(Vec::new());
    }
    let table = rule.child("when", expected)?;
    let mut all = Vec::new();
    let mut good = true;
    for (name, key_place, node) in table.entries() {
        let Some(place) = placed(name) else {
            table.report.error(table.report.problem(key_place, &table.key(name), "no place of an answer", PLACE));
            good = false;
            continue;
        };
        let Value::Table(tests) = &node.value else {
            table.wrong(name, node, TESTS);
            good = false;
            continue;
        };
        let tests = Reader::new(table.report, table.key(name), node.place.clone(), Some(tests));
        let before = all.len();
        for (test, _, found) in tests.entries() {
            if let Some(test) = one_test(&tests, test, found) {
                all.push((place.clone(), test));
            }
        }
        for known in ["exists", "absent", "eq", "in", "prefix", "contains"] {
            tests.get(known);
        }
        good &= all.len() > before;
        if tests.entries().next().is_none() {
            table.wrong(name, node, TESTS);
        }
        tests.finish(&[]);
    }
    good.then_some(all)
}

fn one_test(tests: &Reader<'_>, name: &str, node: &Node) -> Option<Test> {
    let text = || as_text(node).map(str::to_owned);
    let (test, expected) = match name {
        "exists" => (boolean(node).map(Test::Exists), "true or false"),
        "absent" => (boolean(node).map(|absent| Test::Exists(!absent)), "true or false"),
        "eq" => (json(node).map(Test::Eq), "a value"),
        "in" => {
            let list = match &node.value {
                Value::Array(items) if !items.is_empty() => items.iter().map(json).collect::<Option<Vec<_>>>(),
                _ => None,
            };
            (list.map(Test::In), "a list of values, for example [\"0\", 0]")
        }
        "prefix" => (text().map(Test::Prefix), "text in quotes"),
        "contains" => (text().map(Test::Contains), "text in quotes"),
        // Reported as an unknown key.
        _ => return None,
    };
    if test.is_none() {
        tests.wrong(name, node, expected);
    }
    test
}

fn boolean(node: &Node) -> Option<bool> {
    if let Value::Boolean(value) = node.value { Some(value) } else { None }
}

/// A value of the file as JSON; times are texts.
fn json(node: &Node) -> Option<serde_json::Value> {
    Some(match &node.value {
        Value::Text(text) | Value::Datetime(text) => text.clone().into(),
        Value::Integer(n, _) => (*n)?.into(),
        Value::Float(text) => serde_json::Number::from_f64(text.parse().ok()?)?.into(),
        Value::Boolean(value) => (*value).into(),
        Value::Array(items) => items.iter().map(json).collect::<Option<Vec<_>>>()?.into(),
        Value::Table(table) => {
            let members = table.entries.iter().map(|e| Some((e.key.clone(), json(&e.node)?)));
            serde_json::Value::Object(members.collect::<Option<_>>()?)
        }
    })
}

fn placed(text: &str) -> Option<Place> {
    match text.strip_prefix("header:") {
        Some(name) if !name.is_empty() => Some(Place::Header(name.to_ascii_lowercase())),
        Some(_) => None,
        None => is_pointer(text).then(|| Place::Body(text.to_owned())),
    }
}

fn place(reader: &Reader<'_>, key: &'static str) -> Option<Place> {
    let node = reader.get(key)?;
    let place = as_text(node).and_then(placed);
    if place.is_none() {
        reader.wrong(key, node, PLACE);
    }
    place
}

/// RFC 6901: empty, or beginning with `/`.
pub(super) fn is_pointer(text: &str) -> bool {
    text.is_empty() || text.starts_with('/')
}

pub(super) fn pointer(reader: &Reader<'_>, key: &'static str) -> Option<String> {
    let node = reader.get(key)?;
    let pointer = as_text(node).filter(|text| is_pointer(text));
    if pointer.is_none() {
        reader.wrong(key, node, POINTER);
    }
    pointer.map(str::to_owned)
}

/// One pointer, or a list of them.
fn pointers(reader: &Reader<'_>, key: &'static str) -> Vec<String> {
    let Some(node) = reader.get(key) else { return Vec::new() };
    let items = if let Value::Array(items) = &node.value { items.as_slice() } else { std::slice::from_ref(node) };
    let mut all = Vec::new();
    for item in items {
        match as_text(item).filter(|text| is_pointer(text)) {
            Some(text) => all.push(text.to_owned()),
            None => reader.wrong(key, item, POINTER),
        }
    }
    all
}

/// A table of names and plain texts.
pub(super) fn pairs(reader: &Reader<'_>, key: &'static str, expected: &str) -> Vec<(String, String)> {
    let Some(table) = reader.child(key, expected) else { return Vec::new() };
    let mut all = Vec::new();
    for (name, _, node) in table.entries() {
        match as_text(node) {
            Some(text) => all.push((name.to_owned(), text.to_owned())),
            None => table.wrong(name, node, "text in quotes"),
        }
    }
    all
}

fn items(reader: &Reader<'_>) -> Option<Items> {
    let table = reader.child("items", "a table [sink.items]")?;
    if table.get("at").is_none() {
        table.missing("at", "at = \"/POINTER\" to the list in the answer");
    }
    let at = pointers(&table, "at");
    let key = match table.get("key") {
        None => Some(Key::Index),
        Some(node) if as_text(node) == Some("index") => Some(Key::Index),
        Some(node) if matches!(node.value, Value::Table(_)) => table.child("key", "").and_then(|key| {
            let (response, sent) = (pointer(&key, "response"), pointer(&key, "sent"));
            for (name, found) in [("response", &response), ("sent", &sent)] {
                if found.is_none() && !key.entries().any(|(entry, _, _)| entry == name) {
                    key.missing(name, POINTER);
                }
            }
            key.finish(&[]);
            Some(Key::Field { response: response?, sent: sent? })
        }),
        Some(node) => {
            table.wrong("key", node, "\"index\", or { response = \"/id\", sent = \"/worker\" }");
            None
        }
    };
    if table.get("answer").is_none() {
        table.missing("answer", "[[sink.items.answer]] tables: what the vendor says of one item");
    }
    let answers = rules(&table, "answer", ITEM_VERDICTS);
    let words = [("retry", Missing::Retry), ("delivered", Missing::Delivered), ("reject", Missing::Reject)];
    let missing = table.word("missing", &words).unwrap_or_default();
    table.finish(&[]);
    Some(Items { at, key: key?, answers, missing })
}

fn counts(reader: &Reader<'_>) -> Option<Counts> {
    let node = reader.get("counts")?;
    if as_text(node) == Some("prefix") {
        let accepted = "/accepted".to_owned();
        return Some(Counts { accepted, duplicate: None, rejected: None, short: Short::Prefix });
    }
    let table =
        reader.child("counts", "\"prefix\", or a table { accepted = \"/accepted\", rejected = \"/rejected\" }")?;
    if table.get("accepted").is_none() {
        table.missing("accepted", POINTER);
    }
    let accepted = pointer(&table, "accepted");
    let (duplicate, rejected) = (pointer(&table, "duplicate"), pointer(&table, "rejected"));
    let short = table.word("short", &[("split", Short::Split), ("prefix", Short::Prefix)]).unwrap_or_default();
    table.finish(&[]);
    Some(Counts { accepted: accepted?, duplicate, rejected, short })
}

fn waits(reader: &Reader<'_>) -> Vec<Wait> {
    let mut waits = Vec::new();
    for wait in reader.children("wait", "tables such as header = \"X-RateLimit-Reset\", unit = \"epoch_s\"") {
        const HEADER: &str = "a header's name, for example \"X-RateLimit-Reset\"";
        let header = wait.need_text("header", HEADER);
        let units = [("delta", Unit::Delta), ("epoch_s", Unit::Epoch), ("http_date", Unit::Date)];
        let unit = wait.word("unit", &units).unwrap_or(Unit::Delta);
        let remaining = wait.text("remaining", HEADER).map(str::to_ascii_lowercase);
        wait.finish(&[]);
        if let Some(header) = header {
            waits.push(Wait { header: header.to_ascii_lowercase(), unit, remaining });
        }
    }
    waits
}

pub(super) fn template(reader: &Reader<'_>, key: &'static str, path: bool) -> Option<Template> {
    let text = reader.text(key, TEMPLATE)?;
    let template = Template::parse(text).filter(|_| !path || text.starts_with('/'));
    if let (None, Some(node)) = (&template, reader.get(key)) {
        reader.wrong(key, node, TEMPLATE);
    }
    template
}

fn poll(reader: &Reader<'_>) -> Option<Poll> {
    let table = reader.child("poll", "a table [sink.poll]")?;
    let path = template(&table, "path", true);
    let seconds = |key, most, default| {
        let seconds = table.number(key, 1..=most, "a whole number of seconds");
        Duration::from_secs(seconds.unwrap_or(default))
    };
    let (interval, deadline) = (seconds("interval_seconds", 300, 5), seconds("deadline_seconds", 3600, 300));
    if table.get("answer").is_none() {
        table.missing("answer", "[[sink.poll.answer]] tables: what the vendor says once it has decided");
    }
    let answers = rules(&table, "answer", VERDICTS);
    table.finish(&[]);
    Some(Poll { path, interval, deadline, answers })
}
