//! `portero quarantine`: events that a sink refused for good.
//!
//! Must not: drop an event without a reason and a name, or open a journal for writing while a gateway owns it.

mod edit;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{ConfigFile, Exit, Failure, Output, table};
use crate::clock::Clock;
use crate::event::json as event_json;
use crate::journal::{self, Journal, Quarantined, Seq};
use crate::manage::config::Config;
use crate::manage::control::client;

/// Most entries read at once.
const MOST: usize = 100_000;

/// Most sequence numbers of one request to the running gateway.
const PORTION: usize = 2_000;

/// List, show, replay, edit or drop events that a sink refused for good.
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
    /// Send quarantined events again with something else in the place of a field; the events themselves stay
    Edit(edit::Edit),
    /// Give quarantined events up for good; who, when and why is kept
    Drop(Drop),
}

/// Which quarantined events.
#[derive(Debug, Default, clap::Args)]
struct Which {
    /// Only of this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Only where the reason or the sink's own words contain this, whatever the case
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only of this terminal: configured name, serial number or device key
    #[arg(long, value_name = "NAME")]
    terminal: Option<String>,
    /// Only of this person or card number
    #[arg(long, value_name = "NUMBER")]
    person: Option<String>,
    /// Only what happened from then on: a time (RFC 3339), a day at the gateway, or an age such as 30m, 2h, 3d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

impl Which {
    /// Whether nothing was said.
    const fn is_anything(&self) -> bool {
        self.reason.is_none() && self.terminal.is_none() && self.person.is_none() && self.since.is_none()
    }

    fn choose(&self, config: &Config, entries: Vec<Quarantined>) -> anyhow::Result<Vec<Quarantined>> {
        let since = self.since.as_deref().map(|text| super::events::since(text, config)).transpose()?;
        let reason = self.reason.as_deref().map(str::to_lowercase);
        let wanted = |entry: &Quarantined| {
            let said = |text: &str| reason.as_deref().is_none_or(|wanted| text.to_lowercase().contains(wanted));
            let event = &entry.record.event;
            (said(&entry.reason) || said(&entry.answer))
                && self.terminal.as_deref().is_none_or(|terminal| event.is_from(terminal))
                && self.person.as_deref().is_none_or(|person| event.is_about(person))
                && since.is_none_or(|since| event.times.event >= since)
        };
        Ok(entries.into_iter().filter(wanted).collect())
    }
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    which: Which,
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
struct Chosen {
    #[command(flatten)]
    file: ConfigFile,
    /// Numbers of events, as `list` shows them
    seqs: Vec<u64>,
    /// All of them
    #[arg(long, conflicts_with = "seqs")]
    all: bool,
    #[command(flatten)]
    which: Which,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Replay {
    #[command(flatten)]
    chosen: Chosen,
}

#[derive(Debug, clap::Args)]
struct Drop {
    #[command(flatten)]
    chosen: Chosen,
    /// Why they are given up
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Who says so
    #[arg(long, value_name = "NAME", env = "USER")]
    who: String,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Show(args) => show(args),
        Command::Replay(args) => replay(args),
        Command::Edit(args) => edit::edit(args),
        Command::Drop(args) => give_up(args),
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
    if entries.len() == MOST {
        warn_of_more();
    }
    Ok(entries)
}

#[expect(clippy::print_stderr, reason = "a word beside the answer, which goes to standard output")]
fn warn_of_more() {
    eprintln!("portero: only the oldest {MOST} were looked at; run it again for the rest");
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
    let config = args.file.read()?;
    let most = if args.which.is_anything() { args.limit } else { MOST };
    let entries = read(&config, args.which.sink.as_deref(), most)?;
    let mut entries = args.which.choose(&config, entries)?;
    entries.truncate(args.limit);
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

/// The chosen events by sink.
fn choose(args: &Chosen, config: &Config) -> anyhow::Result<BTreeMap<String, Vec<u64>>> {
    if args.seqs.is_empty() && !args.all && args.which.is_anything() {
        let words = "say which: numbers as `list` shows them, --all, or --reason, --terminal, --person, --since";
        return Err(Failure::new(Exit::Usage, words).into());
    }
    let entries = read(config, args.which.sink.as_deref(), MOST)?;
    let mut entries = args.which.choose(config, entries)?;
    if !args.seqs.is_empty() {
        entries.retain(|entry| args.seqs.contains(&entry.record.seq.0));
    }
    if let Some(absent) = args.seqs.iter().find(|seq| entries.iter().all(|e| e.record.seq.0 != **seq)) {
        return Err(
            Failure::new(Exit::No, format!("event {absent} is not quarantined; see portero quarantine list")).into()
        );
    }
    let mut chosen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for entry in entries {
        chosen.entry(entry.sink).or_default().push(entry.record.seq.0);
    }
    Ok(chosen)
}

fn replay(Replay { chosen: args }: &Replay) -> anyhow::Result<Exit> {
    let config = args.file.read()?;
    let mut released = 0;
    for (sink, seqs) in choose(args, &config)? {
        for seqs in seqs.chunks(PORTION) {
            let request = json!({ "sink": sink, "seqs": seqs });
            released += ask(&config, "/quarantine/replay", "released", &request, async |journal: &Journal| {
                journal.release(sink.clone(), Some(seqs.iter().copied().map(Seq).collect())).await
            })?;
        }
    }
    let mut out = Output::stdout();
    if args.json {
        out.line(json!({ "released": released }))?;
    } else {
        out.line(format_args!("{released} released; they go out with the next delivery"))?;
    }
    Ok(Exit::Done)
}

fn give_up(args: &Drop) -> anyhow::Result<Exit> {
    let (why, who) = (args.why.trim(), args.who.trim());
    if why.is_empty() || who.is_empty() {
        return Err(Failure::new(Exit::Usage, "--why and --who must say something: they are kept").into());
    }
    let config = args.chosen.file.read()?;
    let mut dropped = 0;
    for (sink, seqs) in choose(&args.chosen, &config)? {
        for seqs in seqs.chunks(PORTION) {
            let request = json!({ "sink": sink, "seqs": seqs, "why": why, "who": who });
            dropped += ask(&config, "/quarantine/drop", "dropped", &request, async |journal: &Journal| {
                let seqs = seqs.iter().copied().map(Seq).collect();
                journal.drop_quarantined(sink.clone(), seqs, why.to_owned(), who.to_owned()).await
            })?;
        }
    }
    let mut out = Output::stdout();
    if args.chosen.json {
        out.line(json!({ "dropped": dropped }))?;
    } else {
        out.line(format_args!("{dropped} dropped; portero trace says who, when and why"))?;
    }
    Ok(Exit::Done)
}

/// Through the running gateway, which then acts at once; else in the journal itself, under its lock.
fn ask(
    config: &Config,
    path: &str,
    answer: &str,
    request: &Value,
    alone: impl AsyncFnOnce(&Journal) -> Result<u64, journal::Error>,
) -> anyhow::Result<u64> {
    match client::post(&config.manage.socket, path, request) {
        Ok(said) => Ok(said[answer].as_u64().unwrap_or(0)),
        Err(client::Error::Absent(_)) => Ok(super::runtime()?.block_on(async {
            let journal = Journal::open(&config.journal, Clock::new(config.clock.clone()))?;
            let count = alone(&journal).await?;
            journal.close().await?;
            Ok::<_, journal::Error>(count)
        })?),
        Err(error) => Err(error.into()),
    }
}
