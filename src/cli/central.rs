//! `portero central`: the database at the centre, prepared and looked after with an administrator's login.
//!
//! Must not: be needed by a running gateway, take a password on the command line, or apply anything else than it prints.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::{Exit, Failure, Output, table};
use crate::clock::{Clock, SyncSource};
use crate::deliver::{Error, central};
use crate::secret::SecretSource;
use crate::tls::TlsMode;

/// Prepare the central PostgreSQL, admit gateways, and see how far behind each is.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make the schema: tables, monthly partitions, functions, roles and policies. May be run again, also over an older one.
    Init(Init),
    /// Make a login that may insert the events of one gateway, call its heartbeat, and nothing else
    AddGateway(AddGateway),
    /// Make the partitions of the months to come, and move rows out of the default partition. Run it monthly
    Maintain(Maintain),
    /// Show what is there, what is missing, and how far behind each gateway is
    Status(Status),
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
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["print", "apply"]))]
struct AddGateway {
    /// The gateway: `[gateway] id` of its configuration
    id: String,
    /// `[gateway] tenant` of its configuration
    #[arg(long, value_name = "NAME", default_value = "default")]
    tenant: String,
    /// The role that it logs in as; the id by default
    #[arg(long, value_name = "NAME")]
    login: Option<String>,
    /// A file of mode 0600 with the password that the login shall have; without it the password stays as it is
    #[arg(long, value_name = "FILE")]
    login_password_file: Option<PathBuf>,
    /// Print the SQL. The password is in it as a salted hash
    #[arg(long)]
    print: bool,
    /// Run it
    #[arg(long, requires = "url")]
    apply: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, clap::Args)]
#[command(mut_arg("url", |url| url.required(true)))]
struct Maintain {
    #[command(flatten)]
    server: Server,
    /// Print one JSON object a partition made
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(mut_arg("url", |url| url.required(true)))]
struct Status {
    #[command(flatten)]
    server: Server,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A central database and how to log in.
#[derive(Debug, clap::Args)]
pub(super) struct Server {
    /// The database, with an administrator's name: postgresql://USER@HOST:PORT/DATABASE. The password comes from
    /// `--password-file` or $PGPASSWORD.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A file of mode 0600 that holds the administrator's password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// How the connection is protected; `disable` is allowed on this machine only.
    #[arg(long, value_name = "MODE", value_parser = ["require", "disable", "insecure"], default_value = "require")]
    tls: String,
    /// Certificates of your own authority, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Server {
    /// Whether a database was named at all.
    pub(super) const fn is_named(&self) -> bool {
        self.url.is_some()
    }

    /// The login's password.
    pub(super) fn password(&self) -> Result<Option<SecretString>, Failure> {
        match &self.password_file {
            Some(path) => secret(path).map(Some),
            None => Ok(std::env::var("PGPASSWORD").ok().filter(|p| !p.is_empty()).map(Into::into)),
        }
    }

    pub(super) fn admin<'a>(&'a self, password: Option<&'a SecretString>) -> central::Admin<'a> {
        central::Admin {
            url: self.url.as_deref().unwrap_or_default(),
            password: password.map(|p| p.expose_secret()),
            tls: match self.tls.as_str() {
                "disable" => TlsMode::Disable,
                "insecure" => TlsMode::Insecure,
                _ => TlsMode::Require,
            },
            ca_file: self.ca_file.as_deref(),
            clock: Clock::new(SyncSource::Trusted),
        }
    }

    /// Prints a script, or runs it.
    fn serve(&self, print: bool, apply: bool, script: &str) -> anyhow::Result<()> {
        if print {
            let mut out = Output::stdout();
            out.bytes(script.as_bytes())?;
            out.flush()?;
        }
        if apply {
            let password = self.password()?;
            super::runtime()?.block_on(self.admin(password.as_ref()).apply(script)).map_err(failure)?;
        }
        Ok(())
    }
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Command::Init(init) => {
            let script = central::script_now(&Clock::new(SyncSource::Trusted));
            init.server.serve(init.print, init.apply, &script)?;
            Ok(Exit::Done)
        }
        Command::AddGateway(add) => add_gateway(add),
        Command::Maintain(maintain) => run_maintain(maintain),
        Command::Status(status) => run_status(status),
    }
}

fn add_gateway(args: &AddGateway) -> anyhow::Result<Exit> {
    let password = args.login_password_file.as_deref().map(secret).transpose()?;
    let script = central::admit(&central::Admission {
        gateway_id: &args.id,
        tenant: &args.tenant,
        login: args.login.as_deref().unwrap_or(&args.id),
        password: password.as_ref().map(|p| p.expose_secret()),
    });
    args.server.serve(args.print, args.apply, &script.map_err(failure)?)?;
    Ok(Exit::Done)
}

fn run_maintain(args: &Maintain) -> anyhow::Result<Exit> {
    let password = args.server.password()?;
    let done = super::runtime()?.block_on(central::maintain(&args.server.admin(password.as_ref()))).map_err(failure)?;
    let mut out = Output::stdout();
    for month in &done.months {
        let (year, number) = (month.first.year(), month.first.month());
        if args.json {
            out.line(serde_json::json!({ "partition": format!("event_{year:04}_{number:02}"), "moved": month.moved }))?;
        } else {
            out.line(format_args!("portero.event_{year:04}_{number:02} made, {} rows moved into it", month.moved))?;
        }
    }
    if done.anchors > 0 {
        if args.json {
            out.line(serde_json::json!({ "anchors_thinned": done.anchors }))?;
        } else {
            out.line(format_args!("{} points of gateways' chains thinned to one a day", done.anchors))?;
        }
    } else if done.months.is_empty() && !args.json {
        out.line("nothing to do")?;
    }
    Ok(Exit::Done)
}

fn run_status(args: &Status) -> anyhow::Result<Exit> {
    let password = args.server.password()?;
    let state = super::runtime()?.block_on(central::state(&args.server.admin(password.as_ref()))).map_err(failure)?;
    let mut out = Output::stdout();
    if args.json {
        out.line(&state)?;
    } else {
        show(&state, &mut out)?;
    }
    let complete = state["missing"].as_array().is_some_and(Vec::is_empty);
    Ok(if complete { Exit::Done } else { Exit::No })
}

fn show(state: &Value, out: &mut Output) -> std::io::Result<()> {
    let list = |key: &str| state[key].as_array().cloned().unwrap_or_default();
    for missing in list("missing") {
        out.line(format_args!("missing: {}", table::value(&missing)))?;
    }
    if state["schema_version"].is_null() {
        return Ok(());
    }
    let partitions = list("partitions");
    let months: Vec<&str> =
        partitions.iter().filter_map(Value::as_str).filter(|name| *name != "event_default").collect();
    out.line(format_args!(
        "schema {} on PostgreSQL {}; {} monthly partitions, {} to {}",
        state["schema_version"],
        table::value(&state["server"]),
        months.len(),
        months.first().unwrap_or(&"-"),
        months.last().unwrap_or(&"-"),
    ))?;
    out.line(format_args!(
        "rows in the default partition: {}; conflicts: {}",
        state["default_rows"], state["conflicts"]
    ))?;
    for login in list("shared_logins") {
        out.line(format_args!(
            "login {} may write as any gateway; better: portero central add-gateway",
            table::value(&login)
        ))?;
    }
    let gateways = list("gateways");
    if gateways.is_empty() {
        return Ok(());
    }
    let mut rows = table::new(&[
        "gateway",
        "tenant",
        "login",
        "version",
        "last seen",
        "silent",
        "pending",
        "row",
        "conflicts",
        "",
    ]);
    for gateway in &gateways {
        let cell = |key: &str| table::value(&gateway[key]);
        let logins = gateway["logins"].as_array().map(|all| all.iter().map(table::value).collect::<Vec<_>>().join(" "));
        rows.add_row([
            cell("gateway_id"),
            cell("tenant"),
            logins.unwrap_or_else(|| "-".to_owned()),
            cell("version"),
            table::time(&gateway["seen_at"]),
            gateway["silent_seconds"].as_u64().map_or_else(|| "-".to_owned(), |s| format!("{s} s")),
            cell("pending"),
            cell("seq"),
            gateway["conflicts"].as_u64().unwrap_or(0).to_string(),
            gateway["anchor_problem"].as_str().unwrap_or("").to_owned(),
        ]);
    }
    let states: Vec<&str> =
        gateways.iter().map(|g| if g["anchor_problem"].is_null() { "up" } else { "blocked" }).collect();
    out.line(format_args!("\n{}", table::render(&rows, &states, out.is_tty())))
}

fn secret(path: &Path) -> Result<SecretString, Failure> {
    SecretSource::File(path.to_owned()).read().map_err(|error| failure(Error::Secret(error)))
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
pub(super) fn failure(error: Error) -> Failure {
    let exit = match &error {
        Error::Connect(_) => Exit::Unavailable,
        Error::Refused(_) => Exit::No,
        Error::Secret(_) | Error::Tls(_) => Exit::Config,
        _ => Exit::Usage,
    };
    Failure::new(exit, error.to_string())
}
