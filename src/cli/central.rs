//! `portero central`: the database at the centre, prepared with an administrator's login.
//!
//! Must not: be needed by a running gateway, take a password on the command line, or apply anything else than it prints.

use std::path::PathBuf;

use secrecy::ExposeSecret as _;

use super::{Exit, Failure, Output};
use crate::clock::{Clock, SyncSource};
use crate::deliver::{Error, central};
use crate::secret::SecretSource;
use crate::tls::TlsMode;

/// Prepare the central PostgreSQL.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make the schema: tables, monthly partitions, functions and the group role `portero_gateway`. May be run again.
    Init(Init),
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["print", "apply"]))]
struct Init {
    /// Print the SQL, exactly as `--apply` would run it.
    #[arg(long)]
    print: bool,
    /// Run it.
    #[arg(long, requires = "url")]
    apply: bool,
    /// The database, with an administrator's name: postgresql://USER@HOST:PORT/DATABASE. The password comes from
    /// `--password-file` or $PGPASSWORD.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A file of mode 0600 that holds the password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// How the connection is protected; `disable` is allowed on this machine only.
    #[arg(long, value_name = "MODE", value_parser = ["require", "disable", "insecure"], default_value = "require")]
    tls: String,
    /// Certificates of your own authority, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Command::Init(init) => run_init(init),
    }
}

fn run_init(args: &Init) -> anyhow::Result<Exit> {
    let clock = Clock::new(SyncSource::Trusted);
    let script = central::script_now(&clock);
    if args.print {
        let mut out = Output::stdout();
        out.bytes(script.as_bytes())?;
        out.flush()?;
    }
    let (true, Some(url)) = (args.apply, &args.url) else { return Ok(Exit::Done) };
    let password = match &args.password_file {
        Some(path) => Some(SecretSource::File(path.clone()).read().map_err(Error::Secret).map_err(failure)?),
        None => std::env::var("PGPASSWORD").ok().filter(|p| !p.is_empty()).map(Into::into),
    };
    let password = password.as_ref().map(|p: &secrecy::SecretString| p.expose_secret());
    let tls = match args.tls.as_str() {
        "disable" => TlsMode::Disable,
        "insecure" => TlsMode::Insecure,
        _ => TlsMode::Require,
    };
    super::runtime()?
        .block_on(central::apply(url, password, tls, args.ca_file.as_deref(), clock, &script))
        .map_err(failure)?;
    Ok(Exit::Done)
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn failure(error: Error) -> Failure {
    let exit = match &error {
        Error::Connect(_) => Exit::Unavailable,
        Error::Refused(_) => Exit::No,
        Error::Secret(_) | Error::Tls(_) => Exit::Config,
        _ => Exit::Usage,
    };
    Failure::new(exit, error.to_string())
}
