//! `portero doctor`: everything that this gateway needs, looked at, each finding with its remedy.
//!
//! Must not: decide what is wrong (`manage::doctor` does).

use std::path::PathBuf;

use super::{ConfigFile, Exit, Failure, Output};
use crate::manage::config::{Options, Secrets};
use crate::manage::doctor::{self, Examination, Finding, Patient, State};

/// Name look-ups block a thread each: one that hangs must not hold up the others.
const LOOK_UPS: usize = 32;

/// Look at clock, disk, journal, devices, servers and credentials, and say what to mend. Sends no event, opens no device, and
/// works with or without a running gateway. Exit 1 when something fails.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Print JSON Lines
    #[arg(long)]
    json: bool,
    /// Also write a bundle for support, a plain tar archive: findings, configuration, status, counts, the end of the log,
    /// without secrets and without anything of a person
    #[arg(long, value_name = "FILE.tar")]
    bundle: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.bundle.as_ref().is_some_and(|file| file.extension().is_none_or(|end| end != "tar")) {
        let words = "the bundle is a plain tar archive: give it a name that ends in .tar";
        return Err(Failure::new(Exit::Usage, words).into());
    }
    let patient =
        Patient { loaded: args.file.load(Secrets::Ignore), units: Options::from_process(Secrets::Ignore).units };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(LOOK_UPS).build()?;
    let (examination, bundled) = runtime.block_on(async {
        let examination = doctor::examine(&patient).await;
        let bundled = match &args.bundle {
            Some(file) => Some((file, doctor::bundle::write(file, &patient, &examination).await)),
            None => None,
        };
        (examination, bundled)
    });
    // A name look-up that hangs is not waited for.
    runtime.shutdown_background();
    let mut out = Output::stdout();
    if args.json {
        for finding in &examination.findings {
            out.line(finding.to_json())?;
        }
    } else {
        show(&examination, &mut out)?;
    }
    if let Some((file, written)) = bundled {
        let contents = written.map_err(|error| {
            Failure::new(Exit::Io, format!("cannot write {}: {error}; name another file", file.display()))
        })?;
        if !args.json {
            out.line(format_args!("\n{} holds:", file.display()))?;
            for (name, what) in contents {
                out.line(format_args!("  {name:<20}{what}"))?;
            }
        }
    }
    Ok(if worst(&examination) == State::Fail { Exit::No } else { Exit::Done })
}

fn worst(examination: &Examination) -> State {
    examination.findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok)
}

fn show(examination: &Examination, out: &mut Output) -> std::io::Result<()> {
    for finding in &examination.findings {
        let Finding { check, subject, state, found, remedy, .. } = finding;
        let colour = match state {
            _ if !out.is_tty() => None,
            State::Fail => Some("31"),
            State::Warn => Some("33"),
            State::Ok | State::Skipped => None,
        };
        let word = format!("{:<8}", state.word());
        let word = colour.map_or_else(|| word.clone(), |code| format!("\x1b[{code}m{word}\x1b[0m"));
        let subject = if subject.is_empty() { String::new() } else { format!("{}: ", super::table::flat(subject)) };
        out.line(format_args!("{word}{check:<14}{subject}{}", super::table::flat(found)))?;
        if let (Some(remedy), State::Warn | State::Fail) = (remedy, state) {
            out.line(format_args!("{:<22}-> {}", "", super::table::flat(remedy)))?;
        }
    }
    let count = |state| examination.findings.iter().filter(|finding| finding.state == state).count();
    let (fails, warns, skipped) = (count(State::Fail), count(State::Warn), count(State::Skipped));
    out.line(format_args!("\n{} looked at: {fails} fail, {warns} warn, {skipped} skipped", examination.findings.len()))
}
