//! Where a key of a sink stands, for commands that have something to say of it after the file was read.
//!
//! Must not: judge anything; the file has been checked before.

use std::path::{Path, PathBuf};

use super::load::Options;
use super::mapping::split;
use super::reader::{Report, as_text};
use super::tree::{self, Lines, Place, Table, Value};
use super::{environment, presets};

/// A configuration file as text, with the places of its keys and of those that presets bring.
pub struct Places {
    file: PathBuf,
    text: String,
    root: Table,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The key in full, for example `sink.hr.map.time`: what was asked for, there or not.
    pub key: String,
    /// The file in which it stands: the configuration's, or that of a preset in the source.
    pub file: PathBuf,
    /// The line of the nearest table or key that is there, counted from 1; `None` where a variable said it.
    pub line: Option<usize>,
    /// The environment variable that said it.
    pub variable: Option<String>,
}

impl Places {
    /// Reads the file once more. One that can't be read or parsed has no places, and every look-up says so.
    pub fn read(file: &Path, options: &Options) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let report = Report::new(file, &text);
        let mut root = tree::parse(&text).unwrap_or_default();
        environment::apply(&mut root, options.environment.iter().cloned(), &report);
        presets::apply(&mut root);
        Self { file: file.to_owned(), root, text }
    }

    /// A key below the table of a sink, part by part.
    pub fn of_sink(&self, sink: &str, keys: &[String]) -> Spot {
        let mut spot = Spot { key: format!("sink.{sink}"), file: self.file.clone(), line: None, variable: None };
        for key in keys {
            spot.key.push('.');
            spot.key.push_str(key);
        }
        let members = match self.root.get("sink").map(|node| &node.value) {
            Some(Value::Array(members)) => members.as_slice(),
            _ => &[],
        };
        let named = |table: &Table| table.get("name").and_then(as_text) == Some(sink);
        let found = members.iter().find_map(|node| match &node.value {
            Value::Table(table) if named(table) => Some((table, &node.place)),
            _ => None,
        });
        if let Some((table, place)) = found {
            match deepest(table, place, keys) {
                Place::File(span) => spot.line = Some(Lines::new(&self.text).position(span.start).0),
                Place::Variable(name) => spot.variable = Some(name.to_string()),
                // Only the file is read here.
                Place::Bundle(_) => {}
                Place::Preset(preset, span) => {
                    spot.file = preset.file.into();
                    spot.line = Some(Lines::new(preset.text).position(span.start).0);
                }
            }
        }
        spot
    }
}

/// The place of the key that `keys` lead to, or of the last one on the way that is there. In a file a key may hold several
/// parts with dots between them.
fn deepest<'t>(table: &'t Table, place: &'t Place, keys: &[String]) -> &'t Place {
    for entry in &table.entries {
        let parts = split(&entry.key).unwrap_or_default();
        if parts.is_empty() || !keys.starts_with(&parts) {
            continue;
        }
        return match &entry.node.value {
            Value::Table(inner) => deepest(inner, &entry.key_place, &keys[parts.len()..]),
            _ => &entry.key_place,
        };
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manage::config::Secrets;

    #[test]
    fn a_key_is_found_in_every_way_of_writing_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("p.toml");
        let text = "[[sink]]\nname = \"a\"\n\n[[sink]]\nname = \"hr\"\nurl = \"x\"\n[sink.map]\n\"a.b\" = \"/x\"\nc.d = \"/y\"\n\
                    time = { from = \"/event_time\" }\n[sink.map.e]\nf = \"/z\"\n\
                    [[sink]]\nname = \"p\"\npreset = \"buk-clockings\"\n";
        std::fs::write(&file, text).expect("a file");
        let environment = vec![("PORTERO__SINK__HR__METHOD".to_owned(), "PUT".to_owned())];
        let options = Options { secrets: Secrets::Ignore, environment, credentials: None, units: Vec::new() };
        let places = Places::read(&file, &options);
        let of = |keys: &str| places.of_sink("hr", &keys.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let lines =
            ["url", "map a b", "map c d", "map time", "map e f", "map nothing", "nothing"].map(|keys| of(keys).line);
        assert_eq!(lines, [6, 8, 9, 10, 12, 7, 4].map(Some));
        assert_eq!(of("map a b").key, "sink.hr.map.a.b");
        let preset = places.of_sink("p", &["map".to_owned(), "serialNumber".to_owned()]);
        assert!(preset.file.ends_with("config/presets/buk-clockings.toml") && preset.line > Some(1), "{preset:?}");
        assert_eq!((of("method").line, of("method").variable.as_deref()), (None, Some("PORTERO__SINK__HR__METHOD")));
    }
}
