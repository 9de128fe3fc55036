//! `portero config`: what has to do with the configuration as a whole.
//!
//! Must not: judge a configuration; `check` and the gateway do.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{Exit, Failure};
use crate::event::json::rfc3339;
use crate::manage::config::{Addressee, Header};

pub mod diff;
pub mod history;
#[cfg(feature = "sign")]
pub mod keygen;
#[cfg(any(test, not(feature = "sign")))]
mod left_out;
pub mod reload;
pub mod rollback;
pub mod show;
#[cfg(feature = "sign")]
pub mod sign;
pub mod verify;

#[cfg(not(feature = "sign"))]
use {left_out as keygen, left_out as sign};

/// Show, reload, sign, push or take back the configuration
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show every value and, with --origin, where it comes from; secrets as references only
    Show(show::Args),
    /// Show what a bundle, or the file as it is now, would change
    Diff(diff::Args),
    /// Have the running gateway read its configuration file again, and run what it says
    ///
    /// Only what differs is stopped and started: a sink, a serial line, a broker with the terminals behind it. The journal
    /// and everything else goes on. Secrets are read again. A file that can't be used is refused, and what was running
    /// runs on; so is one without a sink for which events still wait.
    Reload(reload::Args),
    /// Show what became of bundles from afar
    History(history::Args),
    /// Take back the bundle in force: go to the one before, or to the local file alone
    ///
    /// Its revision stays consumed: to get it again, sign it with a higher one.
    Rollback(rollback::Args),
    /// Make a key pair that signs bundles
    Keygen(keygen::Args),
    /// Sign a bundle
    Sign(sign::Args),
    /// Say whether a bundle is rightly signed, and whether this gateway would take it
    Verify(verify::Args),
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Command::Show(args) => show::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Reload(args) => reload::run(args),
        Command::History(args) => history::run(args),
        Command::Rollback(args) => rollback::run(args),
        Command::Keygen(args) => keygen::run(args),
        Command::Sign(args) => sign::run(args),
        Command::Verify(args) => verify::run(args),
    }
}

/// Longest file that is signed or verified, bytes; one more than a bundle may have.
const MAX_BYTES: u64 = crate::manage::remote::bundle::MAX_BYTES as u64 + 1;

/// A file, up to one byte more than is allowed.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| Failure::new(Exit::Io, format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// `BUNDLE.minisig`
fn beside(bundle: &Path) -> PathBuf {
    let mut name = bundle.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

fn addressed(header: &Header) -> String {
    match &header.to {
        Addressee::Gateway(id) => format!("gateway:{id}"),
        Addressee::Group(group) => format!("group:{group}"),
    }
}

/// What a bundle says of itself.
fn words(header: &Header) -> String {
    format!(
        "revision {} for {}, good from {} until {}",
        header.revision,
        addressed(header).replace(':', " "),
        rfc3339(header.not_before).as_str(),
        rfc3339(header.expires).as_str(),
    )
}
