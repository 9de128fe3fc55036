//! `portero mapping`: what a sink would send for the events that are in the journal, and whether the vendor would take it.
//!
//! Must not: send anything, change the journal, or show a credential.

mod check;

mod preview;

use std::path::Path;

use super::{Exit, Failure};
use crate::clock::Clock;
use crate::deliver::api::{self, Api};
use crate::deliver::directory::Directory;
use crate::deliver::{self, Kind};
use crate::journal::{Query, Record};
use crate::manage::config::Config;

/// Show what a sink would send for stored events, or check it against the vendor's contract.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the exact requests for stored events; exit 1 if one can't be mapped, or, with --against, if any differs
    Preview(preview::Args),
    /// Check what would be sent against the vendor's OpenAPI document or JSON Schema; exit 1 if anything doesn't fit
    Check(check::Args),
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Command::Preview(args) => preview::run(args),
        Command::Check(args) => check::run(args),
    }
}

/// Stored events, with what the worker directory calls their people.
fn stored(config: &Config, query: Query) -> anyhow::Result<Vec<Record>> {
    super::runtime()?.block_on(async {
        let journal = super::open_read_only(config)?;
        let mut records = journal.query(query).await?;
        if config.directory.is_some() {
            Directory::load(&journal).await?.fill(&mut records);
        }
        journal.close().await?;
        Ok(records)
    })
}

/// A sink of a configuration, ready to map.
struct Chosen {
    api: Api,
    config: deliver::Config,
}

impl Chosen {
    fn new(config: &Config, file: &Path, name: &str) -> Result<Self, Failure> {
        let usage = |words: String| Failure::new(Exit::Usage, words);
        let Some(sink) = config.sinks.iter().find(|sink| sink.name == name) else {
            let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
            let file = file.display();
            return Err(usage(format!("there is no sink '{name}' in {file}; it has: {}", names.join(", "))));
        };
        let Kind::Api(api) = &sink.kind else {
            return Err(usage(format!("sink '{name}' is no API and has no mapping; name one of type = \"api\"")));
        };
        // Nothing is sent: what only a connection needs may be missing here.
        let unconnected = api::Config { ca_file: None, client: None, ..api.clone() };
        let api = Api::new(name, unconnected, Clock::new(config.clock.clone()));
        let api = api.map_err(|error| Failure::new(Exit::Config, format!("sink '{name}': {error}")))?;
        Ok(Self { api, config: sink.clone() })
    }
}
