//! What of a configuration, a status and a log may leave the machine.
//!
//! Must not: let a value through of which it isn't sure. A reference to a secret says where one stands, and stays; a plain
//! value where a secret could stand is masked.

use serde_json::Value;
use toml::Value as Toml;

use crate::decode::scrub;
use crate::deliver::THEIRS;

/// What stands in the place of what is left out.
const MASK: &str = "***";

/// Parts of keys whose plain values could be secrets.
const SECRET: &[&str] =
    &["pass", "token", "secret", "key", "auth", "cred", "cookie", "session", "bearer", "sign", "pin", "hash"];

/// Keys that hold such a part and never a secret.
const OPEN: &[&str] = &[
    "on_ambiguous",
    "active_key",
    "recovery_key",
    "key_id",
    "type",
    "keep_alive_seconds",
    "token_type",
    "client_auth",
    "grant",
    "algorithm",
    "mapping",
];

/// Tables in which every plain value is somebody's own word: headers, fields of logins, constants of mappings.
const FREE: &[&str] = &["headers", "fields_of_login", "claims", "envelope"];

/// A configuration's text without comments, in which every secret is a reference; the error says why there is none. Of one
/// that is not `sound` no text is shown at all: under a key that was mistyped anything may stand.
pub(super) fn configuration(text: &str, sound: bool) -> Result<String, String> {
    let mut table: toml::Table =
        text.parse().map_err(|_| "it is no valid TOML; portero check says where".to_owned())?;
    for (key, value) in &mut table {
        if sound {
            mask(key, value, false);
        } else {
            blank(value);
        }
    }
    toml::to_string(&table).map_err(|error| error.to_string())
}

fn blank(value: &mut Toml) {
    match value {
        Toml::String(text) => *text = MASK.to_owned(),
        Toml::Array(items) => items.iter_mut().for_each(blank),
        Toml::Table(table) => table.iter_mut().for_each(|(_, value)| blank(value)),
        _ => {}
    }
}

fn mask(key: &str, value: &mut Toml, free: bool) {
    let lower = key.to_ascii_lowercase();
    let open = OPEN.contains(&lower.as_str());
    let suspect = !open && (free || SECRET.iter().any(|part| lower.contains(part)));
    match value {
        Toml::String(text) if suspect => *text = MASK.to_owned(),
        // A template: between its places anything may be written.
        Toml::String(text) if lower == "body" && text.contains(['{', '<', '&']) => *text = MASK.to_owned(),
        Toml::String(text) => *text = address(text),
        Toml::Integer(_) if suspect && free => *value = Toml::String(MASK.to_owned()),
        Toml::Array(items) => items.iter_mut().for_each(|item| mask(key, item, free)),
        Toml::Table(table) => {
            // `{ credential = "NAME" }` and `{ file = "/path" }` are references: that is all that is wanted of a secret.
            let reference = table.contains_key("credential") || table.contains_key("file");
            // A login's fields are as free as headers; a terminal's are pointers.
            let login = table.get("type").and_then(Toml::as_str) == Some("login");
            if key == "map" {
                people(table);
            }
            for (inner, value) in table.iter_mut() {
                let named = reference && matches!(inner.as_str(), "credential" | "file" | "expires");
                let below = free || FREE.contains(&inner.as_str()) || (login && inner == "fields");
                let constant = inner == "constant";
                match value {
                    _ if named => {}
                    Toml::Table(_) if !reference => mask(inner, value, below),
                    _ => mask(inner, value, (free && !named) || constant),
                }
            }
        }
        _ => {}
    }
}

/// A table of values for values names workers where one of them is a number of a person's length.
fn people(table: &mut toml::Table) {
    let number = |text: &str| !text.starts_with('/') && text.bytes().filter(u8::is_ascii_digit).count() >= 4;
    let masked = std::mem::take(table).into_iter().enumerate().map(|(at, (key, mut value))| {
        match &mut value {
            Toml::String(text) if number(text) => *text = MASK.to_owned(),
            Toml::Integer(count) if number(&count.to_string()) => value = Toml::String(MASK.to_owned()),
            _ => {}
        }
        (if number(&key) { format!("{MASK}{at}") } else { key }, value)
    });
    *table = masked.collect();
}

/// An address or a path without who and without query; every other text as it is.
fn address(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None if text.starts_with('/') => (String::new(), text),
        None => return text.to_owned(),
    };
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?***"));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let authority =
        authority.rsplit_once('@').map_or_else(|| authority.to_owned(), |(_, place)| format!("***@{place}"));
    // Hooks have a key for a path.
    let path = path.split('/').map(|part| if is_key(part) { MASK } else { part }).collect::<Vec<_>>().join("/");
    format!("{scheme}{authority}{path}{query}")
}

/// Long, and letters and digits mixed: nobody thought it up.
fn is_key(part: &str) -> bool {
    part.len() >= 20 && part.bytes().any(|b| b.is_ascii_digit()) && part.bytes().any(|b| b.is_ascii_alphabetic())
}

/// Our own words of a text: what a server said, behind «, may name a person.
pub(super) fn ours(text: &str) -> String {
    match text.split_once(THEIRS) {
        Some((ours, _)) => format!("{ours}***"),
        None => text.to_owned(),
    }
}

/// A status without servers' own words.
pub(super) fn status(value: &mut Value) {
    match value {
        Value::String(text) => *text = ours(text),
        Value::Array(items) => items.iter_mut().for_each(status),
        Value::Object(members) => members.values_mut().for_each(status),
        _ => {}
    }
}

/// A finding as it may leave the machine: what stands at a wrong place of the configuration could be a secret.
pub(super) fn finding(finding: &mut Value) {
    let quotes = finding["found"].as_str().is_some_and(|found| found.contains('"'));
    if finding["check"] == "configuration" && quotes {
        finding["found"] = "a text that is left out here".into();
    }
}

/// A line of the system's journal: time, machine and program stay, the message is scrubbed.
pub(super) fn line(line: &str) -> String {
    // Only where a head stands: time, machine, program[number]. A message's further lines have none.
    let is_head = |head: &str| head.split(' ').count() == 3 && head.starts_with(|c: char| c.is_ascii_digit());
    match line.split_once("]: ") {
        Some((head, message)) if is_head(head) => format!("{head}]: {}", scrub::line(message.as_bytes())),
        _ => scrub::line(line.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_stands_where_none_should_does_not_leave_the_machine() {
        let text = r#"
# the old password was sesame-0
[gateway]
id = "gw-1"
[[broker]]
url = "mqtt://sesame-1:x@broker.example:1883/a"
user = "portero"
password = { credential = "broker_password" }
[[sink]]
name = "vendor"
url = "https://hooks.example/services/T0000sesame2B0000XXXXXXXX?key=sesame-3"
headers = { X-Site = "sesame-4", X-Number = 5 }
auth = { type = "login", url = "/api/login", fields = { "/user" = "sesame-6", "/pw" = { file = "/etc/x", prefix = "sesame-7" } }, token = "/access" }
[[sink]]
auth = { type = "basic", user = { credential = "u" }, fixed_password = "sesame-8" }
map = { a = { constant = "sesame-9" }, b = { from = "/pin" }, site = "/site_id" }
"#;
        let shown = configuration(text, true).unwrap();
        assert!(!shown.contains("sesame"), "{shown}");
        let request = r#"
[[sink]]
request = { path = "/hook/T0/B0sesame0XXXXXXXXXXX0?token=sesame-a", method = "POST" }
lookup = { body = '{"api_key": "sesame-b"}', path = "/api/{/worker}" }
map = { worker = { from = "/person", map = { "12345678" = "900100", in = "entry" } }, site = "/site_id" }
"#;
        let shown = configuration(request, true).unwrap();
        for gone in ["sesame", "12345678", "900100"] {
            assert!(!shown.contains(gone), "{gone}: {shown}");
        }
        for kept in ["/hook/T0/***", "/api/{/worker}", "entry", "/site_id", "POST"] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
        let shown = configuration(text, true).unwrap();
        for kept in ["broker_password", "broker.example:1883", "hooks.example", "/etc/x", "gw-1", "/site_id", "portero"]
        {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
        let blank = configuration(text, false).unwrap();
        assert!(!blank.contains("portero") && blank.contains("password"), "{blank}");
        assert!(configuration("a = ", true).is_err());
    }

    #[test]
    fn a_line_keeps_its_time_and_a_status_our_own_words() {
        let shown = line("2026-11-24T10:00:00+0000 gw portero[77]: person 12345678 token=abc");
        assert!(shown.starts_with("2026-11-24T10:00:00+0000 gw portero[77]: person ***") && !shown.contains("abc"));
        let mut wrong = serde_json::json!({ "check": "configuration", "found": "found \"hooks.example/T0?x=abc\"" });
        finding(&mut wrong);
        assert!(!wrong.to_string().contains("abc"));
        let further = line("    person 12345678 [x]: token=abc");
        assert!(!further.contains("12345678") && !further.contains("abc"), "{further}");
        let mut value = serde_json::json!({ "sinks": [{ "error": "refused: «Ana Pérez»" }] });
        status(&mut value);
        assert_eq!(value["sinks"][0]["error"], "refused: ***");
    }
}
