//! `portero events`: what the journal holds, read beside a running gateway.
//!
//! Must not: change anything, or hold the journal's lock.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigFile, Exit, Failure, Output, table};
use crate::clock::{Clock, Zone};
use crate::event::{UtcMicros, json};
use crate::journal::{self, Journal, Query, Record, Seq};
use crate::manage::config::Config;

/// How often a file that another process writes is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Most events read at once.
const STEP: usize = 1000;

/// List events of the journal, oldest first, or follow them as they come.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Go on with what comes, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Only of this terminal: configured name, serial number or device key
    #[arg(long, value_name = "NAME")]
    terminal: Option<String>,
    /// Only of this person or card number
    #[arg(long, value_name = "NUMBER")]
    person: Option<String>,
    /// Only from then on: a time (RFC 3339), a day at the gateway, or an age such as 30m, 2h, 3d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Print JSON Lines
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let config = args.file.read()?;
    let since = args.since.as_deref().map(|text| since(text, &config)).transpose()?;
    let query = Query {
        after: None,
        terminal: args.terminal.clone(),
        person: args.person.clone(),
        since,
        limit: args.limit,
        forward: false,
    };
    let mut out = Output::stdout();
    super::runtime()?.block_on(async {
        let Some(journal) = open(&config, args.follow).await? else { return Ok(Exit::Done) };
        // Asked before: what comes between the two is then shown by `follow`, and twice by nobody.
        let end = journal.last().await?;
        let mut shown = journal.query(query.clone()).await?;
        shown.retain(|record| record.seq <= end);
        print(&shown, args.json, true, &mut out)?;
        if args.follow {
            follow(&journal, query, end, args.json, &mut out).await?;
        }
        journal.close().await?;
        Ok(Exit::Done)
    })
}

/// Opens the journal. Whoever follows may come before the gateway that makes it: then this waits; `None` if interrupted.
async fn open(config: &Config, follow: bool) -> anyhow::Result<Option<Journal>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut ticks = tokio::time::interval(LOOK);
    let mut told = false;
    loop {
        let missing = match Journal::open_read_only(&config.journal) {
            Ok(journal) => return Ok(Some(journal)),
            Err(_) if !config.journal.path.exists() => true,
            Err(error) => matches!(error, journal::Error::NotFound(_)),
        };
        if !(follow && missing) {
            return super::open_read_only(config).map(Some);
        }
        if !std::mem::replace(&mut told, true) {
            tell(&format!("waiting for a gateway to make {}", config.journal.path.display()));
        }
        tokio::select! {
            _ = interrupt.recv() => return Ok(None),
            _ = ticks.tick() => {}
        }
    }
}

#[expect(clippy::print_stderr, reason = "a word to whoever waits, beside the events")]
fn tell(words: &str) {
    eprintln!("portero: {words}");
}

/// Prints what comes after `seen`, leaving nothing out, until it is interrupted or nobody reads any more.
async fn follow(journal: &Journal, query: Query, mut seen: Seq, json: bool, out: &mut Output) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut ticks = tokio::time::interval(LOOK);
    while !out.closed() {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let end = journal.last().await?;
        while seen < end && !out.closed() {
            let step = Query { after: Some(seen), limit: STEP, forward: true, ..query.clone() };
            let new = journal.query(step).await?;
            print(&new, json, false, out)?;
            // Fewer than asked for: everything up to the end that was asked before has been looked at.
            let last = new.last().map_or(end, |record| record.seq);
            seen = if new.len() < STEP { last.max(end) } else { last };
        }
    }
    Ok(())
}

/// Prints events, with a header where it is the first time.
fn print(records: &[Record], as_json: bool, header: bool, out: &mut Output) -> anyhow::Result<()> {
    if as_json {
        let mut line = Vec::new();
        for record in records {
            line.clear();
            json::write(&record.event, &mut line);
            line.push(b'\n');
            out.bytes(&line)?;
        }
        return Ok(out.flush()?);
    }
    // Fixed widths instead of a table that is laid out as a whole: lines that come later must stand under the header.
    if header {
        out.line(
            "SEQ        EVENT TIME             TERMINAL         KIND              OUTCOME  PUNCH     PERSON       CARD",
        )?;
    }
    for record in records {
        out.line(row(record).trim_end())?;
    }
    Ok(out.flush()?)
}

fn row(record: &Record) -> String {
    let reading = &record.event.reading;
    let mut time = table::time(&json::rfc3339(record.event.times.event).as_str().into());
    if record.provisional {
        time.push('?');
    }
    let person = reading.person.terminal_person_id.as_deref().or(reading.person.external_id.as_deref()).unwrap_or("-");
    let card = reading.credential.card_number.as_deref().or(reading.credential.bits_hex.as_deref()).unwrap_or("-");
    format!(
        "{:<10} {:<22} {:<16} {:<17} {:<8} {:<9} {:<12} {}",
        record.seq.0,
        time,
        record.event.source.terminal_id,
        reading.kind.map_or("-", |k| k.as_str()),
        reading.outcome.map_or("-", |o| o.as_str()),
        reading.punch.map_or("-", |p| p.as_str()),
        person,
        card,
    )
}

/// Reads `--since`.
pub(crate) fn since(text: &str, config: &Config) -> anyhow::Result<UtcMicros> {
    let text = text.trim();
    let usage = || {
        Failure::new(
            Exit::Usage,
            format!(
                "--since '{text}' is no time; write 2026-11-24T08:00:00Z, 2026-11-24, or an age such as 30m, 2h, 3d"
            ),
        )
    };
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(UtcMicros(time.as_microsecond()));
    }
    if let Ok(day) = text.parse::<jiff::civil::Date>() {
        let zone = Zone::named(&config.identity.zone).context("the gateway's zone")?;
        return zone.start_of_day(day).ok_or_else(|| usage().into());
    }
    let unit = text.chars().last().ok_or_else(usage)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(usage().into()),
    };
    let count: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| usage())?;
    let micros = count.checked_mul(seconds * 1_000_000).and_then(|m| i64::try_from(m).ok()).ok_or_else(usage)?;
    Ok(UtcMicros(Clock::new(config.clock.clone()).now().wall.0.saturating_sub(micros)))
}
