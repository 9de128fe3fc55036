//! A cursor over one table of the tree: typed questions, every wrong answer reported, none of them the last.
//!
//! Must not: stop at the first problem, or know what a key means.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::bundle::Layer;
use super::layers::May;
use super::problem::{self, Problem};
use super::suggest::nearest;
use super::tree::{Lines, Node, Place, Syntax, Table, Value};
use crate::secret::SecretSource;

/// What reading the file brings to light.
pub(super) struct Report<'a> {
    pub(super) file: PathBuf,
    pub(super) lines: Lines<'a>,
    pub(super) errors: RefCell<Vec<Problem>>,
    pub(super) warnings: RefCell<Vec<Problem>>,
    pub(super) secrets: RefCell<Vec<(SecretSource, Problem)>>,
    /// Keys of secrets, and until when they are good.
    pub(super) expiring: RefCell<Vec<(String, jiff::civil::Date)>>,
    /// The bundle over the file, and what it is called.
    pub(super) bundle: Option<(PathBuf, Lines<'a>)>,
    /// What the file lets a bundle do.
    pub(super) may: Vec<May>,
}

impl<'a> Report<'a> {
    /// Nothing found yet.
    pub(super) fn new(file: &Path, text: &'a str) -> Self {
        Self {
            file: file.to_owned(),
            lines: Lines::new(text),
            errors: RefCell::default(),
            warnings: RefCell::default(),
            secrets: RefCell::default(),
            expiring: RefCell::default(),
            bundle: None,
            may: Vec::new(),
        }
    }

    /// The same, for a file with a bundle over it.
    pub(super) fn with_bundle(mut self, layer: Option<&'a Layer>) -> Self {
        self.bundle = layer.map(|layer| (layer.name.clone(), Lines::new(&layer.text)));
        self
    }
}

impl Report<'_> {
    /// Reports mistakes in the TOML.
    pub(super) fn syntax(&self, errors: Vec<Syntax>) {
        self.syntax_of(errors, Place::File);
    }

    /// The same, of the text that `place` leads into.
    pub(super) fn syntax_of(&self, errors: Vec<Syntax>, place: impl Fn(std::ops::Range<usize>) -> Place) {
        for error in errors {
            let found = format!("a mistake in the TOML ({})", error.message);
            self.error(self.problem(&place(error.at), "", &found, "valid TOML"));
        }
    }

    /// A problem at a place, not yet reported.
    pub(super) fn problem(&self, place: &Place, key: &str, found: &str, expected: &str) -> Problem {
        let mut problem = problem::whole(&self.file, found, expected);
        key.clone_into(&mut problem.key);
        match place {
            Place::Variable(name) => problem.variable = Some(name.to_string()),
            Place::File(span) => point(&mut problem, &self.lines, span),
            Place::Preset(preset, span) => {
                problem.file = PathBuf::from(preset.file);
                point(&mut problem, &Lines::new(preset.text), span);
            }
            Place::Bundle(span) => {
                if let Some((name, lines)) = &self.bundle {
                    problem.file.clone_from(name);
                    point(&mut problem, lines, span);
                }
            }
        }
        problem
    }

    pub(super) fn error(&self, problem: Problem) {
        self.errors.borrow_mut().push(problem);
    }

    pub(super) fn warn(&self, problem: Problem) {
        self.warnings.borrow_mut().push(problem);
    }
}

/// Fills in line, column and the line itself.
fn point(problem: &mut Problem, lines: &Lines<'_>, span: &std::ops::Range<usize>) {
    (problem.line, problem.column) = lines.position(span.start);
    problem.width = span.len();
    let line = lines.line(problem.line);
    problem.excerpt = (!problem::may_hold_secret(line)).then(|| line.to_owned());
}

/// A table being read. Every key that is asked for counts as known; [`Reader::finish`] reports the others.
pub(super) struct Reader<'a> {
    pub(super) report: &'a Report<'a>,
    pub(super) path: String,
    pub(super) place: Place,
    table: Option<&'a Table>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(report: &'a Report<'a>, path: String, place: Place, table: Option<&'a Table>) -> Self {
        Self { report, path, place, table, asked: RefCell::default() }
    }

    /// The full name of a key of this table.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The node under a key.
    pub(super) fn get(&self, key: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().push(key);
        self.table?.get(key)
    }

    /// All entries, for tables whose keys are free (`headers`, `map`).
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Place, &'a Node)> + use<'a> {
        let entries = self.table.map_or(&[][..], |t| &t.entries);
        entries.iter().map(|e| (e.key.as_str(), &e.key_place, &e.node))
    }

    /// Reports a value that won't do.
    pub(super) fn wrong(&self, key: &str, node: &Node, expected: &str) {
        self.report.error(self.report.problem(&node.place, &self.key(key), &node.shown(), expected));
    }

    /// Reports a value that won't do, with the nearest one that would.
    pub(super) fn wrong_word<'w>(
        &self,
        key: &str,
        node: &Node,
        expected: &str,
        words: impl IntoIterator<Item = &'w str>,
    ) {
        let mut problem = self.report.problem(&node.place, &self.key(key), &node.shown(), expected);
        if let Value::Text(text) = &node.value {
            problem.nearest = nearest(text, words).map(|w| format!("\"{w}\""));
        }
        self.report.error(problem);
    }

    /// Reports something about a value in own words; nothing of the value is shown.
    pub(super) fn refuse(&self, key: &str, place: &Place, found: &str, expected: &str) {
        let mut problem = self.report.problem(place, &self.key(key), found, expected);
        problem.excerpt = None;
        self.report.error(problem);
    }

    /// Reports something doubtful.
    pub(super) fn doubt(&self, key: &str, place: &Place, found: &str, expected: &str) {
        self.report.warn(self.report.problem(place, &self.key(key), found, expected));
    }

    /// Reports a key that is needed and not there; the line is the table's.
    pub(super) fn missing(&self, key: &str, expected: &str) {
        self.report.error(self.report.problem(&self.place, &self.key(key), "nothing", expected));
    }

    /// Text, if the key is there.
    pub(super) fn text(&self, key: &'static str, expected: &str) -> Option<&'a str> {
        let node = self.get(key)?;
        match as_text(node) {
            Some("") => self.wrong(key, node, expected),
            Some(text) => return Some(text),
            None => self.wrong(key, node, &format!("text in quotes: {expected}")),
        }
        None
    }

    /// Text that must be there.
    pub(super) fn need_text(&self, key: &'static str, expected: &str) -> Option<&'a str> {
        if self.table.is_none_or(|t| t.get(key).is_none()) {
            self.asked.borrow_mut().push(key);
            self.missing(key, expected);
            return None;
        }
        self.text(key, expected)
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, key: &'static str, bounds: RangeInclusive<u64>, expected: &str) -> Option<u64> {
        let node = self.get(key)?;
        let number = match &node.value {
            Value::Integer(Some(n), _) => u64::try_from(*n).ok().filter(|n| bounds.contains(n)),
            _ => None,
        };
        if number.is_none() {
            let expected = format!("{expected} (from {} to {})", bounds.start(), bounds.end());
            self.wrong(key, node, &expected);
        }
        number
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let node = self.get(key)?;
        if let Value::Boolean(value) = node.value {
            return Some(value);
        }
        self.wrong(key, node, "true or false");
        None
    }

    /// One of a closed list of words.
    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let node = self.get(key)?;
        let found = as_text(node).and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            self.wrong_word(key, node, &one_of(words.iter().map(|w| w.0)), words.iter().map(|w| w.0));
        }
        found.map(|(_, value)| *value)
    }

    /// An absolute path.
    pub(super) fn path_to(&self, key: &'static str, expected: &str) -> Option<PathBuf> {
        let text = self.text(key, expected)?;
        let path = PathBuf::from(text);
        if !path.is_absolute() {
            // `get` again only for the place; the key counts as asked already.
            if let Some(node) = self.table.and_then(|t| t.get(key)) {
                self.wrong(key, node, &format!("{expected}, as an absolute path"));
            }
            return None;
        }
        Some(path)
    }

    /// A table under a key, if it is there.
    pub(super) fn child(&self, key: &'static str, expected: &str) -> Option<Reader<'a>> {
        let node = self.get(key)?;
        match &node.value {
            Value::Table(table) => Some(Reader::new(self.report, self.key(key), node.place.clone(), Some(table))),
            _ => {
                self.wrong(key, node, expected);
                None
            }
        }
    }

    /// The tables of a list under a key, counted from 1 in their names.
    pub(super) fn children(&self, key: &'static str, expected: &str) -> Vec<Reader<'a>> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let Value::Array(items) = &node.value else {
            self.wrong(key, node, expected);
            return Vec::new();
        };
        let mut readers = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{}]", self.key(key), index + 1);
            match &item.value {
                Value::Table(table) => readers.push(Reader::new(self.report, path, item.place.clone(), Some(table))),
                _ => self.report.error(self.report.problem(&item.place, &path, &item.shown(), expected)),
            }
        }
        readers
    }

    /// Reports every key that was never asked for. `elsewhere` explains keys that would be right in another kind of the
    /// same table.
    pub(super) fn finish(self, elsewhere: &[(&str, &str)]) {
        let asked = self.asked.borrow();
        for (key, place, _) in self.entries() {
            if asked.contains(&key) {
                continue;
            }
            let place_of = elsewhere.iter().find(|(name, _)| *name == key);
            let expected = match place_of {
                Some((_, where_)) => format!("no such key here: it belongs to {where_}"),
                None if self.path.is_empty() => format!("one of the tables {}", list(&asked)),
                None => format!("one of {}", list(&asked)),
            };
            let mut problem = self.report.problem(place, &self.key(key), "an unknown key", &expected);
            if place_of.is_none() {
                problem.nearest = nearest(key, asked.iter().copied()).map(str::to_owned);
            }
            self.report.error(problem);
        }
    }
}

/// The text of a node; whatever an environment variable held is text if text is wanted.
pub(super) fn as_text(node: &Node) -> Option<&str> {
    match (&node.value, &node.text) {
        (Value::Text(text), _) => Some(text),
        (_, Some(text)) => Some(text),
        _ => None,
    }
}

/// `one of "a", "b"`.
pub(super) fn one_of<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.into_iter().map(|w| format!("\"{w}\"")).collect();
    if words.len() == 1 { words.concat() } else { format!("one of {}", words.join(", ")) }
}

fn list(names: &[&str]) -> String {
    let mut names: Vec<&str> = names.to_vec();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
