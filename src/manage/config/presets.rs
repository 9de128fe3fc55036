//! `preset = "…"`: what is known of a vendor, laid under the sink's own keys.
//!
//! Must not: win over a key that the file or the environment sets. A problem inside of a preset names the preset's file.

use super::reader::{Reader, as_text};
use super::tree::{self, Entry, Node, Place, Preset, Table, Value};

macro_rules! preset {
    ($name:literal) => {
        Preset {
            name: $name,
            file: concat!("config/presets/", $name, ".toml"),
            text: include_str!(concat!("../../../config/presets/", $name, ".toml")),
        }
    };
}

/// All of them.
static PRESETS: &[Preset] = &[
    preset!("standard-webhook"),
    preset!("buk-clockings"),
    preset!("frappe-hr"),
    preset!("connecteam"),
    preset!("odoo"),
    preset!("bamboohr"),
];

/// Lays presets under the sinks that name one.
pub(super) fn apply(root: &mut Table) {
    let sinks = root.entries.iter_mut().filter(|e| e.key == "sink").map(|e| &mut e.node.value);
    for sink in sinks.filter_map(|v| if let Value::Array(sinks) = v { Some(sinks) } else { None }).flatten() {
        let Value::Table(table) = &mut sink.value else { continue };
        let name = table.get("preset").and_then(as_text).map(str::to_owned);
        let Some(preset) = name.and_then(|name| PRESETS.iter().find(|p| p.name == name)) else { continue };
        // Presets are parsed by a test; one that is broken adds nothing, and what it would have given is then missing.
        let Ok(mut under) = tree::parse(preset.text) else { continue };
        for entry in &mut under.entries {
            entry.key_place = moved(preset, &entry.key_place);
            tree::replace(&mut entry.node, &|place| moved(preset, place));
        }
        lay_under(table, under);
    }
}

/// `preset`, whose keys are there already: only the name is checked. Keys of the mapping count as known where a preset
/// brings them.
pub(super) fn named(reader: &Reader<'_>) {
    for known in ["request", "map", "kinds"] {
        if reader.entries().any(|(key, place, _)| key == known && matches!(place, Place::Preset(..))) {
            reader.get(known);
        }
    }
    let names: Vec<(&'static str, ())> = PRESETS.iter().map(|p| (p.name, ())).collect();
    reader.word("preset", &names);
}

fn moved(preset: &'static Preset, place: &Place) -> Place {
    match place {
        Place::File(span) => Place::Preset(preset, span.clone()),
        other => other.clone(),
    }
}

/// Own keys win; tables are laid over each other, an `auth` or another table with another `type` is taken whole; lists of
/// rules stand before the preset's, so that the first match is the own one.
fn lay_under(over: &mut Table, under: Table) {
    for Entry { key, key_place, node } in under.entries {
        let Some(own) = over.entries.iter_mut().find(|e| e.key == key) else {
            over.entries.push(Entry { key, key_place, node });
            continue;
        };
        match (&mut own.node.value, node.value) {
            (Value::Table(own), Value::Table(preset)) if same_type(own, &preset) => lay_under(own, preset),
            (Value::Array(own), Value::Array(preset)) if tables(own) && tables(&preset) => own.extend(preset),
            _ => {}
        }
    }
}

fn same_type(own: &Table, preset: &Table) -> bool {
    match (own.get("type").and_then(as_text), preset.get("type").and_then(as_text)) {
        (Some(own), Some(preset)) => own == preset,
        // A reference to a secret is one thing.
        _ => !["credential", "file"].iter().any(|key| own.get(key).is_some() || preset.get(key).is_some()),
    }
}

fn tables(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| matches!(node.value, Value::Table(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_can_be_parsed() {
        for preset in PRESETS {
            let problems = tree::parse(preset.text).err().unwrap_or_default();
            assert!(problems.is_empty(), "{}: {}", preset.file, problems[0].message);
        }
    }

    #[test]
    fn own_keys_win_own_rules_come_first_and_secrets_are_taken_whole() {
        let text = "[[sink]]\nname = \"hr\"\npreset = \"buk-clockings\"\nmethod = \"PUT\"\n\
                    auth.headers.x-provider-token = { file = \"/secret\" }\n\
                    [[sink.answer]]\nstatus = [409]\nverdict = \"reject\"\n";
        let Ok(mut root) = tree::parse(text) else { panic!("it can be parsed") };
        apply(&mut root);
        let Some(Value::Array(sinks)) = root.get("sink").map(|n| &n.value) else { panic!("a list") };
        let Value::Table(sink) = &sinks[0].value else { panic!("a table") };
        assert_eq!(sink.get("method").and_then(as_text), Some("PUT"));
        let Some(Value::Array(answers)) = sink.get("answer").map(|n| &n.value) else { panic!("rules") };
        let Value::Table(first) = &answers[0].value else { panic!("a rule") };
        assert_eq!(first.get("verdict").and_then(as_text), Some("reject"));
        assert!(answers.len() > 3 && matches!(answers[1].place, Place::Preset(..)));
        let Some(Value::Table(auth)) = sink.get("auth").map(|n| &n.value) else { panic!("auth") };
        let Some(Value::Table(headers)) = auth.get("headers").map(|n| &n.value) else { panic!("headers") };
        let Some(Value::Table(token)) = headers.get("x-provider-token").map(|n| &n.value) else { panic!("a secret") };
        assert_eq!(token.entries.len(), 1, "a file and a credential would be two places");
        assert!(headers.get("x-provider-name").is_some());
    }
}
