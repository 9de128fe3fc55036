//! `kinds`, `terminals` and `outcome` of a sink: which events it takes.
//!
//! Must not: know what becomes of the others.

use super::reader::{Reader, as_text, one_of};
use super::suggest::nearest;
use super::tree::{Value, quoted};
use crate::deliver::filter::Filter;
use crate::event::{Kind, Outcome};

/// The filter; empty where none is written. `terminals` are the names in the file.
pub(super) fn filter(sink: &Reader<'_>, terminals: &[&str]) -> Filter {
    let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    let outcomes: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    let wanted = list(sink, "terminals", &[]);
    // Only a doubt: events of a terminal that has been taken away may still be on their way.
    for name in wanted.iter().filter(|name| !terminals.contains(name)) {
        if let Some(node) = sink.get("terminals") {
            let expected = "the name of a [[terminal]]";
            let mut problem = sink.report.problem(&node.place, &sink.key("terminals"), &quoted(name), expected);
            problem.nearest = nearest(name, terminals.iter().copied()).map(|near| format!("\"{near}\""));
            sink.report.warn(problem);
        }
    }
    Filter {
        kinds: list(sink, "kinds", &kinds).iter().filter_map(|word| Kind::from_word(word)).collect(),
        outcomes: list(sink, "outcome", &outcomes).iter().filter_map(|word| Outcome::from_word(word)).collect(),
        terminals: wanted.into_iter().map(str::to_owned).collect(),
    }
}

/// A word or a list of words; `words` are all that there are, if they are known.
fn list<'a>(sink: &Reader<'a>, key: &'static str, words: &[&str]) -> Vec<&'a str> {
    let Some(node) = sink.get(key) else { return Vec::new() };
    let expected = match words {
        [] => "a list of names of terminals, for example [\"gate-1\"]".to_owned(),
        words => format!("a list of words, each {}", one_of(words.iter().copied())),
    };
    let items = match &node.value {
        Value::Array(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() {
        sink.wrong(key, node, &format!("{expected}; leave the key out to take everything"));
    }
    let mut found = Vec::new();
    for item in items {
        match as_text(item) {
            Some(text) if !text.is_empty() && (words.is_empty() || words.contains(&text)) => found.push(text),
            _ => sink.wrong_word(key, item, &expected, words.iter().copied()),
        }
    }
    found
}
