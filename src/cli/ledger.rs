//! `portero journal`: is the chain whole, and does the ledger balance?
//!
//! Must not: change the journal.

use serde_json::{Value, json};

use super::{ConfigFile, Exit, Failure, Output, table};
use crate::journal::{Anchor, Seq};
use crate::manage::status::sink_ledger;

/// Verify the journal's chain, or show its ledger.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Walk the chain of all rows; exit 1 if anything was changed or lost
    Verify(Verify),
    /// Show what was appended and what became of it at each sink
    Stats(Stats),
}

#[derive(Debug, clap::Args)]
struct Verify {
    #[command(flatten)]
    file: ConfigFile,
    /// A point of the chain that the centre has seen; without one only inner consistency can be told
    #[arg(long, value_name = "ID:SEQ:HEX")]
    anchor: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Stats {
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Command::Verify(args) => verify(args),
        Command::Stats(args) => stats(args),
    }
}

fn verify(args: &Verify) -> anyhow::Result<Exit> {
    let anchor = args.anchor.as_deref().map(parse_anchor).transpose()?;
    let config = args.file.read()?;
    let found = super::runtime()?.block_on(async {
        let journal = super::open_read_only(&config)?;
        let found = journal.verify(anchor).await?;
        journal.close().await?;
        anyhow::Ok(found)
    })?;
    let mut out = Output::stdout();
    if args.json {
        let mut object = json!({
            "ok": found.ok,
            "journal_id": found.journal_id,
            "seq": found.seq.0,
            "head": found.head,
            "anchored": found.anchored.map(|seq| seq.0),
        });
        if !found.problems.is_empty() {
            object["problems"] = found.problems.clone().into();
        }
        out.line(object)?;
    } else {
        for problem in &found.problems {
            out.line(problem)?;
        }
        let verdict = match (found.ok, found.anchored) {
            (false, _) => "broken".to_owned(),
            (true, Some(seq)) => format!("whole, vouched for by the anchor up to {}", seq.0),
            (true, None) => "internally consistent (without an anchor nobody outside vouches for it)".to_owned(),
        };
        out.line(format_args!("journal {} up to {}: {verdict}", found.journal_id, found.seq.0))?;
        out.line(format_args!("anchor: {}:{}:{}", found.journal_id, found.seq.0, found.head))?;
    }
    Ok(if found.ok { Exit::Done } else { Exit::No })
}

fn stats(args: &Stats) -> anyhow::Result<Exit> {
    let config = args.file.read()?;
    let stats = super::runtime()?.block_on(async {
        let journal = super::open_read_only(&config)?;
        let stats = journal.stats().await?;
        journal.close().await?;
        anyhow::Ok(stats)
    })?;
    let mut out = Output::stdout();
    if args.json {
        let sinks: Vec<Value> = stats.sinks.iter().map(|s| Value::Object(sink_ledger(s))).collect();
        out.line(json!({ "appended": stats.appended, "sinks": sinks }))?;
    } else {
        out.line(format_args!(
            "{} events appended ({} pruned), {} faults, {} conflicts, {} blind intervals, {} KiB",
            stats.appended,
            stats.pruned,
            stats.faults,
            stats.conflicts,
            stats.blind,
            stats.bytes / 1024
        ))?;
        let columns = ["sink", "appended", "delivered", "pending", "quarantined", "dropped", "filtered", "balance"];
        let mut rows = table::new(&columns);
        for sink in &stats.sinks {
            rows.add_row(vec![
                sink.name.clone(),
                sink.appended.to_string(),
                sink.delivered.to_string(),
                sink.pending.to_string(),
                sink.quarantined.to_string(),
                sink.dropped.to_string(),
                sink.filtered.to_string(),
                if sink.balances() { "ok" } else { "WRONG" }.to_owned(),
            ]);
        }
        if !stats.sinks.is_empty() {
            out.line(table::render(&rows, &[], out.is_tty()))?;
        }
    }
    Ok(if stats.sinks.iter().all(crate::journal::SinkStats::balances) { Exit::Done } else { Exit::No })
}

/// Reads `ID:SEQ:HEX`.
fn parse_anchor(text: &str) -> Result<Anchor, Failure> {
    let read = || {
        let mut parts = text.split(':');
        let (id, seq, hex) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        if parts.next().is_some() || id.is_empty() || hex.len() != 32 || !hex.is_ascii() {
            return None;
        }
        let mut head = [0; 16];
        for (byte, at) in head.iter_mut().zip((0..32).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
        }
        Some(Anchor { journal_id: id.to_owned(), seq: Seq(seq), head })
    };
    read().ok_or_else(|| {
        let words = format!("--anchor '{text}' is no anchor; write ID:SEQ:HEX as journal verify prints it");
        Failure::new(Exit::Usage, words)
    })
}
