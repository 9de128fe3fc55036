//! `portero config show`: every value, and where it comes from.
//!
//! Must not: show a secret.

use serde_json::json;

use crate::cli::{ConfigFile, Exit, Output};
use crate::manage::config::{Options, Secrets, load_layered_text, origins, text_of};
use crate::manage::remote::start;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Say beside each value where it comes from: a line of the file, a bundle, a preset, a variable, or nobody
    #[arg(long)]
    origin: bool,
    /// Print one JSON object a value
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let options = Options::from_process(Secrets::Ignore);
    let (file, text) = (&args.file.config, text_of(&args.file.config)?);
    let bundle = start::in_force(&text, &options);
    // What can't be used has no values; its problems say more.
    load_layered_text(file, &text, &options, bundle.as_ref())?;
    let mut out = Output::stdout();
    for origin in origins(file, &text, &options, bundle.as_ref()) {
        let from = origin.from.to_string();
        if args.json {
            out.line(json!({ "key": origin.key, "value": origin.value, "origin": from }))?;
        } else if args.origin {
            out.line(format_args!("{} = {}  # {from}", origin.key, origin.value))?;
        } else {
            out.line(format_args!("{} = {}", origin.key, origin.value))?;
        }
    }
    Ok(Exit::Done)
}
