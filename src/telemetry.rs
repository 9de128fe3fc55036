//! Logs: to standard error, as text for people or JSON for programs; as fields to the system's journal where that is it.
//!
//! Must not: write to a file (flash wears out, the system's journal keeps logs), or let a secret or a person's number
//! through; what may stand in a line is decided where the line is written.

mod journald;

use std::io::IsTerminal as _;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The words that are a filter by themselves.
pub const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// Overrides the configured filter.
pub const VARIABLE: &str = "PORTERO_LOG";

/// The filter of this process, once it logs.
static HANDLE: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// What the filter is made of.
static CHOICE: Mutex<Choice> = Mutex::new(Choice { configured: String::new(), laid_over: None });

struct Choice {
    configured: String,
    laid_over: Option<String>,
}

/// What decides which lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filters {
    /// What stays: the configured filter, or that of `$PORTERO_LOG`.
    pub base: String,
    /// Whether it is that of `$PORTERO_LOG`.
    pub from_environment: bool,
    /// What is in force instead of it for a while.
    pub laid_over: Option<String>,
}

/// Whether a text is a filter: a level, or directives such as `info,portero=debug`.
pub fn is_filter(text: &str) -> bool {
    // A lone word that is no level would be taken for the name of a module and silence everything.
    if !text.contains(['=', ',']) {
        return LEVELS.contains(&text.to_ascii_lowercase().as_str());
    }
    text.parse::<Targets>().is_ok()
}

/// What to say of a text that is no filter.
pub fn no_filter(what: &str) -> String {
    format!(
        "{what} is no log filter; take one of {}, or a filter such as info,portero::deliver=debug",
        LEVELS.join(", ")
    )
}

/// The finest level that this build can write, where a filter asks for more: release builds leave out the lines of `trace`
/// (`release_max_level_debug`).
pub fn most(filter: &str) -> Option<&'static str> {
    beyond(filter, STATIC_MAX_LEVEL)
}

fn beyond(filter: &str, most: LevelFilter) -> Option<&'static str> {
    let asked = Layer::<Registry>::max_level_hint(&filter.parse::<Targets>().ok()?)?;
    let names = LEVELS.iter().find(|name| name.parse::<LevelFilter>().is_ok_and(|level| level == most));
    (asked > most).then_some(*names?)
}

/// What decides now.
pub fn filters() -> Filters {
    let choice = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    let environment = environment();
    let from_environment = environment.is_some();
    let base = environment.unwrap_or_else(|| choice.configured.clone());
    Filters { base, from_environment, laid_over: choice.laid_over.clone() }
}

fn environment() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|text| is_filter(text))
}

/// Starts logging. A second call in the same process does nothing.
///
/// `filter` is a text for which [`is_filter`] holds; `$PORTERO_LOG` is stronger. Under systemd (`$JOURNAL_STREAM` is
/// set) text goes to the system's journal with its fields, and lines of JSON carry no time: the journal has its own.
pub fn start(filter: &str, json: bool) {
    change(|choice| filter.clone_into(&mut choice.configured));
    let Ok(filter) = filters().base.parse::<Targets>() else { return };
    let stamped = std::env::var_os("JOURNAL_STREAM").is_none();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (filter, handle) = reload::Layer::new(filter);
    let lines = || tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    let start = tracing_subscriber::registry().with(filter);
    // A second start changes nothing, the filter neither.
    let _ = HANDLE.set(handle);
    if let Some(journald) = (!json).then(journald::Journald::connect).flatten() {
        let _ = start.with(journald).try_init();
        return;
    }
    // `try_init` fails only where a subscriber is set already: a test, or a second call.
    let _ = match (json, stamped) {
        (true, true) => start.with(lines().json()).try_init(),
        (true, false) => start.with(lines().json().without_time()).try_init(),
        (false, true) => start.with(lines()).try_init(),
        (false, false) => start.with(lines().without_time()).try_init(),
    };
}

/// Changes the configured filter of a process that logs; `$PORTERO_LOG`, and what is laid over it, are stronger. `filter` as
/// for [`start`].
pub fn refilter(filter: &str) {
    change(|choice| filter.clone_into(&mut choice.configured));
    apply();
}

/// Lays a filter over everything else, or takes away the one that lies there. `filter` as for [`start`].
pub fn lay_over(filter: Option<&str>) {
    change(|choice| choice.laid_over = filter.map(str::to_owned));
    apply();
}

fn change(how: impl FnOnce(&mut Choice)) {
    how(&mut CHOICE.lock().unwrap_or_else(PoisonError::into_inner));
}

fn apply() {
    let Filters { base, laid_over, .. } = filters();
    let (Some(handle), Ok(filter)) = (HANDLE.get(), laid_over.unwrap_or(base).parse::<Targets>()) else { return };
    // Fails only where the subscriber is gone.
    let _ = handle.reload(filter);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_says_where_a_filter_asks_for_lines_that_it_does_not_hold() {
        let beyond = |filter| beyond(filter, LevelFilter::DEBUG);
        assert_eq!((beyond("trace"), beyond("info,portero::deliver=trace")), (Some("debug"), Some("debug")));
        assert_eq!((beyond("debug"), beyond("info"), beyond("off")), (None, None, None));
    }

    #[test]
    fn a_word_that_is_no_level_is_no_filter() {
        assert!(is_filter("info") && is_filter("INFO") && is_filter("info,portero=debug"));
        assert!(!is_filter("inof") && !is_filter("portero=loud"));
    }
}
