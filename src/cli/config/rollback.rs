//! `portero config rollback`: takes back the bundle in force, through the running gateway, or on the disk for the next start.
//!
//! Must not: leave out who did it, and why.

use std::os::unix::fs::MetadataExt as _;

use serde_json::json;

use crate::cli::{ConfigFile, Exit, Failure, Output};
use crate::clock::{Clock, SyncSource};
use crate::manage::config::{Options, Secrets, text_of};
use crate::manage::control::client;
use crate::manage::remote::agent::Agent;
use crate::manage::remote::store::{self, Store};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Why; it stands in the history
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    why: String,
    /// Drop what waits for this sink, which only the bundle has; may be given again
    #[arg(long, value_name = "SINK")]
    abandon: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let config = args.file.read()?;
    let who = who();
    let request = json!({ "who": who, "why": args.why, "abandon": args.abandon });
    let report = match client::post_for(&config.manage.socket, "/config/rollback", &request) {
        Ok(report) => report,
        Err(client::Error::Absent(_)) => on_disk(args, &config, &who)?,
        Err(error) => return Err(error.into()),
    };
    let refused = report["outcome"] == "refused";
    let mut out = Output::stdout();
    if args.json {
        out.line(&report)?;
    } else if refused {
        out.line(format_args!("refused: {}", report["error"].as_str().unwrap_or("no reason given")))?;
    } else {
        out.line("taken back; see `portero config history`")?;
    }
    Ok(if refused { Exit::No } else { Exit::Done })
}

fn on_disk(args: &Args, config: &crate::manage::config::Config, who: &str) -> anyhow::Result<serde_json::Value> {
    let io = |error: crate::manage::remote::Error| Failure::new(Exit::Io, error.to_string());
    let dir = store::beside(&config.journal.path);
    if !dir.is_dir() {
        return Err(Failure::new(Exit::No, "there is nothing to go back to: no bundle was ever taken").into());
    }
    // Files of another owner could not be read by the gateway, which would then know neither bundles nor keys.
    let owner = std::fs::metadata(&dir)?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        let words = format!(
            "the gateway does not run, and {} is another user's; run this as that user: sudo -u '#{owner}' portero config rollback",
            dir.display()
        );
        return Err(Failure::new(Exit::Io, words).into());
    }
    let store = Store::open(&dir).map_err(io)?;
    let state = store.state().0;
    let (file, base) = (&args.file.config, state.current.clone());
    let mut agent = Agent::new(store, state, file, text_of(file)?, Options::from_process(Secrets::Ignore), base);
    let now = Clock::new(SyncSource::Trusted).now().wall;
    match agent.way_back(who, &args.why, now).and_then(|(next, _)| agent.roll_back(next)) {
        Ok(()) => Ok(json!({ "outcome": "applied" })),
        Err(error) => Ok(json!({ "outcome": "refused", "error": error.to_string() })),
    }
}

/// The person at the keyboard, as far as the system knows.
fn who() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    named.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()))
}
