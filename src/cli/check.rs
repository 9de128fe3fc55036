//! `portero check`: the configuration, with everything that is wrong or doubtful.
//!
//! Must not: open a device, a socket or a database.

use super::{ConfigFile, Exit, Output, problem_lines};
use crate::manage::config::{Loaded, Problems, Secrets};

/// Check the configuration and say everything that is wrong with it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let result = args.file.load(Secrets::Expect);
    if args.json {
        let mut out = Output::stdout();
        out.line(object(&args.file.config, &result))?;
        return Ok(if result.is_ok() { Exit::Done } else { Exit::Config });
    }
    let Loaded { config, warnings } = result?;
    let mut out = Output::stdout();
    let doubts = Problems { file: config.file.clone(), errors: Vec::new(), warnings };
    if !doubts.warnings.is_empty() {
        out.line(problem_lines(&doubts, out.is_tty()))?;
    }
    let count = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    out.line(format_args!(
        "{}: good ({}, {}, {})",
        config.file.display(),
        count(config.terminals.len(), "terminal"),
        count(config.brokers.len(), "broker"),
        count(config.sinks.len(), "sink"),
    ))?;
    Ok(Exit::Done)
}

fn object(file: &std::path::Path, result: &Result<Loaded, Problems>) -> serde_json::Value {
    let empty = Vec::new();
    let (errors, warnings) = match result {
        Ok(loaded) => (&empty, &loaded.warnings),
        Err(problems) => (&problems.errors, &problems.warnings),
    };
    let list = |problems: &[crate::manage::config::Problem]| problems.iter().map(|p| p.to_json()).collect::<Vec<_>>();
    serde_json::json!({
        "ok": result.is_ok(),
        "file": file.display().to_string(),
        "problems": list(errors),
        "warnings": list(warnings),
    })
}
