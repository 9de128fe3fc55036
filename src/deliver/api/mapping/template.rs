//! String templates: minijinja over the event's JSON.
//!
//! Must not: see a clock or randomness (the same event gives the same text, today and after a restart), load another file,
//! run without bound, or let a misspelt name pass as empty text.

use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};

use super::Subject;

/// Instructions that one rendering may take; a template that puts a few fields together needs some dozens.
const FUEL: u64 = 20_000;

/// Longest text that a template may give, bytes.
const MAX_TEXT: usize = 64 * 1024;

/// The templates of a mapping, compiled.
#[derive(Debug, Default)]
pub(super) struct Templates {
    /// Made with the first template: most mappings have none.
    environment: Option<Environment<'static>>,
    count: usize,
}

impl Templates {
    /// Compiles one; answers the name under which it is rendered. The error says what is wrong with the text.
    pub(super) fn add(&mut self, text: &str) -> Result<String, String> {
        // No file extension in it: then nothing is escaped.
        let name = format!("t{}", self.count);
        let environment = self.environment.get_or_insert_with(environment);
        environment.add_template_owned(name.clone(), text.to_owned()).map_err(|error| said(&error))?;
        self.count += 1;
        Ok(name)
    }

    /// Renders one; `None` where the event lacks a field that it names. The error says what went wrong and repeats nothing
    /// of the event.
    pub(super) fn render(&self, name: &str, subject: Subject<'_>) -> Result<Option<String>, String> {
        let context = Value::from(Serde(&subject.tree()));
        let template = self.environment.as_ref().ok_or_else(|| ErrorKind::TemplateNotFound.to_string())?;
        let rendered = template.get_template(name).and_then(|template| template.render(context));
        match rendered {
            Ok(text) if text.len() <= MAX_TEXT => Ok(Some(text)),
            Ok(_) => Err(format!("it gives more than {MAX_TEXT} bytes")),
            Err(error) => match error.kind() {
                ErrorKind::UndefinedError => Ok(None),
                ErrorKind::OutOfFuel => Err("it takes too many steps".to_owned()),
                kind => Err(kind.to_string()),
            },
        }
    }
}

fn environment<'s>() -> Environment<'s> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment
}

/// The places of the event that a template names, as JSON pointers; the error says what is wrong with its text.
pub fn variables(text: &str) -> Result<Vec<String>, String> {
    let mut environment = environment();
    environment.add_template("t", text).map_err(|error| said(&error))?;
    let template = environment.get_template("t").map_err(|error| said(&error))?;
    let mut names: Vec<String> = template.undeclared_variables(true).into_iter().collect();
    names.sort_unstable();
    let known = |name: &str| environment.globals().any(|(global, _)| global == name);
    Ok(names.iter().filter(|name| !known(name)).map(|name| format!("/{}", name.replace('.', "/"))).collect())
}

fn said(error: &minijinja::Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) if line > 1 => format!("{detail} (its line {line})"),
        _ => detail,
    }
}
