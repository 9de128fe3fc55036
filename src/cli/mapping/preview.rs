//! `portero mapping preview`: what a sink would send for the events that are in the journal.
//!
//! Must not: send anything, change the journal, or show a credential.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::Chosen;
use crate::cli::{ConfigFile, Exit, Output, events};
use crate::deliver::api::preview::Preview;
use crate::journal::{Query, Record, Seq};
use crate::manage::config::{Options, Secrets, load};

/// Which events, and how they are shown.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// The sink, of type api
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// Only events of this terminal: configured name, serial number or device key
    #[arg(long, value_name = "NAME")]
    terminal: Option<String>,
    /// Only events from then on: a time (RFC 3339), a day at the gateway, or an age such as 30m, 2h, 3d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most so many events, the newest
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Print only the events for which the same sink of another configuration would send something else
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Print JSON Lines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let config = args.file.read()?;
    let sink = Chosen::new(&config, &args.file.config, &args.sink)?;
    let other = args.against.as_deref().map(|file| against(file, &args.sink)).transpose()?;
    let since = args.since.as_deref().map(|text| events::since(text, &config)).transpose()?;
    let query = Query { terminal: args.terminal.clone(), since, limit: args.limit, ..Query::default() };
    let records = super::stored(&config, query)?;
    let mut out = Output::stdout();
    let clean = match other {
        None => requests(&sink, records, args.json, &mut out)?,
        Some(other) => differences(&sink, &other, &records, args.json, &mut out)?,
    };
    out.flush()?;
    Ok(if clean { Exit::Done } else { Exit::No })
}

fn against(file: &Path, name: &str) -> anyhow::Result<Chosen> {
    let config = load(file, &Options::from_process(Secrets::Ignore))?.config;
    Ok(Chosen::new(&config, file, name)?)
}

/// Prints every request; false if an event can't be mapped.
fn requests(sink: &Chosen, mut records: Vec<Record>, as_json: bool, out: &mut Output) -> anyhow::Result<bool> {
    let all = records.len();
    records.retain(|record| sink.config.filter.takes(&record.event));
    let shown = sink.api.preview(&records);
    let lost = shown.iter().filter(|one| matches!(one, Preview::Unmappable { .. })).count();
    for one in &shown {
        if as_json {
            out.line(object(one, &records))?;
        } else {
            for line in lines(one) {
                out.line(line)?;
            }
            out.line("")?;
        }
    }
    if !as_json {
        let (sent, filtered) = (shown.len() - lost, all - records.len());
        out.line(format_args!(
            "# {all} events: {sent} requests, {lost} events that cannot be mapped, {filtered} filtered; revision {}",
            sink.api.revision()
        ))?;
    }
    Ok(lost == 0)
}

/// Prints the events for which the two differ, one beside the other; false if there are any.
fn differences(
    sink: &Chosen,
    other: &Chosen,
    records: &[Record],
    as_json: bool,
    out: &mut Output,
) -> anyhow::Result<bool> {
    let mut differing = 0usize;
    for record in records {
        let one = |chosen: &Chosen| match chosen.config.filter.takes(&record.event) {
            true => chosen.api.preview(std::slice::from_ref(record)).pop(),
            false => None,
        };
        let (ours, theirs) = (one(sink), one(other));
        if ours == theirs {
            continue;
        }
        differing += 1;
        let record_only = std::slice::from_ref(record);
        if as_json {
            let side = |one: &Option<Preview>| one.as_ref().map_or(Value::Null, |one| object(one, record_only));
            out.line(json!({
                "seq": record.seq.0,
                "event_id": record.event.id.to_string(),
                "this": side(&ours),
                "other": side(&theirs),
            }))?;
            continue;
        }
        out.line(format_args!("# event {} {}", record.seq.0, record.event.id))?;
        let side = |one: &Option<Preview>| one.as_ref().map_or_else(|| vec!["filtered".to_owned()], pretty);
        for row in beside(&side(&ours), &side(&theirs)) {
            out.line(row)?;
        }
        out.line("")?;
    }
    if !as_json {
        let (ours, theirs) = (sink.api.revision(), other.api.revision());
        out.line(format_args!(
            "# {differing} of {} events differ; this revision {ours}, the other {theirs}",
            records.len()
        ))?;
    }
    Ok(differing == 0)
}

fn head(one: &Preview) -> (String, Vec<String>) {
    match one {
        Preview::Request(request) => {
            let seqs: Vec<String> = request.seqs.iter().map(|seq| seq.0.to_string()).collect();
            let mut lines = Vec::new();
            if let Some(asks) = &request.asks {
                lines.push(format!("asks first: {} {} {}", asks.method, asks.url, asks.body).trim_end().to_owned());
            }
            lines.push(format!("{} {}", request.method, request.url));
            lines.extend(request.headers.iter().map(|(name, value)| format!("{name}: {value}")));
            (format!("# event {}", seqs.join(", ")), lines)
        }
        Preview::Unmappable { seq, reason } => (format!("# event {}", seq.0), vec![format!("not sent: {reason}")]),
    }
}

/// A request as text, its body as it is.
fn lines(one: &Preview) -> Vec<String> {
    let (title, mut lines) = head(one);
    lines.insert(0, title);
    if let Preview::Request(request) = one
        && !request.body.is_empty()
    {
        lines.push(String::new());
        lines.push(String::from_utf8_lossy(&request.body).into_owned());
    }
    lines
}

/// The same for comparing: JSON laid out, one value a line.
fn pretty(one: &Preview) -> Vec<String> {
    let (_, mut lines) = head(one);
    if let Preview::Request(request) = one {
        lines.push(String::new());
        let text = match serde_json::from_slice::<Value>(&request.body) {
            Ok(value) => format!("{value:#}"),
            Err(_) => String::from_utf8_lossy(&request.body).replace('&', "&\n"),
        };
        lines.extend(text.lines().map(str::to_owned));
    }
    lines
}

/// Two lists of lines in two columns; `|` between those that differ.
fn beside(left: &[String], right: &[String]) -> Vec<String> {
    let width = left.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let cell = |lines: &[String], at: usize| lines.get(at).cloned().unwrap_or_default();
    let rows = (0..left.len().max(right.len())).map(|at| {
        let (left, right) = (cell(left, at), cell(right, at));
        let mark = if left == right { ' ' } else { '|' };
        format!("{left:<width$} {mark} {right}").trim_end().to_owned()
    });
    rows.collect()
}

fn object(one: &Preview, records: &[Record]) -> Value {
    let id = |seq: Seq| records.iter().find(|r| r.seq == seq).map(|r| r.event.id.to_string());
    match one {
        Preview::Request(request) => {
            let headers: Map<String, Value> =
                request.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
            let asks = request.asks.as_ref();
            let asks = asks.map(|asks| json!({ "method": asks.method, "url": asks.url, "body": asks.body }));
            let mut shown = json!({
                "seqs": request.seqs.iter().map(|seq| seq.0).collect::<Vec<_>>(),
                "event_ids": request.seqs.iter().map(|seq| id(*seq)).collect::<Vec<_>>(),
                "method": request.method,
                "url": request.url,
                "headers": headers,
                "body": String::from_utf8_lossy(&request.body),
            });
            if let Some(asks) = asks {
                shown["asks_first"] = asks;
            }
            shown
        }
        Preview::Unmappable { seq, reason } => {
            json!({ "seqs": [seq.0], "event_ids": [id(*seq)], "unmappable": reason })
        }
    }
}
