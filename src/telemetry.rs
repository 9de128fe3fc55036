//! Logs: to standard error, as text for people or JSON for programs; as fields to the system's journal where that is it.
//!
//! Must not: write to a file (flash wears out, the system's journal keeps logs), or let a secret or a person's number
//! through; what may stand in a line is decided where the line is written.

mod journald;

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The words that are a filter by themselves.
pub const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// Overrides the configured filter.
pub const VARIABLE: &str = "PORTERO_LOG";

/// The filter of this process, once it logs.
static HANDLE: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Whether a text is a filter: a level, or directives such as `info,portero=debug`.
pub fn is_filter(text: &str) -> bool {
    // A lone word that is no level would be taken for the name of a module and silence everything.
    if !text.contains(['=', ',']) {
        return LEVELS.contains(&text.to_ascii_lowercase().as_str());
    }
    text.parse::<Targets>().is_ok()
}

/// Starts logging. A second call in the same process does nothing.
///
/// `filter` is a text for which [`is_filter`] holds; `$PORTERO_LOG` is stronger. Under systemd (`$JOURNAL_STREAM` is
/// set) text goes to the system's journal with its fields, and lines of JSON carry no time: the journal has its own.
pub fn start(filter: &str, json: bool) {
    let filter = std::env::var(VARIABLE).ok().filter(|text| is_filter(text)).unwrap_or_else(|| filter.to_owned());
    let Ok(filter) = filter.parse::<Targets>() else { return };
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

/// Changes the filter of a process that logs, unless `$PORTERO_LOG` is set. `filter` as for [`start`].
pub fn refilter(filter: &str) {
    let overridden = std::env::var(VARIABLE).is_ok_and(|text| is_filter(&text));
    let (Some(handle), Ok(filter), false) = (HANDLE.get(), filter.parse::<Targets>(), overridden) else { return };
    // Fails only where the subscriber is gone.
    let _ = handle.reload(filter);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_no_filter() {
        assert!(is_filter("info") && is_filter("INFO") && is_filter("info,portero=debug"));
        assert!(!is_filter("inof") && !is_filter("portero=loud"));
    }
}
