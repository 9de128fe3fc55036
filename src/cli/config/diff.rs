//! `portero config diff`: what a bundle, or the file as it is now, would change.
//!
//! Must not: change anything, or show a secret.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::read;
use crate::cli::{ConfigFile, Exit, Failure, Output};
use crate::manage::config::{Layer, Options, Origin, Secrets, hints, load_layered_text, origins, text_of};
use crate::manage::remote::start;
use crate::manage::remote::store::{self, Store};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// A bundle, signed or not; without it, the file as it is now is compared with the one that last ran
    #[arg(value_name = "BUNDLE")]
    bundle: Option<PathBuf>,
    /// Print one JSON object a difference
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let options = Options::from_process(Secrets::Ignore);
    let file = &args.file.config;
    let text = text_of(file)?;
    let ran = Store::peek(&store::beside(&hints(&text, &options).journal)).good().unwrap_or_else(|| text.clone());
    let in_force = start::in_force(&ran, &options);
    let bundle = match &args.bundle {
        Some(path) => Some(layer(path)?),
        None => start::in_force(&text, &options),
    };
    // A bundle is laid over the file that runs.
    let next = if args.bundle.is_some() { &ran } else { &text };
    load_layered_text(file, next, &options, bundle.as_ref())?;
    let (old, new) = (origins(file, &ran, &options, in_force.as_ref()), origins(file, next, &options, bundle.as_ref()));
    let mut out = Output::stdout();
    let mut count = 0;
    for (key, from, to) in differences(&old, &new) {
        count += 1;
        if args.json {
            let value = |origin: Option<&Origin>| origin.map(|origin| origin.value.clone());
            let origin = to.map(|origin| origin.from.to_string());
            out.line(json!({ "key": key, "old": value(from), "new": value(to), "origin": origin }))?;
            continue;
        }
        match (from, to) {
            (Some(from), Some(to)) => {
                out.line(format_args!("~ {key} = {} (was {})  # {}", to.value, from.value, to.from))?;
            }
            (None, Some(to)) => out.line(format_args!("+ {key} = {}  # {}", to.value, to.from))?,
            (Some(from), None) => out.line(format_args!("- {key} = {}", from.value))?,
            (None, None) => {}
        }
    }
    if count == 0 && !args.json {
        out.line("no difference")?;
    }
    Ok(Exit::Done)
}

fn layer(path: &Path) -> anyhow::Result<Layer> {
    let text = String::from_utf8(read(path)?).map_err(|_| Failure::new(Exit::Data, "a bundle is UTF-8 text"))?;
    Ok(Layer { name: path.to_owned(), text })
}

type Difference<'a> = (&'a str, Option<&'a Origin>, Option<&'a Origin>);

/// By key; both lists are sorted by it.
fn differences<'a>(old: &'a [Origin], new: &'a [Origin]) -> Vec<Difference<'a>> {
    let find = |list: &'a [Origin], key: &str| list.iter().find(|origin| origin.key == key);
    let mut keys: Vec<&str> = old.iter().chain(new).map(|origin| origin.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    let differences = keys.into_iter().map(|key| (key, find(old, key), find(new, key)));
    differences.filter(|(_, old, new)| old.map(|o| &o.value) != new.map(|n| &n.value)).collect()
}
