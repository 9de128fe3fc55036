//! `portero quarantine`: events that a sink refused for good.
//!
//! Must not: drop an event, or open a journal for writing while a gateway owns it.

use serde_json::{Value, json};

use super::{ConfigFile, Exit, Failure, Output, table};
use crate::clock::Clock;
use crate::event::json as event_json;
use crate::journal::{self, Journal, Quarantined, Seq};
use crate::manage::config::Config;
use crate::manage::control::client;

/// Most entries read at once.
const MOST: usize = 100_000;

/// List, show or replay events that a sink refused for good.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List quarantined events, oldest first
    List(List),
    /// Show one event with the sink's own words
    Show(Show),
    /// Send quarantined events again, once their cause is mended
    Replay(Replay),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    file: ConfigFile,
    /// Only of this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Print JSON Lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    file: ConfigFile,
    /// The event's number, as `list` shows it
    seq: u64,
    /// Only of this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Print JSON Lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Replay {
    #[command(flatten)]
    file: ConfigFile,
    /// Numbers of events, as `list` shows them
    #[arg(required_unless_present = "all")]
    seqs: Vec<u64>,
    /// All of them
    #[arg(long, conflicts_with = "seqs")]
    all: bool,
    /// Only of this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Show(args) => show(args),
        Command::Replay(args) => replay(args),
    }
}

fn read(config: &Config, sink: Option<&str>, limit: usize) -> anyhow::Result<Vec<Quarantined>> {
    known(config, sink)?;
    let sink = sink.map(str::to_owned);
    let entries = super::runtime()?.block_on(async {
        let journal = super::open_read_only(config)?;
        let entries = journal.quarantined(sink, limit).await?;
        journal.close().await?;
        anyhow::Ok(entries)
    })?;
    Ok(entries)
}

fn known(config: &Config, sink: Option<&str>) -> Result<(), Failure> {
    match sink {
        Some(name) if config.sinks.iter().all(|s| s.name != name) => {
            let names: Vec<&str> = config.sinks.iter().map(|s| s.name.as_str()).collect();
            Err(Failure::new(Exit::Usage, format!("there is no sink '{name}'; the file has: {}", names.join(", "))))
        }
        _ => Ok(()),
    }
}

fn list(args: &List) -> anyhow::Result<Exit> {
    let entries = read(&args.file.read()?, args.sink.as_deref(), args.limit)?;
    let mut out = Output::stdout();
    if args.json {
        for entry in &entries {
            out.line(object(entry))?;
        }
        return Ok(Exit::Done);
    }
    if entries.is_empty() {
        out.line("nothing is quarantined")?;
        return Ok(Exit::Done);
    }
    let mut rows = table::new(&["seq", "sink", "since", "attempts", "reason"]);
    for entry in &entries {
        rows.add_row(vec![
            entry.record.seq.0.to_string(),
            entry.sink.clone(),
            table::time(&event_json::rfc3339(entry.at).as_str().into()),
            entry.attempts.to_string(),
            entry.reason.clone(),
        ]);
    }
    out.line(table::render(&rows, &[], out.is_tty()))?;
    Ok(Exit::Done)
}

fn show(args: &Show) -> anyhow::Result<Exit> {
    let entries = read(&args.file.read()?, args.sink.as_deref(), MOST)?;
    let found: Vec<_> = entries.iter().filter(|e| e.record.seq.0 == args.seq).collect();
    if found.is_empty() {
        return Err(Failure::new(
            Exit::No,
            format!("event {} is not quarantined; see portero quarantine list", args.seq),
        )
        .into());
    }
    let mut out = Output::stdout();
    for entry in found {
        let object = object(entry);
        if args.json {
            out.line(object)?;
            continue;
        }
        for key in ["seq", "event_id", "sink", "at", "attempts", "reason", "answer"] {
            out.line(format_args!("{key:<10}{}", table::value(&object[key])))?;
        }
        out.line(format_args!("{:#}", object["event"]))?;
    }
    Ok(Exit::Done)
}

fn object(entry: &Quarantined) -> Value {
    let mut event = Vec::new();
    event_json::write(&entry.record.event, &mut event);
    json!({
        "seq": entry.record.seq.0,
        "event_id": entry.record.event.id.to_string(),
        "sink": entry.sink,
        "at": event_json::rfc3339(entry.at).as_str(),
        "attempts": entry.attempts,
        "reason": entry.reason,
        "answer": entry.answer,
        "event": serde_json::from_slice::<Value>(&event).unwrap_or_default(),
    })
}

fn replay(args: &Replay) -> anyhow::Result<Exit> {
    let config = args.file.read()?;
    let entries = read(&config, args.sink.as_deref(), MOST)?;
    let wanted = |entry: &&Quarantined| args.all || args.seqs.contains(&entry.record.seq.0);
    let chosen: Vec<&Quarantined> = entries.iter().filter(wanted).collect();
    if let Some(absent) = args.seqs.iter().find(|seq| chosen.iter().all(|e| e.record.seq.0 != **seq)) {
        return Err(
            Failure::new(Exit::No, format!("event {absent} is not quarantined; see portero quarantine list")).into()
        );
    }
    let mut sinks: Vec<&str> = chosen.iter().map(|e| e.sink.as_str()).collect();
    sinks.sort_unstable();
    sinks.dedup();
    let mut released = 0;
    for sink in sinks {
        let seqs: Vec<u64> = chosen.iter().filter(|e| e.sink == sink).map(|e| e.record.seq.0).collect();
        released += release(&config, sink, &seqs)?;
    }
    let mut out = Output::stdout();
    if args.json {
        out.line(json!({ "released": released }))?;
    } else {
        out.line(format_args!("{released} released; they go out with the next delivery"))?;
    }
    Ok(Exit::Done)
}

/// Through the running gateway, which then sends at once; else in the journal itself, under its lock.
fn release(config: &Config, sink: &str, seqs: &[u64]) -> anyhow::Result<u64> {
    match client::post(&config.manage.socket, "/quarantine/replay", &json!({ "sink": sink, "seqs": seqs })) {
        Ok(answer) => Ok(answer["released"].as_u64().unwrap_or(0)),
        Err(client::Error::Absent(_)) => Ok(super::runtime()?.block_on(async {
            let journal = Journal::open(&config.journal, Clock::new(config.clock.clone()))?;
            let released = journal.release(sink.to_owned(), Some(seqs.iter().copied().map(Seq).collect())).await?;
            journal.close().await?;
            Ok::<_, journal::Error>(released)
        })?),
        Err(error) => Err(error.into()),
    }
}
