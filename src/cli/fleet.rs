//! `portero fleet`: all gateways, as the centre knows them.
//!
//! Must not: change anything at the centre, or take a password on the command line.

use std::time::Duration;

use serde_json::Value;

use super::central::{Server, failure};
use super::{Exit, Output, table};
use crate::deliver::central;

/// Look at all gateways at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show how every gateway is, the worst first: silent, journal went back, sink blocked, events that wait
    Status(Status),
}

#[derive(Debug, clap::Args)]
#[command(mut_arg("url", |url| url.long("postgres").required(true).help("The central database: \
    postgresql://USER@HOST:PORT/DATABASE, with a login that may read portero.gateway and portero.terminal; the password \
    comes from `--password-file` or $PGPASSWORD")))]
#[command(mut_arg("password_file", |file| file.help("A file of mode 0600 that holds the login's password")))]
struct Status {
    #[command(flatten)]
    server: Server,
    /// A gateway that was not heard for so long is silent, an event that waits longer is late
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    stale: u64,
    /// Ask again every five seconds
    #[arg(long)]
    watch: bool,
    /// Exit 1 if anything is wrong with any gateway
    #[arg(long, conflicts_with = "watch")]
    check: bool,
    /// Print JSON Lines, one object a gateway
    #[arg(long)]
    json: bool,
}

/// How often `--watch` asks.
const EVERY: Duration = Duration::from_secs(5);

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Command::Status(args) => super::runtime()?.block_on(status(args)),
    }
}

async fn status(args: &Status) -> anyhow::Result<Exit> {
    let password = args.server.password()?;
    let admin = args.server.admin(password.as_ref());
    let mut out = Output::stdout();
    loop {
        let gateways = central::fleet(&admin, args.stale).await.map_err(failure);
        match gateways {
            Ok(gateways) => {
                if args.watch && out.is_tty() && !args.json {
                    // Home, and clear what was there.
                    out.bytes(b"\x1b[H\x1b[2J")?;
                }
                show(args, &gateways, &mut out)?;
                if !args.watch {
                    let wrong = gateways.iter().any(is_wrong);
                    return Ok(if args.check && wrong { Exit::No } else { Exit::Done });
                }
            }
            // Whoever watches wants to see it come back.
            Err(error) if args.watch && !args.json => out.line(format_args!("{error}"))?,
            Err(error) => return Err(error.into()),
        }
        out.flush()?;
        if out.closed() {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn is_wrong(gateway: &Value) -> bool {
    gateway["wrong"].as_array().is_some_and(|wrong| !wrong.is_empty())
}

fn show(args: &Status, gateways: &[Value], out: &mut Output) -> std::io::Result<()> {
    if args.json {
        return gateways.iter().try_for_each(|gateway| out.line(gateway));
    }
    let wrong = gateways.iter().filter(|gateway| is_wrong(gateway)).count();
    out.line(format_args!("{} gateways, something is wrong with {wrong}", gateways.len()))?;
    if gateways.is_empty() {
        return Ok(());
    }
    // Tenants only where there is more than one.
    let tenants = gateways.iter().any(|gateway| gateway["tenant"] != gateways[0]["tenant"]);
    let mut rows = table::new(&["gateway", "site", "version", "revision", "heard", "pending", "oldest", ""]);
    for gateway in gateways {
        let cell = |key: &str| table::value(&gateway[key]);
        let ago = |key: &str| gateway[key].as_u64().map_or_else(|| "-".to_owned(), central::span);
        let id = if tenants { format!("{}/{}", cell("tenant"), cell("gateway_id")) } else { cell("gateway_id") };
        let oldest = if gateway["oldest_pending"].is_null() { "-".to_owned() } else { ago("oldest_pending_seconds") };
        let words = gateway["wrong"].as_array().into_iter().flatten().map(table::value).collect::<Vec<_>>().join("; ");
        rows.add_row([
            id,
            cell("site_id"),
            cell("version"),
            cell("revision"),
            ago("silent_seconds"),
            cell("pending"),
            oldest,
            words,
        ]);
    }
    let states: Vec<&str> = gateways.iter().map(|gateway| if is_wrong(gateway) { "blocked" } else { "up" }).collect();
    out.line(table::render(&rows, &states, out.is_tty()))
}
