//! The command line: one file per subcommand, and the one place where an exit code is chosen.
//!
//! Must not: hold logic that the gateway or a test would want too; that stands on a lower floor.
//!
//! The convention for a subcommand `x`: `cli/x.rs` holds `pub struct Args` (deriving `clap::Args`) and
//! `pub fn run(args: &Args) -> anyhow::Result<Exit>`. What was asked for goes to standard output through [`Output`],
//! everything else to standard error. An `Err` is printed by `main` and turned into an exit code by [`exit_for`];
//! `Ok(Exit::No)` is for an answer that is "no" and has been printed already. A subcommand that needs a runtime builds
//! it with [`runtime`].

pub mod await_clock;

pub mod central;

pub mod check;

pub mod config;

pub mod configured;

pub mod decode;

pub mod doctor;

pub mod events;

pub mod fleet;

pub mod ledger;

pub mod log_level;

pub mod mapping;

pub mod output;

pub mod quarantine;

pub mod run;

pub mod simulate;

pub mod status;

pub mod table;

pub mod trace;

use std::io::IsTerminal as _;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use configured::ConfigFile;
pub use output::Output;

use crate::gateway;
use crate::journal::{self, Journal};
use crate::manage::config::Problems;
use crate::manage::control::client;

/// Brings what attendance and access terminals report to the centre, once, through any failure.
#[derive(Debug, Parser)]
#[command(name = "portero", version, disable_help_subcommand = true, help_template = TEMPLATE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Subcommands stand in groups; clap knows none, so they come as text after the options.
const TEMPLATE: &str = "{about}\n\n{usage-heading} {usage}{after-help}\n\nOptions:\n{options}\n\n\
    portero COMMAND --help says more of a command.\n";

/// The groups, in the order in which people meet them. Every subcommand is in exactly one.
const GROUPS: &[(&str, &[&str])] = &[
    ("Gateway", &["run", "check", "config", "status", "doctor", "log-level"]),
    ("Events", &["events", "trace", "quarantine", "journal"]),
    ("Centre", &["central", "fleet", "mapping"]),
    ("Terminals", &["decode", "simulate"]),
];

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Run(run::Args),
    /// Check the configuration and say everything that is wrong with it
    Check(check::Args),
    /// Show, sign, check, take over and take back configuration
    Config(config::Args),
    /// Show how the gateway, its links and its sinks are
    Status(status::Args),
    /// Look at everything that the gateway needs, and say what to mend
    Doctor(doctor::Args),
    /// Show what the running gateway logs, or have it log more or less for a while
    ///
    /// The configuration is not touched: after the time given with --for the gateway goes back to [log] level by itself, and
    /// so does one that is restarted. A release build holds no lines of trace.
    LogLevel(log_level::Args),
    /// List events of the journal, or follow them as they come
    Events(events::Args),
    /// Show what became of an event at each sink: did this punch arrive?
    Trace(trace::Args),
    /// List, show, replay, edit or drop events that a sink refused for good
    Quarantine(quarantine::Args),
    /// Verify the journal's chain, or show its ledger
    Journal(ledger::Args),
    /// Prepare the central PostgreSQL
    Central(central::Args),
    /// Show how all gateways are, as the centre knows them
    Fleet(fleet::Args),
    /// Show what a sink would send for stored events, or check it against the vendor's contract
    Mapping(mapping::Args),
    /// Show what a terminal's bytes mean, one event as JSON a line
    Decode(decode::Args),
    /// Play a terminal, so that a gateway can be tried without one
    Simulate(simulate::Args),
    /// Wait until the clock is right and say so in a file (for portero-clock.service)
    #[command(hide = true)]
    AwaitClock(await_clock::Args),
}

/// The whole command line, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the arguments, runs the subcommand, prints its error and chooses the exit code.
pub fn main() -> Exit {
    let command =
        match command().after_help(groups()).try_get_matches().and_then(|mut m| Cli::from_arg_matches_mut(&mut m)) {
            Ok(cli) => cli.command,
            Err(error) => {
                // Nobody is left to be told if this fails.
                let _ = error.print();
                return if error.use_stderr() { Exit::Usage } else { Exit::Done };
            }
        };
    let result = match &command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Config(args) => config::run(args),
        Command::Status(args) => status::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::LogLevel(args) => log_level::run(args),
        Command::Events(args) => events::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Quarantine(args) => quarantine::run(args),
        Command::Journal(args) => ledger::run(args),
        Command::Central(args) => central::run(args),
        Command::Fleet(args) => fleet::run(args),
        Command::Mapping(args) => mapping::run(args),
        Command::Decode(args) => decode::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::AwaitClock(args) => await_clock::run(args),
    };
    result.unwrap_or_else(|error| {
        report(&error);
        exit_for(&error)
    })
}

fn groups() -> String {
    let command = Cli::command();
    let mut text = String::new();
    for (heading, names) in GROUPS {
        text.push_str(heading);
        text.push_str(":\n");
        for name in *names {
            let about = command.find_subcommand(name).and_then(|c| c.get_about()).map(ToString::to_string);
            text.push_str(&format!("  {name:<12}{}\n", about.unwrap_or_default()));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Prints an error for a person, on standard error.
#[expect(clippy::print_stderr, reason = "the one place where a command's error is printed")]
fn report(error: &anyhow::Error) {
    match error.downcast_ref::<Problems>() {
        Some(problems) => eprintln!("{}", problem_lines(problems, std::io::stderr().is_terminal())),
        None => eprintln!("portero: {error:#}"),
    }
}

/// All problems of a configuration, one a line, with the line of the file and a caret where a person looks.
pub(crate) fn problem_lines(problems: &Problems, carets: bool) -> String {
    let mut lines = Vec::new();
    for (word, list) in [("", &problems.errors), ("warning: ", &problems.warnings)] {
        for problem in list {
            lines.push(format!("{word}{problem}"));
            lines.extend(problem.caret().filter(|_| carets));
        }
    }
    let count = problems.errors.len();
    if count > 0 {
        let noun = if count == 1 { "problem" } else { "problems" };
        lines.push(format!("portero: {count} {noun} in the configuration"));
    }
    lines.join("\n")
}

/// How the process ends (`sysexits.h` for 65, 69, 74 and 78).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The answer is "no", or something was found wrong.
    No = 1,
    /// Wrong usage.
    Usage = 2,
    /// `EX_DATAERR`: a document that was given can't be understood.
    Data = 65,
    /// `EX_UNAVAILABLE`: a needed service or feature is not available.
    Unavailable = 69,
    /// `EX_IOERR`: input or output failed.
    Io = 74,
    /// `EX_CONFIG`: bad configuration; systemd must not restart us.
    Config = 78,
}

/// An error that knows how the process must end.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How to end.
    pub exit: Exit,
    /// What to tell the person: lower case, with the remedy.
    pub message: String,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

/// The exit code for an error: the first error of the chain that says something decides.
pub fn exit_for(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.exit;
        }
        if let Some(journal) = cause.downcast_ref::<journal::Error>() {
            return exit_for_journal(journal);
        }
        if cause.is::<Problems>() {
            return Exit::Config;
        }
        match cause.downcast_ref::<gateway::Error>() {
            Some(gateway::Error::Journal(journal)) => return exit_for_journal(journal),
            Some(gateway::Error::Sink { .. }) => return Exit::Config,
            Some(_) | None => {}
        }
        if let Some(control) = cause.downcast_ref::<client::Error>() {
            return match control {
                client::Error::Io(_) => Exit::Io,
                client::Error::Absent(_) | client::Error::Forbidden(_) | client::Error::Refused(_) => Exit::Unavailable,
            };
        }
        if cause.is::<std::io::Error>() {
            return Exit::Io;
        }
    }
    Exit::Io
}

fn exit_for_journal(error: &journal::Error) -> Exit {
    match error {
        journal::Error::Owned { .. } | journal::Error::TooNew { .. } => Exit::Unavailable,
        journal::Error::NotFound(_) => Exit::No,
        _ => Exit::Io,
    }
}

/// A small runtime for a subcommand that talks to the journal, a socket or a server.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?)
}

/// The journal for reading, beside a running gateway or without one.
pub(crate) fn open_read_only(config: &crate::manage::config::Config) -> anyhow::Result<Journal> {
    let path = &config.journal.path;
    if !path.exists() {
        let words =
            format!("there is no journal at {}; start the gateway once, or mend [journal] path", path.display());
        return Err(Failure::new(Exit::Io, words).into());
    }
    Ok(Journal::open_read_only(&config.journal)?)
}
