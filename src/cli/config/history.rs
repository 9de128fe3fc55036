//! `portero config history`: what became of bundles from afar.
//!
//! Must not: change anything.

use crate::cli::{ConfigFile, Exit, Output, table};
use crate::manage::remote::agent::entry;
use crate::manage::remote::store::{self, Store};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object an entry
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let config = args.file.read()?;
    let (state, problems) = Store::peek(&store::beside(&config.journal.path)).state();
    let mut out = Output::stdout();
    if args.json {
        for line in &state.history {
            out.line(entry(line))?;
        }
        return Ok(Exit::Done);
    }
    for problem in problems {
        out.line(format_args!("warning: {problem}"))?;
    }
    out.line(format_args!("in force: {}; consumed up to revision {}", state.current.words(), state.consumed))?;
    if state.history.is_empty() {
        return Ok(Exit::Done);
    }
    let mut rows = table::new(&["when", "revision", "what", "times", "who", "why"]);
    for line in &state.history {
        let value = entry(line);
        let cell = |key: &str| table::value(&value[key]);
        rows.add_row(vec![
            table::time(&value["at"]),
            cell("revision"),
            cell("what"),
            cell("times"),
            cell("who"),
            cell("reason"),
        ]);
    }
    let states: Vec<&str> = state.history.iter().map(|_| "up").collect();
    out.line(table::render(&rows, &states, out.is_tty()))?;
    Ok(Exit::Done)
}
