//! The checkers: each takes text and answers what is wrong with it, so that each can be shown to fail.
//! Must not: read files, or hold the tables (tidy.rs does both).

use crate::scan::{Named, code_only, enclosing_function, paths, without_tests};
use crate::{Fence, Floor};

/// A source file, blanked once for all checkers.
pub(crate) struct Source {
    /// Relative to the top level, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Without comments, strings and characters.
    pub(crate) code: String,
    /// The same without what is built for tests alone; empty if that is the whole file.
    pub(crate) product: String,
    /// Modules in files of their own that are declared for tests alone.
    pub(crate) test_modules: Vec<String>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = code_only(text);
        let (mut product, test_modules) = without_tests(&code);
        // The demo stands on tests/support: what goes wrong there is shown, not handled.
        if !path.starts_with("src/") {
            product.clear();
        }
        Self { path: path.to_owned(), text: text.to_owned(), code, product, test_modules }
    }

    /// The top-level module of the library that the file belongs to; `main` for the binary, `None` outside `src/`.
    pub(crate) fn module(&self) -> Option<&str> {
        let first = self.path.strip_prefix("src/")?.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// Whether it belongs to a module of the library or to one inside of it: `deliver`, `deliver::contract`.
    fn is_in(&self, module: &str) -> bool {
        let folder = format!("src/{}", module.replace("::", "/"));
        self.path.strip_prefix(&folder).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    }

    /// How many `super` lead from here to the root of the crate.
    fn depth(&self) -> usize {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let parts = inside.split('/').count();
        if inside.ends_with("/mod.rs") { parts - 1 } else { parts }
    }

    fn line_of(&self, at: usize) -> usize {
        self.code[..at].bytes().filter(|&b| b == b'\n').count() + 1
    }
}

/// The module of ours that a path leads to, if it leads to one.
fn target<'a>(source: &Source, named: &'a Named, floors: &[Floor]) -> Option<&'a str> {
    let supers = named.segments.iter().take_while(|s| *s == "super").count();
    let next = match named.segments.first()?.as_str() {
        "crate" | "portero" => named.segments.get(1),
        "super" if supers >= source.depth() => named.segments.get(supers),
        _ => None,
    }?;
    floors.iter().any(|f| f.module == next).then_some(next.as_str())
}

/// Imports only point down, never sideways.
pub(crate) fn floors(source: &Source, table: &[Floor]) -> Vec<String> {
    let Some(module) = source.module().filter(|m| *m != "lib") else { return Vec::new() };
    let Some(floor) = table.iter().find(|f| f.module == module) else {
        return vec![format!("{}: module {module} is not in the floor table", source.path)];
    };
    let mut problems = Vec::new();
    for named in paths(&source.product) {
        let at = format!("{}:{}", source.path, named.line);
        let whole = named.segments.first().is_some_and(|s| s == "crate" || s == "portero");
        if whole && named.imported && named.segments.get(1).is_none_or(|s| s == "*") {
            problems.push(format!("{at}: imports the whole crate, name the module"));
        }
        if let Some(target) = target(source, &named, table)
            && target != module
            && !floor.may.contains(&target)
        {
            problems.push(format!("{at}: {module} may not import {target} (it may: {})", floor.may.join(", ")));
        }
    }
    problems
}

/// What only some modules may name.
pub(crate) fn fences(source: &Source, table: &[Fence]) -> Vec<String> {
    let Some(module) = source.module() else { return Vec::new() };
    let mut problems = Vec::new();
    for named in paths(&source.product) {
        for fence in table.iter().filter(|f| !f.only.iter().any(|inside| source.is_in(inside))) {
            if reaches(&named, fence.path) {
                let at = format!("{}:{}", source.path, named.line);
                problems.push(format!("{at}: {module} names {}: {}", fence.path, fence.reason));
            }
        }
    }
    problems
}

/// Whether a path names `fenced` or something in it, or imports a module that would let it do so unseen.
fn reaches(named: &Named, fenced: &str) -> bool {
    let fenced: Vec<&str> = fenced.split("::").collect();
    let segments: Vec<&str> = named.segments.iter().map(String::as_str).filter(|s| *s != "*").collect();
    if segments.len() >= fenced.len() {
        return segments[..fenced.len()] == fenced[..];
    }
    let module = segments.last().is_some_and(|s| s.starts_with(char::is_lowercase));
    named.imported && module && fenced[..segments.len()] == segments[..]
}

/// Every file says first what it is.
pub(crate) fn opening(source: &Source) -> Vec<String> {
    let first = source.text.lines().next().unwrap_or_default();
    let test = source.path.starts_with("tests/");
    if first.starts_with("//! ") || (test && first.starts_with("// ")) {
        return Vec::new();
    }
    vec![format!("{}: open the file with what it is and what it must not do", source.path)]
}

/// A file that nobody can keep in their head is two files.
pub(crate) fn length(source: &Source, most: usize) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= most {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines, at most {most}: split it", source.path)]
}

/// Words that may be written down while working, but not be left behind; `(what, why)`.
pub(crate) fn leftovers(source: &Source, table: &[(&str, &str)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (what, why) in table {
        for at in finds(&source.code, what) {
            problems.push(format!("{}:{}: {what}: {why}", source.path, source.line_of(at)));
        }
    }
    problems
}

/// Waiting for a moment to pass is not waiting for something to happen, in tests too: only these helpers may
/// sleep.
pub(crate) fn sleeps(source: &Source, helpers: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    for at in finds(&source.code, "thread::sleep") {
        if !enclosing_function(&source.code, at).is_some_and(|f| helpers.contains(&f)) {
            problems.push(format!(
                "{}:{}: thread::sleep outside of {}",
                source.path,
                source.line_of(at),
                helpers.join(" and ")
            ));
        }
    }
    problems
}

/// `unwrap` is for tests.
pub(crate) fn unwraps(source: &Source) -> Vec<String> {
    finds(&source.product, ".unwrap()")
        .into_iter()
        .map(|at| format!("{}:{}: unwrap outside of tests", source.path, source.line_of(at)))
        .collect()
}

/// Where `what` stands on its own, not as the tail of a longer word.
fn finds(code: &str, what: &str) -> Vec<usize> {
    let word = what.starts_with(|c: char| c.is_alphanumeric());
    code.match_indices(what)
        .map(|(at, _)| at)
        .filter(|&at| !word || !code[..at].ends_with(|c: char| c == '_' || c.is_alphanumeric()))
        .collect()
}

/// Words that only make sense on the machine where they were written.
pub(crate) fn banned_words(path: &str, text: &str, banned: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in banned.iter().filter(|w| line.contains(**w)) {
            problems.push(format!("{path}:{}: contains {word}", number + 1));
        }
    }
    problems
}

/// The top level is fixed; what tools keep there starts with a dot or is on the list.
pub(crate) fn top_level<'a>(paths: impl Iterator<Item = &'a str>, allowed: &[&str]) -> Vec<String> {
    let mut strangers: Vec<&str> = paths
        .filter_map(|p| p.split('/').next())
        .filter(|first| !first.starts_with('.') && !allowed.contains(first))
        .collect();
    strangers.sort_unstable();
    strangers.dedup();
    strangers.into_iter().map(|s| format!("{s}: does not belong at the top level")).collect()
}

/// The words of a command line; what stands in quotes is one word.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|w| !w.is_empty());
    words
}

/// The commands in the fenced blocks of a page that run `program`, each part of a pipe or a list on its own; what follows
/// a `#` or a redirection doesn't count.
pub(crate) fn commands(page: &str, program: &str) -> Vec<Vec<String>> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let words = shell_words(line);
        for command in words.split(|w| matches!(w.as_str(), "|" | "&" | "&&" | "||" | ";")) {
            let command: Vec<String> = command
                .iter()
                .take_while(|w| !w.starts_with(['#', '>', '<']))
                .skip_while(|w| *w == "$" || *w == "sudo" || w.contains('='))
                .cloned()
                .collect();
            if fenced && command.first().is_some_and(|w| w.rsplit('/').next() == Some(program)) {
                found.push(command);
            }
        }
    }
    found
}

/// Every `make TARGET` of a page is a target of the Makefile.
pub(crate) fn make_targets(path: &str, page: &str, makefile: &str) -> Vec<String> {
    let targets: Vec<&str> = makefile.lines().filter_map(|l| l.split_once(':')).map(|(t, _)| t).collect();
    commands(page, "make")
        .into_iter()
        .flat_map(|words| words.into_iter().skip(1))
        .filter(|word| !word.contains('=') && !word.starts_with('-') && !targets.contains(&word.as_str()))
        .map(|word| format!("{path}: make {word} is not in the Makefile"))
        .collect()
}

/// The floor table that people read, in `lib.rs`, says the same as the one that is enforced.
pub(crate) fn written_floors(text: &str, table: &[Floor]) -> Vec<String> {
    let mut problems = Vec::new();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|l| l.strip_prefix("//! |"))
        .map(|l| l.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| cells.first().is_some_and(|c| c.parse::<u8>().is_ok()))
        .collect();
    for floor in table {
        let name = format!("`{}`", floor.module);
        let Some(row) = rows.iter().find(|r| r.get(1).is_some_and(|c| c.contains(&name))) else {
            problems.push(format!("src/lib.rs: the floor table has no row for {}", floor.module));
            continue;
        };
        if row[0] != floor.floor.to_string() {
            problems.push(format!("src/lib.rs: {} is written on floor {}, not {}", floor.module, row[0], floor.floor));
        }
        let words: Vec<&str> = row.get(2).map_or("", |c| c).split(", ").map(str::trim).collect();
        let listed = words.iter().all(|w| table.iter().any(|f| f.module == *w));
        if listed && words != floor.may {
            problems.push(format!("src/lib.rs: {} may import {words:?} there, {:?} here", floor.module, floor.may));
        }
    }
    problems
}
