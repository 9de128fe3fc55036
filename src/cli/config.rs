//! `portero config`: what has to do with the configuration as a whole.
//!
//! Must not: judge a configuration; `check` and the gateway do.

use clap::Subcommand;

use super::Exit;

pub mod reload;

/// Have the running gateway take over its configuration file
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Have the running gateway read its configuration file again, and run what it says
    ///
    /// Only what differs is stopped and started: a sink, a serial line, a broker with the terminals behind it. The journal
    /// and everything else goes on. Secrets are read again. A file that can't be used is refused, and what was running
    /// runs on; so is one without a sink for which events still wait.
    Reload(reload::Args),
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Command::Reload(args) => reload::run(args),
    }
}
