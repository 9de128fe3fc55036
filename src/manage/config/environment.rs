//! `PORTERO__SINK__VENDOR__URL=…`: the environment overrides any key, for containers and tests.
//!
//! Must not: read the environment itself (the caller passes it), or say what a value should be.

use std::rc::Rc;

use super::reader::Report;
use super::suggest::nearest;
use super::tree::{self, Entry, Node, Place, Table, Value};

/// What every such variable starts with.
const PREFIX: &str = "PORTERO__";

/// Lists whose members are named.
const LISTS: &[&str] = &["broker", "terminal", "sink"];

/// Plain tables.
const TABLES: &[&str] = &["gateway", "journal", "manage", "log"];

/// Puts the variables into the tree, in the order of their names.
pub(super) fn apply(root: &mut Table, variables: impl IntoIterator<Item = (String, String)>, report: &Report<'_>) {
    let mut variables: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    for (name, text) in variables {
        let name: Rc<str> = name.into();
        if let Err(problem) = set(root, &name, &text) {
            let mut reported =
                report.problem(&Place::Variable(Rc::clone(&name)), "", &problem.found, &problem.expected);
            reported.nearest = problem.nearest;
            report.error(reported);
        }
    }
}

struct Misnamed {
    found: String,
    expected: String,
    nearest: Option<String>,
}

fn set(root: &mut Table, name: &Rc<str>, text: &str) -> Result<(), Misnamed> {
    let rest = name[PREFIX.len()..].to_lowercase();
    let parts: Vec<&str> = rest.split("__").collect();
    let [table, keys @ ..] = parts.as_slice() else { return Ok(()) };
    if TABLES.contains(table) {
        return put(entry(root, table, name), keys, name, text);
    }
    if !LISTS.contains(table) {
        let known: Vec<&str> = TABLES.iter().chain(LISTS).copied().collect();
        return Err(Misnamed {
            found: format!("table \"{table}\""),
            expected: format!("one of {}, then __ and the key", known.join(", "))
                .to_uppercase()
                .replace("ONE OF", "one of"),
            nearest: nearest(table, known).map(str::to_uppercase),
        });
    }
    let [wanted, keys @ ..] = keys else {
        return Err(unfinished(&format!("PORTERO__{}__NAME__KEY", table.to_uppercase())));
    };
    let members = match root.entries.iter_mut().find(|e| e.key == *table).map(|e| &mut e.node.value) {
        Some(Value::Array(members)) => members,
        _ => &mut Vec::new(),
    };
    let names: Vec<String> = members.iter().filter_map(member_name).map(folded).collect();
    match members.iter_mut().find(|m| member_name(m).map(folded).as_deref() == Some(wanted)) {
        Some(member) => put(member, keys, name, text),
        None => Err(Misnamed {
            found: format!("{table} \"{wanted}\""),
            expected: if names.is_empty() {
                format!("a {table} of the file, and it has none")
            } else {
                format!("a {table} of the file: {}", names.join(", ").to_uppercase())
            },
            nearest: nearest(wanted, names.iter().map(String::as_str)).map(str::to_uppercase),
        }),
    }
}

fn member_name(member: &Node) -> Option<&str> {
    match &member.value {
        Value::Table(table) => table.get("name").and_then(super::reader::as_text),
        _ => None,
    }
}

fn folded(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

fn unfinished(example: &str) -> Misnamed {
    Misnamed { found: "a name without a key".to_owned(), expected: example.to_owned(), nearest: None }
}

fn put(node: &mut Node, keys: &[&str], name: &Rc<str>, text: &str) -> Result<(), Misnamed> {
    let [key, rest @ ..] = keys else { return Err(unfinished("the key after another __")) };
    if key.is_empty() {
        return Err(unfinished("the key after another __"));
    }
    let Value::Table(table) = &mut node.value else {
        // A scalar where a table is needed: the table takes its place, its keys come from the environment.
        *node = empty(name);
        return put(node, keys, name, text);
    };
    let node = entry(table, key, name);
    if rest.is_empty() {
        *node = tree::from_variable(name, text);
        return Ok(());
    }
    put(node, rest, name, text)
}

/// The entry under a key, in whatever case it is written there; made if there is none.
fn entry<'t>(table: &'t mut Table, key: &str, name: &Rc<str>) -> &'t mut Node {
    let at = match table.entries.iter().position(|e| folded(&e.key) == key) {
        Some(at) => at,
        None => {
            let place = Place::Variable(Rc::clone(name));
            table.entries.push(Entry { key: key.to_owned(), key_place: place, node: empty(name) });
            table.entries.len() - 1
        }
    };
    &mut table.entries[at].node
}

fn empty(name: &Rc<str>) -> Node {
    Node { value: Value::Table(Table::default()), place: Place::Variable(Rc::clone(name)), text: None }
}
